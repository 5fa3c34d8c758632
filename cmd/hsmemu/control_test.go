//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator"
	"hsmemu/emulator/view"
)

// shelf is a reader that only counts.
type shelf struct{ ejected, inserted, reset atomic.Int32 }

var errShelf = errors.New("the reader is stuck")

func (s *shelf) Eject(context.Context) error  { s.ejected.Add(1); return nil }
func (s *shelf) Insert(context.Context) error { s.inserted.Add(1); return errShelf }
func (s *shelf) Reset() error                 { s.reset.Add(1); return nil }
func (s *shelf) Place() string                { return "on the shelf" }

func (s *shelf) Turn(context.Context) (turn, error) { return nobodys{}, nil }

// newApp is the program with a state folder of its own.
func newApp(t *testing.T, state string) *app {
	t.Helper()
	return &app{
		in: strings.NewReader(""), out: io.Discard, err: io.Discard, outside: emulator.System(),
		env: func(name string) string { return map[string]string{"HSMEMU_STATE": state}[name] },
	}
}

// controlled is a card whose control socket is open until end is called.
type controlled struct {
	app   *app
	shelf *shelf
	state string // folder
	path  string // of the socket
	end   func()
}

func newControlled(t *testing.T, state string) *controlled {
	t.Helper()
	a := newApp(t, state)
	require.Zero(t, a.run(t.Context(), []string{"card", "new", "alice"}))
	h, err := a.hold("alice", refuseAbsent)
	require.NoError(t, err)
	c := &controlled{app: a, shelf: &shelf{}, state: state}
	c.path, err = a.controlPath("alice")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	wait, err := (&control{app: a, held: h, reader: c.shelf}).serve(ctx)
	require.NoError(t, err)
	ended := false
	c.end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		wait()
		require.NoError(t, h.Close())
	}
	t.Cleanup(c.end)
	return c
}

// works checks that the socket answers as it should.
func (c *controlled) works(t *testing.T) {
	t.Helper()
	r, err := c.app.ask(soon(t), "alice", request{Do: doShow})
	require.NoError(t, err)
	require.NotNil(t, r.View)
	require.Equal(t, "alice", r.View.Name)
	require.Equal(t, os.Getpid(), r.View.Running.Process)
}

func (c *controlled) connect(t *testing.T) net.Conn {
	t.Helper()
	conn, err := c.app.dial(soon(t), "alice")
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// soon is a context for something that takes no time worth mentioning.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func TestControl_SaysWhatWasDone(t *testing.T) {
	t.Parallel()
	c := newControlled(t, t.TempDir())
	c.works(t)
	_, err := c.app.ask(soon(t), "alice", request{Do: doEject})
	require.NoError(t, err)
	require.EqualValues(t, 1, c.shelf.ejected.Load())
	r, err := c.app.ask(soon(t), "alice", request{Do: doShow})
	require.NoError(t, err)
	require.Equal(t, &view.Running{Process: os.Getpid(), Place: "on the shelf", Ejected: true, Session: view.NotSelected}, r.View.Running)
	_, err = c.app.ask(soon(t), "alice", request{Do: doInsert})
	require.EqualError(t, err, errShelf.Error())
	r, err = c.app.ask(soon(t), "alice", request{Do: doShow})
	require.NoError(t, err)
	require.False(t, r.View.Running.Ejected)
	_, err = c.app.ask(soon(t), "alice", request{Do: doReset})
	require.NoError(t, err)
	require.EqualValues(t, 1, c.shelf.reset.Load())
	_, err = c.app.ask(soon(t), "alice", request{Do: "explode"})
	require.EqualError(t, err, `request "explode" not known`)
	_, err = c.app.ask(soon(t), "alice", request{Do: doTransmit, APDU: "00Z4"})
	require.EqualError(t, err, "not a command in hexadecimal digits")
	_, err = c.app.ask(soon(t), "bob", request{Do: doShow})
	require.ErrorIs(t, err, errNobody)
}

// Whatever somebody writes into the socket, the card goes on, and so does the
// conversation with everybody else.
func TestControl_HostileBytes(t *testing.T) {
	t.Parallel()
	c := newControlled(t, t.TempDir())
	random := make([]byte, 1<<16)
	r := rand.NewChaCha8([32]byte{1})
	_, err := r.Read(random)
	require.NoError(t, err)
	for name, bad := range map[string][]byte{
		"nothing":          nil,
		"an empty line":    []byte("\n"),
		"zeros":            make([]byte, 4096),
		"random":           append(random, '\n'),
		"no end of line":   []byte(`{"do":"sho`),
		"a number":         []byte("42\n"),
		"null":             []byte("null\n"),
		"a list":           []byte("[]\n"),
		"a wrong type":     []byte(`{"do":7}` + "\n"),
		"two objects":      []byte(`{"do":"show"}{"do":"show"}` + "\n"),
		"deep":             append(bytes.Repeat([]byte("["), 1<<18), '\n'),
		"a line too long":  append(bytes.Repeat([]byte("x"), 2*maxRequest), '\n'),
		"a command of 1MB": []byte(`{"do":"transmit","apdu":"` + strings.Repeat("00", maxRequest/2-100) + `"}` + "\n"),
		"half a byte":      []byte(`{"do":"transmit","apdu":"0"}` + "\n"),
		"a broken state":   []byte(`{"do":"restore","state":{"applet":[]}}` + "\n"),
		"no state":         []byte(`{"do":"restore"}` + "\n"),
		"a wrong fault":    []byte(`{"do":"fault","words":["","=","\u0000"]}` + "\n"),
		"no fault":         []byte(`{"do":"fault"}` + "\n"),
	} {
		t.Run(name, func(t *testing.T) {
			conn := c.connect(t)
			_, _ = conn.Write(bad) // the other side may have had enough already
			require.NoError(t, conn.(*net.UnixConn).CloseWrite())
			answer, err := io.ReadAll(conn)
			if err == nil {
				for line := range bytes.Lines(answer) {
					var r reply
					require.NoError(t, json.Unmarshal(line, &r), "%s", line)
				}
			}
			c.works(t)
		})
	}
	require.Zero(t, c.shelf.ejected.Load()+c.shelf.inserted.Load()+c.shelf.reset.Load())
	d, _, err := c.app.read("alice")
	require.NoError(t, err)
	require.False(t, d.Applet.PINs.Initialised)
	require.Empty(t, d.Applet.Keys)
}

