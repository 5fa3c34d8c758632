package pcscd_test

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard/pcscd"
)

// bubble is a service whose clock is the test's.
type bubble struct {
	*service
}

func newBubble(t *testing.T, grace time.Duration) bubble {
	t.Helper()
	s := &service{t: t, server: &pcscd.Server{Grace: grace}, card: newFake()}
	var err error
	s.reader, err = s.server.Add(pcscd.NitrokeyHSM("DENK01234560000", 0))
	require.NoError(t, err)
	require.NoError(t, s.reader.Insert(s.card))
	t.Cleanup(func() { require.NoError(t, s.server.Close()) })
	return bubble{s}
}

func (b bubble) raw() net.Conn {
	client, server := net.Pipe()
	go b.server.ServeConn(server)
	b.t.Cleanup(func() { _ = client.Close() })
	return client
}

func (b bubble) client() *pcscd.Client {
	b.t.Helper()
	c, err := pcscd.Open(context.Background(), b.raw(), 6)
	require.NoError(b.t, err)
	return c
}

// Shows PCSC-25.
func TestGrace_UnusedCardLosesItsPower(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 0)
		require.Equal(t, 1, b.card.resetCount())
		time.Sleep(5*time.Second - time.Nanosecond)
		synctest.Wait()
		require.Equal(t, 1, b.card.resetCount())
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.Equal(t, 2, b.card.resetCount(), "nobody came after the insertion")

		c := b.client()
		require.Equal(t, pcscd.ReaderState{Name: name0, Events: 1, State: 0x34, ATR: atr}, b.state(c), "clients see no difference")
		h := b.connect(c)
		require.Equal(t, 3, b.card.resetCount(), "and their coming powers it again")
		require.EqualValues(t, 1, b.state(c).Events)
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, 3, b.card.resetCount(), "in use")

		require.NoError(t, h.Disconnect(context.Background(), pcscd.Leave))
		require.Equal(t, pcscd.T1, b.state(c).Protocol)
		time.Sleep(4 * time.Second)
		h = b.connect(c)
		require.Equal(t, 3, b.card.resetCount(), "back in time, the login stays")
		require.NoError(t, h.Disconnect(context.Background(), pcscd.Leave))
		time.Sleep(4 * time.Second)
		synctest.Wait()
		require.Equal(t, 3, b.card.resetCount(), "the grace begins anew")
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, 4, b.card.resetCount())
		require.Zero(t, b.state(c).Protocol)
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, 4, b.card.resetCount(), "once is enough")
	})
}

// The reader's owner is no better off than a client.
func TestGrace_OwnersTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 0)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Equal(t, 2, b.card.resetCount(), "nobody came after the insertion")
		turn, err := b.reader.Turn(t.Context())
		require.NoError(t, err)
		require.NoError(t, turn.Power())
		require.NoError(t, turn.Power())
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, 3, b.card.resetCount(), "in use")
		turn.End()
		time.Sleep(5*time.Second - time.Nanosecond)
		synctest.Wait()
		require.Equal(t, 3, b.card.resetCount())
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.Equal(t, 4, b.card.resetCount())

		h := b.connect(b.client())
		turn, err = b.reader.Turn(t.Context())
		require.NoError(t, err)
		require.NoError(t, turn.Power())
		turn.End()
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, 5, b.card.resetCount(), "a client uses it")
		require.NoError(t, h.Disconnect(t.Context(), pcscd.Leave))

		turn, err = b.reader.Turn(t.Context())
		require.NoError(t, err)
		require.NoError(t, b.reader.Eject())
		require.ErrorIs(t, turn.Power(), pcscd.ErrNoSmartcard)
		require.NoError(t, b.reader.Insert(b.card))
		require.ErrorIs(t, turn.Power(), pcscd.ErrNoSmartcard, "a removal ends the turn")
		turn.End()
		_, err = b.reader.Turn(t.Context())
		require.NoError(t, err)
		require.NoError(t, b.reader.Eject(), "which ends the turn")
		mute := newFake()
		mute.setATR(nil)
		require.NoError(t, b.reader.Insert(mute))
		turn, err = b.reader.Turn(t.Context())
		require.NoError(t, err)
		require.ErrorIs(t, turn.Power(), pcscd.ErrUnpowered)
		turn.End()
	})
}

