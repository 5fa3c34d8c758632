package pinstate_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/pinstate"
)

const (
	pin     = "648219"
	newPIN  = "739104"
	badPIN  = "111111"
	code    = "57621880"
	newCode = "12345678"
	badCode = "00000000"
	session = "3141592653589793"
)

// desk is a card with somebody sitting in front of it.
type desk struct {
	Card  pinstate.Card
	Login pinstate.Login
}

// act carries a command out as the applet does, and answers its status word. It
// checks what holds for every command.
func (d *desk) act(t require.TestingT, try pinstate.Try, err error) string {
	if err != nil {
		require.Zero(t, try.Charged(), "a refusal carries no card")
		return word(t, err)
	}
	charged := try.Charged()
	if try.Charges() {
		require.NotEqual(t, d.Card, charged)
	} else {
		require.Equal(t, d.Card, charged)
	}
	card, login, err := try.Settle()
	if err != nil {
		require.Equal(t, charged, card, "an error leaves the card charged")
	}
	d.Card, d.Login = card, login
	return word(t, err)
}

// word is the status word that stands for an error in the specification.
func word(t require.TestingT, err error) string {
	var wrong pinstate.Wrong
	if errors.As(err, &wrong) {
		if wrong.Left == 0 {
			return "6983"
		}
		return fmt.Sprintf("63C%X", wrong.Left)
	}
	words := map[error]string{
		nil:                     "9000",
		pinstate.ErrUnset:       "6A88",
		pinstate.ErrBlocked:     "6983",
		pinstate.ErrTransport:   "6984",
		pinstate.ErrLength:      "6700",
		pinstate.ErrRule:        "6A80",
		pinstate.ErrForbidden:   "6985",
		pinstate.ErrKeysMissing: "6300",
		pinstate.ErrReference:   "6A88",
	}
	w, known := words[err]
	require.True(t, known, "unknown error %v", err)
	return w
}

// The try that empties a counter has the status word of a blocked PIN, but is
// another error: a wrong PIN, after which the card is blocked.
func TestWrong_TheLastTryIsNotYetABlockedPIN(t *testing.T) {
	commands := map[string]func(c pinstate.Card) (pinstate.Try, error){
		"VERIFY 81": func(c pinstate.Card) (pinstate.Try, error) {
			return c.Verify(pinstate.Login{}, pinstate.User, []byte(badPIN))
		},
		"CHANGE 81": func(c pinstate.Card) (pinstate.Try, error) {
			return c.Change(pinstate.Login{}, pinstate.User, []byte(badPIN+newPIN))
		},
		"VERIFY 88": func(c pinstate.Card) (pinstate.Try, error) {
			return c.Verify(pinstate.Login{}, pinstate.SO, []byte(badCode))
		},
		"CHANGE 88": func(c pinstate.Card) (pinstate.Try, error) {
			return c.Change(pinstate.Login{}, pinstate.SO, []byte(badCode+newCode))
		},
		"RESET P1=00": func(c pinstate.Card) (pinstate.Try, error) {
			return c.Reset(pinstate.Login{}, withNew, []byte(badCode+newPIN))
		},
		"RESET P1=01": func(c pinstate.Card) (pinstate.Try, error) {
			return c.Reset(pinstate.Login{}, counter, []byte(badCode))
		},
		"INITIALIZE": func(c pinstate.Card) (pinstate.Try, error) { return c.Initialise(order(orderCode(badCode))) },
	}
	for name, present := range commands {
		t.Run(name, func(t *testing.T) {
			settle := func(c pinstate.Card) (pinstate.Card, error) {
				try, err := present(c)
				if err != nil {
					return c, err
				}
				c, _, err = try.Settle()
				return c, err
			}
			blocked, err := settle(stateO().with(u(1), s(1)).Card)
			require.Equal(t, pinstate.Wrong{Left: 0}, err)
			_, err = settle(blocked)
			require.Equal(t, pinstate.ErrBlocked, err)
		})
	}
}

