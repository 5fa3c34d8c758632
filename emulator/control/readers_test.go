//go:build linux

package control_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator"
	"hsmemu/emulator/control"
)

// A fault is set on every card; words that are none are refused.
func TestSetFaults(t *testing.T) {
	t.Parallel()
	cards := []*control.Card{control.New("a", newCard(t), nil), control.New("b", newCard(t), nil)}
	require.NoError(t, control.SetFaults(cards, []string{" remove  after=3 ", "mute"}))
	for _, c := range cards {
		require.ElementsMatch(t, []string{"remove after=3", "mute"}, c.Faults.List())
	}
	for _, wrong := range []string{"", "melt", "remove after=soon"} {
		require.ErrorIs(t, control.SetFaults(cards, []string{wrong}), emulator.ErrFault, wrong)
	}
}
