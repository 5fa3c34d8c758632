package conform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"hsmemu/applet/apdu"
	"hsmemu/applet/tlv"
)

// Counter is a retry counter as far as the card tells it. In JSON it is the number of
// tries left, or null.
type Counter struct {
	Known bool
	Left  int // 0 if that is not known
}

// MarshalJSON is the number of tries left, or null.
func (c Counter) MarshalJSON() ([]byte, error) {
	if !c.Known {
		return []byte("null"), nil
	}
	return json.Marshal(c.Left)
}

// String is the number of tries left, or a question mark.
func (c Counter) String() string {
	if !c.Known {
		return "?"
	}
	return fmt.Sprint(c.Left)
}

// Counters are those of both PINs.
type Counters struct {
	UserPIN Counter `json:"user_pin"`
	SOPIN   Counter `json:"so_pin"`
}

// CostError says that a rule would cost more than it may. The command was not sent.
type CostError struct{ Why string }

// Error is the reason.
func (e *CostError) Error() string { return e.Why }

// reference is one of the two PINs, as the guard knows it.
type reference struct {
	ref     byte
	name    string
	value   []byte // what is believed to be right; nil if that is not known
	counter Counter
	spent   int // since all tries were there
	most    int // that a rule may spend
	all     bool
	floor   int // the guard lets the counter not fall below this
}

// guard stands between a rule and the card. It lets nothing pass that costs more
// than the rule says or the owner of the card allows, and notices a counter that is
// not where it has to be. It believes no secret but those that it has seen accepted.
type guard struct {
	host     *Host
	ctx      context.Context // whose end stops the rule; nil while it is tidied up
	costs    Costs
	user, so reference
	// strict says that the card is somebody's: it is not gone with the rule. Then
	// jumped says which counter is not where it has to be, and no PIN is sent any more.
	strict bool
	jumped string
	// cut has the power cut after PIN commands; nil does not.
	cut func(ctx context.Context, one cutting) error
}

// newGuard is the guard of a rule. The secrets may be nil, if they are not known.
func newGuard(ctx context.Context, h *Host, c Costs, user, so []byte, floor int) *guard {
	return &guard{
		host: h, ctx: ctx, costs: c,
		user: reference{ref: apdu.RefUserPIN, name: "user PIN", value: user, most: c.UserTries, all: c.UserLockout},
		so:   reference{ref: apdu.RefSOPIN, name: "SO-PIN", value: so, most: c.SOTries, all: c.SOLockout, floor: floor},
	}
}

// attempt is what a command presents, and to which PIN.
type attempt struct {
	to     *reference
	right  bool // it is what is believed to be right
	lasts  bool // success changes a PIN, or more
	erases bool
}

// attempt says what a command presents; nothing if it does not.
func (g *guard) attempt(c apdu.Command) (a attempt) {
	begins := func(r *reference) bool {
		return r.value != nil && len(c.Data) > len(r.value) && bytes.HasPrefix(c.Data, r.value)
	}
	to := map[byte]*reference{apdu.RefUserPIN: &g.user, apdu.RefSOPIN: &g.so}[c.P2]
	switch {
	case c.CLA == apdu.ClassProprietary && c.INS == apdu.InsInitializeDevice && len(c.Data) > 0:
		parts, _ := tlv.Parse(c.Data)
		code, _ := parts.Find(0x82)
		right := g.so.value != nil && bytes.Equal(code.Value, g.so.value) || g.so.value == nil && !g.so.counter.Known
		return attempt{to: &g.so, right: right, lasts: true, erases: true}
	case c.CLA == apdu.ClassProprietary || len(c.Data) == 0:
		return attempt{}
	case c.INS == apdu.InsVerify && to != nil:
		return attempt{to: to, right: to.value != nil && bytes.Equal(c.Data, to.value)}
	case c.INS == apdu.InsChangeReferenceData && to != nil:
		return attempt{to: to, right: begins(to), lasts: begins(to)}
	case c.INS == apdu.InsResetRetryCounter && c.P1 <= 1:
		right := begins(&g.so) || g.so.value != nil && bytes.Equal(c.Data, g.so.value)
		return attempt{to: &g.so, right: right, lasts: right && c.P1 == 0}
	}
	return attempt{}
}

