package conform

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"time"

	"hsmemu/applet/apdu"
	"hsmemu/vsmartcard"
)

// Target is what is judged.
type Target struct {
	// Name is what it is for people: card "lab", reader "…", a new card.
	Name string
	// Card is somebody's card, on which the rules are played one after the other. It
	// is nil if there is Make.
	Card vsmartcard.Card
	// Make makes a card for one rule, which nobody misses. The rules are played side
	// by side then, at no cost. A card that is a [Torn] is cut, too.
	Make func() (vsmartcard.Card, error)
}

// Options say how to judge.
type Options struct {
	// Program is the version of what judges.
	Program string
	// Only is which rules are played, by their names; nil for all.
	Only *regexp.Regexp
	// Destructive plays rules that cost something on somebody's card.
	Destructive bool
	// Confirm is asked before a rule is played that costs something on somebody's
	// card, with what all of them cost at most. It gives the serial number of the card
	// that may be used so: any other than that of this one ends the run, as its error does.
	Confirm func(s Statement, p Plan, most Costs) (serial string, err error)
	// KeepSOTries is how many tries of the SO-PIN of somebody's card have to be left,
	// at least 1.
	KeepSOTries int
	// Vars are the secrets of the card: pin and so-pin. What is not there is not
	// known, and rules that need it are not judged. PINIsNew says that pin is none of
	// the card's yet: rules that initialise it set it.
	Vars     Vars
	PINIsNew bool
	// Claim is what somebody else says of the card.
	Claim Claim
	// Expected is what is known to fail.
	Expected Expectations
	// Seed makes everything happen again the same way, as far as the card does; nil
	// does not. Then the report does not say when.
	Seed *uint64
	// Clock tells the time; without one the report does not say when.
	Clock func() time.Time
	// Progress is told of each result, in any order; nil is not.
	Progress func(done, of int, r Result)
}

// Verdict is what became of a rule.
type Verdict string

// The verdicts. Only broken makes a card fail.
const (
	Held    Verdict = "held"
	Broken  Verdict = "broken"  // the card does something else
	Differs Verdict = "differs" // the card answers what hardware is known to answer otherwise
	// Review is something else than the rule says, of which the rule itself says that
	// it is a guess, on a card that is not of this program's making: people have to look.
	Review    Verdict = "review"
	NotJudged Verdict = "not judged"
)

// Failure is where a card does something else than a rule says.
type Failure struct {
	// File and Line are where the rule says it, and Text is what stands there. What is
	// wanted of all programs stands in no file.
	File string `json:"file"`
	Line int    `json:"line"`
	Text string `json:"text"`
	// Want and Got are what the rule asks for and what the card does.
	Want string `json:"want"`
	Got  string `json:"got"`
	// Seen is where hardware was seen to do so, for an answer that is known.
	Seen string `json:"seen"`
}

// Result is what became of a rule.
type Result struct {
	ID      string   `json:"id"`
	Version int      `json:"version"`
	Says    string   `json:"says"`
	Clauses []string `json:"clauses"`
	Grade   Grade    `json:"grade"`
	Costs   string   `json:"costs"`
	Breaks  string   `json:"breaks"`
	Links   []string `json:"links"`
	File    string   `json:"file"`
	Line    int      `json:"line"`

	Verdict Verdict `json:"verdict"`
	// Why says why the rule was not judged, or what is broken, empty where it held.
	Why string `json:"why"`
	// Expected says why it is known that the rule is broken, empty if it is not.
	Expected string `json:"expected"`
	// Failures is what is broken, or answered as hardware is known to.
	Failures []Failure `json:"failures"`
	// Left is what of the lines behind the steps went otherwise: what the rule has
	// made may still be on the card.
	Left []string `json:"left"`
	// Before and After are the counters, as far as they are known.
	Before Counters `json:"before"`
	After  Counters `json:"after"`
	// Cuts is what was found after the power was cut.
	Cuts []Cut `json:"cuts"`
}

