//go:build linux

package main

import (
	"bytes"
	"context"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A named pipe that nobody else opens holds up no card, and whatever waits for it ends
// when it is told to.
func TestPipe_HoldsUpNothing(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	env := map[string]string{"HSMEMU_STATE": state}
	_, said, code := called(t, env, "card", "new", "lab")
	require.Zero(t, code, said)
	pipe := filepath.Join(state, "f.card")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))

	out, said, code := called(t, env, "card", "list")
	require.Zero(t, code, said)
	require.Contains(t, out, "not a regular file")
	for _, line := range [][]string{{"card", "show", "f"}, {"card", "import", pipe, "x"}, {"card", "new", "x", "--from", pipe}, {"apdu", "--card", "f", "00"}} {
		_, said, code = called(t, env, line...)
		require.Equal(t, exitFailed, code, line)
		require.Contains(t, said, "not a regular file", line)
	}

	_, said, code = called(t, env, "card", "export", "--unprotected", "lab", pipe)
	require.Equal(t, exitFailed, code)
	require.Equal(t, "hsmemu: export card \"lab\": "+pipe+" exists already, and is not a regular file\n", said)
	require.NoFileExists(t, pipe+".lock")

	for _, line := range [][]string{{"attest", pipe}, {"card", "import-key", "--share", pipe, pipe}, {"attest", "--reader", "x", "--root", pipe}} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		a := newApp(t, state)
		var said bytes.Buffer
		a.err = &said
		require.Equal(t, exitInterrupted, a.run(ctx, line), "%v: %s", line, &said)
		cancel()
	}
	_, said, code = called(t, env, "card", "rm", "--force", "f")
	require.Zero(t, code, said)
	require.NoFileExists(t, pipe)
}
