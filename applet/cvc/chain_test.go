package cvc_test

import (
	"bytes"
	"crypto/rand"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/cvc"
)

// family is a PKI of a test's own: root, issuer, one device.
type family struct {
	root, issuer cvc.Issuer
	chain        cvc.Chain
}

func newFamily(t testing.TB) family {
	t.Helper()
	var f family
	var err error
	bp := named(t, "brainpoolP256r1")
	f.root, err = cvc.NewRoot(private(t, bp, 0x11, 1), "XXROOT00001", day(2026, 11, 23), nil)
	require.NoError(t, err)
	f.issuer, err = f.root.NewIssuer(private(t, bp, 0x12, 2), "XXISSUER00001", day(2026, 11, 23), nil)
	require.NoError(t, err)
	ef, err := f.issuer.IssueDevice(deviceKey(t).Public(), "XXDEVICE000100000", day(2026, 11, 23), nil)
	require.ErrorIs(t, err, cvc.ErrName, "17 characters")
	require.Nil(t, ef)
	ef, err = f.issuer.IssueDevice(deviceKey(t).Public(), "XXDEVICE00100000", day(2026, 11, 23), nil)
	require.NoError(t, err)
	f.chain, err = cvc.ParseChain(ef)
	require.NoError(t, err)
	return f
}

func TestNewRoot_FoundsAChain(t *testing.T) {
	t.Parallel()
	f := newFamily(t)
	v, err := f.chain.Verify(cvc.Roots{f.root.Certificate})
	require.NoError(t, err)
	require.Equal(t, cvc.OriginOther, v.Origin())
	require.Equal(t, "/XXROOT/XXISSUER/XXDEVICE001", v.Path())
	require.Equal(t, day(2046, 11, 22), v.Root.Expires)
	require.Equal(t, day(2034, 11, 22), v.Issuer.Expires)
	require.Equal(t, day(2031, 11, 22), v.Device.Expires)
	require.NotNil(t, v.Root.Key.Curve)
	require.Nil(t, v.Issuer.Key.Curve)
	require.Nil(t, v.Device.Key.Curve)

	_, err = v.Attest(request(t, userKey(t), deviceKey(t), "XXDEVICE00100000"))
	require.NoError(t, err)
}

// Shows CVC-10 and CVC-11.
func TestChain_VerifySaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	f := newFamily(t)
	bp := named(t, "brainpoolP256r1")
	roots := cvc.Roots{f.root.Certificate}
	sign := func(b cvc.CertificateBody, by cvc.Issuer) cvc.Certificate {
		c, err := b.Sign(cvc.ECDSASHA256, cvc.SignEC(by.Key, nil))
		require.NoError(t, err)
		return c
	}
	stranger, err := cvc.NewRoot(private(t, bp, 0x13, 3), "XXROOT00001", day(2026, 11, 23), nil)
	require.NoError(t, err)
	with := func(change func(device, issuer *cvc.CertificateBody)) cvc.Chain {
		d, i := f.chain.Device.CertificateBody, f.chain.Issuer.CertificateBody
		change(&d, &i)
		return cvc.Chain{Device: sign(d, f.issuer), Issuer: sign(i, f.root)}
	}
	broken := f.root.Certificate
	broken.Signature = bytes.Clone(broken.Signature)
	broken.Signature[0] ^= 1

	for _, c := range []struct {
		name  string
		chain cvc.Chain
		roots cvc.Roots
		want  error
	}{
		{"no root", f.chain, nil, cvc.ErrUnknownRoot},
		{"other roots", f.chain, cvc.KnownRoots(), cvc.ErrUnknownRoot},
		{"root broken", f.chain, cvc.Roots{broken}, cvc.ErrRootSignature},
		{"root of the same name", f.chain, cvc.Roots{stranger.Certificate}, cvc.ErrIssuerSignature},
		{"issuer signed by a stranger", cvc.Chain{
			Device: f.chain.Device, Issuer: sign(f.chain.Issuer.CertificateBody, stranger),
		}, roots, cvc.ErrIssuerSignature},
		{"device names another issuer", with(func(d, _ *cvc.CertificateBody) { d.CAR = "XXOTHER00001" }), roots, cvc.ErrIssuerReference},
		{"issuer renamed", with(func(_, i *cvc.CertificateBody) { i.CHR = "XXOTHER00001" }), roots, cvc.ErrIssuerReference},
		{"device signed by a stranger", cvc.Chain{
			Device: sign(f.chain.Device.CertificateBody, stranger), Issuer: f.chain.Issuer,
		}, roots, cvc.ErrDeviceSignature},
		{"order reversed", cvc.Chain{Device: f.chain.Issuer, Issuer: f.chain.Device}, roots, cvc.ErrUnknownRoot},
		{"device with the role of an issuer", with(func(d, _ *cvc.CertificateBody) {
			d.Authorization = cvc.Authorize(cvc.RoleIssuer)
		}), roots, cvc.ErrRole},
		{"issuer with the role of a device", with(func(_, i *cvc.CertificateBody) {
			i.Authorization = cvc.Authorize(cvc.RoleDevice)
		}), roots, cvc.ErrRole},
		{"role of another PKI", with(func(d, _ *cvc.CertificateBody) { d.Authorization.OID = "\x04\x00\x7F" }), roots, cvc.ErrRole},
		{"no rights", with(func(d, _ *cvc.CertificateBody) { d.Authorization.Rights = "" }), roots, cvc.ErrRole},
		{"unused role", with(func(d, _ *cvc.CertificateBody) { d.Authorization.Rights = "\x40" }), roots, cvc.ErrRole},
		{"root with the role of an issuer", f.chain, cvc.Roots{sign(func() cvc.CertificateBody {
			b := f.root.Certificate.CertificateBody
			b.Authorization = cvc.Authorize(cvc.RoleIssuer)
			return b
		}(), f.root)}, cvc.ErrRole},
		{"root without domain", f.chain, cvc.Roots{sign(func() cvc.CertificateBody {
			b := f.root.Certificate.CertificateBody
			b.Key = b.Key.WithoutDomain()
			return b
		}(), f.root)}, cvc.ErrKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := c.chain.Verify(c.roots)
			require.ErrorIs(t, err, c.want)
		})
	}

	// Of two roots with one name the right one is found, in either order.
	for _, r := range []cvc.Roots{
		{f.root.Certificate, stranger.Certificate}, {stranger.Certificate, f.root.Certificate},
	} {
		v, err := f.chain.Verify(r)
		require.NoError(t, err)
		require.Equal(t, f.root.Certificate, v.Root)
	}
}

