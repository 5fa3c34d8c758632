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
	"hsmemu/pinstate"
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
	ref   byte
	name  string
	value []byte // what is believed to be right; nil if that is not known
	// unset says that the card has none yet, so that whatever sets it is right.
	unset bool
	// proven says that the card has taken the value, and doubted that it has refused
	// it: then presenting it may cost a try like any other.
	proven, doubted bool
	// counter is what the card has told, or has to tell now. Stale says that it has to
	// be asked for.
	counter Counter
	stale   bool
	// least is how many tries can be left at worst, whatever the card has done with
	// what was presented since it told; negative if nothing is known.
	least int
	own   int // tries of the user PIN that the rule has set; 0 if it is somebody's
	spent int // presented and not known to be given back
	most  int // that a rule may spend
	all   bool
	floor int // the guard lets the counter not fall below this
	// barred says that the owner of the card was not told that a try may be spent.
	barred bool
}

// guard stands between a rule and the card. It lets pass what is known to be harmless,
// and what costs no more than the rule says and the owner of the card allows: each
// try is counted before it can be spent. It notices a counter that is not where it
// has to be, and believes no secret that a card has refused.
type guard struct {
	host     *Host
	ctx      context.Context // whose end stops the rule; nil while it is tidied up
	costs    Costs
	user, so reference
	// selected says that the application is, so that it is known what commands mean.
	selected bool
	// there are the objects that were there before the rule, if listed says so.
	there  []uint16
	listed bool
	sent   effect // of the last command
	// strict says that the card is somebody's: it is not gone with the rule. Then
	// jumped says which counter is not where it has to be, and no PIN is sent any more.
	strict bool
	jumped string
	// misled says that it is for a secret of the owner's that the card refuses, so that
	// the rule tells nothing of the card.
	misled bool
	// cut has the power cut after PIN commands; nil does not.
	cut func(ctx context.Context, one cutting) error
}

// newGuard is the guard of a rule, which presents these secrets as right ones, nil if
// they are not known, to a card with these counters.
func newGuard(ctx context.Context, h *Host, c Costs, secrets Vars, now Counters) *guard {
	return &guard{
		host: h, ctx: ctx, costs: c,
		user: reference{ref: byte(pinstate.User), name: "user PIN", value: secrets["pin"], most: c.UserTries, all: c.UserLockout, counter: now.UserPIN, least: now.UserPIN.atWorst()},
		so:   reference{ref: byte(pinstate.SO), name: "SO-PIN", value: secrets["so-pin"], most: c.SOTries, all: c.SOLockout, counter: now.SOPIN, least: now.SOPIN.atWorst()},
	}
}

const unknown = -1

func (c Counter) atWorst() int {
	if !c.Known {
		return unknown
	}
	return c.Left
}

// list learns which objects are somebody's. It ends with the power cut. Error: *GoneError.
func (g *guard) list(ctx context.Context) error {
	answers, err := askAll(ctx, g.host.Card, apdu.Command{INS: apdu.InsEnumerateObjects, Ne: 65536, Extended: true})
	if err != nil {
		return err
	}
	r, err := apdu.ParseResponse(answers[0])
	if err != nil || r.SW != apdu.OK || len(r.Data)%2 != 0 {
		return nil //nolint:nilerr // then everything is somebody's
	}
	for i := 0; i < len(r.Data); i += 2 {
		g.there = append(g.there, uint16(r.Data[i])<<8|uint16(r.Data[i+1]))
	}
	g.listed = true
	return nil
}

// powered learns that the power was cut: no application is selected.
func (g *guard) powered() {
	if g != nil {
		g.selected = false
	}
}

// before says whether a command may be sent, and counts the tries that it may spend.
// Error: *CostError, or that of the context that stops the rule.
func (g *guard) before(ctx context.Context, command []byte) error {
	if g == nil {
		return nil
	}
	if g.ctx != nil && g.ctx.Err() != nil {
		return g.ctx.Err()
	}
	e := g.effect(command)
	for _, r := range e.presents {
		if err := g.mayPresent(ctx, r, e.right); err != nil {
			return err
		}
	}
	switch c := g.costs; {
	case c.AllData:
	case e.lasts:
		return &CostError{"the command changes the card for good, or may do so, and the rule does not say that it costs all data"}
	case e.makes && !c.Objects:
		return &CostError{"the command changes what the card holds, and the rule does not say so"}
	case g.touches(e):
		return &CostError{"the command uses or changes what the card held before the rule"}
	}
	for _, r := range e.presents {
		r.spent++
		if r.least > 0 {
			r.least--
		}
	}
	g.sent = e
	return nil
}

func (g *guard) mayPresent(ctx context.Context, r *reference, right bool) error {
	refuse := func(format string, args ...any) error { return &CostError{fmt.Sprintf(format, args...)} }
	if r.stale || !r.counter.Known {
		if err := g.ask(ctx, r); err != nil {
			return err
		}
	}
	right = right && !r.doubted
	blocked := r.counter == Counter{true, 0}
	switch {
	case g.jumped != "":
		return refuse("no more PIN is sent: %s", g.jumped)
	case !right && !r.all && r.spent >= r.most:
		return refuse("the rule says that it costs %v, and would spend another try of the %s", g.costs, r.name)
	case blocked: // there is nothing to lose
		return nil
	case g.strict && r.least == unknown && !r.unset && !r.all:
		return refuse("the card does not tell how many tries the %s has left", r.name)
	case r.least == 1 && !r.all && (!right || g.strict && !r.proven):
		return refuse("the %s has its last try, and the rule does not say that it blocks it", r.name)
	case r.floor > 0 && r.least >= 0 && r.least-1 < r.floor:
		return refuse("the %s has %d tries left, and %d have to be kept", r.name, r.least, r.floor)
	case r.barred:
		return refuse("the %s is presented, and nobody was told that a try of it may be spent", r.name)
	}
	return nil
}

