package cvc_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/cvc"
)

func TestAttestation_String(t *testing.T) {
	t.Parallel()
	a, err := cvc.Attest(emulatorRequest(t), emulatorDeviceFile(t), cvc.KnownRoots())
	require.NoError(t, err)
	require.Equal(t, `emulated device, which proves nothing
root UTSRCAEM100001, issued by UTSRCAEM100001, valid 2024-01-01 to 2044-01-01, EC brainpoolP256r1, id-TA-ECDSA-SHA-256
device issuer UTDICAEM0100001, issued by UTSRCAEM100001, valid 2024-01-01 to 2034-01-01, EC on the issuer's curve, id-TA-ECDSA-SHA-256
device UTEM010000100000, issued by UTDICAEM0100001, valid 2024-01-01 to 2032-01-01, EC on the issuer's curve, id-TA-ECDSA-SHA-256
request UTEM010000100001 to UTCA00001, EC brainpoolP256r1, id-TA-ECDSA-SHA-256, authenticated by UTEM010000100000`, a.String())
}

func TestString_OfOddThings(t *testing.T) {
	t.Parallel()
	require.Equal(t, "no key", cvc.PublicKey{}.String())
	k := cvc.NewRSA(cvc.PSSSHA256, append([]byte{0x00, 0xC1}, make([]byte, 127)...), []byte{3})
	require.Equal(t, "RSA 1024 bits, id-TA-RSA-PSS-SHA-256", k.String())
	r := cvc.Request{RequestBody: cvc.RequestBody{CHR: "a\nb", Key: k}}
	require.Equal(t, `request "a\nb" to no authority, RSA 1024 bits, id-TA-RSA-PSS-SHA-256`, r.String())
	require.Equal(t, "foreign role", cvc.RoleForeign.String())
	require.Equal(t, "foreign role", cvc.Role(0x40).String())
	for o, want := range map[cvc.Origin]string{
		cvc.OriginVendor:     "genuine hardware of the vendor",
		cvc.OriginVendorTest: "test device of the vendor",
		cvc.OriginOther:      "device of another root",
		cvc.OriginEmulator:   "emulated device, which proves nothing",
	} {
		require.Equal(t, want, o.String())
	}
}

// The origin is decided by the whole certificate: a name is easily taken.
func TestVerified_OriginIsNotDecidedByName(t *testing.T) {
	t.Parallel()
	for i, want := range []cvc.Origin{
		cvc.OriginVendor, cvc.OriginVendorTest, cvc.OriginVendor, cvc.OriginEmulator,
	} {
		require.Equal(t, want, cvc.Verified{Root: cvc.KnownRoots()[i]}.Origin())
	}
	fake, err := cvc.NewRoot(userKey(t), "DESRCACC100001", day(2012, 11, 9), nil)
	require.NoError(t, err)
	require.Equal(t, cvc.OriginOther, cvc.Verified{Root: fake.Certificate}.Origin())
}
