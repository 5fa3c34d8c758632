package keystore_test

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore"
	"hsmemu/keystore/curve"
)

// openssl runs the command line tool, a second opinion on everything. A
// missing tool is a failure.
func openssl(t testing.TB, args ...string) []byte {
	t.Helper()
	var complaint bytes.Buffer
	cmd := exec.Command("openssl", args...)
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	require.NoError(t, err, "openssl %v: %s%s", args, out, &complaint)
	return out
}

// shelf is a folder for the files openssl reads and writes.
type shelf string

func newShelf(t testing.TB) shelf { return shelf(t.TempDir()) }

func (s shelf) path(name string) string { return filepath.Join(string(s), name) }

func (s shelf) put(t testing.TB, name string, b []byte) string {
	t.Helper()
	require.NoError(t, os.WriteFile(s.path(name), b, 0o600))
	return s.path(name)
}

// putPublic writes the public key as PEM (RFC 5280, RFC 5480).
func (s shelf) putPublic(t testing.TB, k keystore.Key) string {
	t.Helper()
	var der []byte
	var err error
	if k.Kind() == keystore.RSA {
		der, err = x509.MarshalPKIXPublicKey(rsaPublic(k))
	} else {
		oid := append([]byte{6, byte(len(k.Curve().OID()))}, k.Curve().OID()...)
		point := k.ECPublic().Bytes()
		der, err = asn1.Marshal(struct {
			Algorithm struct {
				ID    asn1.ObjectIdentifier
				Curve asn1.RawValue
			}
			Point asn1.BitString
		}{
			struct {
				ID    asn1.ObjectIdentifier
				Curve asn1.RawValue
			}{asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, asn1.RawValue{FullBytes: oid}},
			asn1.BitString{Bytes: point, BitLength: 8 * len(point)},
		})
	}
	require.NoError(t, err)
	return s.put(t, "public.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

var hashes = []struct {
	name   string
	size   int
	offset keystore.Algorithm // from the algorithm that takes a hash value
	info   string             // DigestInfo before the hash value
}{
	{"sha1", 20, 1, "3021300906052b0e03021a05000414"},
	{"sha224", 28, 2, "302d300d06096086480165030402040500041c"},
	{"sha256", 32, 3, "3031300d060960864801650304020105000420"},
	{"sha384", 48, 4, "3041300d060960864801650304020205000430"},
	{"sha512", 64, 5, "3051300d060960864801650304020305000440"},
}

func hashOf(t testing.TB, name, file string) []byte {
	t.Helper()
	return openssl(t, "dgst", "-"+name, "-binary", file)
}

func TestOpenSSL_VerifiesRSASignatures(t *testing.T) {
	t.Parallel()
	message := []byte("message for every signature")
	for _, bits := range []int{1024, 1536, 2048, 3072, 4096} {
		t.Run(fmt.Sprint(bits), func(t *testing.T) {
			t.Parallel()
			s, k := newShelf(t), rsaKey(t, bits)
			public, file := s.putPublic(t, k), s.put(t, "message", message)
			for _, h := range hashes {
				value := hashOf(t, h.name, file)
				info := append(unhex(t, h.info), value...)
				verify := func(a keystore.Algorithm, data []byte, options ...string) {
					t.Helper()
					signature, err := k.Sign(seeded(1), a, data)
					require.NoError(t, err)
					args := append([]string{"dgst", "-" + h.name, "-verify", public, "-signature", s.put(t, "signature", signature)}, options...)
					openssl(t, append(args, file)...)
				}
				verify(keystore.RSASignRaw, padded(bits/8, info))
				verify(keystore.RSASignPKCS1, info)
				verify(keystore.RSASignPKCS1+h.offset, message)
				if bits == 1024 && h.name == "sha512" {
					continue // no room for PSS
				}
				pss := []string{"-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest", "-sigopt", "rsa_mgf1_md:" + h.name}
				verify(keystore.RSAPSS, value, pss...)
				verify(keystore.RSAPSS+h.offset, message, pss...)
			}
		})
	}
}

func TestOpenSSL_VerifiesECSignatures(t *testing.T) {
	t.Parallel()
	message := []byte("message for every signature")
	for _, c := range curve.All() {
		name := c.Name()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, k := newShelf(t), ecKey(t, name)
			public, file := s.putPublic(t, k), s.put(t, "message", message)
			for _, h := range hashes {
				for a, data := range map[keystore.Algorithm][]byte{
					keystore.ECDSA:            hashOf(t, h.name, file),
					keystore.ECDSA + h.offset: message,
				} {
					signature, err := k.Sign(seeded(1), a, data)
					require.NoError(t, err)
					openssl(t, "dgst", "-"+h.name, "-verify", public, "-signature", s.put(t, "signature", signature), file)
				}
			}
		})
	}
}

