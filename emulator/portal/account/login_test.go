package account_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/portal"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/ram"
	"hsmemu/keystore/curve"
	"hsmemu/pinstate"
)

// The steps of the vendor's server (docs/protocol/portal.md, log-in): the state of the
// PIN first, SELECT only if that did not reach the application, EF 2F02, chip
// authentication, and the state of the PIN in the channel: PORTAL-12. The login that
// was made at the card survives it.
func TestLogin_Script(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	for _, firmware := range []string{"2.6", "3.6", "4.1"} {
		r := &reader{Card: manufacture(t, firmware, 1)}
		cookie, got := s.loggedIn(t, r)
		require.Equal(t, account.DeviceAuthenticated, got.State)
		require.Equal(t, firmware, got.Token.Firmware)
		require.Equal(t, r.Durable().Device.Name, string(got.Token.Name))
		require.Equal(t, "/UTSRCAEM1/UTDICAEM01/DENK9700001", got.Token.Path)
		require.Equal(t, "00200081", hex(r.sent[0]))
		require.Equal(t, "00B12F02", hex(r.sent[1][:4]))
		require.Equal(t, "002241A4", hex(r.sent[2][:4]))
		require.Equal(t, "00860000", hex(r.sent[3][:4]))
		require.Equal(t, "0C200081", hex(r.sent[4][:4]))
		for _, c := range r.sent[4:] {
			require.EqualValues(t, 0x0C, c[0], "everything else comes through the channel")
		}
		require.Contains(t, chiptest.Users(r.State), "user", "the login at the card goes on")
		require.NoError(t, s.Logout(t.Context(), cookie))
	}

	// Nothing is selected after a reset: the login is lost, and has to be made anew.
	r := &reader{Card: manufacture(t, "4.1", 2)}
	require.NoError(t, r.Reset())
	_, _, err := s.connect(t, r, account.RAMID(s.begin(t)))
	require.ErrorAs(t, err, new(*account.PINError))
	require.Equal(t, "00200081", hex(r.sent[0]))
	require.Equal(t, "00A4040C", hex(r.sent[1][:4]))
	require.Equal(t, "00B12F02", hex(r.sent[2][:4]))

	// So it is with a reader whose card answers 6900.
	r = &reader{Card: manufacture(t, "4.1", 2), lie: func(n int, _ apdu.Command, answer []byte) []byte {
		if n == 1 {
			return []byte{0x69, 0x00}
		}
		return answer
	}}
	_, _, err = s.connect(t, r, account.RAMID(s.begin(t)))
	require.ErrorAs(t, err, new(*account.PINError))
	require.Equal(t, "00A4040C", hex(r.sent[1][:4]))
}

// A card without the application, or with one that cannot prove what it is, is no
// device.
func TestLogin_NoDevice(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	old, err := chiptest.Manufacture("1.2", "old")
	require.NoError(t, err)
	require.NoError(t, old.Reset())
	none := &reader{Card: manufacture(t, "4.1", 5), lie: func(_ int, c apdu.Command, answer []byte) []byte {
		if c.INS == apdu.InsSelect {
			return []byte{0x6A, 0x82}
		}
		return answer
	}}
	require.NoError(t, none.Reset())
	for name, c := range map[string]card{"1.2": old, "none": none} {
		_, _, err := s.connect(t, c, account.RAMID(s.begin(t)))
		require.ErrorIs(t, err, portal.ErrNotTrusted, name)
	}
}

func hex(b []byte) string { return fmt.Sprintf("%X", b) }

