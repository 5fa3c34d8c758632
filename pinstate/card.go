package pinstate

import (
	"crypto/subtle"
	"errors"
	"fmt"
)

// Reference is a PIN and its retry counter. A nil Value means that it is not
// defined.
type Reference struct {
	Value     Value `json:"value,omitempty"`
	Left, Max uint8
}

// KeyPolicy is how many keys may authenticate and how many have to; both zero
// for a card without public key authentication.
type KeyPolicy struct{ Total, Required uint8 }

// Card is what survives a loss of power.
type Card struct {
	Initialised bool
	Options     Options
	SO, User    Reference
	// Transport: the user PIN is a transport PIN, which has to be changed
	// before anything else.
	Transport bool
	// MinLength is the user PIN's length at initialisation.
	MinLength uint8
	Keys      KeyPolicy
}

// Login is what does not survive.
type Login struct {
	User, PIN, SO bool
	Keys          uint8
	Session       Value
}

// Cleared is the login after SELECT or reset.
func (l Login) Cleared() Login { return Login{} }

// Errors of transitions.
var (
	ErrUnset       = errors.New("pinstate: PIN is not defined")
	ErrBlocked     = errors.New("pinstate: PIN is blocked")
	ErrTransport   = errors.New("pinstate: transport PIN has to be changed first")
	ErrLength      = errors.New("pinstate: wrong length")
	ErrRule        = errors.New("pinstate: PIN or counter against the rules")
	ErrForbidden   = errors.New("pinstate: not allowed on this card or in this session")
	ErrKeysMissing = errors.New("pinstate: more keys have to authenticate")
	ErrReference   = errors.New("pinstate: no such PIN")
)

// Wrong says that a PIN was wrong, or is not verified, and how many tries are
// left.
type Wrong struct{ Left uint8 }

// Error tells the tries left.
func (w Wrong) Error() string { return fmt.Sprintf("pinstate: not verified, tries left: %d", w.Left) }

const (
	minPIN   = 6
	maxPIN   = 16
	soLength = 8
	soTries  = 15
)

func maxTries(length int) uint8 {
	switch {
	case length < 7:
		return 3
	case length == 7:
		return 5
	}
	return 10
}

// Try is a command that passed all checks that cost nothing.
type Try struct {
	charged Card
	charges bool
	settle  func() (Card, Login, error)
}

// Charges tells whether a try is spent.
func (t Try) Charges() bool { return t.charges }

// Charged is the card with the try spent.
func (t Try) Charged() Card { return t.charged }

// Settle compares.
func (t Try) Settle() (Card, Login, error) { return t.settle() }

func (c Card) verified(l Login) error {
	switch {
	case l.User:
		return nil
	case c.User.Value == nil:
		return ErrKeysMissing
	case l.PIN && c.Options.Has(OptionPINAndKeys) && c.Keys.Total > 0:
		return ErrKeysMissing
	}
	return Wrong{c.User.Left}
}

// Status is the query.
func (c Card) Status(l Login, r Ref) error {
	switch {
	case r != User && r != SO:
		return ErrReference
	case !c.Initialised:
		return ErrUnset
	case r == SO && c.SO.Left == 0:
		return ErrBlocked
	case r == SO && l.SO:
		return nil
	case r == SO:
		return Wrong{c.SO.Left}
	case l.User:
		return nil
	case c.Transport:
		return ErrTransport
	case c.User.Value != nil && c.User.Left == 0:
		return ErrBlocked
	}
	return c.verified(l)
}

func free(c Card, settle func() (Card, Login, error)) Try { return Try{charged: c, settle: settle} }

func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

func (c Card) login(l Login, pin bool) Login {
	l.PIN = l.PIN || pin
	keys := c.Keys.Total > 0 && l.Keys >= c.Keys.Required
	if c.Keys.Total > 0 && c.Options.Has(OptionPINAndKeys) && c.User.Value != nil {
		l.User = l.PIN && keys
	} else {
		l.User = l.User || l.PIN || keys
	}
	return l
}

// Authenticated notes the number of keys.
func (c Card) Authenticated(l Login, keys uint8) Login {
	l.Keys = keys
	return c.login(l, false)
}

// Verify presents a PIN.
func (c Card) Verify(l Login, r Ref, pin []byte) (Try, error) {
	switch {
	case r == SO:
		return c.verifySO(l, pin)
	case r != User:
		return Try{}, ErrReference
	case !c.Initialised || c.User.Value == nil:
		return Try{}, ErrUnset
	case c.Transport:
		return Try{}, ErrTransport
	case len(pin) != len(c.User.Value) && (l.Session == nil || len(pin) != len(l.Session)):
		return Try{}, ErrLength
	}
	out := l
	out.User, out.PIN = false, false
	if c.User.Left == 0 {
		return free(c, func() (Card, Login, error) { return c, out, ErrBlocked }), nil
	}
	charged := c
	charged.User.Left--
	return Try{charged, true, func() (Card, Login, error) {
		switch {
		case equal(pin, c.User.Value):
			full := c
			full.User.Left = full.User.Max
			return full, full.login(l, true), nil
		case l.Session != nil && equal(pin, l.Session):
			return c, c.login(l, true), nil
		}
		return charged, out, Wrong{charged.User.Left}
	}}, nil
}

func (c Card) verifySO(l Login, pin []byte) (Try, error) {
	switch {
	case !c.Initialised:
		return Try{}, ErrUnset
	case c.SO.Left == 0:
		return Try{}, ErrBlocked
	case len(pin) != soLength:
		return Try{}, ErrLength
	}
	return c.so(pin, func(full Card) (Card, Login) {
		l := l
		l.SO = true
		return full, l
	}, func() Login { l := l; l.SO = false; return l }), nil
}

