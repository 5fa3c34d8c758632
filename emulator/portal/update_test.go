package portal_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/applet/sm"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/portal"
	"hsmemu/emulator/scp03"
)

// What became of a chip is told of one that was no device before, too.
func TestDone_String(t *testing.T) {
	t.Parallel()
	done := portal.Done{
		Chip: "0123456789AB",
		Old:  portal.Device{Name: "DENK990000100000", Path: "/R/I/DENK9900001", Firmware: portal.Version{Major: 3, Minor: 5}},
		New:  portal.Device{Name: "DENK990000200000", Path: "/R/I/DENK9900002", Firmware: portal.Version{Major: 3, Minor: 6}},
	}
	require.Equal(t, "chip 0123456789AB: firmware 3.5 of /R/I/DENK9900001 became 3.6 of /R/I/DENK9900002", done.String())
	done.Old = portal.Device{}
	require.Equal(t, "chip 0123456789AB: blank became 3.6 of /R/I/DENK9900002", done.String())
}

// A whole update of each generation, with its progress: UPDATE-5, UPDATE-7 and
// UPDATE-11.
func TestUpdate(t *testing.T) {
	t.Parallel()
	for name, c := range updated {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			card, b := c.card(t), open(t)
			old := cvc.Name(card.Durable().Device.Name)
			o := b.order()
			var percents []int
			var said string
			o.Progress = func(percent int, text string) {
				percents, said = append(percents, percent), text
			}
			done, err := portal.Update(t.Context(), card, o)
			require.NoError(t, err)
			require.False(t, done.Resumed)
			require.Equal(t, old, done.Old.Name)
			require.Equal(t, "Firmware update completed. New device id "+done.New.Name.Holder(), said)
			require.IsIncreasing(t, percents)
			require.Equal(t, 0, percents[0])
			require.Equal(t, 100, percents[len(percents)-1])
			require.Equal(t, 999, b.load(t).Authority.Issuers[0].Licences)
			requireUpdated(t, card, b, old, c.to, c.blocked)
		})
	}
}

// moment is a card without power, and the books, in the middle of an update.
// Everything that follows depends on these two alone.
type moment struct{ card, books string }

func at(t testing.TB, card *chiptest.Card, b *books) moment {
	t.Helper()
	form, err := chiptest.Stored(card.State.Durable())
	require.NoError(t, err)
	return moment{form, string(b.saved)}
}

// resume goes on with an update, without interruption.
func (m moment) resume(t testing.TB) (*chiptest.Card, *books, portal.Done) {
	t.Helper()
	var d chip.Durable
	require.NoError(t, json.Unmarshal([]byte(m.card), &d))
	require.NoError(t, d.Check())
	card := &chiptest.Card{Name: "resumed", Env: chiptest.World("resumed"), State: chip.Boot(d)}
	b := &books{saved: []byte(m.books)}
	done, err := portal.Update(t.Context(), card, b.order())
	require.NoError(t, err)
	return card, b, done
}

// An update is interrupted at each of its commands, before the card gets it or
// after, and the next call goes on: UPDATE-23 to UPDATE-26, S23.
func TestUpdate_InterruptedAnywhere(t *testing.T) {
	t.Parallel()
	for name, c := range updated {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fresh := c.card(t)
			old := cvc.Name(fresh.Durable().Device.Name)
			var moments []moment
			whole, wholeBooks := &reader{Card: fresh.Copy()}, open(t)
			whole.around = func() { moments = append(moments, at(t, whole.Card, wholeBooks)) }
			_, err := portal.Update(t.Context(), whole, wholeBooks.order())
			require.NoError(t, err)
			require.Greater(t, whole.sent, 200)
			require.Len(t, moments, 2*whole.sent)
			resumed := map[moment]bool{}
			for n, m := range moments {
				if _, seen := resumed[m]; seen {
					continue
				}
				card, b, done := m.resume(t)
				resumed[m] = done.Resumed
				require.Equal(t, 999, b.load(t).Authority.Issuers[0].Licences, "command %d", n/2+1)
				requireUpdated(t, card, b, old, c.to, c.blocked)
			}
			require.Contains(t, resumed, moments[0])
			require.False(t, resumed[moments[0]])
			require.True(t, resumed[moments[len(moments)-1]])
			require.Greater(t, len(resumed), 12)
			if c.blocked == 0 {
				return
			}
			// What an interrupted call leaves is what it was in the midst of.
			for n := range moments {
				b := open(t)
				r := &reader{Card: fresh.Copy(), at: n/2 + 1, before: n%2 == 0}
				_, err := portal.Update(t.Context(), r, b.order())
				require.ErrorIs(t, err, errPulled, "command %d", r.at)
				require.Equal(t, moments[n], at(t, r.Card, b), "command %d", r.at)
			}
		})
	}
}

