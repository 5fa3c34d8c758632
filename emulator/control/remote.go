package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"hsmemu/vsmartcard"
)

// The pauses before a card is connected again: the first one, and the longest. A
// connection that lasted for the longest one begins anew with the first.
const (
	againFirst = time.Second
	againMost  = time.Minute
)

// Server connects a card to a program elsewhere that commands it, until that says
// that this was all, which is nil. It calls connected when the program has answered.
type Server func(ctx context.Context, card vsmartcard.Card, connected func()) error

// Remote is a running card that a program elsewhere commands: while the card is in,
// it is connected again whenever a connection has ended.
type Remote struct {
	*Card
	connect Server
	at      string
	ended   func(error)
	wait    func()

	ready     chan struct{}
	readyOnce sync.Once

	mu      sync.Mutex
	in      bool
	cut     context.CancelFunc // ends the connection under way
	free    chan struct{}      // closed when none is under way
	changed chan struct{}      // closed when the card comes in
}

// StartRemote prepares a card for a program that is at some address, for people,
// and opens its control socket. ended is told how a connection ended, after the first
// that was answered: nil or an error.
func StartRemote(ctx context.Context, connect Server, at string, ended func(error), place Placement) (*Remote, error) {
	r := &Remote{
		Card: place.card(), connect: connect, at: at, ended: ended,
		ready: make(chan struct{}), in: true, free: make(chan struct{}), changed: make(chan struct{}),
	}
	close(r.free)
	r.Reader = remoteReader{r}
	var err error
	if r.wait, err = r.Serve(ctx, place.Socket); err != nil {
		return nil, fmt.Errorf("run card %q: %w", place.Name, err)
	}
	return r, nil
}

// Run keeps the card connected until the context ends, which is nil. An error is the
// one of the first connection, which was never answered.
func (r *Remote) Run(ctx context.Context) error {
	pause := againFirst
	for {
		connection, done, err := r.begin(ctx)
		if err != nil {
			return nil // the end of ctx
		}
		long := time.NewTimer(againMost)
		err = r.connect(connection, port{r.Card}, func() { r.readyOnce.Do(func() { close(r.ready) }) })
		removed := connection.Err() != nil
		done()
		lasted := !long.Stop()
		if err = errors.Join(err, r.Faults.Reset()); ctx.Err() != nil {
			return nil
		}
		if removed {
			pause = againFirst
			continue
		}
		if !r.isReady() && err != nil {
			return err
		}
		r.ended(err)
		if lasted {
			pause = againFirst
		}
		if r.rest(ctx, pause) != nil {
			return nil
		}
		pause = min(2*pause, againMost)
	}
}

// begin waits until the card is in and makes it the one of a connection. done ends that.
func (r *Remote) begin(ctx context.Context) (connection context.Context, done func(), err error) {
	for {
		r.mu.Lock()
		if r.in {
			break
		}
		changed := r.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
	defer r.mu.Unlock()
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	connection, cut := context.WithCancel(ctx)
	free := make(chan struct{})
	r.cut, r.free = cut, free
	return connection, func() {
		cut()
		close(free)
	}, nil
}

// rest waits before the next connection. A card that comes in meanwhile is
// connected at once.
func (r *Remote) rest(ctx context.Context, pause time.Duration) error {
	r.mu.Lock()
	changed := r.changed
	r.mu.Unlock()
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-changed:
	case <-ctx.Done():
	}
	return ctx.Err()
}

func (r *Remote) isReady() bool {
	select {
	case <-r.ready:
		return true
	default:
		return false
	}
}

// Ready waits until the program has answered for the first time.
func (r *Remote) Ready(ctx context.Context) error {
	select {
	case <-r.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close ends the control socket, after the end of the context that the card was
// started with.
func (r *Remote) Close() error {
	r.wait()
	return nil
}

type remoteReader struct{ *Remote }

// Eject ends the connection, as a card that is pulled does, and returns when it has
// ended.
func (r remoteReader) Eject(ctx context.Context) error {
	r.mu.Lock()
	r.in = false
	if r.cut != nil {
		r.cut()
	}
	free := r.free
	r.mu.Unlock()
	select {
	case <-free:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Insert has the card connected again.
func (r remoteReader) Insert(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.in {
		r.in = true
		close(r.changed)
		r.changed = make(chan struct{})
	}
	return nil
}

// Reset resets the card; the program elsewhere notices at its next command.
func (r remoteReader) Reset() error { return r.Card.Card.Reset() }

// Name is empty: there is no reader.
func (remoteReader) Name() string { return "" }

// Place says where the program is.
func (r remoteReader) Place() string { return "RAM " + r.at }

// Turn waits for nobody: what the program elsewhere is about, it does not tell.
func (remoteReader) Turn(context.Context) (Turn, error) { return nobodys{}, nil }
