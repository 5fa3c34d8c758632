package vsmartcard_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard"
)

// slot is a vpcd that waits for cards.
type slot struct {
	tb testing.TB
	net.Listener
}

func newSlot(tb testing.TB, address string) slot {
	tb.Helper()
	var l net.Listener
	require.Eventually(tb, func() (free bool) { // a connection of somebody's may have got the port of a slot that was closed
		var err error
		l, err = net.Listen("tcp", address)
		return err == nil
	}, patience, time.Millisecond)
	tb.Cleanup(func() { _ = l.Close() })
	return slot{tb, l}
}

func (s slot) address() string { return s.Addr().String() }

func (s slot) take() driver {
	s.tb.Helper()
	conn, err := s.Accept()
	require.NoError(s.tb, err)
	s.tb.Cleanup(func() { _ = conn.Close() })
	return driver{s.tb, conn}
}

// run keeps b going until the test ends, and checks that it ends well.
func run(t *testing.T, b *vsmartcard.Bridge) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

func dial(t *testing.T, s slot, card vsmartcard.Card) *vsmartcard.Bridge {
	t.Helper()
	b, err := vsmartcard.Dial(soon(t), s.address(), card)
	require.NoError(t, err)
	return b
}

func TestDial_RefusedPortIsSaidClearly(t *testing.T) {
	t.Parallel()
	holds, err := net.Dial("tcp", newSlot(t, "127.0.0.1:0").address())
	require.NoError(t, err)
	defer holds.Close()
	nobody := holds.LocalAddr().String() // a port that is taken, so that nobody listens there meanwhile
	_, err = vsmartcard.Dial(soon(t), nobody, newFake())
	require.ErrorIs(t, err, vsmartcard.ErrNoReader)
	require.Contains(t, err.Error(), nobody)
	require.Contains(t, err.Error(), "connection refused")
	require.NotContains(t, err.Error(), "\n")
}

func TestListen_PortInUseIsSaidClearly(t *testing.T) {
	t.Parallel()
	s := newSlot(t, "127.0.0.1:0")
	_, err := vsmartcard.Listen(soon(t), s.address(), newFake())
	require.ErrorContains(t, err, "address already in use")
	require.ErrorContains(t, err, s.address())
}

func TestBridge_ReadyWhenTheReaderKnowsTheCard(t *testing.T) {
	t.Parallel()
	s := newSlot(t, "127.0.0.1:0")
	b := dial(t, s, newFake())
	run(t, b)
	d := s.take()
	d.send(4)
	d.receive()
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, b.Ready(short), vsmartcard.ErrNotReady, "polled, but not powered")
	d.send(1)
	d.send(4)
	require.Equal(t, atr, d.receive())
	require.NoError(t, b.Ready(soon(t)))
}

func TestBridge_InsistsOnceOnBeingNoticed(t *testing.T) {
	t.Parallel()
	s := newSlot(t, "127.0.0.1:0")
	b := dial(t, s, newFake())
	run(t, b)
	d := s.take() // by a reader that takes it for the card before
	for range 3 {
		d.send(4)
		require.Equal(t, atr, d.receive())
	}
	d.send(4)
	d.gone()
	require.NoError(t, d.conn.Close())

	d = s.take() // by a reader that leaves power to its clients
	for range 10 {
		d.send(4)
		require.Equal(t, atr, d.receive())
	}
	require.Equal(t, atr, d.powerUp())
	require.NoError(t, b.Ready(soon(t)))
	for range 10 {
		d.send(4)
		require.Equal(t, atr, d.receive())
	}
}

