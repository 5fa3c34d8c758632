// Package chiptest has cards for tests: values that take one step after the other
// in a world where everything happens again the same way, and that tell what they
// have saved. They are bare chips. A card as a program has it is made by package
// emulator.
package chiptest

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"time"

	"hsmemu/applet"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/conform"
	"hsmemu/keystore"
)

// Seeded is randomness that is the same in every run, from a seed of up to 32
// bytes.
func Seeded(seed string) io.Reader {
	var key [32]byte
	copy(key[:], seed)
	return rand.NewChaCha8(key)
}

// World is an environment in which everything happens again the same way, on 23
// November 2026.
func World(seed string) applet.Env {
	random := Seeded(seed)
	return applet.Env{
		Rand: random, Deterministic: true, Observed: true, RSA: keystore.PoolGenerator{Rand: random},
		Now: time.Date(2026, time.November, 23, 12, 0, 0, 0, time.UTC),
	}
}

// Card is a card under test. It is a [vsmartcard.Card], and a [conform.Witness] of
// itself.
type Card struct {
	Name string
	Env  applet.Env
	// State is the card, and Before is what it was before the last command.
	State, Before chip.State
	// Sent is the last command as the card received it, and Result what came of it.
	Sent   []byte
	Result chip.Result
	// Inspect, if it is there, is given every command that comes by Transmit. It
	// calls Step, and looks at what comes of it.
	Inspect func(c *Card, command []byte) []byte
}

// Manufacture makes a card as shipped whose keys and whose serial number depend
// on its firmware and its name.
func Manufacture(firmware, name string) (*Card, error) {
	env := World("make " + firmware + name)
	d, err := chip.Manufacture(env, chip.Order{Firmware: firmware, Serial: fmt.Sprintf("DENK99%05d", crc32.ChecksumIEEE([]byte(name))%100000)})
	return &Card{Name: name, Env: env, State: chip.Boot(d)}, err
}

// Copy is the same card, with randomness of its own from here on.
func (c *Card) Copy() *Card {
	twin := *c
	twin.Env = World("copy " + c.Name)
	return &twin
}

// Durable is what the application keeps.
func (c *Card) Durable() applet.Durable { return c.State.Applet.Durable }

// File is the content of a file, whoever may read it; nil if it is not there.
func (c *Card) File(id uint16) []byte {
	for _, f := range c.Durable().Files {
		if f.ID == id {
			return f.Data
		}
	}
	return nil
}

// ATR is the answer to reset.
func (c *Card) ATR() []byte { return c.State.Durable().ATR() }

// Reset takes the power away and gives it back. It cannot fail.
func (c *Card) Reset() error {
	c.State = chip.Boot(c.State.Durable())
	return nil
}

// Transmit has the card work off a command. What a command has done without
// saving it is an error: the card is as it was last saved, whatever the command.
func (c *Card) Transmit(_ context.Context, command []byte) ([]byte, error) {
	if c.Inspect != nil {
		return c.Inspect(c, command), nil
	}
	last := c.State.Durable()
	answer := c.Step(command)
	if n := len(c.Result.Commits); n > 0 {
		last = c.Result.Commits[n-1]
	}
	if !reflect.DeepEqual(last, c.State.Durable()) {
		return nil, fmt.Errorf("%s has an effect that is not saved", c.Result.Event)
	}
	return answer, nil
}

// Step has the card work off a command and returns its answer.
func (c *Card) Step(command []byte) []byte {
	c.Sent = command
	c.Before = c.State
	c.State, c.Result = chip.Step(c.Env, c.State, command)
	return c.Result.Response
}

// Seen is what scenarios say of the last command.
func (c *Card) Seen() conform.Seen {
	seen := conform.Seen{Event: c.Result.Event.String(), Login: loggedIn(c.State.Applet), Users: Users(c.State)}
	known := facts(c.Before.Applet.Durable)
	for _, d := range c.Result.Commits {
		next := facts(d.Applet)
		seen.Saved = append(seen.Saved, difference(known, next))
		known = next
	}
	return seen
}

// Users is what a card knows of its users: the counters of both PINs, and who
// is logged in.
//
//	U=2/3 S=15 user
func Users(s chip.State) string {
	p, l := s.Applet.PINs, s.Applet.Login
	words := []string{"U=-", "S=-"}
	if p.User.Value != nil {
		words[0] = fmt.Sprintf("U=%d/%d", p.User.Left, p.User.Max)
	}
	if p.SO.Value != nil {
		words[1] = fmt.Sprintf("S=%d", p.SO.Left)
	}
	for _, w := range []struct {
		is   bool
		name string
	}{{l.User, "user"}, {l.SO, "so"}, {l.Keys > 0, fmt.Sprintf("keys=%d", l.Keys)}, {l.Session != nil, "session"}} {
		if w.is {
			words = append(words, w.name)
		}
	}
	if len(words) == 2 {
		words = append(words, "nobody")
	}
	return strings.Join(words, " ")
}

