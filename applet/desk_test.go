package applet_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/applet/cvc"
	"hsmemu/applet/sm"
	"hsmemu/emulator/chip"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
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

// card is a card and whoever speaks to it. Copies are independent.
type card struct {
	name   string
	env    applet.Env
	state  chip.State
	result chip.Result // of the last command
	sent   []byte      // the last command, as the card received it
	host   sm.Host     // the other end of secure messaging
}

func manufacture(t require.TestingT, firmware, name string) *card {
	env := world("make " + firmware + name)
	d, err := chip.Manufacture(env, chip.Order{Firmware: firmware, Serial: fmt.Sprintf("DENK99%05d", crc32.ChecksumIEEE([]byte(name))%100000)})
	require.NoError(t, err)
	return &card{name: name, env: env, state: chip.Boot(d)}
}

// copied is the same card, with randomness of its own from here on.
func (c *card) copied() *card {
	twin := *c
	twin.env = world("copy " + c.name)
	return &twin
}

func (c *card) durable() applet.Durable { return c.state.Applet.Durable }

// cut takes the power away and gives it back.
func (c *card) cut() {
	c.state, c.host = chip.Boot(c.state.Durable()), sm.Host{}
}

// send gives the card a command, through secure messaging where that is on,
// and returns the answer as the application at the other end sees it.
func (c *card) send(t require.TestingT, command []byte) []byte {
	last := c.state.Durable()
	var answer []byte
	if c.host.Active() {
		answer = c.sendSecurely(t, command)
	} else {
		answer = c.transmit(command)
	}
	c.unsaved(t, last)
	return answer
}

// unsaved refuses what a command has done without saving it: the card is as it
// was last saved, whatever the command (invariant I6).
func (c *card) unsaved(t require.TestingT, last chip.Durable) {
	if n := len(c.result.Commits); n > 0 {
		last = c.result.Commits[n-1]
	}
	require.True(t, reflect.DeepEqual(last, c.state.Durable()), "%s has an effect that is not saved", c.result.Event)
}

// sendAsIs is send, and takes also what cannot be sent securely.
func (c *card) sendAsIs(t require.TestingT, command []byte) []byte {
	if plain, err := apdu.Parse(command); err != nil || plain.CLA&0x0C != 0 {
		return c.transmit(command)
	}
	return c.send(t, command)
}

func (c *card) transmit(command []byte) []byte {
	c.sent = command
	c.state, c.result = chip.Step(c.env, c.state, command)
	return c.result.Response
}

func (c *card) sendSecurely(t require.TestingT, command []byte) []byte {
	plain, err := apdu.Parse(command)
	require.NoError(t, err)
	wrapped, host, err := c.host.Wrap(plain)
	require.NoError(t, err)
	received, err := apdu.ParseResponse(c.transmit(wrapped.Bytes()))
	require.NoError(t, err)
	answer, host, err := host.Unwrap(received)
	c.host = host
	if err != nil { // an answer without protection
		return received.Bytes()
	}
	return answer.Bytes()
}

var suites = map[string]sm.Suite{"3des": sm.TripleDES, "aes128": sm.AES128, "aes192": sm.AES192, "aes256": sm.AES256}

// openChannel opens a secure channel for what follows.
func (c *card) openChannel(t require.TestingT, suite sm.Suite) {
	c.host = chipAuthentication(t, c, suite, func(command []byte) []byte { return c.send(t, command) })
}

// chipAuthentication is what a host does that knows the roots.
func chipAuthentication(t require.TestingT, c *card, suite sm.Suite, send func(command []byte) []byte) sm.Host {
	chain, err := cvc.ParseChain(c.file(t, 0x2F02))
	require.NoError(t, err)
	verified, err := chain.Verify(cvc.KnownRoots())
	require.NoError(t, err)
	device, err := verified.DeviceKey().EC()
	require.NoError(t, err)
	ephemeral, err := device.Curve().Generate(seeded("host"))
	require.NoError(t, err)
	require.Equal(t, "9000", fmt.Sprintf("%X", send(suite.Select().Bytes())))
	answer, err := apdu.ParseResponse(send(sm.Present(ephemeral).Bytes()))
	require.NoError(t, err)
	require.Equal(t, apdu.OK, answer.SW)
	host, err := suite.Confirm(ephemeral, device, answer.Data)
	require.NoError(t, err)
	return host
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
	cards   map[string]*card
	current *card
	vars    vars
}

