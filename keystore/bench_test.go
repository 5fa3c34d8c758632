package keystore_test

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore"
	"hsmemu/keystore/cmac"
	"hsmemu/keystore/curve"
)

var sink any

func run(b *testing.B, name string, do func() ([]byte, error)) {
	b.Helper()
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			out, err := do()
			if err != nil {
				b.Fatal(err)
			}
			sink = out
		}
	})
}

// BenchmarkSign puts every operation next to the bare one.
func BenchmarkSign(b *testing.B) {
	message := []byte("message")
	sum := sha256.Sum256(message)
	info := append(unhex(b, "3031300d060960864801650304020105000420"), sum[:]...)
	for _, bits := range []int{2048, 4096} {
		k := rsaKey(b, bits)
		var bare keystore.Key
		require.NoError(b, bare.UnmarshalJSON([]byte(stored(b, k))))
		std, err := rsa.GenerateKey(rand.Reader, bits)
		require.NoError(b, err)
		name := func(s string) string { return fmt.Sprintf("RSA-%d/%s", bits, s) }
		block := padded(bits/8, info)
		run(b, name("bare PKCS1v15"), func() ([]byte, error) { return rsa.SignPKCS1v15(nil, std, crypto.SHA256, sum[:]) })
		run(b, name("20 raw"), func() ([]byte, error) { return k.Sign(rand.Reader, keystore.RSASignRaw, block) })
		run(b, name("33 SHA-256"), func() ([]byte, error) { return k.Sign(rand.Reader, keystore.RSASignSHA256, message) })
		run(b, name("20 raw unprepared"), func() ([]byte, error) { return bare.Sign(rand.Reader, keystore.RSASignRaw, block) })
		run(b, name("40 PSS"), func() ([]byte, error) { return k.Sign(rand.Reader, keystore.RSAPSS, sum[:]) })
	}
	std, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(b, err)
	k := ecKey(b, "secp256r1")
	run(b, "P-256/bare", func() ([]byte, error) { return ecdsa.SignASN1(rand.Reader, std, sum[:]) })
	run(b, "P-256/70", func() ([]byte, error) { return k.Sign(rand.Reader, keystore.ECDSA, sum[:]) })
	run(b, "P-256/70 nil", func() ([]byte, error) { return k.Sign(nil, keystore.ECDSA, sum[:]) })
}

func BenchmarkAES(b *testing.B) {
	value := make([]byte, 16)
	k, err := keystore.NewAES(value)
	require.NoError(b, err)
	block, err := aes.NewCipher(value)
	require.NoError(b, err)
	data := make([]byte, 1024)
	run(b, "CBC encrypt 1 KiB/bare", func() ([]byte, error) {
		out := make([]byte, len(data))
		cipher.NewCBCEncrypter(block, make([]byte, 16)).CryptBlocks(out, data)
		return out, nil
	})
	run(b, "CBC encrypt 1 KiB/key", func() ([]byte, error) { return k.Cipher(keystore.AESCBCEncrypt, data) })
	run(b, "CBC decrypt 1 KiB/bare", func() ([]byte, error) {
		out := make([]byte, len(data))
		cipher.NewCBCDecrypter(block, make([]byte, 16)).CryptBlocks(out, data)
		return out, nil
	})
	run(b, "CBC decrypt 1 KiB/key", func() ([]byte, error) { return k.Cipher(keystore.AESCBCDecrypt, data) })
	run(b, "CMAC 1 KiB/bare", func() ([]byte, error) { return cmac.Sum(value, data) })
	run(b, "CMAC 1 KiB/key", func() ([]byte, error) { return k.Cipher(keystore.AESCMAC, data) })
}

// BenchmarkStored reads and writes 300 keys, a full card.
func BenchmarkStored(b *testing.B) {
	var mixed, imported []keystore.Key
	p, q := pooledPrimes(b, 4096)
	other, err := keystore.NewRSA(bigKeyOf(p, q, 65537).parts())
	require.NoError(b, err)
	for i := range 300 {
		switch i % 3 {
		case 0:
			mixed = append(mixed, rsaKey(b, []int{2048, 4096}[i%2]))
		case 1:
			mixed = append(mixed, ecKey(b, curve.All()[i%len(curve.All())].Name()))
		case 2:
			mixed = append(mixed, aesKey(b, 256))
		}
		imported = append(imported, other)
	}
	for name, keys := range map[string][]keystore.Key{"300 of all kinds": mixed, "300 imported RSA-4096": imported} {
		text, err := json.Marshal(keys)
		require.NoError(b, err)
		run(b, name+"/write", func() ([]byte, error) { return json.Marshal(keys) })
		run(b, name+"/read", func() ([]byte, error) {
			var back []keystore.Key
			return nil, json.Unmarshal(text, &back)
		})
	}
}

// BenchmarkUnwrap shows what an import costs: with a private exponent only,
// the primes have to be found first.
func BenchmarkUnwrap(b *testing.B) {
	d := domainOf(b, kek)
	for _, k := range []keystore.Key{rsaKey(b, 2048), rsaKey(b, 4096), ecKey(b, "brainpoolP256r1"), aesKey(b, 256)} {
		blob, err := d.Wrap(rand.Reader, k)
		require.NoError(b, err)
		run(b, k.String(), func() ([]byte, error) {
			_, err := d.Unwrap(blob)
			return nil, err
		})
	}
}