func TestOpenSSL_EncryptsForRSA(t *testing.T) {
	t.Parallel()
	for _, bits := range []int{1024, 2048, 4096} {
		s, k := newShelf(t), rsaKey(t, bits)
		plain := []byte("sixteen bytes !!")
		public, file := s.putPublic(t, k), s.put(t, "plain", plain)
		encrypt := func(options ...string) []byte {
			args := []string{"pkeyutl", "-encrypt", "-pubin", "-inkey", public, "-in", file}
			for _, o := range options {
				args = append(args, "-pkeyopt", o)
			}
			return openssl(t, args...)
		}
		pkcs1 := encrypt("rsa_padding_mode:pkcs1")
		got, err := k.Decipher(keystore.RSADecryptPKCS1, pkcs1)
		require.NoError(t, err)
		require.Equal(t, plain, got)
		got, err = k.Decipher(keystore.RSADecryptRaw, pkcs1)
		require.NoError(t, err)
		require.Len(t, got, bits/8)
		require.Equal(t, []byte{0, 2}, got[:2])
		require.True(t, bytes.HasSuffix(got, append([]byte{0}, plain...)))
		got, err = k.Decipher(keystore.RSADecryptOAEP, encrypt("rsa_padding_mode:oaep", "rsa_oaep_md:sha256"))
		require.NoError(t, err)
		require.Equal(t, plain, got)
		file = s.put(t, "plain", append(make([]byte, bits/8-len(plain)), plain...))
		got, err = k.Decipher(keystore.RSADecryptRaw, encrypt("rsa_padding_mode:none"))
		require.NoError(t, err)
		require.Equal(t, append(make([]byte, bits/8-len(plain)), plain...), got)
	}
}

func TestOpenSSL_AgreesOnSharedSecrets(t *testing.T) {
	t.Parallel()
	for _, c := range curve.All() {
		name := c.Name()
		s, k := newShelf(t), ecKey(t, name)
		public := s.putPublic(t, k)
		tool := name
		switch name {
		case "secp192r1":
			tool = "prime192v1"
		case "secp256r1":
			tool = "prime256v1"
		}
		private := s.put(t, "private.pem", openssl(t, "ecparam", "-name", tool, "-genkey", "-noout"))
		shared := openssl(t, "pkeyutl", "-derive", "-inkey", private, "-peerkey", public)
		spki := openssl(t, "pkey", "-in", private, "-pubout", "-outform", "DER")
		w := k.Curve().FieldLen()
		got, err := k.Decipher(keystore.ECDH, spki[len(spki)-1-2*w:])
		require.NoError(t, err)
		require.Equal(t, shared, got[1:1+w], "openssl gives x only")
	}
}

func TestOpenSSL_AgreesOnAES(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	for _, bits := range []int{128, 192, 256} {
		value := make([]byte, bits/8)
		_, err := seeded(byte(bits)).Read(value)
		require.NoError(t, err)
		k, err := keystore.NewAES(value)
		require.NoError(t, err)
		for _, n := range []int{16, 64, 1024} {
			plain := bytes.Repeat([]byte{1, 2, 3, 5, 7, 11, 13, 17}, n/8)
			file := s.put(t, "plain", plain)
			want := openssl(t, "enc", fmt.Sprintf("-aes-%d-cbc", bits), "-K", hex.EncodeToString(value),
				"-iv", "00000000000000000000000000000000", "-nopad", "-in", file)
			got, err := k.Cipher(keystore.AESCBCEncrypt, plain)
			require.NoError(t, err)
			require.Equal(t, want, got)

			file = s.put(t, "plain", plain[:n-3])
			want = openssl(t, "mac", "-binary", "-cipher", fmt.Sprintf("AES-%d-CBC", bits),
				"-macopt", "hexkey:"+hex.EncodeToString(value), "-in", file, "CMAC")
			got, err = k.Cipher(keystore.AESCMAC, plain[:n-3])
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
	}
}

// A key that openssl made goes through a blob and signs.
func TestOpenSSL_MakesKeysForImport(t *testing.T) {
	t.Parallel()
	block, _ := pem.Decode(openssl(t, "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"))
	require.NotNil(t, block)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	r := requireRSA(t, parsed)
	for kind, plain := range map[byte][]byte{
		0x05: plainOf(1024, r.D.Bytes(), r.N.Bytes(), f4),
		0x06: plainOf(1024, r.Precomputed.Dp.Bytes(), r.Precomputed.Dq.Bytes(), r.Primes[0].Bytes(),
			r.Precomputed.Qinv.Bytes(), r.Primes[1].Bytes(), r.N.Bytes(), f4),
	} {
		k, err := domainOf(t, kek).Unwrap(sealBlob(t, kek, kind, nil, plain))
		require.NoError(t, err)
		require.True(t, rsaPublic(k).Equal(&r.PublicKey))
		signAndVerify(t, k)
	}
}
