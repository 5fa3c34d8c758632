package conform

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"

	"hsmemu/vsmartcard"
)

// bench is where rules are played.
type bench struct {
	ctx, patient context.Context
	target       Target
	options      Options
	statement    Statement
	most         Costs  // of the whole run
	usual        Script // what puts a card into use

	erased bool // what somebody's card held is gone, as was confirmed

	mu      sync.Mutex
	done    int
	stopped string   // why no more is played
	found   Counters // after the last rule
}

// all plays what is planned.
func (b *bench) all(l Library, p Plan) []Result {
	results := make([]Result, len(l.Rules))
	of := 0
	for _, one := range p {
		if one.Why == "" {
			of++
		}
	}
	next := make(chan int)
	var workers sync.WaitGroup
	many := 1
	if b.target.Card == nil {
		many = runtime.GOMAXPROCS(0)
	}
	for range many {
		workers.Go(func() {
			for i := range next {
				prepare := Script{}
				if p[i].Prepared {
					prepare = l.usual
				}
				results[i] = b.judge(l.Rules[i], p[i].Why, prepare)
				if p[i].Why == "" {
					b.progress(of, results[i])
				}
			}
		})
	}
	for _, i := range b.order(l) {
		next <- i
	}
	close(next)
	workers.Wait()
	return results
}

// order is the order in which rules are played: on somebody's card those that erase
// it come last, so that the others find it as it was.
func (b *bench) order(l Library) []int {
	all := make([]int, len(l.Rules))
	for i := range all {
		all[i] = i
	}
	if b.target.Card != nil {
		erases := func(i int) bool { return l.Rules[i].Costs.AllData }
		all = append(slices.DeleteFunc(slices.Clone(all), erases), slices.DeleteFunc(all, func(i int) bool { return !erases(i) })...)
	}
	return all
}

func (b *bench) progress(of int, r Result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done++
	if b.options.Progress != nil {
		b.options.Progress(b.done, of, r)
	}
}

func (b *bench) judge(r Rule, why string, prepare Script) Result {
	result := Result{
		ID: r.ID, Version: r.Version, Says: r.Says, Clauses: append([]string{}, r.Clauses...), Grade: r.Grade(), Costs: r.Costs.String(), Breaks: r.Breaks, Links: append([]string{}, r.Links...),
		File: r.File, Line: r.Line, Verdict: NotJudged, Why: why, Failures: []Failure{}, Left: []string{}, Cuts: []Cut{},
	}
	b.mu.Lock()
	stopped := b.stopped
	b.mu.Unlock()
	switch {
	case why != "":
		return result
	case stopped != "":
		result.Why = "the run was stopped: " + stopped
		return result
	case b.ctx.Err() != nil:
		result.Why = interrupted
		return result
	}
	card, err := b.target.open()
	if err != nil {
		result.Why = err.Error()
		return result
	}
	if b.target.Card != nil {
		var ready bool
		if prepare, ready = b.still(r, card, &result); !ready {
			return result
		}
	}
	b.play(r, card, prepare, &result)
	return result
}

// still looks at somebody's card anew: rules before this one may have changed what it
// was found in. What brings it back is returned; there is something to if it was
// erased already.
func (b *bench) still(r Rule, card vsmartcard.Card, result *Result) (Script, bool) {
	now, _, err := ReadStatement(b.patient, card)
	if err != nil {
		b.lose(result, err)
		return Script{}, false
	}
	if now.Serial != b.statement.Serial || now.ATR != b.statement.ATR {
		b.lose(result, fmt.Errorf("this is another card: serial %s, ATR %s", now.Serial, now.ATR))
		return Script{}, false
	}
	switch why := whyNot(r, now, b.options); {
	case why == "":
		return Script{}, true
	case b.erased && len(b.usual.steps) > 0 && whyNot(r, inUse(now), b.options) == "":
		return b.usual, true
	default:
		result.Why = "not as it was found, after the rules before: " + why
		return Script{}, false
	}
}

