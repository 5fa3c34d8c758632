//go:build linux

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

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
