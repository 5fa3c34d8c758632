package emulator_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
)

// A card that is cut after each save of a wrong PIN has spent the try from the first
// one on, and the card itself goes on (PIN-7).
func TestTorn_CutAfter(t *testing.T) {
	t.Parallel()
	w := emulator.System()
	d, err := w.Manufacture(chip.Order{})
	require.NoError(t, err)
	card, err := emulator.NewTorn(d, w)
	require.NoError(t, err)
	c := client.New(card)
	_, err = c.Select(t.Context())
	require.NoError(t, err)
	require.Zero(t, card.Saves())
	require.NoError(t, c.Initialise(t.Context(), client.Setup{SOPIN: []byte("57621880"), PIN: []byte("648219"), Tries: 3}))
	require.NoError(t, card.Reset())
	require.Zero(t, card.Saves())
	left := func(card *emulator.Torn) int {
		c := client.New(card)
		_, err := c.Select(t.Context())
		require.NoError(t, err)
		s, err := c.PINStatus(t.Context(), client.UserPIN)
		require.NoError(t, err)
		return s.Left
	}
	_, err = client.New(card).Select(t.Context())
	require.NoError(t, err)
	require.NoError(t, client.New(card).VerifyPIN(t.Context(), client.UserPIN, []byte("648219")))
	require.Equal(t, 2, card.Saves())
	for saves, want := range []int{3, 2, 3} {
		cut, err := card.CutAfter(saves)
		require.NoError(t, err)
		require.Equal(t, want, left(cut.(*emulator.Torn)), "after %d saves", saves)
	}
	_, err = card.CutAfter(3)
	require.ErrorContains(t, err, "the command has saved 2 states, not 3")
	s, err := client.New(card).PINStatus(t.Context(), client.UserPIN)
	require.NoError(t, err)
	require.Equal(t, client.Verified, s.State, "the card itself goes on")
}
