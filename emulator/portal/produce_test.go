package portal_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/portal"
	"hsmemu/emulator/scp03"
	"hsmemu/pinstate"
)

// blank is a chip without an application.
func blank(t testing.TB, firmware string) *chiptest.Card {
	t.Helper()
	d, err := chip.Manufacture(chiptest.World("blank "+firmware), chip.Order{Firmware: firmware, Blank: true})
	require.NoError(t, err)
	return &chiptest.Card{Name: "blank", Env: chiptest.World("a blank one"), State: chip.Boot(d)}
}

var newest = portal.Version{Major: 4, Minor: 1}

// requireProduced checks a card that was a blank chip, and the books: S10.
func requireProduced(t testing.TB, card *chiptest.Card, b *books, done portal.Done) {
	t.Helper()
	require.NoError(t, card.State.Durable().Check())
	require.Empty(t, done.Old)
	keys := []chip.KeySet{{Version: chip.KeyVersion, Keys: scp03.Derive(chip.MasterKey, diversification(t, card))}}
	require.Equal(t, keys, card.State.Durable().Manager.KeySets, "the transport keys are gone: UPDATE-31")
	seen, err := portal.Inspect(t.Context(), card, chiptest.Seeded("x"))
	require.NoError(t, err)
	require.Equal(t, portal.Operational, seen.Stage)
	require.Equal(t, done.New.Name, seen.Device.Device.CHR)
	require.Equal(t, done.New.Firmware, seen.Version())
	p := b.load(t)
	require.Equal(t, map[portal.ChipID]portal.Record{seen.Chip: {Devices: []portal.Device{done.New}}}, p.Chips)
	require.Equal(t, 999, p.Authority.Issuers[0].Licences)
	c := client.New(card)
	_, err = c.Select(t.Context())
	require.NoError(t, err)
	require.NoError(t, c.Initialise(t.Context(), client.Setup{Options: pinstate.OptionResetEnabled, SOPIN: soPIN, PIN: userPIN, Tries: 3}))
}

// diversification is what the keys of a chip are made from.
func diversification(t testing.TB, card *chiptest.Card) scp03.Diversification {
	t.Helper()
	other := card.Copy()
	other.State = chip.Boot(other.State.Durable()) // the card manager is selected
	r, err := apdu.ParseResponse(other.Step(apdu.Command{CLA: apdu.ClassProprietary, INS: apdu.InsGetData, P2: 0xCF, Ne: 256}.Bytes()))
	require.NoError(t, err)
	return scp03.Diversification(r.Data[2:])
}

// A blank chip of each generation becomes a device: UPDATE-27.
func TestProduce(t *testing.T) {
	t.Parallel()
	for _, p := range applet.Profiles() {
		to, _ := portal.Newest(p.Major)
		if p.Major == 1 || p.Minor != to.Minor {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			card, b := blank(t, p.Name), open(t)
			o := b.order()
			var said string
			o.Progress = func(_ int, text string) { said = text }
			done, err := portal.Produce(t.Context(), card, to, o)
			require.NoError(t, err)
			require.False(t, done.Resumed)
			require.Equal(t, "Token produced. Device id "+done.New.Name.Holder(), said)
			requireProduced(t, card, b, done)
			_, err = portal.Produce(t.Context(), card, to, b.order())
			require.ErrorIs(t, err, portal.ErrNotBlank)
		})
	}
}

// A production is interrupted at each of its commands, before the chip gets it or
// after, and the next call goes on, of whichever function.
func TestProduce_InterruptedAnywhere(t *testing.T) {
	t.Parallel()
	fresh := blank(t, "4.1")
	whole := &reader{Card: fresh.Copy()}
	_, err := portal.Produce(t.Context(), whole, newest, open(t).order())
	require.NoError(t, err)
	resumed := map[moment]bool{}
	for n := range 2 * whole.sent {
		b := open(t)
		r := &reader{Card: fresh.Copy(), at: n/2 + 1, before: n%2 == 0}
		_, err := portal.Produce(t.Context(), r, newest, b.order())
		require.ErrorIs(t, err, errPulled)
		m := at(t, r.Card, b)
		if resumed[m] {
			continue
		}
		resumed[m] = true
		var done portal.Done
		if n%4 < 2 || len(b.load(t).Chips) == 0 {
			done, err = portal.Produce(t.Context(), r.Card, newest, b.order())
		} else {
			done, err = portal.Update(t.Context(), r.Card, b.order())
		}
		require.NoError(t, err, "command %d", n/2+1)
		requireProduced(t, r.Card, b, done)
	}
	require.Greater(t, len(resumed), 10)
}