// What is not saved is not said: if a change of the books fails then the card
// does not hear of what would have been in it.
func TestUpdate_SavesBeforeItSays(t *testing.T) {
	t.Parallel()
	for change, stage := range map[int]chip.Stage{1: chip.Operational, 2: chip.Production, 3: chip.Operational} {
		t.Run(fmt.Sprint(change), func(t *testing.T) {
			t.Parallel()
			card, b := updated["4.1, keys, SO-PIN blocked"].card(t), open(t)
			before := card.State.Durable()
			b.fails = map[int]error{change: errDisk}
			_, err := portal.Update(t.Context(), card, b.order())
			require.ErrorIs(t, err, errDisk)
			after := card.State.Durable()
			require.Equal(t, stage, after.Manager.Stage)
			require.Nil(t, after.Manager.Certificate)
			if change == 1 {
				require.Equal(t, before, after)
			}
			done, err := portal.Update(t.Context(), card, b.order())
			require.NoError(t, err)
			require.Equal(t, change > 1, done.Resumed)
			require.Equal(t, 4, b.changes, "three, and the one that failed")
			requireUpdated(t, card, b, cvc.Name(before.Applet.Device.Name), "4.1", 1)
		})
	}
}

// Another card in the reader from any command on is not touched, and the first
// one's update goes on when it is back.
func TestUpdate_AnotherCardHalfWay(t *testing.T) {
	t.Parallel()
	fresh, other := updated["4.0"].card(t), situation{firmware: "4.0", serial: "B"}.card(t)
	old := cvc.Name(fresh.Durable().Device.Name)
	whole := &reader{Card: fresh.Copy()}
	_, err := portal.Update(t.Context(), whole, open(t).order())
	require.NoError(t, err)
	resumed := map[moment]bool{}
	for n := 3; n <= whole.sent; n++ { // from 3 on it is known whose turn it is
		b, first, second := open(t), fresh.Copy(), other.Copy()
		_, err := portal.Update(t.Context(), &reader{Card: first, at: n, swap: second}, b.order())
		require.Error(t, err, "command %d", n)
		after := second.State.Durable()
		after.Manager.Counter = 0 // of secure channels, which is all that may change
		require.Equal(t, other.State.Durable(), after, "command %d", n)
		if m := at(t, first, b); !resumed[m] {
			resumed[m] = true
			card, b, _ := m.resume(t)
			requireUpdated(t, card, b, old, "4.1", 0)
		}
	}
	require.Greater(t, len(resumed), 8)
}

