package control

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"unicode"

	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/view"
)

// Tap follows a card from within the process that runs it: what happens to it with
// the bytes of commands and answers, as far as they are no secrets, and the states
// that the card was in. It may also hold commands back.
type Tap struct {
	card   *Card
	gate   Gate // nil for none
	events <-chan emulator.Event
	stop   func()

	mu     sync.Mutex
	seen   []sighting
	taken  int     // events so far
	notes  []noted // their events wait to be taken
	saves  uint64  // of the card when its last command had ended
	missed int
	busy   int // commands that the card is working on: their events wait for their bytes
	before int // events that there were when the card began to work
}

// Gate holds commands back.
type Gate interface {
	// Comes is called with every command before anything else sees it, and holds it back
	// until it returns, which it does when the context ends. To name the command, its form and
	// its length takes longer than a status query, so coming does that when it is called; it
	// has no bytes, and no answer.
	Comes(ctx context.Context, coming func() view.Event)
	// Holds reports whether a command is held back now.
	Holds() bool
}

// Seen is something that happened to a card.
type Seen struct {
	view.Event
	// Sent and Answered are the bytes of a command and of its answer. They are
	// empty where none came through the reader.
	SentParts, AnsweredParts []view.Part
	// Command is the command, as far as none of it is secret; else nil.
	Command []byte
	// After is the state that the card kept then; nil where it is as before.
	After *Moment
}

// Moment is a state that a card was in, which it can be brought back to.
type Moment struct{ state chip.Durable }

// MomentOf is a state as a moment.
func MomentOf(d chip.Durable) Moment { return Moment{d} }

// MomentLike is the state of a new card in a situation, in the words of
// view.ParseSituation with blanks or commas between them. Errors: of that, and of
// emulator.World.Manufacture.
func MomentLike(w emulator.World, situation string) (Moment, error) {
	words := strings.FieldsFunc(situation, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
	like, firmware, err := view.ParseSituation(words)
	if err != nil {
		return Moment{}, err
	}
	d, err := w.Manufacture(chip.Order{Firmware: firmware, Like: &like})
	return MomentOf(d), err
}

// sighting is an event, with the bytes of a command and the state after it.
type sighting struct {
	number          int // of the event, from 0
	event           emulator.Event
	command, answer []byte
	after           *chip.Durable
}

// noted is what is noted of a command while a program waits for its answer.
type noted struct {
	command, answer []byte
	events          int // that there were when it had ended, its own being the last of its header
}

// mostSeen is how many sightings are kept for a caller of Next that is slow.
const mostSeen = 4096

// Tap follows the card from here on, until Close. A gate holds commands back; nil holds
// nothing. A card has one tap at most: a second one is ErrBusy.
func (c *Card) Tap(gate Gate) (*Tap, error) {
	t := &Tap{card: c, gate: gate}
	if !c.tap.CompareAndSwap(nil, t) {
		return nil, ErrBusy
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events, t.stop = c.Card.Watch(traceBuffer)
	return t, nil
}

// Close ends it.
func (t *Tap) Close() {
	t.card.tap.CompareAndSwap(t, nil)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stop()
	t.events = nil
}

// Next is what happened since it was called last, in its order. It waits for nothing.
func (t *Tap) Next() []Seen {
	t.mu.Lock()
	if t.busy == 0 {
		t.take(len(t.events))
	} else {
		t.take(t.before - t.taken)
	}
	seen := t.seen
	t.seen = nil
	if cap(t.notes) == 0 {
		t.notes = make([]noted, 0, 64) // the card does not wait for it to grow
	}
	t.mu.Unlock()
	list := make([]Seen, len(seen))
	for i, s := range seen {
		list[i] = s.told()
	}
	return list
}

// take takes so many events that the card has told, and gives them the bytes that were
// noted, under the lock.
func (t *Tap) take(n int) {
	for range min(n, len(t.events)) { // none after Close
		e := <-t.events
		number := t.taken
		t.taken++
		if len(t.seen) >= mostSeen {
			t.missed += 1 + e.Missed
			continue
		}
		e.Missed += t.missed
		t.missed = 0
		s := sighting{number: number, event: e}
		if e.Commits > 0 || e.Kind == emulator.Restored {
			d := t.card.Card.Snapshot().Durable()
			s.after = &d
		}
		t.seen = append(t.seen, s)
	}
	t.notes = slices.DeleteFunc(t.notes, func(x noted) bool {
		if x.events > t.taken {
			return false
		}
		t.give(x)
		return true
	})
}

// give gives the bytes of a command to its event.
func (t *Tap) give(x noted) {
	for i := len(t.seen) - 1; i >= 0; i-- {
		s := &t.seen[i]
		if s.number < x.events && s.event.Kind == emulator.Did && s.command == nil && bytes.HasPrefix(x.command, s.event.Header[:]) {
			s.command, s.answer = x.command, x.answer
			return
		}
	}
}

// begin notes that the card is given a command.
func (t *Tap) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy == 0 {
		t.before = t.taken + len(t.events)
	}
	t.busy++
}

// note notes the bytes of a command that the card was given. A program waits for the answer
// meanwhile, so the event that the card has told of it, if it did, is taken later; not if the card
// has saved a state, which may be another one then.
func (t *Tap) note(command, answer []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy--
	waiting := len(t.events)
	t.notes = append(t.notes, noted{command, answer, t.taken + waiting})
	if saves := t.card.Card.Saves(); saves != t.saves || waiting > cap(t.events)/2 {
		t.saves = saves
		t.take(waiting)
	}
}

// told describes a sighting, without what is secret.
func (s sighting) told() Seen {
	one := Seen{Event: EventOf(s.event)}
	if s.after != nil {
		one.After = &Moment{*s.after}
	}
	if s.command != nil {
		one.SentParts = view.Parts(s.command, one.Event, s.event.Quiet)
		one.AnsweredParts = view.AnswerParts(s.answer, one.Event, s.event.Quiet)
		one.Command = s.command
		for _, p := range one.SentParts {
			if p.Secret() {
				one.Command = nil
			}
		}
	}
	return one
}

// port is what the card's reader holds: the faults, with a tap before them if there
// is one.
type port struct{ card *Card }

// ATR is the card's.
func (p port) ATR() []byte { return p.card.Faults.ATR() }

// Reset resets the card.
func (p port) Reset() error { return p.card.Faults.Reset() }

// Transmit gives the card a command.
func (p port) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	t := p.card.tap.Load()
	if t == nil {
		return p.card.Faults.Transmit(ctx, command)
	}
	if t.gate != nil {
		t.gate.Comes(ctx, func() view.Event { return p.card.coming(command) })
	}
	t.begin()
	kept := bytes.Clone(command) // the card owns command
	answer, err := p.card.Faults.Transmit(ctx, command)
	t.note(kept, bytes.Clone(answer))
	return answer, err
}

// held reports whether a command to the card is held back.
func (c *Card) held() bool {
	t := c.tap.Load()
	return t != nil && t.gate != nil && t.gate.Holds()
}

// coming names a command that nobody has answered.
func (c *Card) coming(command []byte) view.Event {
	return view.Coming(command, view.Managed(c.Card.Snapshot()))
}
