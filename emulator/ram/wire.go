package ram

import (
	"errors"
	"fmt"
	"strings"

	"hsmemu/applet/tlv"
)

// The data objects of the protocol, each with a tag of one byte.
const (
	TagOpening tlv.Tag = 0xE8 // first body of a client: TagReset with the answer to reset
	TagRequest tlv.Tag = 0xAA // body of a server: TagCommand, TagReset and TagNotice
	TagResult  tlv.Tag = 0xAB // later body of a client: TagAnswer, TagReset and TagClose, then TagCount
	TagCommand tlv.Tag = 0x22 // command APDU
	TagAnswer  tlv.Tag = 0x23 // its response APDU
	TagReset   tlv.Tag = 0xC0 // empty in a request; the answer to reset elsewhere
	TagNotice  tlv.Tag = 0xE0 // TagInteger and TagText
	TagClose   tlv.Tag = 0xE1 // the client gives up: TagText
	TagInteger tlv.Tag = 0x02 // two's complement, big-endian, 1 to 4 bytes
	TagText    tlv.Tag = 0x0C // UTF-8
	TagCount   tlv.Tag = 0x80 // number of commands carried out, as TagInteger
)

const (
	// maxValue is the longest value of an object, and maxBody the longest body:
	// lengths have at most two bytes.
	maxValue = 0xFFFF
	maxBody  = maxValue + 4
	// maxText is the longest text that ram-client shows.
	maxText = 4095
	// minATR and maxATR are the bytes of an answer to reset (ISO 7816-3 §8.2); clients
	// have room for 36.
	minATR, maxATR = 2, 36
)

// ErrMalformed means that a body is not what the protocol has there.
var ErrMalformed = errors.New("malformed")

// Object is one object of a body with its value: for TagNotice and TagClose that is
// TLV, see [ParseNotice].
type Object struct {
	Tag   tlv.Tag
	Value []byte
}

// Request is what a server asks for, in this order; empty where it only keeps the
// connection alive.
type Request []Object

// Result is what a client answers to a request.
type Result struct {
	// Answers are objects with TagAnswer and TagReset.
	Answers []Object
	// Closed is set where the client gave up, for the reason in Text.
	Closed bool
	Text   string
	// Done is how many commands were carried out. The Java client does not count.
	Done int
}

// Notice is a message for the person at the card.
type Notice struct {
	// Number is 0 for information, 1 to 100 for a percentage. With a negative one
	// the connection ends.
	Number int
	Text   string
}

