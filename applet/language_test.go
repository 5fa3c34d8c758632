package applet_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"hsmemu/applet/tlv"
)

// The tests of this package write commands as
//
//	00 20 00 81 Lc("648219")               hexadecimal digits, text, a length
//	00 D7 CF01 Lc(54(0000) 53("note"))     data objects: tag and content
//	00 A4 00 00 Lc(2F02) le                le is 00, after a long Lc 0000
//	00 2A 00 BE Lc({ef|#2|value})          a variable through filters
//
// and answers as
//
//	6F 0B 80 02 .... *  9000               .. is any byte, * any run of bytes
//	{sig:*} 9000                           keeps bytes as a variable
//	7C 14 81 08 {nonce:8} 82 08 * 9000     keeps so many bytes
//	{sig} 9000                             compares with a variable

// vars are the variables of a script.
type vars map[string][]byte

// compile turns the text of a command into bytes.
func compile(text string, v vars) ([]byte, error) {
	c := compiler{rest: text, vars: v}
	out, err := c.sequence(false)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", text, err)
	}
	return out, nil
}

type compiler struct {
	rest     string
	vars     vars
	extended bool
}

var tokens = regexp.MustCompile(`^\s*(?:(Lcx?\()|([0-9A-F]{2,6})\(|([0-9A-F]{2})|"([^"]*)"|\{([^}]*)\}|(\))|(le)\b)`)

// sequence reads items up to the end, or to the closing bracket.
func (c *compiler) sequence(inside bool) ([]byte, error) {
	out := []byte{}
	for {
		if strings.TrimSpace(c.rest) == "" {
			if inside {
				return nil, fmt.Errorf("a bracket is open")
			}
			return out, nil
		}
		m := tokens.FindStringSubmatch(c.rest)
		if m == nil {
			return nil, fmt.Errorf("not understood: %s", c.rest)
		}
		c.rest = c.rest[len(m[0]):]
		if m[6] != "" {
			if !inside {
				return nil, fmt.Errorf("a bracket too many")
			}
			return out, nil
		}
		item, err := c.item(m)
		if err != nil {
			return nil, err
		}
		out = append(out, item...)
	}
}

func (c *compiler) item(m []string) ([]byte, error) {
	switch {
	case m[1] != "":
		return c.length(m[1] == "Lcx(")
	case m[2] != "":
		tag, err := strconv.ParseUint(m[2], 16, 24)
		if err != nil {
			return nil, err
		}
		content, err := c.sequence(true)
		return tlv.Append(nil, tlv.Tag(tag), content), err
	case m[3] != "":
		return hex.DecodeString(m[3])
	case m[5] != "":
		return c.vars.value(m[5])
	case m[7] != "" && c.extended:
		return []byte{0, 0}, nil
	case m[7] != "":
		return []byte{0}, nil
	}
	return []byte(m[4]), nil
}

// length is Lc and the data behind it, in extended form where it has to be or
// is asked for.
func (c *compiler) length(extended bool) ([]byte, error) {
	data, err := c.sequence(true)
	n := len(data)
	c.extended = extended || n > 255
	if c.extended {
		return append([]byte{0, byte(n >> 8), byte(n)}, data...), err
	}
	return append([]byte{byte(n)}, data...), err
}

