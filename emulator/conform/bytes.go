package conform

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"hsmemu/applet/tlv"
)

// Vars are the variables of a script, by name.
type Vars map[string][]byte

// Limits of what a text can make, far above what a card takes: an APDU of full
// length has 65,544 bytes.
const (
	maxBytes = 70_000
	maxDepth = 32
)

var errTooLong = fmt.Errorf("more than %d bytes", maxBytes)

// Compile turns the text of a command into bytes. These are the items of a
// text, with any space between them:
//
//	00A4 "text"            hexadecimal digits in capitals, characters
//	54(0000) 53("note")    a data object: its tag and its content
//	Lc(…) Lcx(…)           the length of data and the data; Lcx, and any length
//	                       above 255, is in extended form: three bytes
//	le                     00, behind an extended length 0000
//	{ef}                   a variable
//	{ef|#2|value}          a variable through filters, from left to right
//
// The filters:
//
//	#2                     the second of several data objects
//	7F21.42                the content of an object within an object
//	value                  the content of the first object
//	whole                  the first object alone, without what follows it
//	plain                  an ECDSA signature of up to 256 bits in DER as r || s
//	x                      the x coordinate of a point 04 || x || y
//	-1                     without the last byte
//	head 8, from 8         the first 8 bytes, all but the first 8 bytes
//	flip                   with the last bit of the last byte changed
func Compile(text string, v Vars) ([]byte, error) {
	e, err := parseExpression(text)
	if err != nil {
		return nil, inColumn(text, err)
	}
	return e.bytes(v)
}

// expression is the text of a command, understood.
type expression []item

// item is one of: literal bytes, a variable, le, Lc or Lcx with its data, a data
// object.
type item struct {
	literal  []byte
	variable *variable
	le       bool
	length   bool
	extended bool // Lcx
	tag      tlv.Tag
	inner    expression
	text     bool // a literal that was written in characters
}

// errNoCommand says that a text is none of a command. What stands there is not told: it
// may be a PIN that was mistyped.
var errNoCommand = errors.New("not understood: a command has pairs of capital hexadecimal digits, \"text\", Lc(…), objects as 53(…), le and {variables}")

var tokens = regexp.MustCompile(`^\s*(?:(Lcx?\()|([0-9A-F]{2,6})\(|([0-9A-F]{2})|"([^"]*)"|\{([^}]+)\}|(\))|(le)\b)`)

// parseExpression reads the text of a command. Errors are misplaced.
func parseExpression(text string) (expression, error) {
	e, rest, err := parseItems(text, 0)
	if err == nil && rest != "" {
		err = before(rest, errors.New("a bracket too many"))
	}
	if b := (*behind)(nil); errors.As(err, &b) {
		return nil, &misplaced{len(text) - b.rest, b.err}
	}
	return e, err
}

// behind is an error in a text, so many bytes before its end.
type behind struct {
	rest int
	err  error
}

func (e *behind) Error() string { return e.err.Error() }

// before is an error about what a text goes on with, behind space.
func before(rest string, err error) error {
	return &behind{len(strings.TrimLeftFunc(rest, unicode.IsSpace)), err}
}

// parseItems reads items up to the end, or to the closing bracket and returns
// what follows it. Depth counts the brackets that are open. Errors are behind.
func parseItems(rest string, depth int) (expression, string, error) {
	if depth > maxDepth {
		return nil, "", before(rest, fmt.Errorf("more than %d brackets within each other", maxDepth))
	}
	var e expression
	opened := rest
	for strings.TrimSpace(rest) != "" {
		m := tokens.FindStringSubmatch(rest)
		if m == nil {
			return nil, "", before(rest, errNoCommand)
		}
		if m[6] != "" {
			if depth == 0 {
				return e, rest, nil
			}
			return e, rest[len(m[0]):], nil
		}
		at := rest
		rest = rest[len(m[0]):]
		var one item
		var err error
		switch {
		case m[1] != "":
			one.length, one.extended = true, m[1] == "Lcx("
			one.inner, rest, err = parseItems(rest, depth+1)
		case m[2] != "":
			tag, _ := strconv.ParseUint(m[2], 16, 24) // of at most six digits
			one.tag = tlv.Tag(tag)
			one.inner, rest, err = parseItems(rest, depth+1)
		case m[3] != "":
			one.literal, err = hex.DecodeString(m[3])
		case m[5] != "":
			if one.variable, err = parseVariable(m[5]); err != nil {
				err = before(at, err)
			}
		case m[7] != "":
			one.le = true
		default:
			one.literal, one.text = []byte(m[4]), true
		}
		if err != nil {
			return nil, "", err
		}
		e = append(e, one)
	}
	if depth > 0 {
		return nil, "", &behind{len(opened) + 1, errors.New("a bracket is open")}
	}
	return e, "", nil
}

func (e expression) bytes(v Vars) ([]byte, error) {
	extended := false
	return e.append([]byte{}, v, &extended)
}

// append appends the bytes of an expression. Extended tells whether a length
// before was, and is set by those it has.
func (e expression) append(out []byte, v Vars, extended *bool) ([]byte, error) {
	for _, one := range e {
		switch {
		case one.variable != nil:
			b, err := one.variable.bytes(v)
			if err != nil {
				return nil, err
			}
			out = append(out, b...)
		case one.le && *extended:
			out = append(out, 0, 0)
		case one.le:
			out = append(out, 0)
		case one.literal != nil:
			out = append(out, one.literal...)
		default:
			inner, err := one.inner.append(nil, v, extended)
			if err != nil {
				return nil, err
			}
			out, err = one.enclose(out, inner, extended)
			if err != nil {
				return nil, err
			}
		}
		if len(out) > maxBytes {
			return nil, errTooLong
		}
	}
	return out, nil
}

