package pcscd

import (
	"context"
	"fmt"
)

// InUseError says which client keeps the owner of a reader from its card.
type InUseError struct {
	// Client names it, "scdaemon, process 1234", as far as the system tells.
	Client string
	// Exclusive: the client has the card for itself, and not for the length of a
	// transaction.
	Exclusive bool
}

// Error says who has the card.
func (e *InUseError) Error() string {
	if e.Exclusive {
		return fmt.Sprintf("the card is taken for itself by %s", e.Client)
	}
	return fmt.Sprintf("the card is in a transaction of %s", e.Client)
}

// Turn is the card in the hands of the reader's owner, as a transaction has it
// in a client's: clients wait until it ends. What the owner says to the card, it
// says to the card itself.
type Turn struct {
	handle *handle
	uses   bool // the card, which nobody else did
}

// Turn waits for the end of a client's transaction, as long as ctx, and begins
// the owner's turn. Taking the card out ends it. Errors: *InUseError, at once for
// a card that a client has for itself, or [ErrClosed].
func (r *Reader) Turn(ctx context.Context) (*Turn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := &handle{reader: r}
	for r.owner != nil && !r.closed {
		// Waiting gives up the lock, so there may be no owner any more after it.
		if (r.owner.exclusive || !r.await(ctx.Done(), nil)) && r.owner != nil {
			return nil, &InUseError{Client: r.owner.name(), Exclusive: r.owner.exclusive}
		}
	}
	if r.closed {
		return nil, ErrClosed
	}
	r.owner, r.locks = h, 1
	return &Turn{handle: h}, nil
}

// Power has the card in use until the turn ends, as a client's handle has it: it
// gives power to a card that was left without, and the card keeps it. Errors:
// ErrNoSmartcard if the card or the turn is gone, ErrUnpowered for a card that
// gives no ATR.
func (t *Turn) Power() error {
	r := t.handle.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.owner == t.handle && r.present() {
		used := r.in.used
		taken, code := r.takeUp(r.in)
		switch {
		case code != OK:
			return code
		case taken:
			t.uses = t.uses || !used
			return nil
		}
	}
	return ErrNoSmartcard
}

// Tell tells clients that what they had with the card is over, a login say, as
// they are told of a reset (SCARD_W_RESET_CARD).
func (t *Turn) Tell() {
	r := t.handle.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.present() {
		r.flagReset()
		r.show(true)
	}
}

// End lets clients go on. A card that nobody uses any more loses its power
// later, as after the last client.
func (t *Turn) End() {
	r := t.handle.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unlock(t.handle)
	if t.uses && r.in != nil {
		r.in.used = false
		r.arm()
	}
}

// name is the client of a handle for people.
func (h *handle) name() string {
	if h.conn == nil {
		return "another command of its owner"
	}
	return ClientOf(h.conn.stream).String()
}