// next reads one object. Lengths have one, two or three bytes, the first of them
// 81 or 82, and need not be in their shortest form: ram-client does not ask for it.
func next(b []byte) (o Object, rest []byte, err error) {
	n, rest, err := tlv.NextBER(b)
	if err != nil {
		return o, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if n.Tag > 0xFF {
		return o, nil, fmt.Errorf("%w: tag %s", ErrMalformed, n.Tag)
	}
	if len(n.Raw)-len(n.Value) > 4 {
		return o, nil, fmt.Errorf("%w: %w", ErrMalformed, tlv.ErrLength)
	}
	return Object{n.Tag, n.Value}, rest, nil
}

func objects(b []byte) ([]Object, error) {
	var list []Object
	for len(b) > 0 {
		o, rest, err := next(b)
		if err != nil {
			return nil, err
		}
		list, b = append(list, o), rest
	}
	return list, nil
}

// template reads a body that is one object with this tag, and what is in it.
func template(body []byte, tag tlv.Tag) ([]Object, error) {
	o, rest, err := next(body)
	switch {
	case err != nil:
		return nil, err
	case o.Tag != tag:
		return nil, fmt.Errorf("%w: tag %s, not %s", ErrMalformed, o.Tag, tag)
	case len(rest) > 0:
		return nil, fmt.Errorf("%w: %d bytes after the object", ErrMalformed, len(rest))
	}
	return objects(o.Value)
}

// assemble makes a body. Error: ErrTooLong.
func assemble(tag tlv.Tag, list []Object) ([]byte, error) {
	var value []byte
	for _, o := range list {
		if len(o.Value) > maxValue {
			return nil, ErrTooLong
		}
		value = tlv.Append(value, o.Tag, o.Value)
	}
	if len(value) > maxValue {
		return nil, ErrTooLong
	}
	return tlv.Append(nil, tag, value), nil
}

// ParseOpening reads the first body of a client, and returns the card's answer to
// reset, 2 to 36 bytes. Error: ErrMalformed.
func ParseOpening(body []byte) (atr []byte, err error) {
	list, err := template(body, TagOpening)
	if err != nil {
		return nil, err
	}
	if len(list) != 1 || list[0].Tag != TagReset || !isATR(list[0].Value) {
		return nil, fmt.Errorf("%w: no answer to reset", ErrMalformed)
	}
	return list[0].Value, nil
}

func isATR(b []byte) bool { return len(b) >= minATR && len(b) <= maxATR }

// Opening is the first body of a client, for a card with this answer to reset.
func Opening(atr []byte) []byte {
	return tlv.Append(nil, TagOpening, tlv.Append(nil, TagReset, atr))
}

// ParseRequest reads a server's body. As for ram-client, what follows the request
// does not count. Errors are [Code]s: CodeRequest if there is no whole request,
// CodeTLV for malformed objects in it, and CodeUnknown for objects that ram-client
// does not know.
func ParseRequest(body []byte) (Request, error) {
	o, _, err := next(body)
	if err != nil || o.Tag != TagRequest {
		return nil, CodeRequest
	}
	list, err := objects(o.Value)
	if err != nil {
		return nil, CodeTLV
	}
	for _, o := range list {
		switch o.Tag {
		case TagCommand, TagReset:
		case TagNotice:
			if _, err := ParseNotice(o.Value); err != nil {
				return nil, CodeTLV
			}
		default:
			return nil, CodeUnknown
		}
	}
	return list, nil
}

// Bytes is the request as a body. Error: ErrTooLong.
func (r Request) Bytes() ([]byte, error) { return assemble(TagRequest, r) }

// ParseResult reads a client's body. TagCount is the last object, and has to be
// there, but not where the client gave up: the Java client cancels in that way.
// Error: ErrMalformed.
func ParseResult(body []byte) (Result, error) {
	list, err := template(body, TagResult)
	if err != nil {
		return Result{}, err
	}
	var r Result
	counted := false
	for _, o := range list {
		if counted || r.Closed && o.Tag != TagCount {
			return Result{}, fmt.Errorf("%w: %s after the end", ErrMalformed, o.Tag)
		}
		switch o.Tag {
		case TagAnswer:
			r.Answers = append(r.Answers, o)
		case TagReset:
			if !isATR(o.Value) {
				return Result{}, fmt.Errorf("%w: no answer to reset", ErrMalformed)
			}
			r.Answers = append(r.Answers, o)
		case TagClose:
			n, err := ParseNotice(o.Value)
			if err != nil {
				return Result{}, err
			}
			r.Closed, r.Text = true, n.Text
		case TagCount:
			if r.Done, err = parseInteger(o.Value); err != nil {
				return Result{}, err
			}
			counted = true
		default:
			return Result{}, fmt.Errorf("%w: tag %s", ErrMalformed, o.Tag)
		}
	}
	if !counted && !r.Closed {
		return Result{}, fmt.Errorf("%w: no number of commands", ErrMalformed)
	}
	return r, nil
}

// Bytes is the result as a body. Error: ErrTooLong.
func (r Result) Bytes() ([]byte, error) {
	list := r.Answers[:len(r.Answers):len(r.Answers)]
	if r.Closed {
		list = append(list, Object{TagClose, tlv.Append(nil, TagText, []byte(r.Text))})
	}
	return assemble(TagResult, append(list, Object{TagCount, integer(r.Done)}))
}

// ParseNotice reads the value of TagNotice or TagClose. Objects that are not known
// do not count, a missing number is 0, and a missing text empty; bytes that are no
// UTF-8 are replaced. Error: ErrMalformed.
func ParseNotice(value []byte) (Notice, error) {
	list, err := objects(value)
	if err != nil {
		return Notice{}, err
	}
	var n Notice
	for _, o := range list {
		switch o.Tag {
		case TagInteger:
			if n.Number, err = parseInteger(o.Value); err != nil {
				return Notice{}, err
			}
		case TagText:
			n.Text = strings.ToValidUTF8(string(o.Value), "\uFFFD")
		}
	}
	return n, nil
}

// object is the notice in a request. The text is there even if it is empty, since
// ram-client would show whatever is in its memory. Errors: ErrNumber; ErrTooLong for
// a text of more than 4095 bytes or a number of more than 32 bits.
func (n Notice) object() (Object, error) {
	switch {
	case Code(n.Number) == CodeCard:
		return Object{}, ErrNumber
	case len(n.Text) > maxText, n.Number != int(int32(n.Number)):
		return Object{}, ErrTooLong
	}
	return Object{TagNotice, tlv.Append(tlv.Append(nil, TagInteger, integer(n.Number)), TagText, []byte(n.Text))}, nil
}

// parseInteger reads 1 to 4 bytes in two's complement.
func parseInteger(b []byte) (int, error) {
	if len(b) == 0 || len(b) > 4 {
		return 0, fmt.Errorf("%w: number of %d bytes", ErrMalformed, len(b))
	}
	v := int32(int8(b[0]))
	for _, x := range b[1:] {
		v = v<<8 | int32(x)
	}
	return int(v), nil
}

// integer is a number in the shortest two's complement.
func integer(v int) []byte {
	n := 1
	for n < 4 && v != v<<(64-8*n)>>(64-8*n) {
		n++
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(v >> (8 * (n - 1 - i)))
	}
	return b
}
