package cvc

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"hsmemu/applet/tlv"
)

// Name is a certification authority reference (CAR) or certificate holder
// reference (CHR): country, mnemonic and five characters of sequence number,
// as in DENK040414400000. A Name holds the raw bytes; one that was read may
// break the rules, ask Valid.
type Name string

const (
	sequenceLen = 5
	minNameLen  = 2 + 1 + sequenceLen
	maxNameLen  = 16
)

func parseName(b []byte) (Name, error) {
	if len(b) == 0 {
		return "", fmt.Errorf("%w: empty", ErrName)
	}
	return Name(b), nil
}

// Valid reports whether the name keeps the rules of TR-03110 part 3 §A.6.1: a
// country of two capital letters, a mnemonic of one to nine printable
// characters, and five digits or capital letters.
func (n Name) Valid() bool {
	if len(n) < minNameLen || len(n) > maxNameLen {
		return false
	}
	for i, c := range []byte(n) {
		capital, digit := 'A' <= c && c <= 'Z', '0' <= c && c <= '9'
		switch {
		case i < 2:
			if !capital {
				return false
			}
		case i >= len(n)-sequenceLen:
			if !capital && !digit {
				return false
			}
		case c <= ' ' || c > '~':
			return false
		}
	}
	return true
}

// Holder is the name without its last five characters. For a device it is the
// serial number.
func (n Name) Holder() string { return string(n[:max(len(n)-sequenceLen, 0)]) }

// String returns the name, quoted if it holds anything but printable ASCII, so
// that what a stranger put into a certificate cannot steer a terminal.
func (n Name) String() string {
	if strings.ContainsFunc(string(n), func(r rune) bool { return r <= ' ' || r > '~' }) {
		return strconv.QuoteToASCII(string(n))
	}
	return string(n)
}

// parseDate reads six bytes of one decimal digit each, YYMMDD of this century.
func parseDate(b []byte) (time.Time, error) {
	if len(b) != 6 {
		return time.Time{}, fmt.Errorf("%w: %d bytes", ErrDate, len(b))
	}
	for _, d := range b {
		if d > 9 {
			return time.Time{}, fmt.Errorf("%w: % X", ErrDate, b)
		}
	}
	pair := func(i int) int { return 10*int(b[i]) + int(b[i+1]) }
	t := time.Date(2000+pair(0), time.Month(pair(2)), pair(4), 0, 0, 0, 0, time.UTC)
	if int(t.Month()) != pair(2) || t.Day() != pair(4) {
		return time.Time{}, fmt.Errorf("%w: % X", ErrDate, b)
	}
	return t, nil
}

// appendDate writes the calendar day of t in its own time zone.
func appendDate(dst []byte, tag tlv.Tag, t time.Time) ([]byte, error) {
	y, m, d := t.Date()
	if y < 2000 || y > 2099 {
		return nil, fmt.Errorf("%w: year %d", ErrDate, y)
	}
	y -= 2000
	return tlv.Append(dst, tag, []byte{
		byte(y / 10), byte(y % 10), byte(m / 10), byte(m % 10), byte(d / 10), byte(d % 10),
	}), nil
}

// midnight is the calendar day of t as the readers of this package give it.
func midnight(t time.Time) time.Time {
	y, m, d := t.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}
