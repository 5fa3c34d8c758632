package sm

import (
	"fmt"

	"hsmemu/applet/apdu"
	"hsmemu/applet/tlv"
)

// Host is the host's end of secure messaging. The zero Host is closed. It is
// made by [Suite.Confirm]; printing it, in whatever way, shows no keys.
type Host struct{ s session }

// Active reports whether the channel is open.
func (h Host) Active() bool { return h.s.active() }

// String describes the channel without its keys.
func (h Host) String() string { return fmt.Sprint(h) }

// Format implements [fmt.Formatter], so that no verb shows the keys.
func (h Host) Format(f fmt.State, _ rune) { h.s.describe(f, "host") }

// Wrap protects a plain command. The result always has an Le, the largest of
// its form; the form is extended if that of the command is or if the
// protected data need it.
//
// With an error nothing was counted and the Host returned is the receiver.
// Errors: ErrClosed, ErrClass for a class byte with a bit of 0C set, ErrLength
// for data or an Ne with which there is no APDU, and ErrTurn if the answer to
// the command before was not unwrapped.
func (h Host) Wrap(c apdu.Command) (apdu.Command, Host, error) {
	s, err := h.s.command()
	if err != nil {
		return apdu.Command{}, h, err
	}
	if c.CLA&protected != 0 {
		return apdu.Command{}, h, ErrClass
	}
	if len(c.Data) > maxData || c.Ne < 0 || c.Ne > maxNe {
		return apdu.Command{}, h, ErrLength
	}
	out := c
	out.CLA |= protected
	out.Data = s.sealed(nil, c.INS, c.Data)
	if c.Ne > 0 {
		out.Data = tlv.Append(out.Data, tagLe, writeLe(c))
	}
	sum := s.keys.checksum(s.sent, header(out), out.Data)
	out.Data = tlv.Append(out.Data, tagChecksum, sum)
	if len(out.Data) > maxData {
		return apdu.Command{}, h, ErrLength
	}
	out.Extended = extended(c) || len(out.Data) > maxShortData
	out.Ne = maxShortNe
	if out.Extended {
		out.Ne = maxNe
	}
	return out, Host{s}, nil
}

// Unwrap checks and removes the protection of the answer to the command
// wrapped last. Response data may be in object 87 or 85, whatever the
// instruction was.
//
// With an error the Host returned is closed. Errors: ErrClosed, ErrMissing,
// ErrWrong, ErrUnprotected, and ErrTurn if no command is waiting for its
// answer.
func (h Host) Unwrap(received apdu.Response) (apdu.Response, Host, error) {
	s, err := h.s.answer()
	if err != nil {
		return apdu.Response{}, Host{}, err
	}
	plain, err := s.unwrap(received)
	if err != nil {
		return apdu.Response{}, Host{}, err
	}
	return plain, Host{s}, nil
}

func (s session) unwrap(received apdu.Response) (apdu.Response, error) {
	if len(received.Data) == 0 {
		return apdu.Response{}, fmt.Errorf("%w: %w", ErrUnprotected, received.SW)
	}
	nodes, err := objects(received.Data, dataTag(received.Data), tagStatus, tagChecksum)
	if err != nil {
		return apdu.Response{}, err
	}
	if nodes[1].Tag == 0 {
		return apdu.Response{}, fmt.Errorf("%w: %v", ErrMissing, tagStatus)
	}
	if err = s.verify(received.Data, nodes[2], nil); err != nil {
		return apdu.Response{}, err
	}
	if sw, ok := nodes[1].Uint(); !ok || len(nodes[1].Value) != 2 || apdu.SW(sw) != received.SW {
		return apdu.Response{}, fmt.Errorf("%w: status word", ErrWrong)
	}
	data, err := s.opened(nodes[0])
	return apdu.Response{Data: data, SW: received.SW}, err
}

// dataTag is the object that response data are in, if there are any.
func dataTag(data []byte) tlv.Tag {
	if n, _, err := tlv.Next(data); err == nil && n.Tag == tagCryptogram {
		return tagCryptogram
	}
	return tagIndicated
}

// extended reports whether the plain command is in the extended form.
func extended(c apdu.Command) bool {
	return c.Extended || len(c.Data) > maxShortData || c.Ne > maxShortNe
}

// writeLe encodes Ne as the plain command would have.
func writeLe(c apdu.Command) []byte {
	if extended(c) {
		return []byte{byte(c.Ne >> 8), byte(c.Ne)}
	}
	return []byte{byte(c.Ne)}
}
