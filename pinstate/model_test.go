package pinstate_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hsmemu/pinstate"
)

// command is one random command, for the card and for the model.
type command struct {
	name  string
	code  string // the SO-PIN it presents
	run   event
	model func(m *model) string
}

func drawCommand(t *rapid.T) command {
	switch rapid.IntRange(0, 8).Draw(t, "command") {
	case 0, 1:
		r := someRefs.Draw(t, "reference")
		p := somePINs.Draw(t, "PIN")
		if r == pinstate.SO {
			p = someCodes.Draw(t, "code")
		}
		if r == pinstate.User && rapid.IntRange(0, 3).Draw(t, "use session PIN") == 0 {
			p = session
		}
		return command{"VERIFY", p, verify(r, p), func(m *model) string { return m.verify(byte(r), p) }}
	case 2:
		old, fresh := somePINs.Draw(t, "old PIN"), somePINs.Draw(t, "new PIN")
		return command{"CHANGE 81", "", change(pinstate.User, old+fresh), func(m *model) string { return m.changeUser(old + fresh) }}
	case 3:
		old, fresh := someCodes.Draw(t, "old code"), someCodes.Draw(t, "new code")
		data := old + fresh
		return command{"CHANGE 88", data[:min(8, len(data))], change(pinstate.SO, data), func(m *model) string { return m.changeSO(data) }}
	case 4, 5:
		mode := someModes.Draw(t, "P1")
		data := ""
		if mode == withNew || mode == counter {
			data = someCodes.Draw(t, "code")
		}
		if mode == withNew || mode == verifiedNew {
			data += somePINs.Draw(t, "new PIN")
		}
		presented := data[:min(8, len(data))]
		if mode != withNew && mode != counter {
			presented = "none"
		}
		return command{"RESET", presented, reset(mode, data), func(m *model) string { return m.reset(int(mode), data) }}
	case 6:
		s := drawSetup(t)
		return command{"INITIALIZE", string(s.SO), initialise(s), func(m *model) string { return m.initialise(s) }}
	case 7:
		n := rapid.Uint8Range(0, 3).Draw(t, "keys")
		return command{"EXTERNAL AUTHENTICATE", "", authenticated(n), func(m *model) string { return m.authenticate(int(n)) }}
	}
	if rapid.Bool().Draw(t, "select") {
		return command{"SELECT", "", cleared(), func(m *model) string { return m.forget() }}
	}
	return command{"GENERATE SESSION PIN", "", drawSession(session), func(m *model) string { m.session = session; return "9000" }}
}

func drawSession(v string) event {
	return func(_ require.TestingT, d *desk) string {
		d.Login.Session = pinstate.Value(v)
		return "9000"
	}
}

// model is the card told once more, by hand and in one piece per command, with
// strings and status words: a second reading of the chapter on PINs that shares nothing
// with the first.
type model struct {
	made                       bool
	options                    int
	pin, code                  string // "" is none
	u, umax, s                 int
	transport                  bool
	granted                    int
	total, required            int
	auth, pinOK, so            bool
	keys                       int
	session                    string
	resetOK, resetOnly, andKey bool
}

func (m *model) query(ref byte) string {
	if ref == 0x88 && m.made {
		if m.s == 0 {
			return "6983"
		}
		if m.so {
			return "9000"
		}
		return fmt.Sprintf("63C%X", m.s)
	}
	if ref != 0x81 || !m.made {
		return "6A88"
	}
	if m.auth {
		return "9000"
	}
	if m.transport {
		return "6984"
	}
	if m.pin == "" {
		return "6300"
	}
	if m.u == 0 {
		return "6983"
	}
	if m.pinOK && m.andKey && m.required > 0 {
		return "6300"
	}
	return fmt.Sprintf("63C%X", m.u)
}

func (m *model) pinRight() {
	m.pinOK = true
	if !m.andKey || m.required == 0 || m.keys >= m.required {
		m.auth = true
	}
}

func (m *model) userWrong() string {
	m.u--
	m.auth, m.pinOK = false, false
	if m.u == 0 {
		return "6983"
	}
	return fmt.Sprintf("63C%X", m.u)
}

