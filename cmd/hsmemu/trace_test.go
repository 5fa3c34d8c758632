package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/view"
)

// What was left out before an event that is not wanted is not forgotten.
func TestChosen_KeepsCountOfWhatWasLeftOut(t *testing.T) {
	var written []view.Event
	keep := func(io.Writer) (func(string, view.Event) error, func() error, error) {
		return func(_ string, e view.Event) error {
			written = append(written, e)
			return nil
		}, nothingLeft, nil
	}
	verify, read := "00200081", "00B12F02"
	next, end, err := chosen([]string{"pin"}, keep)(io.Discard)
	require.NoError(t, err)
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

// A capture of somebody's is not emptied for a card that is not there.
func TestTrace_LeavesACaptureAlone(t *testing.T) {
	t.Parallel()
	capture := filepath.Join(t.TempDir(), "capture")
	require.NoError(t, os.WriteFile(capture, []byte("packets"), 0o600))
	_, _, code := called(t, map[string]string{"HSMEMU_STATE": t.TempDir()}, "trace", "--card", "nosuch", "--pcap", capture)
	require.Equal(t, 1, code)
	text, err := os.ReadFile(capture)
	require.NoError(t, err)
	require.Equal(t, "packets", string(text))
}

// What cannot be written or never ends is found out before a rule is played.
func TestConform_LooksAtFilesFirst(t *testing.T) {
	t.Parallel()
	env := map[string]string{"HSMEMU_STATE": t.TempDir()}
	_, said, code := called(t, env, "conform", "--rules", "^PIN-R2$", "--output", filepath.Join(t.TempDir(), "no", "such"))
	require.Equal(t, 1, code)
	require.Contains(t, said, "hsmemu: write the report: ")
	for _, flag := range []string{"--expect", "--statement"} {
		_, said, code = called(t, env, "conform", "--rules", "^PIN-R2$", flag, "/dev/zero")
		require.Equal(t, 1, code)
		require.Contains(t, said, "/dev/zero: longer than 1048576 bytes")
	}
}
