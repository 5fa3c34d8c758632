package cvc_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/cvc"
	"hsmemu/applet/tlv"
	"hsmemu/keystore/curve"
)

var ecSchemes = []cvc.Scheme{cvc.ECDSASHA1, cvc.ECDSASHA224, cvc.ECDSASHA256, cvc.ECDSASHA384, cvc.ECDSASHA512}

var rsaSchemes = []cvc.Scheme{
	cvc.RSASHA1, cvc.RSASHA256, cvc.PSSSHA1, cvc.PSSSHA256, cvc.RSASHA512, cvc.PSSSHA512,
}

// CVC-9.
func TestScheme_ObjectIdentifiers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		s         cvc.Scheme
		oid, name string
		hash      crypto.Hash
	}{
		{cvc.RSASHA1, "04007F00070202020101", "id-TA-RSA-v1-5-SHA-1", crypto.SHA1},
		{cvc.RSASHA256, "04007F00070202020102", "id-TA-RSA-v1-5-SHA-256", crypto.SHA256},
		{cvc.PSSSHA1, "04007F00070202020103", "id-TA-RSA-PSS-SHA-1", crypto.SHA1},
		{cvc.PSSSHA256, "04007F00070202020104", "id-TA-RSA-PSS-SHA-256", crypto.SHA256},
		{cvc.RSASHA512, "04007F00070202020105", "id-TA-RSA-v1-5-SHA-512", crypto.SHA512},
		{cvc.PSSSHA512, "04007F00070202020106", "id-TA-RSA-PSS-SHA-512", crypto.SHA512},
		{cvc.ECDSASHA1, "04007F00070202020201", "id-TA-ECDSA-SHA-1", crypto.SHA1},
		{cvc.ECDSASHA224, "04007F00070202020202", "id-TA-ECDSA-SHA-224", crypto.SHA224},
		{cvc.ECDSASHA256, "04007F00070202020203", "id-TA-ECDSA-SHA-256", crypto.SHA256},
		{cvc.ECDSASHA384, "04007F00070202020204", "id-TA-ECDSA-SHA-384", crypto.SHA384},
		{cvc.ECDSASHA512, "04007F00070202020205", "id-TA-ECDSA-SHA-512", crypto.SHA512},
	} {
		require.Equal(t, unhex(t, c.oid), c.s.OID())
		got, ok := cvc.SchemeByOID(unhex(t, c.oid))
		require.True(t, ok)
		require.Equal(t, c.s, got)
		require.Equal(t, c.name, c.s.String())
		require.Equal(t, c.hash, c.s.Hash())
		require.Equal(t, slices.Contains(rsaSchemes, c.s), c.s.RSA())
		require.Equal(t, slices.Contains(ecSchemes, c.s), c.s.EC())
		require.Equal(t, len(c.name) > 13 && c.name[10:13] == "PSS", c.s.PSS())
		require.Len(t, c.s.Digest([]byte("abc")), c.hash.Size())
	}
	for _, oid := range []string{"", "04007F00070202020100", "04007F00070202020206", "04007F000702020202", "04007F0007020202020300"} {
		_, ok := cvc.SchemeByOID(unhex(t, oid))
		require.False(t, ok, oid)
	}
	for _, s := range []cvc.Scheme{0, 12, 255} {
		require.Nil(t, s.OID())
		require.Zero(t, s.Hash())
		require.Nil(t, s.Digest(nil))
		require.False(t, s.RSA() || s.EC() || s.PSS())
		require.Equal(t, "no signature algorithm", s.String())
	}
}

func rsaSigner(k *rsa.PrivateKey) cvc.Signer {
	return func(s cvc.Scheme, message []byte) ([]byte, error) {
		if s.PSS() {
			// The salt is as long as the hash, or as there is room for.
			salt := min(s.Hash().Size(), k.Size()-s.Hash().Size()-2)
			return rsa.SignPSS(rand.Reader, k, s.Hash(), s.Digest(message), &rsa.PSSOptions{SaltLength: salt})
		}
		return rsa.SignPKCS1v15(nil, k, s.Hash(), s.Digest(message))
	}
}

func rsaTemplate(s cvc.Scheme, k *rsa.PrivateKey) cvc.PublicKey {
	return cvc.NewRSA(s, k.N.Bytes(), big.NewInt(int64(k.E)).Bytes())
}

