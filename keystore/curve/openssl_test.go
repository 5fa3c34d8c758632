package curve_test

import (
	"bytes"
	"crypto/rand"
	"encoding/asn1"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore/curve"
)

// openssl runs the command line tool in a folder of its own.
type openssl struct {
	t      *testing.T
	folder string
}

func newOpenSSL(t *testing.T) openssl {
	t.Helper()
	_, err := exec.LookPath("openssl")
	require.NoError(t, err, "the tests need the Debian package openssl")
	return openssl{t, t.TempDir()}
}

func (o openssl) file(name string, content []byte) string {
	o.t.Helper()
	path := filepath.Join(o.folder, name)
	require.NoError(o.t, os.WriteFile(path, content, 0o600))
	return path
}

func (o openssl) run(args ...string) []byte {
	o.t.Helper()
	var complaint bytes.Buffer
	command := exec.Command("openssl", args...)
	command.Stderr = &complaint
	out, err := command.Output()
	require.NoError(o.t, err, "openssl %v: %s", args, complaint.String())
	return out
}

// nameOf is OpenSSL's name of a curve.
func nameOf(c *curve.Curve) string {
	switch c.Name() {
	case "secp192r1":
		return "prime192v1"
	case "secp256r1":
		return "prime256v1"
	}
	return c.Name()
}

func oidOf(c *curve.Curve) asn1.RawValue {
	return asn1.RawValue{Tag: asn1.TagOID, Bytes: c.OID()}
}

// ecPrivateKey is the structure of SEC 1 §C.4.
type ecPrivateKey struct {
	Version    int
	PrivateKey []byte
	Parameters asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
	PublicKey  asn1.BitString        `asn1:"optional,explicit,tag:1"`
}

func (o openssl) private(name string, k *curve.Private) string {
	o.t.Helper()
	var oid asn1.ObjectIdentifier
	der, err := asn1.Marshal(oidOf(k.Curve()))
	require.NoError(o.t, err)
	_, err = asn1.Unmarshal(der, &oid)
	require.NoError(o.t, err)
	b, err := asn1.Marshal(ecPrivateKey{
		Version: 1, PrivateKey: k.Bytes(), Parameters: oid,
		PublicKey: asn1.BitString{Bytes: k.Public().Bytes(), BitLength: 8 * len(k.Public().Bytes())},
	})
	require.NoError(o.t, err)
	return o.file(name, b)
}

func (o openssl) public(name string, k *curve.Public) string {
	o.t.Helper()
	type algorithm struct {
		Algorithm  asn1.ObjectIdentifier
		Parameters asn1.RawValue
	}
	b, err := asn1.Marshal(struct {
		Algorithm algorithm
		Key       asn1.BitString
	}{
		algorithm{asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, oidOf(k.Curve())},
		asn1.BitString{Bytes: k.Bytes(), BitLength: 8 * len(k.Bytes())},
	})
	require.NoError(o.t, err)
	return o.file(name, b)
}

func TestOpenSSL_KnowsTheSameCurves(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		o := newOpenSSL(t)
		named := o.run("ecparam", "-name", nameOf(c), "-outform", "DER")
		require.Equal(t, c.OID(), named[2:])

		// SpecifiedECDomain, SEC 1 §C.2
		type specified struct {
			Version int
			Field   struct {
				Type  asn1.ObjectIdentifier
				Prime asn1.RawValue
			}
			Curve struct {
				A, B []byte
				Seed asn1.BitString `asn1:"optional"`
			}
			Base     []byte
			Order    asn1.RawValue
			Cofactor int
		}
		var s specified
		_, err := asn1.Unmarshal(o.run("ecparam", "-name", nameOf(c), "-param_enc", "explicit", "-outform", "DER"), &s)
		require.NoError(t, err)
		found, err := curve.ByParameters(curve.Parameters{
			P: s.Field.Prime.Bytes, A: s.Curve.A, B: s.Curve.B, G: s.Base, N: s.Order.Bytes,
		})
		require.NoError(t, err)
		require.Same(t, c, found)
		require.Equal(t, 1, s.Cofactor)
	})
}

func TestOpenSSL_VerifiesOurSignatures(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		o := newOpenSSL(t)
		k := generate(t, c)
		public := o.public("public.der", k.Public())
		for _, length := range []int{20, 32, 64, 7} {
			digest := make([]byte, length)
			_, err := rand.Read(digest)
			require.NoError(t, err)
			s, err := k.Sign(rand.Reader, digest)
			require.NoError(t, err)
			o.run("pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", public,
				"-in", o.file("digest", digest), "-sigfile", o.file("signature", s.DER()))
		}
	})
}

func TestOpenSSL_SignsWhatWeVerify(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		o := newOpenSSL(t)
		var key ecPrivateKey
		der := o.run("ecparam", "-name", nameOf(c), "-genkey", "-noout", "-outform", "DER")
		_, err := asn1.Unmarshal(der, &key)
		require.NoError(t, err)
		k, err := c.Private(key.PrivateKey)
		require.NoError(t, err)
		require.Equal(t, key.PublicKey.Bytes, k.Public().Bytes())

		message := []byte("what is signed")
		s, err := c.ParseDER(o.run("dgst", "-sha384", "-keyform", "DER",
			"-sign", o.file("private.der", der), o.file("message", message)))
		require.NoError(t, err)
		require.True(t, k.Public().Verify(digestOf(t, "SHA-384", string(message)), s))
		require.False(t, k.Public().Verify(digestOf(t, "SHA-384", "another"), s))
	})
}

func TestOpenSSL_DerivesTheSameSecret(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		o := newOpenSSL(t)
		mine, peer := generate(t, c), generate(t, c)
		shared, err := mine.Shared(peer.Public())
		require.NoError(t, err)
		x := o.run("pkeyutl", "-derive", "-keyform", "DER", "-peerform", "DER",
			"-inkey", o.private("peer.der", peer), "-peerkey", o.public("mine.der", mine.Public()))
		require.Equal(t, x, shared[1:1+c.FieldLen()])
	})
}