// event is something that happens to a desk; it answers the status word.
type event func(t require.TestingT, d *desk) string

func query(r pinstate.Ref) event {
	return func(t require.TestingT, d *desk) string { return word(t, d.Card.Status(d.Login, r)) }
}

func verify(r pinstate.Ref, presented string) event {
	return func(t require.TestingT, d *desk) string {
		try, err := d.Card.Verify(d.Login, r, []byte(presented))
		return d.act(t, try, err)
	}
}

func change(r pinstate.Ref, data string) event {
	return func(t require.TestingT, d *desk) string {
		try, err := d.Card.Change(d.Login, r, []byte(data))
		return d.act(t, try, err)
	}
}

func reset(m pinstate.ResetMode, data string) event {
	return func(t require.TestingT, d *desk) string {
		try, err := d.Card.Reset(d.Login, m, []byte(data))
		return d.act(t, try, err)
	}
}

func initialise(s pinstate.Setup) event {
	return func(t require.TestingT, d *desk) string {
		s.Login = d.Login
		try, err := d.Card.Initialise(s)
		return d.act(t, try, err)
	}
}

func authenticated(keys uint8) event {
	return func(_ require.TestingT, d *desk) string {
		d.Login = d.Card.Authenticated(d.Login, keys)
		return "9000"
	}
}

func cleared() event {
	return func(_ require.TestingT, d *desk) string {
		d.Login = d.Login.Cleared()
		return "9000"
	}
}

// mod changes one thing about a desk, to say how a case starts or what it
// leaves.
type mod func(*desk)

func (d desk) with(mods ...mod) desk {
	for _, m := range mods {
		m(&d)
	}
	return d
}

func u(n uint8) mod { return func(d *desk) { d.Card.User.Left = n } }
func s(n uint8) mod { return func(d *desk) { d.Card.SO.Left = n } }
func pinIs(v string) mod {
	return func(d *desk) { d.Card.User.Value = pinstate.Value(v) }
}

// granted is a user PIN of that length and number of tries since INITIALIZE.
func granted(v string, tries uint8) mod {
	return func(d *desk) {
		d.Card.User = pinstate.Reference{Value: pinstate.Value(v), Left: tries, Max: tries}
		d.Card.MinLength = uint8(len(v))
	}
}

func codeIs(v string) mod            { return func(d *desk) { d.Card.SO.Value = pinstate.Value(v) } }
func options(o pinstate.Options) mod { return func(d *desk) { d.Card.Options = o } }
func transport(pending bool) mod     { return func(d *desk) { d.Card.Transport = pending } }
func policy(total, required uint8) mod {
	return func(d *desk) { d.Card.Keys = pinstate.KeyPolicy{Total: total, Required: required} }
}

func in() mod            { return func(d *desk) { d.Login.User, d.Login.PIN = true, true } }
func inByKeys() mod      { return func(d *desk) { d.Login.User = true } }
func pinOnly() mod       { return func(d *desk) { d.Login.User, d.Login.PIN = false, true } }
func out() mod           { return func(d *desk) { d.Login.User, d.Login.PIN = false, false } }
func soIn() mod          { return func(d *desk) { d.Login.SO = true } }
func soOut() mod         { return func(d *desk) { d.Login.SO = false } }
func keys(n uint8) mod   { return func(d *desk) { d.Login.Keys = n } }
func drawn(v string) mod { return func(d *desk) { d.Login.Session = pinstate.Value(v) } }
func undrawn() mod       { return func(d *desk) { d.Login.Session = nil } }
func nobody() mod        { return func(d *desk) { d.Login = pinstate.Login{} } }
func justUser() mod      { return func(d *desk) { d.Login = pinstate.Login{User: true} } }

// The states of PIN-74, written down and not computed.
func stateF() desk { return desk{} }

func stateO() desk {
	return desk{Card: pinstate.Card{
		Initialised: true,
		Options:     0x0001,
		SO:          pinstate.Reference{Value: pinstate.Value(code), Left: 15, Max: 15},
		User:        pinstate.Reference{Value: pinstate.Value(pin), Left: 3, Max: 3},
		MinLength:   6,
	}}
}