// ask asks the card for a counter. It changes nothing.
func (g *guard) ask(ctx context.Context, r *reference) error {
	answer, err := g.host.Send(ctx, apdu.Command{INS: apdu.InsVerify, P2: r.ref}.Bytes())
	if err != nil {
		return err
	}
	g.asked(r.ref, answer)
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

// after learns from the answer to the command that was sent.
func (g *guard) after(ctx context.Context, s step, answer []byte) error {
	if g == nil {
		return nil
	}
	e, before := g.sent, g.counters()
	r, err := apdu.ParseResponse(answer)
	if err != nil {
		r.SW = 0 // of no meaning: nothing was accepted
	}
	c := e.command
	switch {
	case len(e.presents) > 1: // it may have done anything
		g.refused(e, Counter{})
		if r.SW < 0x6400 || r.SW > 0x6FFF { // not refused: it may have selected something
			g.selected = false
		}
		return nil
	case c.INS == apdu.InsSelect && c.P1 == apdu.SelectByName:
		g.selected = string(c.Data) == apdu.AID && r.SW == apdu.OK || g.selected && r.SW == apdu.NotFound
		return nil
	case len(e.presents) == 0:
		if c.INS == apdu.InsVerify {
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
		g.accepted(e)
	default:
		g.refused(e, told(answer))
	}
	if g.cut != nil {
		return g.cut(ctx, cutting{s, e, before, r.SW})
	}
	return nil
}

// counters is what is known of both.
func (g *guard) counters() Counters { return Counters{g.user.counter, g.so.counter} }

// asked learns from the answer to a question.
func (g *guard) asked(ref byte, answer []byte) {
	now := told(answer)
	for _, r := range []*reference{&g.user, &g.so} {
		if r.ref != ref || !now.Known {
			continue
		}
		switch {
		case r.counter.Known && r.counter != now:
			g.jump(r, r.counter.Left, now.Left)
		case r.least > now.Left:
			g.jump(r, r.least, now.Left)
		}
		r.tells(now)
	}
}

func (r *reference) tells(now Counter) { r.counter, r.least, r.stale = now, now.Left, false }

func (g *guard) jump(r *reference, want, got int) {
	switch {
	case !g.strict || g.jumped != "":
	case r.doubted:
		g.jumped, g.misled = fmt.Sprintf("the %s that was given is refused; it has %d tries left", r.name, got), true
	default:
		g.jumped = fmt.Sprintf("the %s has %d tries left, and should have %d", r.name, got, want)
	}
}

// refused learns from a command that was not accepted, with the counter it told. One
// that told none may have spent a try all the same.
func (g *guard) refused(e effect, now Counter) {
	for _, r := range e.presents {
		r.doubted = r.doubted || e.right
		switch had := r.counter; {
		case now.Known && had.Known && had.Left > 0 && (e.right || now.Left != had.Left-1):
			g.jump(r, had.Left-1, now.Left)
		case now.Known && now.Left < r.least:
			g.jump(r, r.least, now.Left)
		case !now.Known && !e.right && had != Counter{true, 0}:
			r.counter = Counter{} // as before, or one less
		}
		if r.stale = true; now.Known {
			r.tells(now)
		}
	}
}

// accepted learns from a command that was. A wrong secret proves nothing, and what it
// has spent stays spent.
func (g *guard) accepted(e effect) {
	restore := func(r *reference) {
		r.counter, r.spent, r.stale = Counter{}, 0, true
		if r == &g.so {
			r.counter = Counter{true, pinstate.SOTries}
		}
		switch {
		case !g.strict:
			r.least = unknown // a card of ours gives them back
		case r.own > 0:
			r.least = r.own // nobody misses it if it does not
		}
	}
	r, data := e.presents[0], e.command.Data
	if !e.right {
		r.stale, r.counter = true, Counter{}
		if e.lasts {
			g.user.doubted, g.so.doubted = true, true
		}
		if e.command.INS == apdu.InsResetRetryCounter { // after a login, so the new PIN is all there is
			g.user.sets(data)
			g.user.counter, g.user.stale = Counter{}, true
		}
		return
	}
	had := len(r.value)
	r.proven, r.doubted = true, false
	restore(r)
	switch e.command.INS {
	case apdu.InsInitializeDevice:
		parts, _ := tlv.Parse(data)
		pin, _ := parts.Find(apdu.InitUserPIN)
		code, _ := parts.Find(apdu.InitSOPIN)
		tries, _ := parts.Find(apdu.InitTries)
		g.so.sets(code.Value)
		g.user.sets(pin.Value)
		restore(&g.user)
		g.user.unset = len(pin.Value) == 0 // there is nothing to lose
		if g.user.least = unknown; len(tries.Value) == 1 {
			g.user.least, g.user.own = int(tries.Value[0]), int(tries.Value[0])
		}
	case apdu.InsChangeReferenceData:
		r.sets(data[had:])
	case apdu.InsResetRetryCounter:
		if len(data) > had {
			g.user.sets(data[had:])
		}
		restore(&g.user)
	}
}

// sets learns of a new value, none if it is empty.
func (r *reference) sets(value []byte) {
	r.value, r.unset, r.proven, r.doubted = nil, false, len(value) > 0, false
	if r.proven {
		r.value = bytes.Clone(value)
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
