package chip_test

import (
	"pgregory.net/rapid"

	"hsmemu/applet/apdu"
	"hsmemu/applet/tlv"
)

// The actions of the model on PINs and the life cycle: the chapter on PINs, read once more.

var (
	pins = []string{userPIN, "000000", "1234567", "12345678", "12345", "12345678901234567"}
	sos  = []string{soPIN, "00000000", "1122334", "112233445"}
)

// guess draws a PIN, half of the time the right one.
func guess(t *rapid.T, right string, all []string) string {
	if right != "" && rapid.Bool().Draw(t, "right") {
		return right
	}
	return rapid.SampledFrom(all).Draw(t, "guess")
}

// mostTries is the largest counter for a PIN of a length.
func mostTries(length int) int {
	return map[int]int{6: 3, 7: 5, 8: 10, 9: 10, 10: 10, 11: 10, 12: 10, 13: 10, 14: 10, 15: 10, 16: 10}[length]
}

// SelectApplication ends every login.
func (m *machine) SelectApplication(t *rapid.T) {
	m.t = t
	m.session = modelSession{selected: true}
	m.do(selectApplication, apdu.OK, nil, m.session)
}

// PowerCut is a card pulled out and put back in.
func (m *machine) PowerCut(t *rapid.T) {
	m.t = t
	m.cutAfter(0, m.State.Durable(), nil)
	if rapid.IntRange(0, 3).Draw(t, "selected again") > 0 {
		m.SelectApplication(t)
	}
}

// VerifyUser presents a user PIN.
func (m *machine) VerifyUser(t *rapid.T) {
	m.t = t
	p := guess(t, m.s.pin, pins)
	m.spendPIN(verify(0x81, p), p, len(p) == len(m.s.pin), apdu.WrongLength, m.s.transport, func(next *modelState) {})
}

// ChangeUser changes the user PIN.
func (m *machine) ChangeUser(t *rapid.T) {
	m.t = t
	old, fresh := guess(t, m.s.pin, pins), rapid.SampledFrom(pins).Draw(t, "new")
	data, n := old+fresh, len(m.s.pin)
	c := apdu.Command{INS: 0x24, P2: 0x81, Data: []byte(data)}
	// The card cuts the data where its own PIN would end.
	fits := len(data) >= n+6 && len(data) <= n+16 && len(data)-n >= m.s.atInit
	if fits && m.s.transport && data[:n] == data[n:] {
		fits = false
	}
	if fits {
		old, fresh = data[:n], data[n:]
	}
	if m.s.initialised && m.s.pin != "" && m.s.tries > 0 && !fits {
		m.refuse(c, apdu.WrongData)
		return
	}
	m.spendPIN(c, old, true, apdu.WrongData, false, func(next *modelState) { next.pin, next.transport = fresh, false })
}

// spendPIN is what VERIFY and CHANGE of the user PIN have in common.
func (m *machine) spendPIN(c apdu.Command, p string, fits bool, unfit apdu.SW, transport bool, then func(*modelState)) {
	session := m.session
	session.user, session.pin = false, false
	switch {
	case !m.s.initialised || m.s.pin == "":
		m.refuse(c, apdu.ReferenceNotFound)
	case transport:
		m.refuse(c, apdu.ReferenceDataNotUsable)
	case !fits:
		m.refuse(c, unfit)
	case m.s.tries == 0:
		m.do(c, apdu.AuthenticationBlocked, nil, session)
	default:
		charged := m.s.copied()
		charged.tries--
		if p != m.s.pin {
			m.do(c, wrongPIN(charged.tries), saved{charged}, session)
			return
		}
		settled := m.s.copied()
		settled.tries = settled.mostTries
		session.pin = true
		session.user = m.session.user || !m.both() || m.enough()
		then(&settled)
		m.do(c, apdu.OK, saved{charged, settled}, session)
	}
}

// wrongPIN is the answer to a wrong PIN, by the tries that are left then.
func wrongPIN(left int) apdu.SW {
	if left == 0 {
		return apdu.AuthenticationBlocked
	}
	return apdu.TriesLeft(left)
}

