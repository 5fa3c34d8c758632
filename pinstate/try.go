package pinstate

import (
	"crypto/subtle"
	"fmt"
	"io"
)

// Try is a command between its two halves. The first makes Charged durable
// where the command Charges; only then may Settle look at the secret. A Try
// prints no secret. Methods may be called more than once and answer the same.
type Try struct {
	charges   bool
	charged   Card
	presented Value
	rivals    []rival
	otherwise outcome
}

// rival is a secret that the presented one may equal, and what follows then.
type rival struct {
	value Value
	then  outcome
}

type outcome struct {
	card  Card
	login Login
	err   error
}

// charging is a try that compares: c has the try spent already.
func charging(c Card, presented []byte, l Login, left uint8, rivals ...rival) Try {
	return Try{
		charges: true, charged: c, presented: presented, rivals: rivals,
		otherwise: outcome{card: c, login: l, err: Wrong{Left: left}},
	}
}

// settled is a try without a secret: before is the card as it is now, then what
// follows.
func settled(before Card, then outcome) Try { return Try{charged: before, otherwise: then} }

// Charges reports whether a try is spent before the secret is looked at.
func (t Try) Charges() bool { return t.charges }

// Charged is the card with the try spent, the same for a right and a wrong
// secret. It equals the card as it was when Charges is false.
func (t Try) Charged() Card { return t.charged }

// Settle compares in constant time and answers the card and the login that
// follow. The error is nil, Wrong or ErrBlocked; with an
// error the card equals Charged, while the login may have ended.
func (t Try) Settle() (Card, Login, error) {
	out := t.otherwise
	for i := range t.rivals {
		// All are compared, and the first match decides.
		r := t.rivals[len(t.rivals)-1-i]
		if subtle.ConstantTimeCompare(r.value, t.presented) == 1 {
			out = r.then
		}
	}
	return out.card, out.login, out.err
}

// Format implements fmt.Formatter, since package fmt looks through unexported
// fields past the methods of their types.
func (t Try) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "pinstate.Try") }
