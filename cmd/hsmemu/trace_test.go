package main

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/view"
)

// What was left out before an event that is not wanted is not forgotten.
func TestChosen_KeepsCountOfWhatWasLeftOut(t *testing.T) {
	var written []view.Event
	keep := func(io.Writer) (func(string, view.Event) error, func() error) {
		return func(_ string, e view.Event) error {
			written = append(written, e)
			return nil
		}, nothingLeft
	}
	verify, read := "00200081", "00B12F02"
	next, end := chosen([]string{"pin"}, keep)(io.Discard)
	for _, e := range []view.Event{
		{Kind: view.Command, Header: &read, Missed: 3}, {Kind: view.Reset, Missed: 1}, {Kind: view.Command, Header: &verify, Missed: 2}, {Kind: view.Command, Header: &verify},
	} {
		require.NoError(t, next("", e))
	}
	require.NoError(t, end())
	require.Len(t, written, 2)
	require.Equal(t, 6, written[0].Missed)
	require.Zero(t, written[1].Missed)
}
