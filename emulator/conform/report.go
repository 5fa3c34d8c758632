package conform

import (
	"fmt"
	"strings"
	"time"
)

// Schema is the version of the form of a [Report] in JSON; docs/hsmemu.schema.json
// has it.
const Schema = 1

// Report is what was judged, on what, and what became of it.
type Report struct {
	Schema int `json:"schema"`
	// Program is the version of what judged, and Target what was judged.
	Program string `json:"program"`
	Target  string `json:"target"`
	// Situations reports whether the target is a program, judged in situations, and
	// not a card, judged by rules. Then the statement has the firmware alone.
	Situations bool `json:"situations"`
	// Seed is what the run was made from; nil if from nothing. Then Started and Ended
	// say when it was, in UTC.
	Seed    *uint64    `json:"seed"`
	Started *time.Time `json:"started"`
	Ended   *time.Time `json:"ended"`
	// Statement is what the card says of itself, and Conflicts what contradicts it.
	Statement Statement `json:"statement"`
	Conflicts []string  `json:"conflicts"`
	// Plan is which rules were to be played.
	Plan Plan `json:"plan"`
	// StatementSHA256 and PlanSHA256 are of both in compact JSON, in hexadecimal digits.
	StatementSHA256 string `json:"statement_sha256"`
	PlanSHA256      string `json:"plan_sha256"`
	// Interrupted reports whether the run was ended before it was done, and Stopped why
	// it was stopped, empty if it was not.
	Interrupted bool   `json:"interrupted"`
	Stopped     string `json:"stopped"`
	// Stale are the expectations that are not true any more.
	Stale []string `json:"stale"`
	// Before and After are the counters of somebody's card.
	Before Counters `json:"before"`
	After  Counters `json:"after"`
	// Counts are how many rules came to each verdict, and Results the rules.
	Counts  map[Verdict]int `json:"counts"`
	Results []Result        `json:"results"`
}

// Passed reports whether something was judged, nothing is broken that is not known to be, the card does not
// contradict its statement, no expectation is stale, nothing may be left on somebody's
// card, and the run came to its end.
func (r Report) Passed() bool {
	return r.Judged() > 0 && r.Unexpected() == 0 && len(r.Conflicts) == 0 && len(r.Stale) == 0 && len(r.left()) == 0 && r.Stopped == "" && !r.Interrupted
}

// Err says in a line why the target has not passed; nil if it has.
func (r Report) Err() error {
	if r.Passed() {
		return nil
	}
	outcome := "does not conform"
	if r.Judged() == 0 && len(r.Conflicts) == 0 {
		outcome = "was not judged"
	}
	return fmt.Errorf("%s %s: %s", r.Target, outcome, strings.Join(append(r.Remarks(), r.Summary()), "; "))
}

// left is what rules may have left on somebody's card.
func (r Report) left() (all []string) {
	for _, one := range r.Results {
		if len(one.Left) > 0 && !r.Statement.Fresh {
			all = append(all, fmt.Sprintf("%s may have left something: %s", one.ID, strings.ReplaceAll(strings.Join(one.Left, "; "), "\n", ", ")))
		}
	}
	return all
}

// Unexpected is the number of rules that are broken and not known to be.
func (r Report) Unexpected() (n int) {
	for _, one := range r.Results {
		if one.Verdict == Broken && one.Expected == "" {
			n++
		}
	}
	return n
}

// Judged is the number of rules that were judged.
func (r Report) Judged() (n int) {
	for _, one := range r.Results {
		if one.Verdict != NotJudged {
			n++
		}
	}
	return n
}
