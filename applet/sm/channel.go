package sm

import (
	"crypto/subtle"
	"fmt"

	"hsmemu/applet/apdu"
	"hsmemu/applet/tlv"
)

// Channel is the card's end of secure messaging. The zero Channel is closed.
// It is made by [Suite.Authenticate]; printing it, in whatever way, shows no
// keys.
type Channel struct{ s session }

// Active reports whether the channel is open.
func (c Channel) Active() bool { return c.s.active() }

// String describes the channel without its keys.
func (c Channel) String() string { return fmt.Sprint(c) }

// Format implements [fmt.Formatter], so that no verb shows the keys.
func (c Channel) Format(f fmt.State, _ rune) { c.s.describe(f, "card") }

// Open checks and removes the protection of a command as it was received. The
// plain command has the class byte without the bits 0C, the Ne of object 97
// and is Extended if that or its data need the extended form.
//
// Data come in object 85 for an odd instruction byte and 87 for an even one;
// then follow 97, if the plain command has Le, and 8E. The Le of the command
// received is not protected and not looked at.
//
// With an error the channel returned is closed. Errors: ErrClosed, ErrClass,
// ErrMissing, ErrWrong, and ErrTurn if the answer to the command before was
// not sealed.
func (c Channel) Open(received apdu.Command) (apdu.Command, Channel, error) {
	s, err := c.s.command()
	if err != nil {
		return apdu.Command{}, Channel{}, err
	}
	plain, err := s.open(received)
	if err != nil {
		return apdu.Command{}, Channel{}, err
	}
	return plain, Channel{s}, nil
}

func (s session) open(received apdu.Command) (apdu.Command, error) {
	if received.CLA&protected != protected {
		return apdu.Command{}, ErrClass
	}
	data := tagIndicated
	if received.INS&1 != 0 {
		data = tagCryptogram
	}
	nodes, err := objects(received.Data, data, tagLe, tagChecksum)
	if err != nil {
		return apdu.Command{}, err
	}
	if err = s.verify(received.Data, nodes[2], header(received)); err != nil {
		return apdu.Command{}, err
	}

	plain := received
	plain.CLA &^= protected
	if plain.Data, err = s.opened(nodes[0]); err != nil {
		return apdu.Command{}, err
	}
	if plain.Ne, err = readLe(nodes[1]); err != nil {
		return apdu.Command{}, err
	}
	plain.Extended = len(plain.Data) > maxShortData || len(nodes[1].Value) == 2
	return plain, nil
}

// Seal protects the answer to the command opened last, which has the
// instruction byte ins. Its status word is in the protected data and once
// more outside.
//
// With an error the channel returned is closed. Errors: ErrClosed, and ErrTurn
// if there is no command to answer.
func (c Channel) Seal(ins byte, answer apdu.Response) (apdu.Response, Channel, error) {
	s, err := c.s.answer()
	if err != nil {
		return apdu.Response{}, Channel{}, err
	}
	data := s.sealed(nil, ins, answer.Data)
	data = tlv.Append(data, tagStatus, []byte{byte(answer.SW >> 8), byte(answer.SW)})
	data = tlv.Append(data, tagChecksum, s.keys.checksum(s.sent, data))
	return apdu.Response{Data: data, SW: answer.SW}, Channel{s}, nil
}

const (
	maxShortData = 255
	maxShortNe   = 256
	maxNe        = 65536
	maxData      = 65535
)

// header is what the checksum covers of a command beside its data.
func header(c apdu.Command) []byte { return []byte{c.CLA, c.INS, c.P1, c.P2} }

// verify compares the checksum, which is the last object of data, with the
// one over the given header and the objects before it.
func (s session) verify(data []byte, sum tlv.Node, header []byte) error {
	covered := data[:len(data)-len(sum.Raw)]
	if subtle.ConstantTimeCompare(sum.Value, s.keys.checksum(s.sent, header, covered)) != 1 {
		return fmt.Errorf("%w: checksum", ErrWrong)
	}
	return nil
}

// readLe decodes an Le field of one or two bytes, zero for the largest value.
// An absent one, a node without a tag, is 0.
func readLe(n tlv.Node) (int, error) {
	if n.Tag == 0 {
		return 0, nil
	}
	var most int
	switch len(n.Value) {
	case 1:
		most = maxShortNe
	case 2:
		most = maxNe
	default:
		return 0, fmt.Errorf("%w: expected length", ErrWrong)
	}
	if ne, _ := n.Uint(); ne != 0 {
		return int(ne), nil
	}
	return most, nil
}
