package sm_test

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/applet/sm"
	"hsmemu/keystore/curve"
)

var suites = []sm.Suite{sm.TripleDES, sm.AES128, sm.AES192, sm.AES256}

// rows reads a table of testdata: fields by spaces, remarks after #.
func rows(t testing.TB, name string) [][]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	var out [][]string
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) > 0 {
			out = append(out, f)
		}
	}
	return out
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// agreement is the table of the same name.
func agreement(t testing.TB) func(name string) []byte {
	t.Helper()
	values := map[string][]byte{}
	for _, f := range rows(t, "agreement.txt") {
		values[f[0]] = unhex(t, f[1])
	}
	return func(name string) []byte {
		t.Helper()
		require.Contains(t, values, name)
		return values[name]
	}
}

// parties are the two keys of the vectors.
func parties(t testing.TB) (device, terminal *curve.Private) {
	t.Helper()
	v := agreement(t)
	c, ok := curve.ByName("brainpoolP256r1")
	require.True(t, ok)
	device, err := c.Private(v("device"))
	require.NoError(t, err)
	terminal, err = c.Private(v("terminal"))
	require.NoError(t, err)
	return device, terminal
}

// open makes both ends of the vectors' channel.
func open(t testing.TB, s sm.Suite) (sm.Channel, sm.Host) {
	t.Helper()
	device, terminal := parties(t)
	card, answer, err := s.Authenticate(device, sm.Nonce(agreement(t)("nonce")), sm.Present(terminal).Data)
	require.NoError(t, err)
	host, err := s.Confirm(terminal, device.Public(), answer)
	require.NoError(t, err)
	return card, host
}

// Shows SM-1 and SM-5.
func TestAgreement_IsThatOfTheVectors(t *testing.T) {
	t.Parallel()
	v := agreement(t)
	device, terminal := parties(t)
	require.Equal(t, v("Q"), device.Public().Bytes())
	require.Equal(t, v("T"), terminal.Public().Bytes())
	for _, own := range []struct {
		key  *curve.Private
		peer *curve.Public
	}{{device, terminal.Public()}, {terminal, device.Public()}} {
		shared, err := own.key.Shared(own.peer)
		require.NoError(t, err)
		require.Equal(t, v("K"), shared[1:33])
	}
	require.Equal(t, v("select"), sm.AES128.Select().Bytes())
	require.Equal(t, v("present"), sm.Present(terminal).Bytes())
	require.Equal(t, v("object"), sm.PublicKey(sm.TripleDES, terminal.Public()))

	for _, s := range suites {
		t.Run(s.String(), func(t *testing.T) {
			of := func(name string) []byte { return v(string('0'+rune(s)) + "." + name) }
			nonce := sm.Nonce(v("nonce"))
			require.Equal(t, of("enc"), sm.Derive(s, v("K"), nonce, 1))
			require.Equal(t, of("mac"), sm.Derive(s, v("K"), nonce, 2))

			card, answer, err := s.Authenticate(device, nonce, sm.Present(terminal).Data)
			require.NoError(t, err)
			require.Equal(t, of("answer"), answer)
			require.Equal(t, of("token"), sm.Token(card, sm.PublicKey(s, terminal.Public())))
			host, err := s.Confirm(terminal, device.Public(), answer)
			require.NoError(t, err)
			require.True(t, card.Active())
			require.True(t, host.Active())
		})
	}
}

// The token is where card and TR-03110 differ: SM-3.
func TestToken_OfTripleDESIsNotPaddedByMethod2(t *testing.T) {
	t.Parallel()
	v := agreement(t)
	card, _ := open(t, sm.TripleDES)
	padded := append(append([]byte{}, v("object")...), 0x80)
	require.Equal(t, v("method2"), sm.Token(card, padded))
	require.Equal(t, v("1.token"), sm.Token(card, v("object")))
}

// Shows SM-14, SM-15, SM-16, SM-17 and SM-20.
func TestMessages_AreThoseOfTheVectors(t *testing.T) {
	t.Parallel()
	for _, s := range []sm.Suite{sm.TripleDES, sm.AES128} {
		t.Run(s.String(), func(t *testing.T) {
			card, host := open(t, s)
			var ins byte
			for _, f := range rows(t, "messages.txt") {
				if f[0] != string('0'+rune(s)) {
					continue
				}
				if f[1] == "C" {
					card, host, ins = commandVector(t, card, host, unhex(t, f[2]), unhex(t, f[3]))
					continue
				}
				plain, err := apdu.ParseResponse(unhex(t, f[2]))
				require.NoError(t, err)
				protected, err := apdu.ParseResponse(unhex(t, f[3]))
				require.NoError(t, err)
				got, hostAfter, err := host.Unwrap(protected)
				require.NoError(t, err)
				require.Equal(t, plain, got)
				if f[1] == "r" {
					continue
				}
				host = hostAfter
				var sealed apdu.Response
				sealed, card, err = card.Seal(ins, plain)
				require.NoError(t, err)
				require.Equal(t, protected, sealed)
			}
			require.Equal(t, "host channel, "+s.String()+", message 8", host.String())
			require.Equal(t, "card channel, "+s.String()+", message 8", card.String())
		})
	}
}

func commandVector(t *testing.T, card sm.Channel, host sm.Host, plain, protected []byte) (sm.Channel, sm.Host, byte) {
	t.Helper()
	c, err := apdu.Parse(plain)
	require.NoError(t, err)
	wrapped, host, err := host.Wrap(c)
	require.NoError(t, err)
	require.Equal(t, protected, wrapped.Bytes())
	received, err := apdu.Parse(protected)
	require.NoError(t, err)
	got, card, err := card.Open(received)
	require.NoError(t, err)
	require.Equal(t, c, got)
	return card, host, c.INS
}

// MAC input of the first command (SM-16), through a checksum
// that shares nothing with the package but cmac.
func TestChecksum_CoversCounterHeaderAndLe(t *testing.T) {
	t.Parallel()
	v := agreement(t)
	for _, c := range []struct {
		suite           sm.Suite
		input, checksum string
	}{
		{sm.TripleDES, "0000000000000001" + "0C20008180000000" + "9701008000000000", "A6D842708C4310D7"},
		{
			sm.AES128, "00000000000000000000000000000001" + "0C200081800000000000000000000000" +
				"97010080000000000000000000000000", "D5B19DF5B9E45799",
		},
	} {
		f := forger{suite: c.suite, enc: v("1.enc"), mac: v("1.mac")}
		require.Equal(t, unhex(t, c.checksum), f.sum(t, unhex(t, c.input)))
	}
}
