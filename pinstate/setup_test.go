package pinstate_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/pinstate"
)

const (
	withNew     = pinstate.ResetWithNew
	counter     = pinstate.ResetCounter
	verifiedNew = pinstate.ResetVerifiedNew
	verifiedCtr = pinstate.ResetVerifiedCounter
)

// resetForms are the four forms of RESET RETRY COUNTER with data that every
// card permits.
var resetForms = []struct {
	name string
	mode pinstate.ResetMode
	data string
}{
	{"P1=00", withNew, code + newPIN},
	{"P1=01", counter, code},
	{"P1=02", verifiedNew, newPIN},
	{"P1=03", verifiedCtr, ""},
}

// Shows PIN-9.
func TestReset(t *testing.T) {
	var rows []row
	for _, f := range resetForms {
		sets := f.mode == withNew || f.mode == verifiedNew
		good := reset(f.mode, f.data)
		noise := reset(f.mode, "?")
		add := func(name string, from desk, e event, word string, then ...mod) {
			rows = append(rows, row{"PIN-68 " + f.name + " " + name, from, e, word, then})
		}
		blocked := stateB().with(soIn(), s(4))
		after := []mod{u(3)}
		if sets {
			after = append(after, pinIs(newPIN))
		}
		if f.mode == withNew || f.mode == counter {
			after = append(after, s(15))
		}
		add("never initialized", stateF().with(soIn()), good, "6A88")
		add("never initialized comes before the length", stateF(), noise, "6A88")
		add("option 01 off", blocked.with(options(0x0000)), good, "6985")
		add("option 01 off, 20 set", blocked.with(options(0x0020)), good, "6985")
		add("option 01 off comes before S = 0 and the length", stateO().with(options(0x0000), s(0)), noise, "6985")
		if sets {
			add("option 20 set", blocked.with(options(0x0021)), good, "6985")
			add("option 20 set comes before S = 0", blocked.with(options(0x0021), s(0)), good, "6985")
		} else {
			add("option 20 set", blocked.with(options(0x0021)), good, "9000", after...)
		}
		add("S = 0", blocked.with(s(0)), good, "6983")
		add("S = 0 comes before the length", stateO().with(s(0)), noise, "6983")
		add("no user PIN", stateP().with(soIn(), in()), good, "6A88")
		add("no user PIN, S = 0", stateP().with(s(0)), good, "6983")
		add("no user PIN, option 01 off", stateP().with(options(0)), good, "6985")
		add("ok", blocked, good, "9000", after...)
		add("ok, SO on a full counter", stateO().with(soIn()), good, "9000", after[1:]...)
		login := []mod{in(), keys(1), drawn(session)}
		end := append([]mod{undrawn()}, after...)
		if sets {
			end = append([]mod{out()}, end...)
		}
		add("auth afterwards", stateO().with(soIn(), u(1), s(4)).with(login...), good, "9000", end...)
		pending := blocked.with(options(0x0003), transport(true))
		if sets {
			end = append([]mod{transport(false)}, after...)
		} else {
			end = after
		}
		add("transport state", pending, good, "9000", end...)
	}
	for _, f := range []struct {
		mode  pinstate.ResetMode
		name  string
		fixed int
		from  int
		to    int
	}{
		{withNew, "P1=00", 8, 14, 24},
		{counter, "P1=01", 8, 8, 8},
		{verifiedNew, "P1=02", 0, 6, 16},
		{verifiedCtr, "P1=03", 0, 0, 0},
	} {
		for n := range 30 {
			data := (code + strings.Repeat("7", 30))[8-f.fixed:][:n]
			from := stateO().with(soIn())
			word, then := "9000", []mod(nil)
			if n < f.from || n > f.to {
				word = "6700"
			} else if n > f.fixed {
				then = []mod{pinIs(data[f.fixed:])}
			}
			rows = append(rows, row{
				"PIN-68 " + f.name + " Lc " + string(rune('0'+n/10)) + string(rune('0'+n%10)),
				from, reset(f.mode, data), word, then,
			})
		}
	}
	five := stateO().with(granted("1234567", 5), in())
	ten := stateO().with(granted("1234567890", 10), in())
	rows = append(rows, []row{
		{"PIN-65 P1=00 new PIN of 6 with 5 tries", five, reset(withNew, badCode+newPIN), "6A80", nil},
		{"PIN-65 P1=00 new PIN of 7 with 5 tries", five.with(nobody()), reset(withNew, code+"7654321"), "9000", []mod{pinIs("7654321")}},
		{"PIN-65 P1=00 new PIN of 7 with 10 tries", ten, reset(withNew, code+"7654321"), "6A80", nil},
		{"PIN-65 P1=00 new PIN of 8 with 10 tries", ten, reset(withNew, code+"87654321"), "9000", []mod{pinIs("87654321"), out()}},
		{"PIN-65 P1=02 new PIN of 6 with 5 tries", five.with(soIn()), reset(verifiedNew, newPIN), "6A80", nil},
		{"PIN-67 P1=02 new PIN of 6 with 5 tries, SO not verified", five, reset(verifiedNew, newPIN), "6A80", nil},
		{"PIN-65 P1=02 new PIN of 8 with 10 tries", ten.with(soIn()), reset(verifiedNew, "87654321"), "9000", []mod{pinIs("87654321"), out()}},
		{"PIN-68 P1=01 and P1=03 ask for no new PIN", ten.with(u(0), out()), reset(counter, code), "9000", []mod{u(10)}},
		{"PIN-66 P1=00 SO code wrong", stateO().with(in(), soIn(), u(1)), reset(withNew, badCode+newPIN), "63CE", []mod{s(14)}},
		{"PIN-66 P1=00 SO code wrong, last try", stateO().with(s(1)), reset(withNew, badCode+newPIN), "6983", []mod{s(0)}},
		{"PIN-66 P1=01 SO code wrong", stateB().with(in(), soIn(), s(9)), reset(counter, badCode), "63C8", []mod{s(8)}},
		{"PIN-66 P1=01 SO code wrong, last try", stateO().with(s(1)), reset(counter, badCode), "6983", []mod{s(0)}},
		{"PIN-67 P1=02 SO not verified", stateB().with(in()), reset(verifiedNew, newPIN), "6985", nil},
		{"PIN-67 P1=03 SO not verified", stateB().with(in()), reset(verifiedCtr, ""), "6985", nil},
		{"PIN-71 hex SO-PIN as ASCII", stateO(), reset(withNew, "3537363231383830"+newPIN), "63CE", []mod{s(14)}},
		{"PIN-67 verified SO does not help P1=00", stateO().with(soIn()), reset(withNew, badCode+newPIN), "63CE", []mod{s(14)}},
		{"06 added A2 an unblocked PIN does not bring a session PIN back", stateB().with(drawn(session)), series(reset(counter, code), verify(pinstate.User, session)), "6700", []mod{u(3), undrawn()}},
		{"06 added A2 a reset refused leaves the session PIN", stateO().with(in(), drawn(session)), series(reset(verifiedCtr, ""), verify(pinstate.User, session)), "9000", nil},
		{"06 added A2 a wrong SO-PIN leaves it, too", stateO().with(in(), drawn(session)), series(reset(withNew, badCode+newPIN), verify(pinstate.User, session)), "9000", []mod{s(14)}},
		{"APDU-14 no other P1", stateO().with(soIn()), reset(4, ""), "6A88", nil},
	}...)
	play(t, rows)
	_, err := stateO().Card.Reset(pinstate.Login{}, 0xFF, nil)
	require.ErrorIs(t, err, pinstate.ErrReference)
}