// Every RSA size the card makes in a short time, with every scheme; a device
// authenticates the request (KEY-23).
func TestAttest_RSA(t *testing.T) {
	t.Parallel()
	chain, err := cvc.ParseChain(emulatorDeviceFile(t))
	require.NoError(t, err)
	v, err := chain.Verify(cvc.KnownRoots())
	require.NoError(t, err)
	for _, bits := range []int{1024, 2048} {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		require.NoError(t, err)
		for _, s := range rsaSchemes {
			r, err := cvc.RequestBody{
				CAR: "UTCA00001", CHR: "UTEM010000100001", Key: rsaTemplate(s, k),
			}.Sign(rsaSigner(k))
			require.NoError(t, err)
			require.Len(t, r.Signature, bits/8)
			a, err := r.Countersign("UTEM010000100000", cvc.ECDSASHA256, cvc.SignEC(deviceKey(t), nil))
			require.NoError(t, err)
			read, err := cvc.ParseAuthenticated(a.Raw)
			require.NoError(t, err)
			require.Equal(t, a, read)
			_, err = v.Attest(read)
			require.NoError(t, err, s)
			if s == cvc.RSASHA256 && bits == 2048 {
				// CVC-29: 676 bytes with these lengths of names.
				require.Len(t, a.Raw, 676)
			}
			read.Request.Signature = slices.Clone(read.Request.Signature) // it is part of Raw
			read.Request.Signature[len(read.Request.Signature)-1] ^= 1
			_, err = v.Attest(read)
			require.ErrorIs(t, err, cvc.ErrInnerSignature, s)
		}
	}
}

// Brainpool r1 and t1 of a size have p and n in common; a request whose other
// parameters are of both, or whose point is of the other, has no key.
func TestRequest_DoesNotMixCurvesOfOneField(t *testing.T) {
	t.Parallel()
	for _, names := range [][2]string{{"brainpoolP256r1", "brainpoolP256t1"}, {"brainpoolP256t1", "brainpoolP256r1"}} {
		c, other := named(t, names[0]), named(t, names[1])
		k, err := c.Private([]byte{0x2A})
		require.NoError(t, err)
		r, err := cvc.RequestBody{CHR: "UTKEY00001", Key: cvc.NewEC(cvc.ECDSASHA256, k.Public())}.Sign(cvc.SignEC(k, nil))
		require.NoError(t, err)
		p, q, all := c.Parameters(), other.Parameters(), bytes.Clone(r.Raw)
		for _, part := range [][2][]byte{{p.A, q.A}, {p.B, q.B}, {p.G, q.G}} {
			require.Equal(t, 1, bytes.Count(r.Raw, part[0]))
			_, err = cvc.ParseRequest(bytes.Replace(r.Raw, part[0], part[1], 1))
			require.ErrorIs(t, err, curve.ErrUnknown)
			all = bytes.Replace(all, part[0], part[1], 1)
		}
		_, err = cvc.ParseRequest(all)
		require.ErrorIs(t, err, curve.ErrPoint)
	}
}

// Requests by every curve of the card with every scheme, and an RSA key as the
// authenticating one (KEY-23).
func TestRequest_EveryCurveAndScheme(t *testing.T) {
	t.Parallel()
	outer, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	for _, c := range curve.All() {
		k, err := c.Private(slices.Repeat([]byte{0x2A}, c.OrderLen()-1))
		require.NoError(t, err)
		for _, s := range ecSchemes {
			r, err := cvc.RequestBody{CHR: "UTKEY00001", Key: cvc.NewEC(s, k.Public())}.Sign(cvc.SignEC(k, nil))
			require.NoError(t, err)
			require.Len(t, r.Signature, 2*c.OrderLen(), "plain and of fixed width")
			a, err := r.Countersign("UTRSA00001", cvc.RSASHA256, rsaSigner(outer))
			require.NoError(t, err)
			read, err := cvc.ParseAuthenticated(a.Raw)
			require.NoError(t, err)
			require.Equal(t, a, read)
			require.Same(t, c, read.Request.Key.Curve)
			require.NoError(t, read.Request.Verify(), "%s %s", c, s)
			require.NoError(t, read.VerifyOuter(rsaTemplate(cvc.RSASHA256, outer)))
			require.ErrorIs(t, read.VerifyOuter(rsaTemplate(cvc.RSASHA1, outer)), cvc.ErrSignature)
			wrong := read.Request
			wrong.Key.Scheme = ecSchemes[(slices.Index(ecSchemes, s)+1)%len(ecSchemes)]
			require.ErrorIs(t, wrong.Verify(), cvc.ErrSignature)
		}
	}
}

