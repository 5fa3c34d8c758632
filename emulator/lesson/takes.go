package lesson

import (
	"bytes"
	"context"
	"fmt"

	"hsmemu/applet/apdu"
	"hsmemu/emulator"
	"hsmemu/emulator/conform"
	"hsmemu/emulator/statedir"
)

// taking are the PINs that a card can be wanted to take.
var taking = map[string]struct {
	ref            byte // in P2 of VERIFY
	variable, what string
}{
	"user-pin": {apdu.RefUserPIN, "HSMEMU_PIN", "user PIN"},
	"so-pin":   {apdu.RefSOPIN, "HSMEMU_SO_PIN", "SO-PIN"},
}

// takesError says what is wrong with what a card is wanted to take; it is an
// ErrExpectation.
type takesError string

// Error is that.
func (e takesError) Error() string { return string(e) }

// Unwrap is ErrExpectation.
func (takesError) Unwrap() error { return ErrExpectation }

// refuses is why a card, as it was saved last, does not take a PIN that is in the
// environment, and "" if it would. A copy of the card is asked, in memory, so that it costs
// no try and nobody is logged in. Errors: ErrExpectation, those of statedir.Dir.Read and
// statedir.Unkept.
func refuses(ctx context.Context, d *statedir.Dir, card, which string, env func(string) string) (string, error) {
	pin, known := taking[which]
	if !known {
		return "", takesError("--takes is user-pin or so-pin")
	}
	value := []byte(env(pin.variable))
	if len(value) == 0 {
		return "", takesError(fmt.Sprintf("--takes %s wants it in $%s", which, pin.variable))
	}
	if pin.ref == apdu.RefSOPIN {
		var err error
		if value, err = conform.ParseSOPIN(value); err != nil {
			return "", takesError(fmt.Sprintf("read $%s: %v", pin.variable, err))
		}
	}
	state, _, err := d.Read(card)
	if err != nil {
		return "", err
	}
	c, err := statedir.Unkept(card, state, emulator.System())
	if err != nil {
		return "", err
	}
	var answer []byte
	for _, command := range []apdu.Command{apdu.SelectApplication(), {INS: apdu.InsVerify, P2: pin.ref, Data: value}} {
		if answer, err = c.Transmit(ctx, command.Bytes()); err != nil {
			return "", fmt.Errorf("ask a copy of card %q: %w", card, err)
		}
	}
	if !bytes.Equal(answer, []byte{0x90, 0x00}) {
		return "it does not take that " + pin.what, c.Close()
	}
	return "", c.Close()
}
