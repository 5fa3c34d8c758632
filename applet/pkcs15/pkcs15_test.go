package pkcs15_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/pkcs15"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

// What the Smart Card Shell and the frameworks of its vendor write
// (FILE-44), byte by byte, and what is read from it.
func TestKey_IsWrittenAsTheSmartCardShellDoes(t *testing.T) {
	for name, c := range map[string]struct {
		key  pkcs15.Key
		want string
	}{
		"RSA": {
			pkcs15.Key{Kind: pkcs15.RSA, Label: "sign", ID: []byte{1}, Usage: pkcs15.UsageRSA, Bits: 2048},
			"30 1D 3006 0C04 7369676E 3007 0401 01 0302 0274 A10A 3008 3002 0400 0202 0800",
		},
		"EC": {
			pkcs15.Key{Kind: pkcs15.EC, Label: "sign", ID: []byte{2}, Usage: pkcs15.UsageEC, Bits: 256},
			"A0 1E 3006 0C04 7369676E 3008 0401 02 0303 072080 A10A 3008 3002 0400 0202 0100",
		},
		"EC on a field of 66 bytes": {
			pkcs15.Key{Kind: pkcs15.EC, Label: "p", ID: []byte{0xFF}, Usage: pkcs15.UsageEC, Bits: 528},
			"A0 1B 3003 0C01 70 3008 0401 FF 0303 072080 A10A 3008 3002 0400 0202 0210",
		},
		"EC without size": {
			pkcs15.Key{Kind: pkcs15.EC, Label: "p", ID: []byte{3}, Usage: pkcs15.Sign},
			"A0 16 3003 0C01 70 3007 0401 03 0302 0520 A106 3004 3002 0400",
		},
		"AES": {
			pkcs15.Key{Kind: pkcs15.AES, Label: "k", ID: []byte{4}, Usage: pkcs15.Encrypt | pkcs15.Decrypt, Bits: 128},
			"A8 14 3003 0C01 6B 3007 0401 04 0302 06C0 A004 0202 0080",
		},
		"nothing": {pkcs15.Key{Kind: pkcs15.RSA}, "30 13 3002 0C00 3005 0400 0301 00 A106 3004 3002 0400"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, unhex(t, c.want), c.key.Bytes())
			read, err := pkcs15.ParseKey(c.key.Bytes())
			require.NoError(t, err)
			if c.key.ID == nil {
				c.key.ID = []byte{}
			}
			require.Equal(t, c.key, read)
		})
	}
}

// A description that OpenSC wrote for a key of a Nitrokey HSM (FILE-44),
// and what other writers leave out or add.
func TestParseKey_ReadsEveryWriter(t *testing.T) {
	id := unhex(t, "4D8B45C6B9E00AEE9C677B595E7B7B72572035ED")
	for name, c := range map[string]struct {
		content string
		want    pkcs15.Key
	}{
		"OpenSC": {
			"A03F30110C086274632D74657374030206C0040101301E04144D8B45C6B9E00AEE9C677B595E7B7B72572035ED0303073080020101A10A30083002040002020100",
			pkcs15.Key{Kind: pkcs15.EC, Label: "btc-test", ID: id, Usage: pkcs15.Sign | pkcs15.SignRecover | pkcs15.Derive, Bits: 256},
		},
		"access flags": {
			"30 25 300A 0C01 61 0302 06C0 0401 01 300B 0401 07 0302 0274 0302 03B8 A10A 3008 3002 0400 0202 0400",
			pkcs15.Key{Kind: pkcs15.RSA, Label: "a", ID: []byte{7}, Usage: pkcs15.UsageRSA, Bits: 1024},
		},
		"two bytes of usage, six bits unused": {
			"A0 17 3003 0C01 61 3008 0401 07 0303 06 2080 A106 3004 3002 0400",
			pkcs15.Key{Kind: pkcs15.EC, Label: "a", ID: []byte{7}, Usage: pkcs15.UsageEC},
		},
		"subject": {
			"30 2D 3003 0C01 61 3007 0401 07 0302 0274 A011 300F 310D 300B 0603 550403 0C04 74657374 A10A 3008 3002 0400 0202 0800",
			pkcs15.Key{Kind: pkcs15.RSA, Label: "a", ID: []byte{7}, Usage: pkcs15.UsageRSA, Bits: 2048},
		},
		"no label, no identifier": {"30 04 3000 3000", pkcs15.Key{Kind: pkcs15.RSA}},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := pkcs15.ParseKey(unhex(t, c.content))
			require.NoError(t, err)
			require.Equal(t, c.want, k)
		})
	}
}

func TestCertificate_IsWrittenAsTheCardFrameworkDoes(t *testing.T) {
	c := pkcs15.Certificate{Label: "CA", ID: unhex(t, "0102030405060708090A0B0C0D0E0F1011121314"), File: 0xCA02}
	want := unhex(t, "30 2C 3008 0C02 4341 0302 0640 3016 0414 0102030405060708090A0B0C0D0E0F1011121314 A108 3006 3004 0402 CA02")
	require.Equal(t, want, c.Bytes())
}

func TestParse_RefusesWhatIsNone(t *testing.T) {
	for name, content := range map[string]string{
		"nothing":                   "",
		"cut short":                 "3004 3000 30",
		"something behind":          "3004 3000 3000 00",
		"a certificate":             "3003 020101",
		"attributes of another tag": "3004 3000 3100",
		"broken attributes":         "3006 3000 3002 0405",
		"broken size":               "3008 3000 3000 A102 3003",
		"another tag":               "A104 3000 3000",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pkcs15.ParseKey(unhex(t, content))
			require.ErrorIs(t, err, pkcs15.ErrDescription)
		})
	}
	k, err := pkcs15.ParseKey(unhex(t, "3011 3000 3000 A10B 3009 3002 0400 0203 010001"))
	require.NoError(t, err)
	require.Zero(t, k.Bits, "no key is that big")
}

func TestKind_NamesItself(t *testing.T) {
	require.Equal(t, []string{"RSA", "EC", "AES", "key of type A1"},
		[]string{pkcs15.RSA.String(), pkcs15.EC.String(), pkcs15.AES.String(), pkcs15.Kind(0xA1).String()})
}

// Whatever is read can be written and read again.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"A03F30110C086274632D74657374030206C0040101301E04144D8B45C6B9E00AEE9C677B595E7B7B72572035ED0303073080020101A10A30083002040002020100",
		"301D30060C047369676E3007040101030202 74A10A3008300204000202 0800",
		"A51530040C0243413003040105A108300630040402CA02", "300430003000",
	} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := pkcs15.ParseKey(b); err == nil {
			again, err := pkcs15.ParseKey(k.Bytes())
			require.NoError(t, err)
			if k.ID == nil {
				k.ID = []byte{}
			}
			require.Equal(t, k, again)
		}
	})
}
