package applet

import (
	"errors"

	"hsmemu/applet/apdu"
	"hsmemu/applet/command"
)

// Step runs one command that the application was given. It is total: every
// command has an answer, and an answer other than success leaves the durable
// state as of the last element of [Result.Commits], or as it was.
func Step(env Env, s State, c apdu.Command) (State, Result) {
	t := &tx{env: env, profile: s.profile(), d: s.Durable, s: s.Session, success: apdu.OK}
	data, row, err := t.dispatch(c)
	response := apdu.Response{Data: data, SW: t.success}
	if err == nil {
		t.commit()
	} else {
		response = apdu.Response{SW: t.profile.status(err)}
		t.rollback()
	}
	event := t.event(c, row, response, err)
	if response.SW == apdu.Internal && !errors.As(err, new(apdu.SW)) {
		event.Defect = err
	}
	response = t.seal(c.INS, response)
	return State{Durable: t.d, Session: t.s}, Result{Commits: t.commits, Response: response, Event: event}
}

// dispatch goes through class and channel, row, shape and needs, once and in
// this order, so that a handler starts with checked input and an allowed
// caller.
func (t *tx) dispatch(c apdu.Command) ([]byte, *row, error) {
	if c.CLA&apdu.ClassSecure != apdu.ClassSecure {
		t.endChannel() // whatever else becomes of a plain command (SM-25)
	}
	// Both classes are taken for every instruction, since clients do not agree on
	// which belongs to which.
	switch class := c.CLA &^ apdu.ClassSecure; {
	case class == apdu.ClassISO || class == apdu.ClassProprietary:
	case class&^apdu.ClassChannel == apdu.ClassISO:
		return nil, nil, apdu.ChannelNotSupported
	default:
		return nil, nil, apdu.ClassNotSupported
	}
	c, err := t.open(c)
	if err != nil {
		return nil, nil, err
	}
	t.plain = c
	found, err := command.Find(table, t.profile, c)
	if err != nil {
		return nil, nil, err
	}
	if err := t.meets(found, c); err != nil {
		return nil, found, err
	}
	data, err := found.run(t, c)
	if c.Ne == 0 {
		data = nil
	}
	return data, found, err
}
