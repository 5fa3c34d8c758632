// Package emulator runs one card: it takes commands one at a time, lets the
// pure core decide, saves what has to be saved, answers, and tells observers.
//
//	card, err := emulator.New(durable, store, emulator.World{Rand: rand.Reader, Clock: time.Now, RSA: generator})
//	answer, err := card.Transmit(ctx, command)
//
// A [Card] is what a reader of package vsmartcard holds. The package knows no
// transport, no file name and no format; those are of packages vsmartcard and
// store.
package emulator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/emulator/broken"
	"hsmemu/emulator/chip"
	"hsmemu/keystore"
	"hsmemu/vsmartcard"
)

// Store makes the state of a card durable.
type Store interface {
	// Save returns when the state is durable.
	Save(chip.Durable) error
	// Counts reports whether something counts the saves, to notice an old state
	// that is brought back.
	Counts() bool
}

// World is what a card has around it.
type World struct {
	// Rand is the source of randomness; crypto/rand.Reader outside of tests.
	Rand io.Reader
	// Deterministic makes signatures reproducible, for cards made from a seed.
	Deterministic bool
	// Clock tells the time for certificates and events.
	Clock func() time.Time
	// RSA makes RSA keys.
	RSA keystore.Generator
	// Log hears of failures of ours; nil keeps silent. It never hears of data.
	Log *slog.Logger
}

// ErrMute is the answer of a card that lost its storage: it says nothing until
// it is reset, as hardware with a broken memory would.
var ErrMute = errors.New("card is mute")

// Event is one thing that happened to a card.
type Event struct {
	// Kind is what kind of thing, and Event the command, if there was one.
	Kind Kind
	applet.Event
	// SOPIN and UserPIN are the retry counters after it.
	SOPIN, UserPIN Counter
	// Client is the program that sent the command.
	Client vsmartcard.Client
	// At is when it happened.
	At time.Time
	// Took is how long the step took, saving included.
	Took time.Duration
	// Missed counts the events before this one that an observer was too slow
	// to take.
	Missed int
}

// Kind is what kind of thing happened to a card.
type Kind string

// The kinds of events.
const (
	Did      Kind = "command"   // the card answered a command
	WasReset Kind = "reset"     // power on, power off or reset
	Ejected  Kind = "eject"     // it was taken out of its reader
	Inserted Kind = "insert"    // it was put into its reader
	Restored Kind = "restore"   // it was given another state
	FaultSet Kind = "fault-set" // faults were set or removed
	Struck   Kind = "fault"     // a fault struck
	CutShort Kind = "cut-short" // a command that was never answered, since the card was taken out
)

// Counter is a retry counter: tries left of Max, which is 0 where no PIN is set.
type Counter struct{ Left, Max uint8 }

// core is what decides for a card. A healthy card has none: package chip decides.
type core interface {
	// Step is a command, see chip.Step.
	Step(applet.Env, chip.State, []byte) (chip.State, chip.Result)
	// Reset is the card after a reset, from what it was and what it had saved, and
	// PowerOn what it has kept when it is started from what it had saved.
	Reset(last chip.State, saved chip.Durable) chip.State
	PowerOn(saved chip.Durable) chip.Durable
}

// coreOf is what decides for a card that is broken on purpose, nil for any other.
// Error: broken.ErrUnknown.
func coreOf(d chip.Durable) (core, error) {
	if d.Broken == "" {
		return nil, nil
	}
	defect, err := broken.Find(d.Broken)
	if err != nil {
		return nil, fmt.Errorf("card is broken on purpose: %w", err)
	}
	return defect, nil
}

// Card is a running card. Its methods may be called from several goroutines;
// commands are worked off one after the other.
type Card struct {
	store Store
	world World
	state atomic.Pointer[chip.State] // changed under the lock, looked at without waiting
	saves atomic.Uint64              // so is this

	mu     sync.Mutex // the one lock: a command at a time
	broken core       // nil for a healthy card
	saved  chip.Durable
	mute   bool

	watchers watchers
}

// New starts a card from its durable state, powered on and with nothing
// selected. Errors: applet.ErrState for a state that no card can be in,
// broken.ErrUnknown for a defect that no card can have.
func New(d chip.Durable, s Store, w World) (*Card, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	b, err := coreOf(d)
	if err != nil {
		return nil, err
	}
	c := &Card{store: s, world: w, broken: b, saved: d}
	c.powerOn()
	return c, nil
}