// What the state of the user PIN in the channel makes of a log-in: 9000, 63Cx, 6983,
// 6984 and 6A88, and too few public keys. The last thing that is said is negative, and
// the session waits for another try.
func TestLogin_StateOfThePIN(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{Limits: account.Limits{Logins: account.Rate{N: 100, Per: time.Hour}}})
	cookie := s.begin(t)
	initialise := func(c *client.Client, with client.Setup) error {
		with.SOPIN = soPIN
		return c.Initialise(t.Context(), with)
	}
	tests := map[string]struct {
		setup func(*client.Client, *chiptest.Card) error
		want  client.PINStatus
		text  string
	}{
		"63C2": {
			func(c *client.Client, _ *chiptest.Card) error {
				if err := c.VerifyPIN(t.Context(), client.UserPIN, []byte("000000")); err == nil {
					return errors.New("that was the PIN")
				}
				return nil
			},
			client.PINStatus{State: client.Ready, Left: 2},
			"The user PIN was not verified, 2 tries left. Verify it and connect again.",
		},
		"6983": {
			func(c *client.Client, _ *chiptest.Card) error {
				for range 3 {
					_ = c.VerifyPIN(t.Context(), client.UserPIN, []byte("000000"))
				}
				return nil
			}, client.PINStatus{State: client.Blocked}, "The user PIN is blocked. This device cannot log in.",
		},
		"6984": {
			func(c *client.Client, card *chiptest.Card) error {
				err := initialise(c, client.Setup{Options: pinstate.OptionTransportPIN | pinstate.OptionResetEnabled, PIN: userPIN, Tries: 3})
				return errors.Join(err, card.Reset())
			}, client.PINStatus{State: client.Transport}, "The transport PIN of this device must be changed first.",
		},
		"6A88": {
			func(_ *client.Client, card *chiptest.Card) error {
				fresh, err := chiptest.Manufacture("4.1", "never initialised")
				if err == nil {
					*card = *fresh
				}
				return err
			}, client.PINStatus{State: client.Unset}, "This device is not initialised. It cannot log in.",
		},
		"6300": {
			func(c *client.Client, card *chiptest.Card) error {
				return errors.Join(initialise(c, client.Setup{Options: pinstate.OptionResetEnabled, Custodians: 2, Required: 2}), card.Reset())
			}, client.PINStatus{State: client.KeysMissing}, "Not enough public keys have been authenticated at this device.",
		},
	}
	for name, test := range tests {
		c := manufacture(t, "4.1", 3)
		require.NoError(t, test.setup(client.New(c), c), name)
		said, ended, served := s.connect(t, c, account.RAMID(cookie))
		var pin *account.PINError
		require.ErrorAs(t, served, &pin, name)
		require.Equal(t, test.want, pin.Status, name)
		require.Equal(t, []ram.Notice{{Text: "Checking the device and its user"}, {Number: -1, Text: "Log-in failed: " + test.text}}, said, name)
		require.Error(t, ended, name)
		require.Equal(t, account.Anonymous, s.session(t, cookie).State, name)
		require.Equal(t, "log-in refused", s.events(t, 1)[0].Action, name)
	}
	c := manufacture(t, "4.1", 3)
	said, ended, served := s.connect(t, c, account.RAMID(cookie)) // 9000
	require.NoError(t, served)
	require.NoError(t, ended)
	require.Equal(t, ram.Notice{Text: "This token is not registered. Enter your e-mail address on the page that you began with."}, said[1])
	require.Equal(t, account.DeviceAuthenticated, s.session(t, cookie).State)
}

// S25: a blocked HSM cannot be used to log in, and another one of the account can:
// PORTAL-14.
func TestS25_ABlockedDeviceCannotLogIn(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	blocked, other := manufacture(t, "4.1", 10), manufacture(t, "4.1", 11)
	_, first := s.registered(t, blocked, "a@example.org")
	_, second := s.registered(t, other, "a@example.org")
	require.Equal(t, first.Account.ID, second.Account.ID)
	for range 3 {
		require.Error(t, client.New(blocked).VerifyPIN(t.Context(), client.UserPIN, []byte("000000")))
	}
	cookie := s.begin(t)
	_, _, err := s.connect(t, blocked, account.RAMID(cookie))
	var pin *account.PINError
	require.ErrorAs(t, err, &pin)
	require.Equal(t, client.Blocked, pin.Status.State)
	require.Zero(t, s.session(t, cookie).Account)
	_, got := s.loggedIn(t, other)
	require.Equal(t, "a@example.org", got.Account.Email)
}

// S15: a blocked SO-PIN does not matter, as long as the user PIN works: PORTAL-14.
func TestS15_ABlockedSOPINCanLogIn(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	c := manufacture(t, "4.1", 12)
	for range 15 {
		require.Error(t, client.New(c).VerifyPIN(t.Context(), client.SOPIN, []byte("00000000")))
	}
	status, err := client.New(c).PINStatus(t.Context(), client.SOPIN)
	require.NoError(t, err)
	require.Equal(t, client.Blocked, status.State)
	login(t, c)
	_, got := s.registered(t, c, "b@example.org")
	require.Equal(t, "b@example.org", got.Account.Email)
}