// changing are the commands that make, change or delete what a card holds, if they
// have data.
var changing = []byte{
	apdu.InsGenerateKeyPair, apdu.InsGenerateSymmetricKey, apdu.InsManageKeyDomain, apdu.InsManagePublicKeyAuthentication,
	apdu.InsUnwrapKey, apdu.InsDeriveECKey, apdu.InsUpdateBinary, apdu.InsDeleteFile,
}

// before says whether a command may be sent. Error: *CostError, or that of the
// context that stops the rule.
func (g *guard) before(ctx context.Context, command []byte) error {
	if g == nil {
		return nil
	}
	if g.ctx != nil && g.ctx.Err() != nil {
		return g.ctx.Err()
	}
	refuse := func(format string, args ...any) error { return &CostError{fmt.Sprintf(format, args...)} }
	c, err := apdu.Parse(command)
	if err != nil {
		return nil // nothing that a card works off
	}
	hidden := c.CLA&0x0C != 0
	a := g.attempt(c)
	if hidden && slices.Contains([]byte{apdu.InsVerify, apdu.InsChangeReferenceData, apdu.InsResetRetryCounter, apdu.InsInitializeDevice}, c.INS) {
		a = attempt{to: &g.user} // nobody knows what it presents
	}
	switch {
	case a.to != nil:
		return g.mayPresent(ctx, a, refuse)
	case slices.Contains(changing, c.INS) && (len(c.Data) > 0 || c.INS == apdu.InsDeleteFile) && !g.costs.AllData && !g.costs.Objects:
		return refuse("the command changes what the card holds, and the rule does not say so")
	}
	return nil
}

func (g *guard) mayPresent(ctx context.Context, a attempt, refuse func(string, ...any) error) error {
	r := a.to
	if !r.counter.Known {
		if err := g.ask(ctx, r); err != nil {
			return err
		}
	}
	switch {
	case g.jumped != "":
		return refuse("no more PIN is sent: %s", g.jumped)
	case (a.erases || a.lasts) && !g.costs.AllData && (a.right || a.to.value == nil):
		return refuse("the command changes the card for good, and the rule does not say that it costs all data")
	case !a.right && !r.all && r.spent >= r.most:
		return refuse("the rule says that it costs %v, and would spend another try of the %s", g.costs, r.name)
	case !a.right && !r.all && r.counter.Known && r.counter.Left == 1:
		return refuse("the %s has its last try, and the rule does not say that it blocks it", r.name)
	case r.counter.Known && r.counter.Left > 0 && r.counter.Left-1 < r.floor:
		return refuse("the %s has %d tries left, and %d have to be kept", r.name, r.counter.Left, r.floor)
	}
	return nil
}

// ask asks the card for a counter. It changes nothing.
func (g *guard) ask(ctx context.Context, r *reference) error {
	answer, err := g.host.Send(ctx, apdu.Command{INS: apdu.InsVerify, P2: r.ref}.Bytes())
	if err != nil {
		return err
	}
	r.counter = told(answer)
	return nil
}

// told is the counter that an answer tells.
func told(answer []byte) Counter {
	r, err := apdu.ParseResponse(answer)
	if err != nil {
		return Counter{}
	}
	if n, known := r.SW.Tries(); known {
		return Counter{true, n}
	}
	return Counter{r.SW == apdu.AuthenticationBlocked, 0}
}