// CVC-31, CVC-13, CVC-14.
func TestAttest_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	f := newFamily(t)
	v, err := f.chain.Verify(cvc.Roots{f.root.Certificate})
	require.NoError(t, err)
	const name = "XXDEVICE00100000"

	_, err = v.Attest(request(t, userKey(t), deviceKey(t), "XXDEVICE00200000"))
	require.ErrorIs(t, err, cvc.ErrOuterReference)
	_, err = v.Attest(request(t, userKey(t), userKey(t), name))
	require.ErrorIs(t, err, cvc.ErrOuterSignature)

	own := cvc.RequestBody{CHR: "XXKEY00001", Key: cvc.NewEC(cvc.ECDSASHA256, userKey(t).Public())}
	forged, err := own.Sign(cvc.SignEC(deviceKey(t), nil)) // by another key than the one inside
	require.NoError(t, err)
	a, err := forged.Countersign(name, cvc.ECDSASHA256, cvc.SignEC(deviceKey(t), nil))
	require.NoError(t, err)
	_, err = v.Attest(a)
	require.ErrorIs(t, err, cvc.ErrInnerSignature)
}

// What one card says of its keys says nothing about another card.
func TestAttest_RequestOfAnotherCard(t *testing.T) {
	t.Parallel()
	bp := named(t, "brainpoolP256r1")
	other := private(t, bp, 0x31, 7)
	ef, err := cvc.EmulatorIssuer().IssueDevice(other.Public(), "UTEM010000200000", day(2026, 11, 23), nil)
	require.NoError(t, err)
	_, err = cvc.Attest(emulatorRequest(t), ef, cvc.KnownRoots())
	require.ErrorIs(t, err, cvc.ErrOuterReference)

	twin, err := cvc.EmulatorIssuer().IssueDevice(other.Public(), "UTEM010000100000", day(2026, 11, 23), nil)
	require.NoError(t, err)
	_, err = cvc.Attest(emulatorRequest(t), twin, cvc.KnownRoots())
	require.ErrorIs(t, err, cvc.ErrOuterSignature)

	_, err = cvc.Attest(realCard(t, realRequest), emulatorDeviceFile(t), cvc.KnownRoots())
	require.ErrorIs(t, err, cvc.ErrOuterReference)
	_, err = cvc.Attest(emulatorRequest(t), realCard(t, realDeviceFile), cvc.KnownRoots())
	require.ErrorIs(t, err, cvc.ErrOuterReference)
}

