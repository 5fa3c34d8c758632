package service_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/portal"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/service"
	"hsmemu/pinstate"
	"hsmemu/vsmartcard/pcscd"
)

// What users and the vendor say in Nitrokey's forum (thread 1895), S1 to S26, a test for
// each statement. Those about the log-in are tests of package account: S8, S15, S25 and
// S26.

var wrongSOPIN = []byte("00000000")

// selected is a client of a card whose application is selected.
func selected(t testing.TB, card *chiptest.Card) (*client.Client, client.Info) {
	t.Helper()
	c := client.New(card)
	info, err := c.Select(t.Context())
	require.NoError(t, err)
	return c, info
}

// update has a plugged card updated for somebody, as far as the rules go.
func (w *world) update(t testing.TB, by service.Actor, card *chiptest.Card) (service.Request, error) {
	t.Helper()
	r := w.submitted(t, by, service.FirmwareUpdate, service.Data{})
	done, failure := w.InReader(t.Context(), &reader{Card: card}, by)
	require.True(t, done)
	r, err := w.Get(t.Context(), by, r.ID)
	require.NoError(t, err)
	if r.Word == service.Edit {
		_, err = w.Do(t.Context(), by, r.ID, service.DoCancel, service.Data{})
		require.NoError(t, err)
	}
	return r, failure
}

// status is the state of both PINs, which needs no log-in.
func status(t testing.TB, card *chiptest.Card) (user, so client.PINStatus) {
	t.Helper()
	c, _ := selected(t, card)
	user, err := c.PINStatus(t.Context(), client.UserPIN)
	require.NoError(t, err)
	so, err = c.PINStatus(t.Context(), client.SOPIN)
	require.NoError(t, err)
	return user, so
}

func ready(left int) client.PINStatus { return client.PINStatus{State: client.Ready, Left: left} }

var setup = client.Setup{Options: pinstate.OptionResetEnabled, SOPIN: soPIN, PIN: userPIN, Tries: 3}

// Initialising with a wrong SO-PIN fails ("PIN code or key incorrect"), and costs a try.
func TestS1(t *testing.T) {
	t.Parallel()
	card := situation{firmware: "3.2"}.card(t, "S1")
	c, _ := selected(t, card)
	bad := setup
	bad.SOPIN = wrongSOPIN
	require.ErrorIs(t, c.Initialise(t.Context(), bad), apdu.TriesLeft(14))
	_, so := status(t, card)
	require.Equal(t, ready(14), so)
}

// The reader's name has the serial number in it.
func TestS2(t *testing.T) {
	t.Parallel()
	require.Equal(t, "Nitrokey Nitrokey HSM (DENK01022960000         ) 00 00", pcscd.NitrokeyHSM("DENK01022960000", 0).Name)
}

// Version, options and both counters are seen without a log-in.
func TestS3(t *testing.T) {
	t.Parallel()
	card := situation{firmware: "3.2", so: 8, user: 1}.card(t, "S3")
	_, info := selected(t, card)
	require.Equal(t, client.Info{Major: 3, Minor: 2, Options: pinstate.OptionResetEnabled, Platform: info.Platform}, info)
	user, so := status(t, card)
	require.Equal(t, ready(2), user)
	require.Equal(t, ready(7), so)
}

// The SO-PIN has 15 tries. Once blocked, nothing at the card brings it back: PIN-1.
func TestS4(t *testing.T) {
	t.Parallel()
	card := situation{firmware: "4.1"}.card(t, "S4")
	_, so := status(t, card)
	require.Equal(t, ready(15), so)
	c, _ := selected(t, card)
	for left := 14; left >= 0; left-- {
		require.Error(t, c.VerifyPIN(t.Context(), client.SOPIN, wrongSOPIN))
	}
	require.ErrorIs(t, c.VerifyPIN(t.Context(), client.SOPIN, soPIN), apdu.AuthenticationBlocked)
	require.ErrorIs(t, c.Initialise(t.Context(), setup), apdu.AuthenticationBlocked)
	require.ErrorIs(t, c.ResetUserPIN(t.Context(), soPIN, userPIN), apdu.AuthenticationBlocked)
	_, so = status(t, card)
	require.Equal(t, client.Blocked, so.State)
}