func TestBridge_SurvivesTheReader(t *testing.T) {
	t.Parallel()
	s := newSlot(t, "127.0.0.1:0")
	card := newFake()
	b := dial(t, s, card)
	var log bytes.Buffer
	b.Log = slog.New(slog.NewTextHandler(&log, nil))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()

	for round := range 3 {
		d := s.take()
		require.Equal(t, atr, d.powerUp())
		require.NoError(t, b.Ready(soon(t)))
		d.send(0x00, 0xA4, byte(round), 0x00)
		require.Equal(t, []byte{0x90, 0x00}, d.receive())

		// The daemon goes, stays away for some attempts, and comes again.
		require.NoError(t, s.Close())
		require.NoError(t, d.conn.Close())
		require.ErrorIs(t, refused(t, b), vsmartcard.ErrNotReady)
		s = newSlot(t, s.address())
	}
	d := s.take()
	d.powerUp()
	cancel()
	require.NoError(t, <-done)
	d.gone()
	_, commands := card.seen()
	require.Len(t, commands, 3, "one card all the time")
	require.Contains(t, log.String(), "connection refused")
	require.Equal(t, 4, strings.Count(log.String(), "reader has the card"))
}

func TestBridge_NotReadySaysWhy(t *testing.T) {
	t.Parallel()
	s := newSlot(t, "127.0.0.1:0")
	b := dial(t, s, newFake())
	run(t, b)
	d := s.take()
	require.NoError(t, s.Close())
	require.NoError(t, d.conn.Close())
	require.ErrorIs(t, refused(t, b), vsmartcard.ErrNotReady)
}

// refused waits until a bridge has found no reader, and gives what it says of that.
func refused(t *testing.T, b *vsmartcard.Bridge) (err error) {
	t.Helper()
	require.Eventually(t, func() bool {
		short, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		err = b.Ready(short)
		return errors.Is(err, syscall.ECONNREFUSED)
	}, patience, time.Millisecond)
	require.ErrorContains(t, err, "connection refused")
	return err
}

// Shows PCSC-3.
func TestBridge_EjectAndInsert(t *testing.T) {
	t.Parallel()
	s := newSlot(t, "127.0.0.1:0")
	card := newFake()
	b := dial(t, s, card)
	run(t, b)
	d := s.take()
	d.powerUp()
	require.NoError(t, b.Ready(soon(t)))

	ejected := make(chan error, 1)
	go func() { ejected <- b.Eject(soon(t)) }()
	d.gone()
	select {
	case err := <-ejected:
		require.Fail(t, "returned before the reader noticed", "%v", err)
	case <-time.After(30 * time.Millisecond):
	}
	// The driver finds out when it asks for the ATR.
	d.send(4)
	require.NoError(t, d.conn.Close())
	require.NoError(t, <-ejected)
	require.NoError(t, b.Eject(soon(t)), "again: nothing to do")

	inserted := make(chan error, 1)
	go func() { inserted <- b.Insert(soon(t)) }()
	d = s.take()
	d.send(4)
	require.Equal(t, atr, d.receive())
	d.send(1)
	d.send(4)
	require.Equal(t, atr, d.receive())
	require.NoError(t, <-inserted)
	require.NoError(t, b.Insert(soon(t)), "again: nothing to do")
}

func TestBridge_EjectBeforeThereIsAReader(t *testing.T) {
	t.Parallel()
	s := newSlot(t, "127.0.0.1:0")
	b := dial(t, s, newFake())
	require.NoError(t, b.Eject(soon(t)))
	run(t, b)
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, b.Ready(short), vsmartcard.ErrNotReady)
	inserted := make(chan error, 1)
	go func() { inserted <- b.Insert(soon(t)) }()
	s.take().powerUp()
	require.NoError(t, <-inserted)
}

