package curve_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore/curve"
)

var digest256 = sha256.Sum256([]byte("benchmark"))

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		curve.Build()
	}
}

func BenchmarkSign(b *testing.B) {
	for _, c := range curve.All() {
		b.Run(c.Name(), func(b *testing.B) {
			k := generate(b, c)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := k.Sign(rand.Reader, digest256[:]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	// What BenchmarkSign/secp256r1 is to be measured against.
	b.Run("bare-crypto-ecdsa-P256", func(b *testing.B) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(b, err)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ecdsa.SignASN1(rand.Reader, k, digest256[:]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkSignDeterministic(b *testing.B) {
	for _, c := range curve.All() {
		b.Run(c.Name(), func(b *testing.B) {
			k := generate(b, c)
			for b.Loop() {
				if _, err := k.Sign(nil, digest256[:]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, c := range curve.All() {
		b.Run(c.Name(), func(b *testing.B) {
			k := generate(b, c)
			s, err := k.Sign(rand.Reader, digest256[:])
			require.NoError(b, err)
			for b.Loop() {
				if !k.Public().Verify(digest256[:], s) {
					b.Fatal("refused")
				}
			}
		})
	}
}

func BenchmarkShared(b *testing.B) {
	for _, c := range curve.All() {
		b.Run(c.Name(), func(b *testing.B) {
			k, peer := generate(b, c), generate(b, c).Public()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := k.Shared(peer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPrivate(b *testing.B) {
	for _, c := range curve.All() {
		k := generate(b, c)
		d, q := k.Bytes(), k.Public().Bytes()
		b.Run(c.Name(), func(b *testing.B) {
			for b.Loop() {
				if _, err := c.Private(d); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(c.Name()+"-with-public", func(b *testing.B) {
			for b.Loop() {
				if _, err := c.PrivateWithPublic(d, q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