// "The device is unusable": it is not, since an update helps.
func TestS5(t *testing.T) {
	t.Parallel()
	w := open(t)
	card := situation{firmware: "4.1", keys: true, so: 15, user: 3}.card(t, "S5")
	r, err := w.update(t, w.person(t, "alice@example.org"), card)
	require.NoError(t, err)
	require.Equal(t, service.Completed, r.Word)
	initialise(t, card, true, 0, 0)
}

// An SO-PIN has 8 bytes, 16 hexadecimal digits, and a user PIN 6 to 16.
func TestS6(t *testing.T) {
	t.Parallel()
	card := situation{firmware: "4.1", unused: true}.card(t, "S6")
	c, _ := selected(t, card)
	for _, lengths := range [][2]int{{7, 6}, {9, 6}, {16, 6}, {8, 5}, {8, 17}} {
		s := setup
		s.SOPIN, s.PIN = []byte(strings.Repeat("3", lengths[0])), []byte(strings.Repeat("1", lengths[1]))
		require.Error(t, c.Initialise(t.Context(), s), lengths)
	}
	for _, n := range []int{6, 16} {
		s := setup
		s.PIN = []byte(strings.Repeat("1", n))
		require.NoError(t, c.Initialise(t.Context(), s))
	}
}

// There is no reset without the SO-PIN, and with it the device stays who it is.
func TestS7(t *testing.T) {
	t.Parallel()
	card := situation{firmware: "4.1", keys: true}.card(t, "S7")
	device := card.Durable().Device
	ef := card.File(pkcs15.FileDevice)
	c, _ := selected(t, card)
	require.NoError(t, c.Initialise(t.Context(), setup))
	require.Equal(t, device, card.Durable().Device)
	require.Equal(t, ef, card.File(pkcs15.FileDevice))
	require.Empty(t, card.Durable().Keys)
}

// The SO-PIN resets the user PIN's counter or sets a PIN only if the options say so.
func TestS9(t *testing.T) {
	t.Parallel()
	for options, want := range map[pinstate.Options][2]bool{ // counter, PIN
		pinstate.OptionResetEnabled: {true, true}, 0: {false, false}, pinstate.OptionResetEnabled | pinstate.OptionResetOnly: {true, false},
	} {
		card := situation{firmware: "4.1", unused: true}.card(t, "S9"+options.String())
		c, _ := selected(t, card)
		s := setup
		s.Options = options
		require.NoError(t, c.Initialise(t.Context(), s))
		for range 3 {
			require.Error(t, c.VerifyPIN(t.Context(), client.UserPIN, []byte("000000")))
		}
		err := c.ResetUserPIN(t.Context(), soPIN, []byte("111111"))
		require.Equal(t, want[1], err == nil, "%s: %v", options, err)
		err = c.ResetUserPIN(t.Context(), soPIN, nil)
		require.Equal(t, want[0], err == nil, "%s: %v", options, err)
		require.NoError(t, c.Initialise(t.Context(), s), "this is always possible, and clears keys")
	}
}

// Device key and certificate are made when the firmware is loaded, in production.
func TestS10(t *testing.T) {
	t.Parallel()
	w := open(t)
	olga := w.person(t, "olga@example.org", account.Operator)
	card := blank(t, "4.1", "S10")
	require.Empty(t, selectError(t, card))
	w.submitted(t, olga, service.Production, service.Data{Firmware: "4.1"})
	_, err := w.InReader(t.Context(), &reader{Card: card}, olga)
	require.NoError(t, err)
	c, _ := selected(t, card)
	chain, err := c.Device(t.Context())
	require.NoError(t, err)
	_, err = chain.Verify(cvc.Roots{cvc.EmulatorRoot().Certificate})
	require.NoError(t, err)
	require.NoError(t, c.Initialise(t.Context(), setup))
	after, err := c.Device(t.Context())
	require.NoError(t, err)
	require.Equal(t, chain, after, "initialising does not change them")
	a := account.New(w.store, account.Options{})
	require.NoError(t, card.Reset())
	c, _ = selected(t, card)
	require.NoError(t, c.Login(t.Context(), userPIN))
	proof, err := a.Prove(t.Context(), card)
	require.NoError(t, err)
	require.Equal(t, client.Verified, proof.UserPIN.State, "and they log in")
}