// CVC-6 to CVC-8: what is in a template, and in which order.
func TestPublicKey_Bytes(t *testing.T) {
	t.Parallel()
	tags := func(k cvc.PublicKey) (list []string) {
		b, err := k.Bytes()
		require.NoError(t, err)
		n, rest, err := tlv.Next(b)
		require.NoError(t, err)
		require.Empty(t, rest)
		require.Equal(t, tlv.Tag(0x7F49), n.Tag)
		l, err := n.Children()
		require.NoError(t, err)
		for _, c := range l {
			list = append(list, c.Tag.String())
		}
		return list
	}
	k := cvc.NewEC(cvc.ECDSASHA256, deviceKey(t).Public())
	require.Equal(t, []string{"06", "81", "82", "83", "84", "85", "86", "87"}, tags(k))
	require.Equal(t, []string{"06", "86"}, tags(k.WithoutDomain()))
	require.Equal(t, []string{"06", "81", "82"}, tags(cvc.NewRSA(cvc.RSASHA256, []byte{0xC1}, []byte{3})))

	wide := cvc.NewEC(cvc.ECDSASHA512, private(t, named(t, "secp521r1"), 1, 2).Public())
	b, err := wide.Bytes()
	require.NoError(t, err)
	n, _, err := tlv.Next(b)
	require.NoError(t, err)
	l, err := n.Children()
	require.NoError(t, err)
	require.Len(t, l[1].Value, 66)
	require.Len(t, l[3].Value, 66, "padded with leading zeros")
	require.Len(t, l[6].Value, 133)
}

func TestPublicKey_InheritKeepsAnOwnDomain(t *testing.T) {
	t.Parallel()
	root := cvc.EmulatorRoot().Certificate.Key
	own := cvc.NewEC(cvc.ECDSASHA256, private(t, named(t, "secp256r1"), 1, 2).Public())
	require.Same(t, own.Curve, own.Inherit(root).Curve)
	require.Same(t, root.Curve, own.WithoutDomain().Inherit(root).Curve)
	require.Nil(t, cvc.NewRSA(cvc.RSASHA256, []byte{0xC1}, []byte{3}).Inherit(root).Curve)
}

func TestPublicKey_VerifyNeedsAUsableKey(t *testing.T) {
	t.Parallel()
	k := cvc.NewEC(cvc.ECDSASHA256, deviceKey(t).Public())
	offCurve := k
	offCurve.Point = slices.Clone(k.Point)
	offCurve.Point[64] ^= 1
	other := k
	other.Curve = named(t, "secp384r1")
	long := make([]byte, 513)
	long[0], long[512] = 0x80, 1
	for name, bad := range map[string]cvc.PublicKey{
		"none":              {},
		"no domain":         k.WithoutDomain(),
		"not on its curve":  offCurve,
		"other curve":       other,
		"RSA without key":   cvc.NewRSA(cvc.RSASHA256, nil, nil),
		"RSA too short":     cvc.NewRSA(cvc.RSASHA256, []byte{0xC1, 1}, []byte{3}),
		"RSA too long":      cvc.NewRSA(cvc.RSASHA256, long, []byte{3}),
		"RSA exponent long": cvc.NewRSA(cvc.RSASHA256, long[:256], []byte{1, 0, 0, 0, 0, 0, 0, 0, 1}),
		"RSA exponent even": cvc.NewRSA(cvc.RSASHA256, long[:256], []byte{4}),
		"RSA modulus even":  cvc.NewRSA(cvc.RSASHA256, long[:256], []byte{3}),
	} {
		require.ErrorIs(t, bad.Verify([]byte("message"), make([]byte, 256)), cvc.ErrKey, name)
	}
	for _, sig := range [][]byte{nil, make([]byte, 64), make([]byte, 63), slices.Repeat([]byte{0xFF}, 64)} {
		require.ErrorIs(t, k.Verify([]byte("message"), sig), cvc.ErrSignature)
	}
}

