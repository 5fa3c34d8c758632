// Package broken has cards that are broken on purpose: each does one thing wrong
// and is healthy otherwise. They show that whoever judges cards can fail one, and
// that a program notices.
//
//	defect, err := broken.Find("so-counter-refills-on-select")
//	state := chip.Boot(defect.PowerOn(durable))
//	state, result := defect.Step(env, state, command)
//
// A defect is a wrapper around the pure step of package chip: a state and a
// command in, a state and what to save and to answer out. The step itself knows
// nothing of it. The defects are the rows of one table, and [Defects] lists them.
// What a broken card saves is what a healthy card could have saved, so that its
// file opens like any other.
package broken

import (
	"errors"
	"fmt"
	"slices"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/emulator/chip"
)

// ErrUnknown says that no defect is called that.
var ErrUnknown = errors.New("no such defect")

// Defect is one thing that a broken card does wrong.
type Defect struct {
	// Name is what it is called, as in the file of a card.
	Name string
	// Does says in one sentence what the card does, and Gain what somebody gets
	// from that who should not.
	Does, Gain string
	// Breaks is the statement of docs/protocol that does not hold, and Rule the rule
	// of package conform that notices.
	Breaks, Rule string

	step     fault
	commands []byte // the instructions that step is for; nil is for all
	reset    func(last, next chip.State) chip.State
	powerOn  func(*applet.Durable)
}

// Defects lists every defect, those of an area together.
func Defects() []Defect { return slices.Clone(defects) }

// Names lists the names of all defects.
func Names() []string {
	var names []string
	for _, d := range defects {
		names = append(names, d.Name)
	}
	return names
}

// Find is the defect of a name. Error: ErrUnknown, with the name.
func Find(name string) (Defect, error) {
	for _, d := range defects {
		if d.Name == name {
			return d, nil
		}
	}
	return Defect{}, fmt.Errorf("%w: %q", ErrUnknown, name)
}

// Step is chip.Step with the defect.
func (d Defect) Step(env applet.Env, s chip.State, command []byte) (chip.State, chip.Result) {
	c, err := apdu.Parse(command)
	switch {
	case d.step == nil || err != nil, d.commands != nil && !slices.Contains(d.commands, c.INS), !s.Selected && c.INS != apdu.InsSelect:
		return chip.Step(env, s, command)
	}
	r := run{env: env, before: s, bytes: command, command: c}
	d.step(&r)
	r.result.Event.Commits = len(r.result.Commits)
	return r.after, r.result
}

// Reset is the card after a reset, with what it had saved and what it was before.
func (d Defect) Reset(last chip.State, saved chip.Durable) chip.State {
	next := chip.Boot(saved)
	if d.reset != nil {
		next = d.reset(last, next)
	}
	return next
}

// PowerOn is what the card has kept when it is started from what it had saved.
func (d Defect) PowerOn(saved chip.Durable) chip.Durable {
	if d.powerOn != nil {
		d.powerOn(&saved.Applet)
	}
	return saved
}

// fault does a command wrongly: it leaves in the run what comes of it.
type fault func(*run)

// run is a command on its way through a broken card.
type run struct {
	env     applet.Env
	before  chip.State
	bytes   []byte
	command apdu.Command

	after  chip.State
	result chip.Result
}

// right does the command as a healthy card does.
func (r *run) right() { r.after, r.result = chip.Step(r.env, r.before, r.bytes) }

// again does the command on an altered card. Back takes the alteration out of
// everything that comes of it.
func (r *run) again(alter func(*applet.State), back func(*applet.Durable)) {
	s := r.before
	alter(&s.Applet)
	r.after, r.result = chip.Step(r.env, s, r.bytes)
	back(&r.after.Applet.Durable)
	for i := range r.result.Commits {
		back(&r.result.Commits[i].Applet)
	}
}

// save makes the state afterwards the last one that is saved.
func (r *run) save() {
	saved := r.result.Commits
	if n := len(saved); n > 0 {
		saved = saved[:n-1]
	}
	r.result.Commits = append(slices.Clone(saved), r.after.Durable())
}

// saveNothing leaves unsaved what the command did.
func (r *run) saveNothing() { r.result.Commits = nil }

// sw is the status word of the answer, also of one in a secure channel.
func (r *run) sw() apdu.SW { return r.result.Event.SW }

// refused reports whether the command was refused after it had charged a try.
func (r *run) refused() bool { return r.sw() != apdu.OK && len(r.result.Commits) > 0 }

// answer replaces the answer. One in a secure channel stays as it is: the keys of
// the channel are not at hand here.
func (r *run) answer(data []byte, sw apdu.SW) {
	if r.result.Event.Secure {
		return
	}
	if len(data) > r.command.Ne {
		data = data[:r.command.Ne]
	}
	r.result.Response = apdu.Response{Data: data, SW: sw}.Bytes()
	r.result.Event.SW, r.result.Event.Meaning, r.result.Event.Received = sw, sw.Meaning(), len(data)
}
