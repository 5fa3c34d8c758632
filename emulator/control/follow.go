package control

import (
	"context"
	"iter"
	"time"

	"hsmemu/emulator"
	"hsmemu/emulator/view"
)

const (
	// traceBuffer is how many events a slow observer may lag behind.
	traceBuffer = 4096
	// traceInterval is how often observers are told. Telling them of each event
	// as it happens would wake a goroutine for each command, which takes as long
	// as the command and its way through a private daemon.
	traceInterval = 20 * time.Millisecond
	// lastWords is how long an observer may take for what is left when the card's
	// process ends.
	lastWords = 2 * time.Second
)

// Told is an event and the name of the card that it happened to.
type Told struct {
	Card string
	view.Event
}

// Follow tells what happens to cards from here on, until the context ends and
// everything has been told that had happened by then. What happened within a moment
// comes together; one card's events in their order, those of several by their times.
// Events that do not fit into a buffer, since the caller is slow, are counted and
// left out. The caller has to range over the result, once.
func Follow(ctx context.Context, cards ...*Card) iter.Seq[[]Told] {
	all := make([]followed, len(cards))
	for i, c := range cards {
		all[i].card = c.Name
		all[i].events, all[i].stop = c.Card.Watch(traceBuffer)
	}
	return func(yield func([]Told) bool) {
		defer func() {
			for _, f := range all {
				f.stop()
			}
		}()
		tick := time.NewTicker(traceInterval)
		defer tick.Stop()
		for last := false; !last; {
			select {
			case <-tick.C:
			case <-ctx.Done():
				last = true
			}
			if batch := merged(all); len(batch) > 0 && !yield(batch) {
				return
			}
		}
	}
}

// followed is one card of those that are followed, with its events that were not
// told yet.
type followed struct {
	card   string
	events <-chan emulator.Event
	stop   func()
	waits  []emulator.Event
}

// merged is what has happened, the earliest first.
func merged(all []followed) (batch []Told) {
	for i := range all {
		f := &all[i]
		f.waits = f.waits[:0]
		for range len(f.events) { // those that are there: more may come meanwhile, for ever
			f.waits = append(f.waits, <-f.events)
		}
	}
	for {
		var first *followed
		for i := range all {
			f := &all[i]
			if len(f.waits) > 0 && (first == nil || f.waits[0].At.Before(first.waits[0].At)) {
				first = f
			}
		}
		if first == nil {
			return batch
		}
		batch = append(batch, Told{first.card, EventOf(first.waits[0])})
		first.waits = first.waits[1:]
	}
}
