package cvc_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/cvc"
	"hsmemu/applet/tlv"
	"hsmemu/keystore/curve"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	require.NoError(t, err)
	return b
}

func file(t testing.TB, parts ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(parts...))
	require.NoError(t, err)
	return unhex(t, string(b))
}

// realCard returns data of a real card; the vectors are not part of the project.
func realCard(t testing.TB, name string) []byte {
	t.Helper()
	dir := filepath.Join("..", "..", "..", "shared", "vectors")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("vectors of real cards are absent")
	}
	return file(t, dir, name)
}

const (
	realDeviceFile = "nitrokey-hsm2-fw4.1-ef2f02.hex"
	realRequest    = "nitrokey-hsm2-fw4.1-efce01-secp256k1.hex"
)

func emulatorDeviceFile(t testing.TB) []byte { return file(t, "testdata", "emulator-ef2f02.hex") }
func emulatorRequest(t testing.TB) []byte    { return file(t, "testdata", "emulator-request.hex") }

func named(t testing.TB, name string) *curve.Curve {
	t.Helper()
	c, ok := curve.ByName(name)
	require.True(t, ok, name)
	return c
}

// private returns the scalar of the test PKI (CVC-27): first, then 31 times rest.
func private(t testing.TB, c *curve.Curve, first, rest byte) *curve.Private {
	t.Helper()
	k, err := c.Private(append([]byte{first}, bytes.Repeat([]byte{rest}, 31)...))
	require.NoError(t, err)
	return k
}

func deviceKey(t testing.TB) *curve.Private {
	return private(t, named(t, "brainpoolP256r1"), 0x2F, 0x11)
}

func userKey(t testing.TB) *curve.Private {
	return private(t, named(t, "brainpoolP256r1"), 0x5C, 0x03)
}

func day(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }

// request makes an authenticated request for the key, signed by device.
func request(t testing.TB, k *curve.Private, device *curve.Private, by cvc.Name) cvc.Authenticated {
	t.Helper()
	r, err := cvc.RequestBody{
		CAR: "UTCA00001", Key: cvc.NewEC(cvc.ECDSASHA256, k.Public()), CHR: "UTEM010000100001",
	}.Sign(cvc.SignEC(k, nil))
	require.NoError(t, err)
	a, err := r.Countersign(by, cvc.ECDSASHA256, cvc.SignEC(device, nil))
	require.NoError(t, err)
	return a
}

// CVC-16: names, dates, role and self-signature of the public roots.
//
// Shows CVC-12.
func TestVendorRoots_VerifyThemselves(t *testing.T) {
	t.Parallel()
	roots := cvc.VendorRoots()
	require.Len(t, roots, 3)
	for i, want := range []struct {
		name     cvc.Name
		from, to time.Time
		x        string
	}{
		{"DESRCACC100001", day(2012, 11, 9), day(2032, 11, 8), "6D025A8026CDBA245F10DF1B72E9880FFF746DAB40A43A3D5C6BEBF27707C30F"},
		{"UTSRCACC100001", day(2012, 11, 9), day(2032, 11, 8), "A041FEB2FD116B2AD19CA6B7EACD71C9892F941BB88D67DCEEC92501F0700119"},
		{"DESCHSMCVCA00001", day(2017, 7, 31), day(2030, 7, 31), "0ED940FA3D560900561914EB344A80861DF1CF7BDB21BF13F490C9938A32AE82"},
	} {
		r := roots[i]
		require.Equal(t, want.name, r.CHR)
		require.Equal(t, want.name, r.CAR)
		require.True(t, r.CHR.Valid())
		require.Equal(t, want.from, r.Effective)
		require.Equal(t, want.to, r.Expires)
		require.Equal(t, cvc.RoleRoot, r.Authorization.Role())
		require.Equal(t, cvc.ECDSASHA256, r.Key.Scheme)
		require.Equal(t, "brainpoolP256r1", r.Key.Curve.Name())
		require.Equal(t, unhex(t, want.x), r.Key.Point[1:33])
		require.Nil(t, r.Extensions)
		require.NoError(t, r.Verify(r.Key))
	}
}

