package conform_test

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/conform"
	"hsmemu/vsmartcard"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// known are the variables of these tests. objects is 04(01 02) 30(80(AA)), and
// der is an ECDSA signature whose numbers are 1 and 128.
func known(t testing.TB) conform.Vars {
	return conform.Vars{
		"a": unhex(t, "0102"), "empty": {}, "objects": unhex(t, "0402010230038001AA"), "der": unhex(t, "300702010102020080"),
		"point": unhex(t, "0401020304"), "big": make([]byte, 300), "huge": make([]byte, 66_000),
	}
}

func TestCompile(t *testing.T) {
	t.Parallel()
	ones, zeros := strings.Repeat("00", 31), strings.Repeat("00", 300)
	for text, want := range map[string]string{
		"": "", "00A4 04": "00A404", `"AB" 43`: "414243", `""`: "",
		"54(0000)": "54020000", "54()": "5400", "7F49(06(01))": "7F4903060101", "CF01(00)": "CF010100",
		"Lc()": "00", "Lc(0102)": "020102", "Lcx(01)": "00000101", "Lc({big})": "00012C" + zeros, "53({big})": "5382012C" + zeros,
		"Lc(01) le": "010100", "Lcx(01) le": "000001010000", "le": "00",
		"{a}": "0102", "{a|-1}": "01", "{a|flip}": "0103", "{a|head 1}": "01", "{a|from 1}": "02", "{a|head 2}{a|from 2}": "0102",
		"{objects|#2}": "30038001AA", "{objects|30.80}": "AA", "{objects|value}": "0102", "{objects|whole}": "04020102",
		"{objects|#1|value|flip}": "0103", "{point|x}": "0102", "{der|plain}": ones + "01" + ones + "80",
	} {
		got, err := conform.Compile(text, known(t))
		require.NoError(t, err, text)
		require.Equal(t, unhex(t, want), got, text)
	}
}

func TestCompile_Errors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"0": "column 1: not understood: a command has", "01 ab": "column 4: not understood", "Lc(01 {})": "column 7: not understood", `"open`: "column 1: not understood",
		"01 Lc(00": "column 6: a bracket is open", "01 02(03 04(": "column 12: a bracket is open", "Lcx(": "column 4: a bracket is open", "00 )": "column 4: a bracket too many", "{b}": "no variable b",
		strings.Repeat("54(", 40): "more than 32 brackets within each other", "Lc({huge})": "no length of 66000 bytes",
		"{huge}{huge}": "more than 70000 bytes", "01 {a|upper}": "column 4: in a variable: neither a filter nor a tag", "{a|}": "neither a filter nor a tag",
		"{a|#0}": "# takes the number of an object, from 1", "{objects|#3}": "{objects|#3}: fewer objects", "{objects|05}": "{objects|05}: no such object", "{a|head x}": "head and from take a number of bytes",
		"{a|head 3}": "too few bytes", "{a|from 3}": "too few bytes", "{a|head -1}": "head and from take a number of bytes",
		"{empty|-1}": "too few bytes", "{empty|flip}": "too few bytes", "{a|x}": "too few bytes",
		"{objects|#2|plain}": "not a signature",
	} {
		_, err := conform.Compile(text, known(t))
		require.ErrorContains(t, err, want, text)
	}
	for _, text := range []string{"{empty|value}", "{empty|whole}", "{empty|plain}", "{a|30}", "{a|#1}"} {
		_, err := conform.Compile(text, known(t))
		require.Error(t, err, text)
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, answer string
		fits            bool
	}{
		{"9000", "9000", true},
		{"9000", "9001", false},
		{"9000", "900000", false},
		{"", "", true},
		{"", "9000", false},
		{"63 ..", "63C2", true},
		{"63 ..", "63", false},
		{"* 9000", "9000", true},
		{"* 9000", "019000", true},
		{"* 9000", "900090", false},
		{"* 90 * 00", "9090900000", true},
		{"* 0102 * 03 .. 05 *", "00010201020304050607", true},
		{"* 0102 * 03 .. 06 *", "00010201020304050607", false},
		{`"AB" {a} *`, "414201020304", true},
		{"{a|-1} 02", "0102", true},
		{"{empty} 9000", "9000", true},
		{strings.Repeat("* 00 ", 50) + "01", strings.Repeat("00", 60_000), false}, // at once, not after the end of all days
	} {
		fits, err := conform.Match(c.pattern, unhex(t, c.answer), known(t))
		require.NoError(t, err, c.pattern)
		require.Equal(t, c.fits, fits, c.pattern)
	}
	for _, pattern := range []string{"9", "9G", "{none}", "{a|head 3}", "{x:}", "{x:99999}", "{}", "( 9000"} {
		_, err := conform.Match(pattern, unhex(t, "9000"), known(t))
		require.Error(t, err, pattern)
	}
}

// An answer is kept as it was, and only if it fits.
func TestMatch_Keeps(t *testing.T) {
	t.Parallel()
	v := known(t)
	answer := unhex(t, "0102030405069000")
	fits, err := conform.Match("{one:2} 03 {rest:*} {two:1} 9000", answer, v)
	require.NoError(t, err)
	require.True(t, fits)
	answer[0] = 0xFF
	require.Equal(t, []any{unhex(t, "0102"), unhex(t, "0405"), unhex(t, "06")}, []any{v["one"], v["rest"], v["two"]})
	fits, err = conform.Match("{one:3} 9000", unhex(t, "0A9000"), v)
	require.NoError(t, err)
	require.False(t, fits)
	require.Equal(t, unhex(t, "0102"), v["one"])
}