func stateT() desk { return stateO().with(options(0x0003), transport(true)) }
func stateB() desk { return stateO().with(u(0)) }

func stateP() desk {
	d := stateO().with(policy(3, 2))
	d.Card.User, d.Card.MinLength = pinstate.Reference{}, 0
	return d
}

// both is a card that wants the PIN and two of three keys.
func both() desk { return stateO().with(options(0x0011), policy(3, 2)) }

// either is a card that is content with the PIN or two of three keys.
func either() desk { return stateO().with(policy(3, 2)) }

// row is a line of a table of the specification: in the state from, event
// answers word and leaves from as changed by then, and nothing else changed.
type row struct {
	name  string
	from  desk
	event event
	word  string
	then  []mod
}

func play(t *testing.T, rows []row) {
	t.Helper()
	names := map[string]bool{}
	for _, r := range rows {
		require.False(t, names[r.name], "two rows are called %s", r.name)
		names[r.name] = true
		t.Run(r.name, func(t *testing.T) {
			d, want := r.from, r.from.with(r.then...)
			require.Equal(t, r.word, r.event(t, &d))
			require.Equal(t, want, d)
		})
	}
}

func TestStatus_AnswersTheQueries(t *testing.T) {
	play(t, []row{
		{"PIN-28 never initialized", stateF(), query(pinstate.User), "6A88", nil},
		{"PIN-28 never initialized comes before auth", stateF().with(in()), query(pinstate.User), "6A88", nil},
		{"PIN-31 transport PIN not yet changed", stateT(), query(pinstate.User), "6984", nil},
		{"PIN-30 auth set", stateO().with(in()), query(pinstate.User), "9000", nil},
		{"PIN-30 auth comes before transport", stateT().with(justUser()), query(pinstate.User), "9000", nil},
		{"PIN-33 not authenticated, 3 left", stateO(), query(pinstate.User), "63C3", nil},
		{"PIN-33 not authenticated, 1 left", stateO().with(u(1)), query(pinstate.User), "63C1", nil},
		{"PIN-33 not authenticated, 10 left", stateO().with(granted("12345678", 10)), query(pinstate.User), "63CA", nil},
		{"PIN-32 U = 0", stateB(), query(pinstate.User), "6983", nil},
		{"PIN-32 transport comes before U = 0", stateT().with(u(0)), query(pinstate.User), "6984", nil},
		{"PKA-25 PKA only, no keys", stateP(), query(pinstate.User), "6300", nil},
		{"PKA-25 PKA only, not enough keys", stateP().with(keys(1)), query(pinstate.User), "6300", nil},
		{"PKA-25 PKA only, logged in", stateP().with(keys(2), inByKeys()), query(pinstate.User), "9000", nil},
		{"PKA-23 PIN and PKA, PIN ok but keys missing", both().with(pinOnly(), keys(1)), query(pinstate.User), "6300", nil},
		{"PKA-23 PIN and PKA, PIN not yet verified", both().with(keys(2)), query(pinstate.User), "63C3", nil},
		{"PKA-23 PIN and PKA, both", both().with(in(), keys(2)), query(pinstate.User), "9000", nil},
		{"PKA-24 PIN or PKA, nobody", either().with(keys(1)), query(pinstate.User), "63C3", nil},
		{"PKA-24 PIN or PKA, logged in", either().with(keys(2), inByKeys()), query(pinstate.User), "9000", nil},
		{"PIN-43 neither PIN nor PKA, as no command makes it", stateP().with(policy(0, 0)), query(pinstate.User), "6A88", nil},
		{"PIN-33 SO is not the user", stateO().with(soIn()), query(pinstate.User), "63C3", nil},

		{"PIN-44 query, never initialized", stateF(), query(pinstate.SO), "6A88", nil},
		{"PIN-44 query, S = 0", stateO().with(s(0)), query(pinstate.SO), "6983", nil},
		{"PIN-44 query, S = 0 comes before SO verified", stateO().with(s(0), soIn()), query(pinstate.SO), "6983", nil},
		{"PIN-44 query, not verified", stateO(), query(pinstate.SO), "63CF", nil},
		{"PIN-44 query, 7 left", stateO().with(s(7)), query(pinstate.SO), "63C7", nil},
		{"PIN-44 query, the user is not SO", stateO().with(in()), query(pinstate.SO), "63CF", nil},
		{"PIN-44 query, SO verified", stateO().with(soIn()), query(pinstate.SO), "9000", nil},

		{"PIN-48 P2 85", stateO(), query(0x85), "6A88", nil},
		{"PIN-48 P2 86 logged in", stateO().with(in(), soIn()), query(0x86), "6A88", nil},
		{"PIN-49 P2 00", stateO(), query(0x00), "6A88", nil},
	})
	require.ErrorIs(t, stateO().Card.Status(pinstate.Login{}, 0x85), pinstate.ErrReference)
	require.ErrorIs(t, stateP().with(policy(0, 0)).Card.Status(pinstate.Login{}, pinstate.User), pinstate.ErrUnset)
	require.ErrorIs(t, stateF().Card.Status(pinstate.Login{}, pinstate.User), pinstate.ErrUnset)
}