func TestBridge_EjectInTheMiddleOfACommand(t *testing.T) {
	t.Parallel()
	s := newSlot(t, "127.0.0.1:0")
	card := newFake()
	started := make(chan struct{})
	release := make(chan struct{})
	card.transmit = func(ctx context.Context, _ []byte) ([]byte, error) {
		close(started)
		<-ctx.Done()
		<-release // a card that takes its time all the same
		return []byte{0x90, 0x00}, nil
	}
	b := dial(t, s, card)
	run(t, b)
	d := s.take()
	d.powerUp()
	d.send(0x00, 0x68, 0x00, 0x20)
	<-started
	ejected := make(chan error, 1)
	go func() { ejected <- b.Eject(soon(t)) }()
	d.aborted()
	require.NoError(t, d.conn.Close())

	// The reader takes the next connection for the same card, unless it finds
	// that it does not answer.
	d = s.take()
	d.send(4)
	d.gone()
	require.NoError(t, d.conn.Close())
	require.NoError(t, <-ejected)
	require.NoError(t, b.Eject(soon(t)), "again: nothing to do, although the card still works")
	close(release)
	inserted := make(chan error, 1)
	go func() { inserted <- b.Insert(soon(t)) }()
	s.take().powerUp()
	require.NoError(t, <-inserted)
}

func TestBridge_InsertWaitsUntilTheReaderKnowsTheCardIsGone(t *testing.T) {
	t.Parallel()
	s := newSlot(t, "127.0.0.1:0")
	card := newFake()
	started := make(chan struct{})
	card.transmit = func(ctx context.Context, _ []byte) ([]byte, error) {
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	b := dial(t, s, card)
	run(t, b)
	d := s.take()
	d.powerUp()
	d.send(0x00, 0x68, 0x00, 0x20)
	<-started
	ejected := make(chan error, 1)
	go func() { ejected <- b.Eject(soon(t)) }()
	d.aborted()
	d = s.take()
	inserted := make(chan error, 1)
	go func() { inserted <- b.Insert(soon(t)) }()
	listener := s.Listener.(*net.TCPListener)
	require.NoError(t, listener.SetDeadline(time.Now().Add(50*time.Millisecond)))
	_, err := s.Accept()
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, listener.SetDeadline(time.Time{}))
	require.NoError(t, d.conn.Close())
	require.NoError(t, <-ejected)
	s.take().powerUp()
	require.NoError(t, <-inserted)
}

func TestBridge_EjectInTheMiddleWithoutADaemon(t *testing.T) {
	t.Parallel()
	s := newSlot(t, "127.0.0.1:0")
	card := newFake()
	started := make(chan struct{})
	card.transmit = func(ctx context.Context, _ []byte) ([]byte, error) {
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	b := dial(t, s, card)
	run(t, b)
	d := s.take()
	d.powerUp()
	d.send(0x00, 0x68, 0x00, 0x20)
	<-started
	require.NoError(t, s.Close())
	require.NoError(t, b.Eject(soon(t)))
}

func TestBridge_CardThatFailsIsSeenToLeave(t *testing.T) {
	t.Parallel()
	s := newSlot(t, "127.0.0.1:0")
	card := newFake()
	card.transmit = func(context.Context, []byte) ([]byte, error) { return nil, context.DeadlineExceeded }
	b := dial(t, s, card)
	run(t, b)
	d := s.take()
	d.powerUp()
	d.send(0x00, 0x68, 0x00, 0x20)
	d.aborted()
	d = s.take()
	d.send(4)
	d.gone()
	require.NoError(t, d.conn.Close())
	s.take().powerUp()
	require.NoError(t, b.Ready(soon(t)))
}

func TestBridge_EjectDoesNotWaitForADeadReader(t *testing.T) {
	t.Parallel()
	s := newSlot(t, "127.0.0.1:0")
	b := dial(t, s, newFake())
	run(t, b)
	d := s.take()
	d.powerUp()
	require.NoError(t, b.Ready(soon(t)))
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, b.Eject(short), context.DeadlineExceeded)
	inserted := make(chan error, 1)
	go func() { inserted <- b.Insert(soon(t)) }()
	s.take().powerUp()
	require.NoError(t, <-inserted)
}

