package view_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/view"
)

// What was left out before an event that is not wanted is not forgotten.
func TestSelection_KeepsCountOfWhatWasLeftOut(t *testing.T) {
	verify, read := "00200081", "00B12F02"
	only := view.Selection{Classes: []string{"pin"}}
	var taken []int
	for _, e := range []view.Event{
		{Kind: view.Command, Header: &read, Missed: 3}, {Kind: view.Reset, Missed: 1}, {Kind: view.Command, Header: &verify, Missed: 2}, {Kind: view.Command, Header: &verify},
	} {
		if only.Takes(&e) {
			taken = append(taken, e.Missed)
		}
	}
	require.Equal(t, []int{6, 0}, taken)
}