func TestVerify_User(t *testing.T) {
	const user = pinstate.User
	play(t, []row{
		{"PIN-35 never initialized", stateF(), verify(user, pin), "6A88", nil},
		{"PIN-36 transport PIN pending, correct", stateT(), verify(user, pin), "6984", nil},
		{"PIN-36 transport PIN pending, wrong", stateT().with(in()), verify(user, badPIN), "6984", nil},
		{"PIN-36 transport PIN pending, other length", stateT(), verify(user, "1"), "6984", nil},
		{"PIN-36 transport PIN pending, blocked", stateT().with(u(0)), verify(user, pin), "6984", nil},
		{"PIN-37 length differs, shorter", stateO().with(in(), u(2)), verify(user, "64821"), "6700", nil},
		{"PIN-37 length differs, longer", stateO().with(in(), u(2)), verify(user, pin+"0"), "6700", nil},
		{"PIN-37 length differs, nothing", stateO(), verify(user, ""), "6700", nil},
		{"PIN-37 length differs, over 16", stateO(), verify(user, "12345678901234567"), "6700", nil},
		{"PIN-37 length comes before U = 0", stateB().with(in()), verify(user, "64821"), "6700", nil},
		{"PIN-38 U = 0, correct", stateB().with(in(), soIn(), keys(1), drawn(session)), verify(user, pin), "6983", []mod{out()}},
		{"PIN-38 U = 0, wrong", stateB().with(in()), verify(user, badPIN), "6983", []mod{out()}},
		{"PIN-39 wrong PIN, U > 1", stateO().with(in()), verify(user, badPIN), "63C2", []mod{u(2), out()}},
		{"PIN-39 wrong PIN, U > 1, others stay", stateO().with(soIn(), keys(1), drawn(session)), verify(user, badPIN), "63C2", []mod{u(2)}},
		{"PIN-40 wrong PIN, U = 1", stateO().with(u(1), in()), verify(user, badPIN), "6983", []mod{u(0), out()}},
		{"PIN-39 wrong PIN, last byte only", stateO(), verify(user, "648218"), "63C2", []mod{u(2)}},
		{"PIN-42 correct", stateO(), verify(user, pin), "9000", []mod{in()}},
		{"PIN-42 correct, U was 1", stateO().with(u(1)), verify(user, pin), "9000", []mod{u(3), in()}},
		{"PIN-42 correct, U was 9 of 10", stateO().with(granted("12345678", 10), u(9)), verify(user, "12345678"), "9000", []mod{u(10), in()}},
		{"PIN-42 correct, again", stateO().with(u(2), in(), soIn()), verify(user, pin), "9000", []mod{u(3)}},
		{"PIN-42 correct, SO blocked", stateO().with(s(0)), verify(user, pin), "9000", []mod{in()}},
		{"PIN-39 the SO-PIN is not a user PIN", stateO().with(granted("12345678", 3)), verify(user, code), "63C2", []mod{u(2)}},

		{"PKA-22 0010 PIN without keys", both(), verify(user, pin), "9000", []mod{pinOnly()}},
		{"PKA-22 0010 PIN with too few keys", both().with(keys(1), u(1)), verify(user, pin), "9000", []mod{u(3), pinOnly()}},
		{"PKA-22 0010 PIN after the keys", both().with(keys(2)), verify(user, pin), "9000", []mod{in()}},
		{"PKA-22 0010 PIN after INITIALIZE", both().with(justUser()), verify(user, pin), "9000", []mod{in()}},
		{"PKA-22 0010 wrong PIN", both().with(in(), keys(2)), verify(user, badPIN), "63C2", []mod{u(2), out()}},
		{"PKA-24 0010 not configured for keys", stateO().with(options(0x0010)), verify(user, pin), "9000", []mod{in()}},
		{"PKA-24 PIN or keys, PIN", either(), verify(user, pin), "9000", []mod{in()}},

		{"SM-41 session PIN", stateO().with(drawn(session)), verify(user, session), "9000", []mod{in()}},
		{"SM-41 session PIN does not restore the counter", stateO().with(drawn(session), u(1)), verify(user, session), "9000", []mod{in()}},
		{"SM-41 wrong session PIN", stateO().with(drawn(session), in()), verify(user, "3141592653589794"), "63C2", []mod{u(2), out()}},
		{"SM-41 wrong session PIN, last try", stateO().with(drawn(session), u(1), in()), verify(user, "3141592653589794"), "6983", []mod{u(0), out()}},
		{"SM-42 session PIN, U = 0", stateB().with(drawn(session)), verify(user, session), "6983", nil},
		{"SM-41 user PIN beside a session PIN", stateO().with(drawn(session), u(1)), verify(user, pin), "9000", []mod{u(3), in()}},
		{"SM-41 length of neither", stateO().with(drawn(session)), verify(user, "3141592"), "6700", nil},
		{"SM-41 length of a session PIN, none drawn", stateO(), verify(user, session), "6700", nil},
		{"SM-41 nothing, none drawn", stateO(), verify(user, ""), "6700", nil},
		{"SM-41 session PIN of the PIN's length", stateO().with(drawn(newPIN), u(2)), verify(user, newPIN), "9000", []mod{in()}},
		{"SM-41 session PIN equal to the PIN", stateO().with(drawn(pin), u(2)), verify(user, pin), "9000", []mod{u(3), in()}},
		{"SM-41 session PIN and keys", both().with(drawn(session)), verify(user, session), "9000", []mod{pinOnly()}},

		{"PIN-48 P2 85", stateO().with(in()), verify(0x85, pin), "6A88", nil},
		{"PIN-49 P2 00", stateF(), verify(0x00, pin), "6A88", nil},
	})
	_, err := stateO().Card.Verify(pinstate.Login{}, 0x85, []byte(pin))
	require.ErrorIs(t, err, pinstate.ErrReference)
}

