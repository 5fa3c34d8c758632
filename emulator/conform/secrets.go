package conform

import (
	"bytes"
	"io"
	"slices"

	"hsmemu/pinstate"
)

// Secrets are the PINs of one run of a program: of its card, and others that a
// situation gives it or another card. No two are the same, and none is one that
// examples use, so that a program can only have them from its user.
type Secrets struct {
	// PIN and WrongPIN are 8 decimal digits in ASCII, and so is Strangers, the user PIN
	// of a stranger's card. ShortPIN has 4.
	PIN, WrongPIN, ShortPIN, Strangers pinstate.Value
	// SOPIN, WrongSOPIN and StrangersSO are 8 decimal digits in ASCII, 8 bytes.
	SOPIN, WrongSOPIN, StrangersSO pinstate.Value
}

// wellKnown are PINs that examples use, and so programs may have in their text.
var wellKnown = []string{"57621880", "12345678", "87654321", "00000000", "11111111"}

// DrawSecrets draws them. Errors: those of the randomness.
func DrawSecrets(random io.Reader) (s Secrets, err error) {
	var drawn []pinstate.Value
	for _, one := range []struct {
		pin    *pinstate.Value
		digits int
	}{{&s.PIN, 8}, {&s.WrongPIN, 8}, {&s.ShortPIN, 4}, {&s.Strangers, 8}, {&s.SOPIN, 8}, {&s.WrongSOPIN, 8}, {&s.StrangersSO, 8}} {
		again := true
		for again {
			if *one.pin, err = digits(random, one.digits); err != nil {
				return Secrets{}, err
			}
			again = slices.Contains(wellKnown, string(*one.pin)) || slices.ContainsFunc(drawn, func(v pinstate.Value) bool { return bytes.Equal(v, *one.pin) })
		}
		drawn = append(drawn, *one.pin)
	}
	return s, nil
}

// digits are n decimal digits in ASCII, each as likely as the others.
func digits(random io.Reader, n int) (pinstate.Value, error) {
	v := make(pinstate.Value, 0, n)
	var one [1]byte
	for len(v) < n {
		if _, err := io.ReadFull(random, one[:]); err != nil {
			return nil, err
		}
		if one[0] < 250 { // the others would make 0 to 5 likelier
			v = append(v, '0'+one[0]%10)
		}
	}
	return v, nil
}

// Given are the user PIN and the SO-PIN that a program is given in a situation.
func (s Secrets) Given(in Situation) (pin, soPIN pinstate.Value) {
	pin = map[Given]pinstate.Value{Right: s.PIN, Wrong: s.WrongPIN, Short: s.ShortPIN}[in.PIN]
	soPIN = map[Given]pinstate.Value{Right: s.SOPIN, Wrong: s.WrongSOPIN}[in.SOPIN]
	return pin, soPIN
}
