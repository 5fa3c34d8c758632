package emulator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"hsmemu/applet/apdu"
)

// Faults is a card whose reader, contacts or power fail on demand, so that
// users can rehearse what hardware does once in a blue moon. Without faults set
// it is the card itself. It is what a reader holds in place of a [Card].
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
	// after is the number of commands that still pass before it strikes.
	after int
	// size is a length in bytes.
	size int
	// delays are latencies by class of command.
	delays map[string]time.Duration
	said   string
}

// faultKind is what a fault does at each place where one can strike. Every
// field but the first two may be nil.
type faultKind struct {
	name, help string
	// once faults are gone when they have struck.
	once bool
	// keys lists the settings that may be given.
	keys []string
	// transmit strikes in place of the command; pass runs it.
	transmit func(f *Faults, ctx context.Context, one *fault, command []byte, pass transmitter) ([]byte, error)
	atr      func(atr []byte) []byte
}

type transmitter func(context.Context, []byte) ([]byte, error)

// Errors of faults.
var (
	// ErrFault says that a fault setting makes no sense.
	ErrFault = errors.New("emulator: no such fault")
	// errTransmit is a transmission that failed because it had to.
	errTransmit = errors.New("emulator: transmission failed on demand")
)

const (
	insInitialize = 0x50
	shortATR      = 3
	readerLimit   = 1014 // bytes that some readers carry at most
)

// faultKinds is every fault there is.
var faultKinds = []faultKind{
	{
		name: "remove", once: true, keys: []string{"after"}, transmit: strikeRemove,
		help: "the card is pulled out in the middle of a command, after N more commands",
	},
	{
		name: "transmit", once: true, keys: []string{"after"}, transmit: strikeTransmit,
		help: "one transmission fails, after N more commands; the card does not see it",
	},
	{
		name: "cut", keys: []string{"bytes"}, transmit: strikeCut,
		help: "the reader cuts answers at this many bytes (1014)",
	},
	{
		name: "mute", keys: []string{"after"}, transmit: strikeMute,
		help: "the card says nothing any more, after N more commands",
	},
	{
		name: "atr", atr: func(atr []byte) []byte { return atr[:min(len(atr), shortATR)] },
		help: "the answer to reset is cut to three bytes",
	},
	{
		name: "initialize", once: true, transmit: strikeInitialize,
		help: "the next INITIALIZE DEVICE answers 6A84, not enough memory, and does nothing",
	},
	{
		name: "slow", keys: slices.Sorted(maps.Keys(realistic)), transmit: strikeSlow,
		help: "commands take their time: near that of hardware, or as set (sign=800ms)",
	},
}

// FaultHelp lists every fault with its settings and what it does, for help
// texts.
func FaultHelp() [][2]string {
	var lines [][2]string
	for _, k := range faultKinds {
		name := k.name
		for _, key := range k.keys {
			name += " [" + key + "=…]"
		}
		lines = append(lines, [2]string{name, k.help})
	}
	return lines
}

// Set sets a fault; one of the same name is replaced. Settings are words such
// as "after=3", "bytes=500" and "sign=800ms". Error: ErrFault, saying what is
// wrong.
func (f *Faults) Set(name string, settings []string) error {
	i := slices.IndexFunc(faultKinds, func(k faultKind) bool { return k.name == name })
	if i < 0 {
		return fmt.Errorf("%w: %q", ErrFault, name)
	}
	one := &fault{kind: &faultKinds[i], size: readerLimit, said: strings.Join(append([]string{name}, settings...), " ")}
	for _, s := range settings {
		key, value, _ := strings.Cut(s, "=")
		if err := one.set(key, value); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.active[name] = one
	return nil
}

func (o *fault) set(key, value string) error {
	if !slices.Contains(o.kind.keys, key) {
		return fmt.Errorf("%w: %s has no setting %q", ErrFault, o.kind.name, key)
	}
	switch key {
	case "after", "bytes":
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || key == "bytes" && n < 2 {
			return fmt.Errorf("%w: %s=%s is no number for it", ErrFault, key, value)
		}
		if key == "after" {
			o.after = n
		} else {
			o.size = n
		}
	default:
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 {
			return fmt.Errorf("%w: %s=%s is no duration", ErrFault, key, value)
		}
		if o.delays == nil {
			o.delays = map[string]time.Duration{}
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
}

// List says which faults are set, as they were set.
func (f *Faults) List() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	for _, name := range slices.Sorted(maps.Keys(f.active)) {
		list = append(list, f.active[name].said)
	}
	return list
}

// ATR is the card's, as far as the contacts let it through.
func (f *Faults) ATR() []byte {
	atr := f.card.ATR()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range f.active {
		if one.kind.atr != nil {
			atr = one.kind.atr(atr)
		}
	}
	return atr
}

// Reset resets the card.
func (f *Faults) Reset() error { return f.card.Reset() }

// Transmit gives the card a command, unless a fault strikes.
func (f *Faults) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	pass := f.card.Transmit
	for _, one := range f.due(command) {
		inner := pass
		pass = func(ctx context.Context, command []byte) ([]byte, error) {
			return one.kind.transmit(f, ctx, one, command, inner)
		}
	}
	return pass(ctx, command)
}

// due counts the command and gives the faults whose turn it is; those that
// strike once are removed.
func (f *Faults) due(command []byte) []*fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	var due []*fault
	for _, name := range slices.Sorted(maps.Keys(f.active)) {
		one := f.active[name]
		switch {
		case one.kind.transmit == nil || name == "initialize" && !isInitialize(command):
			continue
		case one.after > 0:
			one.after--
			continue
		}
		due = append(due, one)
		if one.kind.once {
			delete(f.active, name)
		}
	}
	return due
}

