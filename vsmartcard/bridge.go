package vsmartcard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Bridge keeps one card in one slot of vpcd. It is made by [Dial] or [Listen]
// with the card inserted and works while [Bridge.Run] does. Its methods may be
// called from any goroutine.
type Bridge struct {
	// Log hears about readers that come and go. Nil is silence. It is set
	// before Run.
	Log *slog.Logger

	card Card
	link link

	insisted bool // on being noticed, in the last session; of Run's alone

	mu       sync.Mutex
	inserted bool
	ready    bool               // the reader has the card's ATR
	session  *session           // nil while there is no connection
	knocking bool               // Eject still has to show the reader that there is no card
	unplug   context.CancelFunc // ends the search for a connection
	trouble  error              // why there is no connection
	changed  chan struct{}      // closed and replaced at every change of the above
	closed   chan struct{}      // closed by Close
}

// link is the way to get connections to the reader, one at a time.
type link interface {
	// start is called once, before the first connect.
	start(ctx context.Context)
	// connect blocks until there is a connection and reports every failed
	// attempt to trouble.
	connect(ctx context.Context, trouble func(error)) (net.Conn, error)
	// once makes one attempt; where the other side connects, it waits for it.
	once(ctx context.Context) (net.Conn, error)
	// settled says that the last connection served a reader.
	settled()
	addr() net.Addr
	close() error
}

// Dial reaches the vpcd that listens at address, as [Slot] returns it. The
// driver takes a connection at its next look for a card, up to 0.4 s later:
// [Bridge.Ready] waits for that. Nothing listening there is [ErrNoReader];
// once connected, the bridge tries again whenever the connection is lost, with
// growing pauses of at most a second.
func Dial(ctx context.Context, address string, card Card) (*Bridge, error) {
	d := &dialer{address: address, first: make(chan net.Conn, 1)}
	conn, err := d.once(ctx)
	if err != nil {
		return nil, err
	}
	d.first <- conn
	return newBridge(card, d), nil
}

// Listen waits at address for a vpcd that is configured to connect to cards
// (DEVICENAME host:port in its reader.conf). A port of 0 takes a free one,
// see [Bridge.Addr]. While the card is ejected or in use, readers that connect
// are turned away.
func Listen(ctx context.Context, address string, card Card) (*Bridge, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", numeric(address))
	if err != nil {
		return nil, err
	}
	return newBridge(card, newListener(l)), nil
}

func newBridge(card Card, l link) *Bridge {
	return &Bridge{
		card: card, link: l, inserted: true,
		changed: make(chan struct{}), closed: make(chan struct{}),
	}
}

// Addr returns the address at which the bridge listens or which it dials.
func (b *Bridge) Addr() net.Addr { return b.link.addr() }

// Close ends the bridge: Run returns, and the reader sees the card removed.
// Only a bridge that never runs needs it.
func (b *Bridge) Close() error {
	b.mu.Lock()
	select {
	case <-b.closed:
		b.mu.Unlock()
		return nil
	default:
	}
	close(b.closed)
	b.mu.Unlock()
	return b.link.close()
}

// Run serves the card to the reader, one connection after the other, until ctx
// ends, which is no error, or the bridge is closed, which is [ErrClosed]. It is called once;
// everything it started has ended when it returns.
func (b *Bridge) Run(ctx context.Context) error {
	running, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-b.closed:
			cancel()
		case <-running.Done():
		}
	})
	b.link.start(running)
	for {
		connecting, ok := b.plug(running)
		if !ok {
			break
		}
		conn, err := b.link.connect(connecting, b.failed)
		if err != nil {
			continue
		}
		switch b.serve(running, conn) {
		case cardFailed:
			_ = b.knock(connecting)
		case cardOverlooked:
			_ = wait(connecting, absence)
		}
	}
	cancel()
	watching.Wait()
	if ctx.Err() == nil {
		return ErrClosed
	}
	return b.Close()
}

// absence is longer than the time between two looks of the driver for a card,
// 0.4 s: a card that was away that long has been missed.
const absence = time.Second