func TestBridge_ListensForTheReader(t *testing.T) {
	t.Parallel()
	b, err := vsmartcard.Listen(soon(t), "127.0.0.1:0", newFake())
	require.NoError(t, err)
	run(t, b)
	connect := func() driver {
		conn, err := net.Dial("tcp", b.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return driver{t, conn}
	}
	// taken tries again when it came at the wrong moment, as vpcd does.
	taken := func() driver {
		for {
			d := connect()
			d.send(4)
			if _, err := d.conn.Read(make([]byte, 2)); err == nil {
				_, err := d.conn.Read(make([]byte, len(atr)))
				require.NoError(t, err)
				return d
			}
		}
	}
	d := taken()
	d.powerUp()
	require.NoError(t, b.Ready(soon(t)))

	connect().gone() // the card is in another reader

	ejected := make(chan error, 1)
	go func() { ejected <- b.Eject(soon(t)) }()
	d.gone()
	require.NoError(t, d.conn.Close())
	require.NoError(t, <-ejected)
	connect().gone()

	inserted := make(chan error, 1)
	go func() { inserted <- b.Insert(soon(t)) }()
	taken().powerUp()
	require.NoError(t, <-inserted)
}

func TestBridge_CloseEndsIt(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(*testing.T) *vsmartcard.Bridge{
		"dial": func(t *testing.T) *vsmartcard.Bridge { return dial(t, newSlot(t, "127.0.0.1:0"), newFake()) },
		"listen": func(t *testing.T) *vsmartcard.Bridge {
			b, err := vsmartcard.Listen(soon(t), "127.0.0.1:0", newFake())
			require.NoError(t, err)
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := make(t)
			done := runAside(b)
			require.NoError(t, b.Close())
			require.NoError(t, b.Close())
			require.ErrorIs(t, <-done, vsmartcard.ErrClosed)
			require.ErrorIs(t, b.Ready(soon(t)), vsmartcard.ErrClosed)
			require.ErrorIs(t, b.Insert(soon(t)), vsmartcard.ErrClosed)
			require.NoError(t, make(t).Close(), "never run")
		})
	}
}

func runAside(b *vsmartcard.Bridge) <-chan error {
	done := make(chan error, 1)
	go func() { done <- b.Run(context.Background()) }()
	return done
}

func TestSlot(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		address string
		n       int
		want    string // empty: an error
	}{
		{"127.0.0.1:35963", 0, "127.0.0.1:35963"},
		{"127.0.0.1:35963", 2, "127.0.0.1:35965"},
		{"localhost", 1, "localhost:35964"},
		{":0x8C7B", 0, "127.0.0.1:35963"},
		{"[::1]:4000", 1, "[::1]:4001"},
		{"", 0, ""},
		{"::1", 0, ""},
		{"host:", 0, ""},
		{"host:http", 0, ""},
		{"host:0", 0, ""},
		{"host:65536", 0, ""},
		{"host:65535", 1, ""},
		{"host:4000", -1, ""},
	} {
		got, err := vsmartcard.Slot(c.address, c.n)
		if c.want == "" {
			require.Error(t, err, c.address)
			continue
		}
		require.NoError(t, err, c.address)
		require.Equal(t, c.want, got)
	}
}

// localhost is this machine also where there is no /etc/hosts.
func TestBridge_LocalhostNeedsNoHosts(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"localhost:35963":   "127.0.0.1:35963",
		"localhost.net:1":   "localhost.net:1",
		"[::1]:35963":       "[::1]:35963",
		"example.org:35963": "example.org:35963",
		"192.0.2.1:35963":   "192.0.2.1:35963",
		"mylocalhost:35963": "mylocalhost:35963",
	} {
		require.Equal(t, want, vsmartcard.Numeric(address))
	}
	b, err := vsmartcard.Listen(soon(t), "localhost:0", newFake())
	require.NoError(t, err)
	defer func() { require.NoError(t, b.Close()) }()
	other, err := vsmartcard.Dial(soon(t), fmt.Sprintf("localhost:%d", b.Addr().(*net.TCPAddr).Port), newFake())
	require.NoError(t, err)
	require.NoError(t, other.Close())
}