// Who has the reader alone does not use the card.
func TestGrace_DirectHandleDoesNotKeepThePower(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 0)
		c := b.client()
		h, err := c.Connect(context.Background(), name0, pcscd.Direct, 0)
		require.NoError(t, err)
		value, err := h.Attrib(context.Background(), pcscd.AttribATR)
		require.NoError(t, err)
		require.Equal(t, atr, value)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Equal(t, 2, b.card.resetCount())
		require.Equal(t, atr, b.state(c).ATR)
		value, err = h.Attrib(context.Background(), pcscd.AttribATR)
		require.NoError(t, err)
		require.Empty(t, value, "the driver forgets it, the daemon does not")

		require.NoError(t, b.reader.Eject())
		other := newFake()
		require.NoError(t, b.reader.Insert(other))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Equal(t, 2, other.resetCount(), "nor does it that of a card that comes")
		b.connect(c)
		require.Equal(t, 3, other.resetCount())
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 3, other.resetCount(), "this one does")
	})
}

func TestGrace_CanBeChangedOrTurnedOff(t *testing.T) {
	t.Parallel()
	for grace, resets := range map[time.Duration]int{-1: 1, time.Second: 2, time.Hour: 1} {
		synctest.Test(t, func(t *testing.T) {
			b := newBubble(t, grace)
			time.Sleep(time.Minute)
			synctest.Wait()
			require.Equal(t, resets, b.card.resetCount(), "%v", grace)
		})
	}
}

func TestGrace_EndsWithTheCard(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 0)
		time.Sleep(3 * time.Second)
		require.NoError(t, b.reader.Eject())
		other := newFake()
		require.NoError(t, b.reader.Insert(other))
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.Equal(t, 1, other.resetCount(), "the old card's time is not the new one's")
		require.NoError(t, b.reader.Reset())
		require.Equal(t, 2, other.resetCount())
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.Equal(t, 2, other.resetCount(), "a reset begins the grace anew")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, 3, other.resetCount())
	})
}

func TestGrace_RefusedConnectionDoesNotKeepThePower(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 0)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 2, b.card.resetCount())
		_, err := b.client().Connect(context.Background(), name0, pcscd.Shared, pcscd.T0)
		require.ErrorIs(t, err, pcscd.ErrProtocolMismatch)
		require.Equal(t, 3, b.card.resetCount())
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 4, b.card.resetCount())
	})
}

func TestGrace_DeadClientsCardToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 0)
		c := b.client()
		b.connect(c)
		require.NoError(t, c.Close())
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Equal(t, 2, b.card.resetCount())
	})
}

// Shows PCSC-22.
func TestBegin_AsksToBeAskedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 0)
		h := b.connect(b.client())
		w := wire{t, b.raw()}
		hw := w.handle(name0)
		require.NoError(t, h.Begin(context.Background()))
		start := time.Now()
		require.Equal(t, word(pcscd.ErrSharingViolation), w.call(0x07, word(hw), word(0))[4:])
		require.Equal(t, 100*time.Millisecond, time.Since(start))
		require.Equal(t, word(pcscd.ErrSharingViolation), w.call(0x0B, word(hw), word(0))[4:])
		require.Equal(t, 100*time.Millisecond, time.Since(start), "the others do not wait")
	})
}

func TestHandle_OfAnotherEndsTheConnection(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]func(w wire, h int){
		"begin":      func(w wire, h int) { w.send(0x07, join(word(h), word(0)), nil) },
		"end":        func(w wire, h int) { w.send(0x08, join(word(h), word(0), word(0)), nil) },
		"status":     func(w wire, h int) { w.send(0x0B, join(word(h), word(0)), nil) },
		"disconnect": func(w wire, h int) { w.send(0x06, join(word(h), word(0), word(0)), nil) },
		"reconnect":  func(w wire, h int) { w.send(0x05, join(word(h), make([]byte, 20)), nil) },
		"transmit":   func(w wire, h int) { w.send(0x09, join(word(h), make([]byte, 28)), nil) },
		"control":    func(w wire, h int) { w.send(0x0A, join(word(h), make([]byte, 20)), nil) },
		"attribute":  func(w wire, h int) { w.send(0x0F, join(word(h), make([]byte, 276)), nil) },
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBubble(t, 0)
			owner := wire{t, b.raw()}
			h := owner.handle(name0)
			w := wire{t, b.raw()}
			w.establish(4)
			start := time.Now()
			send(w, h)
			_, err := w.conn.Read(make([]byte, 1))
			require.Error(t, err, name)
			require.Equal(t, 2*time.Second, time.Since(start), name)
			require.Equal(t, word(0), owner.call(0x0B, word(h), word(0))[4:], name)
		})
	}
}

