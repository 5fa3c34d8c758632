package pinstate

import "slices"

// Verify presents a PIN. For User the session PIN is accepted as well; it logs
// in but leaves the counter as it was. A right PIN restores its counter; a
// wrong one ends the login of its user.
//
// It returns ErrReference, ErrUnset, ErrTransport, ErrLength, and for SO also
// ErrBlocked, when nothing changes at all. A blocked user PIN is answered by a
// Try, since it ends a login.
func (c Card) Verify(l Login, r Ref, presented []byte) (Try, error) {
	switch r {
	case User:
		return c.verifyUser(l, presented)
	case SO:
		return c.verifySO(l, presented)
	}
	return Try{}, ErrReference
}

// verifyUser goes through PIN-35 to PIN-43 from top to bottom.
func (c Card) verifyUser(l Login, presented []byte) (Try, error) {
	switch {
	case !c.Initialised, !c.User.defined():
		return Try{}, ErrUnset
	case c.Transport:
		return Try{}, ErrTransport
	case len(presented) != len(c.User.Value) && (l.Session == nil || len(presented) != len(l.Session)):
		return Try{}, ErrLength
	case c.User.blocked():
		return c.lockedOut(l), nil
	}
	charged, right := c, c
	charged.User = c.User.spent()
	right.User = c.User.restored()
	in := c.pinVerified(l)
	rivals := []rival{{c.User.Value, outcome{card: right, login: in}}}
	if l.Session != nil {
		rivals = append(rivals, rival{l.Session, outcome{card: c, login: in}})
	}
	return charging(charged, slices.Clone(presented), l.withoutUser(), charged.User.Left, rivals...), nil
}

// verifySO goes through PIN-44 to PIN-47 from top to bottom.
func (c Card) verifySO(l Login, presented []byte) (Try, error) {
	switch {
	case !c.Initialised:
		return Try{}, ErrUnset
	case c.SO.blocked():
		return Try{}, ErrBlocked
	case len(presented) != SOPINLength:
		return Try{}, ErrLength
	}
	out, in := l, l
	out.SO, in.SO = false, true
	return c.askSO(presented, out, outcome{card: c, login: in}), nil
}

// lockedOut answers a user PIN without tries: the login ends, no counter moves.
func (c Card) lockedOut(l Login) Try {
	return settled(c, outcome{card: c, login: l.withoutUser(), err: ErrBlocked})
}

// askSO charges a try of the SO-PIN. After a match its counter is full and then
// follows; otherwise the login is wrong.
func (c Card) askSO(presented []byte, wrong Login, then outcome) Try {
	charged := c
	charged.SO = c.SO.spent()
	then.card.SO = then.card.SO.restored()
	return charging(charged, slices.Clone(presented), wrong, charged.SO.Left, rival{c.SO.Value, then})
}

// Change replaces a PIN: data is the old one directly followed by the new one.
// A right old PIN restores the counter. A change of the user PIN logs in and
// ends the transport state and the session PIN; a wrong old user PIN ends the
// login. The login is otherwise unchanged.
//
// A new user PIN has 6 to 16 bytes, is not shorter than the one given at
// initialisation, and differs from a transport PIN: otherwise ErrRule. For SO
// the data has 16 bytes: otherwise ErrLength. Further errors as for Verify,
// except that ErrTransport does not occur.
func (c Card) Change(l Login, r Ref, data []byte) (Try, error) {
	switch r {
	case User:
		return c.changeUser(l, data)
	case SO:
		return c.changeSO(l, data)
	}
	return Try{}, ErrReference
}

// changeUser goes through PIN-50 to PIN-58 from top to bottom.
func (c Card) changeUser(l Login, data []byte) (Try, error) {
	switch {
	case !c.Initialised, !c.User.defined():
		return Try{}, ErrUnset
	case c.User.blocked():
		return c.lockedOut(l), nil
	}
	known := len(c.User.Value)
	length := len(data) - known
	if length < MinPIN || length > MaxPIN || length < int(c.MinLength) {
		return Try{}, ErrRule
	}
	old, fresh := Value(slices.Clone(data[:known])), Value(slices.Clone(data[known:]))
	// The two halves are compared with each other, not with the stored PIN:
	// so the refusal costs no try and yet tells nothing about that PIN.
	if c.Transport && slices.Equal(old, fresh) {
		return Try{}, ErrRule
	}
	charged, right := c, c
	charged.User = c.User.spent()
	right.User = c.User.restored()
	right.User.Value = fresh
	right.Transport = false
	then := outcome{card: right, login: c.pinVerified(l)}
	then.login.Session = nil
	return charging(charged, old, l.withoutUser(), charged.User.Left, rival{c.User.Value, then}), nil
}

