//go:build linux

package control_test

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

	"hsmemu/applet"
	"hsmemu/applet/client"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/control"
	"hsmemu/emulator/view"
	"hsmemu/vsmartcard/pcscd"
)

const patience = 2 * time.Minute

// shelf is a reader that only counts.
type shelf struct {
	ejected, inserted, reset, turns, powers, ends atomic.Int32
	stuck                                         chan struct{} // Eject waits for it, if there is one
}

var errShelf = errors.New("the reader is stuck")

func (s *shelf) Eject(context.Context) error {
	if s.stuck != nil {
		<-s.stuck
	}
	s.ejected.Add(1)
	return nil
}

func (s *shelf) Insert(context.Context) error { s.inserted.Add(1); return errShelf }
func (s *shelf) Reset() error                 { s.reset.Add(1); return nil }
func (s *shelf) Name() string                 { return "Shelf 3" }
func (s *shelf) Place() string                { return "on the shelf" }

func (s *shelf) Turn(context.Context) (control.Turn, error) {
	s.turns.Add(1)
	return free{s}, nil
}

type free struct{ *shelf }

func (f free) Power() error { f.powers.Add(1); return nil }
func (free) Tell()          {}
func (f free) End()         { f.ends.Add(1) }

// kept stands for the file of a card.
type kept struct{}

func (kept) Generation() uint64 { return 7 }
func (kept) Seal() string       { return "none" }

func newCard(t testing.TB) *emulator.Card {
	t.Helper()
	card, err := emulator.NewCard(chip.Order{Serial: "DENK9900001"}, emulator.System())
	require.NoError(t, err)
	return card
}

// controlled is a card whose control socket is open until end is called.
type controlled struct {
	card  *control.Card
	shelf *shelf
	path  string
	end   func()
}

func newControlled(t *testing.T, folder string) *controlled {
	t.Helper()
	require.NoError(t, os.MkdirAll(folder, 0o700))
	c := &controlled{card: control.New("alice", newCard(t), kept{}), shelf: &shelf{}, path: filepath.Join(folder, "alice.sock")}
	c.card.Reader = c.shelf
	ctx, cancel := context.WithCancel(context.Background())
	wait, err := c.card.Serve(ctx, c.path)
	require.NoError(t, err)
	c.end = func() {
		cancel()
		wait()
	}
	t.Cleanup(c.end)
	return c
}

// soon is a context for something that takes no time worth mentioning.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// dial reaches the card as a client does, and connect as anybody does.
func (c *controlled) dial(t *testing.T) *control.Client {
	t.Helper()
	one, err := control.Dial(soon(t), c.path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = one.Close() })
	return one
}

func (c *controlled) connect(t *testing.T) net.Conn {
	t.Helper()
	dir, err := os.Open(filepath.Dir(c.path))
	require.NoError(t, err)
	defer dir.Close()
	conn, err := net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(c.path)))
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// works checks that the socket answers as it should.
func (c *controlled) works(t *testing.T) {
	t.Helper()
	v, err := c.dial(t).Show(soon(t))
	require.NoError(t, err)
	require.Equal(t, "alice", v.Name)
	require.Equal(t, "Shelf 3", *v.Reader)
	require.EqualValues(t, 7, *v.Generation)
	require.Equal(t, os.Getpid(), v.Running.Process)
}

