package sm_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hsmemu/applet/apdu"
	"hsmemu/applet/sm"
	"hsmemu/applet/tlv"
)

// waiting is a host that has sent a command and waits for message 2.
func waiting(t testing.TB, s sm.Suite) sm.Host {
	t.Helper()
	_, host := open(t, s)
	command, _ := exchange(0x20)
	_, host, err := host.Wrap(command)
	require.NoError(t, err)
	return host
}

func TestUnwrap_RefusesWrongObjectsWithRightChecksum(t *testing.T) {
	t.Parallel()
	for _, s := range suites {
		f := newForger(t, s)
		block := f.cryptogram(t, 2, f.padded([]byte("data")))
		data87 := tlv.Append(nil, 0x87, []byte{1}, block)
		data85 := tlv.Append(nil, 0x85, block)
		status := []byte{0x99, 0x02, 0x90, 0x00}

		for _, c := range []struct {
			name    string
			objects []byte
			want    error
		}{
			{"no status", data87, sm.ErrMissing},
			{"status before data", join(status, data87), sm.ErrMissing},
			{"data in both forms", join(data87, data85, status), sm.ErrMissing},
			{"data in both forms, other order", join(data85, data87, status), sm.ErrMissing},
			{"plain value object", join([]byte{0x81, 0x01, 0x55}, status), sm.ErrMissing},
			{"Le in an answer", join([]byte{0x97, 0x01, 0x00}, status), sm.ErrMissing},
			{"other status word inside", []byte{0x99, 0x02, 0x63, 0xC0}, sm.ErrWrong},
			{"status word of one byte", []byte{0x99, 0x01, 0x90}, sm.ErrWrong},
			{"status word of three bytes", []byte{0x99, 0x03, 0x00, 0x90, 0x00}, sm.ErrWrong},
			{"empty status word", []byte{0x99, 0x00}, sm.ErrWrong},
			{"no indicator", join([]byte{0x87, 0x00}, status), sm.ErrWrong},
			{"cryptogram of another message", join(tlv.Append(nil, 0x85, f.cryptogram(t, 1, bytes.Repeat([]byte{0x11}, 16))), status), sm.ErrWrong},
		} {
			t.Run(s.String()+"/"+c.name, func(t *testing.T) {
				host := waiting(t, s)
				got, after, err := host.Unwrap(f.response(t, c.objects, apdu.OK))
				require.ErrorIs(t, err, c.want)
				require.Empty(t, got)
				require.False(t, after.Active())
				require.True(t, host.Active())
			})
		}

		got, _, err := waiting(t, s).Unwrap(f.response(t, join(data85, status), apdu.OK))
		require.NoError(t, err)
		require.Equal(t, apdu.Response{Data: []byte("data"), SW: apdu.OK}, got)
	}
}

func TestUnwrap_ReportsBareStatusWord(t *testing.T) {
	t.Parallel()
	for _, sw := range []apdu.SW{apdu.MissingSMObject, apdu.WrongSMObject, apdu.ConditionsNotSatisfied} {
		_, after, err := waiting(t, sm.AES128).Unwrap(apdu.Response{SW: sw})
		require.ErrorIs(t, err, sm.ErrUnprotected)
		require.ErrorIs(t, err, sw)
		require.False(t, after.Active())
	}
}

func TestUnwrap_RefusesEveryFlippedBit(t *testing.T) {
	t.Parallel()
	for _, s := range suites {
		for _, ins := range []byte{0x20, 0xB1} {
			card, host := open(t, s)
			command, answer := exchange(ins)
			wrapped, host, err := host.Wrap(command)
			require.NoError(t, err)
			_, card, err = card.Open(wrapped)
			require.NoError(t, err)
			sealed, _, err := card.Seal(ins, answer)
			require.NoError(t, err)
			whole := sealed.Bytes()
			for bit := range 8 * len(whole) {
				b := bytes.Clone(whole)
				b[bit/8] ^= 1 << (bit % 8)
				refusesResponse(t, host, b, "bit %d", bit)
			}
			for n := 1; n <= len(whole)-2; n++ {
				refusesResponse(t, host, whole[n:], "without the first %d bytes", n)
				refusesResponse(t, host, whole[:len(whole)-n], "without the last %d bytes", n)
			}
			got, _, err := host.Unwrap(sealed)
			require.NoError(t, err)
			require.Equal(t, answer, got)
		}
	}
}

func refusesResponse(t *testing.T, host sm.Host, b []byte, what ...any) {
	t.Helper()
	received, err := apdu.ParseResponse(b)
	require.NoError(t, err)
	_, after, err := host.Unwrap(received)
	require.Error(t, err, what...)
	require.False(t, after.Active())
}