// selectError tells that there is an application where there should be none.
func selectError(t testing.TB, card *chiptest.Card) string {
	t.Helper()
	_, err := client.New(card).Select(t.Context())
	if err == nil {
		return "an application"
	}
	require.ErrorIs(t, err, apdu.NotFound)
	return ""
}

// If the SO-PIN is lost then an update with a new device key and certificate helps: UPDATE-5.
func TestS11(t *testing.T) {
	t.Parallel()
	w := open(t)
	card := situation{firmware: "4.0"}.card(t, "S11") // nobody knows its SO-PIN
	device := card.Durable().Device
	_, err := w.update(t, w.person(t, "alice@example.org"), card)
	require.NoError(t, err)
	require.NotEqual(t, device.Name, card.Durable().Device.Name)
	require.NotEqual(t, device.Key.ECPublic().Bytes(), card.Durable().Device.Key.ECPublic().Bytes())
	initialise(t, card, false, 0, 0)
}

// With a blocked SO-PIN the current version may be loaded again, with keys or without:
// UPDATE-2.
func TestS12(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice := w.person(t, "alice@example.org")
	for _, keys := range []bool{false, true} {
		card := situation{firmware: "4.1", keys: keys, so: 14}.card(t, map[bool]string{true: "S12 keys", false: "S12"}[keys])
		r, _ := w.update(t, alice, card)
		require.Equal(t, service.Edit, r.Word, "one try is left")
		c, _ := selected(t, card)
		require.Error(t, c.VerifyPIN(t.Context(), client.SOPIN, wrongSOPIN))
		r, err := w.update(t, alice, card)
		require.NoError(t, err)
		require.Equal(t, service.Completed, r.Word)
	}
}

// The device that is updated need not be registered: PORTAL-16.
func TestS13(t *testing.T) {
	t.Parallel()
	w := open(t)
	_, err := w.update(t, w.person(t, "alice@example.org"), situation{firmware: "4.0"}.card(t, "S13"))
	require.NoError(t, err)
	require.Zero(t, w.count(t, "SELECT COUNT(*) FROM tokens"))
}

// A user blocked the SO-PIN on purpose, and the device was not initialised afterwards:
// UPDATE-5.
func TestS14(t *testing.T) {
	t.Parallel()
	w := open(t)
	card := situation{firmware: "4.1", so: 15}.card(t, "S14")
	_, err := w.update(t, w.person(t, "alice@example.org"), card)
	require.NoError(t, err)
	user, so := status(t, card)
	require.Equal(t, client.Unset, user.State)
	require.Equal(t, client.Unset, so.State)
}

// Without an account nothing can be asked for; with one a certificate of the developer
// network, or an update: PORTAL-15.
func TestS16(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice := w.person(t, "alice@example.org")
	for _, kind := range types {
		_, err := w.Start(t.Context(), service.Actor{Token: alice.Token}, kind, service.Data{})
		require.ErrorIs(t, err, service.ErrNotAllowed)
	}
	for _, kind := range []service.Type{service.DevNet, service.FirmwareUpdate} {
		r, err := w.Start(t.Context(), alice, kind, service.Data{})
		require.NoError(t, err)
		require.Contains(t, r.Actions, service.DoSubmit)
	}
}

// One registered device is enough: after the log-in any other one is plugged: PORTAL-16.
func TestS17(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice := w.person(t, "alice@example.org")
	login := situation{firmware: "4.0", keys: true}.card(t, "S17 login")
	token := w.register(t, alice, login)
	for _, name := range []string{"S17 a", "S17 b", "S17 c"} {
		_, err := w.update(t, alice, situation{firmware: "4.0"}.card(t, name))
		require.NoError(t, err)
	}
	require.Equal(t, 1, w.count(t, "SELECT COUNT(*) FROM tokens WHERE id = ? AND status = 'active'", token))
}

