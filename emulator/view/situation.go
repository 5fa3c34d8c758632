package view

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"hsmemu/emulator/chip"
	"hsmemu/pinstate"
)

// likeWord is a word by which a card's situation is stated, as in so=7.
type likeWord struct {
	name, value, help string
	read              func(*stated, string) error
}

// stated is what has been said of a card so far.
type stated struct {
	chip.Situation
	firmware             string
	options, user, state bool // were stated
}

// likeWords are the words, in the order in which they take effect. They are those
// of `card show --json` and of what sc-hsm-tool prints.
var likeWords = []likeWord{
	{"firmware", "V", "version, as --firmware", func(s *stated, v string) error { s.firmware = v; return nil }},
	{"options", "HHHH", "option bytes of INITIALIZE DEVICE, 0001 without this word", (*stated).readOptions},
	{"so", "N", "tries left of the SO-PIN, 0 to 15", func(s *stated, v string) (err error) { s.SOTries, err = number(v, 15); return err }},
	{"user", "N[/M]", "tries left of the user PIN, of M, or of 3; none: no user PIN", (*stated).readUser},
	{"pka", "N/M", "N of M public keys log in; none is registered yet", (*stated).readKeys},
	{"shares", "N", "DKEK shares to come; 0: a random DKEK", func(s *stated, v string) error {
		n, err := number(v, 255)
		s.Shares = &n
		return err
	}},
	{"domains", "N", "empty key domains, firmware 3 and later", func(s *stated, v string) (err error) { s.Domains, err = number(v, 255); return err }},
	{"state", "WORD", "as `card show --json` has it: " + strings.Join(stateWords(), ", "), (*stated).readState},
}

var errContradiction = errors.New("that contradicts what is said of the user PIN")

// longPIN is the user PIN of a card with more tries than one of six digits may
// have.
const longPIN = "64821973"

// states are those that a card can be said to be in.
var states = []State{Uninitialised, Operational, TransportPIN, TransportPINBlocked, UserPINBlocked, PublicKeysOnly}

func stateWords() []string {
	var words []string
	for _, s := range states {
		words = append(words, string(s))
	}
	return words
}

// SituationHelp lists the words that [ParseSituation] reads, with what each of
// them says.
func SituationHelp() [][2]string {
	var list [][2]string
	for _, w := range likeWords {
		list = append(list, [2]string{w.name + "=" + w.value, w.help})
	}
	return list
}

// ParseSituation reads what is said of somebody's card, as in "so=7", "user=2",
// "options=0001", and the firmware if that is said. What is left out is as after
// an initialisation with the usual numbers, see chip.Usual. The errors are for
// people: an unknown word, with the nearest one, a word whose value cannot be, and words
// that contradict each other. They quote no value: somebody may have written a PIN.
func ParseSituation(words []string) (s chip.Situation, firmware string, err error) {
	said := map[string]string{}
	for _, w := range words {
		name, value, is := strings.Cut(strings.TrimSpace(w), "=")
		known := slices.ContainsFunc(likeWords, func(k likeWord) bool { return k.name == name })
		_, twice := said[name]
		switch {
		case !known:
			return s, "", unknownWord(name)
		case !is || value == "":
			return s, "", fmt.Errorf("%s wants a value, as in %s=…", name, name)
		case twice:
			return s, "", fmt.Errorf("%s is said twice", name)
		}
		said[name] = value
	}
	all := stated{Situation: chip.Usual()}
	for _, w := range likeWords {
		if value, is := said[w.name]; is {
			if err := w.read(&all, value); err != nil {
				return s, "", fmt.Errorf("%s: %w", w.name, err)
			}
		}
	}
	if !all.Initialised && len(said)-has(said, "firmware") > 1 {
		return s, "", fmt.Errorf("state=%s: a card as shipped has no PINs, options and key domains", Uninitialised)
	}
	if !all.state {
		all.Transport = all.UserPIN != nil && all.Options.Has(pinstate.OptionTransportPIN)
	}
	return all.Situation, all.firmware, nil
}

func has(said map[string]string, name string) int {
	if _, is := said[name]; is {
		return 1
	}
	return 0
}

