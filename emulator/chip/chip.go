// Package chip is what is around the SmartCard-HSM application on the chip: it
// parses command APDUs, selects applications by name, loads firmware through the
// card manager's secure channel, and makes new cards. It
// is the outermost pure function of the card: bytes and a state in, bytes, a
// state and the things to save out.
//
//	durable, err := chip.Manufacture(env, chip.Order{Firmware: "4.1"})
//	state := chip.Boot(durable)
//	state, result := chip.Step(env, state, command)
//
// It has no file, reader or clock; package emulator runs a chip, and package
// applet has the application's commands.
package chip

import (
	"fmt"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/applet/tlv"
)

// Durable is what the chip keeps without power. Its JSON form is the content of
// the card's file.
type Durable struct {
	Applet applet.Durable `json:"applet"`
	// Seed is the number that a card for tests was made from; all its
	// randomness follows from it. Nil on every other card.
	Seed *uint64 `json:"seed,omitempty"`
	// KeyPool marks a card for tests whose RSA keys come from a public pool.
	KeyPool bool `json:"key_pool,omitempty"`
	// Broken names the defect of a card that is broken on purpose, see package
	// broken; empty on every other card. The chip does not look at it.
	Broken string `json:"broken,omitempty"`
	// Manager is what the card manager keeps.
	Manager Manager `json:"manager,omitzero"`
}

// State is the whole chip, a value.
type State struct {
	// chip is what the application does not change, with an empty application:
	// package fmt would print the PINs of one in an unexported field.
	chip Durable
	// Applet is the application with its session.
	Applet  applet.State
	session managerSession
	// Selected reports whether commands go to the application. After a reset
	// they go to the card manager.
	Selected bool
}

// Durable is the part of the state that survives.
func (s State) Durable() Durable { return s.chip.with(s.Applet.Durable) }

// Check returns applet.ErrState, with words that say what is wrong and tell no
// secret, unless Manufacture and commands alone can have led to this state. What
// Step returns need not be checked if what it was given was.
func (d Durable) Check() error {
	if err := d.Applet.Check(); err != nil {
		return err
	}
	if err := d.Manager.check(d.Applet.Firmware); err != nil {
		return fmt.Errorf("%w: %w", applet.ErrState, err)
	}
	if d.Manager.Stage != Operational && (len(d.Applet.Keys) > 0 || d.Applet.PINs.Initialised) {
		return fmt.Errorf("%w: keys or PINs of an application that is gone", applet.ErrState)
	}
	return nil
}

// with is the chip with another state of its application.
func (d Durable) with(a applet.Durable) Durable {
	d.Applet = a
	return d
}

// Result is what a step asks for and says.
type Result struct {
	// Commits must be saved in this order before Response is passed on.
	Commits []Durable
	// Response is the response APDU, two bytes or more.
	Response []byte
	// Event describes the step for observers.
	Event applet.Event
}

// Boot is the chip after power on.
func Boot(d Durable) State {
	return State{chip: d.with(applet.Durable{}), Applet: applet.Boot(d.Applet)}
}

// ATR is the answer to reset of the contact interface (ISO 7816-3).
func (d Durable) ATR() []byte { return d.Applet.Profile().ATR }

// cardManager is the name of the issuer security domain (GlobalPlatform Card
// Specification, annex H).
const cardManager = "\xA0\x00\x00\x01\x51\x00\x00\x00"

// Step runs one command APDU. Any bytes have an answer.
func Step(env applet.Env, s State, command []byte) (State, Result) {
	p := s.Applet.Profile()
	c, err := apdu.Parse(command)
	switch n := len(command); {
	case n > p.MaxAPDU || n == p.MaxAPDU && c.Ne > 0:
		return s, refuse("(too long)", command, p.TooLong)
	case err != nil:
		return s, refuse("(not an APDU)", command, apdu.WrongLength)
	}
	if c.INS == apdu.InsSelect && c.CLA&apdu.ClassSecure == 0 {
		s.session = managerSession{} // of any outcome
	}
	stage := s.chip.Manager.Stage
	byName := c.INS == apdu.InsSelect && c.P1 == apdu.SelectByName && c.CLA&apdu.ClassSecure == 0
	switch {
	case byName && c.CLA&^apdu.ClassProprietary == 0 && (len(c.Data) == 0 || string(c.Data) == cardManager):
		return selectCardManager(s, c)
	case byName && string(c.Data) == apdu.AID && stage == Production:
		return s.produce(env, c, command)
	case byName && string(c.Data) == apdu.AID && stage == Operational:
		next, result := forward(env, s, c)
		next.Selected = next.Selected || result.Event.SW == apdu.OK
		return next, result
	case s.Selected && stage == Production:
		return s.produce(env, c, command)
	case s.Selected:
		return forward(env, s, c)
	case c.INS == apdu.InsSelect:
		return s, refuse("SELECT", command, apdu.NotFound)
	}
	return s.serve(env, manager, c, refuse("(no application selected)", command, p.NotSelected))
}

// forward passes a command to the application and lifts what it wants saved.
func forward(env applet.Env, s State, c apdu.Command) (State, Result) {
	next, r := applet.Step(env, s.Applet, c)
	s.Applet = next
	result := Result{Response: r.Response.Bytes(), Event: r.Event}
	for _, d := range r.Commits {
		result.Commits = append(result.Commits, s.chip.with(d))
	}
	return s, result
}

func refuse(what string, command []byte, sw apdu.SW) Result {
	e := applet.Event{Command: what, SW: sw, Meaning: sw.Meaning(), Quiet: true}
	copy(e.Header[:], command)
	return Result{Response: apdu.Response{SW: sw}.Bytes(), Event: e}
}

// selectCardManager deselects the application, which ends its session.
func selectCardManager(s State, c apdu.Command) (State, Result) {
	s = Boot(s.Durable())
	var data []byte
	if c.Ne > 0 {
		data = tlv.Append(nil, 0x6F, tlv.Append(nil, 0x84, []byte(cardManager)))
	}
	r := apdu.Response{Data: data, SW: apdu.OK}
	return s, Result{
		Response: r.Bytes(),
		Event:    applet.Event{Header: [4]byte{c.CLA, c.INS, c.P1, c.P2}, Command: "SELECT", Subject: "card manager", SW: apdu.OK, Meaning: "done", Received: len(data)},
	}
}