// A remote device has to be registered; it is chosen from a list, and updated when it
// connects next: PORTAL-16.
func TestS18(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice := w.person(t, "alice@example.org")
	card := situation{firmware: "4.0"}.card(t, "S18")
	r := &reader{Card: card}
	require.NoError(t, w.Unannounced(t.Context(), r))
	require.Equal(t, "4.0", card.Durable().Firmware, "nobody has registered it")
	token := w.register(t, alice, card)
	request := w.submitted(t, alice, service.FirmwareUpdate, service.Data{Token: token})
	require.NoError(t, w.Unannounced(t.Context(), r))
	require.Equal(t, "4.1", card.Durable().Firmware)
	w.get(t, alice, request.ID, service.Completed)
}

// Who is registered can be told of a weakness.
func TestS19(t *testing.T) {
	t.Parallel()
	w := open(t)
	root, alice := w.person(t, "root@example.org", account.Administrator), w.person(t, "alice@example.org")
	w.register(t, alice, situation{firmware: "3.2"}.card(t, "S19"))
	sent, err := w.SendNotice(t.Context(), root, service.Sample())
	require.NoError(t, err)
	require.Equal(t, 1, sent)
	require.Equal(t, []string{service.Sample().Subject}, w.mails(t, "alice@example.org"))
}

// A blocked user PIN hinders no update; but keys do, unless the SO-PIN is blocked:
// UPDATE-1 and UPDATE-4.
func TestS20(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice := w.person(t, "alice@example.org")
	_, err := w.update(t, alice, situation{firmware: "4.0", user: 3}.card(t, "S20"))
	require.NoError(t, err)
	_, err = w.update(t, alice, situation{firmware: "4.0", user: 3, keys: true}.card(t, "S20 keys"))
	require.EqualError(t, err, "SmartCard-HSM contains keys. Please remove keys first")
	_, err = w.update(t, alice, situation{firmware: "4.0", user: 3, keys: true, so: 15}.card(t, "S20 blocked"))
	require.NoError(t, err)
}

// An update issues a new certificate, so it is possible at the portal alone: what one
// portal has begun no other one can end.
func TestS21(t *testing.T) {
	t.Parallel()
	w, other := open(t), open(t)
	alice, bob := w.person(t, "alice@example.org"), other.person(t, "bob@example.org")
	card := situation{firmware: "4.0"}.card(t, "S21")
	w.submitted(t, alice, service.FirmwareUpdate, service.Data{})
	_, err := w.InReader(t.Context(), &reader{Card: card, at: 100}, alice)
	require.ErrorIs(t, err, errPulled)
	r, err := other.update(t, bob, card)
	require.ErrorIs(t, err, portal.ErrOtherUpdate)
	require.Equal(t, service.Edit, r.Word)
	_, err = w.InReader(t.Context(), &reader{Card: card}, alice)
	require.NoError(t, err)
	issuers, err := w.Issuers(t.Context(), alice)
	require.NoError(t, err)
	c, _ := selected(t, card)
	chain, err := c.Device(t.Context())
	require.NoError(t, err)
	require.Equal(t, issuers[0].Name, chain.Issuer.CHR)
}

// Afterwards it is as shipped with a new identity, and has to be registered again: UPDATE-5.
func TestS22(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice := w.person(t, "alice@example.org")
	card := situation{firmware: "4.0"}.card(t, "S22")
	token := w.register(t, alice, card)
	_, err := w.update(t, alice, card) // plugged, and registered all the same
	require.NoError(t, err)
	require.Equal(t, 1, w.count(t, "SELECT COUNT(*) FROM tokens WHERE id = ? AND status = 'superseded'", token))
	_, err = w.Start(t.Context(), alice, service.FirmwareUpdate, service.Data{Token: token})
	require.ErrorIs(t, err, service.ErrUnknown)
	require.NotEqual(t, token, w.register(t, alice, card))
	require.Equal(t, 2, w.count(t, "SELECT COUNT(*) FROM devices WHERE chip = ?", string(chipOf(t, card))))
}

