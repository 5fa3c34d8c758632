package emulator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/vsmartcard"
)

// Faults is a card whose reader, contacts or power fail on demand, so that
// users can test what hardware does rarely. Without faults set it is the card
// itself. It is what a reader holds in place of a [Card].
type Faults struct {
	card *Card
	// Remove takes the card out of its reader; the fault "remove" needs it.
	// It is set before the first command.
	Remove func()

	mu     sync.Mutex
	active map[string]*fault
}

// NewFaults wraps a card, with no fault set.
func NewFaults(c *Card) *Faults { return &Faults{card: c, active: map[string]*fault{}} }

// fault is one fault as it was set.
type fault struct {
	kind *faultKind
	// at is the class of the commands that count; empty for all.
	at string
	// after is the number of commands that still pass before it strikes.
	after int
	// size is a length in bytes.
	size int
	// delays are latencies by class of command; typical says that classes
	// without one take the time they take on hardware.
	delays  map[string]time.Duration
	typical bool
	said    string
}

// faultKind is what a fault does at each place where one can strike. The
// functions may be nil.
type faultKind struct {
	name, help string
	// once faults are gone when they have struck.
	once bool
	// keys lists the settings that may be given, those without a value first.
	keys []string
	// instead answers in place of the card, which does not see the command.
	instead func(ctx context.Context, f *Faults) ([]byte, error)
	// strikes tells which commands instead is for; nil is for all.
	strikes func(command []byte) bool
	// before happens before the card sees the command, and after to its
	// answer.
	before func(ctx context.Context, one *fault, command []byte) error
	after  func(one *fault, answer []byte) []byte
	atr    func(atr []byte) []byte
	// ends tells the commands that end the fault when the card has done them.
	ends func(command []byte) bool
}

// Errors of faults.
var (
	// ErrFault says that a fault setting makes no sense.
	ErrFault = errors.New("no such fault")
	// errTransmit is a transmission that a fault made fail.
	errTransmit = errors.New("transmission failed on demand")
)

const (
	shortATR    = 3
	readerLimit = 1014 // bytes that some readers carry at most
)

// faultKinds is every fault there is. If several would answer in place
// of the card, the first in this list does, and the others stay for later commands.
var faultKinds = []faultKind{
	{
		name: "remove", once: true, keys: []string{"after", "at"}, instead: strikeRemove,
		help: "the card is pulled out in the middle of a command, after N more commands (0), or N of one class (at=sign)",
	},
	{
		name: "transmit", once: true, keys: []string{"after", "at"}, instead: strikeTransmit,
		help: "one transmission fails, after N more commands, or N of one class; the card does not see it",
	},
	{
		name: "mute", keys: []string{"after"}, instead: strikeMute, atr: noATR,
		help: "the card says nothing any more, not even an answer to reset, after N more commands",
	},
	{
		name: "initialize", once: true, instead: strikeMemory, strikes: isInitialize,
		help: "the next INITIALIZE DEVICE answers 6A84, not enough memory, and does nothing",
	},
	{
		name: "unwrap", instead: strikeMemory, strikes: isUnwrap, ends: isGenerate,
		help: "UNWRAP KEY answers 6A84, not enough memory, until a key is generated, as hardware may after a firmware update",
	},
	{
		name: "cut", keys: []string{"bytes"}, after: strikeCut,
		help: "the reader cuts answers at this many bytes (1014)",
	},
	{
		name: "atr", atr: func(atr []byte) []byte { return atr[:min(len(atr), shortATR)] },
		help: "the answer to reset is cut to three bytes, from the next reset or insertion on",
	},
	{
		name: "slow", keys: append([]string{everyClass}, slices.Sorted(maps.Keys(realistic))...), before: strikeSlow,
		help: "commands take their time: near that of hardware, or only as set (sign=800ms), or both (realistic sign=800ms)",
	},
}

// FaultKind is a fault that can be set.
type FaultKind struct {
	// Name is what [Faults.Set] takes, and Help what the fault does.
	Name, Help string
	// Settings are the words that Set takes with it: "realistic", or "after=" for one
	// with a value.
	Settings []string
}