func TestClient_DoesWhatItSays(t *testing.T) {
	t.Parallel()
	c := newControlled(t, t.TempDir())
	one := c.dial(t)
	require.NoError(t, one.Eject(soon(t), false))
	require.EqualValues(t, 1, c.shelf.ejected.Load())
	v, err := one.Show(soon(t))
	require.NoError(t, err)
	require.Equal(t, &view.Running{Process: os.Getpid(), Place: "on the shelf", Ejected: true, Session: view.NotSelected, Start: []string{}}, v.Running)
	require.EqualError(t, one.Insert(soon(t)), errShelf.Error())
	v, err = one.Show(soon(t))
	require.NoError(t, err)
	require.False(t, v.Running.Ejected)
	require.NoError(t, one.Reset(soon(t), true))
	require.EqualValues(t, 1, c.shelf.reset.Load())

	require.ErrorIs(t, one.SetFault(soon(t), control.FaultSetting{Name: "nothing"}), emulator.ErrFault)
	require.NoError(t, one.SetFault(soon(t), control.FaultSetting{Name: "cut", Settings: []string{"bytes=500"}}))
	faults, err := one.Faults(soon(t))
	require.NoError(t, err)
	require.Equal(t, []string{"cut bytes=500"}, faults)
	require.NoError(t, one.ClearFaults(soon(t)))
	faults, err = one.Faults(soon(t))
	require.NoError(t, err)
	require.Empty(t, faults)

	// It is a card for a client of the application, too.
	info, err := client.New(one).Select(soon(t))
	require.NoError(t, err)
	require.EqualValues(t, 4, info.Major)
	answer, event, err := one.Exchange(soon(t), []byte{0x00, 0x20, 0x00, 0x81})
	require.NoError(t, err)
	require.Equal(t, []byte{0x6A, 0x88}, answer)
	require.Equal(t, "VERIFY user PIN → 6A88, referenced data not found", event.String())
	require.Equal(t, "00200081", *event.Header)

	_, err = control.Dial(soon(t), filepath.Join(filepath.Dir(c.path), "bob.sock"))
	require.ErrorIs(t, err, control.ErrNobody)
	_, err = control.Dial(soon(t), "/nowhere/bob.sock")
	require.ErrorIs(t, err, control.ErrNobody)
}

func TestClient_Restore(t *testing.T) {
	t.Parallel()
	c := newControlled(t, t.TempDir())
	other := newCard(t).Snapshot().Durable()
	one := c.dial(t)
	before := c.card.Card.Snapshot().Durable()
	_, err := one.Restore(soon(t), before, false)
	require.EqualError(t, err, errShelf.Error(), "the card was replaced, the reader did not take it")
	_, err = one.Restore(soon(t), other, false)
	require.ErrorIs(t, err, emulator.ErrForeign)
	require.EqualError(t, err, "the state is that of another device, "+other.Applet.Serial())
	require.EqualValues(t, 1, c.shelf.ejected.Load(), "what is not taken does not take the card out")
	require.True(t, emulator.Same(before, c.card.Card.Snapshot().Durable()))
	_, err = one.Restore(soon(t), other, true)
	require.EqualError(t, err, errShelf.Error())
	require.Equal(t, other.Applet.Device.Name, c.card.Card.Snapshot().Applet.Device.Name)

	ejected := c.shelf.ejected.Load()
	_, err = one.Restore(soon(t), chip.Durable{}, true)
	require.ErrorIs(t, err, applet.ErrState)
	require.Equal(t, ejected, c.shelf.ejected.Load(), "what is not taken does not take the card out")
}

// Commands of one conversation follow each other in one turn, with power; a
// pause, the end, and any other request end it.
func TestClient_HasTheCardForAConversation(t *testing.T) {
	t.Parallel()
	c := newControlled(t, t.TempDir())
	one := c.dial(t)
	turns := func(begun, powered, ended int) {
		t.Helper()
		require.Eventually(t, func() bool { return int(c.shelf.ends.Load()) == ended }, patience, time.Millisecond)
		require.EqualValues(t, begun, c.shelf.turns.Load())
		require.EqualValues(t, powered, c.shelf.powers.Load())
	}
	transmit := func() {
		t.Helper()
		_, err := one.Transmit(soon(t), []byte{0x00, 0x20, 0x00, 0x81})
		require.NoError(t, err)
	}
	transmit()
	transmit()
	turns(1, 2, 0)
	_, err := one.Show(soon(t))
	require.NoError(t, err)
	turns(1, 2, 1)
	transmit()
	turns(2, 3, 1)
	turns(2, 3, 2) // after a pause
	transmit()
	require.NoError(t, one.Close())
	turns(3, 4, 3)
}

