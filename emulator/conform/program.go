package conform

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/applet/pkcs15"
	"hsmemu/keystore/curve"
	"hsmemu/pinstate"
	"hsmemu/vsmartcard"
)

// Observed is a command that a card got from a program, as somebody sees it who
// watches the card. It holds no data.
type Observed struct {
	// Stranger tells that it went to the stranger's card, not to the program's.
	Stranger bool
	// INS, P1 and P2 are those of the command, and Data tells that it had data.
	INS, P1, P2 byte
	Data        bool
	// Secure tells that it came through secure messaging.
	Secure bool
	// SW is its answer, and Words are both in words, as a trace has them. At is when
	// it was answered, from the start of the program on.
	SW    apdu.SW
	Words string
	At    time.Duration
	// Counters are those after it.
	Counters
}

// Run is what a program did in a situation.
type Run struct {
	// Cards are the counters of the program's card and of the stranger's when it
	// began.
	Card, Stranger Counters
	Events         []Observed
	// Missed is how many events nobody saw.
	Missed int
	// Happened tells that what the situation has happen has happened.
	Happened bool
	// Exit is the exit code: 128 and the signal's number if one ended it. Hung tells
	// that it was ended since it took longer than Limit, and Behind that it ended by
	// itself, and what it had started and left behind was ended then.
	Exit         int
	Hung, Behind bool
	Limit        time.Duration
}

// pinOf is the PIN that a command presents, and whether it presents one.
func (o Observed) pinOf() (pinstate.Ref, bool) {
	switch {
	case !o.Data:
	case o.INS == apdu.InsVerify, o.INS == apdu.InsChangeReferenceData:
		return pinstate.Ref(o.P2), o.P2 == byte(pinstate.User) || o.P2 == byte(pinstate.SO)
	case o.INS == apdu.InsResetRetryCounter && o.P1 <= 1, o.INS == apdu.InsInitializeDevice:
		return pinstate.SO, true
	}
	return 0, false
}

// of is the counter of a PIN.
func (c Counters) of(pin pinstate.Ref) Counter {
	if pin == pinstate.SO {
		return c.SOPIN
	}
	return c.UserPIN
}

// LogsIn reports whether the command has presented the user PIN and the card has
// taken it.
func (o Observed) LogsIn() bool {
	pin, presents := o.pinOf()
	return presents && pin == pinstate.User && o.SW == apdu.OK
}

// Judge says what a program is worth in a situation, from what cards have seen of it
// and how it ended.
func (s Situation) Judge(r Run) Result {
	result := s.result()
	result.Before, result.After = r.Card, r.Card
	result.Verdict = Held
	used := false
	for _, e := range r.Events {
		if !e.Stranger {
			used, result.After = true, e.Counters
		}
	}
	for _, f := range findings {
		got, v := f.judge(s, r)
		if got == "" {
			continue
		}
		result.Failures = append(result.Failures, Failure{Text: f.text, Want: f.want, Got: got})
		if result.Verdict != Broken && f.breaks != "" {
			result.Breaks = f.breaks
		}
		if v == Broken || result.Verdict == Held {
			result.Verdict = v
		}
	}
	switch {
	case len(r.Events) == 0:
		result.Verdict, result.Why, result.Failures = NotJudged, "the program sent no command to a card", []Failure{}
		if r.Hung || r.Behind {
			result.Why += fmt.Sprintf(" within %v, and was ended", r.Limit)
		}
	case len(result.Failures) > 0:
		result.Why = result.Failures[0].Text + ": " + result.Failures[0].Got
	case r.Missed > 0:
		result.Verdict, result.Why = NotJudged, fmt.Sprintf("%d events were missed", r.Missed)
	case !used:
		result.Verdict, result.Why = NotJudged, "the program sent no command to its card"
	case s.Happens != Nothing && !r.Happened:
		result.Verdict, result.Why = NotJudged, s.Happens.needs()
	}
	return result
}

// result is one that was not judged yet.
func (s Situation) result() Result {
	return Result{
		ID: s.ID, Version: 1, Says: s.Says, Clauses: s.Clauses, Grade: Ours, Breaks: s.Breaks, Links: []string{},
		Verdict: NotJudged, Failures: []Failure{}, Left: []string{}, Cuts: []Cut{},
	}
}

