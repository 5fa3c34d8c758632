package cvc_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/cvc"
	"hsmemu/applet/tlv"
)

func pkaFile(t testing.TB) cvc.PKAFile {
	t.Helper()
	c, err := cvc.ParseChain(emulatorDeviceFile(t))
	require.NoError(t, err)
	r, err := cvc.ParseAuthenticated(emulatorRequest(t))
	require.NoError(t, err)
	return cvc.PKAFile{Request: r, Chain: c}
}

// PKA-30.
func TestPKAFile_BothFormats(t *testing.T) {
	t.Parallel()
	p := pkaFile(t)
	ef, request := emulatorDeviceFile(t), emulatorRequest(t)
	device, issuer := ef[:234], ef[234:]

	require.Equal(t, tlv.Append(nil, 0x30, request, device, issuer), p.PlainBytes())
	require.Equal(t, tlv.Append(nil, 0x30, unhex(t, "060B2B0601040181C31F040301"),
		tlv.Append(nil, 0x61, issuer), tlv.Append(nil, 0x62, device), tlv.Append(nil, 0x63, request)), p.Bytes())
	for _, b := range [][]byte{p.Bytes(), p.PlainBytes()} {
		got, err := cvc.ParsePKAFile(b)
		require.NoError(t, err)
		require.Equal(t, p, got)
		v, err := got.Chain.Verify(cvc.KnownRoots())
		require.NoError(t, err)
		_, err = v.Attest(got.Request)
		require.NoError(t, err)
	}
}

// Names decide, whatever the order.
func TestParsePKAFile_SortsCertificates(t *testing.T) {
	t.Parallel()
	p := pkaFile(t)
	swapped := cvc.PKAFile{Request: p.Request, Chain: cvc.Chain{Device: p.Chain.Issuer, Issuer: p.Chain.Device}}
	for _, b := range [][]byte{swapped.Bytes(), swapped.PlainBytes()} {
		got, err := cvc.ParsePKAFile(b)
		require.NoError(t, err)
		require.Equal(t, p, got)
	}
}

func TestParsePKAFile_Refuses(t *testing.T) {
	t.Parallel()
	p := pkaFile(t)
	ef, request := emulatorDeviceFile(t), emulatorRequest(t)
	for name, b := range map[string][]byte{
		"nothing":           nil,
		"cut":               p.Bytes()[:100],
		"more behind":       append(p.Bytes(), 0),
		"another tag":       tlv.Append(nil, 0x31, request, ef),
		"no TLV inside":     {0x30, 1, 0x7F},
		"empty":             {0x30, 0},
		"no issuer":         tlv.Append(nil, 0x30, request, ef[:234]),
		"certificates only": tlv.Append(nil, 0x30, ef, ef[:234]),
		"another purpose": tlv.Append(nil, 0x30, unhex(t, "060B2B0601040181C31F040201"),
			tlv.Append(nil, 0x61, ef[234:]), tlv.Append(nil, 0x62, ef[:234]), tlv.Append(nil, 0x63, request)),
		"request is none": tlv.Append(nil, 0x30, tlv.Append(nil, 0x67), ef),
		"device is none":  tlv.Append(nil, 0x30, request, tlv.Append(nil, 0x7F21), ef[234:]),
		"issuer is none":  tlv.Append(nil, 0x30, request, ef[:234], tlv.Append(nil, 0x7F21)),
	} {
		_, err := cvc.ParsePKAFile(b)
		require.ErrorIs(t, err, cvc.ErrStructure, name)
	}
}
