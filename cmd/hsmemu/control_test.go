//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator"
	"hsmemu/emulator/control"
	"hsmemu/emulator/start"
	"hsmemu/emulator/statedir"
	"hsmemu/vsmartcard/pcscd"
)

// newApp is the program with a state folder of its own.
func newApp(t *testing.T, state string) *app {
	t.Helper()
	return &app{
		in: strings.NewReader(""), out: io.Discard, err: io.Discard, outside: emulator.System(),
		env: func(name string) string { return map[string]string{"HSMEMU_STATE": state}[name] },
	}
}

// soon is a context for something that takes no time worth mentioning.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// runningCard is a card in a private reader of this process, until end is called.
func runningCard(t *testing.T, a *app, name string) (end func()) {
	t.Helper()
	dir, err := shortFolder()
	require.NoError(t, err)
	socket := filepath.Join(dir, pcscd.SocketName)
	l, err := pcscd.ListenOver(socket, pcscd.Access{})
	require.NoError(t, err)
	d, err := a.private(context.Background(), l, socket, []start.Wanted{{Card: name}}, nil)
	require.NoError(t, err)
	ended := false
	end = func() {
		if !ended {
			ended = true
			require.NoError(t, d.Close())
			require.NoError(t, os.RemoveAll(dir))
		}
	}
	t.Cleanup(end)
	return end
}

// The process that runs a card may die, or be another program altogether.
func TestControl_OtherSideFails(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"hangs up":          "",
		"breaks off":        `{"vie`,
		"is something else": "SSH-2.0-OpenSSH_9.2\r\n",
		"is older":          `{"error":"no"}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			state, err := shortFolder()
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, os.RemoveAll(state)) })
			l, err := net.Listen("unix", filepath.Join(state, "alice.sock"))
			require.NoError(t, err)
			go func() {
				conn, err := l.Accept()
				if err == nil {
					_, _ = bufio.NewReader(conn).ReadString('\n')
					_, _ = io.WriteString(conn, answer)
					_ = conn.Close()
				}
			}()
			a := newApp(t, state)
			require.Zero(t, a.run(soon(t), []string{"card", "new", "alice"}))
			var said bytes.Buffer
			a.err = &said
			require.Equal(t, exitFailed, a.run(soon(t), []string{"card", "eject", "alice"}))
			require.Regexp(t, `^hsmemu: eject card "alice": .+\n$`, said.String())
			require.NoError(t, l.Close())
		})
	}
}

// Whoever comes second gets neither the card nor its socket, and speaks to it
// through the process that has it.
func TestControl_SecondProcess(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	a := newApp(t, state)
	require.Zero(t, a.run(soon(t), []string{"card", "new", "alice"}))
	end := runningCard(t, a, "alice")
	second := newApp(t, state)
	_, err := second.hold("alice", refuseAbsent)
	var named *statedir.Error
	require.ErrorAs(t, err, &named)
	said, hint := explained(err)
	require.Equal(t, fmt.Sprintf(`card "alice" is in use by process %d`, os.Getpid()), said)
	require.Empty(t, hint)
	var printed, complained bytes.Buffer
	second.out, second.err = &printed, &complained
	require.Equal(t, exitFailed, second.run(soon(t), []string{"run", "--card", "alice", "--vpcd", "localhost:1"}))
	require.Equal(t, fmt.Sprintf("hsmemu: card \"alice\" is in use by process %d\n", os.Getpid()), complained.String())
	require.Equal(t, exitFailed, second.run(soon(t), []string{"card", "rm", "alice"}))
	require.Zero(t, second.run(soon(t), []string{"apdu", "--card", "alice", "00200081"}))
	require.Equal(t, "> 00200081\n< 6D00\n  (no application selected) → 6D00, instruction not supported\n", printed.String())
	c, err := reach(t, second, "alice")
	require.NoError(t, err)
	_, err = c.Show(soon(t))
	require.NoError(t, err)
	require.NoError(t, c.Close())
	end()
	require.Zero(t, second.run(soon(t), []string{"card", "rm", "alice", "--force"}))
	left, err := os.ReadDir(state)
	require.NoError(t, err)
	require.Empty(t, left)
	_, err = reach(t, second, "alice")
	require.ErrorIs(t, err, statedir.ErrNoCard)
	require.Zero(t, second.run(soon(t), []string{"card", "new", "alice"}))
	_, err = reach(t, second, "alice")
	require.ErrorIs(t, err, control.ErrNobody)
}

// A reader that has another card takes the connection, and asks nothing. The program waits for it, and says so.
func TestRun_ReaderWithAnotherCard(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	require.Equal(t, exitDone, newApp(t, state).run(soon(t), []string{"card", "new", "bob"}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	port, err := freePorts(1)
	require.NoError(t, err)
	for way, c := range map[string]struct{ at, why string }{
		"--vpcd":        {l.Addr().String(), "it has not asked for the card, and may have another one in it"},
		"--vpcd-listen": {fmt.Sprintf("127.0.0.1:%d", port), "none has connected"},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		var out said
		a := newApp(t, state)
		a.patience, a.err = time.Millisecond, &out
		ended := make(chan int, 1)
		go func() { ended <- a.run(ctx, []string{"run", "--card", "bob", way, c.at}) }()
		want := fmt.Sprintf("hsmemu: card \"bob\" waits for its reader, vpcd %s: %s\n", c.at, c.why)
		require.Eventually(t, func() bool { return out.String() == want }, patience, interval, way)
		cancel()
		require.Zero(t, <-ended, way)
	}
}