// Claims of the forum thread about what an update does and leaves.
func TestUpdate_Claims(t *testing.T) {
	t.Parallel()
	t.Run("S24 five updates with a blocked SO-PIN", func(t *testing.T) {
		t.Parallel()
		card, b := updated["4.1, keys, SO-PIN blocked"].card(t), open(t)
		names := map[string]bool{}
		block := func() {
			c := client.New(card)
			_, err := c.Select(t.Context())
			require.NoError(t, err)
			for range 15 {
				require.Error(t, c.VerifyPIN(t.Context(), client.SOPIN, []byte("00000000")))
			}
		}
		for n := 1; n <= 5; n++ {
			old := cvc.Name(card.Durable().Device.Name)
			names[string(old)] = true
			_, err := portal.Update(t.Context(), card, b.order())
			require.NoError(t, err, n)
			requireUpdated(t, card, b, old, "4.1", n)
			block()
		}
		require.Len(t, names, 5)
		before := card.State.Durable()
		_, err := portal.Update(t.Context(), card, b.order())
		var refusal *portal.Refusal
		require.ErrorAs(t, err, &refusal)
		require.Equal(t, portal.LimitReached, refusal.Reason)
		require.Equal(t, before, card.State.Durable())
		require.Equal(t, 995, b.load(t).Authority.Issuers[0].Licences)
	})
	t.Run("S10 and S22 the device is another one, the chip is not", func(t *testing.T) {
		t.Parallel()
		card, b := updated["4.0"].card(t), open(t)
		before, err := portal.Inspect(t.Context(), card, chiptest.Seeded("x"))
		require.NoError(t, err)
		done, err := portal.Update(t.Context(), card, b.order())
		require.NoError(t, err)
		after, err := portal.Inspect(t.Context(), card, chiptest.Seeded("x"))
		require.NoError(t, err)
		require.Equal(t, before.Chip, after.Chip)
		require.Equal(t, before.Chip, done.Chip)
		require.NotEqual(t, before.Device.Device.Key.Point, after.Device.Device.Key.Point)
		require.NotEqual(t, before.Device.Path(), after.Device.Path())
		require.Equal(t, after.Device.Path(), done.New.Path)
	})
	t.Run("S21 only the authority makes devices", func(t *testing.T) {
		t.Parallel()
		card, b := updated["4.0"].card(t), open(t)
		r := &reader{Card: card, at: 100, before: true}
		_, err := portal.Update(t.Context(), r, b.order())
		require.ErrorIs(t, err, errPulled)
		require.NotEqual(t, chip.Operational, card.State.Durable().Manager.Stage)
		_, err = portal.Update(t.Context(), card, open(t).order())
		require.ErrorIs(t, err, portal.ErrOtherUpdate)
		b.change(t, func(p *portal.Books) { p.Authority.Issuers[0].Ready = false })
		_, err = portal.Update(t.Context(), card, b.order())
		require.ErrorContains(t, err, "Device Issuer CA UTDICAEM02 not ready. Already logged in and licenses available ?")
		b.change(t, func(p *portal.Books) { p.Authority.Issuers[0].Ready = true })
		_, err = portal.Update(t.Context(), card, b.order())
		require.NoError(t, err)
	})
	t.Run("S17 any card, registered or not", func(t *testing.T) {
		t.Parallel()
		b := open(t)
		for _, serial := range []string{"1", "2", "3"} {
			_, err := portal.Update(t.Context(), situation{firmware: "4.0", serial: serial}.card(t), b.order())
			require.NoError(t, err)
		}
		require.Len(t, b.load(t).Chips, 3)
	})
}

// Readiness comes before anything is said to the card, and the last licence is
// enough for an update that is interrupted: UPDATE-6.
func TestUpdate_IssuerReadinessFirst(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*portal.Issuer){
		"not logged in": func(i *portal.Issuer) { i.Ready = false },
		"no licences":   func(i *portal.Issuer) { i.Licences = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, b := &reader{Card: updated["4.0"].card(t)}, open(t)
			b.change(t, func(p *portal.Books) { set(&p.Authority.Issuers[0]) })
			_, err := portal.Update(t.Context(), r, b.order())
			var refusal *portal.Refusal
			require.ErrorAs(t, err, &refusal)
			require.Equal(t, portal.IssuerNotReady, refusal.Reason)
			require.Zero(t, r.sent)
		})
	}
	t.Run("the last licence", func(t *testing.T) {
		t.Parallel()
		r, b := &reader{Card: updated["4.0"].card(t), at: 100}, open(t)
		b.change(t, func(p *portal.Books) { p.Authority.Issuers[0].Licences = 1 })
		_, err := portal.Update(t.Context(), r, b.order())
		require.ErrorIs(t, err, errPulled)
		_, err = portal.Update(t.Context(), situation{firmware: "4.0", serial: "B"}.card(t), b.order())
		require.ErrorContains(t, err, "not ready")
		done, err := portal.Update(t.Context(), r.Card, b.order())
		require.NoError(t, err)
		require.True(t, done.Resumed)
		require.Zero(t, b.load(t).Authority.Issuers[0].Licences)
	})
	t.Run("a younger issuer", func(t *testing.T) {
		t.Parallel()
		card, b := updated["4.0"].card(t), open(t)
		b.change(t, func(p *portal.Books) {
			p.Authority.Issuers[0].Ready = false
			require.NoError(t, p.Authority.AddIssuer(chiptest.Seeded("younger"), day))
			require.NoError(t, p.Authority.Check())
		})
		done, err := portal.Update(t.Context(), card, b.order())
		require.NoError(t, err)
		require.Contains(t, done.New.Path, "/UTDICAEM03/")
	})
}

