package ram_test

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hsmemu/applet/tlv"
	"hsmemu/emulator/ram"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

// The exchange of docs/protocol/portal.md, which ram-client had with a server.
const (
	theATR      = "3BDE18FF8191FE1FC38031815448534D317380214081071C"
	theOpening  = "E81A C018 " + theATR
	theNotice   = "AA09 E007 020100 0C024869"
	theNothing  = "AB03 800100"
	theCommands = "AA09 C000 22050020008100"
	theResult   = "AB21 C018 " + theATR + " 23026E00 800101"
)

func TestWire_TheRecordedExchange(t *testing.T) {
	t.Parallel()
	atr := unhex(t, theATR)
	got, err := ram.ParseOpening(unhex(t, theOpening))
	require.NoError(t, err)
	require.Equal(t, atr, got)
	require.Equal(t, unhex(t, theOpening), ram.Opening(atr))

	r, err := ram.ParseRequest(unhex(t, theNotice))
	require.NoError(t, err)
	require.Len(t, r, 1)
	n, err := ram.ParseNotice(r[0].Value)
	require.NoError(t, err)
	require.Equal(t, ram.Notice{Text: "Hi"}, n)

	r, err = ram.ParseRequest(unhex(t, theCommands))
	require.NoError(t, err)
	require.Equal(t, ram.Request{{Tag: ram.TagReset, Value: []byte{}}, {Tag: ram.TagCommand, Value: unhex(t, "0020008100")}}, r)
	b, err := r.Bytes()
	require.NoError(t, err)
	require.Equal(t, unhex(t, theCommands), b)

	for body, want := range map[string]ram.Result{
		theNothing: {},
		theResult:  {Answers: []ram.Object{{Tag: ram.TagReset, Value: atr}, {Tag: ram.TagAnswer, Value: unhex(t, "6E00")}}, Done: 1},
	} {
		have, err := ram.ParseResult(unhex(t, body))
		require.NoError(t, err)
		require.Equal(t, want, have)
		b, err := have.Bytes()
		require.NoError(t, err)
		require.Equal(t, unhex(t, body), b)
	}
}

// Numbers take the fewest bytes in two's complement: 128 is 02 00 80.
func TestWire_Numbers(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{
		0: "800100", 5: "800105", 127: "80017F", 128: "80020080", 32767: "80027FFF", 32768: "8003008000", 1 << 23: "800400800000", 1<<31 - 1: "80047FFFFFFF",
		-1: "8001FF", -128: "800180", -129: "8002FF7F", -1 << 31: "800480000000",
	} {
		b, err := ram.Result{Done: n}.Bytes()
		require.NoError(t, err)
		require.Equal(t, unhex(t, want), b[2:], "%d", n)
		r, err := ram.ParseResult(b)
		require.NoError(t, err)
		require.Equal(t, n, r.Done)
	}
}

// Lengths are those that tlvLength of ram-client takes: one byte, 81 or 82.
func TestWire_Lengths(t *testing.T) {
	t.Parallel()
	for body, ok := range map[string]bool{
		"AA00":           true,
		"AA8100":         true,
		"AA820000":       true,
		"AA83000000":     false,
		"AA8400000000":   false,
		"AA80":           false,
		"AA01":           false,
		"AA8101":         false,
		"AA82":           false,
		"AA":             false,
		"":               false,
		"AA00FFFF":       true, // as for ram-client
		"AB00":           false,
		"E0050201000C00": false,
	} {
		_, err := ram.ParseRequest(unhex(t, body))
		if ok {
			require.NoError(t, err, body)
		} else {
			require.ErrorIs(t, err, ram.CodeRequest, body)
		}
	}
	for body, code := range map[string]ram.Code{
		"AA03 C20100":              ram.CodeUnknown,
		"AA04 E1020C00":            ram.CodeUnknown, // only the Java client knows it
		"AA02 E200":                ram.CodeUnknown,
		"AA02 2201":                ram.CodeTLV,
		"AA01 22":                  ram.CodeTLV,
		"AA05 2283000000":          ram.CodeTLV,
		"AA03 000100":              ram.CodeTLV,
		"AA04 5F290100":            ram.CodeTLV,
		"AA09 E007 020500000000":   ram.CodeRequest,
		"AA09 E007 02050000000000": ram.CodeTLV,
	} {
		_, err := ram.ParseRequest(unhex(t, body))
		require.ErrorIs(t, err, code, body)
	}
	longest := ram.Request{{Tag: ram.TagCommand, Value: make([]byte, 0xFFFF-4)}}
	b, err := longest.Bytes()
	require.NoError(t, err)
	require.Len(t, b, 0xFFFF+4)
	r, err := ram.ParseRequest(b)
	require.NoError(t, err)
	require.Equal(t, longest, r)
	for _, size := range []int{0xFFFF - 3, 0x10000} {
		_, err = ram.Request{{Tag: ram.TagCommand, Value: make([]byte, size)}}.Bytes()
		require.ErrorIs(t, err, ram.ErrTooLong)
	}
}