// Judge plays a library on a target. The report is of what was judged, also beside an
// error: *GoneError if the target gives no answer before anything could be judged;
// that of a card of another kind; *SerialError; the context's, if it ended. Where there
// are no results it names the target.
func Judge(ctx context.Context, l Library, t Target, o Options) (r Report, err error) {
	r = Report{Schema: Schema, Program: o.Program, Target: t.Name, Seed: o.Seed}
	defer func() {
		if err != nil && r.Results == nil {
			err = fmt.Errorf("judge %s: %w", t.Name, err)
		}
	}()
	timed := o.Seed == nil && o.Clock != nil
	if timed {
		r.Started = new(o.Clock().UTC())
	}
	o.KeepSOTries = max(o.KeepSOTries, 1)
	patient, stop := patience(ctx)
	defer stop()
	if r.Statement, r.Conflicts, err = state(patient, t); err != nil {
		return r, err
	}
	r.Conflicts = append(append([]string{}, r.Conflicts...), o.Claim.against(r.Statement)...)
	if o.Vars, err = proven(patient, t, r.Statement, o.Vars); err != nil {
		return r, err
	}
	r.StatementSHA256 = sum(r.Statement)
	r.Plan = NewPlan(l, r.Statement, o)
	r.PlanSHA256 = sum(r.Plan)
	most := r.Plan.Cost(l)
	if kept := r.Statement.SOPIN.Left - o.KeepSOTries; r.Statement.SOPIN.Known {
		most.SOTries = min(most.SOTries, max(kept, 0)) // and not one more: the guard keeps them
	}
	if t.Card != nil && most != (Costs{}) {
		if o.Confirm == nil {
			return r, errUnconfirmed
		}
		serial, err := o.Confirm(r.Statement, r.Plan, most)
		if err != nil {
			return r, err
		}
		if serial == "" || serial != r.Statement.Serial {
			return r, &SerialError{r.Statement.Serial, serial}
		}
	}
	b := bench{ctx: ctx, patient: patient, target: t, options: o, statement: r.Statement, most: most, usual: l.usual, found: r.Statement.Counters}
	r.Results = b.all(l, r.Plan)
	b.restore()
	r.Stopped = b.stopped
	r.Interrupted = ctx.Err() != nil
	o.Expected.apply(&r)
	r.Counts = map[Verdict]int{}
	for _, one := range r.Results {
		r.Counts[one.Verdict]++
	}
	r.Before, r.After = r.Statement.Counters, b.found
	if timed {
		r.Ended = new(o.Clock().UTC())
	}
	return r, ctx.Err()
}

// SerialError says that another card was meant than the one that is there.
type SerialError struct{ Is, Named string }

// Error has both serial numbers.
func (e *SerialError) Error() string { return fmt.Sprintf("the card is %q, not %q", e.Is, e.Named) }

var errUnconfirmed = errors.New("the rules cost something, and nobody was asked")

// proven are the variables without the secrets that a card in use does not take. They
// are tried on a copy that nobody misses; on somebody's card that would cost tries.
func proven(ctx context.Context, t Target, s Statement, vars Vars) (Vars, error) {
	if t.Card != nil || s.State == Shipped {
		return vars, nil
	}
	vars = maps.Clone(vars)
	for name, ref := range map[string]byte{"pin": apdu.RefUserPIN, "so-pin": apdu.RefSOPIN} {
		card, err := t.open()
		if err != nil {
			return nil, err
		}
		if _, err := readCounters(ctx, card); err != nil {
			return nil, err
		}
		for _, command := range [][]byte{selectApplication.Bytes(), apdu.Command{INS: apdu.InsVerify, P2: ref, Data: vars[name]}.Bytes()} {
			answer, err := card.Transmit(ctx, command)
			if err != nil {
				return nil, err
			}
			if told(answer).Known || bytes.Equal(answer, []byte{0x67, 0x00}) {
				delete(vars, name)
			}
		}
	}
	return vars, nil
}

// digest is the SHA-256 of what a rule says, asks for and plays.
func (r Rule) digest() string {
	var applies []string
	for _, c := range r.Applies {
		applies = append(applies, c.String())
	}
	return sum([]any{r.ID, r.Version, r.Says, r.Clauses, r.Evidence, applies, r.Costs.String(), r.Cuts, r.Before.String(), r.Steps.String(), r.After.String()})
}

// sum is the SHA-256 of a value as compact JSON, in hexadecimal digits.
func sum(v any) string {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // values of numbers and texts
	}
	h := sha256.Sum256(bytes.TrimSuffix(text.Bytes(), []byte("\n")))
	return hex.EncodeToString(h[:])
}

// grace is how long a command may still take when its context ends: an answer that
// nobody hears may leave a try spent.
const grace = 10 * time.Second

// patience is a context that ends some time after ctx.
func patience(ctx context.Context) (context.Context, func()) {
	patient, cancel := context.WithCancel(context.WithoutCancel(ctx))
	forget := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return patient, func() { forget(); cancel() }
}

// state reads the statement of a target.
func state(ctx context.Context, t Target) (Statement, []string, error) {
	card, err := t.open()
	if err != nil {
		return Statement{}, nil, err
	}
	s, conflicts, err := ReadStatement(ctx, card)
	s.Fresh = t.Card == nil
	return s, conflicts, err
}

func (t Target) open() (vsmartcard.Card, error) {
	card := t.Card
	if card == nil {
		var err error
		if card, err = t.Make(); err != nil {
			return nil, err
		}
	}
	return carrier{card}, nil
}

// carrier is a card whose failure to answer is a *GoneError.
type carrier struct{ vsmartcard.Card }

func (c carrier) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	answer, err := c.Card.Transmit(ctx, command)
	if err != nil {
		return nil, &GoneError{err}
	}
	return answer, nil
}

// torn is the card below that can be cut, if there is one.
func torn(card vsmartcard.Card) Torn {
	if c, is := card.(carrier); is {
		card = c.Card
	}
	t, _ := card.(Torn)
	return t
}