// The control socket reaches the card as its reader does: through the faults, and
// only while it is in.
func TestClient_TransmitsAsTheReaderDoes(t *testing.T) {
	t.Parallel()
	c := newControlled(t, t.TempDir())
	one := c.dial(t)
	transmit := func() error {
		_, err := one.Transmit(soon(t), []byte{0x00, 0x20, 0x00, 0x81})
		return err
	}
	require.NoError(t, one.SetFault(soon(t), control.FaultSetting{Name: "transmit"}))
	require.EqualError(t, transmit(), "transmission failed on demand")
	require.NoError(t, transmit())
	require.NoError(t, one.SetFault(soon(t), control.FaultSetting{Name: "unwrap"}))
	answer, event, err := one.Exchange(soon(t), []byte{0x80, 0x74, 0x01, 0x93})
	require.NoError(t, err)
	require.Equal(t, []byte{0x6A, 0x84}, answer)
	require.Nil(t, event, "the card did not see it")
	require.NoError(t, one.SetFault(soon(t), control.FaultSetting{Name: "mute"}))
	require.ErrorIs(t, transmit(), emulator.ErrMute)
	require.NoError(t, one.ClearFaults(soon(t)))

	require.NoError(t, one.SetFault(soon(t), control.FaultSetting{Name: "remove"}))
	require.ErrorIs(t, transmit(), control.ErrEjected)
	v, err := one.Show(soon(t))
	require.NoError(t, err)
	require.True(t, v.Running.Ejected)
	err = transmit()
	require.ErrorIs(t, err, control.ErrEjected)
	require.EqualError(t, err, "the card is out of its reader")
	require.EqualError(t, one.Insert(soon(t)), errShelf.Error())
	require.NoError(t, transmit())
	require.NoError(t, one.Eject(soon(t), false))
	require.ErrorIs(t, transmit(), control.ErrEjected)
}

func TestClient_Watch(t *testing.T) {
	t.Parallel()
	c := newControlled(t, t.TempDir())
	ctx, cancel := context.WithCancel(soon(t))
	defer cancel()
	events, err := c.dial(t).Watch(ctx)
	require.NoError(t, err)
	one := c.dial(t)
	go func() {
		for range 3 {
			_, _ = one.Transmit(ctx, []byte{0x00, 0x20, 0x00, 0x81})
		}
	}()
	n := 0
	for e, err := range events {
		require.NoError(t, err)
		require.Equal(t, "6D00", *e.SW)
		if n++; n == 3 {
			cancel()
		}
	}
	require.Equal(t, 3, n)

	events, err = c.dial(t).Watch(soon(t))
	require.NoError(t, err)
	c.end()
	for e, err := range events {
		require.Fail(t, "nothing after the end", "%v %v", e, err)
	}
}

// Whoever follows a card sees what is done to it, and what became of a command
// that was not answered.
func TestClient_WatchSeesWhatIsDoneToTheCard(t *testing.T) {
	t.Parallel()
	c := newControlled(t, t.TempDir())
	events, err := c.dial(t).Watch(soon(t))
	require.NoError(t, err)
	one := c.dial(t)
	query := []byte{0x00, 0x20, 0x00, 0x81}
	require.NoError(t, one.SetFault(soon(t), control.FaultSetting{Name: "transmit"}))
	_, event, err := one.Exchange(soon(t), query)
	require.Error(t, err)
	require.Nil(t, event)
	require.NoError(t, c.card.Card.Reset())
	require.NoError(t, one.SetFault(soon(t), control.FaultSetting{Name: "remove"}))
	_, _, err = one.Exchange(soon(t), query)
	require.Error(t, err)
	require.EqualError(t, one.Insert(soon(t)), errShelf.Error())
	require.NoError(t, one.ClearFaults(soon(t)))
	_, err = one.Restore(soon(t), c.card.Card.Snapshot().Durable(), false)
	require.EqualError(t, err, errShelf.Error())
	want := []view.Kind{
		view.FaultSet, view.Struck, view.Reset, view.FaultSet, view.CutShort, view.Eject, view.Insert, view.FaultSet, view.Eject, view.Restore, view.Insert,
	}
	var kinds []view.Kind
	for e, err := range events {
		require.NoError(t, err)
		if e.Kind == view.Struck || e.Kind == view.CutShort {
			require.Equal(t, "00200081", *e.Header)
		}
		if kinds = append(kinds, e.Kind); len(kinds) == len(want) {
			break
		}
	}
	require.Equal(t, want, kinds)
}