func TestVendorRoots_AreTheOnesInCirculation(t *testing.T) {
	t.Parallel()
	roots := cvc.VendorRoots()
	require.Equal(t, realCard(t, "srca-desrcacc100001.hex"), roots[0].Raw)
	require.Equal(t, realCard(t, "srca-utsrcacc100001.hex"), roots[1].Raw)
}

// Shows CVC-8 and CVC-22.
func TestChain_RealDeviceEndsInVendorRoot(t *testing.T) {
	t.Parallel()
	ef := realCard(t, realDeviceFile)
	c, err := cvc.ParseChain(ef)
	require.NoError(t, err)
	require.Equal(t, ef, c.Bytes())
	require.Equal(t, cvc.Name("DENK040414400000"), c.Device.CHR)
	require.Equal(t, "DENK0404144", c.Device.CHR.Holder())
	require.Equal(t, cvc.Name("DEDINK0400001"), c.Device.CAR)
	require.Equal(t, cvc.Name("DEDINK0400001"), c.Issuer.CHR)
	require.Equal(t, day(2026, 5, 28), c.Device.Effective)
	require.Equal(t, day(2031, 5, 27), c.Device.Expires)
	require.Equal(t, day(2024, 10, 30), c.Issuer.Effective)
	require.Equal(t, day(2032, 10, 29), c.Issuer.Expires)
	require.Nil(t, c.Device.Extensions)
	require.NotNil(t, c.Issuer.Extensions, "65 00 is present and empty")
	require.Empty(t, c.Issuer.Extensions)
	require.Nil(t, c.Device.Key.Curve, "the domain is the root's")

	v, err := c.Verify(cvc.VendorRoots())
	require.NoError(t, err)
	require.Equal(t, cvc.Name("DESRCACC100001"), v.Root.CHR)
	require.Equal(t, cvc.OriginVendor, v.Origin())
	require.Equal(t, "/DESRCACC1/DEDINK04/DENK0404144", v.Path())
	require.Equal(t, "brainpoolP256r1", v.DeviceKey().Curve.Name())
}

// Shows CVC-7, CVC-15 and CVC-33.
func TestAttest_RealRequest(t *testing.T) {
	t.Parallel()
	a, err := cvc.Attest(realCard(t, realRequest), realCard(t, realDeviceFile), cvc.KnownRoots())
	require.NoError(t, err)
	require.Equal(t, cvc.OriginVendor, a.Origin())
	require.Equal(t, "secp256k1", a.Request.Request.Key.Curve.Name())
	require.Equal(t, cvc.Name("DENK040414400001"), a.Request.Request.CHR)
}

// CVC-27.
func TestAttest_EmulatorVector(t *testing.T) {
	t.Parallel()
	a, err := cvc.Attest(emulatorRequest(t), emulatorDeviceFile(t), cvc.KnownRoots())
	require.NoError(t, err)
	require.Equal(t, cvc.OriginEmulator, a.Origin())
	require.Equal(t, "/UTSRCAEM1/UTDICAEM01/UTEM0100001", a.Path())
	require.Equal(t, userKey(t).Public().Bytes(), a.Request.Request.Key.Point)
	require.Equal(t, deviceKey(t).Public().Bytes(), a.DeviceKey().Point)
	require.Equal(t, cvc.Name("UTEM010000100000"), a.Request.CAR)
}

// Every byte of a chain is covered by a signature or by the structure.
func TestChain_NoByteCanBeChanged(t *testing.T) {
	t.Parallel()
	ef := emulatorDeviceFile(t)
	roots := cvc.Roots{cvc.EmulatorRoot().Certificate}
	for i := range ef {
		for _, bit := range []byte{0x01, 0x80} {
			bad := bytes.Clone(ef)
			bad[i] ^= bit
			c, err := cvc.ParseChain(bad)
			if err == nil {
				_, err = c.Verify(roots)
			}
			require.Error(t, err, "byte %d", i)
		}
	}
}

// The same for a request, seen from its device.
func TestAttest_NoByteOfARequestCanBeChanged(t *testing.T) {
	t.Parallel()
	b := emulatorRequest(t)
	c, err := cvc.ParseChain(emulatorDeviceFile(t))
	require.NoError(t, err)
	v, err := c.Verify(cvc.KnownRoots())
	require.NoError(t, err)
	for i := range b {
		for _, bit := range []byte{0x01, 0x80} {
			bad := bytes.Clone(b)
			bad[i] ^= bit
			r, err := cvc.ParseAuthenticated(bad)
			if err == nil {
				_, err = v.Attest(r)
			}
			require.Error(t, err, "byte %d", i)
		}
	}
}