// What is not known of a chip is found out by trying, and costs one licence all the
// same: UPDATE-27.
func TestProduce_Refused(t *testing.T) {
	t.Parallel()
	card, b := blank(t, "3.6"), open(t)
	_, err := portal.Produce(t.Context(), card, portal.Version{Major: 4, Minor: 0}, b.order())
	require.ErrorIs(t, err, portal.ErrFirmware)
	require.Empty(t, b.load(t).Chips)
	_, err = portal.Produce(t.Context(), card, newest, b.order())
	require.ErrorIs(t, err, portal.ErrFirmware)
	done, err := portal.Produce(t.Context(), card, portal.Version{Major: 3, Minor: 6}, b.order())
	require.NoError(t, err)
	require.True(t, done.Resumed)
	requireProduced(t, card, b, done)

	card, b = blank(t, "4.1"), open(t)
	before := card.State.Durable()
	b.change(t, func(p *portal.Books) { p.Authority.Issuers[0].Ready = false })
	_, err = portal.Produce(t.Context(), card, newest, b.order())
	var refusal *portal.Refusal
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, portal.IssuerNotReady, refusal.Reason)
	require.Equal(t, before, card.State.Durable())
	_, err = portal.Update(t.Context(), card, open(t).order())
	require.ErrorIs(t, err, portal.ErrOtherUpdate, "an update makes no device of a blank chip")
}

