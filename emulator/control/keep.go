package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Running is a card that is kept running: a *Bridged or a *Remote.
type Running interface {
	// Run keeps it so until the context ends.
	Run(context.Context) error
	// Ready waits until the card can be used.
	Ready(context.Context) error
	// Close takes it out for good, after the end of the context of its start.
	Close() error

	running() *Card
}

func (b *Bridged) running() *Card { return b.Card }

func (r *Remote) running() *Card { return r.Card }

// Keeping says how cards are kept running.
type Keeping struct {
	// Start starts the i-th card, counted from 0.
	Start func(ctx context.Context, i int, place Placement) (Running, error)
	// Started is told of each card when all have been started, and Ready once when
	// clients can use all of them.
	Started func(*Card)
	Ready   func()
	// Late is told of each card that clients cannot use after Patience; it is waited for
	// all the same. Nil is nobody.
	Late     func(*Card)
	Patience time.Duration
}

// Keep starts cards and keeps them running until the context ends or one of them
// fails, and gives them all back. Errors: those of Start and of Running.Run.
func (k Keeping) Keep(ctx context.Context, places Places) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	var cards []Running
	defer func() {
		cancel()
		for _, c := range cards {
			err = errors.Join(err, c.Close())
		}
		err = errors.Join(err, places.Release())
	}()
	for i, place := range places {
		c, err := k.Start(ctx, i, place)
		if err != nil {
			return err
		}
		cards = append(cards, c)
	}
	for _, c := range cards {
		k.Started(c.running())
	}
	var running sync.WaitGroup
	failed := make([]error, len(cards))
	for i, c := range cards {
		running.Go(func() {
			if err := c.Run(ctx); err != nil && ctx.Err() == nil {
				failed[i] = fmt.Errorf("run card %q: %w", c.running().Name, err)
				cancel()
			}
		})
	}
	if k.allReady(ctx, cards) {
		k.Ready()
	}
	running.Wait()
	return errors.Join(failed...)
}

// allReady waits until every card can be used; false if the end comes first, which
// has its own reason.
func (k Keeping) allReady(ctx context.Context, cards []Running) bool {
	for _, c := range cards {
		if k.Late != nil && k.late(ctx, c) {
			k.Late(c.running())
		}
		if c.Ready(ctx) != nil {
			return false
		}
	}
	return true
}

// late reports whether a card cannot be used after all of the patience.
func (k Keeping) late(ctx context.Context, c Running) bool {
	patient, cancel := context.WithTimeout(ctx, k.Patience)
	defer cancel()
	return c.Ready(patient) != nil && patient.Err() != nil && ctx.Err() == nil
}