// value is a variable, or what filters make of it.
func (v vars) value(text string) ([]byte, error) {
	words := strings.Split(text, "|")
	b, ok := v[words[0]]
	if !ok {
		return nil, fmt.Errorf("no variable %s", words[0])
	}
	var err error
	for _, filter := range words[1:] {
		if b, err = apply(filter, b); err != nil {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
	}
	return b, nil
}

// apply is one filter:
//
//	#2            the second of several data objects
//	7F21.42       the content of an object within an object
//	value         the content of the object
//	whole         the object alone, of what follows it nothing
//	plain         an ECDSA signature of 256 bits in DER as r || s
//	x             the x coordinate of a point 04 || x || y
//	-1            without the last byte
//	head N        the first N bytes
//	from N        all but the first N bytes
//	flip          with the last bit of the last byte changed
func apply(filter string, b []byte) ([]byte, error) {
	switch filter {
	case "value", "whole":
		n, _, err := tlv.Next(b)
		if filter == "value" {
			return n.Value, err
		}
		return n.Raw, err
	case "plain":
		return plainSignature(b)
	case "x":
		return b[1 : 1+len(b)/2], nil
	case "-1":
		return b[:len(b)-1], nil
	case "flip":
		b = append([]byte{}, b...)
		b[len(b)-1] ^= 1
		return b, nil
	}
	if number, ok := strings.CutPrefix(filter, "head "); ok {
		n, err := strconv.Atoi(number)
		return b[:n:n], err
	}
	if number, ok := strings.CutPrefix(filter, "from "); ok {
		n, err := strconv.Atoi(number)
		return b[n:], err
	}
	list, err := tlv.Parse(b)
	if err != nil {
		return nil, err
	}
	if number, ok := strings.CutPrefix(filter, "#"); ok {
		i, err := strconv.Atoi(number)
		if err != nil || i < 1 || i > len(list) {
			return nil, fmt.Errorf("no object %s", filter)
		}
		return list[i-1].Raw, nil
	}
	for _, word := range strings.Split(filter, ".") {
		tag, err := strconv.ParseUint(word, 16, 24)
		if err != nil {
			return nil, err
		}
		if list, err = tlv.Parse(b); err != nil {
			return nil, err
		}
		n, ok := list.Find(tlv.Tag(tag))
		if !ok {
			return nil, fmt.Errorf("no object %s", word)
		}
		b = n.Value
	}
	return b, nil
}

func plainSignature(der []byte) ([]byte, error) {
	outer, err := tlv.Parse(der)
	if err != nil || len(outer) != 1 {
		return nil, fmt.Errorf("not a signature: %w", err)
	}
	numbers, err := outer[0].Children()
	out := make([]byte, 64)
	for i, n := range numbers {
		v := bytes.TrimLeft(n.Value, "\x00")
		copy(out[32*(i+1)-len(v):], v)
	}
	return out, err
}

var patternTokens = regexp.MustCompile(`^\s*(?:([0-9A-F]{2})|(\.\.)|(\*)|\{([a-z0-9]+):(\d+|\*)\}|\{([^}]*)\}|"([^"]*)")`)

// part is one thing that a pattern asks for.
type part struct {
	literal []byte
	length  int    // of what is not literal; negative is any
	name    string // the variable that keeps it
}

// match compares an answer with a pattern and keeps what the pattern names.
func match(pattern string, answer []byte, v vars) (bool, error) {
	parts, err := parsePattern(pattern, v)
	if err != nil {
		return false, fmt.Errorf("%s: %w", pattern, err)
	}
	return matchParts(parts, answer, v), nil
}

func matchParts(parts []part, b []byte, v vars) bool {
	if len(parts) == 0 {
		return len(b) == 0
	}
	p, rest := parts[0], parts[1:]
	if p.literal != nil {
		after, found := bytes.CutPrefix(b, p.literal)
		return found && matchParts(rest, after, v)
	}
	least, most := p.length, p.length
	if p.length < 0 {
		least, most = 0, len(b)
	}
	for n := least; n <= most && n <= len(b); n++ {
		if matchParts(rest, b[n:], v) {
			if p.name != "" {
				v[p.name] = b[:n:n]
			}
			return true
		}
	}
	return false
}

func parsePattern(pattern string, v vars) ([]part, error) {
	var parts []part
	for rest := pattern; strings.TrimSpace(rest) != ""; {
		m := patternTokens.FindStringSubmatch(rest)
		if m == nil {
			return nil, fmt.Errorf("not understood: %s", rest)
		}
		rest = rest[len(m[0]):]
		p, err := parsePart(m, v)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, nil
}

func parsePart(m []string, v vars) (part, error) {
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
		n, err := strconv.Atoi(m[5])
		return part{length: n, name: m[4]}, err
	case m[6] != "":
		b, err := v.value(m[6])
		return part{literal: append([]byte{}, b...)}, err
	}
	return part{literal: append([]byte{}, m[7]...)}, nil
}