// order is a Setup that is fine.
func order(change ...func(*pinstate.Setup)) pinstate.Setup {
	s := pinstate.Setup{
		Options: pinstate.OptionResetEnabled, PIN: pinstate.Value(newPIN), SO: pinstate.Value(code), Tries: 2,
	}
	for _, c := range change {
		c(&s)
	}
	return s
}

func orderPIN(pin string, tries uint8) func(*pinstate.Setup) {
	return func(s *pinstate.Setup) { s.PIN, s.Tries = pinstate.Value(pin), tries }
}

func orderCode(code string) func(*pinstate.Setup) {
	return func(s *pinstate.Setup) { s.SO = pinstate.Value(code) }
}

func orderOptions(o pinstate.Options) func(*pinstate.Setup) {
	return func(s *pinstate.Setup) { s.Options = o }
}

func orderKeys(total, required uint8) func(*pinstate.Setup) {
	return func(s *pinstate.Setup) { s.Keys = pinstate.KeyPolicy{Total: total, Required: required} }
}

func noPIN(s *pinstate.Setup) { s.PIN = nil }

// made is what order makes of a card with the SO-PIN code.
func made() mod {
	return func(d *desk) { *d = stateO().with(granted(newPIN, 2), justUser()) }
}

func TestInitialise(t *testing.T) {
	rows := []row{
		{"PIN-13 never initialized", stateF(), initialise(order()), "9000", []mod{made()}},
		{"PIN-13 never initialized, any code", stateF(), initialise(order(orderCode(newCode))), "9000", []mod{made(), codeIs(newCode)}},
		{"PIN-13 never initialized, binary code and PIN", stateF(), initialise(order(orderCode("\x00\x11\x22\x33\x44\x55\x66\x77"), orderPIN("\x00\x11\x22\x33\x44\x55", 3))), "9000", []mod{made(), codeIs("\x00\x11\x22\x33\x44\x55\x66\x77"), granted("\x00\x11\x22\x33\x44\x55", 3)}},
		{"PIN-3 code equals", stateO().with(s(3)), initialise(order()), "9000", []mod{made()}},
		{"PIN-3 code equals, everybody logged in", stateO().with(in(), soIn(), keys(2), drawn(session)), initialise(order()), "9000", []mod{made()}},
		{"PIN-3 code equals, user PIN blocked", stateB(), initialise(order()), "9000", []mod{made()}},
		{"PIN-3 code equals, transport PIN pending", stateT(), initialise(order()), "9000", []mod{made()}},
		{"PIN-3 code equals, keys only", stateP(), initialise(order()), "9000", []mod{made()}},
		{"PIN-3 code equals, reset disabled", stateO().with(options(0)), initialise(order()), "9000", []mod{made()}},
		{"PIN-14 code differs", stateO().with(in(), soIn(), keys(1), drawn(session)), initialise(order(orderCode(badCode))), "63CE", []mod{s(14)}},
		{"PIN-15 code differs, last try", stateO().with(s(1)), initialise(order(orderCode(badCode))), "6983", []mod{s(0)}},
		{"PIN-1 S = 0", stateO().with(s(0), in()), initialise(order()), "6983", nil},
		{"PIN-1 S = 0, wrong", stateO().with(s(0)), initialise(order(orderCode(badCode))), "6983", nil},
		{"PIN-10 options verbatim", stateO(), initialise(order(orderOptions(0xF7ED))), "9000", []mod{made(), options(0xF7ED)}},
		{"PIN-36 transport option 02", stateO(), initialise(order(orderOptions(0x0003))), "9000", []mod{made(), options(0x0003), transport(true)}},
		{"PIN-36 transport option 02 without a PIN", stateF(), initialise(order(orderOptions(0x0003), noPIN, orderKeys(3, 2))), "9000", []mod{func(d *desk) { *d = stateP().with(options(0x0003), justUser()) }}},
		{"PKA-1 n/m from tag 93", stateO(), initialise(order(orderKeys(3, 2))), "9000", []mod{made(), policy(3, 2)}},
		{"PKA-1 n/m from tag 93, 90 of 90", stateO(), initialise(order(orderKeys(90, 90))), "9000", []mod{made(), policy(90, 90)}},
		{"PKA-1 n/m from tag 93, 1 of 1 without PIN", stateO(), initialise(order(noPIN, orderKeys(1, 1))), "9000", []mod{func(d *desk) { *d = stateP().with(policy(1, 1), justUser()) }}},
		{"PIN-17 keys no longer wanted", stateP(), initialise(order()), "9000", []mod{made()}},
	}
	// Tries of a user PIN by its length (PIN-5); 0 is a length that no
	// counter makes right.
	allowed := map[int]uint8{6: 3, 7: 5, 8: 10, 9: 10, 10: 10, 15: 10, 16: 10}
	for _, length := range []int{0, 1, 5, 6, 7, 8, 9, 10, 15, 16, 17, 255} {
		for _, tries := range []uint8{0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 15, 255} {
			p := strings.Repeat("5", length)
			word, then := "6A80", []mod(nil)
			if tries >= 1 && tries <= allowed[length] {
				word, then = "9000", []mod{made(), granted(p, tries)}
			}
			name := "PIN-5 length " + itoa(length) + " tries " + itoa(int(tries))
			rows = append(rows, row{name, stateO(), initialise(order(orderPIN(p, tries))), word, then})
		}
	}
	bad := map[string]struct {
		setup pinstate.Setup
		word  string
	}{
		"code of 7":          {order(orderCode("5762188")), "6700"},
		"code of 9":          {order(orderCode(code + "0")), "6700"},
		"no code":            {order(func(s *pinstate.Setup) { s.SO = nil }), "6700"},
		"PIN empty":          {order(orderPIN("", 3)), "6A80"},
		"PIN empty, keys":    {order(orderPIN("", 3), orderKeys(3, 2)), "6A80"},
		"neither PIN nor 93": {order(noPIN), "6A80"},
		"93 none of 3":       {order(orderKeys(3, 0)), "6A80"},
		"93 none of 3 alone": {order(noPIN, orderKeys(3, 0)), "6A80"},
		"93 1 of none":       {order(orderKeys(0, 1)), "6A80"},
		"93 4 of 3":          {order(orderKeys(3, 4)), "6A80"},
		"93 1 of 91":         {order(orderKeys(91, 1)), "6A80"},
		"93 4 of 3 alone":    {order(noPIN, orderKeys(3, 4)), "6A80"},
	}
	for name, b := range bad {
		rows = append(rows,
			row{"PIN-21 parameter error: " + name, stateO().with(in(), s(4)), initialise(b.setup), b.word, nil},
			row{"PIN-21 parameter error: " + name + ", S = 0", stateO().with(s(0)), initialise(b.setup), b.word, nil},
			row{"PIN-21 parameter error: " + name + ", never initialized", stateF(), initialise(b.setup), b.word, nil},
		)
	}
	play(t, rows)
}

