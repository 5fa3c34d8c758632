package pcscd_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard/pcscd"
)

// in is a context for something that is not to happen.
func in(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// The reader's owner waits for the end of a transaction, and is told whose it is
// if that takes too long.
func TestTurn_ComesAfterATransaction(t *testing.T) {
	t.Parallel()
	s := newService(t)
	h := s.connect(s.client())
	require.NoError(t, h.Begin(soon(t)))
	_, err := s.reader.Turn(in(t, 20*time.Millisecond))
	used, is := errors.AsType[*pcscd.InUseError](err)
	require.True(t, is, "%v", err)
	require.False(t, used.Exclusive)
	require.Contains(t, used.Client, fmt.Sprintf(", process %d", os.Getpid()))
	waiting := at(func() error {
		turn, err := s.reader.Turn(soon(t))
		if err == nil {
			turn.End()
		}
		return err
	})
	require.NoError(t, h.End(soon(t), pcscd.Leave))
	require.NoError(t, <-waiting)
}

// It is refused at once by a client that has the card for itself.
func TestTurn_IsRefusedByAnExclusiveHandle(t *testing.T) {
	t.Parallel()
	s := newService(t)
	c := s.client()
	h, err := c.Connect(soon(t), s.reader.Name(), pcscd.Exclusive, pcscd.T1)
	require.NoError(t, err)
	_, err = s.reader.Turn(soon(t))
	require.ErrorContains(t, err, "the card is taken for itself by ")
	require.NoError(t, h.Disconnect(soon(t), pcscd.Leave))
	turn, err := s.reader.Turn(soon(t))
	require.NoError(t, err)
	turn.End()
}

// Clients wait for its end, whatever they want of the card; none is turned away.
func TestTurn_KeepsClientsFromTheCard(t *testing.T) {
	t.Parallel()
	s := newService(t)
	h := s.connect(s.client())
	turn, err := s.reader.Turn(soon(t))
	require.NoError(t, err)
	_, err = s.reader.Turn(in(t, 20*time.Millisecond))
	require.ErrorContains(t, err, "another command of its owner")
	late := s.client()
	connected := at(func() error {
		_, err := late.Connect(soon(t), s.reader.Name(), pcscd.Shared, pcscd.T1)
		return err
	})
	sent := at(func() error {
		_, err := h.Transmit(soon(t), []byte{0, 1, 2, 3})
		return err
	})
	require.Never(t, func() bool { return len(s.card.seen()) > 0 }, 30*time.Millisecond, time.Millisecond)
	turn.End()
	require.NoError(t, <-sent)
	require.NoError(t, <-connected)
	require.Len(t, s.card.seen(), 1)
}

// What ends the clients' logins is told to them as a reset is, though the card
// has not been reset; a removal in a turn is a removal.
func TestTurn_Tells(t *testing.T) {
	t.Parallel()
	s := newService(t)
	h := s.connect(s.client())
	resets := s.card.resetCount()
	turn, err := s.reader.Turn(soon(t))
	require.NoError(t, err)
	turn.Tell()
	turn.End()
	_, err = h.Transmit(soon(t), []byte{0, 1, 2, 3})
	require.ErrorIs(t, err, pcscd.ErrReset)
	require.Equal(t, resets, s.card.resetCount())
	require.NoError(t, h.Reconnect(soon(t), pcscd.Leave))
	_, err = h.Transmit(soon(t), []byte{0, 1, 2, 3})
	require.NoError(t, err)

	turn, err = s.reader.Turn(soon(t))
	require.NoError(t, err)
	require.NoError(t, s.reader.Eject())
	turn.End()
	require.ErrorIs(t, h.Status(soon(t)), pcscd.ErrRemoved)
}

// A transaction that ends just when the owner's patience does leaves nobody to
// name.
func TestTurn_PatienceEndsWithTheTransaction(t *testing.T) {
	t.Parallel()
	s := newService(t)
	h := s.connect(s.client())
	for range 2000 {
		require.NoError(t, h.Begin(soon(t)))
		ctx, cancel := context.WithCancel(t.Context())
		waiting := at(func() error {
			turn, err := s.reader.Turn(ctx)
			if err == nil {
				turn.End()
			}
			return err
		})
		go cancel()
		require.NoError(t, h.End(soon(t), pcscd.Leave))
		if err := <-waiting; err != nil {
			_, is := errors.AsType[*pcscd.InUseError](err)
			require.True(t, is, "%v", err)
		}
	}
}

// A turn that begins while a client's reset is under way keeps the card: the
// client does not get it for itself.
func TestTurn_BeginsDuringAReset(t *testing.T) {
	t.Parallel()
	s := newService(t)
	w := wire{t, s.raw()}
	h := w.handle(name0)
	started, release := make(chan bool), make(chan bool)
	s.card.resetsWith(func() error {
		close(started)
		<-release
		return nil
	})
	w.send(0x05, join(word(h), word(1), word(2), word(1), word(0), word(0)), nil)
	<-started
	s.card.resetsWith(nil)
	turn, err := s.reader.Turn(soon(t))
	require.NoError(t, err)
	close(release)
	require.Equal(t, pcscd.ErrSharingViolation, codeAt(w.read(24), 20))
	turn.End()
	turn, err = s.reader.Turn(soon(t))
	require.NoError(t, err, "nobody has the card")
	turn.End()
	require.EqualValues(t, 1, s.state(s.client()).Sharing)
}

// As pcscd, a daemon has 200 clients at most, who all are served. Who comes next
// is hung up on, and there is room again when one has gone.
func TestServer_TakesSoManyClientsAndNoMore(t *testing.T) {
	t.Parallel()
	s := newService(t)
	h := s.connect(s.client())
	var crowd []*pcscd.Client
	for range pcscd.ClientsMax - 1 {
		crowd = append(crowd, s.client())
	}
	one := s.raw()
	require.NoError(t, one.SetDeadline(time.Now().Add(patience)))
	_, err := one.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	for _, c := range crowd {
		require.NotEmpty(t, s.state(c).Name)
	}
	_, err = h.Transmit(soon(t), []byte{0, 1, 2, 3})
	require.NoError(t, err)
	require.NoError(t, crowd[0].Close())
	require.Eventually(t, func() bool {
		conn, err := net.Dial("unix", s.path)
		require.NoError(t, err)
		c, err := pcscd.Open(soon(t), conn, 6)
		if err != nil {
			return false
		}
		return c.Close() == nil
	}, patience, 10*time.Millisecond)
}