// Furnish puts what a program can work with on a card in use: a key on the curve
// secp256r1 that signs, with the identifier 01, the label "key" and its public key. Errors:
// those of the card.
func Furnish(ctx context.Context, card vsmartcard.Card, pin []byte) error {
	c := client.New(card)
	if _, err := c.Select(ctx); err != nil {
		return err
	}
	if err := c.Login(ctx, pin); err != nil {
		return err
	}
	on, _ := curve.ByName("secp256r1")
	request, err := c.GenerateEC(ctx, 1, on, client.KeySpec{Holder: "UTKEY00001"})
	if err != nil {
		return err
	}
	// OpenSC writes it, too, and from 0.27 on takes the size of a signature from it.
	if err := c.WriteFile(ctx, pkcs15.File(pkcs15.PrefixCertificate, 1), request.Raw); err != nil {
		return err
	}
	about := pkcs15.Key{Kind: pkcs15.EC, Label: "key", ID: []byte{1}, Usage: pkcs15.UsageEC, Bits: on.Bits()}
	return c.WriteFile(ctx, pkcs15.File(pkcs15.PrefixKeyDescription, 1), about.Bytes())
}

// ErrUnstarted says that the program could not be started at all.
var ErrUnstarted = errors.New("the program could not be started")

// Perform runs a program in a situation. The error says why it could not be run:
// ErrUnstarted says that it will not be in any.
type Perform func(context.Context, Situation) (Run, error)

// Audition says how to judge a program.
type Audition struct {
	// Program is the version of what judges, and Target is the program for people.
	Program, Target string
	// Firmware is that of the cards.
	Firmware string
	// Only is which situations are played, by their names; nil for all.
	Only *regexp.Regexp
	// Clock tells the time.
	Clock func() time.Time
}

// attempts is how often a situation is played at most, until its card is reset before
// the program is done.
const attempts = 5

// late reports whether the program was done before its card was to be reset.
func (s Situation) late(r Run) bool {
	return s.Happens == Reset && !r.Happened && !r.Hung && !r.Behind && r.loggedIn()
}

// JudgeProgram plays situations one after the other. The report is of what was
// judged, also beside an error: the context's, if it ended, and ErrUnstarted.
func JudgeProgram(ctx context.Context, all []Situation, perform Perform, o Audition) (Report, error) {
	r := Report{Schema: Schema, Program: o.Program, Target: o.Target, Situations: true, Conflicts: []string{}, Stale: []string{}, Results: []Result{}}
	r.Started = new(o.Clock().UTC())
	r.Statement = Statement{Fresh: true, Firmware: o.Firmware, Curves: []string{}, RSA: []int{}}
	r.StatementSHA256 = sum(r.Statement)
	for _, s := range all {
		one := Planned{ID: s.ID, Version: 1}
		if o.Only != nil && !o.Only.MatchString(s.ID) {
			one.Why = unasked
		}
		r.Plan = append(r.Plan, one)
	}
	r.PlanSHA256 = sum(r.Plan)
	for i, s := range all {
		result := s.result()
		switch why := r.Plan[i].Why; {
		case why != "":
			result.Why = why
		case ctx.Err() != nil:
			result.Why = interrupted
		default:
			run, err := perform(ctx, s)
			for i := 1; i < attempts && err == nil && ctx.Err() == nil && s.late(run); i++ {
				run, err = perform(ctx, s)
			}
			switch {
			case ctx.Err() != nil:
				result.Why = interrupted
			case errors.Is(err, ErrUnstarted):
				return r, err
			case err != nil:
				result.Why = strings.ReplaceAll(err.Error(), "\n", "; ")
			default:
				result = s.Judge(run)
			}
		}
		r.Results = append(r.Results, result)
	}
	r.Interrupted = ctx.Err() != nil
	r.Counts = map[Verdict]int{}
	for _, one := range r.Results {
		r.Counts[one.Verdict]++
	}
	r.Ended = new(o.Clock().UTC())
	return r, ctx.Err()
}
