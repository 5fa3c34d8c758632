package tlv_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hsmemu/applet/tlv"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

func TestParse_ReadsTagsOfOneToThreeBytes(t *testing.T) {
	t.Parallel()
	l, err := tlv.Parse(unhex(t, "5F290100 4203444556 7F2100 9F8101 01FF 6500"))
	require.NoError(t, err)
	want := []struct{ tag, value, raw string }{
		{"5F29", "00", "5F290100"},
		{"42", "444556", "4203444556"},
		{"7F21", "", "7F2100"},
		{"9F8101", "FF", "9F810101FF"},
		{"65", "", "6500"},
	}
	require.Len(t, l, len(want))
	for i, w := range want {
		require.Equal(t, w.tag, l[i].Tag.String())
		require.Equal(t, unhex(t, w.value), l[i].Value)
		require.Equal(t, unhex(t, w.raw), l[i].Raw)
	}
	require.Equal(t, tlv.Tag(0x9F8101), l[3].Tag)
}

func TestParse_NoBytesNoObjects(t *testing.T) {
	t.Parallel()
	l, err := tlv.Parse(nil)
	require.NoError(t, err)
	require.Empty(t, l)
	_, _, err = tlv.Next(nil)
	require.ErrorIs(t, err, tlv.ErrTruncated)
}

// Lengths around every border of CVC-1, written and read.
func TestAppend_WritesTheShortestLength(t *testing.T) {
	t.Parallel()
	for size, header := range map[int]string{
		0: "00", 1: "01", 0x7F: "7F", 0x80: "8180", 0xFF: "81FF", 0x100: "820100", 0xFFFF: "82FFFF", 0x10000: "83010000",
	} {
		value := bytes.Repeat([]byte{0xA5}, size)
		b := tlv.Append([]byte{0xEE}, 0x53, value[:size/3], nil, value[size/3:])
		require.Equal(t, append(unhex(t, "EE53"+header), value...), b, "%d bytes", size)
		n, rest, err := tlv.Next(append(b[1:], 0x99))
		require.NoError(t, err)
		require.Equal(t, value, n.Value)
		require.Equal(t, []byte{0x99}, rest)
	}
}

func TestParse_Refuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in string
		want     error
	}{
		{"tag alone", "42", tlv.ErrTruncated},
		{"half a tag", "7F", tlv.ErrTruncated},
		{"half a three-byte tag", "7F81", tlv.ErrTruncated},
		{"tag of two bytes alone", "7F21", tlv.ErrTruncated},
		{"value missing", "4201", tlv.ErrTruncated},
		{"value cut", "4203AABB", tlv.ErrTruncated},
		{"length byte missing", "4281", tlv.ErrTruncated},
		{"length bytes cut", "428201", tlv.ErrTruncated},
		{"long value cut", "42820100AA", tlv.ErrTruncated},
		{"second object cut", "4201AA42", tlv.ErrTruncated},
		{"padding for a tag", "0000", tlv.ErrTag},
		{"tag of four bytes", "7F81818101 00", tlv.ErrTag},
		{"two bytes where one would do", "7F1E00", tlv.ErrTag},
		{"tag number with leading zero", "7F800100", tlv.ErrTag},
		{"indefinite length", "3080 020101 0000", tlv.ErrLength},
		{"81 for 00", "428100", tlv.ErrLength},
		{"81 for 7F", "42817F" + strings.Repeat("AA", 127), tlv.ErrLength},
		{"82 for FF", "428200FF" + strings.Repeat("AA", 255), tlv.ErrLength},
		{"83 for 0100", "4283000100" + strings.Repeat("AA", 256), tlv.ErrLength},
		{"84 for 00", "428400000000", tlv.ErrLength},
		{"five length bytes", "42850000000000", tlv.ErrLength},
		{"four length bytes, cut short", "428401000000", tlv.ErrTruncated},
		{"the largest length", "4284FFFFFFFF", tlv.ErrTruncated},
		{"reserved first length byte", "42FF", tlv.ErrLength},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := tlv.Parse(unhex(t, c.in))
			require.ErrorIs(t, err, c.want)
		})
	}
}

// X.690 §8.1.3.5: a length may have more bytes than it needs.
func TestParseBER_TakesLongerLengths(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"5303414243 8100", "538103414243 8100", "53820003414243 818100", "5383000003414243 81820000", "538400000003414243 8184 00000000"} {
		l, err := tlv.ParseBER(unhex(t, in))
		require.NoError(t, err, in)
		require.Len(t, l, 2)
		require.Equal(t, []byte("ABC"), l[0].Value)
		require.Empty(t, l[1].Value)
	}
	for in, want := range map[string]error{
		"53850000000003414243": tlv.ErrLength, "5380414243 0000": tlv.ErrLength, "53FF": tlv.ErrLength,
		"53820004414243": tlv.ErrTruncated, "5384FFFFFFFF": tlv.ErrTruncated, "5382 00": tlv.ErrTruncated,
	} {
		_, err := tlv.ParseBER(unhex(t, in))
		require.ErrorIs(t, err, want, in)
	}
}

