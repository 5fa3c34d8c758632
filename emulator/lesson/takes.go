package lesson

import (
	"bytes"
	"context"
	"fmt"

	"hsmemu/applet/apdu"
	"hsmemu/emulator"
	"hsmemu/emulator/statedir"
)

// A PIN is one of a card's two PINs, by its reference in P2 of VERIFY.
type PIN byte

// The PINs.
const (
	UserPIN PIN = PIN(apdu.RefUserPIN)
	SOPIN   PIN = PIN(apdu.RefSOPIN)
)

// Takes reports whether a card, as it was saved last, would take a PIN, its bytes as
// VERIFY has them. A copy of the card is asked, in memory, so that it costs no try and
// nobody is logged in. Errors: those of statedir.Dir.Read and statedir.Unkept.
func Takes(ctx context.Context, d *statedir.Dir, card string, pin PIN, value []byte) (bool, error) {
	state, _, err := d.Read(card)
	if err != nil {
		return false, err
	}
	c, err := statedir.Unkept(card, state, emulator.System())
	if err != nil {
		return false, err
	}
	var answer []byte
	for _, command := range []apdu.Command{apdu.SelectApplication(), {INS: apdu.InsVerify, P2: byte(pin), Data: value}} {
		if answer, err = c.Transmit(ctx, command.Bytes()); err != nil {
			return false, fmt.Errorf("ask a copy of card %q: %w", card, err)
		}
	}
	return bytes.Equal(answer, []byte{0x90, 0x00}), c.Close()
}
