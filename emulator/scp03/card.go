package scp03

import (
	"fmt"

	"hsmemu/applet/apdu"
)

// Card is the card's end of a channel. The zero Card is closed. It is made by
// [Keys.Begin]; printing it, in whatever way, shows no keys.
type Card struct{ e end }

// Active reports whether the host has authenticated.
func (c Card) Active() bool { return c.e.stage == ready || c.e.stage == answered }

// Level is what the host chose to protect, Plain before it has authenticated.
func (c Card) Level() Level { return c.e.level }

// String describes the end without its keys.
func (c Card) String() string { return fmt.Sprint(c) }

// Format implements [fmt.Formatter], so that no verb shows the keys.
func (c Card) Format(f fmt.State, _ rune) { c.e.describe(f, "card") }

// Begin is INITIALIZE UPDATE with the host's challenge. The counter, 1 to
// MaxCounter, was never used with these keys before and was made durable; name
// is the application identifier of the security domain. The answer is: 10 bytes
// of diversification data, version of the keys, 03, 70, card challenge (8
// bytes), card cryptogram (8 bytes), counter (3 bytes, big-endian). Error:
// ErrLength for a counter beyond MaxCounter.
func (k Keys) Begin(d Diversification, version byte, counter uint32, name []byte, host Challenge) (Card, []byte, error) {
	if counter > MaxCounter {
		return Card{}, nil, fmt.Errorf("%w: sequence counter", ErrLength)
	}
	number := []byte{byte(counter >> 16), byte(counter >> 8), byte(counter)}
	card := Challenge(derive(k.k.enc[:], forChallenge, ChallengeLen, number, name))
	keys := k.session(host, card)
	answer := append(d[:len(d):len(d)], version, Protocol, Option)
	answer = append(append(answer, card[:]...), keys.card[:]...)
	return Card{end{keys: keys, stage: authenticating}}, append(answer, number...), nil
}

// Authenticate is EXTERNAL AUTHENTICATE as it was received, with the level in
// P1. With an error the Card returned is closed. Errors: ErrClosed, ErrTurn,
// ErrLevel, ErrLength, ErrMAC, and ErrCryptogram if the host does not have the
// keys.
func (c Card) Authenticate(received apdu.Command) (Card, error) {
	if err := c.e.in(authenticating); err != nil {
		return Card{}, err
	}
	e, level := c.e, Level(received.P1)
	switch {
	case received.CLA&ClassSecure == 0:
		return Card{}, ErrMAC
	case !level.valid():
		return Card{}, ErrLevel
	case len(received.Data) != ChallengeLen+macLen:
		return Card{}, ErrLength
	}
	cryptogram, mac := received.Data[:ChallengeLen], received.Data[ChallengeLen:]
	code := e.code(received, cryptogram)
	if !equal(code[:macLen], mac) {
		return Card{}, ErrMAC
	}
	if !equal(cryptogram, e.keys.host[:]) {
		return Card{}, ErrCryptogram
	}
	e.chain, e.level, e.stage = code, level, ready
	return Card{e}, nil
}

// Unwrap checks and removes the protection of a command as it was received. The
// plain command has the class byte without ClassSecure. At level Plain a command
// that claims protection is wrong, at every other level one that does not.
//
// With an error the Card returned is closed. Errors: ErrClosed, ErrTurn if the
// answer to the command before was not wrapped, ErrMAC.
func (c Card) Unwrap(received apdu.Command) (apdu.Command, Card, error) {
	plain, e, err := c.e.unwrap(received)
	if err != nil {
		return apdu.Command{}, Card{}, err
	}
	return plain, Card{e}, nil
}

func (e end) unwrap(received apdu.Command) (apdu.Command, end, error) {
	if err := e.in(ready); err != nil {
		return apdu.Command{}, end{}, err
	}
	e.count++
	e.stage = answered
	secured := received.CLA&ClassSecure != 0
	if secured != (e.level&commandMAC != 0) {
		return apdu.Command{}, end{}, ErrMAC
	}
	if !secured {
		return received, e, nil
	}
	n := len(received.Data) - macLen
	if n < 0 {
		return apdu.Command{}, end{}, ErrMAC
	}
	data := received.Data[:n:n]
	code := e.code(received, data)
	if !equal(code[:macLen], received.Data[n:]) {
		return apdu.Command{}, end{}, ErrMAC
	}
	e.chain = code
	plain := received
	plain.CLA &^= ClassSecure
	plain.Data = data
	if n == 0 {
		plain.Data = nil
	}
	if e.level&commandData != 0 {
		opened, err := e.decrypt(fromHost, data)
		if err != nil {
			return apdu.Command{}, end{}, err
		}
		plain.Data = opened
	}
	return plain, e, nil
}

// Wrap protects the answer to the command unwrapped last, as the level asks. An
// error word, any but 9000, 62xx and 63xx, goes out bare and without data.
//
// With an error the Card returned is closed. Errors: ErrClosed, and ErrTurn if
// there is no command to answer.
func (c Card) Wrap(answer apdu.Response) (apdu.Response, Card, error) {
	if err := c.e.in(answered); err != nil {
		return apdu.Response{}, Card{}, err
	}
	e := c.e
	e.stage = ready
	switch {
	case !protectedSW(answer.SW):
		return apdu.Response{SW: answer.SW}, Card{e}, nil
	case e.level&answerMAC == 0:
		return answer, Card{e}, nil
	}
	out := answer
	if e.level&answerData != 0 {
		out.Data = e.encrypt(fromCard, answer.Data)
	}
	out.Data = append(out.Data[:len(out.Data):len(out.Data)], e.answerCode(out.Data, answer.SW)...)
	return out, Card{e}, nil
}