// An update that was given up gives back what it took; one that has lost the old
// device to somebody else does not.
func TestUpdate_GivenUp(t *testing.T) {
	t.Parallel()
	given := updated["4.1, keys, SO-PIN blocked"]
	r, b := &reader{Card: given.card(t)}, open(t)
	deleted := false
	r.lie = func(c apdu.Command, answer []byte) []byte {
		if c.INS == apdu.InsDeleteFile && c.CLA == 0x84 {
			deleted = true
			return []byte{0x69, 0x85}
		}
		return answer
	}
	_, err := portal.Update(t.Context(), r, b.order())
	require.True(t, deleted)
	require.ErrorIs(t, err, portal.ErrCardRefuses)
	p := b.load(t)
	require.Equal(t, 1000, p.Authority.Issuers[0].Licences)
	for _, record := range p.Chips {
		require.Nil(t, record.Running)
		require.Zero(t, record.Blocked)
	}
	// Two portals: the second one ends what the first one's record awaits.
	first, second, card := open(t), open(t), given.card(t)
	_, err = portal.Update(t.Context(), &reader{Card: card, at: 20, before: true}, first.order())
	require.ErrorIs(t, err, errPulled)
	second.put(t, first.load(t))
	_, err = portal.Update(t.Context(), card, second.order())
	require.NoError(t, err)
	c := client.New(card)
	_, err = c.Select(t.Context())
	require.NoError(t, err)
	require.NoError(t, c.Initialise(t.Context(), client.Setup{Options: 1, SOPIN: soPIN, PIN: userPIN, Tries: 3}))
	for range 15 {
		require.Error(t, c.VerifyPIN(t.Context(), client.SOPIN, []byte("00000000")))
	}
	all := first.load(t)
	for _, r := range all.Chips {
		r.Running.Name = "DENK991234500000"
	}
	first.put(t, all)
	_, err = portal.Update(t.Context(), card, first.order())
	require.NoError(t, err)
	for _, record := range first.load(t).Chips {
		require.Equal(t, 2, record.Blocked)
	}
	require.Equal(t, 998, first.load(t).Authority.Issuers[0].Licences)
}

// A device whose card manager has keys of somebody else is what it was, and costs nothing. It
// is updated when they are put back: UPDATE-32.
func TestUpdate_KeysOfSomebodyElse(t *testing.T) {
	t.Parallel()
	own := scp03.NewKeys([16]byte{1}, [16]byte{2}, [16]byte{3})
	for name, sets := range map[string][]chip.KeySet{
		"of the same version": {{Version: chip.KeyVersion, Keys: own}},
		"of another one":      {{Version: 0x31, Keys: own}},
	} {
		for _, firmware := range []string{"2.5", "3.5", "4.0"} { // which have three words for no such version
			t.Run(name+" "+firmware, func(t *testing.T) {
				t.Parallel()
				card, b := situation{firmware: firmware, keys: true, so: 15}.card(t), open(t)
				d := card.State.Durable()
				old := cvc.Name(d.Applet.Device.Name)
				d.Manager.Counter, d.Manager.KeySets = 1, sets
				require.NoError(t, d.Check())
				card.State = chip.Boot(d)
				for range 2 {
					_, err := portal.Update(t.Context(), card, b.order())
					require.ErrorIs(t, err, portal.ErrManagerKeys)
					require.NotErrorIs(t, err, portal.ErrNotTrusted)
					after := card.State.Durable()
					after.Manager.Counter = 1
					require.Equal(t, d, after)
					require.Equal(t, 1000, b.load(t).Authority.Issuers[0].Licences)
					for _, r := range b.load(t).Chips {
						require.Nil(t, r.Running)
						require.Zero(t, r.Blocked)
					}
				}
				d = card.State.Durable()
				d.Manager.KeySets = nil
				card.State = chip.Boot(d)
				_, err := portal.Update(t.Context(), card, b.order())
				require.NoError(t, err)
				requireUpdated(t, card, b, old, newestOf[firmware], 1)
			})
		}
	}
}

var newestOf = map[string]string{"2.5": "2.6", "3.5": "3.6", "4.0": "4.1"}

