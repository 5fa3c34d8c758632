package apdu_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

// The forms of APDU-15, as clients send them.
func TestParse_AcceptsAllCases(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("A5", 256)
	for _, c := range []struct {
		name, in string
		want     apdu.Command
	}{
		{"case 1, VERIFY query", "00200081", apdu.Command{INS: 0x20, P2: 0x81}},
		{"case 2 short, any length", "8052000000", apdu.Command{CLA: 0x80, INS: 0x52, Ne: 256}},
		{"case 2 short, exact length", "0084000008", apdu.Command{INS: 0x84, Ne: 8}},
		{"case 2 extended, any length", "80580000000000", apdu.Command{CLA: 0x80, INS: 0x58, Ne: 65536, Extended: true}},
		{"case 2 extended, exact length", "00840000000400", apdu.Command{INS: 0x84, Ne: 1024, Extended: true}},
		{"case 2 extended, small length", "00840000000008", apdu.Command{INS: 0x84, Ne: 8, Extended: true}},
		{"case 3 short", "00E4020002CC01", apdu.Command{INS: 0xE4, P1: 2, Data: []byte{0xCC, 1}}},
		{"case 3 extended, short body", "00D7CF00000006 540200005300", apdu.Command{
			INS: 0xD7, P1: 0xCF, Data: unhex(t, "540200005300"), Extended: true,
		}},
		{"case 3 extended, long body", "00D7000000 0100" + long, apdu.Command{
			INS: 0xD7, Data: unhex(t, long), Extended: true,
		}},
		{"case 4 short", "00A40000022F0200", apdu.Command{INS: 0xA4, Data: []byte{0x2F, 2}, Ne: 256}},
		{"case 4 short, exact length", "00A40000022F020A", apdu.Command{INS: 0xA4, Data: []byte{0x2F, 2}, Ne: 10}},
		{"case 4 extended, short body", "00B12F020000045402000003E8", apdu.Command{
			INS: 0xB1, P1: 0x2F, P2: 2, Data: []byte{0x54, 2, 0, 0}, Ne: 1000, Extended: true,
		}},
		{"case 4 extended, any length", "00B12F02000004540200000000", apdu.Command{
			INS: 0xB1, P1: 0x2F, P2: 2, Data: []byte{0x54, 2, 0, 0}, Ne: 65536, Extended: true,
		}},
		{"case 4 extended, long body", "80680110000100" + long + "0200", apdu.Command{
			CLA: 0x80, INS: 0x68, P1: 1, P2: 0x10, Data: unhex(t, long), Ne: 512, Extended: true,
		}},
		{"one data byte that looks like a length", "002000810100", apdu.Command{INS: 0x20, P2: 0x81, Data: []byte{0}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := unhex(t, c.in)
			got, err := apdu.Parse(b)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
			require.Equal(t, b, got.Bytes())
		})
	}
}

func TestParse_RefusesInconsistentLengths(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"nothing":                           "",
		"one byte":                          "00",
		"three bytes":                       "00A404",
		"short data cut":                    "00A40000022F",
		"short data surplus":                "00A40000022F020000",
		"extended length cut":               "00B100000000",
		"extended data cut":                 "00B10000000004540200",
		"extended Le of one byte":           "00B1000000000454020000 00",
		"extended data surplus":             "00B1000000000454020000 000000",
		"extended Lc of zero":               "00B100000000000000",
		"extended Lc of zero, two more":     "00B1000000 0000 0000",
		"extended Lc of zero, nothing else": "00B1000000 0000 00",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := apdu.Parse(unhex(t, in))
			require.ErrorIs(t, err, apdu.ErrLength)
		})
	}
}

// Every truncation and every extension of a command is either another case or
// refused; the body is never read past its end.
func TestParse_LengthAloneDecides(t *testing.T) {
	t.Parallel()
	full := unhex(t, "00B12F020000045402000003E8")
	for n := range len(full) + 1 {
		_, err := apdu.Parse(full[:n])
		switch n {
		case 4, 5, 7, 11, 13:
			require.NoError(t, err, "%d bytes", n)
		default:
			require.ErrorIs(t, err, apdu.ErrLength, "%d bytes", n)
		}
	}
}

func TestParse_DoesNotKeepInput(t *testing.T) {
	t.Parallel()
	b := unhex(t, "00A40000022F02")
	c, err := apdu.Parse(b)
	require.NoError(t, err)
	b[5] = 0xFF
	require.Equal(t, []byte{0x2F, 2}, c.Data)
}

func TestBytes_ChoosesForm(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		in    apdu.Command
		start string
		size  int
	}{
		{"short at its limits", apdu.Command{Data: make([]byte, 255), Ne: 256}, "00000000FF", 4 + 1 + 255 + 1},
		{"data too long for short", apdu.Command{Data: make([]byte, 256)}, "00000000000100", 4 + 3 + 256},
		{"data too long for short, Le follows", apdu.Command{Data: make([]byte, 256), Ne: 1}, "00000000000100", 4 + 3 + 256 + 2},
		{"Ne too large for short", apdu.Command{Ne: 257}, "00000000000101", 7},
		{"nothing to extend", apdu.Command{Extended: true}, "00000000", 4},
		{"longest", apdu.Command{Data: make([]byte, 65535), Ne: 65536}, "0000000000FFFF", 4 + 3 + 65535 + 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := c.in.Bytes()
			require.Len(t, b, c.size)
			require.True(t, bytes.HasPrefix(b, unhex(t, c.start)), "%X", b[:min(len(b), 8)])
			back, err := apdu.Parse(b)
			require.NoError(t, err)
			require.Equal(t, c.in.Ne, back.Ne)
			require.Len(t, back.Data, len(c.in.Data))
		})
	}
}

func TestBytes_IsNilForWhatNoAPDUCanSay(t *testing.T) {
	t.Parallel()
	for _, c := range []apdu.Command{
		{Data: make([]byte, 65536)}, {Ne: -1}, {Ne: 65537},
	} {
		require.Nil(t, c.Bytes())
	}
}

func TestResponse_RoundTrip(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"9000", "63C2", "6F0A820178850500010604019000"} {
		b := unhex(t, s)
		r, err := apdu.ParseResponse(b)
		require.NoError(t, err)
		require.Equal(t, b, r.Bytes())
		require.Len(t, r.Data, len(b)-2)
	}
	for _, b := range [][]byte{nil, {0x90}} {
		_, err := apdu.ParseResponse(b)
		require.ErrorIs(t, err, apdu.ErrLength)
	}
}

func TestParseResponse_DoesNotKeepInput(t *testing.T) {
	t.Parallel()
	b := unhex(t, "0102 9000")
	r, err := apdu.ParseResponse(b)
	require.NoError(t, err)
	b[0] = 0xFF
	require.Equal(t, []byte{1, 2}, r.Data)
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"00A4040C0BE82B0601040181C31F0201", "00A40000022F0200", "80580000000000", "00B12F02000004540200000000",
		"00D7CF00000006540200005300", "00200081", "00B100000000000000",
	} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := apdu.ParseResponse(b); err == nil {
			require.Equal(t, b, r.Bytes())
			require.NotEmpty(t, r.SW.Error())
		} else {
			require.Less(t, len(b), 2)
		}
		c, err := apdu.Parse(b)
		if err != nil {
			require.ErrorIs(t, err, apdu.ErrLength)
			return
		}
		// There is one encoding per value, so nothing is lost on the way.
		require.Equal(t, b, c.Bytes())
		require.True(t, c.Ne >= 0 && c.Ne <= 65536)
	})
}