func TestVerify_SO(t *testing.T) {
	const so = pinstate.SO
	play(t, []row{
		{"PIN-44 never initialized", stateF(), verify(so, code), "6A88", nil},
		{"PIN-1 S = 0", stateO().with(s(0), soIn(), in()), verify(so, code), "6983", nil},
		{"PIN-1 S = 0 comes before the length", stateO().with(s(0)), verify(so, "1"), "6983", nil},
		{"PIN-45 wrong", stateO().with(soIn(), in(), keys(1)), verify(so, badCode), "63CE", []mod{s(14), soOut()}},
		{"PIN-47 wrong, last try", stateO().with(s(1)), verify(so, badCode), "6983", []mod{s(0)}},
		{"PIN-45 correct", stateO(), verify(so, code), "9000", []mod{soIn()}},
		{"PIN-3 correct, S was 1", stateO().with(s(1), in(), u(2)), verify(so, code), "9000", []mod{s(15), soIn()}},
		{"PIN-45 correct, user PIN blocked", stateB(), verify(so, code), "9000", []mod{soIn()}},
		{"PIN-45 correct, transport PIN pending", stateT(), verify(so, code), "9000", []mod{soIn()}},
		{"PIN-45 length 7", stateO().with(soIn()), verify(so, "5762188"), "6700", nil},
		{"PIN-45 length 9", stateO().with(soIn()), verify(so, code+"0"), "6700", nil},
		{"PIN-45 length 0", stateO(), verify(so, ""), "6700", nil},
		{"PIN-45 hex of the code", stateO(), verify(so, "3537363231383830"), "6700", nil},
		{"SM-41 a session PIN is not an SO-PIN", stateO().with(drawn(newCode)), verify(so, newCode), "63CE", []mod{s(14)}},
	})
}

