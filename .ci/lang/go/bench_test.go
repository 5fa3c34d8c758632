package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"flag"
	"math/big"
	"testing"

	"github.com/miekg/pkcs11"
)

var (
	module = flag.String("module", "", "PKCS#11 module; its first token is initialised")
	pin    = flag.String("pin", "", "user PIN of the token")
)

// BenchmarkSign measures signatures through a PKCS#11 module beside Go's own.
// Both sides get a hash value; every first signature of the token is verified.
func BenchmarkSign(b *testing.B) {
	if *module == "" {
		b.Fatal("give it a token with -args -module PATH -pin PIN")
	}
	t, err := open(*module)
	must(b, err)
	b.Cleanup(func() { must(b, t.close()) })
	must(b, t.Login(t.session, pkcs11.CKU_USER, *pin))
	digest := sha256.Sum256([]byte("measured"))

	public, private, err := t.generate(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, 0x48,
		pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, 2048), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
	must(b, err)
	// RFC 8017 §9.2: what CKM_RSA_PKCS wants for SHA-256.
	info := append([]byte{0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}, digest[:]...)
	signature, err := t.sign(pkcs11.CKM_RSA_PKCS, private, info)
	must(b, err)
	a, err := t.GetAttributeValue(t.session, public, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_MODULUS, nil)})
	must(b, err)
	key := rsa.PublicKey{N: new(big.Int).SetBytes(a[0].Value), E: 65537}
	must(b, rsa.VerifyPKCS1v15(&key, crypto.SHA256, digest[:], signature))
	bareRSA, err := rsa.GenerateKey(rand.Reader, 2048)
	must(b, err)
	side(b, "RSA-2048",
		func() error { _, err := t.sign(pkcs11.CKM_RSA_PKCS, private, info); return err },
		func() error { _, err := rsa.SignPKCS1v15(nil, bareRSA, crypto.SHA256, digest[:]); return err })

	public, private, err = t.generateEC()
	must(b, err)
	signature, err = t.sign(pkcs11.CKM_ECDSA, private, digest[:])
	must(b, err)
	point, err := t.publicEC(public)
	must(b, err)
	if !verifyEC(point, digest[:], signature) {
		b.Fatal("the signature does not verify")
	}
	bareEC, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(b, err)
	side(b, "P-256",
		func() error { _, err := t.sign(pkcs11.CKM_ECDSA, private, digest[:]); return err },
		func() error { _, err := ecdsa.SignASN1(rand.Reader, bareEC, digest[:]); return err })
}

func side(b *testing.B, name string, token, bare func() error) {
	for _, s := range []struct {
		name string
		sign func() error
	}{{"token", token}, {"bare", bare}} {
		b.Run(name+"/"+s.name, func(b *testing.B) {
			for b.Loop() {
				must(b, s.sign())
			}
		})
	}
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
