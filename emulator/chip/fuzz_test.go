package chip_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/applet/tlv"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/chiptest"
)

// FuzzChip runs whole sessions of any bytes: the low bits of the first byte
// choose a firmware, its highest bit a card that is set up and has a user
// logged in instead of one as shipped. Then come commands behind their lengths
// in two bytes; a length of FFFF is a loss of power. The seeds in testdata are
// the sessions of the scenarios of package applet.
func FuzzChip(f *testing.F) {
	for i, p := range applet.Profiles() {
		f.Add([]byte{byte(i), 0, 4, 0, 0x20, 0, 0x81})
		f.Add([]byte{0x80 | byte(i), 0, 4, 0, 0x20, 0, 0x81, 0xFF, 0xFF, 0, 4, 0, 0x20, 0, 0x81})
		session := []byte{0x80 | byte(i)}
		for n := p.MaxAPDU - 1; n <= p.MaxAPDU+1; n++ { // a file that is as long as can be, and longer
			const overhead = 4 + 3 + 4 + 4
			command := write(0xCF01, 0, make([]byte, n-overhead)).Bytes()
			session = append(append(session, byte(n>>8), byte(n)), command...)
		}
		f.Add(session)
	}
	f.Fuzz(func(t *testing.T, session []byte) {
		if len(session) == 0 {
			return
		}
		run(t, session)
	})
}

// mostWork bounds a session, since the fuzzer looks for short ones. A command
// counts as one, a key pair, which takes long, as more.
const (
	mostWork    = 60
	workKeyPair = 10
)

// run plays a session and checks every step.
func run(t *testing.T, session []byte) {
	profiles := applet.Profiles()
	c := start(t, profiles[int(session[0]&0x0F)%len(profiles)].Name, session[0]&0x80 != 0)
	w := &watch{}
	w.keep(t, c.State.Durable())
	rest := session[1:]
	for work := 0; work < mostWork && len(rest) >= 2; work++ {
		n := int(rest[0])<<8 | int(rest[1])
		rest = rest[2:]
		if n == 0xFFFF {
			c.cut()
			continue
		}
		n = min(n, len(rest))
		w.step(t, c, rest[:n])
		if c.Result.Event.Command == "GENERATE ASYMMETRIC KEY PAIR" {
			work += workKeyPair
		}
		rest = rest[n:]
	}
	w.untouched(t)
}

// started keeps the cards that sessions start with.
var started sync.Map

// start is a card as shipped, or one on which every command finds something.
func start(t *testing.T, firmware string, equipped bool) card {
	once, _ := started.LoadOrStore(fmt.Sprint(firmware, equipped), sync.OnceValue(func() chip.State {
		c := manufacture(t, firmware, "A")
		if equipped {
			equip(t, c)
		}
		return c.State
	}))
	return card{&chiptest.Card{Env: chiptest.World("\x02"), State: once.(func() chip.State)()}}
}

func equip(t *testing.T, c card) {
	c.ok(t, selectApplication)
	p := c.State.Applet.Profile()
	if !p.KeyDomains {
		c.ok(t, setup(0x000D, userPIN, soPIN, 3, tlv.Append(nil, 0x92, []byte{0})))
	} else {
		c.ok(t, setup(0x000D, userPIN, soPIN, 3, tlv.Append(nil, 0x93, []byte{2, 1}), tlv.Append(nil, 0x97, []byte{3})))
		c.ok(t, apdu.Command{CLA: 0x80, INS: 0x52, P1: 1, Data: []byte{0}})
		c.ok(t, apdu.Command{CLA: 0x80, INS: 0x52, P1: 1, P2: 1, Data: []byte{2}})
		c.ok(t, apdu.Command{INS: 0x48, P1: 3, P2: 0xB0, Data: tlv.Append(nil, 0x91, []byte{0x10, 0x11, 0x18, 0x92, 0x94, 0x99})})
	}
	c.ok(t, generate(1, "secp256r1", tlv.Append(nil, 0x90, []byte{5}), tlv.Append(nil, 0x91, []byte{0x70, 0x73, 0x80, 0x92, 0x94, 0x98})))
	c.ok(t, generateRSA(2, 1024))
	blob := c.ok(t, apdu.Command{CLA: 0x80, INS: 0x72, P1: 1, P2: 0x92, Ne: 65536})
	c.ok(t, write(0x2F10, 0, blob))
	c.ok(t, write(0xCF00, 0, []byte("public data")))
	c.ok(t, write(0xCD00, 0, []byte("private data")))
}

// watch looks at the steps of a session.
type watch struct {
	states []chip.Durable
	forms  []string
}

