package chip_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hsmemu/applet/apdu"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/chiptest"
	"hsmemu/keystore"
	"hsmemu/pinstate"
)

// The model is a card as a user would describe it, written down a second time
// without a look at the first: numbers, strings and what the specification says
// of them. Random commands go to both, and the power is cut after any state
// that the card saves.

// modelState is what a card keeps.
type modelState struct {
	initialised, transport bool
	options                int
	pin, so                string // no PIN is ""
	tries, mostTries, left int    // of the PIN, and of the SO-PIN
	atInit                 int    // length of the PIN then
	total, required        int    // public keys
	custodians             [3]string
	keys                   map[byte]modelKey
	domains                []modelDomain
	files                  map[uint16]string
}

// modelKey is a key: its kind, what identifies it, and its attributes.
type modelKey struct {
	kind       string
	identity   int
	limited    bool
	uses       int
	restricted bool
	list       string // algorithms, each one byte
	domain     byte
}

// modelDomain is a slot: empty when total is zero. The key check value is
// unknown, "?", where the card has drawn the key itself.
type modelDomain struct {
	total, missing int
	sum            [32]byte
	random         string
	// owner is the check value of the only key that its keys let in again.
	owner string
}

func (d modelDomain) ready() bool { return d.total > 0 && d.missing == 0 }

func (d modelDomain) kcv() string {
	switch {
	case !d.ready():
		return "\x00\x00\x00\x00\x00\x00\x00\x00"
	case d.random != "":
		return d.random
	}
	sum := sha256.Sum256(d.sum[:])
	return string(sum[:8])
}

// modelSession is what a card forgets.
type modelSession struct {
	selected, user, pin, so bool
	answered                [3]bool // public keys
	chosen                  int     // public key plus one
	challenge               string
}

func (s modelState) copied() modelState {
	s.keys, s.files, s.domains = maps.Clone(s.keys), maps.Clone(s.files), slices.Clone(s.domains)
	return s
}

// machine is the card, its model, and what connects them.
type machine struct {
	t *rapid.T
	card
	s       modelState
	session modelSession
	blobs   []modelBlob
	next    int // identity of the next key
	// custodians hold the public keys that the card may know.
	custodians []custodian
	// told is what has happened, in the words of the scenarios of package applet.
	told []string
}

// both reports whether a login takes the PIN and public keys.
func (m *machine) both() bool { return m.s.options&0x10 != 0 && m.s.pin != "" && m.s.required > 0 }

func (m *machine) answers() (n int) {
	for _, a := range m.session.answered {
		if a {
			n++
		}
	}
	return n
}

func (m *machine) enough() bool { return m.s.required > 0 && m.answers() >= m.s.required }

type modelBlob struct {
	bytes []byte
	kcv   string
	key   modelKey
}

// saved is the states that a command saves, in their order.
type saved []modelState

// do gives the card a command and compares: the answer, the states it saves,
// and what it is like afterwards. Now and then the power is cut between two
// saved states, or before the first, or after the last.
func (m *machine) do(c apdu.Command, sw apdu.SW, states saved, then modelSession) (data []byte) {
	if !m.session.selected {
		sw, states, then = apdu.InstructionNotSupported, nil, m.session
	}
	before := m.State.Durable()
	r := m.send(c)
	m.told = append(m.told, fmt.Sprintf("> %X", c.Bytes()), fmt.Sprintf("< %X", m.Result.Response), "= "+m.Result.Event.String())
	require.Equal(m.t, sw.String(), r.SW.String(), "%+v: %s", c, m.Result.Event)
	require.Len(m.t, m.Result.Commits, len(states), "%s", m.Result.Event)
	for i := range states {
		m.compare(&states[i], m.Result.Commits[i])
	}
	if len(states) > 0 {
		if rapid.IntRange(0, 5).Draw(m.t, "power") == 5 {
			m.cutAfter(rapid.IntRange(0, len(states)).Draw(m.t, "saved states"), before, states)
			return nil
		}
		m.s = states[len(states)-1]
	}
	m.session = then
	return r.Data
}

// cutAfter is a loss of power after the first n states were saved.
func (m *machine) cutAfter(n int, before chip.Durable, states saved) {
	if n > 0 {
		before, m.s = m.Result.Commits[n-1], states[n-1]
	}
	m.State, m.session = chip.Boot(before), modelSession{}
	m.told = append(m.told, "cut")
}

// refuse is a command that changes nothing.
func (m *machine) refuse(c apdu.Command, sw apdu.SW) { m.do(c, sw, nil, m.session) }

// change is a command that saves one state.
func (m *machine) change(c apdu.Command, next modelState) []byte {
	return m.do(c, apdu.OK, saved{next}, m.session)
}