// S26: whoever comes for the first time plugs in his HSM, enters his e-mail address
// and the code that is mailed, and is there; the next time the HSM is enough:
// PORTAL-13.
func TestS26_TheFirstVisit(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	c := manufacture(t, "4.1", 13)
	cookie, got := s.loggedIn(t, c)
	require.Equal(t, account.DeviceAuthenticated, got.State)
	require.NoError(t, s.Enrol(t.Context(), cookie, " Someone@Example.org ", everySource))
	require.Equal(t, "someone@example.org", s.session(t, cookie).CodeSent)
	box, err := s.LocalOutbox(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, box, 1)
	require.Equal(t, "someone@example.org", box[0].To)
	got, err = s.Activate(t.Context(), cookie, s.code(t))
	require.NoError(t, err)
	require.Equal(t, account.LoggedIn, got.State)
	require.Equal(t, got, s.session(t, cookie))
	require.NoError(t, s.SetPreferences(t.Context(), got.Actor(), account.Preferences{Requests: true}))
	require.NoError(t, s.Logout(t.Context(), cookie))

	said, ended, served := s.connect(t, c, account.RAMID(s.begin(t)))
	require.NoError(t, errors.Join(ended, served))
	require.Equal(t, []ram.Notice{{Text: "Checking the device and its user"}, {Text: "Logged in as someone@example.org"}}, said)
	_, got = s.loggedIn(t, c)
	require.Equal(t, account.Preferences{Requests: true}, got.Account.Preferences)
}

// S8: no PIN comes to the server, whether it is right or wrong: PORTAL-11.
func TestS8_NoPINAtTheServer(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	r := &reader{Card: manufacture(t, "4.1", 14)}
	s.registered(t, r, "c@example.org")
	require.NoError(t, r.Reset())
	_, _, err := s.connect(t, r, account.RAMID(s.begin(t)))
	require.Error(t, err)
	for _, command := range r.sent {
		require.False(t, bytes.Contains(command, userPIN))
		c, err := apdu.Parse(command)
		require.NoError(t, err)
		if c.INS == apdu.InsVerify && c.CLA == 0 {
			require.Empty(t, c.Data, "the portal only asks")
		}
	}
	s.requireNowhere(t, userPIN)
}

