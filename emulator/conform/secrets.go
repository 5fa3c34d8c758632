package conform

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
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

// The secrets that a card gets from rules, those of everybody's tests. The SO-PIN is
// known by its hexadecimal digits, 3537363231383830.
const (
	testPIN   = "648219"
	testSOPIN = "57621880"
)

// TakeSecrets sets Vars and PINIsNew: to what pin and soPIN give, the SO-PIN in
// hexadecimal digits, and where one of them is nil to what cards get in tests. Of a card
// in a reader none is guessed: it gets the user PIN alone, and that only where all its data
// may be lost. Errors: those of pin and soPIN, ErrSOPIN.
func (o *Options) TakeSecrets(inReader bool, pin, soPIN func() ([]byte, error)) (err error) {
	o.Vars, o.PINIsNew = Vars{}, inReader && pin == nil
	if !inReader || o.Destructive {
		o.Vars["pin"] = []byte(testPIN)
	}
	if !inReader {
		o.Vars["so-pin"] = []byte(testSOPIN)
	}
	if pin != nil {
		if o.Vars["pin"], err = pin(); err != nil {
			return err
		}
	}
	if soPIN == nil {
		return nil
	}
	text, err := soPIN()
	if err != nil {
		return err
	}
	defer clear(text)
	if o.Vars["so-pin"], err = ParseSOPIN(text); err != nil {
		return fmt.Errorf("read SO-PIN: %w", err)
	}
	return nil
}

// ErrSOPIN says that something is no SO-PIN in hexadecimal digits.
var ErrSOPIN = errors.New("it is 16 hexadecimal digits")

// ParseSOPIN reads an SO-PIN of 8 bytes in hexadecimal digits, as sc-hsm-tool takes it.
// Error: ErrSOPIN.
func ParseSOPIN(text []byte) ([]byte, error) {
	code := make([]byte, 8)
	if len(text) != hex.EncodedLen(len(code)) {
		return nil, ErrSOPIN
	}
	if _, err := hex.Decode(code, text); err != nil {
		return nil, ErrSOPIN
	}
	return code, nil
}
