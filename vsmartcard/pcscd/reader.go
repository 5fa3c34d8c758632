package pcscd

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"hsmemu/vsmartcard"
)

// Reader is one reader of a server. Its methods return when the effect is what
// clients are told from then on; those that wait have been woken.
//
// Commands to the card run without the reader's lock, so that a card can be
// taken out while it works, as one can be in life.
type Reader struct {
	server *Server
	place  int
	about  Description

	mu      sync.Mutex
	closed  bool
	in      *insertion  // nil while there is no card
	state   ReaderState // as it is to be published
	handles map[*handle]bool
	owner   *handle // who has the card in a transaction, or exclusively
	locks   int     // how often it began
	changed chan struct{}
	grace   *time.Timer // runs while a powered card is not in use
	lapses  int         // numbers the timers
}

// insertion is one stay of a card in a reader.
type insertion struct {
	card    vsmartcard.Card
	ctx     context.Context
	cancel  context.CancelFunc
	shown   bool    // published
	powered bool    // as far as the daemon remembers: it gave power and has not taken it
	used    bool    // since a client took the card up, until the last handle is gone
	busy    bool    // somebody waits for the card
	flight  *flight // a command of a client, if that is it
}

// flight is a command that a card works on.
type flight struct {
	handle  *handle
	reply   structure // what the client gets if the card goes before its answer
	claimed bool      // it has got that
}

func newReader(s *Server, place int, about Description) *Reader {
	return &Reader{
		server: s, place: place, about: about,
		state:   ReaderState{Name: about.Name, State: StateAbsent},
		handles: make(map[*handle]bool),
	}
}

// Name returns the reader's name.
func (r *Reader) Name() string { return r.about.Name }

// Insert puts a card into the reader and powers it to learn its ATR. A card
// that gives none, or whose reset fails, is in the reader and mute.
func (r *Reader) Insert(card vsmartcard.Card) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return ErrClosed
	case r.in != nil:
		return ErrOccupied
	}
	in := &insertion{card: card}
	in.ctx, in.cancel = context.WithCancel(context.Background())
	r.in = in
	code := r.restart(in)
	switch {
	case r.closed:
		return ErrClosed
	case r.in != in:
		return ErrEmpty // taken out before anybody saw it
	}
	r.state.Protocol = 0
	in.powered = code == OK
	if !in.powered {
		r.state.State = StatePresent | StateMute
	}
	in.shown = true
	r.count()
	r.publish()
	r.arm()
	return nil
}

// count counts an insertion or removal.
func (r *Reader) count() { r.state.Events = (r.state.Events + 1) & 0xFFFF }

// Eject takes the card out. A client whose command the card is working on is
// told so at once; what the card makes of the command is its own affair.
func (r *Reader) Eject() error {
	r.mu.Lock()
	in := r.in
	if in == nil {
		r.mu.Unlock()
		return ErrEmpty
	}
	idle := r.takeOut(in)
	r.mu.Unlock()
	if idle {
		_ = in.card.Reset()
	}
	return nil
}

// takeOut is Eject under the lock. It reports whether the card was idle: then
// its owner resets it, for without a reader there is no power. A card that
// still works on something is not waited for; the next reader resets it.
func (r *Reader) takeOut(in *insertion) (idle bool) {
	in.cancel()
	r.in = nil
	r.disarm()
	for h := range r.handles {
		h.event = ErrRemoved
	}
	r.owner, r.locks = nil, 0
	if f := in.flight; f != nil {
		f.claimed = true
		f.handle.conn.handOver(f.reply)
	}
	r.state.State, r.state.ATR, r.state.Protocol = StateAbsent, nil, 0
	if in.shown {
		r.count()
	}
	r.wake()
	r.publish()
	return !in.busy
}

// handOver answers the request that c's goroutine is busy with, and has
// another goroutine go on with what the client asks next.
func (c *conn) handOver(reply structure) {
	c.out.put(reply)
	c.server.running.Go(func() {
		if c.out.flush(c.stream) != nil {
			c.end()
			return
		}
		c.run()
	})
}

// Reset resets the card as its reader would by itself: all clients that use it
// are told at their next request.
func (r *Reader) Reset() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.in == nil || !r.in.shown {
		return ErrEmpty
	}
	r.disarm()
	if r.reset() == ErrNoSmartcard {
		return ErrEmpty
	}
	r.flagReset() // again, for those who reconnected while it waited for the card
	if r.owner != nil && !r.owner.exclusive {
		r.unlock(r.owner)
	}
	r.show(true)
	r.arm()
	return nil
}

// Close disconnects the reader, with its card.
func (r *Reader) Close() {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	r.closed = true
	in, idle := r.in, false
	if in != nil {
		if in.flight != nil {
			in.flight.reply.set(transmitCodeAt, uint32(ErrReaderUnavailable))
		}
		idle = r.takeOut(in)
	}
	r.wake()
	r.mu.Unlock()
	if idle {
		_ = in.card.Reset()
	}
	r.server.drop(r)
}

// turn waits until the card has nothing to do.
func (r *Reader) turn(in *insertion) Code {
	for r.in == in && in.busy {
		r.await(nil, nil)
	}
	if r.in != in {
		return ErrNoSmartcard
	}
	return OK
}

