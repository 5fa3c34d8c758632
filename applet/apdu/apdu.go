// Package apdu turns ISO 7816-4 command and response APDUs into values and
// back, and names the status words.
//
// It knows the four cases in their short and extended forms and nothing about
// what a command means: instruction bytes, class bits and secure messaging
// belong to its users.
//
//	c, err := apdu.Parse(b)
//	if err != nil {
//		return apdu.Response{SW: apdu.WrongLength}.Bytes()
//	}
package apdu

import (
	"errors"
	"slices"
)

// Limits of the two forms, in bytes (ISO 7816-4 §5.1).
const (
	maxShortData    = 255
	maxShortNe      = 256
	maxExtendedData = 65535
	maxExtendedNe   = 65536
	headerLen       = 4
)

// ErrLength says that the bytes are none of the four cases of ISO 7816-4, or
// that a response is shorter than its status word.
var ErrLength = errors.New("lengths do not agree")

// Command is one command APDU.
type Command struct {
	CLA, INS, P1, P2 byte
	// Data is the command data field, 0 to 65535 bytes.
	Data []byte
	// Ne is the largest number of response bytes the sender expects: 0 where
	// Le is absent, 256 for a short Le of 00, 65536 for an extended 0000.
	Ne int
	// Extended is set when the lengths are, or shall be, in extended form.
	// Bytes chooses that form by itself where the short one is too small.
	Extended bool
}

// Parse reads a command APDU. The result shares no memory with b.
//
// The extended form is accepted for any length, also one that would fit the
// short form. Anything that is not exactly one of the cases gives ErrLength:
// fewer than four bytes, missing or surplus data, and an extended Lc of zero,
// which ISO 7816-4 §5.1 excludes.
func Parse(b []byte) (Command, error) {
	if len(b) < headerLen {
		return Command{}, ErrLength
	}
	c := Command{CLA: b[0], INS: b[1], P1: b[2], P2: b[3]}
	body := b[headerLen:]
	switch {
	case len(body) == 0: // case 1
		return c, nil
	case len(body) == 1: // case 2 short
		c.Ne = expected(maxShortNe, body)
		return c, nil
	case body[0] != 0: // case 3 or 4 short
		return c.withBody(body[1:], int(body[0]), 1)
	}
	c.Extended = true
	if len(body) == 3 { // case 2 extended
		c.Ne = expected(maxExtendedNe, body[1:])
		return c, nil
	}
	if len(body) < 3 {
		return Command{}, ErrLength
	}
	nc := int(body[1])<<8 | int(body[2])
	if nc == 0 {
		return Command{}, ErrLength
	}
	return c.withBody(body[3:], nc, 2)
}

// withBody fills in nc data bytes and, if leLen more bytes follow, Le.
func (c Command) withBody(rest []byte, nc, leLen int) (Command, error) {
	switch len(rest) {
	case nc:
	case nc + leLen:
		most := maxShortNe
		if c.Extended {
			most = maxExtendedNe
		}
		c.Ne = expected(most, rest[nc:])
	default:
		return Command{}, ErrLength
	}
	c.Data = slices.Clone(rest[:nc])
	return c, nil
}

// expected decodes an Le field, in which zero stands for the largest value.
func expected(most int, le []byte) int {
	n := 0
	for _, v := range le {
		n = n<<8 | int(v)
	}
	if n == 0 {
		return most
	}
	return n
}

// Bytes encodes the command, in extended form if Extended is set or a length
// needs it. A command without data and Ne is four bytes in either form. The
// result is nil if no APDU can express the command: more than 65535 bytes of
// data, a negative Ne or one above 65536.
func (c Command) Bytes() []byte {
	n := len(c.Data)
	if n > maxExtendedData || c.Ne < 0 || c.Ne > maxExtendedNe {
		return nil
	}
	b := make([]byte, 0, headerLen+3+n+2)
	b = append(b, c.CLA, c.INS, c.P1, c.P2)
	if !c.Extended && n <= maxShortData && c.Ne <= maxShortNe {
		if n > 0 {
			b = append(b, byte(n))
			b = append(b, c.Data...)
		}
		if c.Ne > 0 {
			b = append(b, byte(c.Ne))
		}
		return b
	}
	if n > 0 || c.Ne > 0 {
		b = append(b, 0)
	}
	if n > 0 {
		b = append(b, byte(n>>8), byte(n))
		b = append(b, c.Data...)
	}
	if c.Ne > 0 {
		b = append(b, byte(c.Ne>>8), byte(c.Ne))
	}
	return b
}

// Response is one response APDU: data, possibly none, and a status word.
type Response struct {
	Data []byte
	SW   SW
}

// Bytes encodes the response: the data, then the status word in two bytes.
func (r Response) Bytes() []byte {
	b := make([]byte, 0, len(r.Data)+2)
	b = append(b, r.Data...)
	return append(b, byte(r.SW>>8), byte(r.SW))
}

// ParseResponse reads a response APDU. The result shares no memory with b;
// ErrLength if b is shorter than a status word.
func ParseResponse(b []byte) (Response, error) {
	n := len(b) - 2
	if n < 0 {
		return Response{}, ErrLength
	}
	r := Response{SW: SW(b[n])<<8 | SW(b[n+1])}
	if n > 0 {
		r.Data = slices.Clone(b[:n])
	}
	return r, nil
}
