// Package tlv reads and writes BER-TLV data objects the way cards use them:
// definite lengths, tags of one to three bytes (ISO 7816-4 §5.2.2).
//
// The reader is strict: lengths must be in their shortest form and nothing may
// be missing. It does not know any schema and does not descend by itself; a
// constructed object is read with Children.
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
	ErrTruncated = errors.New("tlv: object is cut short")
	// ErrTag says that a tag is 00, has more than three bytes, or is longer
	// than its number needs.
	ErrTag = errors.New("tlv: invalid tag")
	// ErrLength says that a length is indefinite, has more than three bytes
	// after the first, or is longer than its value needs.
	ErrLength = errors.New("tlv: invalid length")
)

// Parse reads a concatenation of data objects that fills b exactly. No bytes
// give an empty list.
func Parse(b []byte) (List, error) {
	var l List
	for len(b) > 0 {
		n, rest, err := Next(b)
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
	t, tagLen, err := readTag(b)
	if err != nil {
		return Node{}, nil, err
	}
	size, lengthLen, err := readLength(b[tagLen:])
	if err != nil {
		return Node{}, nil, err
	}
	start := tagLen + lengthLen
	if size > len(b)-start {
		return Node{}, nil, ErrTruncated
	}
	end := start + size
	return Node{Tag: t, Value: b[start:end:end], Raw: b[:end:end]}, b[end:], nil
}

const (
	moreTag  = 0x1F // low bits of the first tag byte: more bytes follow
	moreBit  = 0x80 // in later tag bytes: more bytes follow
	longForm = 0x80 // in the first length byte: number of length bytes follows
	maxTag   = 3
	maxLong  = 3
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

func readLength(b []byte) (size, n int, err error) {
	if len(b) == 0 {
		return 0, 0, ErrTruncated
	}
	if b[0] < longForm {
		return int(b[0]), 1, nil
	}
	k := int(b[0] &^ longForm)
	if k == 0 || k > maxLong {
		return 0, 0, ErrLength
	}
	if len(b) < 1+k {
		return 0, 0, ErrTruncated
	}
	for _, v := range b[1 : 1+k] {
		size = size<<8 | int(v)
	}
	if 1+k != lengthLen(size) {
		return 0, 0, ErrLength
	}
	return size, 1 + k, nil
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
// Values of 2^24 bytes and more are written but no longer read by this
// package.
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