// line is one line of a script: a directive, or a command and its answer. The
// answer may be followed by the number of states that the command saves.
var line = regexp.MustCompile(`^(.*?)\s*=>\s*(.*?)(?:\s*!(\d+))?$`)

// run runs a script. Lines are
//
//	command => answer !commits      an answer left out is 9000; a refused
//	                                command must not save anything unless its
//	                                line says so, or it answers tries or *
//	card NAME FIRMWARE              takes another card, new where it has to be
//	cut                             power off and on
//	sm on SUITE, sm off             secure messaging for what follows
//	let NAME = bytes                a variable
//	holds STATE                     compares with what summary says
//	differ NAME NAME                two variables are not equal
//	# comment
func (tb *table) run(t require.TestingT, script string) {
	for _, text := range strings.Split(script, "\n") {
		text = strings.TrimSpace(text)
		if text == "" || text[0] == '#' || tb.directive(t, text) {
			continue
		}
		want, commits := "9000", ""
		if m := line.FindStringSubmatch(text); m != nil {
			text, want, commits = m[1], m[2], m[3]
		}
		answer := tb.command(t, text)
		ok, err := match(want, answer, tb.vars)
		require.NoError(t, err)
		if !ok {
			require.Fail(t, "another answer", "%s\nwant %s\ngot  %X\n%s", text, want, answer, tb.current.result.Event)
		}
		saved := len(tb.current.result.Commits)
		_, tries := tb.current.result.Event.SW.Tries()
		switch {
		case commits != "":
			require.Equal(t, commits, strconv.Itoa(saved), "states saved by %s", text)
		case want != "*" && !tries && refused(tb.current.result.Event.SW):
			require.Zero(t, saved, "states saved by %s, which was refused", text)
		}
	}
}

// command sends one command to the current card.
func (tb *table) command(t require.TestingT, text string) []byte {
	command, err := compile(text, tb.vars)
	require.NoError(t, err)
	return tb.current.send(t, command)
}

func (tb *table) directive(t require.TestingT, text string) bool {
	words := strings.Fields(text)
	switch {
	case words[0] == "card":
		tb.take(t, words[1], append(words, applet.DefaultFirmware)[2])
	case text == "cut":
		tb.current.cut()
	case text == "sm off":
		tb.current.host = sm.Host{}
	case strings.HasPrefix(text, "sm on "):
		suite, known := suites[words[2]]
		require.True(t, known, text)
		tb.current.openChannel(t, suite)
	case words[0] == "holds":
		require.Equal(t, strings.TrimPrefix(text, "holds "), summary(tb.current.state))
	case words[0] == "differ":
		require.NotEqual(t, tb.vars[words[1]], tb.vars[words[2]])
	case words[0] == "let":
		name, value, found := strings.Cut(strings.TrimPrefix(text, "let "), "=")
		require.True(t, found, text)
		b, err := compile(value, tb.vars)
		require.NoError(t, err)
		tb.vars[strings.TrimSpace(name)] = b
	default:
		return false
	}
	return true
}

func (tb *table) take(t require.TestingT, name, firmware string) {
	if tb.cards[name] == nil {
		tb.cards[name] = manufacture(t, firmware, name)
	}
	tb.current = tb.cards[name]
}

// newTable is a table without cards. Its variables are the public key templates
// that key generation takes: one for each curve, under its name, and rsa1024 to
// rsa4096; and long, data that every firmware takes in one command, also through a
// secure channel.
func newTable() *table {
	tb := &table{cards: map[string]*card{}, vars: vars{}}
	for _, c := range curve.All() {
		tb.vars[c.Name()] = cvc.ECTemplate(cvc.ECDSASHA256, c)
	}
	for _, bits := range []int{1024, 1536, 2048, 3072, 4096} {
		tb.vars[fmt.Sprintf("rsa%d", bits)] = cvc.RSATemplate(cvc.RSASHA256, bits)
	}
	tb.vars["long"] = bytes.Repeat([]byte{0x5A}, 1000)
	return tb
}

func (tb *table) copied() *table {
	twin := newTable()
	for name, c := range tb.cards {
		twin.cards[name] = c.copied()
	}
	twin.current = twin.cards[tb.current.name]
	for name, v := range tb.vars {
		twin.vars[name] = v
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
		tb.take(t, "A", firmware)
		tb.run(t, script)
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
			require.NoError(t, tb.current.result.Event.Defect)
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
