package portal_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/client"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/portal"
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
