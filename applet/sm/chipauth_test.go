package sm_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/sm"
	"hsmemu/applet/tlv"
	"hsmemu/keystore/curve"
)

func TestParseSelection_FindsSuite(t *testing.T) {
	t.Parallel()
	for _, s := range suites {
		for _, extra := range []string{"", "840100", "830100", "83010084020102"} {
			got, err := sm.ParseSelection(append(s.Select().Data, unhex(t, extra)...))
			require.NoError(t, err)
			require.Equal(t, s, got)
		}
		got, err := sm.ParseSelection(append(unhex(t, "840100"), s.Select().Data...))
		require.NoError(t, err)
		require.Equal(t, s, got)
		found, ok := sm.SuiteByOID(s.OID())
		require.True(t, ok)
		require.Equal(t, s, found)
	}
}

func TestParseSelection_RefusesTheRest(t *testing.T) {
	t.Parallel()
	const oid = "800A04007F000702020302"
	for _, c := range []struct {
		name, data string
		want       error
	}{
		{"nothing", "", sm.ErrData},
		{"no tag 80", "840100", sm.ErrData},
		{"key selection", "830755544343303031", sm.ErrData},
		{"cut short", oid, sm.ErrData},
		{"80 twice", oid + "02" + oid + "02", sm.ErrData},
		{"empty 80 twice", "80008000", sm.ErrData},
		{"other object", oid + "02" + "7F4900", sm.ErrData},
		{"arc 0", oid + "00", sm.ErrSuite},
		{"arc 5", oid + "05", sm.ErrSuite},
		{"arc 82", oid + "82", sm.ErrSuite},
		{"empty", "8000", sm.ErrSuite},
		{"without last arc", "800904007F000702020302", sm.ErrSuite},
		{"arc after the last", "800B04007F00070202030202" + "01", sm.ErrSuite},
		{"chip authentication by DH", "800A04007F00070202030102", sm.ErrSuite},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := sm.ParseSelection(unhex(t, c.data))
			require.ErrorIs(t, err, c.want)
			require.Zero(t, s)
		})
	}
}

// onP256 is a key on another curve than those of the vectors, as wide.
func onP256(t *testing.T) *curve.Private {
	t.Helper()
	c, ok := curve.ByName("secp256r1")
	require.True(t, ok)
	k, err := c.Private([]byte{5})
	require.NoError(t, err)
	return k
}

func TestAuthenticate_RefusesMalformedData(t *testing.T) {
	t.Parallel()
	device, terminal := parties(t)
	point := terminal.Public().Bytes()
	inner := tlv.Append(nil, 0x80, point)
	good := sm.Present(terminal).Data
	offCurve := bytes.Clone(point)
	offCurve[64] ^= 1
	compressed := append([]byte{2 + point[64]&1}, point[1:33]...)
	other := onP256(t)

	for _, c := range []struct {
		name string
		data []byte
		want error
	}{
		{"nothing", nil, sm.ErrData},
		{"empty template", []byte{0x7C, 0x00}, sm.ErrData},
		{"no template", inner, sm.ErrData},
		{"other template", tlv.Append(nil, 0x7D, inner), sm.ErrData},
		{"cut short", good[:len(good)-1], sm.ErrData},
		{"byte behind", append(bytes.Clone(good), 0x00), sm.ErrData},
		{"object behind", append(bytes.Clone(good), 0x80, 0x00), sm.ErrData},
		{"two points", tlv.Append(nil, 0x7C, inner, inner), sm.ErrData},
		{"other object", tlv.Append(nil, 0x7C, tlv.Append(nil, 0x81, point)), sm.ErrData},
		{"object in pieces", tlv.Append(nil, 0x7C, inner[:20]), sm.ErrData},
		{"empty point", tlv.Append(nil, 0x7C, tlv.Append(nil, 0x80)), curve.ErrPoint},
		{"infinity", tlv.Append(nil, 0x7C, tlv.Append(nil, 0x80, []byte{0})), curve.ErrPoint},
		{"point off the curve", tlv.Append(nil, 0x7C, tlv.Append(nil, 0x80, offCurve)), curve.ErrPoint},
		{"compressed point", tlv.Append(nil, 0x7C, tlv.Append(nil, 0x80, compressed)), curve.ErrPoint},
		{"point of another curve", sm.Present(other).Data, curve.ErrPoint},
	} {
		t.Run(c.name, func(t *testing.T) {
			card, answer, err := sm.AES128.Authenticate(device, sm.Nonce{}, c.data)
			require.ErrorIs(t, err, c.want)
			require.Nil(t, answer)
			require.False(t, card.Active())
		})
	}
	for _, s := range []sm.Suite{0, 5} {
		_, _, err := s.Authenticate(device, sm.Nonce{}, good)
		require.ErrorIs(t, err, sm.ErrSuite)
	}
}

