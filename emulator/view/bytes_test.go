package view_test

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/emulator/view"
)

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	require.NoError(t, err)
	return b
}

// whole is what the parts show, with dots for what they do not, and how many bytes they
// stand for.
func whole(parts []view.Part) (text string, n int) {
	for _, p := range parts {
		n += p.Bytes
		if p.Secret() {
			text += strings.Repeat("..", p.Bytes)
		} else {
			text += strings.ReplaceAll(p.Hex, " ", "")
		}
	}
	return text, n
}

// putKey is PUT KEY of three keys, with a code behind its data; keyHidden is what is shown
// of each.
func putKey(cla, code string) string {
	one := "881110" + strings.Repeat("6B", 16) + "03" + "504A77"
	return fmt.Sprintf("%sD83081%02X31%s%s00", cla, 0x46+len(code)/2, strings.Repeat(one, 3), code)
}

var keyHidden = "881110" + strings.Repeat("..", 16) + "03504A77"

// What goes through the card manager's channel is no object of ISO 7816-4.
func TestParts_CardManagersChannel(t *testing.T) {
	command := unhex(t, "84E80000100102030405060708A1A2A3A4A5A6A7A8")
	e := view.Coming(command, false)
	e.Secure = true
	text, _ := whole(view.Parts(command, e, false))
	require.Equal(t, "84E8000010"+"................"+"A1A2A3A4A5A6A7A8", text)
	text, _ = whole(view.AnswerParts(unhex(t, "870201029000"), e, false))
	require.Equal(t, "........9000", text)
	command = unhex(t, "80E800000401020304")
	e = view.Coming(command, false)
	e.Secure = true // at level 00
	text, n := whole(view.Parts(command, e, false))
	require.Equal(t, len(command), n)
	require.NotContains(t, text, "0102")
}

func TestParts_EveryByteOnceAndNoSecret(t *testing.T) {
	for _, c := range []struct{ command, shows string }{
		{"00200081", "00200081"},
		{"0020008106363438323139", "0020008106............"},
		{"00200081000006363438323139", "00200081000006............"},
		{"00200081FF3634", "00200081......"}, // the lengths do not agree
		{"0020", "...."},
		{"80500000118002000181063634383231398203001122", "80500000118002000181 06............8203......"},
		{"8050000005800200018F", "8050000005800200 01.."},
		{"80500000198002000182103335333733363332333133383338333091010A", "80500000198002000182 10................................91010A"},
		// Bytes of a PIN whose length is wrong, or that stands in another object.
		{"805000000A82043537363231023830", "805000000A8204................"},
		{"805000000C800A00018106313233343536", "805000000C800A...................."},
		{"805000000401023132", "8050000004........"},
		{"0C2000810401023132", "0C20008104........"},
		{"00D7CF010754050000313233", "00D7CF01075405.........."},
		{"00A4040C0BE82B0601040181C31F0201", "00A4040C0BE82B0601040181C31F0201"},
		{"00D7CF010754020000530199", "00D7CF01075402000053 01.."},
		{"805200000401020304", "8052000004........"},
		{"806801730401020304FF", "806801730401020304FF"},
		{putKey("80", ""), "80D8308146" + "31" + keyHidden + keyHidden + keyHidden + "00"},
		{putKey("84", "0102030405060708"), "84D830814E" + "31" + keyHidden + keyHidden + keyHidden + "0102030405060708" + "00"},
		{strings.ReplaceAll(putKey("80", ""), "881110", "881010"), "80D8308146" + strings.Repeat("..", 0x46) + "00"}, // keys in another form
		{"84D8308158" + strings.Repeat("AB", 0x50) + "0102030405060708" + "00", "84D8308158" + strings.Repeat("..", 0x50) + "0102030405060708" + "00"},
		{"80D83081088811106BC1BEE22E", "80D8308108" + strings.Repeat("..", 8)},
		{"8062010221" + strings.Repeat("AB", 33), "8062010221" + strings.Repeat("..", 33)},
	} {
		command := unhex(t, c.command)
		e := view.Coming(command, false)
		quiet := false
		for _, row := range applet.Commands() {
			quiet = quiet || row.Quiet && e.Command != nil && strings.HasPrefix(row.Name, *e.Command)
		}
		text, n := whole(view.Parts(command, e, quiet))
		require.Equal(t, strings.ReplaceAll(c.shows, " ", ""), text)
		require.Equal(t, len(command), n)
	}
	for seed := range uint64(2000) { // any bytes at all
		r := rand.New(rand.NewPCG(seed, 1))
		command := make([]byte, r.IntN(40))
		for i := range command {
			command[i] = byte(r.Uint32())
		}
		if len(command) > 4 {
			command[4] = byte(len(command) - 5)
		}
		for _, quiet := range []bool{true, false} {
			e := view.Coming(command, false)
			_, n := whole(view.Parts(command, e, quiet))
			require.Equal(t, len(command), n, "%X", command)
			_, n = whole(view.AnswerParts(command, e, quiet))
			require.Equal(t, len(command), n, "%X", command)
		}
	}
}