// restore leaves somebody's card in use, if rules have erased what it held.
func (b *bench) restore() {
	if !b.erased || b.stopped != "" || b.ctx.Err() != nil || len(b.usual.steps) == 0 {
		return
	}
	card, err := b.target.open()
	if err != nil {
		b.stop(err.Error())
		return
	}
	now, _, err := ReadStatement(b.patient, card)
	if err == nil && now.State == inUse(now).State && now.Options == inUse(now).Options && now.Counters == inUse(now).Counters {
		return
	}
	if err == nil {
		var player *Player
		if player, _, err = b.player("", card, now.Counters, Costs{AllData: true}); err == nil {
			err = player.Play(b.patient, b.usual)
		}
	}
	if err == nil {
		b.found, err = readCounters(b.patient, card)
	}
	if err != nil {
		b.stop("the card could not be set up for use again: " + err.Error())
	}
}

const interrupted = "interrupted"

// play plays a rule on its card, which prepare makes ready for it.
func (b *bench) play(r Rule, card vsmartcard.Card, prepare Script, result *Result) {
	counters, err := readCounters(b.patient, card)
	if err == nil && b.target.Card != nil && counters != b.found {
		err = fmt.Errorf("the counters are user PIN %v, SO-PIN %v, and were %v, %v", counters.UserPIN, counters.SOPIN, b.found.UserPIN, b.found.SOPIN)
	}
	var ready error
	if err == nil && len(prepare.steps) > 0 {
		var player *Player
		if player, _, err = b.player(r.ID, card, counters, Costs{AllData: true}); err == nil {
			ready = player.Play(b.patient, prepare)
			counters, err = readCounters(b.patient, card)
		}
	}
	result.Before = counters
	if err != nil {
		b.lose(result, err)
		return
	}
	player, g, err := b.player(r.ID, card, counters, r.Costs)
	if err != nil {
		b.lose(result, err)
		return
	}
	if t := torn(card); t != nil && r.Cuts {
		g.cut = func(ctx context.Context, one cutting) error {
			cuts, err := cutAll(ctx, t, one)
			result.Cuts = append(result.Cuts, cuts...)
			return err
		}
	}
	prepared := ready
	if prepared == nil {
		prepared = player.Play(b.patient, r.Before)
	}
	var failed error
	if prepared == nil {
		result.Cuts = result.Cuts[:0] // of the preparation
		player.Differences = nil      // of the preparation
		failed = player.Play(b.patient, r.Steps)
	}
	g.ctx, g.cut = nil, nil
	differences := player.Differences
	tidied := player.tidy(b.patient, r.After)
	for _, err := range tidied {
		result.Left = append(result.Left, err.Error())
	}
	if b.target.Card != nil && r.Costs.AllData { // rules on cards that nobody misses are played side by side
		b.erased = true
	}
	b.conclude(r, differences, prepared, failed, result)
	b.close(card, g, errors.Join(tidied...), result)
}

// player is what plays on a card whose counters are known, and the guard between.
// Error: *GoneError.
func (b *bench) player(id string, card vsmartcard.Card, now Counters, costs Costs) (*Player, *guard, error) {
	p := NewPlayer(nil)
	host := &Host{Card: card}
	p.Hosts["the card"], p.Current = host, host
	p.Rand = b.random(id)
	maps.Copy(p.Vars, b.options.Vars)
	secrets := b.options.Vars
	unset := !now.SOPIN.Known && b.statement.State == Shipped
	if unset {
		secrets = nil // the first INITIALIZE DEVICE sets them
	}
	g := newGuard(b.ctx, host, costs, secrets, now)
	g.so.unset, g.user.unset, p.guard = unset, unset, g
	if b.target.Card == nil {
		return p, g, nil
	}
	g.strict, g.so.floor = true, b.options.KeepSOTries
	g.user.barred = b.most.UserTries == 0 && !b.most.UserLockout
	g.so.barred = b.most.SOTries == 0 && !b.most.SOLockout
	return p, g, g.list(b.patient)
}