// A card that lies is refused in words, before anything on it is changed.
func TestInspect_CardsThatLie(t *testing.T) {
	t.Parallel()
	other := situation{firmware: "4.0", serial: "B"}.card(t)
	read := func(change func([]byte) []byte) func(apdu.Command, []byte) []byte {
		return func(c apdu.Command, answer []byte) []byte {
			if c.INS == apdu.InsReadBinary {
				return append(change(bytes.Clone(answer[:len(answer)-2])), 0x90, 0)
			}
			return answer
		}
	}
	chips := 0
	for name, c := range map[string]struct {
		lie  func(apdu.Command, []byte) []byte
		why  error
		says string
	}{
		"no certificate":       {read(func([]byte) []byte { return nil }), cvc.ErrStructure, "malformed object"},
		"half a certificate":   {read(func(ef []byte) []byte { return ef[:300] }), cvc.ErrStructure, "issuer certificate: malformed object"},
		"altered certificate":  {read(func(ef []byte) []byte { ef[225] ^= 1; return ef }), cvc.ErrDeviceSignature, "device certificate has a wrong signature"},
		"altered issuer":       {read(func(ef []byte) []byte { ef[len(ef)-1] ^= 1; return ef }), cvc.ErrIssuerSignature, "issuer certificate has a wrong signature"},
		"another device's":     {read(func([]byte) []byte { return other.File(0x2F02) }), sm.ErrToken, "authentication token is wrong"},
		"another root":         {read(func([]byte) []byte { return elsewhere(t) }), cvc.ErrUnknownRoot, "unknown root"},
		"a device that issues": {read(func([]byte) []byte { return usurped(t) }), cvc.ErrRole, "certificate has a wrong role"},
		"no answer in channel": {func(c apdu.Command, answer []byte) []byte {
			if c.CLA == 0x0C && c.INS == apdu.InsVerify {
				return []byte{0x69, 0x83} // the SO-PIN is not blocked
			}
			return answer
		}, sm.ErrUnprotected, "answer is not protected"},
		"altered in channel": {func(c apdu.Command, answer []byte) []byte {
			if c.CLA == 0x8C && c.INS == apdu.InsEnumerateObjects {
				answer[5] ^= 1
			}
			return answer
		}, sm.ErrWrong, "data object is wrong"},
		"another chip": {func(c apdu.Command, answer []byte) []byte {
			if c.INS == 0xCA {
				if chips++; chips == 2 {
					answer[15] ^= 1
				}
			}
			return answer
		}, nil, "another chip answers half-way"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &reader{Card: updated["4.0"].card(t), lie: c.lie}
			before := r.State.Durable()
			_, err := portal.Update(t.Context(), r, open(t).order())
			require.ErrorIs(t, err, portal.ErrNotTrusted)
			if c.why != nil {
				require.ErrorIs(t, err, c.why)
			}
			require.ErrorContains(t, err, c.says)
			require.Equal(t, before, r.State.Durable())
		})
	}
	t.Run("firmware 1", func(t *testing.T) {
		_, err := portal.Inspect(t.Context(), situation{firmware: "1.2"}.card(t), chiptest.Seeded("x"))
		require.ErrorIs(t, err, portal.ErrNotTrusted)
		require.ErrorContains(t, err, "no chip authentication")
	})
	t.Run("another card manager", func(t *testing.T) {
		r := &reader{Card: updated["4.0"].card(t)}
		r.lie = func(c apdu.Command, answer []byte) []byte {
			if c.INS == scp03.InsInitializeUpdate && c.CLA == 0x80 {
				answer[21] ^= 1
			}
			return answer
		}
		_, err := portal.Update(t.Context(), r, open(t).order())
		require.ErrorIs(t, err, scp03.ErrCryptogram)
		require.ErrorIs(t, err, portal.ErrManagerKeys)
	})
}