// line sends one line and returns what comes back.
func (c *controlled) line(t *testing.T, text string) string {
	t.Helper()
	conn := c.connect(t)
	_, err := io.WriteString(conn, text+"\n")
	require.NoError(t, err)
	answer, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSuffix(answer, "\n")
}

// A request of another version, or of a verb that came later, is refused in
// words.
func TestServer_RefusesOtherVersions(t *testing.T) {
	t.Parallel()
	c := newControlled(t, t.TempDir())
	for said, want := range map[string]string{
		`{"version":2,"do":"show"}`:                       `{"version":1,"error":{"code":"version","words":"request of version 2: this process speaks version 1"}}`,
		`{"do":"show"}`:                                   `{"version":1,"error":{"code":"version","words":"request of version 0: this process speaks version 1"}}`,
		`{"version":1,"do":"explode"}`:                    `{"version":1,"error":{"code":"verb","words":"request \"explode\" not known"}}`,
		`{"version":1,"do":"transmit","args":{"apdu":7}}`: `{"version":1,"error":{"code":"malformed","words":"request not understood: JSON of another form"}}`,
		`{"version":1`:                                    `{"version":1,"error":{"code":"malformed","words":"request not understood: not JSON at byte 12"}}`,
	} {
		require.Equal(t, want, c.line(t, said), said)
	}
	require.Zero(t, c.shelf.ejected.Load())
}

// Whatever somebody writes into the socket, the card goes on, and so does the
// conversation with everybody else.
func TestServer_HostileBytes(t *testing.T) {
	t.Parallel()
	c := newControlled(t, t.TempDir())
	random := make([]byte, 1<<16)
	r := rand.NewChaCha8([32]byte{1})
	_, err := r.Read(random)
	require.NoError(t, err)
	const most = 1 << 20
	verb := func(do, args string) []byte {
		return fmt.Appendf(nil, `{"version":1,"do":%q,"args":%s}`+"\n", do, args)
	}
	for name, bad := range map[string][]byte{
		"nothing":           nil,
		"an empty line":     []byte("\n"),
		"zeros":             make([]byte, 4096),
		"random":            append(random, '\n'),
		"no end of line":    []byte(`{"version":1,"do":"sho`),
		"a number":          []byte("42\n"),
		"null":              []byte("null\n"),
		"a list":            []byte("[]\n"),
		"a wrong type":      []byte(`{"version":1,"do":7}` + "\n"),
		"two objects":       []byte(`{"do":"show"}{"do":"show"}` + "\n"),
		"deep":              append(bytes.Repeat([]byte("["), 1<<18), '\n'),
		"a line too long":   append(bytes.Repeat([]byte("x"), 2*most), '\n'),
		"100 MB":            append(bytes.Repeat([]byte("["), 100<<20), '\n'),
		"a command of 1 MB": verb("transmit", `{"apdu":"`+strings.Repeat("AAAA", most/4-100)+`"}`),
		"no command":        verb("transmit", `{"apdu":"%%"}`),
		"a broken state":    verb("restore", `{"state":{"applet":[]}}`),
		"no state":          verb("restore", `{}`),
		"the null state":    verb("restore", `{"state":null,"force":true}`),
		"a wrong fault":     verb("fault", `{"name":"","settings":["=","\u0000"]}`),
		"no fault":          verb("fault", `null`),
	} {
		t.Run(name, func(t *testing.T) {
			conn := c.connect(t)
			_, _ = conn.Write(bad) // the other side may have had enough already
			require.NoError(t, conn.(*net.UnixConn).CloseWrite())
			answer, err := io.ReadAll(conn)
			if err == nil {
				for line := range bytes.Lines(answer) {
					var r struct{ Version int }
					require.NoError(t, json.Unmarshal(line, &r), "%s", line)
					require.Equal(t, 1, r.Version)
				}
			}
			c.works(t)
		})
	}
	require.Zero(t, c.shelf.ejected.Load()+c.shelf.inserted.Load()+c.shelf.reset.Load())
	require.False(t, c.card.Card.Snapshot().Applet.PINs.Initialised)
}

