package pinstate

import "slices"

// Setup is what INITIALIZE DEVICE says about users.
type Setup struct {
	// Options are the option bytes.
	Options Options
	// PIN is the user PIN, 6 to 16 bytes; nil where public keys are the only
	// login.
	PIN Value
	// SO is the initialisation code, 8 bytes.
	SO Value
	// Tries is the user PIN's retry counter: 1 to 3 for a PIN of 6 bytes, to 5
	// for 7 bytes, to 10 for longer ones. It has no meaning without a PIN.
	Tries uint8
	// Keys is the policy for public keys.
	Keys KeyPolicy
	// Login is the login as it is now. It stays when the code is wrong, and
	// decides nothing.
	Login Login
}

// TriesAllowed is the largest retry counter for a user PIN of a length in bytes
// (PIN-5).
func TriesAllowed(length int) uint8 {
	switch {
	case length < MinPIN || length > MaxPIN:
		return 0
	case length == 6:
		return 3
	case length == 7:
		return 5
	}
	return 10
}

// check refuses what breaks a rule whatever the card is.
func (s Setup) check() error {
	switch {
	case len(s.SO) != SOPINLength:
		return ErrLength
	case s.PIN != nil && (s.Tries == 0 || s.Tries > TriesAllowed(len(s.PIN))):
		return ErrRule
	case s.PIN == nil && !s.Keys.active():
		return ErrRule
	case !s.Keys.valid():
		return ErrRule
	}
	return nil
}

// Initialise sets the card up anew and logs the user in. A card that was never
// initialised takes the code as its SO-PIN; any other asks for it, and a wrong
// one spends a try and changes nothing else. The SO-PIN itself stays.
//
// It returns ErrLength for a code that is not 8 bytes long, ErrRule for a PIN,
// counter or policy that is not allowed, and ErrBlocked for a blocked SO-PIN.
func (c Card) Initialise(s Setup) (Try, error) {
	if err := s.check(); err != nil {
		return Try{}, err
	}
	then := outcome{
		card: Card{
			Initialised: true,
			Options:     s.Options,
			SO:          c.SO,
			Transport:   s.PIN != nil && s.Options.Has(OptionTransportPIN),
			Keys:        s.Keys,
		},
		login: Login{User: true},
	}
	if s.PIN != nil {
		then.card.User = Reference{Value: slices.Clone(s.PIN), Left: s.Tries, Max: s.Tries}
		then.card.MinLength = uint8(len(s.PIN))
	}
	switch {
	case !c.Initialised:
		then.card.SO = Reference{Value: slices.Clone(s.SO), Left: SOTries, Max: SOTries}
		return settled(c, then), nil
	case c.SO.blocked():
		return Try{}, ErrBlocked
	}
	return c.askSO(s.SO, s.Login, then), nil
}
