package conform

import (
	"cmp"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"hsmemu/keystore/curve"
	"hsmemu/pinstate"
)

// Condition is one of the things that have to be so of a card before a rule can be
// judged.
type Condition struct {
	text  string
	met   func(Statement) bool
	found bool // it is about what state the card is found in
}

// String is the condition as the rule has it.
func (c Condition) String() string { return c.text }

// Met reports whether it is so of a card.
func (c Condition) Met(s Statement) bool { return c.met(s) }

// optionBits are the names of the options of INITIALIZE DEVICE, and their bits (PIN-8
// to PIN-11).
func optionBits() map[string]pinstate.Options {
	return map[string]pinstate.Options{
		"reset": pinstate.OptionResetEnabled, "transport": pinstate.OptionTransportPIN, "session": pinstate.OptionSessionPIN,
		"replace": pinstate.OptionReplaceKeys, "both": pinstate.OptionPINAndKeys, "reset-only": pinstate.OptionResetOnly,
	}
}

// State is what a card is found in.
type State string

// The states of a card, for which docs/lockouts.md has the words.
const (
	Shipped     State = "shipped"     // never initialised
	Transport   State = "transport"   // with a transport PIN to be changed
	Operational State = "operational" // with a user PIN that is not blocked
	Blocked     State = "blocked"     // with a user PIN that is
	KeysAlone   State = "keys"        // with public keys, and no user PIN
)

var versionCondition = regexp.MustCompile(`^firmware (<|<=|=|>=|>) (\d+\.\d+)$`)

func parseCondition(text string) (Condition, error) {
	word, rest, _ := strings.Cut(text, " ")
	is := func(met func(Statement) bool) (Condition, error) {
		return Condition{text, met, word == "state" || word == "option"}, nil
	}
	switch word {
	case "firmware":
		if m := versionCondition.FindStringSubmatch(text); m != nil {
			return is(func(s Statement) bool {
				order := compareVersions(s.Firmware, m[2])
				return order < 0 && m[1][0] == '<' || order > 0 && m[1][0] == '>' || order == 0 && strings.HasSuffix(m[1], "=")
			})
		}
	case "option":
		name, not := strings.CutPrefix(rest, "not ")
		if bit, known := optionBits()[name]; known {
			return is(func(s Statement) bool { return s.State != Shipped && pinstate.Options(s.Options).Has(bit) != not })
		}
	case "state":
		switch State(rest) {
		case Shipped, Transport, Operational, Blocked, KeysAlone:
			return is(func(s Statement) bool { return s.State == State(rest) })
		case "initialised":
			return is(func(s Statement) bool { return s.State != Shipped })
		case "so-blocked":
			return is(func(s Statement) bool { return s.State != Shipped && s.SOPIN == Counter{Known: true} })
		}
	case "curve":
		if slices.ContainsFunc(curve.All(), func(c *curve.Curve) bool { return c.Name() == rest }) {
			return is(func(s Statement) bool { return slices.Contains(s.Curves, rest) })
		}
	case "rsa":
		if bits, err := strconv.Atoi(rest); err == nil {
			return is(func(s Statement) bool { return slices.Contains(s.RSA, bits) })
		}
	case "fresh":
		if rest == "" {
			return is(func(s Statement) bool { return s.Fresh })
		}
	}
	return Condition{}, errors.New("no condition: there are firmware >= 3.0, option NAME, option not NAME, state NAME, curve NAME, rsa BITS and fresh")
}

// compareVersions compares two versions as 3.4; one that is not known is below all.
func compareVersions(a, b string) int {
	numbers := func(v string) (n [2]int) {
		major, minor, _ := strings.Cut(v, ".")
		n[0], _ = strconv.Atoi(major)
		n[1], _ = strconv.Atoi(minor)
		return n
	}
	x, y := numbers(a), numbers(b)
	return cmp.Or(cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1]))
}
