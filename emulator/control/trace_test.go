//go:build linux

package control_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/control"
	"hsmemu/emulator/view"
)

// full is a disk without room.
type full struct{ err error }

func (f full) Write([]byte) (int, error) { return 0, f.err }

// A trace has everything that had happened at its end, and a card that is traced to a
// full disk goes on.
func TestTrace(t *testing.T) {
	t.Parallel()
	p, path := newPrivate(t, "alice", "bob")
	var out bytes.Buffer
	end := control.Trace(&out, view.Lines, p.Cards...)
	noRoom := errors.New("no room")
	endFull := control.Trace(full{noRoom}, view.Lines, p.Cards[0])
	query(t, takeUp(t, path, "alice"))
	query(t, takeUp(t, path, "bob"))
	require.NoError(t, end())
	require.Equal(t, 2, strings.Count(out.String(), "00200081"), out.String())
	require.Contains(t, out.String(), "alice  ")
	require.Contains(t, out.String(), "bob  ")
	query(t, takeUp(t, path, "alice"))
	require.ErrorIs(t, endFull(), noRoom)
}

// A client's trace begins when its writer is made, ends with the card's process, and
// tells what could not be written.
func TestClient_Trace(t *testing.T) {
	t.Parallel()
	c := newControlled(t, t.TempDir())
	var out bytes.Buffer
	ended := make(chan error, 1)
	following := make(chan struct{})
	traced := c.dial(t)
	go func() {
		ended <- traced.Trace(soon(t), &out, func(w io.Writer) (view.Writer, error) {
			close(following)
			return view.Lines(w), nil
		})
	}()
	<-following
	one := c.dial(t)
	noRoom := errors.New("no room")
	refused := c.dial(t).Trace(soon(t), &out, func(io.Writer) (view.Writer, error) { return nil, noRoom })
	require.ErrorIs(t, refused, noRoom)
	_, err := one.Transmit(soon(t), []byte{0x00, 0x20, 0x00, 0x81})
	require.NoError(t, err)
	c.end()
	require.NoError(t, <-ended)
	require.Equal(t, 1, strings.Count(out.String(), "00200081"), out.String())
}

// lost is a writer that loses an event, or what comes at the end.
type lost struct{ event, end error }

func (l lost) Event(string, view.Event) error { return l.event }

func (l lost) End() error { return l.end }

// A client's trace ends with the first event that could not be written, and tells that
// and what could not be written at the end.
func TestClient_TraceTellsWhatIsLost(t *testing.T) {
	t.Parallel()
	c := newControlled(t, t.TempDir())
	event, end := errors.New("no event"), errors.New("no end")
	ended, following := make(chan error, 1), make(chan struct{})
	traced := c.dial(t)
	go func() {
		ended <- traced.Trace(soon(t), io.Discard, func(io.Writer) (view.Writer, error) {
			close(following)
			return lost{event, end}, nil
		})
	}()
	<-following
	_, err := c.dial(t).Transmit(soon(t), []byte{0x00, 0x20, 0x00, 0x81})
	require.NoError(t, err)
	err = <-ended
	require.ErrorIs(t, err, event)
	require.ErrorIs(t, err, end)
}

// A client's trace ends when what it has gathered could not be written, without waiting for
// another event, and tells it once.
func TestClient_TraceEndsWhereItIsNotRead(t *testing.T) {
	t.Parallel()
	c := newControlled(t, t.TempDir())
	noRoom := errors.New("no room")
	for name, form := range map[string]func(io.Writer) view.Writer{
		"lines": view.Lines, "objects": view.Objects,
		"drawn": func(w io.Writer) view.Writer { return view.Drawn(w, view.Drawing{}) },
	} {
		ended, following := make(chan error, 1), make(chan struct{})
		traced := c.dial(t)
		go func() {
			ended <- traced.Trace(t.Context(), full{noRoom}, func(w io.Writer) (view.Writer, error) {
				close(following)
				return form(w), nil
			})
		}()
		<-following
		_, err := c.dial(t).Transmit(soon(t), []byte{0x00, 0x20, 0x00, 0x81})
		require.NoError(t, err)
		select {
		case err := <-ended:
			require.EqualError(t, err, "no room", name)
		case <-time.After(patience):
			require.Fail(t, "it goes on", name)
		}
	}
}

// calls counts the calls of a writer.
type calls struct {
	n int
	bytes.Buffer
}

func (c *calls) Write(p []byte) (int, error) { c.n++; return c.Buffer.Write(p) }

// What comes at once is written at once, and a failed write is told at once and by a later one.
func TestGather(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := &calls{}
		g := control.Gather(out, func() { t.Error("nothing is lost") })
		for range 100 {
			_, err := io.WriteString(g, "event\n")
			require.NoError(t, err)
		}
		<-time.After(time.Second)
		synctest.Wait() // until it is written
		require.Equal(t, strings.Repeat("event\n", 100), out.String())
		require.Equal(t, 1, out.n)
		_, err := io.WriteString(g, "event\n")
		require.NoError(t, err)
		require.NoError(t, g.Flush())
		require.Equal(t, 2, out.n)
		<-time.After(time.Second)
		synctest.Wait()
		require.Equal(t, 2, out.n, "nothing is left")
	})

	noRoom := errors.New("no room")
	lost := make(chan struct{})
	g := control.Gather(full{noRoom}, sync.OnceFunc(func() { close(lost) }))
	require.Eventually(t, func() bool {
		_, err := io.WriteString(g, "event\n")
		return errors.Is(err, noRoom)
	}, patience, 10*time.Millisecond)
	<-lost
}