func isInitialize(command []byte) bool { return len(command) > 4 && command[1] == insInitialize }

// strikeRemove pulls the card before it has seen the command, and never
// answers: what the client gets is the reader's word.
func strikeRemove(f *Faults, ctx context.Context, _ *fault, command []byte, pass transmitter) ([]byte, error) {
	if f.Remove == nil {
		return pass(ctx, command)
	}
	go f.Remove() // the reader waits for this command before it lets go of the card
	<-ctx.Done()
	return nil, ctx.Err()
}

func strikeTransmit(*Faults, context.Context, *fault, []byte, transmitter) ([]byte, error) {
	return nil, errTransmit
}

func strikeMute(*Faults, context.Context, *fault, []byte, transmitter) ([]byte, error) {
	return nil, ErrMute
}

func strikeCut(_ *Faults, ctx context.Context, one *fault, command []byte, pass transmitter) ([]byte, error) {
	answer, err := pass(ctx, command)
	return answer[:min(len(answer), one.size)], err
}

func strikeInitialize(*Faults, context.Context, *fault, []byte, transmitter) ([]byte, error) {
	return apdu.Response{SW: apdu.NotEnoughMemory}.Bytes(), nil
}

// realistic is about how long hardware takes, by class of command.
var realistic = map[string]time.Duration{
	"read":     25 * time.Millisecond,
	"write":    60 * time.Millisecond,
	"pin":      80 * time.Millisecond,
	"sign":     300 * time.Millisecond,
	"rsa":      1200 * time.Millisecond,
	"wrap":     250 * time.Millisecond,
	"generate": 1500 * time.Millisecond,
	"rsagen":   12 * time.Second,
	"other":    20 * time.Millisecond,
}

// Latencies lists the classes of commands and how long each takes with the
// fault "slow" as it is.
func Latencies() [][2]string {
	var lines [][2]string
	for _, class := range slices.Sorted(maps.Keys(realistic)) {
		lines = append(lines, [2]string{class, realistic[class].String()})
	}
	return lines
}

// classOf sorts a command into the classes of latency. RSA operations are known
// by their algorithm and their key template.
func classOf(command []byte) string {
	if len(command) < 4 {
		return "other"
	}
	switch command[1] {
	case 0xB1, 0x58, 0xA4:
		return "read"
	case 0xD7, 0xE4, 0x50:
		return "write"
	case 0x20, 0x24, 0x2C, 0x82:
		return "pin"
	case 0x68, 0x62, 0x78, 0x76, 0x86:
		if command[3] >= 0x20 && command[3] < 0x50 {
			return "rsa"
		}
		return "sign"
	case 0x72, 0x74:
		return "wrap"
	case 0x46:
		if len(command) < 200 {
			return "rsagen"
		}
		return "generate"
	case 0x48:
		return "generate"
	}
	return "other"
}

func strikeSlow(_ *Faults, ctx context.Context, one *fault, command []byte, pass transmitter) ([]byte, error) {
	delays := one.delays
	if delays == nil {
		delays = realistic
	}
	timer := time.NewTimer(delays[classOf(command)])
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return pass(ctx, command)
}
