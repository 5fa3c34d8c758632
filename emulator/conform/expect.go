package conform

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Expectations are rules that are known to be broken, or are not to be played, each
// with the reason why.
type Expectations []Expectation

// Expectation is a line of a file of expectations.
type Expectation struct {
	Line int
	ID   string
	// Skip says that the rule is not to be played; otherwise it is known to be broken,
	// or to be reviewed where that is the verdict.
	Skip bool
	Why  string
}

// ParseExpectations reads lines; what follows the number sign is the reason, which
// has to be there:
//
//	broken PIN-R3  # firmware 3.5 answers 6F00, the vendor knows
//	skip   PIN-R9  # takes an hour
//
// Error: what is wrong with the lines, each a *RuleError with the name of the file,
// joined.
func ParseExpectations(file, text string) (Expectations, error) {
	var all Expectations
	var errs []error
	for i, line := range strings.Split(text, "\n") {
		if i == mostRules && line != "" {
			return nil, errors.Join(append(errs, &RuleError{file, i + 1, fmt.Errorf("at most %d lines", mostRules)})...)
		}
		said, why, _ := strings.Cut(line, "#")
		words, why := strings.Fields(said), strings.TrimSpace(why)
		var err error
		switch {
		case len(words) == 0:
			continue
		case len(words) != 2 || words[0] != "broken" && words[0] != "skip" || !ruleID.MatchString(words[1]):
			err = errors.New("broken RULE # REASON, or skip RULE # REASON")
		case why == "":
			err = fmt.Errorf("%s has no reason behind #", words[1])
		case slices.ContainsFunc(all, func(e Expectation) bool { return e.ID == words[1] }):
			err = fmt.Errorf("%s stands there already", words[1])
		default:
			all = append(all, Expectation{Line: i + 1, ID: words[1], Skip: words[0] == "skip", Why: why})
		}
		if err != nil {
			errs = append(errs, &RuleError{file, i + 1, err})
		}
	}
	return all, errors.Join(errs...)
}

func (x Expectations) skips(id string) string {
	for _, one := range x {
		if one.ID == id && one.Skip {
			return one.Why
		}
	}
	return ""
}

// apply marks what is known to be broken, and notes the lines that are stale: of
// rules that are not there, or that hold.
func (x Expectations) apply(r *Report) {
	r.Stale = []string{}
	stale := func(one Expectation, why string) {
		r.Stale = append(r.Stale, fmt.Sprintf("line %d: %s %s", one.Line, one.ID, why))
	}
	for _, one := range x {
		i := slices.IndexFunc(r.Results, func(r Result) bool { return r.ID == one.ID })
		switch {
		case i < 0:
			stale(one, "is no rule of the library")
		case !one.Skip && (r.Results[i].Verdict == Broken || r.Results[i].Verdict == Review):
			r.Results[i].Expected = one.Why
		case !one.Skip && r.Results[i].Verdict != NotJudged:
			stale(one, "is not broken: "+string(r.Results[i].Verdict))
		case strings.HasPrefix(r.Results[i].Why, "withdrawn: "):
			stale(one, "is withdrawn")
		}
	}
}