func loggedIn(s applet.State) string {
	l := s.Login
	words := []string{}
	for _, w := range []struct {
		is   bool
		name string
	}{{l.User, "user"}, {l.PIN && !l.User, "user PIN without the keys"}, {l.SO, "SO"}, {l.Keys > 0, fmt.Sprintf("%d keys", l.Keys)}, {l.Session != nil, "session PIN"}} {
		if w.is {
			words = append(words, w.name)
		}
	}
	if len(words) == 0 {
		return "nobody"
	}
	return strings.Join(words, ", ")
}

// fact is one thing that a card keeps.
type fact struct{ name, value string }

// facts are the things that a card keeps, in words and numbers.
func facts(d applet.Durable) []fact {
	p := d.PINs
	list := []fact{
		{"user PIN", fmt.Sprint(p.User.Left)},
		{"user PIN tries", fmt.Sprint(p.User.Max)},
		{"user PIN itself", fmt.Sprintf("%X", []byte(p.User.Value))},
		{"SO-PIN", fmt.Sprint(p.SO.Left)},
		{"SO-PIN itself", fmt.Sprintf("%X", []byte(p.SO.Value))},
		{"options", p.Options.String()},
		{"transport PIN", fmt.Sprint(p.Transport)},
		{"public keys", fmt.Sprintf("%d of %d", p.Keys.Required, p.Keys.Total)},
		{"slots for key domains", fmt.Sprint(len(d.Domains))},
	}
	for _, f := range d.Files {
		list = append(list, fact{fmt.Sprintf("EF %04X", f.ID), fmt.Sprintf("%d bytes", len(f.Data))})
	}
	for id := range 256 {
		k, exists := d.Keys[byte(id)]
		if !exists {
			continue
		}
		value := k.String()
		if k.Uses.Limited {
			value += fmt.Sprintf(", %d uses", k.Uses.Left)
		}
		if k.Algorithms != nil {
			value += fmt.Sprintf(", only %X", k.Algorithms)
		}
		if k.Domain != 0 {
			value += fmt.Sprintf(", domain %d", k.Domain)
		}
		list = append(list, fact{fmt.Sprintf("key %d", id), value})
	}
	for i, domain := range d.Domains {
		if !domain.IsZero() {
			list = append(list, fact{fmt.Sprintf("key domain %d", i), fmt.Sprintf("%s, %d of %d shares missing", domain, domain.Outstanding(), domain.Total())})
		}
	}
	for i, c := range d.Custodians {
		if c.Name != "" {
			list = append(list, fact{fmt.Sprintf("public key %d", i), c.Name})
		}
	}
	return list
}

// difference says what changed from one state to the next.
func difference(from, to []fact) string {
	find := func(list []fact, name string) int {
		return slices.IndexFunc(list, func(f fact) bool { return f.name == name })
	}
	var changes []string
	for _, f := range to {
		switch i := find(from, f.name); {
		case i < 0:
			changes = append(changes, "+ "+f.name+" ("+f.value+")")
		case from[i].value != f.value && strings.HasSuffix(f.name, "itself"):
			changes = append(changes, strings.TrimSuffix(f.name, " itself")+" replaced")
		case from[i].value != f.value:
			changes = append(changes, f.name+" "+from[i].value+" → "+f.value)
		}
	}
	for _, f := range from {
		if find(to, f.name) < 0 {
			changes = append(changes, "- "+f.name)
		}
	}
	if changes == nil {
		return "nothing new"
	}
	return strings.Join(changes, ", ")
}

// Stored is a state, or a part of one, as it would be on disk. The error says that
// the two ways to make it differ.
func Stored(d any) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(d); err != nil {
		return "", err
	}
	form := strings.TrimSuffix(b.String(), "\n")
	if c, ok := d.(chip.Durable); ok {
		appended, err := c.AppendJSON([]byte("before"))
		if err != nil {
			return "", err
		}
		if string(appended) != "before"+form {
			return "", fmt.Errorf("AppendJSON made another form: %s, not %s", appended, form)
		}
	}
	return form, nil
}