// changeSO goes through PIN-59 from top to bottom.
func (c Card) changeSO(l Login, data []byte) (Try, error) {
	switch {
	case !c.Initialised:
		return Try{}, ErrUnset
	case c.SO.blocked():
		return Try{}, ErrBlocked
	case len(data) != 2*SOPINLength:
		return Try{}, ErrLength
	}
	right := c
	right.SO.Value = slices.Clone(data[SOPINLength:])
	return c.askSO(data[:SOPINLength], l, outcome{card: right, login: l}), nil
}

// ResetMode is the form of RESET RETRY COUNTER, its parameter P1.
type ResetMode byte

// The forms differ in the data they take. Those called verified need the SO-PIN
// to have been verified before.
const (
	ResetWithNew         ResetMode = 0x00 // SO-PIN and new user PIN
	ResetCounter         ResetMode = 0x01 // SO-PIN
	ResetVerifiedNew     ResetMode = 0x02 // new user PIN
	ResetVerifiedCounter ResetMode = 0x03 // nothing
)

func (m ResetMode) setsPIN() bool { return m == ResetWithNew || m == ResetVerifiedNew }
func (m ResetMode) asksSO() bool  { return m == ResetWithNew || m == ResetCounter }

// Reset gives the user PIN its tries back and, in the forms that take one, a
// new value; that ends the transport state and the user's login. Every form ends
// the session PIN, which would come back to life with the tries of a blocked
// PIN otherwise. It needs no login of the user and works on a blocked user PIN.
// A wrong SO-PIN leaves the login as it was.
//
// It returns ErrUnset; ErrForbidden where the options do not permit the form or
// the SO-PIN was not verified; ErrBlocked for a blocked SO-PIN; ErrLength;
// ErrRule for a new PIN too short for the number of tries; ErrReference for an
// unknown form.
func (c Card) Reset(l Login, m ResetMode, data []byte) (Try, error) {
	if m > ResetVerifiedCounter {
		return Try{}, ErrReference
	}
	so, fresh, err := c.checkReset(l, m, data)
	if err != nil {
		return Try{}, err
	}
	then := outcome{card: c, login: l}
	then.card.User = c.User.restored()
	then.login.Session = nil
	if m.setsPIN() {
		then.card.User.Value = slices.Clone(fresh)
		then.card.Transport = false
		then.login = then.login.withoutUser()
	}
	if !m.asksSO() {
		return settled(c, then), nil
	}
	return c.askSO(so, l, then), nil
}

// checkReset goes through PIN-60 to PIN-70 from top to bottom, as far as no secret
// is needed, and takes the data apart. The row for a card without a user PIN is
// inferred from PIN-74: there is nothing to reset, and nothing
// that a card for public keys alone would gain.
func (c Card) checkReset(l Login, m ResetMode, data []byte) (so, fresh []byte, err error) {
	switch {
	case !c.Initialised:
		return nil, nil, ErrUnset
	case !c.Options.Has(OptionResetEnabled):
		return nil, nil, ErrForbidden
	case c.Options.Has(OptionResetOnly) && m.setsPIN():
		return nil, nil, ErrForbidden
	case c.SO.blocked():
		return nil, nil, ErrBlocked
	case !c.User.defined():
		return nil, nil, ErrUnset
	}
	if m.asksSO() {
		if len(data) < SOPINLength {
			return nil, nil, ErrLength
		}
		so, data = data[:SOPINLength], data[SOPINLength:]
	}
	if m.setsPIN() {
		if len(data) < MinPIN || len(data) > MaxPIN {
			return nil, nil, ErrLength
		}
		fresh, data = data, nil
	}
	switch {
	case len(data) > 0:
		return nil, nil, ErrLength
	case m.setsPIN() && c.User.Max > TriesAllowed(len(fresh)):
		return nil, nil, ErrRule
	case !m.asksSO() && !l.SO:
		return nil, nil, ErrForbidden
	}
	return so, fresh, nil
}
