package applet_test

import (
	"cmp"
	"context"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/conform"
	"hsmemu/keystore/curve"
	"hsmemu/vsmartcard"
)

func stored(t require.TestingT, d any) string {
	form, err := chiptest.Stored(d)
	require.NoError(t, err)
	return form
}

// table is several cards and the variables of a script.
type table struct {
	*conform.Player
	inspection *inspection // of all cards
}

func newTable() *table {
	tb := &table{}
	tb.Player = conform.NewPlayer(func(name, firmware string) (vsmartcard.Card, error) {
		c, err := chiptest.Manufacture(cmp.Or(firmware, applet.DefaultFirmware), name)
		if tb.inspection != nil {
			c.Inspect = tb.inspection.take
		}
		return c, err
	})
	tb.Rand = chiptest.Seeded("host")
	return tb
}

func (tb *table) current() *chiptest.Card { return tb.Current.Card.(*chiptest.Card) }

func (tb *table) card(name string) *chiptest.Card { return tb.Hosts[name].Card.(*chiptest.Card) }

// inspect has each step of all cards inspected.
func (tb *table) inspect(i *inspection) {
	tb.inspection = i
	for _, h := range tb.Hosts {
		h.Card.(*chiptest.Card).Inspect = i.take
	}
}

// put puts a card on the table, in place of one of its name, as the current one.
func (tb *table) put(c *chiptest.Card) {
	tb.Current = &conform.Host{Card: c}
	tb.Hosts[c.Name] = tb.Current
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

// copied is a table in the same situation, with cards of its own.
func (tb *table) copied() *table {
	twin := newTable()
	twin.Vars = maps.Clone(tb.Vars)
	for name, h := range tb.Hosts {
		twin.Hosts[name] = &conform.Host{Card: tb.card(name).Copy(), Channel: h.Channel}
		if h == tb.Current {
			twin.Current = twin.Hosts[name]
		}
	}
	return twin
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
			require.NoError(t, tb.current().Result.Event.Defect)
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