// Cards that lie are refused, whatever they lie about, and the session is as before:
// PORTAL-11.
func TestLogin_Liars(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{Limits: account.Limits{Logins: account.Rate{N: 100, Per: time.Hour}}})
	genuine, other := manufacture(t, "4.1", 20), manufacture(t, "4.1", 21)
	s.registered(t, genuine, "d@example.org")
	p256, _ := curve.ByName("brainpoolP256r1")
	key, err := p256.Generate(rand.Reader)
	require.NoError(t, err)
	root, err := cvc.NewRoot(key, "UTSRCAXX100001", day, rand.Reader)
	require.NoError(t, err)
	issuer, err := root.NewIssuer(key, "UTDICAXX100001", day, rand.Reader)
	require.NoError(t, err)
	foreign, err := issuer.IssueDevice(key.Public(), "DENK970002000000", day, rand.Reader)
	require.NoError(t, err)
	// Anybody can certify a device like one of the emulator's own.
	twin, err := cvc.EmulatorIssuer().IssueDevice(key.Public(), cvc.Name(genuine.Durable().Device.Name), day, rand.Reader)
	require.NoError(t, err)
	bent := bytes.Clone(genuine.File(0x2F02))
	bent[len(bent)-1] ^= 1 // the issuer's signature
	certificate := func(ef []byte) func(int, apdu.Command, []byte) []byte {
		return func(_ int, c apdu.Command, answer []byte) []byte {
			if c.INS == 0xB1 && c.CLA == 0 {
				return append(bytes.Clone(ef), 0x62, 0x82)
			}
			return answer
		}
	}
	tests := map[string]*reader{
		"certificate of another root":   {lie: certificate(foreign)},
		"certificate of another device": {lie: certificate(other.File(0x2F02))},
		"certificate without its key":   {lie: certificate(twin)},
		"certificate with a bent bit":   {lie: certificate(bent)},
		"no certificate":                {lie: certificate(nil)},
		"noise for a certificate":       {lie: certificate([]byte("noise"))},
		"a PIN state beside the channel": {lie: func(_ int, c apdu.Command, answer []byte) []byte {
			if c.CLA == 0x0C && c.INS == apdu.InsVerify {
				return []byte{0x90, 0x00}
			}
			return answer
		}},
		"a PIN state with a bent bit": {lie: func(_ int, c apdu.Command, answer []byte) []byte {
			if c.CLA == 0x0C && c.INS == apdu.InsVerify {
				answer = bytes.Clone(answer)
				answer[0+2] ^= 1
			}
			return answer
		}},
		"no chip authentication": {lie: func(_ int, c apdu.Command, answer []byte) []byte {
			if c.INS == 0x22 {
				return []byte{0x6A, 0x80}
			}
			return answer
		}},
	}
	for at := 2; at <= 6; at++ {
		tests[fmt.Sprint("another card from command ", at, " on")] = &reader{at: at, swap: other}
	}
	for name, r := range tests {
		cookie := s.begin(t)
		r.Card = genuine.Copy()
		if r.swap != nil {
			r.swap = r.swap.Copy()
		}
		said, ended, served := s.connect(t, r, account.RAMID(cookie))
		if r.at == 2 {
			// Nothing was said of the first card yet: the second one is what it is.
			require.NoError(t, served, name)
			require.Equal(t, other.Durable().Device.Name, string(s.session(t, cookie).Token.Name), name)
			continue
		}
		require.ErrorIs(t, served, portal.ErrNotTrusted, name)
		require.Error(t, ended, name)
		require.Equal(t, ram.Notice{Number: -1, Text: "Log-in failed: the card is not to be trusted"}, said[len(said)-1], name)
		require.Equal(t, account.Anonymous, s.session(t, cookie).State, name)
		require.Equal(t, "log-in refused the card is not to be trusted", s.events(t, 1)[0].Action+" "+s.events(t, 1)[0].Detail)
	}
	// The accepted roots are a table: another one's devices are refused here, and
	// these there.
	elsewhere := open(t, account.Options{Roots: cvc.VendorRoots()})
	_, _, err = elsewhere.connect(t, genuine.Copy(), account.RAMID(elsewhere.begin(t)))
	require.ErrorIs(t, err, cvc.ErrUnknownRoot)
}

// A device with the path of a registered token and another key, which whoever knows
// the published issuer can make, is another device.
func TestLogin_AnotherKeyOfThePath(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	genuine := manufacture(t, "4.1", 22)
	_, owner := s.registered(t, genuine, "e@example.org")
	twin := manufacture(t, "4.0", 22) // its keys depend on the firmware
	require.Equal(t, genuine.Durable().Device.Name, twin.Durable().Device.Name)
	cookie := s.begin(t)
	_, _, err := s.connect(t, twin, account.RAMID(cookie))
	require.ErrorIs(t, err, account.ErrOtherKey)
	require.Zero(t, s.session(t, cookie).Account)
	_, got := s.loggedIn(t, genuine)
	require.Equal(t, owner.Account.ID, got.Account.ID)

	// Nor does one that came first keep the genuine one out for good.
	s2 := open(t, account.Options{})
	first, _ := s2.loggedIn(t, twin)
	second, _ := s2.loggedIn(t, genuine)
	require.NoError(t, s2.Enrol(t.Context(), second, "e@example.org", everySource))
	_, err = s2.Activate(t.Context(), second, s2.code(t))
	require.NoError(t, err)
	require.NoError(t, s2.Enrol(t.Context(), first, "f@example.org", everySource))
	_, err = s2.Activate(t.Context(), first, s2.code(t))
	require.ErrorIs(t, err, account.ErrOtherKey)
}

// A card that is removed half-way has not logged in, and may try again.
func TestLogin_RemovedHalfWay(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{Limits: account.Limits{Logins: account.Rate{N: 100, Per: time.Hour}}})
	c := manufacture(t, "4.1", 30)
	s.registered(t, c, "g@example.org")
	cookie := s.begin(t)
	at := 1
	for ; ; at++ {
		r := &reader{Card: c, at: at}
		_, ended, served := s.connect(t, r, account.RAMID(cookie))
		if served == nil {
			break
		}
		require.ErrorAs(t, served, new(*ram.ClosedError), "command %d", at)
		require.ErrorIs(t, ended, ram.CodeCard)
		require.Equal(t, account.Anonymous, s.session(t, cookie).State)
		require.NoError(t, c.Reset())
		login(t, c)
	}
	require.Equal(t, 8, at, "commands of a log-in, and one")
	require.Equal(t, "g@example.org", s.session(t, cookie).Account.Email)
}

