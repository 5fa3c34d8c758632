package conform

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"hsmemu/applet/apdu"
	"hsmemu/applet/pkcs15"
)

// Scenarios have PINs in them, and messages and reports end up in logs. So what a
// message quotes of a line is put together here from what has been understood of it:
// directives, the header of a command, its brackets, names of variables, status words.
// Bytes of data, and everything that was not understood, are told by their place.

// hidden stands for what is not quoted.
const hidden = "…"

// misplaced says where in a text something is wrong: at a byte, from 0.
type misplaced struct {
	at  int
	err error
}

func (e *misplaced) Error() string { return e.err.Error() }

func (e *misplaced) Unwrap() error { return e.err }

// placeOf is where in a text its rest begins, behind space.
func placeOf(text, rest string) int {
	return len(text) - len(strings.TrimLeftFunc(rest, unicode.IsSpace))
}

// within moves an error about a part of a text to where the part stands in it.
func within(at int, err error) error {
	if m := (*misplaced)(nil); errors.As(err, &m) {
		return &misplaced{at + m.at, m.err}
	}
	return err
}

// inColumn says the column of a line that an error is about, in characters from 1.
func inColumn(line string, err error) error {
	m := (*misplaced)(nil)
	if !errors.As(err, &m) {
		return err
	}
	return fmt.Errorf("column %d: %w", 1+utf8.RuneCountInString(line[:min(m.at, len(line))]), m.err)
}

// quoted is what messages say of a line: its directive, or the outline of its command.
func (s step) quoted() string {
	switch s.verb {
	case "send":
		if strings.TrimSpace(s.text) == selectWord {
			return selectWord
		}
		return s.command.outline()
	case "let":
		return strings.TrimSpace(s.verb + " " + named(s.args[0]) + " = " + s.command.brackets())
	case "differ":
		return s.verb + " " + named(s.args[0]) + " " + named(s.args[1])
	case "sm":
		return s.verb + " " + strings.Join(s.args, " ") // known words
	}
	return s.verb
}

// outline is the text of a command without its data: 00200081 Lc({pin|flip}). Which file
// is deleted is said.
func (e expression) outline() string {
	header, rest := e.header()
	if header != "" && e[1].literal[0] == apdu.InsDeleteFile && len(rest) == 1 && rest[0].length && len(rest[0].inner) == 2 {
		return header + " Lc(" + rest[0].inner.hex() + ")" // which file
	}
	words := slices.DeleteFunc([]string{header, rest.brackets()}, func(w string) bool { return w == "" })
	return strings.Join(words, " ")
}

// header is CLA INS P1 P2 in hexadecimal, if a command begins with those in hexadecimal
// and its class is one that cards know; no PIN in ASCII does.
func (e expression) header() (string, expression) {
	const length = 4
	if len(e) < length || slices.ContainsFunc(e[:length], func(i item) bool { return len(i.literal) != 1 || i.text }) {
		return "", e
	}
	if class := e[0].literal[0]; class&^(apdu.ClassProprietary|apdu.ClassSecure) != 0 {
		return "", e
	}
	return e[:length].hex(), e[length:]
}

// hex is the literal bytes of an expression.
func (e expression) hex() string {
	var b []byte
	for _, i := range e {
		b = append(b, i.literal...)
	}
	return fmt.Sprintf("%X", b)
}

// brackets are the data objects, lengths and variables of an expression.
func (e expression) brackets() string {
	var words []string
	for _, i := range e {
		word := hidden
		switch {
		case i.variable != nil:
			word = i.variable.outline()
		case i.le:
			word = "le"
		case i.length && i.extended:
			word = "Lcx(" + i.inner.brackets() + ")"
		case i.length:
			word = "Lc(" + i.inner.brackets() + ")"
		case i.literal == nil && i.tag <= 0xFF: // a longer one may be a PIN before a bracket
			word = fmt.Sprintf("%02X(%s)", int(i.tag), i.inner.brackets())
		case i.literal == nil:
			word = hidden + "(" + i.inner.brackets() + ")"
		}
		if word != hidden || len(words) == 0 || words[len(words)-1] != hidden {
			words = append(words, word)
		}
	}
	return strings.Join(words, " ")
}

// outline is a variable and its filters.
func (v *variable) outline() string {
	words := strings.Split(v.text, "|")
	words[0] = named(words[0])
	for i, word := range words[1:] {
		if !plainFilter.MatchString(word) {
			words[i+1] = hidden
		}
	}
	return "{" + strings.Join(words, "|") + "}"
}

var plainFilter = regexp.MustCompile(`^(value|whole|plain|x|-1|flip|(head |from |#)\d{1,3}|[0-9A-F]{2,4}(\.[0-9A-F]{2,4})*)$`)

// named is the name of a variable; one of digits may be a PIN between brackets.
func named(name string) string {
	if plainName.MatchString(name) {
		return name
	}
	return hidden
}