// The transport keys are replaced before anything else, in the same session; a chip that has
// its own already, as older blank ones do, needs no transport keys: UPDATE-31.
func TestProduce_ReplacesTransportKeys(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare  func(*chip.Durable)
		channels []byte
		puts     int
	}{
		"transport keys": {func(*chip.Durable) {}, []byte{0x30, 0x01, 0x30}, 1},
		"its own":        {func(d *chip.Durable) { d.Manager.KeySets = nil }, []byte{0x30, 0x30}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, b := &reader{Card: blank(t, "4.1")}, open(t)
			d := r.State.Durable()
			c.prepare(&d)
			r.State = chip.Boot(d)
			var channels []byte
			puts, deletes := 0, 0
			r.record = func(command []byte) {
				switch {
				case len(command) > 2 && command[0] == 0x80 && command[1] == scp03.InsInitializeUpdate:
					channels = append(channels, command[2])
				case len(command) > 2 && command[1] == apdu.InsPutKey:
					puts++
					require.Zero(t, deletes)
					require.Equal(t, byte(0x84), command[0])
				case len(command) > 2 && command[1] == apdu.InsDeleteFile:
					deletes++
				}
			}
			_, err := portal.Produce(t.Context(), r, newest, b.order())
			require.NoError(t, err)
			require.Equal(t, c.channels, channels)
			require.Equal(t, c.puts, puts)
		})
	}
	t.Run("other keys", func(t *testing.T) {
		t.Parallel()
		r, b := &reader{Card: blank(t, "4.1")}, open(t)
		d := r.State.Durable()
		d.Manager.KeySets = []chip.KeySet{{Version: chip.TransportVersion, Keys: scp03.NewKeys([16]byte{}, [16]byte{}, [16]byte{})}}
		r.State = chip.Boot(d)
		_, err := portal.Produce(t.Context(), r, newest, b.order())
		require.ErrorIs(t, err, portal.ErrManagerKeys)
		require.ErrorIs(t, err, scp03.ErrCryptogram)
		require.Equal(t, 1000, b.load(t).Authority.Issuers[0].Licences)
	})
	t.Run("no keys that the portal knows", func(t *testing.T) {
		t.Parallel()
		r, b := &reader{Card: blank(t, "4.1")}, open(t)
		d := r.State.Durable()
		d.Manager.KeySets[0].Version = 0x7F
		r.State = chip.Boot(d)
		_, err := portal.Produce(t.Context(), r, newest, b.order())
		require.ErrorIs(t, err, portal.ErrManagerKeys)
		require.ErrorContains(t, err, "none of version 01")
		d.Manager.KeySets[0].Version = chip.TransportVersion // they are put back
		r.State = chip.Boot(d)
		done, err := portal.Produce(t.Context(), r, newest, b.order())
		require.NoError(t, err)
		requireProduced(t, r.Card, b, done)
	})
	t.Run("keys of another chip", func(t *testing.T) {
		t.Parallel()
		// Transport keys are the same on each chip, so that a channel with them opens whatever
		// the card says that its own keys are made from.
		r, b := &reader{Card: blank(t, "4.1")}, open(t)
		before := r.State.Durable().Manager.KeySets
		r.lie = func(c apdu.Command, answer []byte) []byte {
			if c.INS == scp03.InsInitializeUpdate && c.P1 == chip.TransportVersion {
				answer[0] ^= 1
			}
			return answer
		}
		_, err := portal.Produce(t.Context(), r, newest, b.order())
		require.ErrorIs(t, err, portal.ErrNotTrusted)
		require.Equal(t, before, r.State.Durable().Manager.KeySets)
		done, err := portal.Produce(t.Context(), r.Card, newest, b.order())
		require.NoError(t, err)
		requireProduced(t, r.Card, b, done)
	})
	t.Run("new keys that are refused", func(t *testing.T) {
		t.Parallel()
		r := &reader{Card: blank(t, "4.1")}
		r.lie = func(c apdu.Command, answer []byte) []byte {
			if c.INS == apdu.InsPutKey {
				return apdu.Response{SW: apdu.ConditionsNotSatisfied}.Bytes()
			}
			return answer
		}
		_, err := portal.Produce(t.Context(), r, newest, open(t).order())
		require.ErrorIs(t, err, apdu.ConditionsNotSatisfied)
		require.ErrorContains(t, err, "replace the transport keys")
		require.NotErrorIs(t, err, portal.ErrFirmware)
	})
	t.Run("others than it was given", func(t *testing.T) {
		t.Parallel()
		r, b := &reader{Card: blank(t, "4.1")}, open(t)
		r.lie = liar(t, scp03.NewKeys(chip.MasterKey, chip.MasterKey, chip.MasterKey))
		_, err := portal.Produce(t.Context(), r, newest, b.order())
		require.ErrorIs(t, err, portal.ErrNotTrusted)
		require.ErrorContains(t, err, "not those that it was given")
	})
}

// liar is somebody who has the transport keys, and alters what the card answers to PUT KEY.
func liar(t *testing.T, keys scp03.Keys) func(apdu.Command, []byte) []byte {
	var between scp03.Card
	return func(c apdu.Command, answer []byte) []byte {
		r, err := apdu.ParseResponse(answer)
		require.NoError(t, err)
		switch {
		case c.INS == scp03.InsInitializeUpdate && c.P1 == chip.TransportVersion && r.SW == apdu.OK:
			a, err := scp03.ParseAnswer(r.Data)
			require.NoError(t, err)
			name := []byte("\xA0\x00\x00\x01\x51\x00\x00\x00")
			between, _, err = keys.Begin(a.Diversification, a.Version, a.Counter, name, scp03.Challenge(c.Data))
			require.NoError(t, err)
		case c.INS == scp03.InsExternalAuthenticate && c.CLA == 0x84:
			between, err = between.Authenticate(c)
			require.NoError(t, err)
		case c.INS == apdu.InsPutKey:
			plain, after, err := between.Unwrap(c)
			require.NoError(t, err)
			_, _, says, err := after.NewKeys(plain.Data)
			require.NoError(t, err)
			says[9] ^= 1
			lie, _, err := after.Wrap(apdu.Response{Data: says, SW: apdu.OK})
			require.NoError(t, err)
			return lie.Bytes()
		}
		return answer
	}
}