// One session is for one device: a second log-in is refused, so that nobody who
// learned the URL slips his card into a registration or a session under way.
func TestLogin_TwoInOneSession(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	owner, thief := manufacture(t, "4.1", 31), manufacture(t, "4.1", 32)
	cookie, got := s.loggedIn(t, owner)
	require.Equal(t, account.DeviceAuthenticated, got.State)
	_, _, err := s.connect(t, thief, account.RAMID(cookie))
	require.ErrorIs(t, err, account.ErrOccupied)
	require.Equal(t, got, s.session(t, cookie))
	require.NoError(t, s.Enrol(t.Context(), cookie, "h@example.org", everySource))
	_, err = s.Activate(t.Context(), cookie, s.code(t))
	require.NoError(t, err)
	said, _, err := s.connect(t, thief, account.RAMID(cookie))
	require.ErrorIs(t, err, account.ErrOccupied)
	require.Equal(t, []ram.Notice{{Number: -1, Text: "Log-in failed: a card is logged in to this session already"}}, said)
	require.Equal(t, owner.Durable().Device.Name, string(s.session(t, cookie).Token.Name))

	// Two at once: one of them is sent off.
	cookie = s.begin(t)
	errs := make(chan error, 2)
	for _, c := range []*chiptest.Card{owner, thief} {
		go func() {
			errs <- (&ram.Agent{Card: c}).Run(t.Context(), s.url+"/rt/paas/"+account.RAMID(cookie))
		}()
	}
	var failed int
	for range 2 {
		if <-errs != nil {
			failed++
		}
	}
	one, two := <-s.ended, <-s.ended
	require.Equal(t, 1, failed)
	require.True(t, (one == nil) != (two == nil))
	require.NotEqual(t, account.Anonymous, s.session(t, cookie).State)
}

// Identifiers that were never given, are not for that, or whose session has ended,
// are good for nothing.
func TestLogin_StolenAndReplayedIdentifiers(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	c := manufacture(t, "4.1", 33)
	_, _ = s.registered(t, c, "i@example.org")
	refused := func(id string) {
		t.Helper()
		err := (&ram.Agent{Card: c}).Run(t.Context(), s.url+"/rt/paas/"+id)
		require.ErrorIs(t, err, ram.CodeURL)
		_, err = s.SessionOf(t.Context(), id)
		require.ErrorIs(t, err, account.ErrNoSession)
	}
	cookie := s.begin(t)
	refused(cookie)
	refused(strings.Repeat("0", 64))
	refused(strings.ToUpper(account.RAMID(cookie)))
	_, err := s.Session(t.Context(), account.RAMID(cookie))
	require.ErrorIs(t, err, account.ErrNoSession, "the one of the URL is no cookie")

	_, _, err = s.connect(t, c, account.RAMID(cookie))
	require.NoError(t, err)
	require.False(t, s.session(t, cookie).Renewed)
	next, got, err := s.Renew(t.Context(), cookie)
	require.NoError(t, err)
	require.True(t, got.Renewed)
	require.Equal(t, got, s.session(t, next))
	require.Equal(t, account.LoggedIn, got.State)
	refused(account.RAMID(cookie))
	_, err = s.Session(t.Context(), cookie)
	require.ErrorIs(t, err, account.ErrNoSession)
	_, _, err = s.Renew(t.Context(), cookie)
	require.ErrorIs(t, err, account.ErrNoSession)

	require.NoError(t, s.Logout(t.Context(), next))
	require.NoError(t, s.Logout(t.Context(), next))
	refused(account.RAMID(next))
	_, err = s.Session(t.Context(), next)
	require.ErrorIs(t, err, account.ErrNoSession)

	expired := s.begin(t)
	s.wait(31 * time.Minute)
	refused(account.RAMID(expired))

	// A card without a session in its URL logs nobody in.
	err = (&ram.Agent{Card: c}).Run(t.Context(), s.url+"/rt/paas")
	require.Error(t, err)
	require.ErrorIs(t, <-s.ended, account.ErrNoSession)
}

