package scp03

import (
	"fmt"

	"hsmemu/applet/apdu"
)

// Host is the host's end of a channel. The zero Host is closed. It is made by
// [Keys.Open]; printing it, in whatever way, shows no keys.
type Host struct{ e end }

// Active reports whether commands can be wrapped.
func (h Host) Active() bool { return h.e.stage == ready || h.e.stage == answered }

// String describes the end without its keys.
func (h Host) String() string { return fmt.Sprint(h) }

// Format implements [fmt.Formatter], so that no verb shows the keys.
func (h Host) Format(f fmt.State, _ rune) { h.e.describe(f, "host") }

// Begin is the command INITIALIZE UPDATE with a challenge that nobody can
// foretell, for the keys of a version.
func Begin(version byte, host Challenge) apdu.Command {
	return apdu.Command{CLA: apdu.ClassProprietary, INS: InsInitializeUpdate, P1: version, Data: host[:], Ne: 256}
}

// Answer is the answer to INITIALIZE UPDATE.
type Answer struct {
	Diversification Diversification
	Version         byte
	Challenge       Challenge
	Cryptogram      Challenge
	Counter         uint32
}

// ParseAnswer reads the data of the answer to INITIALIZE UPDATE. Error:
// ErrLength for what is no answer of this protocol with its option.
func ParseAnswer(data []byte) (Answer, error) {
	if len(data) != answerLen || data[11] != Protocol || data[12] != Option {
		return Answer{}, fmt.Errorf("%w: answer to INITIALIZE UPDATE", ErrLength)
	}
	n := data[29:]
	return Answer{
		Diversification: Diversification(data), Version: data[10],
		Challenge: Challenge(data[13:]), Cryptogram: Challenge(data[21:]),
		Counter: uint32(n[0])<<16 | uint32(n[1])<<8 | uint32(n[2]),
	}, nil
}

// Open is the host's end after the card has answered its challenge. Error:
// ErrCryptogram if the card does not have the keys.
func (k Keys) Open(host Challenge, a Answer) (Host, error) {
	keys := k.session(host, a.Challenge)
	if !equal(a.Cryptogram[:], keys.card[:]) {
		return Host{}, ErrCryptogram
	}
	return Host{end{keys: keys, stage: authenticating}}, nil
}

// Authenticate is the command EXTERNAL AUTHENTICATE for a level. The channel is
// open if the card answers it with 9000. With an error nothing was counted and
// the Host returned is the receiver. Errors: ErrClosed, ErrTurn, ErrLevel.
func (h Host) Authenticate(l Level) (apdu.Command, Host, error) {
	if err := h.e.in(authenticating); err != nil {
		return apdu.Command{}, h, err
	}
	if !l.valid() {
		return apdu.Command{}, h, ErrLevel
	}
	e := h.e
	out := apdu.Command{CLA: apdu.ClassProprietary | ClassSecure, INS: InsExternalAuthenticate, P1: byte(l)}
	code := e.code(out, e.keys.host[:])
	out.Data = append(e.keys.host[:ChallengeLen:ChallengeLen], code[:macLen]...)
	e.chain, e.level, e.stage = code, l, ready
	return out, Host{e}, nil
}

// Wrap protects a plain command as the level asks. It is short if it can be: with up
// to 247 bytes of data, 239 where they are encrypted.
//
// With an error nothing was counted and the Host returned is the receiver.
// Errors: ErrClosed, ErrTurn if the answer to the command before was not
// unwrapped, ErrMAC for a class byte with ClassSecure set, ErrLength.
func (h Host) Wrap(c apdu.Command) (apdu.Command, Host, error) {
	if err := h.e.in(ready); err != nil {
		return apdu.Command{}, h, err
	}
	if c.CLA&ClassSecure != 0 {
		return apdu.Command{}, h, ErrMAC
	}
	e := h.e
	e.count++
	e.stage = answered
	if e.level&commandMAC == 0 {
		return c, Host{e}, nil
	}
	out := c
	out.CLA |= ClassSecure
	data := c.Data
	if e.level&commandData != 0 {
		data = e.encrypt(fromHost, c.Data)
	}
	if len(data)+macLen > maxData {
		return apdu.Command{}, h, ErrLength
	}
	e.chain = e.code(out, data)
	out.Data = append(data[:len(data):len(data)], e.chain[:macLen]...)
	return out, Host{e}, nil
}

// Unwrap checks and removes the protection of the answer to the command wrapped
// last. An error word comes without protection: that it is the card's is not
// certain.
//
// With an error the Host returned is closed. Errors: ErrClosed, ErrTurn if no
// command is waiting for its answer, ErrMAC.
func (h Host) Unwrap(received apdu.Response) (apdu.Response, Host, error) {
	if err := h.e.in(answered); err != nil {
		return apdu.Response{}, Host{}, err
	}
	e := h.e
	e.stage = ready
	switch n := len(received.Data) - macLen; {
	case !protectedSW(received.SW):
		if len(received.Data) > 0 {
			return apdu.Response{}, Host{}, ErrMAC
		}
		return received, Host{e}, nil
	case e.level&answerMAC == 0:
		return received, Host{e}, nil
	case n < 0:
		return apdu.Response{}, Host{}, ErrMAC
	default:
		data := received.Data[:n:n]
		if !equal(received.Data[n:], e.answerCode(data, received.SW)) {
			return apdu.Response{}, Host{}, ErrMAC
		}
		plain := apdu.Response{SW: received.SW}
		if n > 0 {
			plain.Data = data
		}
		if e.level&answerData != 0 {
			opened, err := e.decrypt(fromCard, data)
			if err != nil {
				return apdu.Response{}, Host{}, err
			}
			plain.Data = opened
		}
		return plain, Host{e}, nil
	}
}
