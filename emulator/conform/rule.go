package conform

import (
	"fmt"
	"slices"
	"strings"
)

// Rule is one thing that a card has to do, and a scenario that shows whether it
// does. Rules are kept in text files, a file for each area:
//
//	rule PIN-R1 v1
//	  says      A wrong user PIN costs one try.
//	  clause    PIN-33, PIN-40
//	  evidence  seen on hardware: https://…
//	  applies   firmware >= 2.0
//	  costs     1 user try, all data
//	  breaks    Whoever finds a card may guess without end.
//	  link      https://…
//	  setup     operational
//	before
//	  select
//	steps
//	  00 20 00 81 Lc({pin|flip}) => 63C2
//	  > 00 20 00 81
//	  < 63C2 | 6982 (differs: firmware 1.2 tells no tries)
//	after
//	  00 20 00 81 Lc({pin})
//
// The words rule, setup, before, steps and after begin a line; everything else is
// indented. Lines whose first character is # are comments. A word that is repeated,
// as says, goes on with its text. All of them but says, clause, evidence and costs
// may be left out:
//
//	rule ID vN   the name of the rule, which is never given again, and its version,
//	             which grows when what it asks for changes
//	says         the rule in one sentence
//	clause       the statements of docs/protocol that it follows from
//	evidence     how that is known: seen on hardware, required by a client,
//	             inferred, ours; a source behind a colon. The best of several counts
//	applies      when the rule can be judged, all of: firmware >= 3.0 (or < <= > =);
//	             option NAME, option not NAME: an option that the card has as it is
//	             found: reset, transport, session, replace, both, reset-only; state
//	             NAME, as it is found: shipped, transport, operational, blocked, keys,
//	             so-blocked, or initialised for all but the first; curve NAME; rsa
//	             BITS; fresh: a card made for it. On such a card the setup
//	             operational is played first, if its state or options would not do
//	costs        nothing, or what a card loses, all of: N user tries, N SO tries, a
//	             user lockout, an SO lockout, own objects (makes objects and deletes
//	             them), all data. It is the most that a card could take, whatever it
//	             does: a PIN of a wrong length is sent only if a try may be spent. Tries
//	             count although a right PIN gives them back: the number says how far a
//	             counter falls
//	breaks       what it means for the owner of a card that does otherwise
//	link         where to read on
//	withdrawn    why the rule is judged no more; it stays, so that its name does
//	power        at every save: where the power can be cut, it is cut, in copies of the
//	             card, at each of the states that a PIN command of the rule saves
//	setup        the lines of this name are played first
//
// A setup is a heading and lines, for the rules of all files:
//
//	setup operational
//	  select
//	  80 50 00 00 Lc(80(0001) 81({pin}) 82({so-pin}) 91(03))
//
// The lines of before, steps and after are those of a scenario, see the package
// comment. What fails before the steps says that the rule could not be judged,
// except of a card made for it. What is after the steps is played in any case. A rule
// starts on a card whose power was just cut, with no application selected; it does
// not say which card. Its variables are those of a [Player], pin and so-pin.
type Rule struct {
	ID      string
	Version int
	// File and Line are where the rule stands.
	File string
	Line int

	Says      string
	Clauses   []string
	Evidence  []Evidence
	Applies   []Condition
	Costs     Costs
	Breaks    string
	Links     []string
	Withdrawn string
	Setup     string
	// Cuts says that the power is cut at every save of a PIN command.
	Cuts bool

	// Before, Steps and After are the scenario, Before with the lines of Setup.
	Before, Steps, After Script

	texts map[string]*section // lines of the sections, until they are parsed
}

// Evidence is how well something is known of hardware, and from where.
type Evidence struct {
	Grade  Grade
	Source string // may be empty
}

// Grade is how well something is known of hardware. The words are those of
// docs/protocol.
type Grade string

// The grades, from the best.
const (
	Hardware Grade = "seen on hardware"
	Client   Grade = "required by a client"
	Inferred Grade = "inferred"
	Ours     Grade = "ours"
)

var grades = []Grade{Hardware, Client, Inferred, Ours}

// Grade is the best of the rule's evidence.
func (r Rule) Grade() Grade {
	best := len(grades) - 1
	for _, e := range r.Evidence {
		best = min(best, slices.Index(grades, e.Grade))
	}
	return grades[best]
}

// Guess reports whether hardware may well do something else than the rule says:
// nobody has seen it, and no client needs it.
func (r Rule) Guess() bool { return r.Grade() == Inferred || r.Grade() == Ours }

// Costs are what a card loses by a rule.
type Costs struct {
	// UserTries and SOTries say how far the counters fall, unless the PIN is blocked.
	UserTries, SOTries int
	// UserLockout and SOLockout say that the rule blocks a PIN. Nothing but
	// another applet unblocks the SO-PIN.
	UserLockout, SOLockout bool
	// Objects says that the rule makes objects of its own and deletes them, AllData
	// that it initialises the card.
	Objects, AllData bool
}

// String is how a rule file has it.
func (c Costs) String() string {
	var words []string
	count := func(n int, who string) {
		switch {
		case n == 1:
			words = append(words, "1 "+who+" try")
		case n > 1:
			words = append(words, fmt.Sprintf("%d %s tries", n, who))
		}
	}
	count(c.UserTries, "user")
	count(c.SOTries, "SO")
	for _, one := range []struct {
		set  bool
		word string
	}{{c.UserLockout, "a user lockout"}, {c.SOLockout, "an SO lockout"}, {c.Objects, "own objects"}, {c.AllData, "all data"}} {
		if one.set {
			words = append(words, one.word)
		}
	}
	if len(words) == 0 {
		return "nothing"
	}
	return strings.Join(words, ", ")
}

// Spends is what that means for a card, in words: spends 2 of 15 SO-PIN tries, erases
// all keys.
func (c Costs) Spends(s Statement) string {
	var words []string
	spend := func(n int, all bool, of Counter, name string) {
		switch {
		case all:
			words = append(words, "blocks the "+name)
		case n > 0:
			left := ""
			if of.Known {
				n = min(n, max(of.Left-1, 1)) // the last one is kept
				left = fmt.Sprintf(" of %d", of.Left)
			}
			words = append(words, fmt.Sprintf("spends up to %d%s %s tries", n, left, name))
		}
	}
	spend(c.UserTries, c.UserLockout, s.UserPIN, "user PIN")
	spend(c.SOTries, c.SOLockout, s.SOPIN, "SO-PIN")
	if c.AllData {
		words = append(words, "erases all keys, certificates and files")
		if s.State == Shipped {
			words = append(words, "sets an SO-PIN that stays")
		}
	}
	if c.Objects {
		words = append(words, "makes and deletes objects")
	}
	return strings.Join(words, ", ")
}