func TestRemoval_IsSeenAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 0)
		release := make(chan struct{})
		b.card.does(func(context.Context, []byte) ([]byte, error) {
			<-release
			return []byte{0x90, 0x00}, nil
		})
		h := b.connect(b.client())
		transmitted := at(func() error {
			_, err := h.Transmit(context.Background(), []byte{0, 0x68, 0, 0x20})
			return err
		})
		synctest.Wait()
		time.Sleep(time.Minute) // a long command is no mistake
		start := time.Now()
		require.NoError(t, b.reader.Eject())
		require.ErrorIs(t, <-transmitted, pcscd.ErrNotTransacted)
		require.Zero(t, time.Since(start))
		close(release)
	})
}

func TestTransmit_OneAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 0)
		release := make(chan struct{})
		b.card.does(func(context.Context, []byte) ([]byte, error) {
			<-release
			return []byte{0x90, 0x00}, nil
		})
		var transmitted []<-chan error
		for range 3 {
			h := b.connect(b.client())
			transmitted = append(transmitted, at(func() error {
				_, err := h.Transmit(context.Background(), []byte{0, 0x84, 0, 0})
				return err
			}))
		}
		for n := range transmitted {
			synctest.Wait()
			require.Len(t, b.card.seen(), n+1)
			release <- struct{}{}
		}
		for _, c := range transmitted {
			require.NoError(t, <-c)
		}
	})
}

func TestWait_IsOverWhenTheTimeIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 0)
		c := b.client()
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		_, err := c.Wait(ctx, func([]pcscd.ReaderState) bool { return false })
		require.ErrorIs(t, err, pcscd.ErrTimeout)
		require.Equal(t, time.Hour, time.Since(start))
		b.state(c) // it goes on
	})
}

// pipes is a listener for clients in the same bubble.
type pipes struct {
	offers chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.offers:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return nil }

// A bubble does not end before all goroutines in it have.
func TestServer_LeavesNothingBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &service{t: t, server: &pcscd.Server{}, card: newFake()}
		var err error
		s.reader, err = s.server.Add(pcscd.NitrokeyHSM("DENK01234560000", 0))
		require.NoError(t, err)
		require.NoError(t, s.reader.Insert(s.card))
		l := &pipes{make(chan net.Conn), make(chan struct{})}
		done := at(func() error { return s.server.Serve(l) })
		raw := func() wire {
			client, server := net.Pipe()
			l.offers <- server
			return wire{t, client}
		}

		waiting := raw()
		waiting.establish(4)
		waiting.send(0x13, nil, nil)
		waiting.read(2944)
		owner, busy := raw(), raw()
		h, hb := owner.handle(name0), busy.handle(name0)
		s.card.does(func(ctx context.Context, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		busy.send(0x09, join(word(hb), word(2), word(16), word(4), word(3), word(16), word(258), word(0)), []byte{0, 0x84, 0, 0})
		require.Equal(t, word(0), owner.call(0x07, word(h), word(0))[4:])
		connecting, foreign, half := raw(), raw(), raw()
		connecting.send(0x04, connecting.connectBody(connecting.establish(4), name0, 2, 2), nil)
		foreign.send(0x0B, join(word(77), word(0)), nil)
		_, err = half.conn.Write([]byte{12, 0})
		require.NoError(t, err)
		synctest.Wait()

		require.NoError(t, s.server.Close())
		require.ErrorIs(t, <-done, pcscd.ErrClosed)
		for _, w := range []wire{waiting, owner, connecting, foreign, half} {
			w.dropped()
		}
		require.ErrorIs(t, s.reader.Eject(), pcscd.ErrEmpty)
	})
}