// Evidence without a request is a device alone; with one it is a key.
func TestEvidence_Judge(t *testing.T) {
	t.Parallel()
	e := cvc.Evidence{Chain: emulatorDeviceFile(t)}
	device, err := e.Judge(cvc.KnownRoots())
	require.NoError(t, err)
	require.Nil(t, device.Request)
	require.Equal(t, device.Verified.String(), device.String())
	require.Equal(t, "device "+device.Device.CHR.Holder()+" is certified under UTSRCAEM100001", device.Proven())
	e.Request = emulatorRequest(t)
	key, err := e.Judge(cvc.KnownRoots())
	require.NoError(t, err)
	attested, err := cvc.Attest(e.Request, e.Chain, cvc.KnownRoots())
	require.NoError(t, err)
	require.Equal(t, attested.Request, *key.Request)
	require.Equal(t, attested.String(), key.String())
	require.Equal(t, "key "+string(key.Request.Request.CHR)+" was generated in device "+device.Device.CHR.Holder()+", certified under UTSRCAEM100001", key.Proven())

	for _, c := range []struct {
		e     cvc.Evidence
		roots cvc.Roots
		is    error
		says  string
	}{
		{cvc.Evidence{}, cvc.KnownRoots(), cvc.ErrStructure, "read the certificates: "},
		{cvc.Evidence{Chain: e.Chain}, cvc.VendorRoots(), cvc.ErrUnknownRoot, "verify the chain: "},
		{e, cvc.VendorRoots(), cvc.ErrUnknownRoot, "verify the attestation: "},
		{cvc.Evidence{Chain: realCard(t, realDeviceFile), Request: e.Request}, cvc.KnownRoots(), cvc.ErrOuterReference, "verify the attestation: "},
	} {
		_, err := c.e.Judge(c.roots)
		require.ErrorIs(t, err, c.is)
		require.ErrorContains(t, err, c.says)
	}
}

func TestAttest_PassesOnWhatDoesNotParse(t *testing.T) {
	t.Parallel()
	_, err := cvc.Attest(emulatorRequest(t), nil, cvc.KnownRoots())
	require.ErrorIs(t, err, cvc.ErrStructure)
	require.ErrorContains(t, err, "device certificate")
	_, err = cvc.Attest(nil, emulatorDeviceFile(t), cvc.KnownRoots())
	require.ErrorIs(t, err, cvc.ErrStructure)
	require.ErrorContains(t, err, "request")
	_, err = cvc.Attest(emulatorRequest(t), emulatorDeviceFile(t), cvc.VendorRoots())
	require.ErrorIs(t, err, cvc.ErrUnknownRoot)
	require.ErrorContains(t, err, "UTSRCAEM100001")
}

func TestParseChain_IgnoresWhatFollows(t *testing.T) {
	t.Parallel()
	ef := emulatorDeviceFile(t)
	want, err := cvc.ParseChain(ef)
	require.NoError(t, err)
	got, err := cvc.ParseChain(append(bytes.Clone(ef), 0, 0, 0xFF))
	require.NoError(t, err)
	require.Equal(t, want, got)
	for _, b := range [][]byte{ef[:234], ef[:465], emulatorRequest(t), append(bytes.Clone(ef[:234]), emulatorRequest(t)...)} {
		_, err = cvc.ParseChain(b)
		require.ErrorIs(t, err, cvc.ErrStructure)
	}
}

// CVC-27: the built-in PKI is the published one, and its keys belong to it.
func TestEmulatorIssuer_IsThePublishedOne(t *testing.T) {
	t.Parallel()
	bp := named(t, "brainpoolP256r1")
	root, issuer := cvc.EmulatorRoot(), cvc.EmulatorIssuer()
	require.Equal(t, private(t, bp, 0x4A, 1).Bytes(), root.Key.Bytes())
	require.Equal(t, private(t, bp, 0x4B, 2).Bytes(), issuer.Key.Bytes())
	require.Equal(t, root.Key.Public().Bytes(), root.Certificate.Key.Point)
	require.Equal(t, issuer.Key.Public().Bytes(), issuer.Certificate.Key.Point)
	chain, err := cvc.ParseChain(emulatorDeviceFile(t))
	require.NoError(t, err)
	require.Equal(t, chain.Issuer, issuer.Certificate)

	// Made anew, all three certificates differ in the signature only.
	for _, c := range []struct {
		published cvc.Certificate
		by        cvc.Issuer
	}{{root.Certificate, root}, {issuer.Certificate, root}, {chain.Device, issuer}} {
		again, err := c.published.CertificateBody.Sign(cvc.ECDSASHA256, cvc.SignEC(c.by.Key, nil))
		require.NoError(t, err)
		require.Equal(t, c.published.Body, again.Body)
	}
}