func (c Card) so(pin []byte, right func(Card) (Card, Login), wrong func() Login) Try {
	charged := c
	charged.SO.Left--
	return Try{charged, true, func() (Card, Login, error) {
		if !equal(pin, c.SO.Value) {
			return charged, wrong(), Wrong{charged.SO.Left}
		}
		full := c
		full.SO.Left = full.SO.Max
		next, l := right(full)
		return next, l, nil
	}}
}

// Change is CHANGE REFERENCE DATA.
func (c Card) Change(l Login, r Ref, data []byte) (Try, error) {
	if r == SO {
		switch {
		case !c.Initialised:
			return Try{}, ErrUnset
		case c.SO.Left == 0:
			return Try{}, ErrBlocked
		case len(data) != 2*soLength:
			return Try{}, ErrLength
		}
		next := append(Value{}, data[soLength:]...)
		return c.so(data[:soLength], func(full Card) (Card, Login) { full.SO.Value = next; return full, l }, func() Login { return l }), nil
	}
	n := len(c.User.Value)
	switch {
	case r != User:
		return Try{}, ErrReference
	case !c.Initialised || c.User.Value == nil:
		return Try{}, ErrUnset
	}
	out := l
	out.User, out.PIN = false, false
	if c.User.Left == 0 {
		return free(c, func() (Card, Login, error) { return c, out, ErrBlocked }), nil
	}
	if len(data) < n+max(minPIN, int(c.MinLength)) || len(data) > n+maxPIN {
		return Try{}, ErrRule
	}
	old, next := data[:n], append(Value{}, data[n:]...)
	if c.Transport && equal(old, next) {
		return Try{}, ErrRule
	}
	charged := c
	charged.User.Left--
	return Try{charged, true, func() (Card, Login, error) {
		if !equal(old, c.User.Value) {
			return charged, out, Wrong{charged.User.Left}
		}
		full := c
		full.User.Value, full.User.Left, full.Transport = next, full.User.Max, false
		return full, full.login(l, true), nil
	}}, nil
}

// ResetMode is P1 of RESET RETRY COUNTER.
type ResetMode byte

// The modes.
const (
	ResetWithNew ResetMode = iota
	ResetCounter
	ResetVerifiedNew
	ResetVerifiedCounter
)

// Reset is RESET RETRY COUNTER.
func (c Card) Reset(l Login, m ResetMode, data []byte) (Try, error) {
	setsNew := m == ResetWithNew || m == ResetVerifiedNew
	switch {
	case !c.Initialised:
		return Try{}, ErrUnset
	case !c.Options.Has(OptionResetEnabled), setsNew && c.Options.Has(OptionResetOnly):
		return Try{}, ErrForbidden
	case c.SO.Left == 0:
		return Try{}, ErrBlocked
	}
	n := len(data)
	if m == ResetWithNew && (n < soLength+minPIN || n > soLength+maxPIN) || m == ResetCounter && n != soLength ||
		m == ResetVerifiedNew && (n < minPIN || n > maxPIN) || m == ResetVerifiedCounter && n != 0 {
		return Try{}, ErrLength
	}
	var next Value
	if setsNew {
		next = append(Value{}, data[n-(n-map[ResetMode]int{ResetWithNew: soLength}[m]):]...)
		if c.User.Max > maxTries(len(next)) {
			return Try{}, ErrRule
		}
	}
	reset := func(full Card) (Card, Login) {
		l := l
		full.User.Left = full.User.Max
		if setsNew {
			full.User.Value, full.Transport = next, false
			l.User, l.PIN = false, false
		}
		return full, l
	}
	if m == ResetVerifiedNew || m == ResetVerifiedCounter {
		if !l.SO {
			return Try{}, ErrForbidden
		}
		return free(c, func() (Card, Login, error) { next, l := reset(c); return next, l, nil }), nil
	}
	return c.so(data[:soLength], reset, func() Login { return l }), nil
}

// Setup is what INITIALIZE says.
type Setup struct {
	Options Options
	PIN, SO []byte
	Tries   uint8
	Keys    KeyPolicy
}

// Initialise is INITIALIZE DEVICE.
func (c Card) Initialise(s Setup) (Try, error) {
	if len(s.SO) != soLength {
		return Try{}, ErrLength
	}
	if s.PIN == nil && s.Keys.Total == 0 ||
		s.PIN != nil && (len(s.PIN) < minPIN || len(s.PIN) > maxPIN || s.Tries == 0 || s.Tries > maxTries(len(s.PIN))) {
		return Try{}, ErrRule
	}
	fresh := Card{
		Initialised: true, Options: s.Options, Keys: s.Keys,
		SO:        Reference{Value: append(Value{}, s.SO...), Left: soTries, Max: soTries},
		Transport: s.PIN != nil && s.Options.Has(OptionTransportPIN), MinLength: uint8(len(s.PIN)),
	}
	if s.PIN != nil {
		fresh.User = Reference{Value: append(Value{}, s.PIN...), Left: s.Tries, Max: s.Tries}
	}
	in := Login{User: true, PIN: s.PIN != nil}
	if !c.Initialised {
		return free(c, func() (Card, Login, error) { return fresh, in, nil }), nil
	}
	if c.SO.Left == 0 {
		return Try{}, ErrBlocked
	}
	return c.so(s.SO, func(Card) (Card, Login) { return fresh, in }, func() Login { return Login{} }), nil
}