func TestInitialise_ChargesOnlyWhereThereIsACode(t *testing.T) {
	first, err := stateF().Card.Initialise(order())
	require.NoError(t, err)
	require.False(t, first.Charges())
	again, err := stateO().Card.Initialise(order())
	require.NoError(t, err)
	require.True(t, again.Charges())
	require.Equal(t, stateO().with(s(14)).Card, again.Charged(), "nothing is erased before the code is compared")
}

func TestReset_ChargesOnlyWhereACodeIsPresented(t *testing.T) {
	for _, f := range resetForms {
		try, err := stateO().Card.Reset(pinstate.Login{SO: true}, f.mode, []byte(f.data))
		require.NoError(t, err)
		require.Equal(t, f.mode == withNew || f.mode == counter, try.Charges(), f.name)
	}
}

func TestVerify_BlockedUserPINChargesNothing(t *testing.T) {
	try, err := stateB().Card.Verify(pinstate.Login{User: true}, pinstate.User, []byte(pin))
	require.NoError(t, err)
	require.False(t, try.Charges())
	require.Equal(t, stateB().Card, try.Charged())
	card, login, err := try.Settle()
	require.ErrorIs(t, err, pinstate.ErrBlocked)
	require.Equal(t, stateB().Card, card)
	require.Zero(t, login)
}