// A card that lies when its firmware was loaded does not pass for updated, and the
// truth ends the update.
func TestUpdate_CardsThatLieAtTheEnd(t *testing.T) {
	t.Parallel()
	fresh := updated["4.0"].card(t)
	done, err := portal.Update(t.Context(), fresh.Copy(), open(t).order())
	require.NoError(t, err)
	// A device of the same name, which the issuer of new cards has certified.
	twin := &chiptest.Card{Name: "twin", Env: chiptest.World("twin")}
	d, err := chip.Manufacture(twin.Env, chip.Order{Firmware: "4.1", Serial: done.New.Name.Holder()})
	require.NoError(t, err)
	twin.State = chip.Boot(d)
	used := situation{firmware: "4.1", keys: true}.card(t)
	version := func(command apdu.Command, answer []byte) []byte {
		if command.INS == apdu.InsSelect && string(command.Data) == apdu.AID {
			answer[len(answer)-3]++
		}
		return answer
	}
	for name, c := range map[string]struct {
		// from is the command from which on the card lies, the last of its kind
		// that it was honest about.
		from byte
		swap *chiptest.Card
		lie  func(apdu.Command, []byte) []byte
		want error
		says string
	}{
		"version in production": {0xE6, nil, version, portal.ErrNotTrusted, "it has firmware 4.2 after 4.1 was loaded"},
		"version of the device": {0x10, nil, version, portal.ErrNotAsShipped, "firmware 4.2 in place of 4.1"},
		"another chip": {0x10, nil, func(command apdu.Command, answer []byte) []byte {
			if command.INS == 0xCA {
				answer[15] ^= 1
			}
			return answer
		}, portal.ErrNotTrusted, "another chip answers half-way"},
		"another device of the name": {0x10, twin, nil, portal.ErrNotAsShipped, "it has another certificate"},
		"another device with keys":   {0x10, used, nil, portal.ErrNotAsShipped, "it has another certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			honest, b := fresh.Copy(), open(t)
			lying := false
			var id []byte
			r := &reader{Card: honest}
			r.lie = func(command apdu.Command, answer []byte) []byte {
				switch {
				case command.INS == 0xCA && !lying:
					id = answer
				case command.INS == 0xCA && c.swap != nil:
					answer = id
				case lying && c.lie != nil:
					answer = c.lie(command, answer)
				}
				if !lying && command.INS == c.from && (command.P1 == 0x0C || c.from == 0x10) {
					if lying = true; c.swap != nil {
						r.Card = c.swap.Copy()
					}
				}
				return answer
			}
			_, err := portal.Update(t.Context(), r, b.order())
			require.True(t, lying)
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.says)
			again, err := portal.Update(t.Context(), honest, b.order())
			require.NoError(t, err)
			require.True(t, again.Resumed)
			requireUpdated(t, honest, b, done.Old.Name, "4.1", 0)
		})
	}
	t.Run("a card manager that is gone when it is to be spoken to", func(t *testing.T) {
		t.Parallel()
		// 6A88 and 6985 mean something for DELETE, and nothing here.
		for _, word := range []apdu.SW{apdu.ReferenceNotFound, apdu.ConditionsNotSatisfied} {
			r, selected := &reader{Card: fresh.Copy()}, 0
			r.lie = func(command apdu.Command, answer []byte) []byte {
				if command.INS == apdu.InsSelect && string(command.Data) != apdu.AID {
					if selected++; selected == 3 { // of looking at the card there are two
						return apdu.Response{SW: word}.Bytes()
					}
				}
				return answer
			}
			_, err := portal.Update(t.Context(), r, open(t).order())
			require.ErrorIs(t, err, word)
			require.ErrorContains(t, err, "select the card manager")
			require.NotErrorIs(t, err, portal.ErrCardRefuses)
			require.Equal(t, 3, selected)
		}
	})
	t.Run("an altered answer in the channel", func(t *testing.T) {
		t.Parallel()
		r := &reader{Card: fresh.Copy()}
		r.lie = func(command apdu.Command, answer []byte) []byte {
			if command.INS == 0xE8 && command.P2 == 7 {
				answer[0] ^= 1
			}
			return answer
		}
		_, err := portal.Update(t.Context(), r, open(t).order())
		require.ErrorIs(t, err, scp03.ErrMAC)
		require.ErrorIs(t, err, portal.ErrNotTrusted)
	})
	t.Run("somebody is faster", func(t *testing.T) {
		t.Parallel()
		r, b := &reader{Card: fresh.Copy()}, open(t)
		r.lie = func(command apdu.Command, answer []byte) []byte {
			if command.INS == 0x10 {
				c := client.New(r.Card)
				_, err := c.Select(t.Context())
				require.NoError(t, err)
				require.NoError(t, c.Initialise(t.Context(), client.Setup{Options: 1, SOPIN: soPIN, PIN: userPIN, Tries: 3}))
			}
			return answer
		}
		_, err := portal.Update(t.Context(), r, b.order())
		require.ErrorIs(t, err, portal.ErrNotAsShipped)
		require.ErrorContains(t, err, "it has PINs")
	})
	t.Run("another version waits in production", func(t *testing.T) {
		t.Parallel()
		r, b := &reader{Card: fresh.Copy()}, open(t)
		loaded := 0
		r.lie = func(command apdu.Command, answer []byte) []byte {
			if command.INS == 0xE8 {
				loaded++
			}
			return answer
		}
		b.fails = map[int]error{2: errDisk}
		_, err := portal.Update(t.Context(), r, b.order())
		require.ErrorIs(t, err, errDisk)
		first, lied := loaded, false
		honest := r.lie
		r.lie = func(command apdu.Command, answer []byte) []byte {
			if !lied && command.INS == apdu.InsSelect && string(command.Data) == apdu.AID {
				lied = true
				return version(command, answer)
			}
			return honest(command, answer)
		}
		_, err = portal.Update(t.Context(), r, b.order())
		require.NoError(t, err)
		require.Equal(t, 2*first, loaded, "it is loaded again")
	})
}