func number(text string, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > most {
		return 0, fmt.Errorf("a number from 0 to %d", most)
	}
	return n, nil
}

func (s *stated) readOptions(text string) error {
	n, err := strconv.ParseUint(text, 16, 16)
	if err != nil || len(text) != 4 {
		return errors.New("four hexadecimal digits, as in 0001")
	}
	s.Options, s.options = pinstate.Options(n), true
	return nil
}

func (s *stated) readUser(text string) (err error) {
	s.user = true
	if text == "none" {
		s.UserPIN, s.UserTries, s.UserMax = nil, 0, 0
		return nil
	}
	left, of, more := strings.Cut(text, "/")
	if more {
		if s.UserMax, err = number(of, 10); err != nil {
			return err
		}
		if s.UserMax > 3 {
			s.UserPIN = pinstate.Value(longPIN)
		}
	}
	if s.UserTries, err = number(left, 10); err != nil {
		return err
	}
	switch {
	case s.UserTries > s.UserMax && !more:
		return fmt.Errorf("a user PIN has %d tries unless more are stated, as in user=%d/5", s.UserMax, s.UserTries)
	case s.UserTries > s.UserMax:
		return errors.New("more tries left than there are")
	}
	return nil
}

func (s *stated) readKeys(text string) error {
	required, total, _ := strings.Cut(text, "/")
	n, bad := number(required, 90)
	m, worse := number(total, 90)
	if bad != nil || worse != nil || n < 1 || n > m {
		return errors.New("how many of how many public keys, as in 2/3, of 90 at most")
	}
	s.Keys = pinstate.KeyPolicy{Required: uint8(n), Total: uint8(m)}
	return nil
}

// readState is the last word: what it says has to fit the others.
func (s *stated) readState(text string) error {
	state := State(text)
	if !slices.Contains(states, state) {
		return fmt.Errorf("one of %s%s", strings.Join(stateWords(), ", "), nearest(text, stateWords()))
	}
	s.state = true
	switch state {
	case Uninitialised:
		s.Situation = chip.Situation{}
		return nil
	case TransportPIN, TransportPINBlocked:
		if s.options && !s.Options.Has(pinstate.OptionTransportPIN) {
			return errors.New("that takes option 0002")
		}
		s.Options |= pinstate.OptionTransportPIN
		s.Transport = true
	case PublicKeysOnly:
		if s.user && s.UserPIN != nil {
			return errContradiction
		}
		s.UserPIN, s.UserTries, s.UserMax = nil, 0, 0
	}
	blocked := state == TransportPINBlocked || state == UserPINBlocked
	if blocked && s.UserTries == s.UserMax {
		s.UserTries = 0
	}
	if (s.UserPIN == nil) != (state == PublicKeysOnly) || blocked != (s.UserTries == 0 && s.UserPIN != nil) {
		return errContradiction
	}
	return nil
}

// unknownWord is the error for a word that is none, with the nearest one.
func unknownWord(name string) error {
	var names []string
	for _, w := range likeWords {
		names = append(names, w.name)
	}
	if name == "" {
		return fmt.Errorf("a word is missing beside a comma (there are %s)", strings.Join(names, ", "))
	}
	if strings.ContainsAny(name, "0123456789") { // a value in the wrong place
		return fmt.Errorf("there is no such word (there are %s)", strings.Join(names, ", "))
	}
	return fmt.Errorf("there is no word %q%s (there are %s)", name, nearest(name, names), strings.Join(names, ", "))
}

// nearest asks whether one of some words was meant, if one is near enough.
func nearest(word string, words []string) string {
	if near := Nearest(word, words); near != "" {
		return fmt.Sprintf(", did you mean %s?", near)
	}
	return ""
}

// Nearest is the one of some words that was probably meant by another, empty if none is
// near enough.
func Nearest(word string, words []string) string {
	best, least := "", 3
	for _, w := range words {
		d := distance(word, w)
		if strings.HasPrefix(word, w) || word != "" && strings.HasPrefix(w, word) {
			d = min(d, 1)
		}
		if d < min(least, len(word)) { // another word of two letters is not near
			best, least = w, d
		}
	}
	return best
}

// distance is how many letters have to be changed, added or left out to make one
// word of another.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