func TestAttest_NoByteOfARealRequestCanBeChanged(t *testing.T) {
	t.Parallel()
	b := realCard(t, realRequest)
	c, err := cvc.ParseChain(realCard(t, realDeviceFile))
	require.NoError(t, err)
	v, err := c.Verify(cvc.VendorRoots())
	require.NoError(t, err)
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 0x04
		r, err := cvc.ParseAuthenticated(bad)
		if err == nil {
			_, err = v.Attest(r)
		}
		require.Error(t, err, "byte %d", i)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(emulatorDeviceFile(f))
	f.Add(emulatorRequest(f))
	for _, r := range cvc.KnownRoots() {
		f.Add(r.Raw)
	}
	c, err := cvc.ParseChain(emulatorDeviceFile(f))
	require.NoError(f, err)
	r, err := cvc.ParseAuthenticated(emulatorRequest(f))
	require.NoError(f, err)
	p := cvc.PKAFile{Request: r, Chain: c}
	f.Add(p.Bytes())
	f.Add(p.PlainBytes())
	named := cvc.Extensions(nil).With(cvc.KeyDomainUID, []byte{1})
	for _, e := range []cvc.Extensions{named, named.With(cvc.KeyDomainUID, []byte{2}), named.With("\x2A\x03"), append(named, 0x73)} {
		s, err := cvc.RequestBody{
			CHR: "UTKEY00001", Key: cvc.NewEC(cvc.ECDSASHA256, userKey(f).Public()), Extensions: e,
		}.Sign(cvc.SignEC(userKey(f), nil))
		require.NoError(f, err)
		f.Add(s.Raw)
	}
	f.Add(slices.Concat(cvc.KnownRoots()[0].Raw, cvc.KnownRoots()[1].Raw))
	n := append(append([]byte{0xC1}, make([]byte, 126)...), 1)
	for s := cvc.RSASHA1; s.RSA(); s++ { // signatures need not be right to be read
		r, err := cvc.RequestBody{
			CAR: "UTCA00001", CHR: "UTKEY00001", Key: cvc.NewRSA(s, n, []byte{1, 0, 1}),
			Extensions: cvc.Extensions(nil).With(cvc.KeyDomainUID, n),
		}.Sign(func(cvc.Scheme, []byte) ([]byte, error) { return n, nil })
		require.NoError(f, err)
		f.Add(r.Raw)
	}
	roots := cvc.KnownRoots()
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := cvc.ParseCertificate(b); err == nil {
			_ = c.String()
			_ = c.Verify(c.Key)
			again, err := cvc.ParseCertificate(c.Raw)
			require.NoError(t, err)
			require.Equal(t, c, again)
			children, err := tlv.Parse(c.Raw)
			require.NoError(t, err)
			bare, err := cvc.ParseCertificate(children[0].Value)
			require.NoError(t, err)
			require.Equal(t, c, bare)
		}
		if r, err := cvc.ParseRequest(b); err == nil {
			_ = r.String()
			_ = r.Verify()
			again, err := cvc.ParseRequest(r.Raw)
			require.NoError(t, err)
			require.Equal(t, r, again)
		}
		if a, err := cvc.ParseAuthenticated(b); err == nil {
			_ = a.String()
			again, err := cvc.ParseAuthenticated(a.Raw)
			require.NoError(t, err)
			require.Equal(t, a, again)
		}
		if p, err := cvc.ParsePKAFile(b); err == nil {
			again, err := cvc.ParsePKAFile(p.Bytes())
			require.NoError(t, err)
			require.Equal(t, p, again)
		}
		if r, err := cvc.ParseRoots(b); err == nil {
			var all []byte
			for _, c := range r {
				all = append(all, c.Raw...)
			}
			require.True(t, bytes.Equal(b, all), "what follows a root is a root")
		}
		if c, err := cvc.ParseChain(b); err == nil {
			// No genuine chain is among the seeds, so one that verifies is a
			// forgery.
			if v, err := c.Verify(roots[:3]); err == nil {
				t.Fatalf("forged: %s", v)
			}
		}
	})
}
