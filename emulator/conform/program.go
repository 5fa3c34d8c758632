package conform

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
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

// A finding is one kind of thing that a program does wrong.
type finding struct {
	// text and want are what is wanted of programs, and breaks is what it means if one
	// does otherwise; where it is empty, the situation says so.
	text, want, breaks string
	// judge gives what was found, in the words of a report, and as what it counts;
	// nothing for none.
	judge func(Situation, Run) (got string, v Verdict)
}

const nobodyKnows = "Whoever looks at the exit code believes that the work is done."

// findings are all kinds of them, in the order of reports.
var findings = []finding{
	{"it ends", "an end within the time limit, also of what it has started", "Whoever waits for the program waits for ever.", hung},
	{"no try is spent that the situation does not allow", "no more tries lost than the situation allows", "", overspent},
	{"no PIN is presented but those that the program was given", "no other PIN", "The program has the PIN from somewhere else than its user: from its own text, or from a card before.", notGiven},
	{"a PIN that was refused is not presented again", "no second time", "A PIN mistyped once blocks the card.", repeated},
	{"no PIN is presented when the card has told that none will do", "no PIN any more", "The program goes on until its time is up, and its user is not told what to do.", presentedAnyway},
	{"nothing is erased or initialised", "no INITIALIZE DEVICE", "Keys and certificates are gone.", initialised},
	{"PINs are sent in the secure channel", "no PIN in the clear", "Whoever listens between program and card reads the PIN.", inTheClear},
	{"exit code 0 says that the work is done", "another exit code than 0", nobodyKnows, claimed},
	{"it does its work where it can", "exit code 0", "", useless},
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

func nameOf(pin pinstate.Ref) string {
	if pin == pinstate.SO {
		return "SO-PIN"
	}
	return "user PIN"
}

// hung is for review as long as a busy machine explains it. It is broken where
// nothing can work any more, for half of the time, and the program goes on to send
// commands, or waits for a card that was taken out.
func hung(s Situation, r Run) (string, Verdict) {
	if !r.Hung && !r.Behind || len(r.Events) == 0 {
		return "", Held
	}
	what := "it was"
	if r.Behind {
		what = "what it has started was"
	}
	last := r.Events[len(r.Events)-1]
	got := fmt.Sprintf("%s still running after %v, and was ended; the last command came after %v: %s", what, r.Limit, last.At.Round(time.Millisecond), last.Words)
	if r.Happened && s.Happens == Removal && last.At <= r.Limit/2 {
		return got, Broken
	}
	if i := slices.IndexFunc(r.Events, refusesPIN); !s.Works && i >= 0 && r.Events[i].At <= r.Limit/2 && last.At >= r.Limit-r.Limit/4 {
		return got, Broken
	}
	return got, Review
}

// refusesPIN reports whether a card has refused the PIN of a command, whatever for.
func refusesPIN(o Observed) bool {
	_, presents := o.pinOf()
	return presents && o.SW != apdu.OK
}

// spent is how many tries of a PIN a program has spent on one of the cards,
// given back or not, and at which command the last one.
func (r Run) spent(pin pinstate.Ref, stranger bool) (n int, last string) {
	before := r.Card.of(pin)
	if stranger {
		before = r.Stranger.of(pin)
	}
	for _, e := range r.Events {
		if e.Stranger != stranger {
			continue
		}
		after := e.of(pin)
		if presented, does := e.pinOf(); does && presented == pin && before.Known && after.Known && after.Left < before.Left {
			n += before.Left - after.Left
			last = e.Words
		}
		before = after
	}
	return n, last
}

func overspent(s Situation, r Run) (string, Verdict) {
	for _, one := range []struct {
		pin      pinstate.Ref
		stranger bool
		may      int
	}{{pinstate.SO, false, s.SOTries}, {pinstate.User, false, s.UserTries}, {pinstate.SO, true, 0}, {pinstate.User, true, 0}} {
		n, last := r.spent(one.pin, one.stranger)
		if n <= one.may {
			continue
		}
		whose := ""
		if one.stranger {
			whose = " of the other card"
		}
		got := fmt.Sprintf("%s of the %s%s spent, %d allowed: %s", triesOf(n), nameOf(one.pin), whose, one.may, last)
		if s.Warns && one.pin == pinstate.User && !one.stranger {
			return got, Review
		}
		return got, Broken
	}
	return "", Held
}

func triesOf(n int) string {
	if n == 1 {
		return "1 try"
	}
	return fmt.Sprintf("%d tries", n)
}

// presentation is a way to present a PIN to a card.
type presentation struct {
	stranger bool
	ins      byte
	pin      pinstate.Ref
}

// refuses reports whether an answer says that the PIN is not the right one.
func refuses(sw apdu.SW) bool {
	_, tries := sw.Tries()
	return tries || sw == apdu.WrongLength
}

func repeated(_ Situation, r Run) (string, Verdict) {
	refused := map[presentation]int{}
	again, pin := 0, pinstate.User
	for _, e := range r.Events {
		which, does := e.pinOf()
		if !does {
			continue
		}
		key := presentation{e.Stranger, e.INS, which}
		if refused[key] > 0 {
			again, pin = again+1, which
		}
		if refuses(e.SW) {
			refused[key]++
		}
	}
	if again > 0 {
		return fmt.Sprintf("the %s was presented again after it was refused, %s", nameOf(pin), timesOf(again)), Broken
	}
	return "", Held
}

func timesOf(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// noneWillDo are the answers that say that a PIN will not do, whatever it is.
var noneWillDo = map[apdu.SW]string{
	apdu.AuthenticationBlocked:  "is blocked",
	apdu.ReferenceDataNotUsable: "is a transport PIN, to be changed first",
	apdu.ReferenceNotFound:      "is not set",
}

// presentedAnyway is for review where a program asked, was told, and presented a PIN
// once all the same: that costs nothing (PIN-36, PIN-38).
func presentedAnyway(_ Situation, r Run) (string, Verdict) {
	type which struct {
		stranger bool
		pin      pinstate.Ref
	}
	told := map[which]apdu.SW{}
	presented := map[which]bool{} // and was told by the answer
	again, got, v := 0, "", Review
	for _, e := range r.Events {
		pin, presents := e.pinOf()
		if !presents && e.INS == apdu.InsVerify {
			pin = pinstate.Ref(e.P2)
		}
		key := which{e.Stranger, pin}
		sw, known := told[key]
		wrong := presents && known && e.SW == sw // what was accepted all the same was allowed
		if wrong {
			again++
			if presented[key] {
				v = Broken // one that only asked before has not lost anything by this
			}
			got = fmt.Sprintf("the card had told that the %s %s, and it was presented %s: %s", nameOf(pin), noneWillDo[sw], timesOf(again), e.Words)
		}
		switch {
		case presents && e.SW == apdu.OK:
			delete(told, key)
			delete(told, which{e.Stranger, pinstate.User}) // which the SO-PIN has unblocked
			delete(presented, which{e.Stranger, pinstate.User})
		case noneWillDo[e.SW] != "" && (presents || e.INS == apdu.InsVerify):
			told[key], presented[key] = e.SW, presented[key] || presents
		}
	}
	if again > 0 {
		return got, v
	}
	return "", Held
}

func initialised(_ Situation, r Run) (string, Verdict) {
	for _, e := range r.Events {
		if e.INS == apdu.InsInitializeDevice && e.Data && e.SW == apdu.OK {
			return e.Words, Broken
		}
	}
	return "", Held
}

func inTheClear(s Situation, r Run) (string, Verdict) {
	open, plain := map[bool]bool{}, ""
	for _, e := range r.Events {
		_, presents := e.pinOf()
		switch {
		case presents && !e.Secure && open[e.Stranger]:
			return "there was a channel, and the PIN went beside it: " + e.Words, Broken
		case presents && !e.Secure && plain == "":
			plain = e.Words
		}
		if e.Secure || e.INS == apdu.InsGeneralAuthenticate && e.SW == apdu.OK {
			open[e.Stranger] = true
		}
		if e.INS == apdu.InsSelect && !e.Secure { // which ends it (SM-27)
			open[e.Stranger] = false
		}
	}
	if s.Channel && plain != "" {
		return "without a channel: " + plain, Review
	}
	return "", Held
}

// LogsIn reports whether the command has presented the user PIN and the card has
// taken it.
func (o Observed) LogsIn() bool {
	pin, presents := o.pinOf()
	return presents && pin == pinstate.User && o.SW == apdu.OK
}

// loggedIn reports whether the card has taken the user PIN.
func (r Run) loggedIn() bool {
	for _, e := range r.Events {
		if e.LogsIn() && !e.Stranger {
			return true
		}
	}
	return false
}

// presented reports whether any PIN was presented to a card.
func (r Run) presented() bool {
	return slices.ContainsFunc(r.Events, func(e Observed) bool {
		_, presents := e.pinOf()
		return presents
	})
}

// unblocked reports whether the user PIN was blocked when the program began, and the
// program has unblocked it.
func (r Run) unblocked() bool {
	return r.Card.UserPIN.Known && r.Card.UserPIN.Left == 0 && slices.ContainsFunc(r.Events, func(e Observed) bool {
		return !e.Stranger && e.INS == apdu.InsResetRetryCounter && e.SW == apdu.OK
	})
}

// setsUserPIN reports whether the command has set the user PIN without that before it.
func (o Observed) setsUserPIN() bool {
	return o.SW == apdu.OK && (o.INS == apdu.InsInitializeDevice && o.Data || o.INS == apdu.InsResetRetryCounter && o.Data && (o.P1 == 0 || o.P1 == 2))
}

// notGiven finds a PIN that a card has taken although the program was given another.
// One that the program has set itself, with the SO-PIN, it knows. The stranger's PINs
// no program is given.
func notGiven(s Situation, r Run) (string, Verdict) {
	set := false
	for _, e := range r.Events {
		pin, presents := e.pinOf()
		given := s.PIN
		if pin == pinstate.SO {
			given = s.SOPIN
		}
		taken := presents && e.SW == apdu.OK && (pin == pinstate.User || r.Card.SOPIN.Known)
		switch {
		case taken && e.Stranger:
			return fmt.Sprintf("the other card has accepted a %s, and the program was given none of it: %s", nameOf(pin), e.Words), Broken
		case taken && given != Right && (pin == pinstate.SO || !set):
			return fmt.Sprintf("the card has accepted a %s, and the program was given a wrong one: %s", nameOf(pin), e.Words), Broken
		}
		set = set || !e.Stranger && e.setsUserPIN()
	}
	return "", Held
}

func claimed(_ Situation, r Run) (string, Verdict) {
	switch {
	case r.Hung || r.Exit != 0 || r.loggedIn() || r.unblocked():
		return "", Held
	case !r.presented():
		return "exit code 0, and it never logged in", Broken
	}
	return "exit code 0, and the card has accepted no user PIN", Broken
}

func useless(s Situation, r Run) (string, Verdict) {
	if s.Works && !r.Hung && r.Exit != 0 && (!s.MayRefuse || r.presented()) {
		return fmt.Sprintf("exit code %d", r.Exit), Broken
	}
	return "", Held
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

// attempts is how often a situation is played in which a program was done before
// what should happen to its card could happen.
const attempts = 5

// late reports whether that is so.
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
