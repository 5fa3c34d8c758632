package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"hsmemu/applet"
	"hsmemu/emulator"
	"hsmemu/emulator/view"
)

// Reader is the reader that a card is in.
type Reader interface {
	// Eject takes the card out and Insert puts it in; both return when clients
	// can see the effect.
	Eject(context.Context) error
	Insert(context.Context) error
	// Reset resets the card as the reader would.
	Reset() error
	// Name is what clients call the reader, empty where that is not known, and
	// Place says where it is, for people.
	Name() string
	Place() string
	// Turn waits until no client has the card in a transaction, as long as ctx,
	// and keeps clients from it; the error names the client that has it.
	Turn(context.Context) (Turn, error)
}

// Turn is a card that clients are kept from.
type Turn interface {
	// Power sees to it that the card has power until the turn ends. The error
	// says that the card or the turn is gone, or that the card is dead.
	Power() error
	// Tell tells clients that their logins are over, as a reset does.
	Tell()
	// End lets clients go on.
	End()
}

// Kept is what keeps the states of a card.
type Kept interface {
	// Generation counts the states that were kept.
	Generation() uint64
	// Seal names what protects them.
	Seal() string
}

// Card is a card that is running in a reader.
type Card struct {
	// Name is the card's name.
	Name string
	// Card is the card itself, and Faults what its reader holds.
	Card   *emulator.Card
	Faults *emulator.Faults
	// Reader is set before Serve.
	Reader Reader
	Kept

	stay    atomic.Pointer[stay] // in the reader; nil while the card is out
	talking atomic.Int32
	traces  atomic.Int32
	tap     atomic.Pointer[Tap]

	start []string // see Placement.Start
}

// stay is the time of a card in its reader, from an insertion to the removal.
type stay struct {
	ctx context.Context
	end context.CancelFunc
}

func newStay() *stay {
	ctx, end := context.WithCancel(context.Background())
	return &stay{ctx, end}
}

// New is a card that is about to be put into a reader.
func New(name string, card *emulator.Card, kept Kept) *Card {
	c := &Card{Name: name, Card: card, Faults: emulator.NewFaults(card), Kept: kept}
	c.stay.Store(newStay())
	return c
}

// inTurn does something to the card when no client of its reader has it in a
// transaction or for itself; at once if force says so. While a command is held back
// there is nothing to wait for: whoever holds it may wait for this.
func (c *Card) inTurn(ctx context.Context, force bool, do func() error) error {
	switch {
	case force:
		return do()
	case c.held():
		return ErrHeld
	}
	t, err := c.waitTurn(ctx)
	if err != nil {
		return err
	}
	defer t.End()
	return do()
}

// waitTurn waits for a turn as long as a request does.
func (c *Card) waitTurn(ctx context.Context) (Turn, error) {
	ctx, cancel := context.WithTimeout(ctx, turnPatience)
	defer cancel()
	t, err := c.Reader.Turn(ctx)
	if err != nil && c.held() {
		err = ErrHeld // the client cannot go on
	}
	return t, err
}

// Eject takes the card out of its reader when no client has it for itself. Errors:
// ErrHeld, and which client has it.
func (c *Card) Eject(ctx context.Context) error { return c.eject(ctx, false) }

func (c *Card) eject(ctx context.Context, force bool) error {
	return c.inTurn(ctx, force, func() error { return c.takeOut(ctx) })
}

// Reset resets the card when no client has it for itself. Errors: those of Eject;
// ErrEjected.
func (c *Card) Reset(ctx context.Context) error { return c.reset(ctx, false) }

func (c *Card) reset(ctx context.Context, force bool) error {
	return c.inTurn(ctx, force, func() error {
		if c.stay.Load() == nil {
			return ErrEjected
		}
		return c.Reader.Reset()
	})
}

func (c *Card) takeOut(ctx context.Context) error {
	if s := c.stay.Swap(nil); s != nil {
		s.end()
		c.Card.Tell(emulator.Event{Kind: emulator.Ejected, Event: applet.Event{Meaning: c.Reader.Place()}})
	}
	return c.Reader.Eject(ctx)
}

// Insert puts the card into its reader.
func (c *Card) Insert(ctx context.Context) error {
	if c.stay.CompareAndSwap(nil, newStay()) {
		c.Card.Tell(emulator.Event{Kind: emulator.Inserted, Event: applet.Event{Meaning: c.Reader.Place()}})
	}
	return c.Reader.Insert(ctx)
}

// Show describes the card as it is now.
func (c *Card) Show() view.Card {
	s := c.Card.Snapshot()
	v := view.Of(c.Name, s.Durable(), c.Seal(), c.Generation()).Runs(os.Getpid(), c.Reader.Place(), c.stay.Load() == nil, s)
	v.Running.Start = append(v.Running.Start, c.start...)
	if name := c.Reader.Name(); name != "" {
		v.Reader = &name
	}
	return v
}

// restore replaces the card in its reader. A state that the card refuses does not take
// it out.
func (c *Card) restore(ctx context.Context, r restoration) (undone, error) {
	if err := c.Card.Replaceable(r.State, r.Force); err != nil {
		return undone{}, err
	}
	var u undone
	err := c.inTurn(ctx, false, func() error {
		in := c.stay.Load() != nil
		if in {
			if err := c.takeOut(ctx); err != nil {
				return err
			}
		}
		var err error
		u.Undone, err = c.Card.Replace(r.State, r.Force)
		if in {
			err = errors.Join(err, c.Insert(ctx))
		}
		return err
	})
	return u, err
}

// Standing is what the card loses with its power.
func (c *Card) Standing() view.Standing { return view.StandingOf(c.Card.Snapshot()) }

// Moment is the state that the card keeps now.
func (c *Card) Moment() Moment { return Moment{c.Card.Snapshot().Durable()} }

// Return brings the card back to a moment, and tells in words what that took back which
// no card ever takes back. Another device may take its place. Errors: those of
// Client.Restore, but not emulator.ErrForeign.
func (c *Card) Return(ctx context.Context, m Moment) ([]string, error) {
	u, err := c.restore(ctx, restoration{State: m.state})
	if errors.Is(err, emulator.ErrForeign) {
		u, err = c.restore(ctx, restoration{State: m.state, Force: true})
	}
	if err != nil {
		return nil, fmt.Errorf("give the card another state: %w", err)
	}
	return u.Undone, nil
}

// Settle waits until no client of the reader has the card in a transaction, as long as the
// context. Errors: the context's, or who has it.
func (c *Card) Settle(ctx context.Context) error {
	t, err := c.Reader.Turn(ctx)
	if err == nil {
		t.End()
	}
	return err
}

// Certificates describes the certificates on the card on a day.
func (c *Card) Certificates(day time.Time) []view.Certificate {
	return view.CertificatesOf(c.Card.Snapshot().Durable(), day)
}
