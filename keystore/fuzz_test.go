package keystore_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore"
)

// FuzzUnwrap gives the parser plaintexts under a right MAC, and the header as
// it comes. Whatever Unwrap accepts comes out of Wrap and goes in again.
func FuzzUnwrap(f *testing.F) {
	d := domainOf(f, kek)
	for _, k := range []keystore.Key{
		rsaKey(f, 1024), ecKey(f, "secp256r1"), ecKey(f, "secp521r1"), ecKey(f, "brainpoolP256t1"), aesKey(f, 128),
	} {
		blob, err := d.Wrap(seeded(1), k)
		require.NoError(f, err)
		parts := map[byte]int{0x05: 3, 0x06: 7, 0x0C: 7}[blob[8]]
		o := openBlob(f, kek, blob, parts)
		plain := append(append(bytes.Clone(o.random), byte(o.size>>8), byte(o.size)), o.rest...)
		f.Add(blob, blob[8], plain)
	}
	p, q := pooledPrimes(f, 1024)
	r := bigKeyOf(p, q, 65537)
	f.Add([]byte{}, byte(0x05), plainOf(1024, r.d.Bytes(), r.n.Bytes(), f4))
	f.Add([]byte{}, byte(0x0F), []byte{})
	f.Fuzz(func(t *testing.T, blob []byte, kind byte, plain []byte) {
		check := func(blob []byte) {
			k, err := d.Unwrap(blob)
			if err != nil {
				for _, known := range []error{
					keystore.ErrBlob, keystore.ErrKCV, keystore.ErrMAC, keystore.ErrKey, keystore.ErrCurve, keystore.ErrParameters,
				} {
					if errors.Is(err, known) {
						return
					}
				}
				t.Fatalf("an error without a name: %v", err)
			}
			k.Algorithms = append(k.Algorithms, keystore.Wrap)
			again, err := d.Wrap(seeded(1), k)
			require.NoError(t, err)
			back, err := d.Unwrap(again)
			require.NoError(t, err)
			if k.Kind() != keystore.RSA { // small RSA keys forget an unusual private exponent
				require.Equal(t, stored(t, k), stored(t, back))
			}
			require.True(t, k.Kind() == keystore.AES || k.SamePublic(back))
		}
		check(blob)
		if len(plain) > 1500 {
			plain = plain[:1500]
		}
		check(sealBlob(t, kek, kind, []byte{kind}, plain[:len(plain)&^15]))
	})
}

// FuzzKeyJSON: what is read is written the same way ever after, and never
// panics in use.
func FuzzKeyJSON(f *testing.F) {
	for _, k := range []keystore.Key{
		rsaKey(f, 1024), ecKey(f, "secp256r1"), ecKey(f, "brainpoolP192r1"), ecKey(f, "brainpoolP192t1"), aesKey(f, 128), {},
	} {
		f.Add([]byte(stored(f, k)))
	}
	p, q := pooledPrimes(f, 1024)
	f.Add([]byte(storedRSA(q, p, 3)))
	f.Fuzz(func(t *testing.T, text []byte) {
		var k keystore.Key
		if err := k.UnmarshalJSON(text); err != nil {
			require.ErrorIs(t, err, keystore.ErrFormat)
			return
		}
		once := stored(t, k)
		var again keystore.Key
		require.NoError(t, again.UnmarshalJSON([]byte(once)))
		require.Equal(t, once, stored(t, again))
		require.Equal(t, once, stored(t, k.Prepared()))
		_, _ = k.Sign(seeded(1), keystore.RSAPSSSHA256, []byte("m"))
		_, _ = k.Sign(seeded(1), keystore.ECDSASHA256, []byte("m"))
		_, _ = k.Decipher(keystore.RSADecryptRaw, make([]byte, 128))
		_, _ = k.Derive([]byte{1})
		_ = k.String()
	})
}

// FuzzDomainJSON: what is read as a key domain is written the same way ever
// after, and wraps only what it unwraps.
func FuzzDomainJSON(f *testing.F) {
	share := bytes.Repeat([]byte{7}, keystore.ShareLen)
	first, err := keystore.NewDKEK(2).Import(share)
	require.NoError(f, err)
	agreed, err := keystore.NewXKEK(share).Agree(share)
	require.NoError(f, err)
	for _, d := range []keystore.Domain{
		{}, keystore.NewDKEK(1), first, domainOf(f, kek), domainOf(f, kek).Cleared(true), keystore.NewXKEK(share), agreed,
	} {
		f.Add([]byte(stored(f, d)))
	}
	k := aesKey(f, 128)
	f.Fuzz(func(t *testing.T, text []byte) {
		var d keystore.Domain
		if err := d.UnmarshalJSON(text); err != nil {
			require.ErrorIs(t, err, keystore.ErrFormat)
			return
		}
		once := stored(t, d)
		var again keystore.Domain
		require.NoError(t, again.UnmarshalJSON([]byte(once)))
		require.Equal(t, once, stored(t, again))
		_, _ = d.Import(share)
		_, _ = d.Agree(share)
		_, _ = d.Cleared(true).Import(share)
		blob, err := d.Wrap(seeded(1), k)
		require.Equal(t, d.Ready(), err == nil)
		if err == nil {
			_, err = again.Unwrap(blob)
			require.NoError(t, err)
		}
	})
}