// An exponent beyond the machine's integers is refused, not cut to one that
// happens to verify.
func TestPublicKey_VerifyDoesNotCutTheExponent(t *testing.T) {
	t.Parallel()
	k, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	sig, err := rsaSigner(k)(cvc.RSASHA256, []byte("message"))
	require.NoError(t, err)
	p := rsaTemplate(cvc.RSASHA256, k)
	require.NoError(t, p.Verify([]byte("message"), sig))
	p.Exponent = []byte{0, 0, 1, 0, 1}
	require.NoError(t, p.Verify([]byte("message"), sig), "leading zeros change nothing")
	p.Exponent = []byte{1, 0, 0, 0, 0, 0, 1, 0, 1} // 2^64 + 65537
	require.ErrorIs(t, p.Verify([]byte("message"), sig), cvc.ErrKey)
}

func TestPublicKey_BytesRefusesAnIncompleteKey(t *testing.T) {
	t.Parallel()
	k := cvc.NewEC(cvc.ECDSASHA256, deviceKey(t).Public())
	mixed := k
	mixed.Scheme = cvc.RSASHA256
	noPoint := k
	noPoint.Point = nil
	both := cvc.NewRSA(cvc.RSASHA256, []byte{0xC1}, []byte{3})
	both.Point = k.Point
	curved := cvc.NewRSA(cvc.RSASHA256, []byte{0xC1}, []byte{3})
	curved.Curve = k.Curve
	for want, list := range map[error][]cvc.PublicKey{
		cvc.ErrKey: {
			mixed, noPoint, both, curved,
			cvc.NewRSA(cvc.RSASHA256, nil, []byte{3}), cvc.NewRSA(cvc.ECDSASHA1, []byte{1}, []byte{3}),
		},
		cvc.ErrScheme: {{}},
	} {
		for _, bad := range list {
			_, err := bad.Bytes()
			require.ErrorIs(t, err, want)
			_, err = cvc.RequestBody{CHR: "UTKEY00001", Key: bad}.Sign(nil)
			require.ErrorIs(t, err, want)
		}
	}
}

func TestSignEC_RefusesRSA(t *testing.T) {
	t.Parallel()
	_, err := cvc.SignEC(deviceKey(t), nil)(cvc.RSASHA256, nil)
	require.ErrorIs(t, err, cvc.ErrKey)
}

// The plain signature of a certificate, turned into the form of SEC 1, is one
// for another program too.
func TestCertificate_SignatureVerifiesWithOpenSSL(t *testing.T) {
	t.Parallel()
	chain, err := cvc.ParseChain(emulatorDeviceFile(t))
	require.NoError(t, err)
	ef, err := cvc.EmulatorIssuer().IssueDevice(deviceKey(t).Public(), "UTEM012345600000", day(2026, 11, 23), nil)
	require.NoError(t, err)
	fresh, err := cvc.ParseChain(ef)
	require.NoError(t, err)
	issuer := chain.Issuer.Key.Inherit(cvc.EmulatorRoot().Certificate.Key)

	spki := tlv.Append(nil, 0x30,
		tlv.Append(nil, 0x30,
			tlv.Append(nil, 0x06, unhex(t, "2A8648CE3D0201")), // id-ecPublicKey
			tlv.Append(nil, 0x06, issuer.Curve.OID())),
		tlv.Append(nil, 0x03, []byte{0}, issuer.Point))
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, b, 0o600))
		return path
	}
	key := write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
	for name, c := range map[string]cvc.Certificate{"vector": chain.Device, "issued": fresh.Device} {
		sig, err := issuer.Curve.ParsePlain(c.Signature)
		require.NoError(t, err)
		out, err := exec.Command("openssl", "dgst", "-sha256", "-verify", key,
			"-signature", write(name+".sig", sig.DER()), write(name+".body", c.Body)).CombinedOutput()
		require.NoError(t, err, "%s: %s", name, out)
		require.Contains(t, string(out), "Verified OK")
		out, err = exec.Command("openssl", "dgst", "-sha256", "-verify", key,
			"-signature", write(name+".sig", sig.DER()), write(name+".body", c.Raw)).CombinedOutput()
		require.Error(t, err, "%s: %s", name, out)
	}
}