func (m *model) soWrong() string {
	m.s--
	if m.s == 0 {
		return "6983"
	}
	return fmt.Sprintf("63C%X", m.s)
}

func (m *model) verify(ref byte, p string) string {
	if ref == 0x88 && m.made {
		if m.s == 0 {
			return "6983"
		}
		if len(p) != 8 {
			return "6700"
		}
		if p != m.code {
			m.so = false
			return m.soWrong()
		}
		m.s, m.so = 15, true
		return "9000"
	}
	if ref != 0x81 || !m.made || m.pin == "" {
		return "6A88"
	}
	if m.transport {
		return "6984"
	}
	fitsSession := m.session != "" && len(p) == len(m.session)
	if len(p) != len(m.pin) && !fitsSession {
		return "6700"
	}
	if m.u == 0 {
		m.auth, m.pinOK = false, false
		return "6983"
	}
	if p == m.pin {
		m.u = m.umax
		m.pinRight()
		return "9000"
	}
	if m.session != "" && p == m.session {
		m.pinRight()
		return "9000"
	}
	return m.userWrong()
}

func (m *model) changeUser(data string) string {
	if !m.made || m.pin == "" {
		return "6A88"
	}
	if m.u == 0 {
		m.auth, m.pinOK = false, false
		return "6983"
	}
	if len(data) < len(m.pin)+6 || len(data) > len(m.pin)+16 || len(data)-len(m.pin) < m.granted {
		return "6A80"
	}
	old, fresh := data[:len(m.pin)], data[len(m.pin):]
	if m.transport && old == fresh {
		return "6A80"
	}
	if old != m.pin {
		return m.userWrong()
	}
	m.pin, m.u, m.transport, m.session = fresh, m.umax, false, ""
	m.pinRight()
	return "9000"
}

func (m *model) changeSO(data string) string {
	if !m.made {
		return "6A88"
	}
	if m.s == 0 {
		return "6983"
	}
	if len(data) != 16 {
		return "6700"
	}
	if data[:8] != m.code {
		return m.soWrong()
	}
	m.code, m.s = data[8:], 15
	return "9000"
}

func (m *model) reset(p1 int, data string) string {
	if p1 > 3 || !m.made {
		return "6A88"
	}
	if !m.resetOK || m.resetOnly && p1%2 == 0 {
		return "6985"
	}
	if m.s == 0 {
		return "6983"
	}
	if m.pin == "" {
		return "6A88"
	}
	n := len(data)
	if p1 == 0 && (n < 14 || n > 24) || p1 == 1 && n != 8 || p1 == 2 && (n < 6 || n > 16) || p1 == 3 && n != 0 {
		return "6700"
	}
	fresh := ""
	if p1 == 0 {
		fresh = data[8:]
	}
	if p1 == 2 {
		fresh = data
	}
	if len(fresh) == 6 && m.umax > 3 || len(fresh) == 7 && m.umax > 5 {
		return "6A80"
	}
	if p1 < 2 && data[:8] != m.code {
		return m.soWrong()
	}
	if p1 < 2 {
		m.s = 15
	}
	if p1 >= 2 && !m.so {
		return "6985"
	}
	m.u, m.session = m.umax, ""
	if fresh != "" {
		m.pin, m.transport, m.auth, m.pinOK = fresh, false, false, false
	}
	return "9000"
}

func (m *model) initialise(s pinstate.Setup) string {
	if len(s.SO) != 8 {
		return "6700"
	}
	n, tries := len(s.PIN), int(s.Tries)
	if s.PIN == nil && s.Keys.Required == 0 {
		return "6A80"
	}
	if s.PIN != nil && (n < 6 || n > 16 || tries == 0 || tries > 10 || n == 6 && tries > 3 || n == 7 && tries > 5) {
		return "6A80"
	}
	if m.made && m.s == 0 {
		return "6983"
	}
	if m.made && string(s.SO) != m.code {
		return m.soWrong()
	}
	if s.PIN == nil {
		tries = 0
	}
	o := int(s.Options)
	*m = model{
		made: true, options: o, pin: string(s.PIN), code: string(s.SO), u: tries, umax: tries, s: 15,
		transport: o&2 > 0 && s.PIN != nil, granted: n, total: int(s.Keys.Total), required: int(s.Keys.Required),
		auth: true, resetOK: o&1 > 0, resetOnly: o&0x20 > 0, andKey: o&0x10 > 0,
	}
	return "9000"
}