func TestList_FindReturnsTheFirst(t *testing.T) {
	t.Parallel()
	l, err := tlv.Parse(unhex(t, "8101AA 8201BB 8101CC"))
	require.NoError(t, err)
	n, ok := l.Find(0x81)
	require.True(t, ok)
	require.Equal(t, []byte{0xAA}, n.Value)
	_, ok = l.Find(0x83)
	require.False(t, ok)
}

func TestNode_Children(t *testing.T) {
	t.Parallel()
	l, err := tlv.Parse(unhex(t, "6F0A 820178 85050001060401"))
	require.NoError(t, err)
	c, err := l[0].Children()
	require.NoError(t, err)
	require.Len(t, c, 2)
	require.Equal(t, unhex(t, "0001060401"), c[1].Value)
	_, err = c[1].Children()
	require.Error(t, err)
}

func TestNode_Uint(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]uint64{
		"540100": 0, "54020800": 2048, "5408FFFFFFFFFFFFFFFF": 1<<64 - 1, "540900FFFFFFFFFFFFFFFF": 1<<64 - 1,
	} {
		n, _, err := tlv.Next(unhex(t, in))
		require.NoError(t, err)
		v, ok := n.Uint()
		require.True(t, ok, in)
		require.Equal(t, want, v, in)
	}
	for _, in := range []string{"5400", "540901FFFFFFFFFFFFFFFF"} {
		n, _, err := tlv.Next(unhex(t, in))
		require.NoError(t, err)
		_, ok := n.Uint()
		require.False(t, ok, in)
	}
}

// A node's slices end where the object ends, so that appending to one cannot
// write over its neighbour.
func TestNext_SlicesAreClipped(t *testing.T) {
	t.Parallel()
	b := unhex(t, "4201AA 4201BB")
	n, _, err := tlv.Next(b)
	require.NoError(t, err)
	_ = append(n.Value, 0xFF)
	_ = append(n.Raw, 0xFF)
	require.Equal(t, unhex(t, "4201AA4201BB"), b)
}

func TestAppend_IsReadBackUnchanged(t *testing.T) {
	t.Parallel()
	tags := []tlv.Tag{0x42, 0x53, 0x65, 0x7F21, 0x5F37, 0x7F4E, 0x9F8101, 0xDFFF7F}
	rapid.Check(t, func(t *rapid.T) {
		var b []byte
		type object struct {
			tag   tlv.Tag
			value []byte
		}
		var want []object
		for range rapid.IntRange(0, 5).Draw(t, "objects") {
			o := object{
				rapid.SampledFrom(tags).Draw(t, "tag"),
				rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "value"),
			}
			want = append(want, o)
			b = tlv.Append(b, o.tag, o.value)
		}
		l, err := tlv.Parse(b)
		if err != nil || len(l) != len(want) {
			t.Fatalf("%d objects, %v", len(l), err)
		}
		for i, o := range want {
			if l[i].Tag != o.tag || !bytes.Equal(l[i].Value, o.value) {
				t.Fatalf("object %d is %v %X", i, l[i].Tag, l[i].Value)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"5F2901004203444556", "7F2100", "9F810101FF", "42820100AA", "3080020101", "428200034142435481020000", "538300000341424354840000000100", "4284FFFFFFFF", "6F0A82017885050001060401", "42817F",
	} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// What BER allows is, written down again, what DER demands.
		long, _ := tlv.ParseBER(b)
		var short []byte
		for _, n := range long {
			short = tlv.Append(short, n.Tag, n.Value)
		}
		require.LessOrEqual(t, len(short), len(b))
		again, err := tlv.Parse(short)
		require.NoError(t, err)
		require.Len(t, again, len(long))
		for i, n := range again {
			require.Equal(t, long[i].Tag, n.Tag)
			require.Equal(t, long[i].Value, n.Value)
		}
		l, err := tlv.Parse(b)
		if err != nil {
			require.Nil(t, l)
			return
		}
		// Strict means: what was read is what Append would have written.
		var back []byte
		for _, n := range l {
			back = tlv.Append(back, n.Tag, n.Value)
			n.Uint()
			_, _ = n.Children()
		}
		require.True(t, bytes.Equal(b, back))
		same, err := tlv.ParseBER(b)
		require.NoError(t, err)
		require.Equal(t, l, same)
	})
}