// CVC-18.
func TestIssueDevice_Dates(t *testing.T) {
	t.Parallel()
	issuer := cvc.EmulatorIssuer()
	require.Equal(t, day(2034, 1, 1), issuer.Certificate.Expires)
	for _, c := range []struct{ on, until time.Time }{
		{day(2026, 5, 28), day(2031, 5, 27)},
		{time.Date(2026, 5, 28, 22, 0, 0, 0, time.UTC), day(2031, 5, 27)},
		{day(2028, 2, 29), day(2033, 2, 28)},
		{day(2029, 1, 1), day(2033, 12, 31)},
		{day(2029, 1, 2), day(2034, 1, 1)},
		{day(2029, 1, 3), day(2034, 1, 1)},
		{day(2031, 6, 1), day(2034, 1, 1)},
		{day(2040, 1, 1), day(2034, 1, 1)},
	} {
		ef, err := issuer.IssueDevice(deviceKey(t).Public(), "UTEM012345600000", c.on, nil)
		require.NoError(t, err)
		chain, err := cvc.ParseChain(ef)
		require.NoError(t, err)
		require.Equal(t, day(c.on.Year(), c.on.Month(), c.on.Day()), chain.Device.Effective)
		require.Equal(t, c.until, chain.Device.Expires, c.on)
	}
	_, err := issuer.IssueDevice(deviceKey(t).Public(), "UTEM012345600000", day(2100, 1, 1), nil)
	require.ErrorIs(t, err, cvc.ErrDate)
}

func TestIssueDevice_IsAsLongAsThePublishedOne(t *testing.T) {
	t.Parallel()
	ef, err := cvc.EmulatorIssuer().IssueDevice(
		deviceKey(t).Public(), "UTEM010000100000", day(2024, 1, 1), rand.Reader)
	require.NoError(t, err)
	require.Len(t, ef, 466)
	a, err := cvc.Attest(emulatorRequest(t), ef, cvc.KnownRoots())
	require.NoError(t, err)
	require.Equal(t, cvc.OriginEmulator, a.Origin())
	again, err := cvc.EmulatorIssuer().IssueDevice(
		deviceKey(t).Public(), "UTEM010000100000", day(2024, 1, 1), rand.Reader)
	require.NoError(t, err)
	require.NotEqual(t, ef, again, "signatures are randomised")
}

func TestIssuer_RefusesAKeyOfAnotherCurve(t *testing.T) {
	t.Parallel()
	p256 := private(t, named(t, "secp256r1"), 1, 2)
	_, err := cvc.EmulatorIssuer().IssueDevice(p256.Public(), "UTEM012345600000", day(2026, 1, 1), nil)
	require.ErrorIs(t, err, cvc.ErrKey)
	_, err = cvc.EmulatorRoot().NewIssuer(p256, "UTDICAEM0200001", day(2026, 1, 1), nil)
	require.ErrorIs(t, err, cvc.ErrKey)
	_, err = cvc.NewRoot(p256, "UTROOT00001", day(2026, 1, 1), nil)
	require.ErrorIs(t, err, cvc.ErrKey)
}

// Expiry is reported and not refused.
//
// Shows CVC-21.
func TestVerified_Outside(t *testing.T) {
	t.Parallel()
	chain, err := cvc.ParseChain(emulatorDeviceFile(t))
	require.NoError(t, err)
	v, err := chain.Verify(cvc.KnownRoots())
	require.NoError(t, err)
	holders := func(at time.Time) (list []string) {
		for _, c := range v.Outside(at) {
			list = append(list, c.CHR.Holder())
		}
		return list
	}
	require.Empty(t, holders(day(2026, 11, 23)))
	require.Equal(t, []string{"UTEM0100001"}, holders(day(2033, 1, 1)))
	require.Equal(t, []string{"UTDICAEM01", "UTEM0100001"}, holders(day(2035, 1, 1)))
	require.Equal(t, []string{"UTSRCAEM1", "UTDICAEM01", "UTEM0100001"}, holders(day(2060, 1, 1)))
}

// Shows CVC-17.
func TestParseRoots(t *testing.T) {
	t.Parallel()
	var b []byte
	for _, c := range cvc.KnownRoots() {
		b = append(b, c.Raw...)
	}
	got, err := cvc.ParseRoots(b)
	require.NoError(t, err)
	require.Equal(t, cvc.KnownRoots(), got)
	_, err = cvc.ParseRoots(b[:len(b)-1])
	require.ErrorIs(t, err, cvc.ErrStructure)
	_, err = cvc.ParseRoots(emulatorRequest(t))
	require.ErrorIs(t, err, cvc.ErrStructure)
	none, err := cvc.ParseRoots(nil)
	require.NoError(t, err)
	require.Empty(t, none)
}
