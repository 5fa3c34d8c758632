// Package tlv reads and writes BER-TLV data objects the way cards use them:
// definite lengths, tags of one to three bytes (ISO 7816-4 §5.2.2).
//
// The reader is strict: nothing may be missing, and lengths must be in their
// shortest form, as in DER (X.690 §10.1), except for [ParseBER] and [NextBER].
// These are for what is said to a card; what is signed is read by the others. The
// reader does not know any schema and does not descend by itself; a constructed
// object is read with Children.
//
//	l, err := tlv.Parse(data)
//	if n, ok := l.Find(0x5F20); ok {
//		name := string(n.Value)
//	}
package tlv

import (
	"errors"
	"fmt"
)

// Tag holds the bytes of a tag field as a big-endian number: 0x42, 0x7F21.
type Tag uint32

// String returns the tag as hexadecimal digits, such as "7F21".
func (t Tag) String() string { return fmt.Sprintf("%02X", uint32(t)) }

// Node is one data object. Both slices share memory with what was read.
type Node struct {
	Tag Tag
	// Value is the value field, possibly empty.
	Value []byte
	// Raw is the whole object: tag, length and value.
	Raw []byte
}

// List is a sequence of data objects in the order read.
type List []Node

// Errors of the reader.
var (
	// ErrTruncated says that the bytes end inside an object.
	ErrTruncated = errors.New("object is cut short")
	// ErrTag says that a tag is 00, has more than three bytes, or is longer
	// than its number needs.
	ErrTag = errors.New("invalid tag")
	// ErrLength says that a length is indefinite, has more than four bytes
	// after the first, or, in DER, is longer than its value needs.
	ErrLength = errors.New("invalid length")
)

// Parse reads a concatenation of data objects that fills b exactly. No bytes
// give an empty list.
func Parse(b []byte) (List, error) { return parse(b, Next) }

// ParseBER is Parse for lengths in any definite form: 53 82 00 03 … is 53 03 ….
func ParseBER(b []byte) (List, error) { return parse(b, NextBER) }

func parse(b []byte, next func([]byte) (Node, []byte, error)) (List, error) {
	var l List
	for len(b) > 0 {
		n, rest, err := next(b)
		if err != nil {
			return nil, err
		}
		l = append(l, n)
		b = rest
	}
	return l, nil
}

// Next reads the first data object of b and returns what follows it.
func Next(b []byte) (n Node, rest []byte, err error) {
	n, rest, err = NextBER(b)
	if err != nil {
		return Node{}, nil, err
	}
	if len(n.Raw)-len(n.Value) != tagLen(n.Tag)+lengthLen(len(n.Value)) {
		return Node{}, nil, ErrLength
	}
	return n, rest, nil
}

// NextBER is Next for a length in any definite form.
func NextBER(b []byte) (n Node, rest []byte, err error) {
	t, tagLen, err := readTag(b)
	if err != nil {
		return Node{}, nil, err
	}
	size, lengthLen, err := readLength(b[tagLen:])
	if err != nil {
		return Node{}, nil, err
	}
	start := tagLen + lengthLen
	if uint64(size) > uint64(len(b)-start) {
		return Node{}, nil, ErrTruncated
	}
	end := start + int(size)
	return Node{Tag: t, Value: b[start:end:end], Raw: b[:end:end]}, b[end:], nil
}

const (
	moreTag  = 0x1F // low bits of the first tag byte: more bytes follow
	moreBit  = 0x80 // in later tag bytes: more bytes follow
	longForm = 0x80 // in the first length byte: number of length bytes follows
	maxTag   = 3
	maxLong  = 4
)

func readTag(b []byte) (t Tag, n int, err error) {
	if len(b) == 0 {
		return 0, 0, ErrTruncated
	}
	if b[0] == 0 {
		return 0, 0, ErrTag
	}
	t = Tag(b[0])
	if b[0]&moreTag != moreTag {
		return t, 1, nil
	}
	for n = 1; n < maxTag; n++ {
		if n >= len(b) {
			return 0, 0, ErrTruncated
		}
		// ISO 7816-4: the second byte is neither 80 nor below 1F, because a
		// shorter tag would do.
		if n == 1 && (b[1] == moreBit || b[1] < moreTag) {
			return 0, 0, ErrTag
		}
		t = t<<8 | Tag(b[n])
		if b[n]&moreBit == 0 {
			return t, n + 1, nil
		}
	}
	return 0, 0, ErrTag
}

func readLength(b []byte) (size uint32, n int, err error) {
	if len(b) == 0 {
		return 0, 0, ErrTruncated
	}
	if b[0] < longForm {
		return uint32(b[0]), 1, nil
	}
	k := int(b[0] &^ longForm)
	if k == 0 || k > maxLong {
		return 0, 0, ErrLength
	}
	if len(b) < 1+k {
		return 0, 0, ErrTruncated
	}
	for _, v := range b[1 : 1+k] {
		size = size<<8 | uint32(v)
	}
	return size, 1 + k, nil
}

// tagLen is the number of bytes of a tag field.
func tagLen(t Tag) int {
	n := 1
	for t >>= 8; t > 0; t >>= 8 {
		n++
	}
	return n
}

// lengthLen is the number of bytes of the shortest length field for size.
func lengthLen(size int) int {
	if size < longForm {
		return 1
	}
	n := 1
	for ; size > 0; size >>= 8 {
		n++
	}
	return n
}

// Append appends one data object to dst and returns the extended slice. The
// value is the concatenation of the parts; the length takes its shortest form.
func Append(dst []byte, t Tag, parts ...[]byte) []byte {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	for shift := 24; shift >= 0; shift -= 8 {
		if t>>shift != 0 || shift == 0 {
			dst = append(dst, byte(t>>shift))
		}
	}
	if k := lengthLen(size) - 1; k == 0 {
		dst = append(dst, byte(size))
	} else {
		dst = append(dst, longForm|byte(k))
		for ; k > 0; k-- {
			dst = append(dst, byte(size>>(8*(k-1))))
		}
	}
	for _, p := range parts {
		dst = append(dst, p...)
	}
	return dst
}

// Find returns the first object with the tag.
func (l List) Find(t Tag) (Node, bool) {
	for _, n := range l {
		if n.Tag == t {
			return n, true
		}
	}
	return Node{}, false
}

// Children reads the value as a concatenation of data objects, as Parse does.
func (n Node) Children() (List, error) { return Parse(n.Value) }

// Uint reads the value as an unsigned big-endian number. ok is false if the
// value is empty or does not fit 64 bits.
func (n Node) Uint() (v uint64, ok bool) {
	if len(n.Value) == 0 {
		return 0, false
	}
	for _, b := range n.Value {
		if v>>56 != 0 {
			return 0, false
		}
		v = v<<8 | uint64(b)
	}
	return v, true
}
