//go:build linux

package main

import (
	"context"
	"fmt"
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
	port, err := freePorts(1)
	require.NoError(t, err)
	for _, way := range [][]string{{"--socket", h.socket()}, {"--vpcd-listen", fmt.Sprintf("127.0.0.1:%d", port)}} {
		ctx, cancel := context.WithCancel(t.Context())
		var out said
		a := &app{in: strings.NewReader(""), out: &out, err: io.Discard, outside: emulator.System(), env: func(name string) string {
			return map[string]string{"HSMEMU_STATE": h.dir, "HSMEMU_PASSPHRASE": leakPhrase}[name]
		}}
		phrase, err := a.passphrase(sealing{}.phrase())
		require.NoError(t, err)
		require.Equal(t, leakPhrase, string(phrase))
		kept := a.phrase
		ended := make(chan int, 1)
		go func() { ended <- a.run(ctx, append([]string{"run", "--card", "alice"}, way...)) }()
		// Nobody has to come for a card that waits for a reader.
		require.Eventually(t, func() bool { return strings.Contains(out.String(), "seal passphrase\n") }, patience, interval, way)
		cancel()
		require.Zero(t, <-ended, way)
		require.Empty(t, a.phrase, way)
		require.Equal(t, make([]byte, len(leakPhrase)), kept, way)
	}
}