// enclose appends content behind its length, or its tag and length.
func (i item) enclose(out, content []byte, extended *bool) ([]byte, error) {
	n := len(content)
	if !i.length {
		return tlv.Append(out, i.tag, content), nil
	}
	*extended = i.extended || n > 0xFF
	switch {
	case n > 0xFFFF:
		return nil, fmt.Errorf("no length of %d bytes", n)
	case *extended:
		out = append(out, 0, byte(n>>8), byte(n))
	default:
		out = append(out, byte(n))
	}
	return append(out, content...), nil
}

// variable is a variable and its filters.
type variable struct {
	text    string
	name    string
	filters []filter
}

type filter func([]byte) ([]byte, error)

func parseVariable(text string) (*variable, error) {
	words := strings.Split(text, "|")
	v := &variable{text: text, name: words[0]}
	for _, word := range words[1:] {
		f, err := parseFilter(word)
		if err != nil {
			return nil, fmt.Errorf("in a variable: %w", err)
		}
		v.filters = append(v.filters, f)
	}
	return v, nil
}

func (v *variable) bytes(vars Vars) ([]byte, error) {
	b, ok := vars[v.name]
	if !ok {
		return nil, fmt.Errorf("no variable %s", named(v.name))
	}
	var err error
	for _, f := range v.filters {
		if b, err = f(b); err != nil {
			return nil, fmt.Errorf("%s: %w", v.outline(), err)
		}
	}
	return b, nil
}

var errShort = errors.New("too few bytes")

func parseFilter(text string) (filter, error) {
	switch text {
	case "value":
		return func(b []byte) ([]byte, error) { n, _, err := tlv.Next(b); return n.Value, err }, nil
	case "whole":
		return func(b []byte) ([]byte, error) { n, _, err := tlv.Next(b); return n.Raw, err }, nil
	case "plain":
		return plainSignature, nil
	case "x":
		return func(b []byte) ([]byte, error) {
			if len(b) < 3 {
				return nil, errShort
			}
			return b[1 : 1+len(b)/2], nil
		}, nil
	case "-1":
		return func(b []byte) ([]byte, error) {
			if len(b) < 1 {
				return nil, errShort
			}
			return b[: len(b)-1 : len(b)-1], nil
		}, nil
	case "flip":
		return flip, nil
	}
	if number, ok := strings.CutPrefix(text, "head "); ok {
		return parseCut(number, func(b []byte, n int) []byte { return b[:n:n] })
	}
	if number, ok := strings.CutPrefix(text, "from "); ok {
		return parseCut(number, func(b []byte, n int) []byte { return b[n:] })
	}
	if number, ok := strings.CutPrefix(text, "#"); ok {
		return parseCount(number)
	}
	return parsePath(text)
}

func flip(b []byte) ([]byte, error) {
	if len(b) < 1 {
		return nil, errShort
	}
	b = bytes.Clone(b)
	b[len(b)-1] ^= 1
	return b, nil
}

func parseCut(number string, cut func([]byte, int) []byte) (filter, error) {
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return nil, errors.New("head and from take a number of bytes")
	}
	return func(b []byte) ([]byte, error) {
		if len(b) < int(n) {
			return nil, errShort
		}
		return cut(b, int(n)), nil
	}, nil
}

func parseCount(number string) (filter, error) {
	i, err := strconv.ParseUint(number, 10, 16)
	if err != nil || i == 0 {
		return nil, errors.New("# takes the number of an object, from 1")
	}
	return func(b []byte) ([]byte, error) {
		list, err := tlv.Parse(b)
		if err != nil {
			return nil, err
		}
		if int(i) > len(list) {
			return nil, errors.New("fewer objects")
		}
		return list[i-1].Raw, nil
	}, nil
}

func parsePath(text string) (filter, error) {
	var path []tlv.Tag
	for _, word := range strings.Split(text, ".") {
		tag, err := strconv.ParseUint(word, 16, 24)
		if err != nil {
			return nil, errors.New("neither a filter nor a tag behind |")
		}
		path = append(path, tlv.Tag(tag))
	}
	return func(b []byte) ([]byte, error) {
		for _, tag := range path {
			list, err := tlv.Parse(b)
			if err != nil {
				return nil, err
			}
			n, ok := list.Find(tag)
			if !ok {
				return nil, errors.New("no such object")
			}
			b = n.Value
		}
		return b, nil
	}, nil
}

// plainSignature makes r || s of 32 bytes each from a sequence of two numbers.
func plainSignature(der []byte) ([]byte, error) {
	n, _, err := tlv.Next(der)
	if err != nil {
		return nil, err
	}
	numbers, err := n.Children()
	if err != nil {
		return nil, err
	}
	if len(numbers) != 2 {
		return nil, errors.New("not a signature")
	}
	out := make([]byte, 64)
	for i, n := range numbers {
		v := bytes.TrimLeft(n.Value, "\x00")
		if len(v) > 32 {
			return nil, errors.New("a number of more than 256 bits")
		}
		copy(out[32*(i+1)-len(v):], v)
	}
	return out, nil
}