func TestConfirm_RefusesWrongAnswers(t *testing.T) {
	t.Parallel()
	device, terminal := parties(t)
	v := agreement(t)
	nonce, token := tlv.Append(nil, 0x81, v("nonce")), tlv.Append(nil, 0x82, v("2.token"))
	for _, c := range []struct {
		name   string
		answer []byte
		want   error
	}{
		{"nothing", nil, sm.ErrData},
		{"nonce alone", tlv.Append(nil, 0x7C, nonce), sm.ErrData},
		{"other order", tlv.Append(nil, 0x7C, token, nonce), sm.ErrData},
		{"third object", tlv.Append(nil, 0x7C, nonce, token, []byte{0x83, 0x00}), sm.ErrData},
		{"short nonce", tlv.Append(nil, 0x7C, tlv.Append(nil, 0x81, v("nonce")[1:]), token), sm.ErrData},
		{"long nonce", tlv.Append(nil, 0x7C, tlv.Append(nil, 0x81, v("nonce"), []byte{0}), token), sm.ErrData},
		{"short token", tlv.Append(nil, 0x7C, nonce, tlv.Append(nil, 0x82, v("2.token")[:7])), sm.ErrData},
		{"empty token", tlv.Append(nil, 0x7C, nonce, []byte{0x82, 0x00}), sm.ErrData},
		{"token of another suite", v("3.answer"), sm.ErrToken},
		{"token for another nonce", tlv.Append(nil, 0x7C, tlv.Append(nil, 0x81, v("nonce")[:7], []byte{9}), token), sm.ErrToken},
	} {
		t.Run(c.name, func(t *testing.T) {
			host, err := sm.AES128.Confirm(terminal, device.Public(), c.answer)
			require.ErrorIs(t, err, c.want)
			require.False(t, host.Active())
		})
	}
	for bit := range 64 {
		answer := bytes.Clone(v("2.answer"))
		answer[len(answer)-1-bit/8] ^= 1 << (bit % 8)
		_, err := sm.AES128.Confirm(terminal, device.Public(), answer)
		require.ErrorIs(t, err, sm.ErrToken)
	}

	impostor, err := device.Curve().Private([]byte{5})
	require.NoError(t, err)
	_, err = sm.AES128.Confirm(terminal, impostor.Public(), v("2.answer"))
	require.ErrorIs(t, err, sm.ErrToken)
	_, err = sm.Suite(0).Confirm(terminal, device.Public(), v("2.answer"))
	require.ErrorIs(t, err, sm.ErrSuite)
	_, err = sm.AES128.Confirm(onP256(t), device.Public(), v("2.answer"))
	require.Error(t, err)
	require.NotErrorIs(t, err, sm.ErrToken)
}

// A device key may be on any curve, and both ends agree there too; with 521
// bits the objects need a longer length field.
func TestAuthenticate_WorksOnEveryCurve(t *testing.T) {
	t.Parallel()
	for _, c := range curve.All() {
		device, err := c.Private([]byte{3})
		require.NoError(t, err)
		terminal, err := c.Private([]byte{7})
		require.NoError(t, err)
		card, answer, err := sm.AES256.Authenticate(device, sm.Nonce{1}, sm.Present(terminal).Data)
		require.NoError(t, err)
		host, err := sm.AES256.Confirm(terminal, device.Public(), answer)
		require.NoError(t, err)
		command, _ := exchange(0x20)
		wrapped, _, err := host.Wrap(command)
		require.NoError(t, err)
		_, _, err = card.Open(wrapped)
		require.NoError(t, err)
	}
}

func TestPrinting_ShowsNoKeys(t *testing.T) {
	t.Parallel()
	v := agreement(t)
	for _, s := range suites {
		card, host := open(t, s)
		type hidden struct {
			card sm.Channel
			host *sm.Host
		}
		var out strings.Builder
		for _, x := range []any{card, &card, host, &host, []any{card, host}, hidden{card, &host}, &hidden{card, &host}} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d", "%q", "%b", "%o"} {
				_, _ = fmt.Fprintf(&out, verb+"\n", x)
			}
			slog.New(slog.NewTextHandler(&out, nil)).Info("text", "x", x)
			slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "x", x)
			b, err := json.Marshal(x)
			require.NoError(t, err)
			out.Write(b)
		}
		text := strings.ToLower(out.String())
		require.Contains(t, text, "card channel, "+strings.ToLower(s.String())+", message 0")
		for _, name := range []string{"enc", "mac"} {
			key := v(string('0'+rune(s)) + "." + name)[:3]
			require.NotContains(t, text, hex.EncodeToString(key))
			require.NotContains(t, text, fmt.Sprintf("%d %d %d", key[0], key[1], key[2]))
			require.NotContains(t, text, fmt.Sprintf("0x%x, 0x%x, 0x%x", key[0], key[1], key[2]))
		}
	}
	require.Equal(t, "card channel, closed", sm.Channel{}.String())
	require.Equal(t, "host channel, closed", fmt.Sprintf("%#v", sm.Host{}))
	require.Equal(t, "none", sm.Suite(0).String())
}