// What an inspection tells, of every firmware that can prove what it is.
func TestInspect(t *testing.T) {
	t.Parallel()
	for _, p := range applet.Profiles() {
		if p.Major == 1 {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			card := situation{firmware: p.Name, keys: true, so: 8, user: 1}.card(t)
			before := card.State.Durable()
			seen, err := portal.Inspect(t.Context(), card, chiptest.Seeded("x"))
			require.NoError(t, err)
			require.Equal(t, before, card.State.Durable())
			require.Equal(t, p.Name, seen.Version().String())
			require.Equal(t, "/UTSRCAEM1/UTDICAEM01/"+before.Applet.Serial(), seen.Device.Path())
			require.Equal(t, client.PINStatus{State: client.Ready, Left: 7}, seen.SOPIN)
			require.Equal(t, client.PINStatus{State: client.Ready, Left: 2}, seen.UserPIN)
			require.Equal(t, []byte{1}, seen.Keys())
			require.Contains(t, seen.Objects, uint16(0xCC01))
			require.Contains(t, seen.Objects, uint16(0xCD01))
			require.Len(t, seen.Chip, 12)
			require.Equal(t, portal.Operational, seen.Stage)
			require.False(t, seen.Blocked())
		})
	}
}

// Load files are those that cards take, and no longer than they can be.
func TestLoadFile(t *testing.T) {
	t.Parallel()
	seen := map[byte]bool{}
	for _, p := range applet.Profiles() {
		v, known := portal.Newest(p.Major)
		require.True(t, known)
		require.LessOrEqual(t, portal.Version{Major: p.Major, Minor: p.Minor}.Compare(v), 0, p.Name)
		newest, exists := applet.ProfileOf(v.String())
		require.True(t, exists, "%s", v)
		require.Equal(t, chip.LoadFile(newest), portal.LoadFile(v))
		require.LessOrEqual(t, len(portal.LoadFile(v)), 55_000)
		seen[p.Major] = true
	}
	require.Len(t, seen, 4)
	_, known := portal.Newest(5)
	require.False(t, known)
}

// BenchmarkUpdate is a whole update in process, and beside it what the card alone
// needs for the same commands.
func BenchmarkUpdate(b *testing.B) {
	fresh := updated["4.0"].card(b)
	var commands [][]byte // nil is a reset
	whole := &reader{Card: fresh.Copy(), record: func(command []byte) { commands = append(commands, command) }}
	_, err := portal.Update(b.Context(), whole, open(b).order())
	require.NoError(b, err)
	b.Run("update", func(b *testing.B) {
		for b.Loop() {
			_, err := portal.Update(b.Context(), fresh.Copy(), open(b).order())
			require.NoError(b, err)
		}
	})
	b.Run("card", func(b *testing.B) {
		for b.Loop() {
			card := fresh.Copy()
			for _, command := range commands {
				if command == nil {
					require.NoError(b, card.Reset())
					continue
				}
				_, err := card.Transmit(b.Context(), command)
				require.NoError(b, err)
			}
			require.Equal(b, "4.1", card.Durable().Firmware) // everything happens again the same way
		}
	})
}