// String is how it is set: "remove [after=…] [at=…]".
func (k FaultKind) String() string {
	text := k.Name
	for _, s := range k.Settings {
		if strings.HasSuffix(s, "=") {
			s += "…"
		}
		text += " [" + s + "]"
	}
	return text
}

// FaultKinds lists every fault, in the order in which they strike.
func FaultKinds() []FaultKind {
	var list []FaultKind
	for _, k := range faultKinds {
		one := FaultKind{Name: k.name, Help: k.help}
		for _, key := range k.keys {
			if key != everyClass {
				key += "="
			}
			one.Settings = append(one.Settings, key)
		}
		list = append(list, one)
	}
	return list
}

// Set sets a fault; one of the same name is replaced. Settings are words such
// as "after=3", "bytes=500" and "sign=800ms". Error: ErrFault, saying what is
// wrong.
func (f *Faults) Set(name string, settings []string) error {
	i := slices.IndexFunc(faultKinds, func(k faultKind) bool { return k.name == name })
	if i < 0 {
		return fmt.Errorf("%w: %q", ErrFault, name)
	}
	one := &fault{
		kind: &faultKinds[i], said: strings.Join(append([]string{name}, settings...), " "),
		size: readerLimit, delays: map[string]time.Duration{}, typical: len(settings) == 0,
	}
	for _, s := range settings {
		key, value, given := strings.Cut(s, "=")
		if err := one.set(key, value, given); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.active[name] = one
	f.card.Tell(Event{Kind: FaultSet, Event: applet.Event{Meaning: "fault set: " + one.said}})
	return nil
}

func (o *fault) set(key, value string, given bool) error {
	switch {
	case !slices.Contains(o.kind.keys, key):
		return settingError(fmt.Sprintf("%s has no setting %q", o.kind.name, key))
	case key == everyClass && given:
		return settingError(fmt.Sprintf("%s takes no value", key))
	case key == everyClass:
		o.typical = true
	case key == "at":
		if _, known := realistic[value]; !known {
			return settingError(fmt.Sprintf("%q is no class of commands", value))
		}
		o.at = value
	case key == "after" || key == "bytes":
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || key == "bytes" && n < 2 {
			return settingError(fmt.Sprintf("%s=%s is no number for it", key, value))
		}
		if key == "after" {
			o.after = n
		} else {
			o.size = n
		}
	default:
		d, err := time.ParseDuration(value)
		switch {
		case err != nil:
			return settingError(fmt.Sprintf("%s=%s is no duration: a number with its unit, as in 800ms", key, value))
		case d < 0:
			return settingError(fmt.Sprintf("%s=%s is less than no time", key, value))
		}
		o.delays[key] = d
	}
	return nil
}

// Clear removes every fault.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.active = map[string]*fault{}
	f.card.Tell(Event{Kind: FaultSet, Event: applet.Event{Meaning: "faults removed"}})
}

// tell tells observers what a fault did to a command.
func (f *Faults) tell(ctx context.Context, k Kind, command []byte, meaning string) {
	e := Event{Kind: k, Client: vsmartcard.ClientOf(ctx), Event: applet.Event{Meaning: meaning}}
	copy(e.Header[:], command)
	f.card.Tell(e)
}

// List says which faults are set, as they were set. One that strikes once is
// no longer set when it has.
func (f *Faults) List() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	for _, name := range slices.Sorted(maps.Keys(f.active)) {
		list = append(list, f.active[name].said)
	}
	return list
}

// ATR is the card's, as far as the contacts let it through; nil from a mute
// card.
func (f *Faults) ATR() []byte {
	atr := f.card.ATR()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range f.active {
		if one.kind.atr != nil && one.after == 0 {
			atr = one.kind.atr(atr)
		}
	}
	return atr
}

// Reset resets the card.
func (f *Faults) Reset() error { return f.card.Reset() }