// QueryUser asks for the tries of the user PIN.
func (m *machine) QueryUser(t *rapid.T) {
	m.t = t
	c := apdu.Command{INS: 0x20, P2: 0x81}
	switch {
	case !m.s.initialised:
		m.refuse(c, apdu.ReferenceNotFound)
	case m.session.user:
		m.refuse(c, apdu.OK)
	case m.s.transport:
		m.refuse(c, apdu.ReferenceDataNotUsable)
	case m.s.pin == "":
		m.refuse(c, apdu.VerificationFailed)
	case m.s.tries == 0:
		m.refuse(c, apdu.AuthenticationBlocked)
	case m.session.pin && m.both():
		m.refuse(c, apdu.VerificationFailed)
	default:
		m.refuse(c, apdu.TriesLeft(m.s.tries))
	}
}

// spendSO is what all that takes the SO-PIN has in common: a try is spent, a
// right code fills the counter and does what then does.
func (m *machine) spendSO(c apdu.Command, code string, wrong, right modelSession, then func(*modelState)) {
	charged := m.s.copied()
	charged.left--
	if code != m.s.so {
		m.do(c, wrongPIN(charged.left), saved{charged}, wrong)
		return
	}
	settled := m.s.copied()
	settled.left = 15
	then(&settled)
	m.do(c, apdu.OK, saved{charged, settled}, right)
}

// VerifySO presents the SO-PIN.
func (m *machine) VerifySO(t *rapid.T) {
	m.t = t
	code := guess(t, m.s.so, sos)
	c := verify(0x88, code)
	in, out := m.session, m.session
	in.so, out.so = true, false
	switch {
	case !m.s.initialised:
		m.refuse(c, apdu.ReferenceNotFound)
	case m.s.left == 0:
		m.refuse(c, apdu.AuthenticationBlocked)
	case len(code) != 8:
		m.refuse(c, apdu.WrongLength)
	default:
		m.spendSO(c, code, out, in, func(*modelState) {})
	}
}

// ChangeSO changes the SO-PIN, mostly back to what it was.
func (m *machine) ChangeSO(t *rapid.T) {
	m.t = t
	old, fresh := guess(t, m.s.so, sos), rapid.SampledFrom([]string{soPIN, soPIN, "99887766", "1"}).Draw(t, "new")
	c := apdu.Command{INS: 0x24, P2: 0x88, Data: []byte(old + fresh)}
	data := old + fresh
	switch {
	case !m.s.initialised:
		m.refuse(c, apdu.ReferenceNotFound)
	case m.s.left == 0:
		m.refuse(c, apdu.AuthenticationBlocked)
	case len(data) != 16:
		m.refuse(c, apdu.WrongLength)
	default:
		m.spendSO(c, data[:8], m.session, m.session, func(next *modelState) { next.so = data[8:] })
	}
}

// QuerySO asks for the tries of the SO-PIN.
func (m *machine) QuerySO(t *rapid.T) {
	m.t = t
	c := apdu.Command{INS: 0x20, P2: 0x88}
	switch {
	case !m.s.initialised:
		m.refuse(c, apdu.ReferenceNotFound)
	case m.s.left == 0:
		m.refuse(c, apdu.AuthenticationBlocked)
	case m.session.so:
		m.refuse(c, apdu.OK)
	default:
		m.refuse(c, apdu.TriesLeft(m.s.left))
	}
}

