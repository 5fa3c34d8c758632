// Package pinstate is what a SmartCard-HSM knows about its users: the two PINs
// with their retry counters, the options given at initialisation, the transport
// PIN, the session PIN and the policy for authentication by public keys. It
// holds transitions only. It stores nothing, draws no randomness, checks no
// signature and knows no status words; the registered keys, files and secure
// channels belong to its caller.
//
// A command that compares a secret has two halves, so that cutting the power
// cannot buy a guess. The card with the try spent must be durable before the
// secret is looked at:
//
//	try, err := card.Verify(login, pinstate.User, presented)
//	if err != nil {
//		return err // nothing changed, no try was spent
//	}
//	if try.Charges() {
//		save(try.Charged())
//	}
//	card, login, err = try.Settle()
//
// The concepts follow ISO/IEC 7816-4 (VERIFY, CHANGE REFERENCE DATA, RESET
// RETRY COUNTER).
package pinstate

// Ref is the reference of a PIN, the parameter P2 of the PIN commands of
// ISO/IEC 7816-4.
type Ref byte

// The two references of the card.
const (
	User Ref = 0x81 // user PIN, 6 to 16 bytes
	SO   Ref = 0x88 // SO-PIN, the initialisation code, 8 bytes
)

// Lengths in bytes and counters that no option changes (PIN-1, PIN-4).
const (
	MinPIN      = 6  // bytes of a user PIN, at least
	MaxPIN      = 16 // and at most
	SOPINLength = 8  // bytes
	SOTries     = 15 // of every SO-PIN
	MaxKeys     = 90 // public keys that log in
)

// Card is the durable part of the state. The zero Card was never initialised.
// A Card is a value: no method changes its receiver, and the bytes of its
// secrets are never altered after they were set. Cards of equal content are
// equal by reflect.DeepEqual, also after a round trip through JSON.
type Card struct {
	// Initialised tells that INITIALIZE DEVICE has succeeded once.
	Initialised bool `json:"initialised"`
	// Options are those of the last initialisation, kept verbatim.
	Options Options `json:"options"`
	// SO is the initialisation code and its counter.
	SO Reference `json:"so"`
	// User is the user PIN and its counter. Its value is nil where public keys
	// are the only way to log in.
	User Reference `json:"user"`
	// Transport tells that the user PIN is a transport PIN, to be changed
	// before its first use.
	Transport bool `json:"transport"`
	// MinLength is the length in bytes of the user PIN given at initialisation.
	// A change of the PIN must not go below it, since the number of tries was
	// granted for that length.
	MinLength uint8 `json:"minLength"`
	// Keys is the policy for authentication by public keys.
	Keys KeyPolicy `json:"keys"`
}

// Reference is a secret to compare with and its retry counter.
type Reference struct {
	// Value is the secret; nil is none.
	Value Value `json:"value"`
	// Left is the number of tries left; 0 is blocked.
	Left uint8 `json:"left"`
	// Max is what a match sets Left to.
	Max uint8 `json:"max"`
}

func (r Reference) defined() bool { return r.Value != nil }
func (r Reference) blocked() bool { return r.Left == 0 }

func (r Reference) spent() Reference {
	r.Left--
	return r
}

func (r Reference) restored() Reference {
	r.Left = r.Max
	return r
}

// KeyPolicy says how many public keys are registered and how many of them must
// authenticate for a login (n of m). The zero KeyPolicy is no authentication by
// public keys.
type KeyPolicy struct {
	Total    uint8 `json:"total"`    // keys to register, 1 to 90
	Required uint8 `json:"required"` // keys needed, 1 to Total
}

func (p KeyPolicy) valid() bool {
	return p == KeyPolicy{} || p.Required >= 1 && p.Required <= p.Total && p.Total <= MaxKeys
}

func (p KeyPolicy) active() bool        { return p.Required > 0 }
func (p KeyPolicy) met(keys uint8) bool { return p.active() && keys >= p.Required }

// Login is the volatile part of the state: who has authenticated since the
// applet was selected. The zero Login is nobody.
type Login struct {
	// User is the user authentication state: keys may be used.
	User bool
	// PIN tells that the user PIN was verified. It decides only where PIN and
	// public keys are both required.
	PIN bool
	// SO tells that the SO-PIN was verified.
	SO bool
	// Keys is the number of public keys that have authenticated.
	Keys uint8
	// Session is the session PIN, accepted by Verify beside the user PIN until
	// that is changed or reset; nil is none. The caller sets it when it has
	// drawn one.
	Session Value
}

// Cleared is the login after a selection of the applet, a reset or a loss of
// power: nobody, and no session PIN.
func (l Login) Cleared() Login { return Login{} }

// withoutUser ends the user's login. The session PIN and the authenticated keys
// have ends of their own.
func (l Login) withoutUser() Login {
	l.User, l.PIN = false, false
	return l
}

// Status answers the query form of VERIFY for the PIN that r names. It is nil
// when that PIN's user is logged in; otherwise ErrUnset, ErrTransport,
// ErrBlocked, ErrKeysMissing, ErrReference or, where tries are left, Wrong. It
// changes nothing.
//
// A login takes precedence over a pending transport PIN, which takes precedence
// over a blocked counter.
func (c Card) Status(l Login, r Ref) error {
	switch r {
	case User:
		return c.userStatus(l)
	case SO:
		return c.soStatus(l)
	}
	return ErrReference
}

// userStatus is the query for the user PIN (PIN-28 to PIN-34).
func (c Card) userStatus(l Login) error {
	switch {
	case !c.Initialised:
		return ErrUnset
	case l.User:
		return nil
	case c.Transport:
		return ErrTransport
	case !c.User.defined() && c.Keys.active():
		return ErrKeysMissing
	case !c.User.defined():
		return ErrUnset
	case c.User.blocked():
		return ErrBlocked
	case l.PIN && c.bothRequired():
		return ErrKeysMissing
	}
	return Wrong{Left: c.User.Left}
}

// soStatus is the query for the SO-PIN (PIN-44 to PIN-47). A blocked counter is
// told even to somebody who verified the SO-PIN before it ran out.
func (c Card) soStatus(l Login) error {
	switch {
	case !c.Initialised:
		return ErrUnset
	case c.SO.blocked():
		return ErrBlocked
	case l.SO:
		return nil
	}
	return Wrong{Left: c.SO.Left}
}

// bothRequired reports whether the PIN alone, or keys alone, are not enough. The
// option asks for both of what was configured: without a PIN the keys remain
// the only login (PKA-25), and without keys the PIN (inferred).
func (c Card) bothRequired() bool {
	return c.Options.Has(OptionPINAndKeys) && c.User.defined() && c.Keys.active()
}

// pinVerified is the login after a right user PIN or session PIN.
func (c Card) pinVerified(l Login) Login {
	l.PIN = true
	l.User = l.User || !c.bothRequired() || c.Keys.met(l.Keys)
	return l
}

// Authenticated is the login after the number of authenticated public keys has
// become keys. It logs the user in when the policy is met: as many keys as
// required and, with OptionPINAndKeys, the PIN as well. It never ends a login,
// so it also serves a new challenge, which makes the number 0.
//
// Keys do not log in to a card whose user PIN is blocked.
func (c Card) Authenticated(l Login, keys uint8) Login {
	l.Keys = keys
	switch {
	case !c.Keys.met(keys):
	case c.User.defined() && c.User.blocked():
		// A login and a blocked PIN cannot coexist (PIN-34).
	case c.bothRequired() && !l.PIN:
	default:
		l.User = true
	}
	return l
}
