//go:build linux

package control_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/emulator"
	"hsmemu/emulator/control"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
	"hsmemu/emulator/view"
	"hsmemu/keystore/seal"
)

// newFolder is a state folder with a card, alice.
func newFolder(t *testing.T) *statedir.Dir {
	t.Helper()
	plain := store.Options{Sealers: []seal.Sealer{seal.Insecure{}}}
	d, err := statedir.Open(filepath.Join(t.TempDir(), "state"), plain)
	require.NoError(t, err)
	require.NoError(t, d.Make("alice", statedir.Order{}, plain, emulator.System()))
	return d
}

// run runs alice on a shelf, with her control socket, until end is called.
func run(t *testing.T, d *statedir.Dir) (on *shelf, end func()) {
	t.Helper()
	held, err := d.Run("alice", emulator.System())
	require.NoError(t, err)
	socket, err := d.Socket("alice")
	require.NoError(t, err)
	card := control.New("alice", held.Card, held)
	on = &shelf{}
	card.Reader = on
	ctx, cancel := context.WithCancel(context.Background())
	wait, err := card.Serve(ctx, socket)
	require.NoError(t, err)
	return on, func() {
		cancel()
		wait()
		require.NoError(t, held.Close())
	}
}

// A session is with the process that runs the card, else with the card's file, which
// it gives back.
func TestOpen_GoesToWhoeverHasTheCard(t *testing.T) {
	t.Parallel()
	d := newFolder(t)
	selectIt := apdu.SelectApplication().Bytes()
	begin := func(shared bool) *control.Session {
		s, err := control.Open(soon(t), d, "alice", emulator.System())
		require.NoError(t, err)
		require.Equal(t, shared, s.Shared)
		for range 2 { // what is told of a command is told with it, also after one that nobody asked about
			answer, err := s.Transmit(soon(t), selectIt)
			require.NoError(t, err)
			require.Equal(t, []byte{0x90, 0x00}, answer[len(answer)-2:])
			answer, meant, err := s.Exchange(soon(t), []byte{0x00, 0x20, 0x00, 0x81})
			require.NoError(t, err)
			require.NotNil(t, meant)
			require.Equal(t, "00200081", *meant.Header)
			require.Len(t, answer, 2)
		}
		return s
	}

	s := begin(false)
	require.ErrorAs(t, d.Held("alice"), new(*store.LockedError))
	require.NoError(t, s.Close())
	require.NoError(t, d.Held("alice"))

	on, end := run(t, d)
	s = begin(true)
	require.NoError(t, s.Close())
	require.NotZero(t, on.turns.Load())
	end()

	_, err := control.Open(soon(t), d, "bob", emulator.System())
	require.ErrorIs(t, err, statedir.ErrNoCard)
	_, err = control.Open(soon(t), d, "../bob", emulator.System())
	require.ErrorIs(t, err, statedir.ErrName)
}

// What is told of a card comes from the process that runs it, else from its file.
func TestShow_AsksWhoeverHasTheCard(t *testing.T) {
	t.Parallel()
	d := newFolder(t)
	fromFile, err := control.Show(soon(t), d, "alice")
	require.NoError(t, err)
	require.Nil(t, fromFile.Refused)
	require.Nil(t, fromFile.Running)
	_, err = control.ShowRunning(soon(t), d, "alice")
	require.ErrorIs(t, err, control.ErrNobody)
	require.EqualError(t, err, `show card "alice": no process runs this card`)

	_, end := run(t, d)
	running, err := control.Show(soon(t), d, "alice")
	require.NoError(t, err)
	require.NotNil(t, running.Running)
	require.Equal(t, os.Getpid(), running.Running.Process)
	require.Equal(t, fromFile.Serial, running.Serial)
	err = control.Ask(soon(t), d, "eject", "alice", func(c *control.Client) error { return c.Insert(soon(t)) })
	require.EqualError(t, err, `eject card "alice": the reader is stuck`)
	end()

	_, err = control.Show(soon(t), d, "bob")
	require.EqualError(t, err, `open card "bob": there is no such card`)
}

