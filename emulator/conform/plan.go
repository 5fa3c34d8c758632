package conform

import (
	"fmt"
	"slices"

	"hsmemu/pinstate"
)

// Planned is a rule in the plan of a run.
type Planned struct {
	ID      string `json:"id"`
	Version int    `json:"version"`
	Costs   string `json:"costs"`
	// Prepared says that the card, made for the rule, is set up for use before.
	Prepared bool `json:"prepared"`
	// Why says why the rule is not played, empty if it is.
	Why string `json:"why"`
	// SHA256 is that of the rule's text: its heading, and the lines that are played,
	// with those of its setup; in hexadecimal digits.
	SHA256 string `json:"sha256"`
}

// Plan is which rules are played, and why the others are not. It has every rule of
// the library, in its order.
type Plan []Planned

// Played is how many rules are to be played.
func (p Plan) Played() (n int) {
	for _, one := range p {
		if one.Why == "" {
			n++
		}
	}
	return n
}

// Cost is the most that all rules of a plan cost together. A secret that is given and
// turns out to be wrong costs one more try, before it ends the run.
func (p Plan) Cost(l Library) Costs {
	var sum Costs
	user, so := false, false
	for i, one := range p {
		if one.Why != "" {
			continue
		}
		r, c := l.Rules[i], l.Rules[i].Costs
		sum.UserTries, sum.SOTries = sum.UserTries+c.UserTries, sum.SOTries+c.SOTries
		sum.UserLockout, sum.SOLockout = sum.UserLockout || c.UserLockout, sum.SOLockout || c.SOLockout
		sum.Objects, sum.AllData = sum.Objects || c.Objects, sum.AllData || c.AllData
		user, so = user || r.names("pin"), so || r.names("so-pin")
	}
	if user || sum.UserTries > 0 || sum.AllData {
		sum.UserTries++
	}
	if so || sum.SOTries > 0 || sum.AllData {
		sum.SOTries++
	}
	return sum
}

// names reports whether the rule uses a variable.
func (r Rule) names(variable string) bool {
	return r.Before.names(variable) || r.Steps.names(variable) || r.After.names(variable)
}

// NewPlan plans what is played on a card.
func NewPlan(l Library, s Statement, o Options) Plan {
	var p Plan
	for _, r := range l.Rules {
		one := Planned{ID: r.ID, Version: r.Version, Costs: r.Costs.String(), Why: whyNot(r, s, o), SHA256: r.digest()}
		if one.Why != "" && s.Fresh && s.State == Shipped && len(l.usual.steps) > 0 {
			if why := whyNot(r, inUse(s), o); why == "" {
				one.Prepared, one.Why = true, ""
			} else if r.asksForUse() {
				one.Why = why
			}
		}
		p = append(p, one)
	}
	return p
}

// asksForUse reports whether the rule asks for a card in use, of any kind.
func (r Rule) asksForUse() bool {
	return slices.ContainsFunc(r.Applies, func(c Condition) bool { return c.found && c.text != "state "+string(Shipped) })
}

// inUse is the statement of a new card after the setup operational.
func inUse(s Statement) Statement {
	s.State, s.Options, s.Counters = Operational, uint16(pinstate.OptionResetEnabled), Counters{Counter{true, 3}, Counter{true, pinstate.SOTries}}
	return s
}

const unasked = "not asked for"

func whyNot(r Rule, s Statement, o Options) string {
	if o.Only != nil && !o.Only.MatchString(r.ID) {
		return unasked
	}
	if r.Withdrawn != "" {
		return "withdrawn: " + r.Withdrawn
	}
	if why := o.Expected.skips(r.ID); why != "" {
		return "to be skipped: " + why
	}
	for _, c := range r.Applies {
		if !c.Met(s) {
			return "does not apply: " + c.String()
		}
	}
	for _, name := range []string{"pin", "so-pin"} {
		_, known := o.Vars[name]
		if name == "pin" && o.PINIsNew && !r.Costs.AllData {
			known = false
		}
		if !known && r.names(name) {
			return "needs the " + map[string]string{"pin": "user PIN", "so-pin": "SO-PIN"}[name]
		}
	}
	switch c := r.Costs; {
	case s.Fresh:
		return ""
	case r.Cuts:
		return "the power of this card cannot be cut at a save"
	case c == Costs{}:
		return ""
	case !o.Destructive:
		return "costs " + c.String()
	case c.SOLockout:
		return "blocks the SO-PIN, which nothing undoes"
	case c.SOTries > 0 && s.SOPIN.Known && s.SOPIN.Left-c.SOTries < o.KeepSOTries:
		return fmt.Sprintf("costs %v, and of %d tries of the SO-PIN %d are to be kept", c, s.SOPIN.Left, o.KeepSOTries)
	case c.AllData && s.SOPIN.Known && s.SOPIN.Left-1 < o.KeepSOTries:
		return fmt.Sprintf("needs the SO-PIN, and of its %d tries %d are to be kept", s.SOPIN.Left, o.KeepSOTries)
	}
	return ""
}
