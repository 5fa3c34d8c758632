package pinstate

import (
	"errors"
	"fmt"
	"reflect"
)

// Check returns an error, which says in words what is wrong, unless commands
// alone can have brought the card into its present state: nothing is set before
// the first initialisation; the SO-PIN has 8 bytes and at most 15 tries; the user
// PIN has 6 to 16 bytes and no more tries than its length allows; a card without
// a PIN has a policy for public keys (PIN-1, PIN-4, PIN-5). It is for states that come
// from a file or from elsewhere, and it tells no secret, nor how long one is.
func (c Card) Check() error {
	switch {
	case !c.Initialised && !reflect.DeepEqual(c, Card{}):
		return errors.New("PINs or options before the first initialisation")
	case !c.Initialised:
		return nil
	case len(c.SO.Value) != SOPINLength:
		return errors.New("an SO-PIN that is too short or too long")
	case c.SO.Max != SOTries || c.SO.Left > c.SO.Max:
		return fmt.Errorf("SO-PIN with %d of %d tries", c.SO.Left, c.SO.Max)
	case !c.Keys.valid():
		return fmt.Errorf("a login by %d of %d public keys", c.Keys.Required, c.Keys.Total)
	}
	return c.checkUser()
}

func (c Card) checkUser() error {
	if !c.User.defined() {
		if c.User.Left != 0 || c.User.Max != 0 || c.MinLength != 0 || c.Transport || !c.Keys.active() {
			return errors.New("no user PIN, and yet what belongs to one")
		}
		return nil
	}
	length := len(c.User.Value)
	switch {
	case length < MinPIN || length > MaxPIN:
		return errors.New("a user PIN that is too short or too long")
	case c.MinLength < MinPIN || c.MinLength > MaxPIN:
		return fmt.Errorf("a user PIN of at least %d bytes", c.MinLength)
	case c.User.Left > c.User.Max || c.User.Max == 0 || c.User.Max > TriesAllowed(length) || c.User.Max > TriesAllowed(int(c.MinLength)):
		return fmt.Errorf("%d of %d tries for a user PIN of its length, at least %d", c.User.Left, c.User.Max, c.MinLength)
	case c.Transport && (!c.Options.Has(OptionTransportPIN) || length != int(c.MinLength)):
		return errors.New("a transport PIN that no initialisation gave")
	}
	return nil
}