// powerOn starts the card from what it has saved.
func (c *Card) powerOn() {
	if c.broken != nil {
		c.saved = c.broken.PowerOn(c.saved)
	}
	c.become(chip.Boot(c.saved))
}

// ATR is the answer to reset. It waits for nothing and changes nothing, so a
// reader may ask at any time.
func (c *Card) ATR() []byte { return c.Snapshot().Durable().ATR() }

// TokenSerial is the serial number that a token with this card shows on USB,
// and so in the name of its reader: the first 15 characters of the device name,
// as in DENK04041440000.
func (c *Card) TokenSerial() string {
	name := c.Snapshot().Applet.Device.Name
	return name[:min(len(name), 15)]
}

// Reset ends everything that does not survive a loss of power, which power on,
// power off and reset all are. It waits for a command that is being worked on.
func (c *Card) Reset() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mute = false
	if c.broken != nil {
		c.become(c.broken.Reset(c.Snapshot(), c.saved))
		c.Tell(Event{Kind: WasReset, Event: applet.Event{Meaning: "broken on purpose, " + c.saved.Broken}})
		return nil
	}
	c.become(chip.Boot(c.saved))
	c.Tell(Event{Kind: WasReset, Event: applet.Event{Meaning: "reset"}})
	return nil
}

// ErrCounted is the answer to a replacement of a card's state where a counter is
// there to prevent it, and nobody insisted.
var ErrCounted = errors.New("the card's counter is there to prevent this")

// ErrForeign is the answer to a replacement of a card's state by that of another
// device, where nobody insisted.
var ErrForeign = errors.New("the state is that of another device")

// Same reports whether two states are of one device: what never changes on it is
// its name and its key.
func Same(a, b chip.Durable) bool {
	x, y := a.Applet.Device, b.Applet.Device
	return x.Name == y.Name && x.Key.SamePublic(y.Key)
}

// Replaceable returns nil if Replace would take that state, or else applet.ErrState
// for one that no card can be in, broken.ErrUnknown for a defect that none can
// have, or, without force, ErrForeign or ErrCounted.
func (c *Card) Replaceable(d chip.Durable, force bool) error {
	err := d.Check()
	if err == nil {
		_, err = coreOf(d)
	}
	if err != nil {
		return fmt.Errorf("replace state: %w", err)
	}
	switch {
	case force:
		return nil
	case !Same(c.Snapshot().Durable(), d):
		return fmt.Errorf("%w, %s", ErrForeign, d.Applet.Serial())
	case c.store.Counts():
		return ErrCounted
	}
	return nil
}

// Replace puts another durable state into the card, saved first, as removing
// the card and inserting another one does. It returns in words what that takes
// back which no card ever takes back. Without force, a card with a counter refuses
// every state, since that may bring back spent tries and deleted keys, and any card
// refuses the state of another device. Errors: those of Replaceable and of the store;
// after an error the card is as before.
func (c *Card) Replace(d chip.Durable, force bool) (undone []string, err error) {
	if err := c.Replaceable(d, force); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	undone = undoes(c.saved, d)
	if err := c.store.Save(d); err != nil {
		return nil, fmt.Errorf("replace state: %w", err)
	}
	c.saved, c.mute = d, false
	c.saves.Add(1)
	c.broken, _ = coreOf(d) // which is known, see Replaceable
	c.powerOn()
	c.Tell(Event{Kind: Restored, Event: applet.Event{Meaning: "another state"}})
	return undone, nil
}

// undoes says what a restored state takes back that a card never takes back.
func undoes(now, then chip.Durable) []string {
	if !Same(now, then) {
		return []string{"it is another device now, " + then.Applet.Serial()}
	}
	var list []string
	was, is := now.Applet.PINs, then.Applet.PINs
	if was.Initialised && (!is.Initialised || is.SO.Left > was.SO.Left) {
		list = append(list, "SO-PIN tries that were spent came back")
	}
	if was.User.Value != nil && is.User.Left > was.User.Left {
		list = append(list, "user PIN tries that were spent came back")
	}
	return list
}

// Snapshot is the state after the last finished command, without waiting for
// one that is being worked on.
func (c *Card) Snapshot() chip.State { return *c.state.Load() }

// Saves counts the states that the card has saved, without waiting for a command.
func (c *Card) Saves() uint64 { return c.saves.Load() }

// become makes a state the card's.
func (c *Card) become(s chip.State) { c.state.Store(&s) }

