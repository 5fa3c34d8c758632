package conform_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/conform"
	"hsmemu/vsmartcard"
)

// witnessed is an emulated card that tells of the tries and the logins of its
// users.
type witnessed struct {
	*emulator.Card
	events <-chan emulator.Event
	kept   *kept
	seen   conform.Seen
}

// kept is a store that remembers what a command has saved.
type kept struct{ states []chip.Durable }

func (k *kept) Save(d chip.Durable) error { k.states = append(k.states, d); return nil }

func (k *kept) Counts() bool { return false }

func newWitnessed(_, firmware string) (vsmartcard.Card, error) {
	w := emulator.System()
	d, err := w.Manufacture(chip.Order{Firmware: firmware})
	if err != nil {
		return nil, err
	}
	c := &witnessed{kept: &kept{}}
	c.Card, err = emulator.New(d, c.kept, w)
	c.events, _ = c.Watch(1)
	return c, err
}

func (c *witnessed) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	c.kept.states = nil
	answer, err := c.Card.Transmit(ctx, command)
	if err != nil {
		return nil, err
	}
	login := "nobody"
	if c.Snapshot().Applet.Login.User {
		login = "user"
	}
	pins := c.Snapshot().Applet.PINs
	c.seen = conform.Seen{
		Event: (<-c.events).String(), Login: login,
		Users: fmt.Sprintf("U=%d/%d S=%d %s", pins.User.Left, pins.User.Max, pins.SO.Left, login),
	}
	for _, d := range c.kept.states {
		c.seen.Saved = append(c.seen.Saved, fmt.Sprintf("%d tries", d.Applet.PINs.User.Left))
	}
	return answer, nil
}

func (c *witnessed) Seen() conform.Seen { return c.seen }

// ready is how the scripts of these tests begin: five lines.
const ready = `card A
00 A4 04 0C Lc(E82B0601040181C31F0201)
80 50 00 00 Lc(80(0001) 81("648219") 82(3537363231383830) 91(03))
cut
00 A4 04 0C Lc(E82B0601040181C31F0201)
`