// Those who connect and say nothing keep nobody waiting, neither their
// neighbours nor the end.
func TestServer_SilentOnes(t *testing.T) {
	t.Parallel()
	c := newControlled(t, t.TempDir())
	for range 100 {
		c.connect(t)
	}
	observer := c.connect(t)
	_, err := io.WriteString(observer, `{"version":1,"do":"watch"}`+"\n")
	require.NoError(t, err)
	lines := bufio.NewScanner(observer)
	require.True(t, lines.Scan(), "watching")
	_, err = io.WriteString(observer, "what one says while watching is not heard\n")
	require.NoError(t, err)
	c.works(t)
	answer, err := c.dial(t).Transmit(soon(t), []byte{0x00, 0x20, 0x00, 0x81})
	require.NoError(t, err)
	require.Equal(t, []byte{0x6D, 0x00}, answer)
	require.True(t, lines.Scan(), "a line for the command")
	require.Contains(t, lines.Text(), "6D00")
	c.end()
	require.False(t, lines.Scan(), "nothing after the end")
	if err := lines.Err(); !errors.Is(err, syscall.ECONNRESET) { // what nobody had read yet is answered so
		require.NoError(t, err)
	}
}

// A socket's address has room for 107 bytes; folders have longer names.
func TestServer_LongPaths(t *testing.T) {
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
			c.end()
			require.NoFileExists(t, c.path)
			_, err = control.Dial(soon(t), c.path)
			require.ErrorIs(t, err, control.ErrNobody)
		})
	}
}

// What a process that was killed leaves behind is nobody's, and is replaced.
func TestServer_StaleSocket(t *testing.T) {
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
			folder, err := os.MkdirTemp("", "c") //nolint:usetesting // a short path: the name of a socket has 107 characters at most
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, os.RemoveAll(folder)) })
			path := filepath.Join(folder, "alice.sock")
			leave(t, path)
			_, err = control.Dial(soon(t), path)
			require.ErrorIs(t, err, control.ErrNobody)
			newControlled(t, folder).works(t)
		})
	}
}

// answering is a process that answers the first request so, and is no server of
// ours.
func answering(t *testing.T, answer string, hangUp bool) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "c") //nolint:usetesting // a short path: the name of a socket has 107 characters at most
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(folder)) })
	path := filepath.Join(folder, "alice.sock")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = conn.Close() })
		_, _ = bufio.NewReader(conn).ReadString('\n')
		_, _ = io.WriteString(conn, answer)
		if hangUp {
			_ = conn.Close()
		}
	}()
	return path
}