func TestWire_Refuses(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		"", "AB", "AB00", "AB0423026E00", "AA03800100", "AB03800100FF", "AB058001002300", "AB06800100800100", "AB09E10023026E00800100", "AB04E100E100",
		"AB0480010000", "AB028000", "AB0780050000000000", "AB0422000000", "AB06C0013B800100", "AB07E1012300800100", "ABFF00",
		"AB0A E1020C0023026E00 8001", "AB83000003800100",
	} {
		_, err := ram.ParseResult(unhex(t, body))
		require.ErrorIs(t, err, ram.ErrMalformed, body)
	}
	for _, body := range []string{"", "E8", "E800", "E802C000", "E803C0013B", "E804C0023B00FF", "8E04C0023B00", "E806C0023B00C000", "E804 23026E00"} {
		_, err := ram.ParseOpening(unhex(t, body))
		require.ErrorIs(t, err, ram.ErrMalformed, body)
	}
}

// The client that gives up says why. The Java client does so in the middle, too,
// and then has nothing counted; it knows objects in a notice that others do not.
func TestWire_Closing(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]ram.Result{
		"AB09 E1040C026E6F 800100":                {Closed: true, Text: "no"},
		"AB06 E1040C026E6F":                       {Closed: true, Text: "no"},
		"AB05 E100 800100":                        {Closed: true},
		"AB10 23026E00 E1070201FF0C026E6F 800101": {Answers: []ram.Object{{Tag: ram.TagAnswer, Value: []byte{0x6E, 0}}}, Closed: true, Text: "no", Done: 1},
	} {
		have, err := ram.ParseResult(unhex(t, body))
		require.NoError(t, err, body)
		require.Equal(t, want, have, body)
	}
	n, err := ram.ParseNotice(unhex(t, "0202FF7F 0301FF 0C03 C3A4FF"))
	require.NoError(t, err)
	require.Equal(t, ram.Notice{Number: -129, Text: "ä\uFFFD"}, n)
	n, err = ram.ParseNotice(nil)
	require.NoError(t, err)
	require.Zero(t, n)
}

// What is written is read, whatever it is.
func TestWire_RoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.SliceOfN(rapid.Byte(), 0, 600)
		var r ram.Request
		for range rapid.IntRange(0, 20).Draw(t, "objects") {
			r = append(r, ram.Object{Tag: rapid.SampledFrom([]tlv.Tag{ram.TagCommand, ram.TagReset}).Draw(t, "tag"), Value: value.Draw(t, "value")})
		}
		b, err := r.Bytes()
		require.NoError(t, err)
		have, err := ram.ParseRequest(b)
		require.NoError(t, err)
		require.True(t, same(r, have))
		atr := rapid.SliceOfN(rapid.Byte(), 2, 36).Draw(t, "ATR")
		got, err := ram.ParseOpening(ram.Opening(atr))
		require.NoError(t, err)
		require.Equal(t, atr, got)
	})
}

// same reports whether two requests are, be a value empty or nil.
func same(a, b ram.Request) bool {
	return slices.EqualFunc(a, b, func(a, b ram.Object) bool { return a.Tag == b.Tag && bytes.Equal(a.Value, b.Value) })
}

// No bytes end a parser, and what one took, written again, is taken as the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		theOpening, theNotice, theNothing, theCommands, theResult, "AA00", "AB09E1040C026E6F800100", "AA8203E8", "AA05C0002283000000", "AB0680020080",
		"AA81098002", "AA04E0020C00",
	} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if atr, err := ram.ParseOpening(body); err == nil {
			again, err := ram.ParseOpening(ram.Opening(atr))
			require.NoError(t, err)
			require.Equal(t, atr, again)
		} else {
			require.ErrorIs(t, err, ram.ErrMalformed)
		}
		if r, err := ram.ParseRequest(body); err == nil {
			b, err := r.Bytes()
			require.NoError(t, err)
			again, err := ram.ParseRequest(b)
			require.NoError(t, err)
			require.True(t, same(r, again))
		} else {
			var code ram.Code
			require.ErrorAs(t, err, &code)
		}
		if r, err := ram.ParseResult(body); err == nil {
			b, err := r.Bytes()
			if len(body) < 0x8000 { // a text that was mended is up to three times as long
				require.NoError(t, err)
			}
			if err == nil {
				again, err := ram.ParseResult(b)
				require.NoError(t, err)
				require.Equal(t, r, again)
			}
		} else {
			require.ErrorIs(t, err, ram.ErrMalformed)
		}
	})
}
