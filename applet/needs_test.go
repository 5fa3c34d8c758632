package applet_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/conform"
)

// provided is a session in which a row has everything that it asks for: what is
// done on an equipped card, and the answer of its probe there.
func provided(row string, p probe) (script, want string) {
	switch {
	case strings.HasPrefix(row, "GENERATE SESSION PIN"):
		return channelOn + "\n" + verifyUser, "* 9000"
	case strings.HasPrefix(row, "RESET RETRY COUNTER 2C 02"):
		return verifySO, "9000"
	}
	return verifyUser, p.want
}

// lacking is the same session without one thing that a row asks for, as a whole
// script, and the command to give, which is the probe's unless the thing is in
// it. No script is the card as shipped.
func lacking(row string, p probe, words string) (script, command string) {
	all, _ := provided(row, p)
	// What a card has after another initialisation, as far as it can.
	again := func(object string) string {
		return lines(equipped("000D"), p.before, selectApplication, verifyUser, initialise("000D", object), generate("01", "secp256r1"),
			"00 D7 2F 10 Lc(54(0000) 53({blob}))", selectApplication, all)
	}
	prepared := lines(equipped("000D"), all, p.before)
	switch words {
	case "user":
		return lines(equipped("000D"), strings.Replace(all, verifyUser, "", 1), p.before), p.command
	case "secure channel":
		return lines(equipped("000D"), verifyUser), p.command
	case "the file's right":
		return prepared, map[string]string{
			"READ BINARY B1 xx xx": "00 B1 CC 01 Lc(54(0000)) 00", "UPDATE BINARY D7 xx xx": `00 D7 2F 02 Lc(54(0000) 53("x"))`,
			"DELETE FILE E4 00/02 00": "00 E4 02 00 Lc(2F02)",
		}[row]
	case "initialised":
		return "", p.command
	case "old PIN in its data":
		return prepared, badChange
	case "SO-PIN in its data", "SO-PIN in its data, once set":
		return prepared, strings.ReplaceAll(p.command, "3537363231383830", foreignCode)
	case "SO-PIN verified":
		return equipped("000D"), p.command
	case "option to reset with the SO-PIN":
		return lines(equipped("000C"), all), p.command
	case "option for session PINs":
		return lines(equipped("0009"), all), p.command
	case "option to replace public keys":
		return lines(equipped("0005"), all, p.before), p.command
	case "set up for public key authentication":
		return again("97(03)"), p.command
	case "set up for key domains":
		return again("93(0302)"), p.command
	case "not the device key":
		return prepared, strings.NewReplacer("80 72 01", "80 72 00", "80 74 05", "80 74 00").Replace(p.command)
	case "protocol chosen", "key chosen that verifies it", "device chosen that vouches for its data":
		return lines(prepared, selectApplication, all), p.command
	case "public key chosen":
		return lines(equipped("000D"), all, strings.Replace(p.before, `00 22 81 A4 Lc(83("UTCUSTB00001")) => *`, "", 1)), p.command
	case "challenge":
		return lines(prepared, selectApplication, all, `00 22 81 A4 Lc(83("UTCUSTB00001"))`), p.command
	}
	return "no such thing: " + words, ""
}

// refusals are the words of docs/protocol for what a command lacks; 63C0 is the
// family that tells the tries left.
var refusals = map[string]apdu.SW{
	"user": 0x6982, "the file's right": 0x6982,
	"secure channel":                          0x6982,
	"initialised":                             0x6A88,
	"old PIN in its data":                     0x63C0,
	"SO-PIN in its data":                      0x63C0,
	"SO-PIN in its data, once set":            0x63C0,
	"SO-PIN verified":                         0x6985,
	"option to reset with the SO-PIN":         0x6985,
	"option for session PINs":                 0x6D00,
	"option to replace public keys":           0x6985,
	"set up for public key authentication":    0x6D00,
	"set up for key domains":                  0x6D00,
	"not the device key":                      0x6986,
	"protocol chosen":                         0x6985,
	"key chosen that verifies it":             0x6985,
	"public key chosen":                       0x6A88,
	"challenge":                               0x6985,
	"device chosen that vouches for its data": 0x6985,
}

// Each thing that a row asks for is asked for: the same command in the same
// session without just this is refused with the word that the table names, and
// nothing is saved but the try that a wrong secret costs.
func TestNeeds_EachIsAskedFor(t *testing.T) {
	t.Parallel()
	asked := 0
	for _, row := range applet.Commands() {
		name := row.Name + " " + row.Header
		p, known := probes()[name]
		require.True(t, known, name)
		if len(row.Needs) > 0 {
			t.Run(name+" with everything", func(t *testing.T) {
				t.Parallel()
				script, want := provided(name, p)
				tb := after(t, "4.1", equipped("000D")+"\n"+script)
				tb.run(t, p.before)
				answer := tb.command(t, p.command)
				ok, err := conform.Match(want, answer, tb.Vars)
				require.NoError(t, err)
				require.True(t, ok, "want %s, got %X: %s", want, answer, tb.current().Result.Event)
			})
		}
		for _, need := range row.Needs {
			asked++
			t.Run(name+" without "+need.Words, func(t *testing.T) {
				t.Parallel()
				script, command := lacking(name, p, need.Words)
				require.NotEmpty(t, command, script)
				require.Equal(t, refusals[need.Words], need.Refusal)
				tb := after(t, "4.1", script)
				if script == "" { // the other cards exist, but this one has never heard of them
					shipped, err := chiptest.Manufacture("4.1", "A")
					require.NoError(t, err)
					tb.put(shipped)
					tb.run(t, selectApplication)
				}
				refusedWith(t, tb, command, need.Refusal)
			})
		}
	}
	require.Greater(t, asked, 30)
}

// refusedWith gives the card a command that it has to refuse with a word.
func refusedWith(t *testing.T, tb *table, command string, want apdu.SW) {
	t.Helper()
	before := stored(t, tb.current().State.Durable())
	answer := tb.command(t, command)
	saved := tb.current().Result.Commits
	if _, tries := want.Tries(); tries {
		r, err := apdu.ParseResponse(answer)
		require.NoError(t, err)
		_, tells := r.SW.Tries()
		require.True(t, tells, tb.current().Result.Event.String())
		require.Len(t, saved, 1)
		return
	}
	require.Equal(t, want, tb.current().Result.Event.SW, tb.current().Result.Event.String())
	require.Empty(t, saved)
	require.Equal(t, before, stored(t, tb.current().State.Durable()))
}
