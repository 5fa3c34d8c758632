package conform

import (
	"fmt"
	"slices"
	"time"

	"hsmemu/applet/apdu"
	"hsmemu/pinstate"
)

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