// conclude says what a rule has come to.
func (b *bench) conclude(r Rule, differences []Difference, prepared, failed error, result *Result) {
	var m *Mismatch
	var cost *CostError
	var away *GoneError
	err := prepared
	if err == nil {
		err = failed
	}
	for _, d := range differences {
		if d.File == "" {
			d.File = r.File
		}
		result.Failures = append(result.Failures, Failure(d))
	}
	switch {
	case errors.As(err, &away):
		b.lose(result, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		result.Why = interrupted
	case errors.As(err, &cost):
		result.Why = err.Error()
	case errors.As(err, &m):
		file := m.File
		if file == "" {
			file = r.File
		}
		b.broken(r, Failure{File: file, Line: m.Line, Text: m.Text, Want: m.Want, Got: m.Got}, prepared != nil, result)
	case err != nil:
		b.broken(r, Failure{File: r.File, Line: r.Line, Text: r.ID, Want: "an answer as the protocol has it", Got: err.Error()}, prepared != nil, result)
	case len(result.Failures) > 0:
		result.Verdict, result.Why = Differs, "the card answers as "+result.Failures[0].Seen
	default:
		result.Verdict = Held
	}
	for _, c := range result.Cuts {
		if c.Wrong != "" {
			text := fmt.Sprintf("%s, power cut after %d of %d saves", c.Command, c.After, c.Saves)
			b.broken(r, Failure{File: r.File, Line: c.Line, Text: text, Want: "one try less than before, and never more", Got: c.Wrong + ": " + c.Found.UserPIN.String() + " user, " + c.Found.SOPIN.String() + " SO"}, false, result)
		}
	}
	if r.Cuts && result.Verdict == Held && len(result.Cuts) == 0 {
		result.Verdict, result.Why = NotJudged, "the power of this card cannot be cut at a save"
	}
}

// broken says that a rule does not hold.
func (b *bench) broken(r Rule, f Failure, preparing bool, result *Result) {
	result.Failures = append(result.Failures, f)
	why := fmt.Sprintf("%s:%d: want %s, got %s", f.File, f.Line, strings.TrimPrefix(f.Want, "< "), strings.TrimPrefix(f.Got, "< "))
	switch {
	case preparing && b.target.Card != nil:
		result.Verdict, result.Why = NotJudged, "the card could not be prepared: "+why
	case r.Guess() && b.target.Card != nil:
		result.Verdict, result.Why = Review, why
	default:
		result.Verdict, result.Why = Broken, why
	}
}

// lose says that a card is gone in the middle of a rule. Somebody's card is gone for
// all the others, too.
func (b *bench) lose(result *Result, err error) {
	result.Verdict, result.Why = NotJudged, err.Error()
	if b.target.Card != nil {
		b.stop(err.Error())
	}
}

func (b *bench) stop(why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped == "" {
		b.stopped = why
	}
}

// close looks at the counters after a rule.
func (b *bench) close(card vsmartcard.Card, g *guard, tidied error, result *Result) {
	if away := (*GoneError)(nil); errors.As(tidied, &away) {
		b.lose(result, tidied)
		return
	}
	if cost := (*CostError)(nil); errors.As(tidied, &cost) && (result.Verdict == Held || result.Verdict == Differs) {
		result.Verdict, result.Why = NotJudged, "the card could not be tidied up: "+tidied.Error()
	}
	counters, err := readCounters(b.patient, card)
	if err != nil {
		b.lose(result, err)
		return
	}
	result.After = counters
	if b.target.Card == nil {
		return
	}
	b.mu.Lock()
	b.found = counters
	b.mu.Unlock()
	g.asked(g.user.ref, answerOf(counters.UserPIN))
	g.asked(g.so.ref, answerOf(counters.SOPIN))
	if result.Before.SOPIN.Known && !counters.SOPIN.Known && g.jumped == "" {
		g.jumped = "the card does not tell any more how many tries the SO-PIN has left"
	}
	if g.jumped == "" {
		return
	}
	if result.Verdict == Held || result.Verdict == Differs || g.misled {
		result.Verdict, result.Why, result.Failures = NotJudged, g.jumped, []Failure{}
	}
	b.stop(g.jumped)
}

// answerOf is the answer that tells a counter.
func answerOf(c Counter) []byte {
	switch {
	case !c.Known:
		return []byte{0x6A, 0x88}
	case c.Left == 0:
		return []byte{0x69, 0x83}
	}
	return []byte{0x63, 0xC0 | byte(c.Left)}
}

// random is the randomness of the host in a rule.
func (b *bench) random(id string) io.Reader {
	if b.options.Seed == nil {
		return rand.Reader
	}
	return mathrand.NewChaCha8(sha256.Sum256(binary.BigEndian.AppendUint64([]byte("hsmemu conform "+id), *b.options.Seed)))
}
