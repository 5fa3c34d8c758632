//go:build linux

package control_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/emulator/control"
	"hsmemu/emulator/view"
	"hsmemu/vsmartcard/pcscd"
)

// newPrivate runs cards in a private daemon and gives the path of its socket.
func newPrivate(t *testing.T, names ...string) (*control.Private, string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	l, err := pcscd.Listen(path)
	require.NoError(t, err)
	var places []control.Placement
	for _, name := range names {
		places = append(places, control.Placement{
			Name: name, Card: newCard(t), Kept: kept{}, Reader: "Reader of " + name, Socket: filepath.Join(dir, name+".sock"),
		})
	}
	p, err := control.Start(context.Background(), l, path, places)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p, path
}

// takeUp connects a new client to the card in a reader.
func takeUp(t *testing.T, path, name string) *pcscd.Handle {
	t.Helper()
	c, err := pcscd.Dial(soon(t), path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	h, err := c.Connect(soon(t), "Reader of "+name, pcscd.Shared, pcscd.T1)
	require.NoError(t, err)
	return h
}

func query(t *testing.T, h *pcscd.Handle) {
	t.Helper()
	_, err := h.Transmit(soon(t), apdu.Command{INS: 0x20, P2: 0x81}.Bytes())
	require.NoError(t, err)
}

// Everything that had happened when the context ended is told, of several cards in
// the order of time, and each command with the connection that it came by.
func TestFollow_TellsTheFirstAndTheLast(t *testing.T) {
	t.Parallel()
	p, path := newPrivate(t, "alice", "bob")
	a, b, again := takeUp(t, path, "alice"), takeUp(t, path, "bob"), takeUp(t, path, "alice")
	ctx, cancel := context.WithCancel(soon(t))
	batches := control.Follow(ctx, p.Cards...)
	var want []string
	for range 50 {
		for _, one := range []struct {
			h          *pcscd.Handle
			card       string
			connection int
		}{{a, "alice", 1}, {b, "bob", 2}, {again, "alice", 3}} {
			query(t, one.h)
			want = append(want, fmt.Sprint(one.card, one.connection))
		}
	}
	cancel() // before anybody has looked
	var told []string
	for batch := range batches {
		for _, e := range batch {
			require.Equal(t, view.Command, e.Kind)
			require.Zero(t, e.Missed)
			require.Equal(t, os.Getpid(), e.Client.Process)
			require.NotEmpty(t, e.Client.Program)
			told = append(told, fmt.Sprint(e.Card, e.Client.Connection))
		}
	}
	require.Equal(t, want, told)
}

// When the process ends that runs a card, its observers have been told all of it.
func TestClient_WatchEndsWithTheLastCommand(t *testing.T) {
	t.Parallel()
	p, path := newPrivate(t, "alice")
	one, err := control.Dial(soon(t), filepath.Join(filepath.Dir(path), "alice.sock"))
	require.NoError(t, err)
	defer one.Close()
	h := takeUp(t, path, "alice")
	events, err := one.Watch(soon(t))
	require.NoError(t, err)
	const many = 300
	for range many {
		query(t, h)
	}
	require.NoError(t, p.Close())
	n := 0
	for e, err := range events {
		require.NoError(t, err)
		if e.Kind == view.Command {
			n++
		}
	}
	require.Equal(t, many, n)
}

// An observer that does not read does not hold up the end for long.
func TestFollow_EndsWithAnObserverThatSleeps(t *testing.T) {
	t.Parallel()
	p, path := newPrivate(t, "alice")
	conn, err := net.Dial("unix", filepath.Join(filepath.Dir(path), "alice.sock"))
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, `{"version":1,"do":"watch"}`+"\n")
	require.NoError(t, err)
	_, err = conn.Read(make([]byte, 1))
	require.NoError(t, err)
	h := takeUp(t, path, "alice")
	for range 3000 { // more than the socket takes
		query(t, h)
	}
	begun := time.Now()
	require.NoError(t, p.Close())
	require.Less(t, time.Since(begun), patience)
}

// What a program says through the control socket has the program's name, too.
func TestClient_WatchNamesThoseOfTheControlSocket(t *testing.T) {
	t.Parallel()
	c := newControlled(t, t.TempDir())
	events, err := c.dial(t).Watch(soon(t))
	require.NoError(t, err)
	_, event, err := c.dial(t).Exchange(soon(t), apdu.Command{INS: 0x20, P2: 0x81}.Bytes())
	require.NoError(t, err)
	require.Equal(t, os.Getpid(), event.Client.Process)
	require.Zero(t, event.Client.Connection)
	for e, err := range events {
		require.NoError(t, err)
		require.Equal(t, event.Client, e.Client)
		break
	}
}