// Shows SM-39.
func TestChange(t *testing.T) {
	const user, so = pinstate.User, pinstate.SO
	ten := stateO().with(granted("1234567890", 10))
	play(t, []row{
		{"PIN-50 81 never initialized", stateF(), change(user, pin+newPIN), "6A88", nil},
		{"PIN-43 81 no PIN defined", stateP().with(in()), change(user, pin+newPIN), "6A88", nil},
		{"PIN-50 81 U = 0", stateB().with(in(), soIn()), change(user, pin+newPIN), "6983", []mod{out()}},
		{"PIN-50 81 U = 0 comes before the length", stateB().with(in()), change(user, "1"), "6983", []mod{out()}},
		{"PIN-58 81 U = 0, transport PIN", stateT().with(u(0)), change(user, pin+newPIN), "6983", nil},
		{"PIN-52 81 new PIN of 5", stateO().with(in()), change(user, pin+"12345"), "6A80", nil},
		{"PIN-52 81 new PIN of 17", stateO().with(in()), change(user, pin+"12345678901234567"), "6A80", nil},
		{"PIN-52 81 no new PIN", stateO(), change(user, pin), "6A80", nil},
		{"PIN-52 81 shorter than the old PIN", stateO(), change(user, "123"), "6A80", nil},
		{"PIN-52 81 nothing", stateO(), change(user, ""), "6A80", nil},
		{"PIN-51 81 shorter than at INITIALIZE", ten, change(user, "1234567890"+"12345678"), "6A80", nil},
		{"PIN-51 81 shorter than at INITIALIZE, old PIN wrong", ten, change(user, "0000000000"+"12345678"), "6A80", nil},
		{"PIN-51 81 as long as at INITIALIZE, after a longer one", ten.with(pinIs("123456789012")), change(user, "123456789012"+"0987654321"), "9000", []mod{pinIs("0987654321"), in()}},
		{"PIN-50 81 old PIN wrong", stateO().with(in(), soIn()), change(user, badPIN+newPIN), "63C2", []mod{u(2), out()}},
		{"PIN-50 81 old PIN wrong, last try", stateO().with(u(1), in()), change(user, badPIN+newPIN), "6983", []mod{u(0), out()}},
		{"PIN-54 81 ok", stateO(), change(user, pin+newPIN), "9000", []mod{pinIs(newPIN), in()}},
		{"PIN-54 81 ok, counter restored", stateO().with(u(1), soIn(), drawn(session)), change(user, pin+newPIN), "9000", []mod{pinIs(newPIN), u(3), in(), undrawn()}},
		{"06 added A2 a change ends the session PIN", stateO().with(in(), drawn(session)), series(change(user, pin+newPIN), verify(user, session)), "6700", []mod{pinIs(newPIN), undrawn()}},
		{"06 added A2 a change refused does not", stateO().with(in(), drawn(session)), series(change(user, pin+"12345"), verify(user, session)), "9000", nil},
		{"06 added A2 a change with a wrong PIN does not", stateO().with(in(), drawn(session)), series(change(user, badPIN+newPIN), verify(user, session)), "9000", []mod{u(2)}},
		{"06 added A2 a change of the transport PIN ends it", stateT().with(drawn(session)), series(change(user, pin+newPIN), verify(user, session)), "6700", []mod{pinIs(newPIN), transport(false), in(), undrawn()}},
		{"06 added A2 a change of the SO-PIN does not", stateO().with(in(), drawn(session)), series(change(so, code+newCode), verify(user, session)), "9000", []mod{codeIs(newCode)}},
		{"PIN-54 81 ok, 16 bytes", stateO(), change(user, pin+"1234567890123456"), "9000", []mod{pinIs("1234567890123456"), in()}},
		{"PIN-54 81 ok, the same PIN", stateO(), change(user, pin+pin), "9000", []mod{in()}},
		{"PKA-22 81 ok, keys required too", both(), change(user, pin+newPIN), "9000", []mod{pinIs(newPIN), pinOnly()}},
		{"PKA-22 81 ok, keys there", both().with(keys(2)), change(user, pin+newPIN), "9000", []mod{pinIs(newPIN), in()}},
		{"SM-41 81 the session PIN is not an old PIN", stateO().with(drawn("271828")), change(user, "271828"+newPIN), "63C2", []mod{u(2)}},
		{"PIN-56 81 transport, ok", stateT().with(u(1)), change(user, pin+newPIN), "9000", []mod{pinIs(newPIN), u(3), transport(false), in()}},
		{"PIN-57 81 transport, new PIN the same", stateT().with(u(2), justUser()), change(user, pin+pin), "6A80", nil},
		{"PIN-57 81 transport, both halves the same wrong PIN", stateT().with(u(2)), change(user, badPIN+badPIN), "6A80", nil},
		{"PIN-56 81 transport, wrong", stateT().with(justUser()), change(user, badPIN+newPIN), "63C2", []mod{u(2), out()}},
		{"PIN-56 81 transport, new PIN too short", stateT(), change(user, pin+"12345"), "6A80", nil},
		{"PIN-56 81 transport, new PIN is what the transport PIN was not", stateT(), change(user, badPIN+pin), "63C2", []mod{u(2)}},

		{"PIN-59 88 never initialized", stateF(), change(so, code+newCode), "6A88", nil},
		{"PIN-59 88 S = 0", stateO().with(s(0), in()), change(so, code+newCode), "6983", nil},
		{"PIN-59 88 S = 0 comes before the length", stateO().with(s(0)), change(so, "1"), "6983", nil},
		{"PIN-59 88 Lc 15", stateO(), change(so, code+"1234567"), "6700", nil},
		{"PIN-59 88 Lc 17", stateO(), change(so, code+newCode+"0"), "6700", nil},
		{"PIN-59 88 Lc 8", stateO(), change(so, code), "6700", nil},
		{"PIN-59 88 Lc 0", stateO(), change(so, ""), "6700", nil},
		{"PIN-59 88 old wrong", stateO().with(in(), soIn(), keys(1)), change(so, badCode+newCode), "63CE", []mod{s(14)}},
		{"PIN-59 88 old wrong, last try", stateO().with(s(1)), change(so, badCode+newCode), "6983", []mod{s(0)}},
		{"PIN-59 88 ok", stateO().with(s(3)), change(so, code+newCode), "9000", []mod{codeIs(newCode), s(15)}},
		{"PIN-59 88 ok, login stays", stateO().with(in(), soIn()), change(so, code+newCode), "9000", []mod{codeIs(newCode)}},
		{"PIN-49 other", stateO().with(in()), change(0x85, code+newCode), "6A88", nil},
	})
	_, err := stateO().Card.Change(pinstate.Login{}, 0x85, []byte(pin+newPIN))
	require.ErrorIs(t, err, pinstate.ErrReference)
}