// Everything that a script can want, as it is and otherwise: what is otherwise is
// found, and the message says the line, what was wanted and what came.
func TestPlay_FindsWhatIsOtherwise(t *testing.T) {
	t.Parallel()
	const wrong = "> 00 20 00 81 Lc(\"000000\")\n"
	const told = "\nVERIFY user PIN → 63C2, wrong, 2 tries left"
	for name, c := range map[string]struct {
		right, other string
		message      string
		unwitnessed  bool // found without a witness, too
	}{
		"answer": {
			wrong + "< 63C2", wrong + "< 63C1",
			"line 7: 00200081 Lc(…)\nwant < 63C1\ngot  < 63C2", true,
		},
		"answer in one line": {
			`00 20 00 81 Lc("000000") => 63 ..`, `00 20 00 81 Lc("000000") => 62 ..`,
			"line 6: 00200081 Lc(…)\nwant 62 ..\ngot  63C2", true,
		},
		"answer left out": {
			`> 00 20 00 81 Lc("648219")`, wrong,
			"line 6: 00200081 Lc(…)\nwant < 9000\ngot  < 63C2", true,
		},
		"answer left out, in one line": {
			`00 20 00 81 Lc("648219")`, `00 20 00 81 Lc("000000")`,
			"line 6: 00200081 Lc(…)\nwant 9000\ngot  63C2", true,
		},
		"variables": {
			"00 84 00 00 08 => {a:8} 9000\n00 84 00 00 08 => {b:8} 9000\ndiffer a b", "let a = 01 02\nlet b = 0102\ndiffer a b",
			"line 8: differ a b\nwant two values\ngot  the same 2 bytes twice", true,
		},
		"a variable that nobody keeps": {
			"let one = 01\nlet two = 02\ndiffer one two", "let one = 01\nlet two = 02\ndiffer one tow",
			"line 8: differ one tow\nwant a variable tow\ngot  none of that name", true,
		},
		"event": {
			wrong + "< 63C2\n= VERIFY user PIN → 63C2, wrong, 2 tries left\n! 2 tries", wrong + "< 63C2\n= VERIFY SO-PIN → 63C2\n! 2 tries",
			"line 8: 00200081 Lc(…)\nwant = VERIFY SO-PIN → 63C2\ngot  = VERIFY user PIN → 63C2, wrong, 2 tries left", false,
		},
		"a state that is not saved": {
			wrong + "< 63C2\n= VERIFY user PIN → 63C2, wrong, 2 tries left\n! 2 tries", wrong + "< 63C2\n= VERIFY user PIN → 63C2, wrong, 2 tries left\n! 2 tries\n! 1 tries",
			"line 10: 00200081 Lc(…)\nwant ! 1 tries\ngot  nothing more", false,
		},
		"a state that nobody expects": {
			wrong + "< 63C2\n= VERIFY user PIN → 63C2, wrong, 2 tries left\n! 2 tries", wrong + "< 63C2\n= VERIFY user PIN → 63C2, wrong, 2 tries left",
			"line 8: 00200081 Lc(…)\nwant nothing more\ngot  ! 2 tries", false,
		},
		"number of states": {
			`00 20 00 81 Lc("648219") => 9000 !2`, `00 20 00 81 Lc("648219") => 9000 !1`,
			"line 6: 00200081 Lc(…)\nwant !1\ngot  !2", false,
		},
		"login": {
			"> 00 20 00 81 Lc(\"648219\")\n< 9000\n= VERIFY user PIN → 9000, done\n! 2 tries\n! 3 tries\n~ user",
			"> 00 20 00 81 Lc(\"648219\")\n< 9000\n= VERIFY user PIN → 9000, done\n! 2 tries\n! 3 tries\n~ SO",
			"line 11: 00200081 Lc(…)\nwant ~ SO\ngot  ~ user", false,
		},
		"users": {
			wrong + "< 63C2\nholds U=2/3 S=15 nobody", wrong + "< 63C2\nholds U=3/3 S=15 nobody",
			"line 8: holds\nwant U=3/3 S=15 nobody\ngot  U=2/3 S=15 nobody", false,
		},
		"channel": {
			"sm on aes128\n< *\n< *", "sm on aes128\n< 9000\n< *",
			"line 7: sm on aes128\nwant < 9000\ngot  < *", true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, maker := range []conform.Make{newWitnessed, emulated, inReader(t)} {
				require.NoError(t, conform.NewPlayer(maker).Play(soon(t), parse(t, ready+c.right)))
			}
			err := conform.NewPlayer(newWitnessed).Play(soon(t), parse(t, ready+c.other))
			var m *conform.Mismatch
			require.ErrorAs(t, err, &m)
			require.True(t, strings.HasPrefix(err.Error(), c.message), "%s", err)
			err = conform.NewPlayer(inReader(t)).Play(soon(t), parse(t, ready+c.other))
			if c.unwitnessed {
				require.EqualError(t, err, c.message)
			} else {
				require.NoError(t, err, "there is nobody to tell")
			}
		})
	}
	err := conform.NewPlayer(newWitnessed).Play(soon(t), parse(t, ready+wrong+"< 63C3"))
	require.EqualError(t, err, "line 7: 00200081 Lc(…)\nwant < 63C3\ngot  < 63C2"+told)
}

// fake is a card that answers every command alike.
type fake struct {
	answer []byte
	err    error
	seen   conform.Seen
}

func (f *fake) ATR() []byte { return nil }

func (f *fake) Reset() error { return f.err }

func (f *fake) Transmit(context.Context, []byte) ([]byte, error) { return f.answer, f.err }

func (f *fake) Seen() conform.Seen { return f.seen }

func (f *fake) made(string, string) (vsmartcard.Card, error) { return f, nil }