// The process that runs a card may die, be of another version, or be another
// program altogether.
func TestClient_TheOtherSideFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer string
		want   error
		words  string
	}{
		"hangs up":              {"", control.ErrEnded, "the process that runs the card ended"},
		"breaks off":            {`{"vers`, control.ErrMalformed, "reply not understood: not JSON at byte 6"},
		"is something else":     {"SSH-2.0-OpenSSH_9.2\r\n", control.ErrMalformed, "reply not understood: not JSON at byte 1"},
		"is newer":              {`{"version":2,"result":{}}` + "\n", control.ErrVersion, "the process that runs the card is of another version: 2, this program speaks 1"},
		"is older":              {`{"view":{}}` + "\n", control.ErrVersion, "the process that runs the card is of another version: 0, this program speaks 1"},
		"says no":               {`{"version":1,"error":{"code":"busy","words":"no"}}` + "\n", control.ErrBusy, "no"},
		"says what we know not": {`{"version":1,"error":{"code":"tired","words":"no"}}` + "\n", nil, "no"},
		"no result":             {`{"version":1}` + "\n", control.ErrMalformed, "reply not understood: no result"},
		"another result":        {`{"version":1,"result":[]}` + "\n", control.ErrMalformed, "reply not understood: JSON of another form"},
		"100 MB":                {strings.Repeat("x", 100<<20), control.ErrMalformed, "reply not understood: a line of more than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			one, err := control.Dial(soon(t), answering(t, c.answer, true))
			require.NoError(t, err)
			_, err = one.Show(soon(t))
			require.EqualError(t, err, c.words)
			if c.want != nil {
				require.ErrorIs(t, err, c.want)
			}
			require.NoError(t, one.Close())
		})
	}
}

// What ended one request does not end the next: who interrupts an import can still
// log out.
func TestClient_GoesOnAfterAnInterruption(t *testing.T) {
	t.Parallel()
	c := newControlled(t, t.TempDir())
	one := c.dial(t)
	c.shelf.stuck = make(chan struct{})
	ctx, cancel := context.WithCancel(soon(t))
	time.AfterFunc(20*time.Millisecond, cancel)
	require.ErrorIs(t, one.Eject(ctx, true), context.Canceled)
	close(c.shelf.stuck)
	require.ErrorIs(t, one.Reset(ctx, true), context.Canceled, "an ended context asks nothing")
	_, err := one.Show(soon(t))
	require.NoError(t, err)
	require.NoError(t, one.Close())
	require.NoError(t, one.Close())
}

// Who closes a client does not wait for what it is doing, and nothing makes a
// closed client's connection anew.
func TestClient_CloseEndsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	c := newControlled(t, t.TempDir())
	c.shelf.stuck = make(chan struct{})
	defer close(c.shelf.stuck)
	one := c.dial(t)
	failed := make(chan error, 1)
	go func() { failed <- one.Eject(soon(t), true) }()
	require.NoError(t, one.Close())
	require.Error(t, <-failed)
	for range 2 {
		_, err := one.Show(soon(t))
		require.ErrorIs(t, err, net.ErrClosed)
	}
	require.NoError(t, one.Close())
}

// A reply that never comes is given up after some seconds, or with the context.
func TestClient_AReplyThatNeverComes(t *testing.T) {
	t.Parallel()
	one, err := control.Dial(soon(t), answering(t, "", false))
	require.NoError(t, err)
	one.Hurry(50 * time.Millisecond)
	_, err = one.Show(soon(t))
	require.Equal(t, control.ErrSilent, err)

	// Also for what may take long, and for whoever waits for a turn.
	one, err = control.Dial(soon(t), answering(t, "", false))
	require.NoError(t, err)
	one.Hurry(time.Second)
	waiting := make(chan error, 1)
	go func() {
		_, err := one.Transmit(soon(t), []byte{0, 0x20, 0, 0x81})
		waiting <- err
	}()
	impatient, end := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer end()
	_, err = one.Show(impatient)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, <-waiting, control.ErrSilent)

	one, err = control.Dial(soon(t), answering(t, "", false))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(soon(t))
	cancel()
	require.ErrorIs(t, one.Eject(ctx, false), context.Canceled)
}

