// Package sm is chip authentication version 2 of BSI TR-03110 and the secure
// messaging of ISO 7816-4 that follows it, for the card and for the host.
//
// Both ends are values: a method returns the channel as it is after the
// message and leaves its receiver as it was. The package draws no random
// numbers, sends nothing, and knows neither files nor certificates: the host
// has to verify the device certificate before it trusts the key in it, and
// the card decides by itself what else ends with a channel.
//
// The card:
//
//	suite, err := sm.ParseSelection(selectData)                          // MSE:SET AT
//	channel, answer, err := suite.Authenticate(deviceKey, nonce, data) // GENERAL AUTHENTICATE
//	plain, channel, err := channel.Open(received)
//	protected, channel, err := channel.Seal(received.INS, answerToPlain)
//
// The host, which sends the commands of [Suite.Select] and [Present] first:
//
//	host, err := suite.Confirm(ephemeral, deviceKey, answer)
//	protected, host, err := host.Wrap(command)
//	response, host, err := host.Unwrap(received)
package sm

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"hsmemu/applet/tlv"
)

// Errors of both ends. The comment of each names the status word that a card
// answers with, without secure messaging, after this error.
var (
	// ErrSuite says that no suite goes by this object identifier (6A80).
	ErrSuite = errors.New("unknown protocol")
	// ErrData says that the data of an authentication command or its answer
	// are not the objects they have to be (6A80).
	ErrData = errors.New("malformed authentication data")
	// ErrToken says that the card did not prove possession of its key. Only
	// the host sees it.
	ErrToken = errors.New("authentication token is wrong")
	// ErrClosed says that there is no channel: none was opened, or an error
	// ended it (6985).
	ErrClosed = errors.New("no channel is open")
	// ErrMissing says that a protected message is not the expected sequence of
	// data objects: one is missing, unknown, cut short, repeated or out of
	// order (6987).
	ErrMissing = errors.New("expected data object is missing")
	// ErrWrong says that the expected objects are there and what they hold is
	// wrong: the checksum, the cryptogram, its padding or a length (6988).
	ErrWrong = errors.New("data object is wrong")
	// ErrClass says that the class byte does not fit: Open was given a plain
	// command, or Wrap one that already claims protection.
	ErrClass = errors.New("class byte does not fit")
	// ErrTurn says that the methods of one end were not called in turn, a
	// command and its answer.
	ErrTurn = errors.New("message is out of turn")
	// ErrLength says that no protected APDU has room for the command.
	ErrLength = errors.New("command is too long to be protected")
	// ErrUnprotected says that an answer came without protection, which is how
	// a card reports that the channel has ended. The apdu.SW it answered is
	// wrapped beside it. Only the host sees it.
	ErrUnprotected = errors.New("answer is not protected")
)

// Class byte bits b4 and b3: secure messaging with the header authenticated
// (ISO 7816-4 §5.4.1). Of the forms of that table only this one is used
// (SM-12).
const protected = 0x0C

// Data objects of secure messaging (ISO 7816-4 §10.2). The odd tags among
// them, all but the checksum, are the ones that the checksum covers.
const (
	tagCryptogram tlv.Tag = 0x85 // cryptogram alone, where INS is odd
	tagIndicated  tlv.Tag = 0x87 // padding indicator and cryptogram, where INS is even
	tagChecksum   tlv.Tag = 0x8E
	tagLe         tlv.Tag = 0x97
	tagStatus     tlv.Tag = 0x99
)

// indicator is the first byte of an 87 object: padding by 80 00…
const indicator = 0x01

// messages counts what went over a channel. Commands are odd, answers even.
type messages uint64

// session is what both ends keep. Keys are behind a pointer, never changed
// through it, so that fmt, printing a struct that hides a session in an
// unexported field, shows an address.
type session struct {
	keys *keys
	sent messages // the send sequence counter after the last message
}

func (s session) active() bool { return s.keys != nil }

// command and answer count one message and refuse it out of turn.
func (s session) command() (session, error) { return s.next(1) }
func (s session) answer() (session, error)  { return s.next(0) }

func (s session) next(parity messages) (session, error) {
	if !s.active() {
		return session{}, ErrClosed
	}
	s.sent++
	if s.sent&1 != parity {
		return session{}, ErrTurn
	}
	return s, nil
}

// describe tells what may be told of a session, whatever the verb.
func (s session) describe(w io.Writer, end string) {
	if !s.active() {
		_, _ = fmt.Fprintf(w, "%s channel, closed", end)
		return
	}
	_, _ = fmt.Fprintf(w, "%s channel, %v, message %d", end, s.keys.suite, s.sent)
}

// objects reads data objects that come in the order of tags, each once at
// most and the last one always. It returns a node for each tag, empty where
// the object is absent.
func objects(data []byte, tags ...tlv.Tag) ([]tlv.Node, error) {
	nodes := make([]tlv.Node, len(tags))
	at := 0
	for len(data) > 0 {
		n, rest, err := tlv.NextBER(data)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMissing, err)
		}
		i := slices.Index(tags[at:], n.Tag)
		if i < 0 {
			return nil, fmt.Errorf("%w: %v is unknown or misplaced", ErrMissing, n.Tag)
		}
		nodes[at+i] = n
		at += i + 1
		data = rest
	}
	if at < len(tags) {
		return nil, fmt.Errorf("%w: %v", ErrMissing, tags[len(tags)-1])
	}
	return nodes, nil
}

// sealed appends the object that holds plain in encrypted form, if there is
// anything to hold. Which object it is depends on the instruction: the data
// of odd ones are data objects themselves (ISO 7816-4 §10.4).
func (s session) sealed(dst []byte, ins byte, plain []byte) []byte {
	switch {
	case len(plain) == 0:
		return dst
	case ins&1 != 0:
		return tlv.Append(dst, tagCryptogram, s.keys.encrypt(s.sent, plain))
	default:
		return tlv.Append(dst, tagIndicated, []byte{indicator}, s.keys.encrypt(s.sent, plain))
	}
}

// opened is the reverse of sealed. An absent object, a node without a tag,
// holds nothing.
func (s session) opened(n tlv.Node) ([]byte, error) {
	cryptogram := n.Value
	switch n.Tag {
	case 0:
		return nil, nil
	case tagIndicated:
		if len(cryptogram) == 0 || cryptogram[0] != indicator {
			return nil, fmt.Errorf("%w: padding indicator", ErrWrong)
		}
		cryptogram = cryptogram[1:]
	}
	plain, ok := s.keys.decrypt(s.sent, cryptogram)
	if !ok {
		return nil, fmt.Errorf("%w: cryptogram", ErrWrong)
	}
	return plain, nil
}
