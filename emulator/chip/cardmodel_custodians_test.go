package chip_test

import (
	"fmt"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hsmemu/applet/apdu"
	"hsmemu/applet/cvc"
	"hsmemu/applet/tlv"
)

// The actions of the model on public key authentication.

// custodian is a card with a key for public key authentication.
type custodian struct {
	card
	name    string
	request []byte
	chain   cvc.Chain
}

// makeCustodians makes three of them.
func makeCustodians(t require.TestingT) []custodian {
	var list []custodian
	for i := range 3 {
		c := manufacture(t, "4.1", fmt.Sprint("custodian ", i))
		c.ok(t, selectApplication)
		c.ok(t, setup(0x0001, userPIN, soPIN, 3))
		request := c.ok(t, generate(byte(i+1), "brainpoolP256r1"))
		chain, err := cvc.ParseChain(c.State.Durable().Applet.Files[0].Data)
		require.NoError(t, err)
		list = append(list, custodian{card: c, name: "UTKEY0" + string(rune('1'+i)) + "00001", request: request, chain: chain})
	}
	return list
}

// sign is the custodian's answer to a challenge, as r || s.
func (c custodian) sign(t require.TestingT, i int, device, challenge string) []byte {
	twin := card{c.Copy()}
	der := twin.ok(t, apdu.Command{CLA: 0x80, INS: 0x68, P1: byte(i + 1), P2: 0x73, Data: []byte(device + challenge), Ne: 256})
	s, err := c.chain.Issuer.Key.Inherit(cvc.EmulatorRoot().Certificate.Key).Curve.ParseDER(der)
	require.NoError(t, err)
	return s.Plain()
}

// value is the content of a data object.
func value(b []byte) []byte {
	n, _, _ := tlv.Next(b)
	return n.Value
}

func choose(template byte, name string) apdu.Command {
	return apdu.Command{INS: 0x22, P1: 0x81, P2: template, Data: tlv.Append(nil, 0x83, []byte(name))}
}

// trust makes the card trust a custodian's device.
func (m *machine) trust(c custodian) {
	for _, command := range []apdu.Command{
		choose(0xB6, string(c.chain.Device.CAR)),
		{INS: 0x2A, P2: 0xBE, Data: value(c.chain.Device.Raw), Extended: true},
		choose(0xB6, string(c.chain.Device.CHR)),
	} {
		m.refuse(command, apdu.OK)
	}
}

// Register registers a custodian's key, or puts it in the place of another.
func (m *machine) Register(t *rapid.T) {
	m.t = t
	i := rapid.IntRange(0, 2).Draw(t, "custodian")
	c := apdu.Command{CLA: 0x80, INS: 0x54, Data: value(m.custodians[i].request), Ne: 65536, Extended: true}
	slot := -1
	if rapid.IntRange(0, 2).Draw(t, "replace") == 2 {
		slot = rapid.IntRange(0, 2).Draw(t, "slot")
		c.P1, c.P2 = 1, byte(slot)
	}
	m.trust(m.custodians[i])
	known, free := -1, -1
	for j := m.s.total - 1; j >= 0; j-- {
		switch m.s.custodians[j] {
		case m.custodians[i].name:
			known = j
		case "":
			free = j
		}
	}
	next, session := m.s.copied(), m.session
	switch {
	case slot >= 0 && !m.user(c):
		return
	case m.s.total == 0:
		m.refuse(c, apdu.InstructionNotSupported)
		return
	case slot >= 0 && m.s.options&0x08 == 0:
		m.refuse(c, apdu.ConditionsNotSatisfied)
		return
	case slot >= m.s.total:
		m.refuse(c, apdu.IncorrectP1P2)
		return
	case slot >= 0 && known >= 0 && known != slot, slot < 0 && known >= 0:
		m.refuse(c, apdu.WrongData)
		return
	case slot < 0 && free < 0:
		m.refuse(c, apdu.ConditionsNotSatisfied)
		return
	case slot >= 0:
		next.custodians[slot], session.answered[slot] = m.custodians[i].name, false
		if session.chosen == slot+1 {
			session.chosen = 0
		}
	default:
		next.custodians[free] = m.custodians[i].name
	}
	m.do(c, apdu.OK, saved{next}, session)
}

// Challenge asks for a challenge; who has answered the last one has not
// answered this.
func (m *machine) Challenge(t *rapid.T) {
	m.t = t
	session := m.session
	session.answered = [3]bool{}
	challenge := m.do(apdu.Command{INS: 0x84, Ne: 8}, apdu.OK, nil, session)
	if m.session.selected {
		m.session.challenge = string(challenge)
	}
}

// Authenticate lets a custodian answer the challenge, rightly or wrongly.
func (m *machine) Authenticate(t *rapid.T) {
	if m.session.challenge == "" && rapid.IntRange(0, 3).Draw(t, "challenge first") > 0 {
		m.Challenge(t)
	}
	m.t = t
	i := rapid.IntRange(0, 2).Draw(t, "custodian")
	slot := -1
	for j := range m.s.total {
		if m.s.custodians[j] == m.custodians[i].name {
			slot = j
		}
	}
	mse := choose(0xA4, m.custodians[i].name)
	session := m.session
	switch {
	case slot < 0:
		m.refuse(mse, apdu.ReferenceNotFound)
	case m.session.answered[slot]:
		m.refuse(mse, apdu.ConditionsNotSatisfied)
	default:
		session.chosen = slot + 1
		m.do(mse, apdu.OK, nil, session)
	}
	if !m.session.selected {
		return
	}
	right := rapid.IntRange(0, 3).Draw(t, "right") > 0
	challenge := m.session.challenge
	if !right {
		challenge += "!"
	}
	c := apdu.Command{INS: 0x82, Data: m.custodians[i].sign(t, i, m.State.Applet.Device.Name, challenge)}
	session = m.session
	switch {
	case m.session.chosen == 0:
		m.refuse(c, apdu.ReferenceNotFound)
	case m.session.challenge == "":
		m.refuse(c, apdu.ConditionsNotSatisfied)
	case !right || m.s.custodians[m.session.chosen-1] != m.custodians[i].name:
		m.refuse(c, apdu.VerificationFailed)
	default:
		m.session.answered[m.session.chosen-1] = true
		session.answered = m.session.answered
		if m.enough() {
			session.challenge = ""
			if (m.s.pin == "" || m.s.tries > 0) && (!m.both() || m.session.pin) {
				session.user = true
			}
		}
		m.do(c, apdu.OK, nil, session)
	}
}

// KeyStatus asks who has answered.
func (m *machine) KeyStatus(t *rapid.T) {
	m.t = t
	c := apdu.Command{CLA: 0x80, INS: 0x54, Ne: 256}
	if m.s.total == 0 {
		m.refuse(c, apdu.InstructionNotSupported)
		return
	}
	missing := 0
	for i := range m.s.total {
		if m.s.custodians[i] == "" {
			missing++
		}
	}
	data := m.do(c, apdu.OK, nil, m.session)
	if m.session.selected {
		require.Equal(t, []byte{byte(m.s.total), byte(missing), byte(m.s.required), byte(m.answers())}, data)
	}
}