// Transmit gives the card a command APDU and returns its response APDU, two
// bytes or more. Everything the answer relies on has been saved when it returns.
// The context is looked at before the command starts; a started command is
// finished, as on hardware. Errors: ErrMute, or the context's.
func (c *Card) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.mute {
		return nil, ErrMute
	}
	started := c.world.Clock()
	next, result, err := c.step(started, command)
	if err != nil {
		c.report("step failed", err)
		return apdu.Response{SW: apdu.Internal}.Bytes(), nil
	}
	if result.Event.Defect != nil {
		c.report("command failed for a reason that is not the client's", result.Event.Defect)
	}
	for i, d := range result.Commits {
		if err := c.store.Save(d); err != nil {
			c.report("state could not be saved, card is mute until its next reset", err)
			c.become(chip.Boot(c.saved))
			c.mute = true
			result.Event.SW, result.Event.Meaning = apdu.MemoryFailure, "state could not be saved"
			result.Event.Commits, result.Event.Received = i, 0
			c.tell(ctx, started, result.Event)
			return apdu.Response{SW: apdu.MemoryFailure}.Bytes(), nil
		}
		c.saved = d
		c.saves.Add(1)
	}
	c.become(next)
	c.tell(ctx, started, result.Event)
	return result.Response, nil
}

// step calls the core. A panic in it is a defect of ours; since the state is a
// value, the old one is still whole.
func (c *Card) step(now time.Time, command []byte) (next chip.State, r chip.Result, err error) {
	env := c.world.env(now)
	env.Observed = c.watchers.any()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in the card: %v%s", p, calls())
		}
	}()
	if c.broken != nil {
		next, r = c.broken.Step(env, c.Snapshot(), command)
		return next, r, nil
	}
	next, r = chip.Step(env, c.Snapshot(), command)
	return next, r, nil
}

// calls says where a panic came from: functions and lines alone. What package
// debug prints besides them, arguments and what is left of them in registers,
// may be pieces of keys.
func calls() string {
	var b strings.Builder
	var at [64]uintptr
	frames := runtime.CallersFrames(at[:runtime.Callers(4, at[:])]) // without this, what called it, and the panic
	for {
		f, more := frames.Next()
		fmt.Fprintf(&b, "\n%s\n\t%s:%d", f.Function, f.File, f.Line)
		if !more {
			return b.String()
		}
	}
}

func (c *Card) report(what string, err error) {
	if c.world.Log != nil {
		c.world.Log.Error(what, "error", err)
	}
}

func (c *Card) tell(ctx context.Context, started time.Time, e applet.Event) {
	if !c.watchers.any() {
		return
	}
	if e.Meaning == "" { // nobody watched when the command began
		e.Meaning = e.SW.Meaning()
	}
	c.Tell(Event{Kind: Did, Event: e, Client: vsmartcard.ClientOf(ctx), At: started, Took: c.world.Clock().Sub(started)})
}

// Tell tells observers what happened to the card, now unless it says when. Whoever
// does something to a card from outside says so here.
func (c *Card) Tell(e Event) {
	if !c.watchers.any() {
		return
	}
	if e.At.IsZero() {
		e.At = c.world.Clock()
	}
	p := &c.state.Load().Applet.PINs
	e.SOPIN, e.UserPIN = Counter{p.SO.Left, p.SO.Max}, Counter{p.User.Left, p.User.Max}
	c.watchers.tell(e)
}

// Watch lets the caller follow the card. Events come in order; those that do
// not fit into the buffer are counted and left out, so that an observer never
// holds up a card. The channel is closed by stop.
func (c *Card) Watch(buffer int) (events <-chan Event, stop func()) {
	return c.watchers.add(buffer)
}

// watchers hands events to observers.
type watchers struct {
	mu   sync.Mutex
	list map[*watcher]struct{}
}

type watcher struct {
	events chan Event
	missed int
}

func (w *watchers) add(buffer int) (<-chan Event, func()) {
	one := &watcher{events: make(chan Event, buffer)}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.list == nil {
		w.list = map[*watcher]struct{}{}
	}
	w.list[one] = struct{}{}
	return one.events, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if _, there := w.list[one]; there {
			delete(w.list, one)
			close(one.events)
		}
	}
}

func (w *watchers) any() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.list) > 0
}

func (w *watchers) tell(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.list {
		e.Missed = one.missed
		select {
		case one.events <- e:
			one.missed = 0
		default:
			one.missed++
		}
	}
}