// So many can follow a card and talk to it, and no more; they are told.
func TestServer_BoundsItsConnections(t *testing.T) {
	t.Parallel()
	c := newControlled(t, t.TempDir())
	const most, following = 200, 16
	for range following {
		_, err := c.dial(t).Watch(soon(t))
		require.NoError(t, err)
	}
	_, err := c.dial(t).Watch(soon(t))
	require.ErrorIs(t, err, control.ErrBusy)
	require.EqualError(t, err, "too many are following this card")
	// The connection of the one too many may end later than it is told so.
	var crowd []*control.Client
	require.Eventually(t, func() bool {
		for len(crowd) < most-following {
			one := c.dial(t)
			if _, err := one.Show(soon(t)); err != nil {
				require.ErrorIs(t, err, control.ErrBusy)
				return false
			}
			crowd = append(crowd, one)
		}
		return true
	}, patience, time.Millisecond)
	for range 20 {
		_, err = c.dial(t).Show(soon(t))
		require.ErrorIs(t, err, control.ErrBusy)
		require.EqualError(t, err, "too many are talking to this card")
	}
	for _, one := range crowd {
		_, err := one.Show(soon(t))
		require.NoError(t, err)
	}
}

// A private daemon puts cards into readers where clients of PC/SC find them.
func TestStart(t *testing.T) {
	t.Parallel()
	folder, err := os.MkdirTemp("", "c") //nolint:usetesting // a short path: the name of a socket has 107 characters at most
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(folder)) })
	socket := filepath.Join(folder, "pcscd.comm")
	l, err := pcscd.Listen(socket)
	require.NoError(t, err)
	released := 0
	place := func(name, reader string) control.Placement {
		return control.Placement{Name: name, Card: newCard(t), Kept: kept{}, Reader: reader, Socket: filepath.Join(folder, name+".sock"), Release: func() error { released++; return nil }}
	}
	d, err := control.Start(t.Context(), l, socket, control.Places{place("alice", ""), place("bob", "Bob's reader")})
	require.NoError(t, err)
	require.Equal(t, "Bob's reader", d.Names[1])

	pc, err := pcscd.Dial(soon(t), socket)
	require.NoError(t, err)
	h, err := pc.Connect(soon(t), d.Names[0], pcscd.Shared, pcscd.T1)
	require.NoError(t, err)
	_, err = client.New(h).Select(soon(t))
	require.NoError(t, err)
	one, err := control.Dial(soon(t), filepath.Join(folder, "alice.sock"))
	require.NoError(t, err)
	_, err = one.Transmit(soon(t), []byte{0x00, 0x20, 0x00, 0x81})
	require.NoError(t, err)
	began := make(chan error, 1)
	go func() { began <- h.Begin(soon(t)) }()
	require.Never(t, func() bool { return len(began) > 0 }, 50*time.Millisecond, time.Millisecond, "the conversation has the card")
	require.NoError(t, one.Close())
	require.NoError(t, <-began)
	one, err = control.Dial(soon(t), filepath.Join(folder, "alice.sock"))
	require.NoError(t, err)
	impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, one.Eject(impatient, false), context.DeadlineExceeded)
	one, err = control.Dial(soon(t), filepath.Join(folder, "alice.sock"))
	require.NoError(t, err)
	require.NoError(t, one.Eject(soon(t), true))
	_, err = h.Transmit(soon(t), []byte{0, 0xA4, 4, 0})
	require.ErrorIs(t, err, pcscd.ErrRemoved)
	require.NoError(t, one.Insert(soon(t)))
	require.NoError(t, one.Insert(soon(t)), "it is in already")

	alone, err := pc.Connect(soon(t), d.Names[1], pcscd.Exclusive, pcscd.T1)
	require.NoError(t, err)
	two, err := control.Dial(soon(t), filepath.Join(folder, "bob.sock"))
	require.NoError(t, err)
	err = two.Reset(soon(t), false)
	require.ErrorIs(t, err, control.ErrInUse)
	require.Regexp(t, fmt.Sprintf(`taken for itself by .+, process %d$`, os.Getpid()), err.Error())
	require.NoError(t, alone.Disconnect(soon(t), pcscd.Leave))
	require.Zero(t, released)
	require.NoError(t, d.Close())
	require.Equal(t, 2, released)
	_, err = control.Dial(soon(t), filepath.Join(folder, "alice.sock"))
	require.ErrorIs(t, err, control.ErrNobody)
}
