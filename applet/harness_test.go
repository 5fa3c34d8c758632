package applet_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/conform"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
	"hsmemu/vsmartcard"
)

// summary is what a card knows of its users: the counters of both PINs, and who
// is logged in.
//
//	U=2/3 S=15 user
func summary(s chip.State) string {
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

// seeded is randomness that is the same in every run.
func seeded(seed string) io.Reader {
	var key [32]byte
	copy(key[:], seed)
	return rand.NewChaCha8(key)
}

// world is an environment in which everything happens again the same way.
func world(seed string) applet.Env {
	random := seeded(seed)
	return applet.Env{
		Rand: random, Deterministic: true, Observed: true, RSA: keystore.PoolGenerator{Rand: random},
		Now: time.Date(2026, time.November, 23, 12, 0, 0, 0, time.UTC),
	}
}

// card is a card under test: a [conform.Witness] of itself.
type card struct {
	name   string
	env    applet.Env
	state  chip.State
	before chip.State  // before the last command
	result chip.Result // of the last command
	sent   []byte      // the last command, as the card received it
	// inspect checks more than every command is checked for; nil for nothing.
	inspect *inspection
}

func manufacture(firmware, name string) (*card, error) {
	env := world("make " + firmware + name)
	d, err := chip.Manufacture(env, chip.Order{Firmware: firmware, Serial: fmt.Sprintf("DENK99%05d", crc32.ChecksumIEEE([]byte(name))%100000)})
	return &card{name: name, env: env, state: chip.Boot(d)}, err
}

// copied is the same card, with randomness of its own from here on.
func (c *card) copied() *card {
	twin := *c
	twin.env = world("copy " + c.name)
	return &twin
}

func (c *card) durable() applet.Durable { return c.state.Applet.Durable }

func (c *card) ATR() []byte { return c.state.Durable().ATR() }

// Reset takes the power away and gives it back.
func (c *card) Reset() error {
	c.state = chip.Boot(c.state.Durable())
	return nil
}

// Transmit has the card work off a command. What a command has done without
// saving it is an error: the card is as it was last saved, whatever the command
// (invariant I6).
func (c *card) Transmit(_ context.Context, command []byte) ([]byte, error) {
	if c.inspect != nil {
		return c.inspect.take(c, command), nil
	}
	last := c.state.Durable()
	answer := c.transmit(command)
	if n := len(c.result.Commits); n > 0 {
		last = c.result.Commits[n-1]
	}
	if !reflect.DeepEqual(last, c.state.Durable()) {
		return nil, fmt.Errorf("%s has an effect that is not saved", c.result.Event)
	}
	return answer, nil
}

func (c *card) transmit(command []byte) []byte {
	c.sent = command
	c.before = c.state
	c.state, c.result = chip.Step(c.env, c.state, command)
	return c.result.Response
}

// Seen is what scenarios say of the last command.
func (c *card) Seen() conform.Seen {
	seen := conform.Seen{Event: c.result.Event.String(), Login: loggedIn(c.state.Applet), Users: summary(c.state)}
	known := facts(c.before.Applet.Durable)
	for _, d := range c.result.Commits {
		next := facts(d.Applet)
		seen.Saved = append(seen.Saved, difference(known, next))
		known = next
	}
	return seen
}

// file is the content of a file, whoever may read it.
func (c *card) file(t require.TestingT, id uint16) []byte {
	for _, f := range c.durable().Files {
		if f.ID == id {
			return f.Data
		}
	}
	require.Fail(t, "no file", "%04X", id)
	return nil
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

// stored is a state as it would be on disk, made in both ways there are.
func stored(t require.TestingT, d any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	require.NoError(t, e.Encode(d))
	form := strings.TrimSuffix(b.String(), "\n")
	if c, ok := d.(chip.Durable); ok {
		appended, err := c.AppendJSON([]byte("before"))
		require.NoError(t, err)
		require.Equal(t, "before"+form, string(appended))
	}
	return form
}

// table is several cards and the variables of a script.
type table struct {
	*conform.Player
	inspection *inspection // of cards to come
}

func newTable() *table {
	tb := &table{}
	tb.Player = conform.NewPlayer(func(name, firmware string) (vsmartcard.Card, error) {
		c, err := manufacture(cmp.Or(firmware, applet.DefaultFirmware), name)
		c.inspect = tb.inspection
		return c, err
	})
	tb.Rand = seeded("host")
	return tb
}

func (tb *table) current() *card { return tb.Current.Card.(*card) }

func (tb *table) card(name string) *card { return tb.Hosts[name].Card.(*card) }

// inspect has each step of all cards inspected.
func (tb *table) inspect(i *inspection) {
	tb.inspection = i
	for _, h := range tb.Hosts {
		h.Card.(*card).inspect = i
	}
}

// put puts a card on the table, in place of one of its name, as the current one.
func (tb *table) put(c *card) {
	tb.Current = &conform.Host{Card: c}
	tb.Hosts[c.name] = tb.Current
}

// run plays a script.
func (tb *table) run(t require.TestingT, script string) {
	s, err := conform.Parse(script)
	require.NoError(t, err, script)
	require.NoError(t, tb.Play(context.Background(), s))
}

// command sends one command to the current card.
func (tb *table) command(t require.TestingT, text string) []byte {
	command, err := conform.Compile(text, tb.Vars)
	require.NoError(t, err)
	return tb.send(t, command)
}

func (tb *table) send(t require.TestingT, command []byte) []byte {
	answer, err := tb.Current.Send(context.Background(), command)
	require.NoError(t, err)
	return answer
}

func (tb *table) copied() *table {
	twin := tb.Copy(func(c vsmartcard.Card) vsmartcard.Card { return c.(*card).copied() })
	twin.Rand = seeded("host")
	return &table{Player: twin}
}

// prepared keeps what a script has made, since most tests start from the same
// few cards.
var prepared sync.Map

// after is a card of a firmware after a script.
func after(t require.TestingT, firmware, script string) *table {
	once, _ := prepared.LoadOrStore(firmware+script, sync.OnceValue(func() *table {
		tb := newTable()
		tb.run(t, "card A "+firmware+"\n"+script)
		return tb
	}))
	made := once.(func() *table)()
	require.NotNil(t, made)
	return made.copied()
}

// row is one row of a table of docs/protocol, as a script on a card.
type row struct {
	name   string
	from   string // a setup, for another firmware than the default "public@1.2"
	script string
}

func play(t *testing.T, rows []row) {
	t.Helper()
	seen := map[string]bool{}
	for _, r := range rows {
		require.False(t, seen[r.name], "two rows named %s", r.name)
		seen[r.name] = true
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			from, firmware, other := strings.Cut(r.from, "@")
			if !other {
				firmware = applet.DefaultFirmware
			}
			setup, known := setups[from]
			require.True(t, known, "no setup %s", from)
			tb := after(t, firmware, setup)
			tb.run(t, r.script)
			require.NoError(t, tb.current().result.Event.Defect)
		})
	}
}

// refused tells the answers that are not a success.
func refused(sw apdu.SW) bool {
	return sw != apdu.OK && sw != apdu.EndOfFile && sw != apdu.KeyAuthenticated
}

func named(t require.TestingT, name string) *curve.Curve {
	c, ok := curve.ByName(name)
	require.True(t, ok, name)
	return c
}