func TestParse_Errors(t *testing.T) {
	t.Parallel()
	for text, message := range map[string]string{
		"# fine\n< 9000":                     "line 2: there is no command that this could be seen of",
		"card A\n= event":                    "line 2: there is no command that this could be seen of",
		"> 00\n\n< 9000":                     "line 3: there is no command that this could be seen of",
		"00 => 9000\n= event":                "line 2: there is no command that this could be seen of",
		"> 00\n= event\n< 9000":              "line 3: the answer comes first, and once",
		"> 00\n< 9000\n< 9000":               "line 3: the answer comes first, and once",
		"> 00\n< 9":                          "line 2: column 3: not understood: an answer has pairs of capital hexadecimal digits, \"text\", .., * and {variables}",
		"card":                               "line 1: card takes other words behind it",
		"card A 4.1 now":                     "line 1: card takes other words behind it",
		"cut it":                             "line 1: cut takes other words behind it",
		"differ a":                           "line 1: differ takes other words behind it",
		"sm":                                 "line 1: neither sm off nor sm on with a suite: 3des, aes128, aes192 or aes256",
		"sm on des":                          "line 1: neither sm off nor sm on with a suite: 3des, aes128, aes192 or aes256",
		"sm with aes128":                     "line 1: neither sm off nor sm on with a suite: 3des, aes128, aes192 or aes256",
		"let a":                              "line 1: let NAME = BYTES",
		"let = 01":                           "line 1: let NAME = BYTES",
		"let a b = 01":                       "line 1: let NAME = BYTES",
		"let a = {b":                         "line 1: column 9: not understood: a command has pairs of capital hexadecimal digits, \"text\", Lc(…), objects as 53(…), le and {variables}",
		"\n00 A4 ( => 9000":                  "line 2: column 7: not understood: a command has pairs of capital hexadecimal digits, \"text\", Lc(…), objects as 53(…), le and {variables}",
		"00 A4 => what":                      "line 1: column 10: not understood: an answer has pairs of capital hexadecimal digits, \"text\", .., * and {variables}",
		"00 A4 => 9000 !x":                   "line 1: column 15: not understood: an answer has pairs of capital hexadecimal digits, \"text\", .., * and {variables}",
		"please do":                          "line 1: column 1: not understood: a command has pairs of capital hexadecimal digits, \"text\", Lc(…), objects as 53(…), le and {variables}",
		"00 A4\r\nplease":                    "line 2: column 1: not understood: a command has pairs of capital hexadecimal digits, \"text\", Lc(…), objects as 53(…), le and {variables}",
		"00 {a|upper}":                       "line 1: column 4: in a variable: neither a filter nor a tag behind |",
		"> 00\n< {a|head b}":                 "line 2: column 3: in a variable: head and from take a number of bytes",
		"holds\ncard A\n> 00 20\n!\n~\n< 90": "line 6: the answer comes first, and once",
	} {
		_, err := conform.Parse(text)
		var syntax *conform.SyntaxError
		require.ErrorAs(t, err, &syntax, text)
		require.EqualError(t, err, message, text)
	}
}

// echo is a card that says what it is told.
type echo struct{}

func (echo) ATR() []byte { return nil }

func (echo) Reset() error { return nil }

func (echo) Transmit(_ context.Context, command []byte) ([]byte, error) {
	return append(command[:len(command):len(command)], 0x90, 0x00), nil
}

// Whatever somebody takes for a script is one or is refused with its line. One
// that is read is what was written, and is played to its end or up to an error.
func FuzzParse(f *testing.F) {
	for _, text := range sessions(f) {
		f.Add(text)
		f.Add(text[:400])
	}
	f.Add("card A\nlet a = 30(02(01)02(02))\nlet b = {a|#1|plain}\nlet c = {a|30.02|flip|-1}\ndiffer a b\n00A4 Lc({a}) le => {d:*} 9000\nsm on aes128\n< *\nholds x\ncut")
	f.Add("card A\n00 => * {x:1} .. * 00\n{x|head 1} => {x} *")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4000 {
			return
		}
		script, err := conform.Parse(text)
		var syntax *conform.SyntaxError
		if errors.As(err, &syntax) {
			require.Positive(t, syntax.Line)
			return
		}
		require.NoError(t, err)
		again, err := conform.Parse(script.String())
		require.NoError(t, err)
		require.Equal(t, script.String(), again.String())
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
		defer stop()
		made := func(string, string) (vsmartcard.Card, error) { return echo{}, nil }
		_ = conform.NewPlayer(made).Play(ctx, script) // an error is as good as none
		if recorded, err := conform.NewPlayer(made).Record(ctx, script); err == nil {
			_, err := conform.Parse(recorded)
			require.NoError(t, err, recorded)
		}
	})
}

// An answer may be any of several; one that is only known is told.
func TestPlay_Alternatives(t *testing.T) {
	t.Parallel()
	player := conform.NewPlayer(emulated)
	require.NoError(t, player.Play(soon(t), parse(t, "card A\nselect\n00 20 00 81 => 9000 | 6A88\n> 00 20 00 88\n< 6984 | 6A88 (differs: seen on 3.5 | 3.6)")))
	require.Equal(t, []conform.Difference{{Line: 4, Text: "00200088", Want: "6984 | 6A88", Got: "6A88", Seen: "seen on 3.5 | 3.6"}}, player.Differences)
	err := player.Play(soon(t), parse(t, "card A\n00 20 00 81 => 9000 | \"a | b\" 6984"))
	var m *conform.Mismatch
	require.ErrorAs(t, err, &m)
	require.Equal(t, "9000 | (5 bytes, not shown) 6984", m.Want)
	require.Equal(t, "6A88", m.Got)
}