// plug waits until the card is inserted and returns the context of the search
// for a reader, which ends when it is ejected again.
func (b *Bridge) plug(ctx context.Context) (context.Context, bool) {
	for {
		if ctx.Err() != nil {
			return nil, false
		}
		b.mu.Lock()
		if b.inserted && !b.knocking {
			connecting, cancel := context.WithCancel(ctx)
			if b.unplug != nil {
				b.unplug()
			}
			b.unplug = cancel
			b.mu.Unlock()
			return connecting, true
		}
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// serve runs one connection.
func (b *Bridge) serve(ctx context.Context, conn net.Conn) outcome {
	s := newSession(ctx, conn, b.card, func() { b.settle(conn) })
	s.insist = !b.insisted
	b.update(func() {
		b.session, b.trouble = s, nil
		if !b.inserted {
			s.eject()
		}
	})
	err := s.run(ctx)
	b.update(func() { b.session, b.ready, b.trouble = nil, false, err })
	if b.Log != nil {
		b.Log.Info("reader gone", "reader", conn.RemoteAddr().String(), "error", err)
	}
	// Once is enough: a daemon that does not power cards by itself would see
	// this one come and go for ever.
	b.insisted = s.outcome == cardOverlooked
	return s.outcome
}

// knock shows the reader that the card is gone, which it may not know after a
// command that failed: the driver would take the next connection for the same
// card, still powered. It makes one connection that is over before the reader
// asks anything.
func (b *Bridge) knock(ctx context.Context) error {
	conn, err := b.link.once(ctx)
	if errors.Is(err, ErrNoReader) && ctx.Err() == nil {
		return nil // gone, and with it what it believed
	}
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	endOfStream(conn)
	_, _ = io.Copy(io.Discard, conn)
	stop()
	_ = conn.Close()
	return ctx.Err()
}

// settle notes that the reader knows the card.
func (b *Bridge) settle(conn net.Conn) {
	b.mu.Lock()
	already := b.ready
	b.mu.Unlock()
	if already {
		return
	}
	b.link.settled()
	b.update(func() { b.ready = true })
	if b.Log != nil {
		b.Log.Info("reader has the card", "reader", conn.RemoteAddr().String())
	}
}

// failed notes why there is no connection yet.
func (b *Bridge) failed(err error) {
	b.mu.Lock()
	first := b.trouble == nil
	b.trouble = err
	b.mu.Unlock()
	if first && b.Log != nil {
		b.Log.Warn("no reader", "error", err)
	}
}

func (b *Bridge) update(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
	close(b.changed)
	b.changed = make(chan struct{})
}

// publication is how long a daemon gets to tell its clients of a card after it
// has the ATR. Nothing in the protocol says when it has.
const publication = 10 * time.Millisecond

// Ready waits until the reader has powered the card and knows its ATR, and the
// PC/SC daemon has had a moment to show it to its clients. If ctx ends first,
// the error is [ErrNotReady] and names the last cause known.
func (b *Bridge) Ready(ctx context.Context) error {
	return b.shown(ctx, func() bool { return b.ready })
}

func (b *Bridge) shown(ctx context.Context, condition func() bool) error {
	if err := b.await(ctx, condition); err != nil {
		return err
	}
	_ = wait(ctx, publication)
	return nil
}

// await waits for a condition that is evaluated under the lock.
func (b *Bridge) await(ctx context.Context, condition func() bool) error {
	for {
		b.mu.Lock()
		done, changed := condition(), b.changed
		b.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-b.closed:
			return ErrClosed
		case <-ctx.Done():
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.trouble != nil {
				return fmt.Errorf("%w at %v: %w", ErrNotReady, b.Addr(), b.trouble)
			}
			return fmt.Errorf("%w at %v: %w", ErrNotReady, b.Addr(), ctx.Err())
		}
	}
}

// Insert puts the card into the reader and waits until it is seen there, as
// [Bridge.Ready] does. If ctx ends first, the card stays inserted and the
// bridge goes on trying.
func (b *Bridge) Insert(ctx context.Context) error {
	b.update(func() { b.inserted = true })
	return b.shown(ctx, func() bool { return b.ready && !b.session.isEjected() })
}

// Eject takes the card out of the reader and returns when the reader has
// noticed, at its next look for the card. A command in flight fails at once.
// If ctx ends first, the card is out all the same, but the daemon may go on
// showing it for a moment.
func (b *Bridge) Eject(ctx context.Context) error {
	var s *session
	var midway, noticing bool
	b.update(func() {
		b.inserted = false
		if b.unplug != nil {
			b.unplug()
		}
		if s = b.session; s != nil {
			midway, noticing = s.eject()
			b.knocking = b.knocking || midway
		}
	})
	if midway {
		err := b.knock(ctx)
		b.update(func() { b.knocking = false })
		return ejected(err)
	}
	if !noticing {
		return nil
	}
	select {
	case <-s.gone:
		return nil
	case <-ctx.Done():
		_ = s.conn.Close()
		return ejected(ctx.Err())
	}
}

func ejected(err error) error {
	if err != nil {
		return fmt.Errorf("eject: the reader did not react: %w", err)
	}
	return nil
}
