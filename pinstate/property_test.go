package pinstate_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hsmemu/pinstate"
)

// The pools are small, so that random guesses are often right and random new
// PINs often break a rule.
var (
	somePINs = rapid.SampledFrom([]string{
		pin, newPIN, badPIN, "1234567", "7654321", code, "1234567890", "1234567890123456", "12345", "12345678901234567", "",
	})
	goodPINs     = rapid.SampledFrom([]string{pin, newPIN, "1234567", "12345678", "1234567890", "1234567890123456"})
	someCodes    = rapid.SampledFrom([]string{code, newCode, code, newCode, code, newCode, "1234567", ""})
	goodCodes    = rapid.SampledFrom([]string{code, newCode})
	someSessions = rapid.SampledFrom([]string{"", session, newPIN, pin, code})
	someOptions  = rapid.SampledFrom([]pinstate.Options{0x0001, 0x0000, 0x0021, 0x0003, 0x0011, 0x0013, 0x0005, 0x0020, 0xFFFF})
	someModes    = rapid.SampledFrom([]pinstate.ResetMode{withNew, counter, verifiedNew, verifiedCtr, withNew, counter, 4})
	someRefs     = rapid.SampledFrom([]pinstate.Ref{pinstate.User, pinstate.User, pinstate.SO, pinstate.SO, 0x85})
	somePolicies = rapid.SampledFrom([]pinstate.KeyPolicy{{}, {}, {Total: 3, Required: 2}, {Total: 1, Required: 1}})
)

// drawDesk is any desk that commands can lead to, and many that they cannot.
func drawDesk(t *rapid.T) desk {
	var d desk
	if rapid.IntRange(0, 9).Draw(t, "initialised") > 0 {
		d.Card.Initialised = true
		d.Card.Options = someOptions.Draw(t, "options")
		d.Card.Keys = somePolicies.Draw(t, "keys")
		d.Card.SO = pinstate.Reference{
			Value: pinstate.Value(goodCodes.Draw(t, "SO-PIN")), Left: rapid.Uint8Range(0, 15).Draw(t, "S"), Max: 15,
		}
		if d.Card.Keys == (pinstate.KeyPolicy{}) || rapid.Bool().Draw(t, "with PIN") {
			most := rapid.Uint8Range(1, 10).Draw(t, "Umax")
			d.Card.User = pinstate.Reference{
				Value: pinstate.Value(goodPINs.Draw(t, "user PIN")), Left: rapid.Uint8Range(0, most).Draw(t, "U"), Max: most,
			}
			d.Card.MinLength = rapid.Uint8Range(6, 16).Draw(t, "length at INITIALIZE")
			d.Card.Transport = d.Card.Options.Has(pinstate.OptionTransportPIN) && rapid.Bool().Draw(t, "transport")
		}
	}
	d.Login = pinstate.Login{
		User: rapid.Bool().Draw(t, "logged in"),
		PIN:  rapid.Bool().Draw(t, "PIN verified"),
		SO:   rapid.Bool().Draw(t, "SO verified"),
		Keys: rapid.Uint8Range(0, 3).Draw(t, "keys authenticated"),
	}
	if s := someSessions.Draw(t, "session PIN"); s != "" {
		d.Login.Session = pinstate.Value(s)
	}
	return d
}

// guess is a command whose data holds a guess; its other parameters are fixed.
type guess struct {
	right []byte
	try   func(guess []byte) (pinstate.Try, error)
}

// drawGuess is any command that compares a secret.
func drawGuess(t *rapid.T, d desk) guess {
	c, l := d.Card, d.Login
	after := func(tail string) func([]byte) []byte {
		return func(g []byte) []byte { return append(slices.Clone(g), tail...) }
	}
	switch rapid.IntRange(0, 6).Draw(t, "command") {
	case 0:
		return guess{c.User.Value, func(g []byte) (pinstate.Try, error) { return c.Verify(l, pinstate.User, g) }}
	case 1:
		return guess{c.SO.Value, func(g []byte) (pinstate.Try, error) { return c.Verify(l, pinstate.SO, g) }}
	case 2:
		data := after(goodPINs.Draw(t, "new PIN"))
		return guess{c.User.Value, func(g []byte) (pinstate.Try, error) { return c.Change(l, pinstate.User, data(g)) }}
	case 3:
		data := after(goodCodes.Draw(t, "new SO-PIN"))
		return guess{c.SO.Value, func(g []byte) (pinstate.Try, error) { return c.Change(l, pinstate.SO, data(g)) }}
	case 4:
		data := after(goodPINs.Draw(t, "new PIN"))
		return guess{c.SO.Value, func(g []byte) (pinstate.Try, error) { return c.Reset(l, withNew, data(g)) }}
	case 5:
		return guess{c.SO.Value, func(g []byte) (pinstate.Try, error) { return c.Reset(l, counter, g) }}
	}
	s := drawSetup(t)
	return guess{c.SO.Value, func(g []byte) (pinstate.Try, error) {
		s.SO = g
		s.Login = l
		return c.Initialise(s)
	}}
}