func (m *model) authenticate(keys int) string {
	m.keys = keys
	if m.required == 0 || keys < m.required {
		return "9000"
	}
	if m.pin != "" && m.u == 0 {
		return "9000"
	}
	if m.andKey && m.pin != "" && !m.pinOK {
		return "9000"
	}
	m.auth = true
	return "9000"
}

func (m *model) forget() string {
	m.auth, m.pinOK, m.so, m.keys, m.session = false, false, false, 0, ""
	return "9000"
}

// desk is the model in the words of the package.
func (m *model) desk() desk {
	var d desk
	if m.made {
		d.Card = pinstate.Card{
			Initialised: true, Options: pinstate.Options(m.options),
			SO:        pinstate.Reference{Value: pinstate.Value(m.code), Left: uint8(m.s), Max: 15},
			Transport: m.transport, MinLength: uint8(m.granted),
			Keys: pinstate.KeyPolicy{Total: uint8(m.total), Required: uint8(m.required)},
		}
	}
	if m.pin != "" {
		d.Card.User = pinstate.Reference{Value: pinstate.Value(m.pin), Left: uint8(m.u), Max: uint8(m.umax)}
	}
	d.Login = pinstate.Login{User: m.auth, PIN: m.pinOK, SO: m.so, Keys: uint8(m.keys)}
	if m.session != "" {
		d.Login.Session = pinstate.Value(m.session)
	}
	return d
}

// modelOf starts the model from a desk.
func modelOf(d desk) *model {
	c, l := d.Card, d.Login
	o := int(c.Options)
	return &model{
		made: c.Initialised, options: o, pin: string(c.User.Value), code: string(c.SO.Value),
		u: int(c.User.Left), umax: int(c.User.Max), s: int(c.SO.Left), transport: c.Transport, granted: int(c.MinLength),
		total: int(c.Keys.Total), required: int(c.Keys.Required),
		auth: l.User, pinOK: l.PIN, so: l.SO, keys: int(l.Keys), session: string(l.Session),
		resetOK: o&1 > 0, resetOnly: o&0x20 > 0, andKey: o&0x10 > 0,
	}
}

// TestCard_FollowsTheModel plays random commands to both, from any state.
func TestCard_FollowsTheModel(t *testing.T) {
	words := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		d := drawDesk(t)
		m := modelOf(d)
		require.Equal(t, d, m.desk(), "the model starts elsewhere")
		for range 60 {
			c := drawCommand(t)
			before := d.Card
			want := c.model(m)
			require.Equal(t, want, c.run(t, &d), c.name)
			require.Equal(t, m.desk(), d, c.name)
			words[c.name+" "+want]++
			if want == "6983" && before.User.Left+before.SO.Left > d.Card.User.Left+d.Card.SO.Left {
				words[c.name+", last try"]++
			}
			for _, r := range []pinstate.Ref{pinstate.User, pinstate.SO, 0x85} {
				status := m.query(byte(r))
				require.Equal(t, status, query(r)(t, &d), "query %02X after %s", byte(r), c.name)
				words["query "+status]++
			}
		}
	})
	for _, must := range []string{
		"VERIFY 9000", "VERIFY 6983", "VERIFY 6700", "VERIFY 6984", "VERIFY 6A88", "VERIFY, last try",
		"CHANGE 81 9000", "CHANGE 81 6983", "CHANGE 81 6A80", "CHANGE 81 6A88",
		"CHANGE 88 9000", "CHANGE 88 6983", "CHANGE 88 6700",
		"RESET 9000", "RESET 6985", "RESET 6983", "RESET 6700", "RESET 6A80", "RESET 6A88",
		"INITIALIZE 9000", "INITIALIZE 6983", "INITIALIZE 6A80", "INITIALIZE 6700",
		"query 9000", "query 6300", "query 6983", "query 6984", "query 6A88",
	} {
		require.NotZero(t, words[must], "never seen: %s; seen: %v", must, words)
	}
}