// A session that ends while the card proves itself is not logged in.
func TestLogin_LoggedOutHalfWay(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	s.ram.Known = func(string) bool { return true } // it asks again for every request, and would not come so far
	cookie := s.begin(t)
	r := &reader{Card: manufacture(t, "4.1", 34)}
	r.lie = func(n int, _ apdu.Command, answer []byte) []byte {
		if n == 7 { // the last one
			require.NoError(t, s.Logout(t.Context(), cookie))
		}
		return answer
	}
	_, ended, served := s.connect(t, r, account.RAMID(cookie))
	require.ErrorIs(t, served, account.ErrNoSession)
	require.Error(t, ended)
}

// S22 and the seventh rule of updates: the identity that an update ended logs in no
// more, and the new one has to be registered, for the same account or another.
func TestS22_AnUpdatedDeviceIsRegisteredAgain(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	c := manufacture(t, "4.0", 40)
	before := c.Copy() // somebody restores it later
	cookie, got := s.registered(t, c, "j@example.org")
	old := got.Token.Path
	var chipID portal.ChipID
	seen, err := portal.Inspect(t.Context(), c.Copy(), rand.Reader)
	require.NoError(t, err)
	chipID = seen.Chip
	done, err := portal.Update(t.Context(), c, portal.Order{Ledger: s.store.Ledger(), Rand: rand.Reader, Now: day})
	require.NoError(t, err)
	require.Equal(t, chipID, done.Chip)
	require.NoError(t, s.store.Write(t.Context(), func(tx *records.Tx) error { return account.Supersede(tx, done.Old.Path) }))
	require.Equal(t, account.LoggedIn, s.session(t, cookie).State, "whoever asked for it sees the end of it")

	list, err := s.Tokens(t.Context(), got.Account.ID)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, account.Superseded, list[0].Status)
	login(t, before)
	_, _, err = s.connect(t, before, account.RAMID(s.begin(t)))
	require.ErrorIs(t, err, account.ErrSuperseded)

	_, _, err = s.connect(t, c, account.RAMID(s.begin(t)))
	var pin *account.PINError
	require.ErrorAs(t, err, &pin)
	require.Equal(t, client.Unset, pin.Status.State, "as shipped")
	host := client.New(c)
	_, err = host.Select(t.Context())
	require.NoError(t, err)
	require.NoError(t, host.Initialise(t.Context(), client.Setup{Options: pinstate.OptionResetEnabled, SOPIN: soPIN, PIN: userPIN, Tries: 3}))
	_, again := s.registered(t, c, "j@example.org")
	require.Equal(t, got.Account.ID, again.Account.ID)
	require.NotEqual(t, old, again.Token.Path)
	require.Equal(t, "4.1", again.Token.Firmware)
	list, err = s.Tokens(t.Context(), got.Account.ID)
	require.NoError(t, err)
	require.Len(t, list, 2)
}

// A device with the path of one that was updated, and another key, is not superseded:
// whoever knows the published issuer can make such a one and have it updated.
func TestLogin_AnUpdatedTwin(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	genuine, twin := manufacture(t, "4.1", 41), manufacture(t, "4.0", 41)
	before := twin.Copy()
	done, err := portal.Update(t.Context(), twin, portal.Order{Ledger: s.store.Ledger(), Rand: rand.Reader, Now: day})
	require.NoError(t, err)
	_, got := s.loggedIn(t, genuine)
	require.Equal(t, done.Old.Path, got.Token.Path)
	login(t, before)
	_, _, err = s.connect(t, before, account.RAMID(s.begin(t)))
	require.ErrorIs(t, err, account.ErrSuperseded)
}

// A session takes so many attempts and no more.
func TestLogin_Limit(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{Limits: account.Limits{Logins: account.Rate{N: 2, Per: time.Hour}}})
	cookie := s.begin(t)
	c := manufacture(t, "4.1", 41)
	require.NoError(t, c.Reset())
	for range 2 {
		_, _, err := s.connect(t, c, account.RAMID(cookie))
		require.ErrorAs(t, err, new(*account.PINError))
	}
	said, _, err := s.connect(t, c, account.RAMID(cookie))
	var rate *account.RateError
	require.ErrorAs(t, err, &rate)
	require.Equal(t, day.Add(time.Hour), rate.After)
	require.Equal(t, "Log-in failed: too many attempts: log-ins", said[0].Text)
	// The limit is the session's.
	_, _, err = s.connect(t, c, account.RAMID(s.begin(t)))
	require.ErrorAs(t, err, new(*account.PINError))
}