func drawSetup(t *rapid.T) pinstate.Setup {
	s := pinstate.Setup{
		Options: someOptions.Draw(t, "options"),
		SO:      pinstate.Value(someCodes.Draw(t, "code")),
		Tries:   rapid.Uint8Range(0, 11).Draw(t, "tries"),
		Keys:    somePolicies.Draw(t, "policy"),
	}
	if rapid.IntRange(0, 3).Draw(t, "has PIN") > 0 {
		s.PIN = pinstate.Value(somePINs.Draw(t, "PIN"))
	}
	return s
}

// TestTry_ChargesTheSameForRightAndWrong is I4: what must be durable before the
// comparison says nothing about its result and has exactly one try less.
//
// Shows PIN-7.
func TestTry_ChargesTheSameForRightAndWrong(t *testing.T) {
	charged := 0
	rapid.Check(t, func(t *rapid.T) {
		d := drawDesk(t)
		g := drawGuess(t, d)
		wrong := slices.Clone(g.right)
		if len(wrong) > 0 {
			i := rapid.IntRange(0, len(wrong)-1).Draw(t, "wrong byte")
			wrong[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "wrong bit")
		}
		if d.Login.Session != nil && slices.Equal(wrong, d.Login.Session) {
			t.Skip("that is the session PIN")
		}
		r, rErr := g.try(g.right)
		w, wErr := g.try(wrong)
		if d.Card.Transport && errors.Is(rErr, pinstate.ErrRule) != errors.Is(wErr, pinstate.ErrRule) {
			// One of the guesses equals the new PIN. That is seen in the data
			// alone, before anything is compared with the card.
			return
		}
		require.Equal(t, rErr, wErr)
		require.Equal(t, r.Charges(), w.Charges())
		require.Equal(t, r.Charged(), w.Charged())
		if rErr != nil || !r.Charges() {
			return
		}
		charged++
		after := d.Card
		switch {
		case r.Charged().User.Left != d.Card.User.Left:
			after.User.Left--
		default:
			after.SO.Left--
		}
		require.Equal(t, after, r.Charged())

		_, _, err := r.Settle()
		require.NoError(t, err)
		card, _, err := w.Settle()
		require.ErrorAs(t, err, new(pinstate.Wrong))
		require.Equal(t, after, card)
	})
	require.NotZero(t, charged, "no command charged a try")
}

// TestCounters_RiseOnlyByAMatch presents wrong secrets only. Whatever is tried,
// no counter rises, and nothing else about the card changes.
func TestCounters_RiseOnlyByAMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDesk(t)
		d.Login = pinstate.Login{}
		if !d.Card.Initialised {
			t.Skip("the first code is right by definition")
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			before := d
			g := drawGuess(t, d)
			presented := rapid.SliceOfN(rapid.Byte(), len(g.right), len(g.right)).Draw(t, "guess")
			if slices.Equal(presented, g.right) {
				continue
			}
			try, err := g.try(presented)
			d.act(t, try, err)
			require.LessOrEqual(t, d.Card.User.Left, before.Card.User.Left)
			require.LessOrEqual(t, d.Card.SO.Left, before.Card.SO.Left)
			spent := before.Card.User.Left - d.Card.User.Left + before.Card.SO.Left - d.Card.SO.Left
			require.LessOrEqual(t, spent, uint8(1))
			before.Card.User.Left, before.Card.SO.Left = d.Card.User.Left, d.Card.SO.Left
			require.Equal(t, before.Card, d.Card)
		}
		require.Zero(t, d.Login)
	})
}

// TestSOCounter_RisesOnlyByTheRightCode looks at commands of every kind.
func TestSOCounter_RisesOnlyByTheRightCode(t *testing.T) {
	rose := 0
	rapid.Check(t, func(t *rapid.T) {
		d := drawDesk(t)
		if !d.Card.Initialised {
			t.Skip("there is no SO-PIN yet")
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			before := d
			c := drawCommand(t)
			word := c.run(t, &d)
			if d.Card.SO.Left <= before.Card.SO.Left {
				continue
			}
			rose++
			require.Equal(t, "9000", word)
			require.NotZero(t, before.Card.SO.Left, "a blocked SO-PIN stays blocked")
			require.Equal(t, uint8(15), d.Card.SO.Left)
			require.Equal(t, string(before.Card.SO.Value), c.code, "%s without the code", c.name)
		}
	})
	require.NotZero(t, rose, "the counter never rose")
}

