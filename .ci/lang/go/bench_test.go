package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"flag"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
)

var (
	module = flag.String("module", "", "PKCS#11 module; its tokens are initialised")
	pin    = flag.String("pin", "", "user PIN of the tokens")
)

// signer is something that makes a signature, and what that has taken.
type signer struct {
	name string
	sign func() error
	took []time.Duration
}

// quantile is the time that this part of the signatures, 0 to 1, has not gone beyond.
func (s *signer) quantile(q float64) time.Duration {
	slices.Sort(s.took)
	return s.took[int(q*float64(len(s.took)-1))]
}

// BenchmarkSign measures signatures through a PKCS#11 module, with every token that it
// has, beside Go's own. They take turns, in another order each time, so that what else the
// machine does comes upon all of them alike. All get a hash value; every first signature of a token is verified.
func BenchmarkSign(b *testing.B) {
	if *module == "" {
		b.Fatal("give it a token with -args -module PATH -pin PIN")
	}
	first, err := open(*module)
	must(b, err)
	b.Cleanup(func() { must(b, first.close()) })
	tokens, names := first.all(b)
	digest := sha256.Sum256([]byte("measured"))
	// RFC 8017 §9.2: what CKM_RSA_PKCS wants for SHA-256.
	info := append([]byte{0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}, digest[:]...)
	bareRSA, err := rsa.GenerateKey(rand.Reader, 2048)
	must(b, err)
	bareEC, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(b, err)
	ofRSA := []*signer{{name: "Go in process", sign: func() error {
		_, err := rsa.SignPKCS1v15(nil, bareRSA, crypto.SHA256, digest[:])
		return err
	}}}
	ofEC := []*signer{{name: "Go in process", sign: func() error {
		_, err := ecdsa.SignASN1(rand.Reader, bareEC, digest[:])
		return err
	}}}
	for i, t := range tokens {
		public, private, err := t.generate(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, 0x48,
			pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, 2048), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
		must(b, err)
		signature, err := t.sign(pkcs11.CKM_RSA_PKCS, private, info)
		must(b, err)
		a, err := t.GetAttributeValue(t.session, public, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_MODULUS, nil)})
		must(b, err)
		key := rsa.PublicKey{N: new(big.Int).SetBytes(a[0].Value), E: 65537}
		must(b, rsa.VerifyPKCS1v15(&key, crypto.SHA256, digest[:], signature))
		ofRSA = append(ofRSA, &signer{name: names[i], sign: func() error { _, err := t.sign(pkcs11.CKM_RSA_PKCS, private, info); return err }})

		publicEC, privateEC, err := t.generateEC()
		must(b, err)
		signature, err = t.sign(pkcs11.CKM_ECDSA, privateEC, digest[:])
		must(b, err)
		point, err := t.publicEC(publicEC)
		must(b, err)
		if !verifyEC(point, digest[:], signature) {
			b.Fatal("the signature does not verify")
		}
		ofEC = append(ofEC, &signer{name: names[i], sign: func() error { _, err := t.sign(pkcs11.CKM_ECDSA, privateEC, digest[:]); return err }})
	}
	inTurn(b, "RSA-2048", ofRSA)
	inTurn(b, "secp256r1", ofEC)
}

// all logs in to every token that the module has, and returns them with the names of
// their readers.
func (t token) all(b *testing.B) (tokens []token, readers []string) {
	b.Helper()
	slots, err := t.GetSlotList(true)
	must(b, err)
	for i, slot := range slots {
		about, err := t.GetSlotInfo(slot)
		must(b, err)
		if i > 0 {
			t.session, err = t.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
			must(b, err)
		}
		must(b, t.Login(t.session, pkcs11.CKU_USER, *pin))
		tokens, readers = append(tokens, t), append(readers, strings.TrimSpace(about.SlotDescription))
	}
	return tokens, readers
}

// inTurn has every signer sign in every round, and prints the medians and, since other
// work makes these longer, the fastest tenth.
func inTurn(b *testing.B, what string, signers []*signer) {
	b.Helper()
	b.Run(what, func(b *testing.B) {
		for _, s := range signers {
			s.took = nil
		}
		for b.Loop() {
			for _, i := range mathrand.Perm(len(signers)) { // whoever comes before leaves its mark
				s := signers[i]
				begun := time.Now()
				err := s.sign()
				s.took = append(s.took, time.Since(begun))
				must(b, err)
			}
		}
		b.ReportMetric(0, "ns/op") // of all of them together
		var lines strings.Builder
		fmt.Fprintf(&lines, "%-45s %8s  %6s %8s  %6s\n", what+", µs", "median", "", "tenth", "")
		for _, s := range signers {
			fmt.Fprintf(&lines, "%-45.45s", s.name)
			for _, q := range []float64{0.5, 0.1} {
				fmt.Fprintf(&lines, " %8.1f  %6.2f", float64(s.quantile(q))/1e3, float64(s.quantile(q))/float64(signers[0].quantile(q)))
			}
			lines.WriteByte('\n')
		}
		b.Log("\n" + lines.String())
	})
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