// There is no way to brick it: no keys or a blocked SO-PIN will do: UPDATE-1.
func TestS23(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice := w.person(t, "alice@example.org")
	blocked := func(card *chiptest.Card) int {
		return w.count(t, "SELECT blocked_updates FROM chips WHERE id = ?", string(chipOf(t, card)))
	}
	for name, c := range map[string]struct {
		situation
		counted int
	}{
		"both blocked, keys":    {situation{firmware: "4.0", so: 15, user: 3, keys: true}, 1},
		"both blocked, no keys": {situation{firmware: "4.0", so: 15, user: 3}, 0},
		"no keys":               {situation{firmware: "4.0", user: 3}, 0},
	} {
		card := c.card(t, "S23 "+name)
		_, err := w.update(t, alice, card)
		require.NoError(t, err, name)
		require.Equal(t, c.counted, blocked(card), name)
		initialise(t, card, true, 0, 0)
	}
}

// A blocked SO-PIN helps five times, whoever asks: UPDATE-13.
func TestS24(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice, bob := w.person(t, "alice@example.org"), w.person(t, "bob@example.org")
	card := situation{firmware: "4.1", so: 15, keys: true}.card(t, "S24")
	for n := range 5 {
		by := []service.Actor{alice, bob}[n%2]
		_, err := w.update(t, by, card)
		require.NoError(t, err, n)
		initialise(t, card, true, 15, 0)
	}
	before := card.State.Durable()
	_, err := w.update(t, alice, card)
	var refusal *portal.Refusal
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, portal.LimitReached, refusal.Reason)
	after := card.State.Durable()
	require.Equal(t, before, after)
	require.Equal(t, 6, w.count(t, "SELECT COUNT(*) FROM devices"))
}

// Every kind of card, over the whole way: keys or none, SO-PIN and user PIN blocked or
// not, each generation's versions older or the same, the issuer ready or not, and
// before the first, the fifth and the sixth update that only the blocked SO-PIN allows.
// The rule is the vendor's in its own words; what it refuses leaves the card as it was:
// UPDATE-1, UPDATE-2, UPDATE-3, UPDATE-4, UPDATE-6 and UPDATE-13.
func TestDecisions(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice, root := w.person(t, "alice@example.org"), w.person(t, "root@example.org", account.Administrator)
	issuers, err := w.Issuers(t.Context(), alice)
	require.NoError(t, err)
	counts := []int{0, 1, 2, 3, 4, 5}
	if testing.Short() {
		counts = []int{0, 4, 5}
	}
	tried, allowed := 0, 0
	for _, firmware := range []string{"3.5", "3.6", "4.0", "4.1"} {
		for n := range 8 {
			s := situation{firmware: firmware, keys: n&1 != 0, so: n >> 1 & 1 * 15, user: n >> 2 * 3}
			fresh := s.card(t, firmware+string(rune('a'+n)))
			chip := chipOf(t, fresh)
			for _, before := range counts {
				for _, unready := range []bool{true, false} {
					tried++
					require.NoError(t, w.SetIssuer(t.Context(), root, issuers[0].Name, !unready, new(1000)))
					require.NoError(t, w.store.Ledger().Change(chip, func(b *portal.Books) error {
						b.Chip.Blocked = before
						return nil
					}))
					card := fresh.Copy()
					r, err := w.update(t, alice, card)
					noKeys := !s.keys && (firmware == "3.5" || firmware == "4.0")
					if unready || !noKeys && (s.so < 15 || before == 5) {
						require.Equal(t, service.Edit, r.Word, "%+v", s)
						require.Equal(t, fresh.State.Durable(), card.State.Durable())
						continue
					}
					allowed++
					require.NoError(t, err, "%+v, %d before", s, before)
					require.Equal(t, service.Completed, r.Word)
					require.Equal(t, map[string]string{"3": "3.6", "4": "4.1"}[firmware[:1]], card.Durable().Firmware)
					count := before
					if !noKeys {
						count++
					}
					require.Equal(t, count, w.count(t, "SELECT blocked_updates FROM chips WHERE id = ?", string(chip)))
					require.False(t, card.Durable().PINs.Initialised)
				}
			}
		}
	}
	require.Equal(t, 4*8*2*len(counts), tried)
	// For each generation: no keys and older, with PINs blocked or not; and a blocked SO-PIN
	// alone, the older one with keys and the same one with and without, unless five were.
	require.Equal(t, 2*(4*len(counts)+2*3*(len(counts)-1)), allowed)
}