// restart interrupts the power of a card that has nothing to do, and learns its
// ATR. It leaves the state to be published; that of a card which gives no ATR is
// the caller's to decide. The lock is held, but not while the card is busy.
func (r *Reader) restart(in *insertion) Code {
	in.busy = true
	r.mu.Unlock()
	err := in.card.Reset()
	atr := bytes.Clone(in.card.ATR())
	r.mu.Lock()
	in.busy = false
	r.wake()
	if r.in != in {
		return ErrNoSmartcard
	}
	if err != nil || len(atr) == 0 || len(atr) > atrMax {
		r.state.ATR = nil
		return ErrUnpowered
	}
	r.state.State, r.state.ATR = StatePresent|StatePowered|StateNegotiable, atr
	return OK
}

// present reports whether clients see a card.
func (r *Reader) present() bool { return r.in != nil && r.in.shown }

// reset resets the card or interrupts its power, and tells all who use it. They
// are told even if there is no card, which makes them forget that it was removed.
func (r *Reader) reset() Code {
	r.flagReset()
	r.state.Protocol = 0
	if !r.present() {
		return ErrNoSmartcard
	}
	in := r.in
	if code := r.turn(in); code != OK {
		return code
	}
	code := r.restart(in)
	if code != ErrNoSmartcard {
		r.state.Protocol = 0
	}
	if code == ErrUnpowered {
		r.state.State = StatePresent | StateMute
	}
	return code
}

// unpower takes the power away and leaves it so.
func (r *Reader) unpower() {
	r.flagReset()
	r.state.Protocol = 0
	if !r.present() {
		return
	}
	in := r.in
	if r.turn(in) != OK {
		return
	}
	in.powered = false
	r.state.Protocol, r.state.State = 0, StatePresent
	r.rest(in)
}

// rest has a card without power forget what it knew while it had.
func (r *Reader) rest(in *insertion) {
	in.busy = true
	r.mu.Unlock()
	_ = in.card.Reset()
	r.mu.Lock()
	in.busy = false
	r.wake()
}

func (r *Reader) flagReset() {
	for h := range r.handles {
		h.event = ErrReset
	}
}

// arm starts the grace of a card that nobody uses. Who has the reader alone
// (Direct) does not use the card.
func (r *Reader) arm() {
	d := r.server.Grace
	if d == 0 {
		d = graceDefault
	}
	if d < 0 || r.closed || r.in == nil || !r.in.powered || r.in.used {
		return
	}
	r.disarm()
	r.lapses++
	lapse := r.lapses
	r.server.running.Add(1)
	r.grace = time.AfterFunc(d, func() {
		defer r.server.running.Done()
		r.lapse(lapse)
	})
}

// disarm stops it.
func (r *Reader) disarm() {
	if r.grace == nil {
		return
	}
	if r.grace.Stop() {
		r.server.running.Done()
	}
	r.grace = nil
	r.lapses++
}

// lapse takes the power from a card whose grace is over. Clients see no
// difference until they notice that it has forgotten its login (PCSC-25).
func (r *Reader) lapse(number int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	in := r.in
	if in == nil || r.turn(in) != OK || r.lapses != number || !in.powered || in.used {
		return
	}
	r.grace = nil
	in.powered = false
	r.state.Protocol = 0
	r.publish()
	r.rest(in)
}

// publish shows clients the state as it is, and show does it with news that
// are not in it.
func (r *Reader) publish() { r.show(false) }

func (r *Reader) show(news bool) { r.server.publish(r, r.state, news) }

// wake makes everyone who awaits a change look again.
func (r *Reader) wake() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// await gives up the lock until something has changed. It reports false when
// lost or limit came first.
func (r *Reader) await(lost <-chan struct{}, limit <-chan time.Time) bool {
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	changed := r.changed
	r.mu.Unlock()
	defer r.mu.Lock()
	select {
	case <-changed:
		return true
	case <-lost:
	case <-limit:
	}
	return false
}

// transmit has the card execute a client's command. The error means that the
// connection is in other hands.
func (r *Reader) transmit(h *handle, protocol Protocol, command []byte, request structure) ([]byte, Code, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	in, code := r.ready(h, protocol)
	if code != OK {
		return nil, code, nil
	}
	request.set(transmitCodeAt, uint32(ErrNotTransacted))
	f := &flight{handle: h, reply: request}
	in.busy, in.flight = true, f
	r.mu.Unlock()
	answer, err := in.card.Transmit(vsmartcard.WithClient(in.ctx, h.conn.client), command)
	r.mu.Lock()
	if f.claimed {
		return nil, OK, errHandedOver
	}
	in.busy, in.flight = false, nil
	r.wake()
	var failed Code
	switch {
	case errors.As(err, &failed) && failed != OK:
		return nil, failed, nil
	case err != nil || len(answer) < 2 || len(answer) > payloadMax:
		return nil, ErrNotTransacted, nil
	}
	return answer, OK, nil
}

// ready waits for the card's turn and makes the checks of a command.
func (r *Reader) ready(h *handle, protocol Protocol) (*insertion, Code) {
	for {
		code := r.check(h)
		switch {
		case code != OK:
			return nil, code
		case protocol != Raw && !r.present():
			return nil, ErrNoSmartcard
		case protocol != Raw && protocol != anyOld && protocol != r.state.Protocol:
			return nil, ErrProtocolMismatch
		case !r.present(), r.about.NoRaw && (protocol == Raw || r.state.Protocol != T0 && r.state.Protocol != T1):
			return nil, ErrNotTransacted
		case r.in.busy:
			r.await(nil, nil)
			continue
		}
		return r.in, OK
	}
}