// compare reports whether a saved state is what the model says.
func (m *machine) compare(want *modelState, d chip.Durable) {
	p, t := d.Applet.PINs, m.t
	require.NoError(t, d.Check(), "I9: commands led to a state that no card can be in")
	require.Equal(t, want.initialised, p.Initialised)
	require.Equal(t, want.transport, p.Transport)
	require.Equal(t, pinstate.Options(want.options), p.Options)
	require.Equal(t, []string{want.pin, want.so}, []string{string(p.User.Value), string(p.SO.Value)})
	require.Equal(t, []int{want.tries, want.mostTries, want.left}, []int{int(p.User.Left), int(p.User.Max), int(p.SO.Left)}, "tries of PIN, most, of SO-PIN")
	require.Equal(t, []int{want.total, want.required}, []int{int(p.Keys.Total), int(p.Keys.Required)})

	require.Len(t, d.Applet.Keys, len(want.keys))
	for id, k := range want.keys {
		is := d.Applet.Keys[id]
		require.Equal(t, k.kind, is.Kind().String())
		require.Equal(t, keystore.Uses{Limited: k.limited, Left: uint32(k.uses)}, is.Uses)
		require.Equal(t, k.restricted, is.Algorithms != nil)
		list := ""
		for _, a := range is.Algorithms {
			list += string([]byte{byte(a)})
		}
		require.Equal(t, k.list, list)
		require.Equal(t, k.domain, is.Domain)
	}
	require.Len(t, d.Applet.Domains, len(want.domains))
	for i := range want.domains {
		w, is := &want.domains[i], d.Applet.Domains[i]
		kcv := is.KCV()
		if w.random == "?" {
			w.random = string(kcv[:])
		}
		require.Equal(t, []int{w.total, w.missing}, []int{is.Total(), is.Outstanding()})
		require.Equal(t, w.kcv(), string(kcv[:]))
	}
	for i, c := range d.Applet.Custodians {
		require.Equal(t, want.custodians[i], c.Name)
	}
	require.Len(t, d.Applet.Files, 1+len(want.files))
	for _, f := range d.Applet.Files[1:] {
		require.Equal(t, want.files[f.ID], string(f.Data))
	}
}

// Check compares what is not saved, after every action.
func (m *machine) Check(t *rapid.T) {
	m.t = t
	m.compare(&m.s, m.State.Durable())
	require.Equal(t, m.session.selected, m.State.Selected)
	l := m.State.Applet.Login
	require.Equal(t, []bool{m.session.user, m.session.so}, []bool{l.User, l.SO}, "user and SO logged in")
	require.Equal(t, m.answers(), int(l.Keys), "public keys that have answered")
	require.False(t, m.session.user && m.s.pin != "" && m.s.tries == 0, "a login and a blocked PIN")
}

var mostOften = []string{"UseKey", "Wrap", "GenerateKey", "Unwrap", "Authenticate", "VerifyUser", "Register", "ManageDomain", "Derive", "ChangeUser", "Reset", "DeleteKey", "VerifySO"}

// failedModel is where the shortest run that failed is told. It can become a
// scenario of package applet.
var failedModel = filepath.Join("testdata", "failed", "model.txt")

// tell writes down what has happened.
func (m *machine) tell(t *testing.T) {
	require.NoError(t, os.MkdirAll(filepath.Dir(failedModel), 0o755))
	text := "# The card and its model disagree about what happened last.\ncard A 4.1\n" + strings.Join(m.told, "\n") + "\n"
	require.NoError(t, os.WriteFile(failedModel, []byte(text), 0o644))
}

func TestModel(t *testing.T) {
	t.Parallel()
	custodians := makeCustodians(t)
	test := t
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what the card was told is in %s", failedModel)
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		c := manufacture(t, "4.1", "A")
		c.Env = chiptest.World(string(binary.BigEndian.AppendUint64(nil, rapid.Uint64().Draw(t, "seed"))))
		m := &machine{t: t, card: c, custodians: custodians, s: modelState{keys: map[byte]modelKey{}, files: map[uint16]string{}}}
		t.Cleanup(func() { // the last run that fails is the shortest
			if t.Failed() {
				m.tell(test)
			}
		})
		// Early names are drawn more often; what needs the most before it can
		// happen has to be tried most.
		actions := map[string]func(*rapid.T){}
		for name, action := range rapid.StateMachineActions(m) {
			if name == "" { // the check
				actions[name] = action
				continue
			}
			place := slices.Index(mostOften, name)
			if place < 0 {
				place = len(mostOften)
			}
			actions[fmt.Sprintf("%02d %s", place, name)] = func(t *rapid.T) {
				m.prepare(t)
				action(t)
			}
		}
		t.Repeat(actions)
	})
}

// prepare does now and then what most commands need: a card that is set up, the
// application selected, the user logged in.
func (m *machine) prepare(t *rapid.T) {
	m.t = t
	often := func(what string) bool { return rapid.IntRange(0, 3).Draw(t, what) > 0 }
	if !m.session.selected && often("selected") {
		m.SelectApplication(t)
	}
	if !m.s.initialised && often("set up") {
		options := rapid.IntRange(0, 0x1F).Draw(t, "options") &^ 0x02
		m.initialise(soPIN, userPIN, 3, options, rapid.SampledFrom(keyParts).Draw(t, "keys"))
	}
	if m.session.selected && !m.session.user && m.s.pin != "" && often("logged in") {
		m.login()
	}
	for slot, d := range m.s.domains {
		if d.missing > 0 && often("share") {
			m.importShare(slot, 1)
		}
	}
}

// login is what a user does who knows the PIN, transport PIN or not.
func (m *machine) login() {
	if !m.s.transport {
		m.spendPIN(verify(0x81, m.s.pin), m.s.pin, true, apdu.WrongLength, false, func(*modelState) {})
		return
	}
	fresh := m.s.pin[:len(m.s.pin)-1] + "!"
	if m.s.tries > 0 {
		c := apdu.Command{INS: 0x24, P2: 0x81, Data: []byte(m.s.pin + fresh)}
		m.spendPIN(c, m.s.pin, true, apdu.WrongData, false, func(next *modelState) { next.pin, next.transport = fresh, false })
	}
}
