//go:build linux

package main

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator"
)

// A process that runs a card for long does not keep the passphrase of its file.
// What the runtime and the key derivation have left of it nobody can tell.
func TestMemory_PassphraseIsForgotten(t *testing.T) {
	t.Parallel()
	h := newHome(t, "HSMEMU_PASSPHRASE="+leakPhrase)
	h.run("card", "new", "alice", "--seal", "passphrase")
	ctx, cancel := context.WithCancel(t.Context())
	var out said
	a := &app{in: strings.NewReader(""), out: &out, err: io.Discard, outside: emulator.System(), env: func(name string) string {
		return map[string]string{"HSMEMU_STATE": h.dir, "HSMEMU_PASSPHRASE": leakPhrase}[name]
	}}
	phrase, err := a.passphrase()
	require.NoError(t, err)
	require.Equal(t, leakPhrase, string(phrase))
	kept := a.phrase
	ended := make(chan int)
	go func() { ended <- a.run(ctx, []string{"run", "--card", "alice", "--socket", h.socket()}) }()
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "\nready\n") }, patience, interval)
	require.Empty(t, a.phrase)
	require.Equal(t, make([]byte, len(leakPhrase)), kept)
	cancel()
	require.Zero(t, <-ended)
}
