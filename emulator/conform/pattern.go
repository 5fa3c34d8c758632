package conform

import (
	"bytes"
	"encoding/hex"
	"errors"
	"regexp"
	"strconv"
	"strings"
)

// Match reports whether an answer fits a pattern, and keeps in v what the
// pattern names. These are the parts of a pattern, with any space between
// them:
//
//	6F0B "text"      these bytes, as in a command
//	..               any byte
//	*                any number of bytes
//	{sig:*}          any number of bytes, kept as the variable sig
//	{nonce:8}        so many bytes, kept
//	{sig} {ef|#2}    the bytes of a variable, possibly through filters
func Match(text string, answer []byte, v Vars) (bool, error) {
	p, err := parsePattern(text)
	if err != nil {
		return false, inColumn(text, err)
	}
	return p.match(answer, v)
}

// pattern is what is asked of an answer.
type pattern []part

// part is one thing that a pattern asks for: literal bytes, those of a variable,
// or so many of any value, negative for any number.
type part struct {
	literal  []byte
	variable *variable
	length   int
	name     string // the variable that keeps it
	text     bool   // a literal that was written in characters
}

// errNoPattern says that a text is none of an answer; what stands there is not told.
var errNoPattern = errors.New("not understood: an answer has pairs of capital hexadecimal digits, \"text\", .., * and {variables}")

var patternTokens = regexp.MustCompile(`^\s*(?:([0-9A-F]{2})|(\.\.)|(\*)|\{([A-Za-z0-9]+):(\d+|\*)\}|\{([^}]+)\}|"([^"]*)")`)

// parsePattern reads a pattern. Errors are misplaced.
func parsePattern(text string) (pattern, error) {
	p := pattern{}
	for rest := text; strings.TrimSpace(rest) != ""; {
		m := patternTokens.FindStringSubmatch(rest)
		if m == nil {
			return nil, &misplaced{placeOf(text, rest), errNoPattern}
		}
		one, err := parsePart(m)
		if err != nil {
			return nil, &misplaced{placeOf(text, rest), err}
		}
		rest = rest[len(m[0]):]
		p = append(p, one)
	}
	return p, nil
}

func parsePart(m []string) (part, error) {
	switch {
	case m[1] != "":
		b, err := hex.DecodeString(m[1])
		return part{literal: b}, err
	case m[2] != "":
		return part{length: 1}, nil
	case m[3] != "":
		return part{length: -1}, nil
	case m[5] == "*":
		return part{length: -1, name: m[4]}, nil
	case m[4] != "":
		n, err := strconv.ParseUint(m[5], 10, 16)
		if err != nil {
			err = errors.New("{NAME:N} takes a number of bytes, or *") // strconv quotes it
		}
		return part{length: int(n), name: m[4]}, err
	case m[6] != "":
		v, err := parseVariable(m[6])
		return part{variable: v}, err
	}
	return part{literal: []byte(m[7]), text: true}, nil
}

// match compares an answer with the pattern. The names of the pattern are kept
// if it fits; the variables that it compares with are those from before.
func (p pattern) match(answer []byte, v Vars) (bool, error) {
	resolved := make(pattern, len(p))
	for i, one := range p {
		if one.variable != nil {
			b, err := one.variable.bytes(v)
			if err != nil {
				return false, err
			}
			one.literal = append([]byte{}, b...) // not nil
		}
		resolved[i] = one
	}
	spans, ok := resolved.spans(answer)
	if !ok {
		return false, nil
	}
	for i, one := range resolved {
		if one.name != "" {
			v[one.name] = bytes.Clone(answer[spans[i]:spans[i+1]])
		}
	}
	return true, nil
}

// spans says where each part begins, and where the last one ends. A part of any
// length takes as few bytes as it can. Where the parts behind it do not fit, it
// takes one more; those before it need not change then, since what they leave
// to it is the most there can be.
func (p pattern) spans(b []byte) ([]int, bool) {
	spans := make([]int, len(p)+1)
	star, at := -1, 0
	for i := 0; ; {
		if i < len(p) && p[i].literal == nil && p[i].length < 0 {
			spans[i], spans[i+1] = at, at
			star = i
			i++
			continue
		}
		n, fits := 0, at == len(b)
		if i < len(p) {
			n, fits = p[i].fits(b[at:])
		}
		switch {
		case fits && i == len(p):
			return spans, true
		case fits:
			spans[i] = at
			at += n
			i++
			spans[i] = at
		case star < 0 || spans[star+1] == len(b):
			return nil, false
		default:
			spans[star+1]++
			i, at = star+1, spans[star+1]
		}
	}
}

// fits tells how many bytes a part of certain length takes.
func (p part) fits(b []byte) (n int, ok bool) {
	if p.literal != nil {
		return len(p.literal), bytes.HasPrefix(b, p.literal)
	}
	return p.length, p.length <= len(b)
}