var plainName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*$`)

// quotedWant is the answers that are asked for of a command. If their data may be
// secret, the length is told alone.
func (s step) quotedWant(v Vars, command []byte) string {
	var all []string
	open := !slices.ContainsFunc(s.want, func(a alternative) bool { return v.secret(command, a.want.literal()) })
	for _, one := range s.want {
		all = append(all, one.want.outline(open))
	}
	return strings.Join(all, " | ")
}

// literal is the bytes that a pattern names, one behind the other.
func (p pattern) literal() (all []byte) {
	for _, one := range p {
		all = append(all, one.literal...)
	}
	return all
}

// outline is the text of a pattern, without the bytes in it where it is not open.
func (p pattern) outline(open bool) string {
	var words []string
	word := func(w string) { words = append(words, w) }
	for i := 0; i < len(p); {
		one := p[i]
		switch {
		case one.literal != nil:
			last := i
			for last < len(p) && p[last].literal != nil && p[last].text == one.text {
				last++
			}
			any := last < len(p) && p[last].literal == nil && p[last].variable == nil && p[last].length == 1
			words = append(words, bytesOutline(p[i:last].literal(), open, one.text, len(p)-last, any)...)
			i = last
			continue
		case one.variable != nil:
			word(one.variable.outline())
		case one.name != "" && one.length < 0:
			word("{" + named(one.name) + ":*}")
		case one.name != "":
			word("{" + named(one.name) + ":" + strconv.Itoa(one.length) + "}")
		case one.length < 0:
			word("*")
		default:
			word("..")
		}
		i++
	}
	return strings.Join(words, " ")
}

// bytesOutline are bytes of a pattern that stand behind each other: all of them, or how
// many there are and the status word. Behind them come further parts of the pattern, any
// is whether the first of those is one byte of any value.
func bytesOutline(run []byte, open, text bool, further int, any bool) []string {
	status := 0
	switch first := func(n int) byte { return run[len(run)-n] >> 4 }; {
	case open:
		return []string{fmt.Sprintf("%X", run)}
	case text:
	case further == 0 && len(run) >= 2 && (first(2) == 6 && len(run) == 2 || bytes.HasSuffix(run, []byte{0x90, 0x00})):
		status = 2
	case further == 1 && any && (first(1) == 6 || first(1) == 9): // 63 ..
		status = 1
	}
	var words []string
	if data := len(run) - status; data > 0 {
		words = append(words, notShown(data))
	}
	if status > 0 {
		words = append(words, fmt.Sprintf("%X", run[len(run)-status:]))
	}
	return words
}

// notShown stands for bytes of an answer.
func notShown(n int) string { return fmt.Sprintf("(%s, not shown)", plural(n, "byte")) }

// numbers are texts and numbers that may be PINs in a line that says what can be seen.
var numbers = regexp.MustCompile(`"[^"]*"|\b[0-9A-Fa-f]{2}(?:[ :]+[0-9A-Fa-f]{2}\b){2,}|[0-9A-Za-z]*[0-9][0-9A-Za-z]*`)

// longestWord is the most characters of a word with a digit in it that is quoted: a
// status word, a count, a suite.
const longestWord = 4

// quotedSight is a line that says what can be seen, without texts and long numbers.
func quotedSight(line string) string {
	return numbers.ReplaceAllStringFunc(line, func(word string) string {
		if word[0] == '"' || len(word) > longestWord {
			return hidden
		}
		return word
	})
}

// public are the commands whose answers are no secrets, whatever card answers; the
// data of others go into no message and no report.
var public = []byte{
	apdu.InsSelect, apdu.InsEnumerateObjects, apdu.InsManageKeyDomain, apdu.InsManagePublicKeyAuthentication, apdu.InsGetChallenge,
	apdu.InsGeneralAuthenticate, apdu.InsGenerateKeyPair, apdu.InsSign,
}

// shortestSecret is the fewest bytes that are told apart from chance.
const shortestSecret = 3

// secret reports whether the data of an answer may be: a key, a session PIN, what was
// deciphered, private data, one of the PINs, or what the command has brought itself.
func (v Vars) secret(command, data []byte) bool {
	for _, name := range secrets {
		if one := v[name]; len(one) > 0 && bytes.Contains(data, one) {
			return true
		}
	}
	c, err := apdu.Parse(command)
	switch {
	case err != nil:
		return true
	case c.INS == apdu.InsReadBinary:
		return !slices.Contains([]byte{0x2F, pkcs15.PrefixCertificate, pkcs15.PrefixCACertificate, pkcs15.PrefixPublicData, pkcs15.PrefixKeyDescription}, c.P1)
	case c.INS == apdu.InsManageKeyDomain:
		for i := shortestSecret; i <= len(c.Data); i++ {
			if bytes.Contains(data, c.Data[i-shortestSecret:i]) {
				return true
			}
		}
	}
	return !slices.Contains(public, c.INS)
}

// quotedAnswer is what messages say of an answer: of short data all, of long data the
// beginning, and of what may be a secret the length alone.
func (v Vars) quotedAnswer(command, answer []byte) string {
	data, sw := answer[:len(answer)-2], answer[len(answer)-2:]
	shown := shortened(data)
	if len(data) > 0 && v.secret(command, data) {
		shown = notShown(len(data))
	}
	return strings.TrimSpace(fmt.Sprintf("%s %X", shown, sw))
}

// written is an answer as scenarios have it: short data whole, of long data the
// beginning.
func written(answer []byte) string {
	data, sw := answer[:len(answer)-2], answer[len(answer)-2:]
	return strings.TrimSpace(fmt.Sprintf("%s %X", shortened(data), sw))
}

// shortened is data as scenarios have it.
func shortened(data []byte) string {
	if len(data) <= 80 {
		return fmt.Sprintf("%X", data)
	}
	return fmt.Sprintf("%X *", data[:16])
}