// TestLogin_NeverStandsBesideABlockedPIN is PIN-34.
func TestLogin_NeverStandsBesideABlockedPIN(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDesk(t)
		if d.Card.User.Value != nil && d.Card.User.Left == 0 {
			d.Login.User, d.Login.PIN = false, false
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			drawCommand(t).run(t, &d)
			if d.Login.User && d.Card.User.Value != nil {
				require.NotZero(t, d.Card.User.Left)
			}
		}
	})
}

// TestCard_IsAValue checks that commands leave their receiver and their data
// alone, and that later changes of the data do not reach the card.
func TestCard_IsAValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDesk(t)
		before := clone(d)
		g := drawGuess(t, d)
		data := slices.Clone(g.right)
		try, err := g.try(data)
		require.Equal(t, before, d)
		require.Equal(t, string(g.right), string(data))
		if err != nil {
			return
		}
		for i := range data {
			data[i] = ^data[i]
		}
		first, login, err := try.Settle()
		require.NoError(t, ignoring(err, pinstate.ErrBlocked), "the Try follows its caller's bytes")
		again, loginAgain, errAgain := try.Settle()
		require.Equal(t, first, again)
		require.Equal(t, login, loginAgain)
		require.Equal(t, err, errAgain)
		require.Equal(t, before, d)
	})
}

func TestInitialise_KeepsNoBytesOfItsCaller(t *testing.T) {
	s := order()
	try, err := stateF().Card.Initialise(s)
	require.NoError(t, err)
	s.PIN[0], s.SO[0] = 'x', 'x'
	card, _, err := try.Settle()
	require.NoError(t, err)
	require.Equal(t, stateO().with(made()).Card, card)
}

func TestChangeAndReset_KeepNoBytesOfTheirCaller(t *testing.T) {
	for name, run := range map[string]func(c pinstate.Card, data []byte) (pinstate.Try, error){
		pin + newPIN: func(c pinstate.Card, data []byte) (pinstate.Try, error) {
			return c.Change(pinstate.Login{}, pinstate.User, data)
		},
		code + newCode: func(c pinstate.Card, data []byte) (pinstate.Try, error) {
			return c.Change(pinstate.Login{}, pinstate.SO, data)
		},
		code + newPIN: func(c pinstate.Card, data []byte) (pinstate.Try, error) {
			return c.Reset(pinstate.Login{}, withNew, data)
		},
		newPIN: func(c pinstate.Card, data []byte) (pinstate.Try, error) {
			return c.Reset(pinstate.Login{SO: true}, verifiedNew, data)
		},
	} {
		data := []byte(name)
		try, err := run(stateO().Card, data)
		require.NoError(t, err)
		clear(data)
		card, _, err := try.Settle()
		require.NoError(t, err)
		require.NotContains(t, string(card.User.Value)+string(card.SO.Value), "\x00")
	}
}

func ignoring(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

func clone(d desk) desk {
	d.Card.User.Value = slices.Clone(d.Card.User.Value)
	d.Card.SO.Value = slices.Clone(d.Card.SO.Value)
	d.Login.Session = slices.Clone(d.Login.Session)
	return d
}

// TestCard_StandsAnyContent feeds cards that no command can make, as a damaged
// state file might hold them: nothing may panic.
func TestCard_StandsAnyContent(t *testing.T) {
	value := rapid.Custom(func(t *rapid.T) pinstate.Value {
		return rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "value")
	})
	reference := rapid.Custom(func(t *rapid.T) pinstate.Reference {
		return pinstate.Reference{
			Value: rapid.OneOf(value, rapid.Just(pinstate.Value(nil))).Draw(t, "value"),
			Left:  rapid.Uint8().Draw(t, "left"), Max: rapid.Uint8().Draw(t, "max"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		d := desk{Card: pinstate.Card{
			Initialised: rapid.Bool().Draw(t, "initialised"),
			Options:     pinstate.Options(rapid.Uint16().Draw(t, "options")),
			SO:          reference.Draw(t, "SO"),
			User:        reference.Draw(t, "user"),
			Transport:   rapid.Bool().Draw(t, "transport"),
			MinLength:   rapid.Uint8().Draw(t, "length"),
			Keys:        pinstate.KeyPolicy{Total: rapid.Uint8().Draw(t, "n"), Required: rapid.Uint8().Draw(t, "m")},
		}}
		for range 10 {
			drawCommand(t).run(t, &d)
			data := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "data")
			try, err := d.Card.Change(d.Login, pinstate.User, data)
			d.act(t, try, err)
		}
	})
}