// A command that is refused saves nothing, unless it spends a try or somebody
// says that it does.
func TestPlay_RefusedCommandsSaveNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		answer apdu.SW
		script string
		broken bool
	}{
		{apdu.SecurityStatus, "00B0 => 6982", true},
		{apdu.SecurityStatus, "> 00B0\n< 6982", true},
		{apdu.SecurityStatus, "00B0 => 6982 !1", false},
		{apdu.SecurityStatus, "> 00B0\n< 6982\n= event\n! state", false},
		{apdu.SecurityStatus, "00B0 => *", false},
		{apdu.TriesLeft(2), "00B0 => 63C2", false},
		{apdu.AuthenticationBlocked, "00B0 => 6983", true},
		{apdu.EndOfFile, "00B0 => 6282", false},
	} {
		f := &fake{answer: apdu.Response{SW: c.answer}.Bytes(), seen: conform.Seen{Event: "event", Saved: []string{"state"}}}
		err := conform.NewPlayer(f.made).Play(soon(t), parse(t, "card A\n"+c.script))
		if c.broken {
			var m *conform.Mismatch
			require.ErrorAs(t, err, &m, c.script)
			require.Equal(t, []string{"!0 of a command that is refused", "!1"}, []string{m.Want, m.Got})
		} else {
			require.NoError(t, err, c.script)
		}
	}
}

// What is no judgement of the card has its line before it, and is no mismatch.
func TestPlay_Errors(t *testing.T) {
	t.Parallel()
	gone := errors.New("the card is gone")
	for _, c := range []struct {
		card    fake
		script  string
		message string
	}{
		{fake{}, "cut", "line 1: cut: there is no card yet"},
		{fake{}, "# nothing\n00B0", "line 2: …: there is no card yet"},
		{fake{}, "card A\n00B0 {x}", "line 2: … {x}: no variable x"},
		{fake{answer: []byte{0x90}}, "card A\n00B0", "line 2: …: an answer of 1 bytes"},
		{fake{answer: []byte{0x90, 0}}, "card A\n00B0 => {x} 9000", "line 2: …: no variable x"},
		{fake{err: gone}, "card A\n00B0 => *", "line 2: …: the card is gone"},
		{fake{err: gone}, "card A\ncut", "line 2: cut: the card is gone"},
		{fake{answer: []byte{0x6A, 0x82}}, "card A\nsm on 3des", "line 2: sm on 3des: device certificate: file, key or application not found (6A82)"},
		{fake{answer: []byte{0x90, 0}}, "card A\nlet a = 01\nlet b = Lc({a|head 2})", "line 3: let b = Lc({a|head 2}): {a|head 2}: too few bytes"},
	} {
		err := conform.NewPlayer(c.card.made).Play(soon(t), parse(t, c.script))
		require.EqualError(t, err, c.message)
		var m *conform.Mismatch
		require.False(t, errors.As(err, &m))
	}
	err := conform.NewPlayer(func(string, string) (vsmartcard.Card, error) { return nil, gone }).Play(soon(t), parse(t, "card A"))
	require.ErrorIs(t, err, gone)
}

// A scenario is recorded from its commands alone; what has been recorded is
// played, and recorded again as it is. Without a witness, what one has said stays.
func TestRecord(t *testing.T) {
	t.Parallel()
	const commands = ready + "> 00 20 00 81 Lc(\"000000\")\n\n# now right\n> 00 20 00 81 Lc(\"648219\")\n> 00 84 00 00 08\n< {c:8} 9000\nsm on aes128\n"
	recorded, err := conform.NewPlayer(newWitnessed).Record(soon(t), parse(t, commands))
	require.NoError(t, err)
	require.Equal(t, ready+`> 00 20 00 81 Lc("000000")
< 63C2
= VERIFY user PIN → 63C2, wrong, 2 tries left
! 2 tries

# now right
> 00 20 00 81 Lc("648219")
< 9000
= VERIFY user PIN → 9000, done
! 1 tries
! 3 tries
~ user
> 00 84 00 00 08
< {c:8} 9000
= GET CHALLENGE → 9000, done, 8 bytes
sm on aes128
< *
= MANAGE SECURITY ENVIRONMENT AES-128 → 9000, done
< *
= GENERAL AUTHENTICATE AES-128 → 9000, done, 22 bytes
`, recorded)
	for _, maker := range []conform.Make{newWitnessed, emulated} {
		require.NoError(t, conform.NewPlayer(maker).Play(soon(t), parse(t, recorded)))
		again, err := conform.NewPlayer(maker).Record(soon(t), parse(t, recorded))
		require.NoError(t, err)
		require.Equal(t, recorded, again)
	}
}