func TestWrap_ChoosesTheForm(t *testing.T) {
	t.Parallel()
	const short, long = 256, 65536
	for _, c := range []struct {
		name    string
		command apdu.Command
		outer   int    // Ne
		le      []byte // object 97
	}{
		{"case 1", apdu.Command{}, short, nil},
		{"case 2", apdu.Command{Ne: 8}, short, []byte{0x08}},
		{"case 2, all", apdu.Command{Ne: 256}, short, []byte{0x00}},
		{"case 2 extended", apdu.Command{Ne: 257}, long, []byte{0x01, 0x01}},
		{"case 2 extended, all", apdu.Command{Ne: 65536}, long, []byte{0x00, 0x00}},
		{"case 2 extended without need", apdu.Command{Ne: 8, Extended: true}, long, []byte{0x00, 0x08}},
		{"case 3 extended without need", apdu.Command{Data: []byte{1}, Extended: true}, long, nil},
		// 1+2+1+224+10 = 238 bytes, then 254 and, as its length takes two
		// bytes from there on, 271.
		{"case 3, fits", apdu.Command{Data: make([]byte, 223)}, short, nil},
		{"case 3, just fits", apdu.Command{Data: make([]byte, 239)}, short, nil},
		{"case 3, no longer fits", apdu.Command{Data: make([]byte, 240)}, long, nil},
		{"case 4, no longer fits because of Le", apdu.Command{Data: make([]byte, 239), Ne: 256}, long, []byte{0x00}},
		{"case 4, data too long for short", apdu.Command{Data: make([]byte, 256), Ne: 256}, long, []byte{0x01, 0x00}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, host := open(t, sm.AES128)
			wrapped, _, err := host.Wrap(c.command)
			require.NoError(t, err)
			require.Equal(t, c.outer, wrapped.Ne)
			require.Equal(t, c.outer == long, wrapped.Extended)
			require.Equal(t, byte(0x0C), wrapped.CLA)
			list, err := tlv.Parse(wrapped.Data)
			require.NoError(t, err)
			n, _ := list.Find(0x97)
			require.Equal(t, c.le, n.Value)
			again, err := apdu.Parse(wrapped.Bytes())
			require.NoError(t, err)
			require.Equal(t, wrapped, again)
		})
	}
}

func TestWrap_RefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		command apdu.Command
		want    error
	}{
		{"protected already", apdu.Command{CLA: 0x0C}, sm.ErrClass},
		{"other protection", apdu.Command{CLA: 0x84}, sm.ErrClass},
		{"negative Ne", apdu.Command{Ne: -1}, sm.ErrLength},
		{"Ne too large", apdu.Command{Ne: 65537}, sm.ErrLength},
		{"cryptogram too long", apdu.Command{Data: make([]byte, 65504), Ne: 1}, sm.ErrLength},
		{"data too long", apdu.Command{Data: make([]byte, 65536)}, sm.ErrLength},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, host := open(t, sm.AES128)
			_, after, err := host.Wrap(c.command)
			require.ErrorIs(t, err, c.want)
			require.Equal(t, host, after)
		})
	}
	// The longest that fits: 4+1+65504+4+10 bytes.
	card, host := open(t, sm.AES128)
	command := apdu.Command{Data: make([]byte, 65503), Ne: 65536, Extended: true}
	wrapped, _, err := host.Wrap(command)
	require.NoError(t, err)
	received, err := apdu.Parse(wrapped.Bytes())
	require.NoError(t, err)
	got, _, err := card.Open(received)
	require.NoError(t, err)
	require.Equal(t, command, got)
}

// fill draws up to 4096 bytes that differ from place to place.
func fill(t *rapid.T, label string) []byte {
	b := bytes.Repeat([]byte{rapid.Byte().Draw(t, label)}, rapid.IntRange(0, 4096).Draw(t, label+" length"))
	for i := range b {
		b[i] += byte(i * i >> 3)
	}
	return b
}

func drawCommand(t *rapid.T) apdu.Command {
	ne := rapid.OneOf(rapid.Just(0), rapid.IntRange(1, 256), rapid.IntRange(257, 65536))
	return apdu.Command{
		CLA:      rapid.Byte().Draw(t, "CLA") &^ 0x0C,
		INS:      rapid.Byte().Draw(t, "INS"),
		P1:       rapid.Byte().Draw(t, "P1"),
		P2:       rapid.Byte().Draw(t, "P2"),
		Data:     fill(t, "data"),
		Ne:       ne.Draw(t, "Ne"),
		Extended: rapid.Bool().Draw(t, "extended"),
	}
}

func TestEnds_UnderstandEachOther(t *testing.T) {
	t.Parallel()
	cards, hosts := map[sm.Suite]sm.Channel{}, map[sm.Suite]sm.Host{}
	for _, s := range suites {
		cards[s], hosts[s] = open(t, s)
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(suites).Draw(t, "suite")
		card, host := cards[s], hosts[s]
		for range rapid.IntRange(1, 4).Draw(t, "exchanges") {
			command := drawCommand(t)
			wrapped, nextHost, err := host.Wrap(command)
			require.NoError(t, err)
			received, err := apdu.Parse(wrapped.Bytes())
			require.NoError(t, err)
			plain, nextCard, err := card.Open(received)
			require.NoError(t, err)
			again, nextAgain, err := card.Open(received)
			require.NoError(t, err)
			require.Equal(t, plain, again, "Open changed its channel")
			require.Equal(t, nextCard, nextAgain)

			// A form longer than needed shows in Le only.
			long := len(command.Data) > 255 || command.Ne > 256
			command.Extended = long || command.Extended && command.Ne > 0
			require.Equal(t, command.Bytes(), plain.Bytes())
			require.Equal(t, command.Extended, plain.Extended)

			answer := apdu.Response{Data: fill(t, "answer"), SW: apdu.SW(rapid.Uint16().Draw(t, "SW"))}
			sealed, nextCard, err := nextCard.Seal(command.INS, answer)
			require.NoError(t, err)
			back, err := apdu.ParseResponse(sealed.Bytes())
			require.NoError(t, err)
			got, nextHost, err := nextHost.Unwrap(back)
			require.NoError(t, err)
			require.Equal(t, answer.Bytes(), got.Bytes())
			card, host = nextCard, nextHost
		}
	})
}