// Transmit gives the card a command, unless a fault strikes. Errors: those of
// [Card.Transmit], and that of a transmission that has to fail.
func (f *Faults) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	due, ends := f.due(command)
	for _, one := range due {
		if one.kind.instead != nil {
			if one.kind.name == "remove" {
				f.tell(ctx, CutShort, command, "taken out in the middle of the command: "+one.said)
			} else {
				f.tell(ctx, Struck, command, one.said)
			}
			return one.kind.instead(ctx, f)
		}
	}
	for _, one := range due {
		if one.kind.before != nil {
			if err := one.kind.before(ctx, one, command); err != nil {
				f.tell(ctx, CutShort, command, "no answer any more: "+err.Error())
				return nil, err
			}
		}
	}
	answer, err := f.card.Transmit(ctx, command)
	if err == nil && ctx.Err() != nil { // the card has done it, and its reader has gone
		f.tell(ctx, CutShort, command, "nobody heard the answer: the card was taken out")
	}
	if ends && bytes.HasSuffix(answer, []byte{0x90, 0x00}) {
		f.done(command)
	}
	for _, one := range due {
		if one.kind.after != nil {
			whole := len(answer)
			if answer = one.kind.after(one, answer); len(answer) < whole {
				f.tell(ctx, Struck, command, one.said)
			}
		}
	}
	return answer, err
}

// done removes the faults that a command ends which the card has done.
func (f *Faults) done(command []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.active, func(_ string, one *fault) bool { return one.kind.ends != nil && one.kind.ends(command) })
}

// due counts the command and gives the faults that strike, at most one of them
// in place of the card. Those that strike once are removed. It reports whether
// the command ends a fault when the card has done it.
func (f *Faults) due(command []byte) (due []*fault, ends bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	replaced := false
	for i := range faultKinds {
		kind := &faultKinds[i]
		one := f.active[kind.name]
		ends = ends || one != nil && kind.ends != nil && kind.ends(command)
		switch {
		case one == nil, kind.strikes != nil && !kind.strikes(command), one.at != "" && one.at != classOf(command):
			continue
		case one.after > 0:
			one.after--
			continue
		case kind.instead != nil && replaced:
			continue
		}
		replaced = replaced || kind.instead != nil
		due = append(due, one)
		if kind.once {
			delete(f.active, kind.name)
		}
	}
	return due, ends
}

// isInitialize knows INITIALIZE DEVICE with data: without, it is a query.
func isInitialize(command []byte) bool {
	c, err := apdu.Parse(command)
	return err == nil && c.INS == apdu.InsInitializeDevice && len(c.Data) > 0
}

func isUnwrap(command []byte) bool { return len(command) > 1 && command[1] == apdu.InsUnwrapKey }

// isGenerate knows the commands that generate a key of either kind.
func isGenerate(command []byte) bool {
	return len(command) > 1 && (command[1] == apdu.InsGenerateKeyPair || command[1] == apdu.InsGenerateSymmetricKey)
}

// strikeRemove pulls the card before it has seen the command, and never
// answers: what the client gets is the reader's word. Where nobody can pull
// the card, the transmission fails.
func strikeRemove(ctx context.Context, f *Faults) ([]byte, error) {
	if f.Remove == nil {
		return nil, errTransmit
	}
	go f.Remove() // the reader waits for this command before it lets go of the card
	<-ctx.Done()
	return nil, ctx.Err()
}

func strikeTransmit(context.Context, *Faults) ([]byte, error) { return nil, errTransmit }

func strikeMute(context.Context, *Faults) ([]byte, error) { return nil, ErrMute }

func noATR([]byte) []byte { return nil }

func strikeMemory(context.Context, *Faults) ([]byte, error) {
	return apdu.Response{SW: apdu.NotEnoughMemory}.Bytes(), nil
}

func strikeCut(one *fault, answer []byte) []byte { return answer[:min(len(answer), one.size)] }

// settingError says what is wrong with a setting of a fault that there is; it is an
// ErrFault.
type settingError string

func (e settingError) Error() string { return string(e) }

func (e settingError) Unwrap() error { return ErrFault }
