package chip_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/chiptest"
	"hsmemu/pinstate"
)

func made(t *testing.T, firmware string, s chip.Situation) (chip.Durable, error) {
	t.Helper()
	return chip.Manufacture(chiptest.World("situation"), chip.Order{Firmware: firmware, Like: &s})
}

// Every counter of every firmware can be had, and the card passes the check and
// goes on counting from there.
func TestSituation_EveryCounter(t *testing.T) {
	t.Parallel()
	for _, p := range applet.Profiles() {
		for so := range 16 {
			user, transport := so%4, so/4%2 == 1 // each in every firmware, with many of the SO-PIN's
			s := chip.Usual()
			s.SOTries, s.UserTries, s.Transport = so, user, transport
			s.Options |= pinstate.OptionTransportPIN
			d, err := made(t, p.Name, s)
			require.NoError(t, err)
			require.NoError(t, d.Check())
			pins := d.Applet.PINs
			require.Equal(t, []int{so, 15, user, 3}, []int{int(pins.SO.Left), int(pins.SO.Max), int(pins.User.Left), int(pins.User.Max)})
			require.Equal(t, transport, pins.Transport)
			c := boot(d, "after")
			c.ok(t, selectApplication)
			c.send(verify(byte(pinstate.SO), "00000000"))
			require.EqualValues(t, max(so-1, 0), c.State.Durable().Applet.PINs.SO.Left)
		}
	}
}

// The PINs are those that were stated.
func TestSituation_PINs(t *testing.T) {
	t.Parallel()
	s := chip.Usual()
	s.SOTries, s.UserTries, s.UserMax, s.UserPIN, s.SOPIN = 1, 1, 10, pinstate.Value("longenough"), pinstate.Value("12345678")
	for _, options := range []pinstate.Options{0x0001, 0x0003} { // the second: a transport PIN that was changed
		s.Options = options
		d, err := made(t, "", s)
		require.NoError(t, err)
		c := boot(d, "after")
		c.ok(t, selectApplication)
		require.Equal(t, apdu.TriesLeft(1), c.send(apdu.Command{INS: apdu.InsVerify, P2: byte(pinstate.User)}).SW)
		c.ok(t, verify(byte(pinstate.User), "longenough"))
		c.ok(t, verify(byte(pinstate.SO), "12345678"))
		require.Equal(t, options, c.State.Durable().Applet.PINs.Options)
	}
}

// Key domains, DKEK shares and public keys are laid out as INITIALIZE DEVICE does.
func TestSituation_Domains(t *testing.T) {
	t.Parallel()
	s := chip.Usual()
	s.Domains = 4
	d, err := made(t, "3.5", s)
	require.NoError(t, err)
	require.Len(t, d.Applet.Domains, 4)
	s.Domains, s.Shares = 0, new(3)
	s.UserPIN, s.UserTries, s.UserMax, s.Keys = nil, 0, 0, pinstate.KeyPolicy{Required: 2, Total: 3}
	d, err = made(t, "3.5", s)
	require.NoError(t, err)
	require.NoError(t, d.Check())
	require.Equal(t, 3, d.Applet.Domains[0].Outstanding())
	require.Len(t, d.Applet.Custodians, 3)
}

// What no card can be in is refused, in words, before anything is done.
func TestSituation_Impossible(t *testing.T) {
	t.Parallel()
	for words, change := range map[string]func(*chip.Situation){
		"has 15 tries, not 16":            func(s *chip.Situation) { s.SOTries = 16 },
		"has 15 tries, not -1":            func(s *chip.Situation) { s.SOTries = -1 },
		"of 3 tries has no 4 left":        func(s *chip.Situation) { s.UserTries = 4 },
		"of 6 bytes has 1 to 3 tries":     func(s *chip.Situation) { s.UserMax = 4 },
		"of 7 bytes has 1 to 5 tries":     func(s *chip.Situation) { s.UserMax, s.UserPIN = 6, pinstate.Value("1234567") },
		"of 16 bytes has 1 to 10 tries":   func(s *chip.Situation) { s.UserMax, s.UserPIN = 11, pinstate.Value("1234567890123456") },
		"user PIN has 6 to 16 bytes":      func(s *chip.Situation) { s.UserPIN = pinstate.Value("12345") },
		"SO-PIN has 8 bytes":              func(s *chip.Situation) { s.SOPIN = pinstate.Value("1234567") },
		"nobody could log in":             func(s *chip.Situation) { s.UserPIN = nil },
		"takes option 0002":               func(s *chip.Situation) { s.Transport = true },
		"not 3 of 2":                      func(s *chip.Situation) { s.Keys = pinstate.KeyPolicy{Required: 3, Total: 2} },
		"exclude each other":              func(s *chip.Situation) { s.Domains, s.Shares = 1, new(1) },
		"are 0 to 255":                    func(s *chip.Situation) { s.Shares = new(256) },
		"firmware 2.6 has no key domains": func(s *chip.Situation) { s.Domains = 1 },
	} {
		s := chip.Usual()
		change(&s)
		_, err := made(t, "2.6", s)
		require.ErrorIs(t, err, chip.ErrSituation, words)
		require.ErrorContains(t, err, words)
	}
}

func TestOrder_CheckSerial(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"", "DENK0404144", "UTCC0000001", "AB123456789"} {
		require.NoError(t, chip.Order{Serial: good}.CheckSerial(), good)
	}
	for _, bad := range []string{"DENK040414", "DENK04041444", "denk0404144", "D1NK0404144", "DENK040414\n", "DENK-404144"} {
		require.ErrorIs(t, chip.Order{Serial: bad}.CheckSerial(), chip.ErrSerial, bad)
	}
	made, err := chip.Manufacture(chiptest.World("serial"), chip.Order{})
	require.NoError(t, err)
	require.NoError(t, chip.Order{Serial: made.Applet.Serial()}.CheckSerial())
}