func TestAnswerParts_QuietCommandsAnswerNothing(t *testing.T) {
	command := unhex(t, "8062010221")
	text, _ := whole(view.AnswerParts(unhex(t, "0102039000"), view.Coming(command, false), true))
	require.Equal(t, "......9000", text)
	text, _ = whole(view.AnswerParts(unhex(t, "0102039000"), view.Coming(unhex(t, "00B12F02"), false), false))
	require.Equal(t, "0102039000", text)
	text, _ = whole(view.AnswerParts([]byte{1}, view.Event{}, false))
	require.Equal(t, "..", text)
}

func TestComing_NamesWhatTheCardHasNotSeen(t *testing.T) {
	e := view.Coming(unhex(t, "0020008106363438323139"), false)
	require.Equal(t, "VERIFY user PIN: not answered yet", e.Phrase())
	require.True(t, e.AboutPIN())
	require.False(t, view.Coming(unhex(t, "00200081"), false).AboutPIN())
	require.True(t, view.Coming(unhex(t, "00A40400"), false).Reads())
}

// What has a command decides what it is: the card manager has the instruction of INITIALIZE
// DEVICE for INITIALIZE UPDATE (GlobalPlatform amendment D §7.1.1), which tries no PIN, as does
// nothing that comes while no application is selected, nor the question for memory.
func TestComing_WhoHasItDecides(t *testing.T) {
	const update = "8050000008AABBCCDDEEFF0011"
	for _, c := range []struct {
		command, name, subject string
		managed, tries         bool
	}{
		{update, "INITIALIZE UPDATE", "", true, false},
		{update, "INITIALIZE DEVICE", "SO-PIN", false, true},
		{"8050000000", "INITIALIZE DEVICE (query)", "", false, false},
		{"80E60C0004AABBCCDD", "INSTALL", "", true, false},
		{"80E4008004AABBCCDD", "DELETE", "", true, false},
		{"00E4020002C401", "DELETE FILE", "", false, false},
		{"80F28002024F00", "GET STATUS", "", true, false},
		{"0020008106313131313131", "VERIFY", "user PIN", false, true},
		{"0C2000810A8E081122334455667788", "VERIFY", "user PIN", false, false}, // its status, in a channel
		{"0C2000810E870201AA8E081122334455667788", "VERIFY", "user PIN", false, true},
	} {
		command := unhex(t, c.command)
		e := view.Coming(command, c.managed)
		subject := ""
		if e.Subject != nil {
			subject = *e.Subject
		}
		require.Equal(t, []any{c.name, c.subject, c.tries}, []any{*e.Command, subject, e.AboutPIN()}, c.command)
	}
	text := lines(view.Parts(unhex(t, update), view.Coming(unhex(t, update), true), true))
	require.Contains(t, strings.Join(text, "\n"), "challenge of the host")
	// It may be meant for an application that is not selected any more.
	initialise := unhex(t, "8050000012810636343832313982083537363231383830")
	shown, _ := whole(view.Parts(initialise, view.Coming(initialise, true), true))
	require.Equal(t, "80500000128106............8208................", shown)
}

// A command that came while no application was selected tried no PIN, whatever it is called.
func TestAboutPIN_NotUnselected(t *testing.T) {
	e := view.Coming(unhex(t, "0020008106313131313131"), false)
	require.True(t, e.AboutPIN())
	e.Command = new("(no application selected)")
	require.False(t, e.AboutPIN())
}
