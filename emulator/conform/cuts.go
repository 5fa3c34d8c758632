package conform

import (
	"context"
	"errors"
	"fmt"

	"hsmemu/applet/apdu"
	"hsmemu/vsmartcard"
)

// Torn is a card whose power can be cut, in copies of it, where the last command
// saved a state.
type Torn interface {
	vsmartcard.Card
	// Saves is the number of states that the last command has saved.
	Saves() int
	// CutAfter is the card as it is found when its power failed after so many of
	// them: 0 is before the first, and Saves after the last, before the answer.
	CutAfter(saves int) (vsmartcard.Card, error)
}

// Cut is what was found after the power of a card was cut.
type Cut struct {
	// Line is that of the command in the rule's file, and Command what it is.
	Line    int    `json:"line"`
	Command string `json:"command"`
	// Answer is the status word that the command had where the power was not cut.
	Answer string `json:"answer"`
	// After is the number of states saved before the cut, of Saves.
	After int `json:"after"`
	Saves int `json:"saves"`
	// Before and Found are the counters before the command and after the cut.
	Before Counters `json:"before"`
	Found  Counters `json:"found"`
	// Wrong is what is wrong with that, empty if nothing is.
	Wrong string `json:"wrong"`
}

// cutting is a PIN command that was worked off, to be cut.
type cutting struct {
	step   step
	effect effect // that presents one PIN
	before Counters
	sw     apdu.SW
}

var cutNames = map[byte]string{
	apdu.InsVerify: "VERIFY", apdu.InsChangeReferenceData: "CHANGE REFERENCE DATA", apdu.InsResetRetryCounter: "RESET RETRY COUNTER",
	apdu.InsInitializeDevice: "INITIALIZE DEVICE",
}

// cutAll cuts the power of a card at each save of a command and judges what is found.
// A cut must not give a try back: whoever pulls the card before it has counted a
// wrong guess could guess without end (PIN-7). So after the first save the counter
// has one try less, whether the guess was right or wrong, and no counter rises but by
// the last save of a command that was accepted.
func cutAll(ctx context.Context, card Torn, c cutting) (cuts []Cut, err error) {
	saves := card.Saves()
	name := cutNames[c.effect.command.INS] + ", " + c.effect.presents[0].name
	for after := range saves + 1 {
		found, err := card.CutAfter(after)
		if err != nil {
			return nil, err
		}
		counters, err := readCounters(ctx, found)
		dead := (*deadError)(nil)
		if err != nil && !errors.As(err, &dead) {
			return nil, err
		}
		one := Cut{
			Line: c.step.line, Command: name, Answer: fmt.Sprintf("%04X", uint16(c.sw)), After: after, Saves: saves,
			Before: c.before, Found: counters,
		}
		if one.Wrong = c.judge(one); dead != nil {
			one.Wrong = dead.Error()
		}
		cuts = append(cuts, one)
	}
	return cuts, nil
}

// judge says what is wrong with what was found after a cut.
func (c cutting) judge(one Cut) string {
	before, found := one.Before.UserPIN, one.Found.UserPIN
	other, otherFound := one.Before.SOPIN, one.Found.SOPIN
	if c.effect.presents[0].ref == apdu.RefSOPIN {
		before, found, other, otherFound = other, otherFound, before, found
	}
	accepted, last := c.sw == apdu.OK, one.After == one.Saves
	tries, counted := c.sw.Tries()
	if c.sw == apdu.AuthenticationBlocked {
		tries, counted = 0, true
	}
	rises := func(from, to Counter) bool { return from.Known && to.Known && to.Left > from.Left }
	switch {
	case !before.Known || before.Left == 0:
		return "" // nothing to count, as on a card as shipped, or blocked before
	case (rises(before, found) || rises(other, otherFound)) && !(accepted && last):
		return "the cut gives tries back"
	case !found.Known && c.effect.command.INS == apdu.InsInitializeDevice:
		return ""
	case !found.Known:
		return "the counter is not told any more"
	case one.After == 0 && found != before:
		return "the counter changed before anything was saved"
	case one.After == 1 && found.Left != before.Left-1 && (counted || accepted && one.Saves > 1):
		return "the try was not spent first"
	case accepted && one.Saves < 2 && last:
		return "the try was not spent before the secret was looked at"
	case counted && one.Saves == 0:
		return "the answer says that a try is spent, and nothing was saved"
	case counted && last && found.Left != tries:
		return "the answer says that other tries are left than are"
	}
	return ""
}

// selectApplication selects the application and asks for no data.
var selectApplication = apdu.SelectApplication()

// deadError says that a card lets nobody select the application.
type deadError struct{ answer []byte }

// Error is that, and its answer.
func (e *deadError) Error() string {
	return fmt.Sprintf("the application cannot be selected: %X", e.answer)
}

// readCounters powers a card up, selects the application and asks for both counters.
// It ends with the power cut. Errors: those of askAll.
func readCounters(ctx context.Context, card vsmartcard.Card) (Counters, error) {
	answers, err := askAll(ctx, card, apdu.Command{INS: apdu.InsVerify, P2: apdu.RefUserPIN}, apdu.Command{INS: apdu.InsVerify, P2: apdu.RefSOPIN})
	if err != nil {
		return Counters{}, err
	}
	return Counters{told(answers[0]), told(answers[1])}, nil
}

// askAll powers a card up, selects the application and returns the answers to
// questions. It ends with the power cut. Errors: *GoneError; *deadError.
func askAll(ctx context.Context, card vsmartcard.Card, questions ...apdu.Command) (answers [][]byte, err error) {
	if err := card.Reset(); err != nil {
		return nil, &GoneError{err}
	}
	for _, command := range append([]apdu.Command{selectApplication}, questions...) {
		answer, err := card.Transmit(ctx, command.Bytes())
		if err != nil {
			return nil, &GoneError{err}
		}
		answers = append(answers, answer)
	}
	if selected, err := apdu.ParseResponse(answers[0]); err != nil || selected.SW != apdu.OK {
		return nil, &deadError{answers[0]}
	}
	if err := card.Reset(); err != nil {
		return nil, &GoneError{err}
	}
	return answers[1:], nil
}