// step gives a card any bytes and checks the invariants I1, I6 and I7.
func (w *watch) step(t *testing.T, c card, command []byte) {
	before := c.State.Durable()
	c.State, c.Result = chip.Step(c.Env, c.State, command)
	event, commits := c.Result.Event, c.Result.Commits

	r, err := apdu.ParseResponse(c.Result.Response)
	require.NoError(t, err)
	require.Equal(t, event.SW, r.SW)
	require.NoError(t, event.Defect, "%X", command)
	require.Len(t, commits, event.Commits)
	require.LessOrEqual(t, len(commits), 2)
	require.NotEmpty(t, event.String())

	after := c.State.Durable()
	if len(commits) == 0 {
		require.True(t, reflect.DeepEqual(before, after), "%X changed without saving: %s", command, event)
		return
	}
	require.True(t, reflect.DeepEqual(commits[len(commits)-1], after), "%X says what is not saved: %s", command, event)
	for i, d := range commits {
		w.keep(t, d)
		if last := i == len(commits)-1; !last || refused(event.SW) && command[1] != deletesDomain {
			counted(t, before, d, event)
		}
	}
}

// deletesDomain is the instruction whose success may look like a refusal.
const deletesDomain = 0x52

func refused(sw apdu.SW) bool {
	return sw != apdu.OK && sw != apdu.EndOfFile && sw != apdu.KeyAuthenticated
}

// counted checks what is saved before a secret is looked at: one try or one use
// less, and nothing else.
func counted(t *testing.T, before, d chip.Durable, event applet.Event) {
	is, was := &d.Applet.PINs, before.Applet.PINs
	spent := int(was.User.Left) - int(is.User.Left) + int(was.SO.Left) - int(is.SO.Left)
	require.LessOrEqual(t, is.User.Left, was.User.Left, event.String())
	require.LessOrEqual(t, is.SO.Left, was.SO.Left, event.String())
	is.User.Left, is.SO.Left = was.User.Left, was.SO.Left
	d.Applet.Keys = maps.Clone(d.Applet.Keys)
	for id, k := range d.Applet.Keys {
		old := before.Applet.Keys[id]
		spent += int(old.Uses.Left) - int(k.Uses.Left)
		require.LessOrEqual(t, k.Uses.Left, old.Uses.Left, event.String())
		k.Uses = old.Uses
		d.Applet.Keys[id] = k
	}
	require.Equal(t, 1, spent, event.String())
	require.True(t, reflect.DeepEqual(before, d), event.String())
}

// keep remembers what a state was like, and checks that it can be written down
// and read, and that a card wakes up with it.
func (w *watch) keep(t *testing.T, d chip.Durable) {
	form := stored(t, d)
	w.states, w.forms = append(w.states, d), append(w.forms, form)
	var read chip.Durable
	require.NoError(t, json.Unmarshal([]byte(form), &read))
	require.Equal(t, form, stored(t, read))
	require.NoError(t, read.Check(), "I9: commands led to a state that no card can be in")
	c := boot(read, "\x03")
	c.ok(t, selectApplication)
	for _, query := range []apdu.Command{{INS: 0x20, P2: 0x81}, {INS: 0x20, P2: 0x88}, {CLA: 0x80, INS: 0x58, Ne: 256}} {
		c.send(query)
		require.Empty(t, c.Result.Commits)
		require.NoError(t, c.Result.Event.Defect)
	}
}

// untouched is invariant I2: no step has changed a state that it was given.
func (w *watch) untouched(t *testing.T) {
	for i, d := range w.states {
		require.Equal(t, w.forms[i], stored(t, d))
	}
}

// The seeds are what they are meant to be: many of their commands succeed.
func TestFuzzChip_SeedsSucceed(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("testdata", "fuzz", "FuzzChip", "scenario-*"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var session string
		_, err = fmt.Sscanf(string(text), "go test fuzz v1\n[]byte(%q)", &session)
		require.NoError(t, err)
		c := start(t, applet.Profiles()[session[0]&0x0F].Name, false)
		good, all := 0, 0
		for rest := session[1:]; len(rest) >= 2; all++ {
			n := int(rest[0])<<8 | int(rest[1])
			rest = rest[2:]
			if n == 0xFFFF {
				c.cut()
				continue
			}
			c.State, c.Result = chip.Step(c.Env, c.State, []byte(rest[:n]))
			rest = rest[n:]
			if !refused(c.Result.Event.SW) {
				good++
			}
		}
		require.Greater(t, 5*good, all, file)
	}
}