// after learns from an answer.
func (g *guard) after(ctx context.Context, s step, command, answer []byte) error {
	if g == nil {
		return nil
	}
	c, err := apdu.Parse(command)
	if err != nil {
		return nil
	}
	r, err := apdu.ParseResponse(answer)
	if err != nil {
		return nil
	}
	a := g.attempt(c)
	before := g.counters()
	switch {
	case a.to == nil:
		if c.CLA == 0 && c.INS == apdu.InsVerify && len(c.Data) == 0 {
			g.asked(c.P2, answer)
		}
		if c.INS == apdu.InsResetRetryCounter && r.SW == apdu.OK {
			g.user.counter, g.user.spent = Counter{}, 0
			if len(c.Data) > 0 {
				g.user.value = bytes.Clone(c.Data)
			}
		}
		return nil
	case r.SW == apdu.OK:
		g.accepted(c, a)
	default:
		g.refused(a, told(answer))
	}
	if g.cut != nil {
		return g.cut(ctx, cutting{s, c, a, before, r.SW})
	}
	return nil
}

// counters is what is known of both.
func (g *guard) counters() Counters { return Counters{g.user.counter, g.so.counter} }

// asked learns from the answer to a question.
func (g *guard) asked(ref byte, answer []byte) {
	for _, r := range []*reference{&g.user, &g.so} {
		now := told(answer)
		if r.ref != ref || !now.Known {
			continue
		}
		if r.counter.Known && r.counter != now {
			g.jump(r, r.counter.Left, now.Left)
		}
		r.counter = now
	}
}

func (g *guard) jump(r *reference, want, got int) {
	if g.strict && g.jumped == "" {
		g.jumped = fmt.Sprintf("the %s has %d tries left, and should have %d", r.name, got, want)
	}
}

// refused learns from a command that was not accepted, with the counter it told.
func (g *guard) refused(a attempt, now Counter) {
	if !now.Known {
		return
	}
	r := a.to
	if r.counter.Known && r.counter.Left > 0 && (now.Left != r.counter.Left-1 || a.right) {
		g.jump(r, r.counter.Left-1, now.Left)
		if a.right && g.strict {
			g.jumped = fmt.Sprintf("the %s that was given is refused; it has %d tries left", r.name, now.Left)
		}
	}
	if r.counter.Left > 0 || !r.counter.Known {
		r.spent++
	}
	r.counter = now
}

// soTries is the number of tries of every SO-PIN (PIN-1).
const soTries = 15

// accepted learns from a command that was.
func (g *guard) accepted(c apdu.Command, a attempt) {
	restore := func(r *reference) { r.counter, r.spent = Counter{}, 0 } // until it is asked for
	switch c.INS {
	case apdu.InsInitializeDevice:
		parts, _ := tlv.Parse(c.Data)
		pin, _ := parts.Find(0x81)
		code, _ := parts.Find(0x82)
		g.user.value, g.so.value = bytes.Clone(pin.Value), bytes.Clone(code.Value)
		restore(&g.user)
		g.so.counter, g.so.spent = Counter{true, soTries}, 0
		return
	case apdu.InsChangeReferenceData:
		if a.to.value != nil && a.right {
			a.to.value = bytes.Clone(c.Data[len(a.to.value):])
		}
	case apdu.InsResetRetryCounter:
		if c.P1 == 0 && g.so.value != nil {
			g.user.value = bytes.Clone(c.Data[len(g.so.value):])
		}
		restore(&g.user)
	}
	restore(a.to)
	if a.to == &g.so {
		g.so.counter = Counter{true, soTries}
	}
}

// names reports whether a script uses a variable.
func (s Script) names(variable string) bool {
	var within func(expression) bool
	within = func(e expression) bool {
		return slices.ContainsFunc(e, func(i item) bool {
			return i.variable != nil && i.variable.name == variable || within(i.inner)
		})
	}
	return slices.ContainsFunc(s.steps, func(one step) bool {
		return within(one.command) || strings.Contains(one.wanted, "{"+variable+"}")
	})
}

var errNoAnswer = errors.New("the card does not answer")

// GoneError says that a card gives no answer any more: it was taken out, its reader
// is gone, or it is mute.
type GoneError struct{ Err error }

// Error is that, and why.
func (e *GoneError) Error() string { return fmt.Sprintf("%v: %v", errNoAnswer, e.Err) }

// Unwrap is why.
func (e *GoneError) Unwrap() error { return e.Err }
