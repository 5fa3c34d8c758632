package vsmartcard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// The pauses between attempts to reach a reader that went away.
const (
	pauseMin = 20 * time.Millisecond
	pauseMax = time.Second
)

// dialer connects to a reader that listens.
type dialer struct {
	address string
	first   chan net.Conn // of capacity 1: made by Dial, taken by connect or close
	pause   time.Duration
}

func (d *dialer) once(ctx context.Context) (net.Conn, error) {
	var dial net.Dialer
	conn, err := dial.DialContext(ctx, "tcp", numeric(d.address))
	if err != nil {
		return nil, fmt.Errorf("%w at %s: %w", ErrNoReader, d.address, err)
	}
	return conn, nil
}

// numeric replaces localhost by this machine's address in IPv4, the only one that
// vpcd has: not every machine has a file of hosts or a name server that know it
// (RFC 6761, 6.3).
func numeric(address string) string {
	if port, ok := strings.CutPrefix(address, "localhost:"); ok {
		return "127.0.0.1:" + port
	}
	return address
}

func (d *dialer) connect(ctx context.Context, trouble func(error)) (net.Conn, error) {
	select {
	case conn := <-d.first:
		return conn, nil
	default:
	}
	for {
		if err := wait(ctx, d.pause); err != nil {
			return nil, err
		}
		d.pause = min(max(2*d.pause, pauseMin), pauseMax)
		conn, err := d.once(ctx)
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		trouble(err)
	}
}

func (d *dialer) start(context.Context) {}

func (d *dialer) settled() { d.pause = pauseMin }

func (d *dialer) addr() net.Addr { return readerAddr(d.address) }

func (d *dialer) close() error {
	select {
	case conn := <-d.first:
		return conn.Close()
	default:
		return nil
	}
}

// readerAddr is an address as it was given, resolved at each attempt.
type readerAddr string

func (readerAddr) Network() string  { return "tcp" }
func (a readerAddr) String() string { return string(a) }

// wait pauses for d or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// listener takes connections of readers that look for a card. A reader asks
// as soon as it is connected and then waits without limit, so that one that
// was left in the backlog would hang with its whole daemon: whoever comes while
// the card is away or taken is let in and sent off.
type listener struct {
	net.Listener
	offers chan net.Conn // unbuffered: taken only by a waiting connect

	accepting sync.WaitGroup
}

func newListener(l net.Listener) *listener {
	return &listener{Listener: l, offers: make(chan net.Conn)}
}

func (l *listener) start(ctx context.Context) {
	l.accepting.Go(func() { l.accept(ctx) })
}

func (l *listener) accept(ctx context.Context) {
	for {
		conn, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			// Out of file descriptors, or the reader gave up: neither lasts.
			if wait(ctx, pauseMin) != nil {
				return
			}
			continue
		}
		select {
		case l.offers <- conn:
		default:
			_ = conn.Close()
		}
	}
}

func (l *listener) connect(ctx context.Context, _ func(error)) (net.Conn, error) {
	return l.once(ctx)
}

func (l *listener) once(ctx context.Context) (net.Conn, error) {
	select {
	case conn := <-l.offers:
		return conn, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *listener) settled() {}

func (l *listener) addr() net.Addr { return l.Addr() }

func (l *listener) close() error {
	err := l.Close()
	l.accepting.Wait()
	return err
}