// Those who connect and say nothing keep nobody waiting, neither their
// neighbours nor the end.
func TestControl_SilentOnes(t *testing.T) {
	t.Parallel()
	c := newControlled(t, t.TempDir())
	for range 100 {
		c.connect(t)
	}
	observer := c.connect(t)
	_, err := fmt.Fprintf(observer, "{\"do\":%q}\n", doTrace)
	require.NoError(t, err)
	lines := bufio.NewScanner(observer)
	require.True(t, lines.Scan(), "watching")
	_, err = fmt.Fprint(observer, "what one says while watching is not heard\n")
	require.NoError(t, err)
	c.works(t)
	r, err := c.app.ask(soon(t), "alice", request{Do: doTransmit, APDU: "00200081"})
	require.NoError(t, err)
	require.Equal(t, "6d00", r.APDU)
	require.True(t, lines.Scan(), "a line for the command")
	require.Contains(t, lines.Text(), "6D00")
	c.end()
	require.False(t, lines.Scan(), "nothing after the end")
	if err := lines.Err(); !errors.Is(err, syscall.ECONNRESET) { // what nobody had read yet is answered so
		require.NoError(t, err)
	}
}

// A socket's address has room for 107 bytes; folders have longer names.
func TestControl_LongPaths(t *testing.T) {
	t.Parallel()
	for name, folder := range map[string]string{
		"107 bytes and more":  strings.Repeat("long/", 60),
		"one name of 200":     strings.Repeat("x", 200),
		"blanks and brackets": "a b [c] {d} *",
		"a line break":        "two\nlines",
		"not UTF-8":           "\xFF\xFE",
	} {
		t.Run(name, func(t *testing.T) {
			c := newControlled(t, filepath.Join(t.TempDir(), folder))
			c.works(t)
			info, err := os.Stat(c.path)
			require.NoError(t, err)
			require.Equal(t, os.ModeSocket|0o600, info.Mode())
			names, err := c.app.names()
			require.NoError(t, err)
			require.Equal(t, []string{"alice"}, names)
			c.end()
			require.NoFileExists(t, c.path)
			_, err = c.app.ask(soon(t), "alice", request{Do: doShow})
			require.ErrorIs(t, err, errNobody)
		})
	}
}

// What a process that was killed leaves behind is nobody's, and is replaced.
func TestControl_StaleSocket(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*testing.T, string){
		"a socket": func(t *testing.T, path string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			require.NoError(t, err)
			l.SetUnlinkOnClose(false)
			require.NoError(t, l.Close())
		},
		"a file": func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte("not a socket"), 0o600))
		},
		"an empty folder": func(t *testing.T, path string) {
			require.NoError(t, os.Mkdir(path, 0o700))
		},
		"a link to nowhere": func(t *testing.T, path string) {
			require.NoError(t, os.Symlink("nowhere", path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			state, err := shortFolder()
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, os.RemoveAll(state)) })
			path := filepath.Join(state, "alice"+controlSuffix)
			leave(t, path)
			_, err = newApp(t, state).ask(soon(t), "alice", request{Do: doShow})
			require.ErrorIs(t, err, errNobody)
			c := newControlled(t, state)
			require.Equal(t, path, c.path)
			c.works(t)
		})
	}
}

// The process that runs a card may die, or be another program altogether.
func TestControl_OtherSideFails(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"hangs up":          "",
		"breaks off":        `{"vie`,
		"is something else": "SSH-2.0-OpenSSH_9.2\r\n",
		"says no":           `{"error":"no"}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			state, err := shortFolder()
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, os.RemoveAll(state)) })
			l, err := net.Listen("unix", filepath.Join(state, "alice"+controlSuffix))
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
			var said bytes.Buffer
			a.err = &said
			require.Equal(t, exitFailed, a.run(soon(t), []string{"card", "eject", "alice"}))
			require.Regexp(t, `^hsmemu: eject card "alice": .+\n$`, said.String())
			require.NoError(t, l.Close())
		})
	}
}

// Whoever comes second gets neither the card nor its socket.
func TestControl_SecondProcess(t *testing.T) {
	t.Parallel()
	c := newControlled(t, t.TempDir())
	second := newApp(t, c.state)
	_, err := second.hold("alice", refuseAbsent)
	require.EqualError(t, err, fmt.Sprintf(`card "alice" is in use by process %d`, os.Getpid()))
	var said bytes.Buffer
	second.err = &said
	require.Equal(t, exitFailed, second.run(soon(t), []string{"run", "--card", "alice", "--vpcd", "localhost:1"}))
	require.Equal(t, fmt.Sprintf("hsmemu: card \"alice\" is in use by process %d\n", os.Getpid()), said.String())
	require.Equal(t, exitFailed, second.run(soon(t), []string{"card", "rm", "alice"}))
	c.works(t)
	c.end()
	require.Zero(t, second.run(soon(t), []string{"card", "rm", "alice"}))
	require.NoFileExists(t, c.path)
	left, err := os.ReadDir(c.state)
	require.NoError(t, err)
	require.Empty(t, left)
}