// A state goes into the reader of the process that runs the card, else into its file.
func TestRestore_GoesToWhoeverHasTheCard(t *testing.T) {
	t.Parallel()
	d := newFolder(t)
	foreign := newCard(t).Snapshot().Durable()
	serial := func() string {
		state, _, err := d.Read("alice")
		require.NoError(t, err)
		return state.Applet.Device.Name
	}
	own := serial()
	restore := func(force bool) ([]string, error) {
		return control.Restore(soon(t), d, "alice", foreign, force, emulator.System())
	}
	_, err := restore(false)
	require.ErrorIs(t, err, emulator.ErrForeign)
	require.EqualError(t, err, `restore card "alice": the state is that of another device, `+foreign.Applet.Serial())
	require.Equal(t, own, serial())

	on, end := run(t, d)
	_, err = restore(false)
	require.ErrorIs(t, err, emulator.ErrForeign)
	_, err = restore(true)
	require.EqualError(t, err, `restore card "alice": `+errShelf.Error(), "the card was replaced, the reader did not take it")
	require.EqualValues(t, 1, on.ejected.Load())
	require.Equal(t, foreign.Applet.Device.Name, serial())
	end()

	foreign = newCard(t).Snapshot().Durable()
	undone, err := restore(true)
	require.NoError(t, err)
	require.Equal(t, []string{"it is another device now, " + foreign.Applet.Serial()}, undone)
	require.Equal(t, foreign.Applet.Device.Name, serial())
	require.NoError(t, d.Held("alice"))
}

// A list tells of a card what its process tells, or its file, and of a sealed one only
// what anybody can see: nobody is asked for a passphrase.
func TestSummary(t *testing.T) {
	t.Parallel()
	d := newFolder(t)
	asked := store.Options{Sealers: []seal.Sealer{seal.Passphrase{Ask: func() ([]byte, error) { return []byte("one"), nil }}}}
	require.NoError(t, d.Make("safe", statedir.Order{}, asked, emulator.System()))
	at := func(card string) view.Card {
		v, err := control.Summary(soon(t), d, card)
		require.NoError(t, err)
		return v
	}
	alone := at("alice")
	require.NotNil(t, alone.UserPIN)
	require.Nil(t, at("safe").UserPIN)
	_, end := run(t, d)
	require.NotEqual(t, alone, at("alice"), "it is in a reader")
	end()
	_, err := control.Summary(soon(t), d, "nobody")
	require.ErrorIs(t, err, statedir.ErrNoCard)
}

// A process that fails to answer is asked once: each question to one that is stopped takes
// some seconds.
func TestSummary_AsksOnce(t *testing.T) {
	t.Parallel()
	d := newFolder(t)
	socket, err := d.Socket("alice")
	require.NoError(t, err)
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	var asked atomic.Int32
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			_ = conn.Close()
		}
	}()
	_, err = control.Summary(soon(t), d, "alice")
	require.ErrorIs(t, err, control.ErrEnded)
	require.NoError(t, l.Close())
	<-ended
	require.EqualValues(t, 1, asked.Load())
}

// What cannot be read is listed with the reason, and hides no other.
func TestList(t *testing.T) {
	t.Parallel()
	d := newFolder(t)
	why := func(err error) string { return "why: " + err.Error() }
	require.NoError(t, d.Snapshot("alice", "b"))
	require.NoError(t, os.WriteFile(filepath.Join(d.Path(), "bad.card"), []byte("x"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(d.Path(), "snapshots", "alice", "a.card"), []byte("x"), 0o600))
	cards, err := control.List(soon(t), d, why)
	require.NoError(t, err)
	require.Len(t, cards, 2)
	require.Equal(t, []string{"alice", "bad"}, []string{cards[0].Name, cards[1].Name})
	require.Nil(t, cards[0].Refused)
	require.Equal(t, view.Unreadable, cards[1].Refused.Reason)
	require.Contains(t, cards[1].Refused.Text, "why: ")

	kept, err := control.Snapshots(d, "alice", why)
	require.NoError(t, err)
	require.Len(t, kept, 2)
	require.Equal(t, []string{"a", "b"}, []string{kept[0].Tag, kept[1].Tag})
	require.Contains(t, kept[0].Refused.Text, "why: ")
	require.Nil(t, kept[0].Generation)
	require.Equal(t, "none", *kept[1].Seal)
	_, err = control.Snapshots(d, "nobody", why)
	require.ErrorIs(t, err, statedir.ErrNoCard)
}

// Why a file is refused, for programs and for people.
func TestRefusalOf(t *testing.T) {
	t.Parallel()
	for reason, err := range map[view.Reason]error{
		view.OlderThanCounter: fmt.Errorf("%w: x.card: generation 1, counter 2", store.ErrRolledBack),
		view.NewerThanCounter: fmt.Errorf("x: %w", store.ErrAhead),
		view.CounterGone:      seal.ErrNoCounter,
	} {
		r := control.RefusalOf(err)
		require.Equal(t, reason, r.Reason)
		require.NotContains(t, r.Text, "x")
	}
	require.Equal(t, view.Refusal{Reason: view.CounterFailed, Text: "one; t\uFFFDo"}, control.RefusalOf(errors.New("one\nt\x1bo")))
}
