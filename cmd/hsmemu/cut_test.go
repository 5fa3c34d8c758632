//go:build linux

package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard/pcscd"
)

// cutAfter listens at a path for one client of the daemon at another, and hands over what they
// say, but ends both connections instead of handing over more than n requests.
func cutAfter(t *testing.T, path, daemon string, n int) io.Closer {
	t.Helper()
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	go func() {
		from, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = from.Close() }()
		to, err := net.Dial("unix", daemon)
		if err != nil {
			return
		}
		defer func() { _ = to.Close() }()
		go func() { _, _ = io.Copy(from, to) }()
		request := make([]byte, 1<<17) // a client writes each at once
		for range n {
			m, err := from.Read(request)
			if err == nil {
				_, err = to.Write(request[:m])
			}
			if err != nil {
				return
			}
		}
		_, _ = from.Read(request)
	}()
	return l
}

// A daemon that is gone in the middle of a command is told once, also where the card could not
// be let go of afterwards.
func TestReader_GoneIsToldOnce(t *testing.T) {
	h := newHome(t)
	h.run("card", "new", "lab")
	p := h.start("lab")
	defer p.kill()
	p.ready(t)
	pin := filepath.Join(h.dir, "pin")
	require.NoError(t, os.WriteFile(pin, []byte("648219\n"), 0o600))
	failed := pcscd.ErrComm.Error()
	for _, line := range [][]string{ // the card is not initialised, so a custodian's is not asked
		{"attest", "--reader", "Nitrokey"},
		{"card", "authenticate", "--reader", "Nitrokey", "--with", "other", "--pin-file", pin},
	} {
		told := 0
		for n := range 1000 {
			relay := filepath.Join(h.dir, "relay")
			l := cutAfter(t, relay, h.socket(), n)
			t.Setenv(pcscd.EnvSocket, relay)
			_, said, _ := called(t, map[string]string{"HSMEMU_STATE": h.dir}, line...)
			require.NoError(t, l.Close())
			require.LessOrEqual(t, strings.Count(said, failed), 1, "%v after %d requests: %s", line, n, said)
			if !strings.Contains(said, failed) {
				break
			}
			told++
		}
		require.Greater(t, told, 5, line)
	}
}