// Reset is RESET RETRY COUNTER in its four forms.
func (m *machine) Reset(t *rapid.T) {
	m.t = t
	mode := byte(rapid.IntRange(0, 3).Draw(t, "mode"))
	asks, sets := mode < 2, mode == 0 || mode == 2
	code, fresh := guess(t, m.s.so, sos[:2]), rapid.SampledFrom(pins).Draw(t, "new")
	data := ""
	if asks {
		data += code
	}
	if sets {
		data += fresh
	}
	c := apdu.Command{INS: 0x2C, P1: mode, P2: 0x81, Data: []byte(data)}
	then := func(next *modelState) {
		next.tries = next.mostTries
		if sets {
			next.pin, next.transport = fresh, false
		}
	}
	after := m.session
	if sets {
		after.user, after.pin = false, false
	}
	switch {
	case !m.s.initialised:
		m.refuse(c, apdu.ReferenceNotFound)
	case m.s.options&0x01 == 0, m.s.options&0x20 != 0 && sets:
		m.refuse(c, apdu.ConditionsNotSatisfied)
	case m.s.left == 0:
		m.refuse(c, apdu.AuthenticationBlocked)
	case m.s.pin == "":
		m.refuse(c, apdu.ReferenceNotFound)
	case sets && (len(fresh) < 6 || len(fresh) > 16):
		m.refuse(c, apdu.WrongLength)
	case sets && m.s.mostTries > mostTries(len(fresh)):
		m.refuse(c, apdu.WrongData)
	case !asks && !m.session.so:
		m.refuse(c, apdu.ConditionsNotSatisfied)
	case asks:
		m.spendSO(c, code, m.session, after, then)
	default:
		next := m.s.copied()
		then(&next)
		m.do(c, apdu.OK, saved{next}, after)
	}
}

// keyPart is what INITIALIZE DEVICE says of keys: shares (negative is none),
// slots for key domains, public keys and how many of them are needed.
type keyPart struct{ shares, slots, total, required int }

var keyParts = []keyPart{
	{shares: 1, total: 2, required: 1},
	{shares: -1, slots: 2, total: 3, required: 2},
	{shares: 0},
	{shares: -1, slots: 3},
	{shares: 2},
	{shares: -1},
	{shares: -1, total: 3, required: 3},
	{shares: 1, slots: 1},
	{shares: -1, total: 2, required: 3},
}

// Initialise sets the card up anew, not too often.
func (m *machine) Initialise(t *rapid.T) {
	if m.s.initialised && rapid.IntRange(0, 3).Draw(t, "anew") < 3 {
		return
	}
	m.t = t
	pin := ""
	if rapid.IntRange(0, 5).Draw(t, "with PIN") > 0 {
		pin = rapid.SampledFrom(pins).Draw(t, "PIN")
	}
	tries := rapid.IntRange(0, 11).Draw(t, "tries")
	options := rapid.IntRange(0, 0x3F).Draw(t, "options")
	m.initialise(guess(t, m.s.so, sos), pin, tries, options, rapid.SampledFrom(keyParts).Draw(t, "keys"))
}

func (m *machine) initialise(code, pin string, tries, options int, k keyPart) {
	var more [][]byte
	if k.shares >= 0 {
		more = append(more, tlv.Append(nil, 0x92, []byte{byte(k.shares)}))
	}
	if k.slots > 0 {
		more = append(more, tlv.Append(nil, 0x97, []byte{byte(k.slots)}))
	}
	if k.total > 0 {
		more = append(more, tlv.Append(nil, 0x93, []byte{byte(k.total), byte(k.required)}))
	}
	c := setup(uint16(options), pin, code, byte(tries), more...)
	fresh := func(next *modelState) {
		*next = modelState{
			initialised: true, options: options, pin: pin, so: next.so, left: 15, atInit: len(pin), total: k.total, required: k.required,
			transport: pin != "" && options&0x02 != 0, keys: map[byte]modelKey{}, files: map[uint16]string{},
		}
		if pin != "" {
			next.tries, next.mostTries = tries, tries
		}
		switch {
		case k.shares == 0:
			next.domains = []modelDomain{{total: 1, random: "?"}}
		case k.shares > 0:
			next.domains = []modelDomain{{total: k.shares, missing: k.shares}}
		default:
			next.domains = make([]modelDomain, k.slots)
		}
	}
	after := modelSession{selected: true, user: true}
	switch {
	case len(code) != 8:
		m.refuse(c, apdu.WrongLength)
	case k.shares >= 0 && k.slots > 0, k.required > k.total, pin == "" && k.total == 0, pin != "" && (tries == 0 || tries > mostTries(len(pin))):
		m.refuse(c, apdu.WrongData)
	case !m.s.initialised:
		next := modelState{so: code}
		fresh(&next)
		m.do(c, apdu.OK, saved{next}, after)
	case m.s.left == 0:
		m.refuse(c, apdu.AuthenticationBlocked)
	default:
		m.spendSO(c, code, m.session, after, fresh)
	}
}