func TestAuthenticated(t *testing.T) {
	play(t, []row{
		{"PKA-25 one of two", stateP(), authenticated(1), "9000", []mod{keys(1)}},
		{"PKA-25 two of two", stateP().with(keys(1)), authenticated(2), "9000", []mod{keys(2), inByKeys()}},
		{"PKA-25 more than required", stateP(), authenticated(3), "9000", []mod{keys(3), inByKeys()}},
		{"PKA-20 a new challenge keeps the login", stateP().with(keys(2), inByKeys()), authenticated(0), "9000", []mod{keys(0)}},
		{"PKA-20 a new challenge without a login", stateP().with(keys(1)), authenticated(0), "9000", []mod{keys(0)}},
		{"PKA-24 PIN or keys", either(), authenticated(2), "9000", []mod{keys(2), inByKeys()}},
		{"PKA-24 PIN or keys, too few", either(), authenticated(1), "9000", []mod{keys(1)}},
		{"PKA-24 PIN or keys, a verified PIN alone grants nothing here", either().with(pinOnly()), authenticated(1), "9000", []mod{keys(1)}},
		{"PKA-22 PIN and keys, PIN missing", both(), authenticated(2), "9000", []mod{keys(2)}},
		{"PKA-22 PIN and keys, PIN verified", both().with(pinOnly()), authenticated(2), "9000", []mod{keys(2), in()}},
		{"PKA-22 PIN and keys, PIN verified, too few", both().with(pinOnly()), authenticated(1), "9000", []mod{keys(1)}},
		{"PKA-22 option 10 without a PIN", stateP().with(options(0x0010)), authenticated(2), "9000", []mod{keys(2), inByKeys()}},
		{"PIN-34 auth and U = 0 cannot coexist", either().with(u(0)), authenticated(3), "9000", []mod{keys(3)}},
		{"PIN-31 transport PIN pending", either().with(transport(true)), authenticated(2), "9000", []mod{keys(2), inByKeys()}},
		{"no policy", stateO(), authenticated(0), "9000", nil},
		{"no policy, keys", stateO(), authenticated(90), "9000", []mod{keys(90)}},
		{"never initialized", stateF(), authenticated(0), "9000", nil},
	})
}
