package keystore_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math/big"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hsmemu/keystore"
	"hsmemu/keystore/curve"
)

func TestKey_TellsWhatItIs(t *testing.T) {
	t.Parallel()
	r, e, a := rsaKey(t, 1536), ecKey(t, "secp521r1"), aesKey(t, 192)
	for _, c := range []struct {
		key  keystore.Key
		kind keystore.Kind
		name string
		bits int
		text string
	}{
		{r, keystore.RSA, "RSA", 1536, "RSA 1536"},
		{e, keystore.EC, "EC", 521, "EC secp521r1"},
		{a, keystore.AES, "AES", 192, "AES 192"},
		{keystore.Key{}, 0, "none", 0, "no key"},
	} {
		require.Equal(t, c.kind, c.key.Kind())
		require.Equal(t, c.name, c.key.Kind().String())
		require.Equal(t, c.bits, c.key.Bits())
		require.Equal(t, c.text, c.key.String())
		require.Equal(t, c.kind == 0, c.key.IsZero())
		require.Equal(t, c.kind == keystore.EC, c.key.EC() != nil)
		require.Equal(t, c.kind == keystore.EC, c.key.ECPublic() != nil)
		require.Equal(t, c.kind == keystore.EC, c.key.Curve() != nil)
		n, exponent := c.key.RSAPublic()
		require.Equal(t, c.kind == keystore.RSA, n != nil)
		require.Equal(t, c.kind == keystore.RSA, exponent != nil)
	}
}

func TestSamePublic_ComparesKeysNotAttributes(t *testing.T) {
	t.Parallel()
	r, e, a := rsaKey(t, 1024), ecKey(t, "secp256r1"), aesKey(t, 128)
	other := r
	other.Domain, other.Algorithms = 3, []keystore.Algorithm{keystore.Wrap}
	require.True(t, r.SamePublic(other))
	require.True(t, e.SamePublic(e))
	require.False(t, a.SamePublic(a), "an AES key has no public part")
	require.False(t, keystore.Key{}.SamePublic(keystore.Key{}))
	require.False(t, r.SamePublic(e))
	require.False(t, r.SamePublic(rsaKey(t, 2048)))
	require.False(t, e.SamePublic(ecKey(t, "secp256k1")))
	second, err := keystore.GenerateEC(seeded(9), curveNamed(t, "secp256r1"))
	require.NoError(t, err)
	require.False(t, e.SamePublic(second))
}

func TestSpend_CountsDownAndStops(t *testing.T) {
	t.Parallel()
	k := aesKey(t, 128)
	same, err := k.Spend()
	require.NoError(t, err)
	require.Equal(t, k, same, "a key without counter")

	k.Uses = keystore.Uses{Limited: true, Left: 2}
	once, err := k.Spend()
	require.NoError(t, err)
	require.Equal(t, keystore.Uses{Limited: true, Left: 1}, once.Uses)
	require.Equal(t, uint32(2), k.Uses.Left, "the key it came from")
	twice, err := once.Spend()
	require.NoError(t, err)
	require.Equal(t, keystore.Uses{Limited: true, Left: 0}, twice.Uses)
	still, err := twice.Spend()
	require.ErrorIs(t, err, keystore.ErrExhausted)
	require.Equal(t, twice.Uses, still.Uses)
}

// KEY-53: d' = (d + parameter) mod n.
func TestDerive_AddsModuloTheOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		c := rapid.SampledFrom(curve.All()).Draw(rt, "curve")
		k, err := keystore.GenerateEC(bytes.NewReader(rapid.SliceOfN(rapid.ByteRange(1, 255), 80, 80).Draw(rt, "key")), c)
		require.NoError(t, err)
		param := rapid.SliceOfN(rapid.Byte(), 1, 80).Draw(rt, "param")
		n := new(big.Int).SetBytes(c.Parameters().N)
		want := new(big.Int).SetBytes(k.EC().Bytes())
		want.Add(want, new(big.Int).SetBytes(param)).Mod(want, n)

		child, err := k.Derive(param)
		if new(big.Int).Mod(new(big.Int).SetBytes(param), n).Sign() == 0 {
			require.ErrorIs(t, err, keystore.ErrData)
			return
		}
		require.NoError(t, err)
		require.Equal(t, want.FillBytes(make([]byte, c.OrderLen())), child.EC().Bytes())
		require.Equal(t, c, child.Curve())
	})
}

func TestDerive_AttributesAndRefusals(t *testing.T) {
	t.Parallel()
	k := ecKey(t, "brainpoolP256r1")
	k.Uses = keystore.Uses{Limited: true, Left: 7}
	k.Domain = 2
	k.Algorithms = []keystore.Algorithm{keystore.ECDSA, keystore.DeriveEC, keystore.Wrap}
	child, err := k.Derive([]byte{1})
	require.NoError(t, err)
	require.Equal(t, keystore.Uses{}, child.Uses)
	require.Equal(t, byte(2), child.Domain)
	require.Equal(t, []keystore.Algorithm{keystore.ECDSA, keystore.Wrap}, child.Algorithms)
	require.Len(t, k.Algorithms, 3)

	k.Algorithms = []keystore.Algorithm{keystore.DeriveEC}
	child, err = k.Derive([]byte{1})
	require.NoError(t, err)
	require.False(t, child.Allows(keystore.ECDSA), "a list that becomes empty does not become the default")
	require.False(t, child.Allows(keystore.Wrap))

	_, err = k.Derive(nil)
	require.ErrorIs(t, err, keystore.ErrLength)
	n := new(big.Int).SetBytes(k.Curve().Parameters().N)
	_, err = k.Derive(n.Sub(n, new(big.Int).SetBytes(k.EC().Bytes())).Bytes())
	require.ErrorIs(t, err, keystore.ErrData)
	n.SetBytes(k.Curve().Parameters().N)
	for _, zero := range []*big.Int{{}, n, new(big.Int).Lsh(n, 3)} { // the parent without its counter
		_, err = k.Derive(append([]byte{0}, zero.Bytes()...))
		require.ErrorIs(t, err, keystore.ErrData)
	}
	for _, other := range []keystore.Key{rsaKey(t, 1024), aesKey(t, 128), {}} {
		_, err = other.Derive([]byte{1})
		require.ErrorIs(t, err, keystore.ErrAlgorithm)
	}
}

// Every operation of every kind of key, with every identifier: what the table
// of KEY-1 does not name is refused.
func TestOperations_RefuseForeignAlgorithms(t *testing.T) {
	t.Parallel()
	inSet := func(set string, a int) bool { return bytes.IndexByte([]byte(set), byte(a)) >= 0 }
	for _, c := range []struct {
		key                    keystore.Key
		sign, decipher, cipher string
	}{
		{
			rsaKey(t, 2048),
			"\x20\x30\x31\x32\x33\x34\x35\x40\x41\x42\x43\x44\x45", "\x21\x22\x23", "",
		},
		{ecKey(t, "secp256r1"), "\x70\x71\x72\x73\x74\x75", "\x80", ""},
		{aesKey(t, 256), "", "", "\x10\x11\x18\x99"},
		{keystore.Key{}, "", "", ""},
	} {
		for a := range 256 {
			data := make([]byte, 256)
			_, err := c.key.Sign(seeded(1), keystore.Algorithm(a), data)
			require.Equal(t, !inSet(c.sign, a), errors.Is(err, keystore.ErrAlgorithm), "%v sign %02X: %v", c.key, a, err)
			_, err = c.key.Decipher(keystore.Algorithm(a), data)
			require.Equal(t, !inSet(c.decipher, a), errors.Is(err, keystore.ErrAlgorithm), "%v decipher %02X: %v", c.key, a, err)
			_, err = c.key.Cipher(keystore.Algorithm(a), data)
			require.Equal(t, !inSet(c.cipher, a), errors.Is(err, keystore.ErrAlgorithm), "%v cipher %02X: %v", c.key, a, err)
		}
	}
}

func TestOperations_RefuseWrongLengths(t *testing.T) {
	t.Parallel()
	r, e, a := rsaKey(t, 1024), ecKey(t, "secp256r1"), aesKey(t, 128)
	for _, c := range []struct {
		name string
		do   func(keystore.Key, keystore.Algorithm, []byte) ([]byte, error)
		key  keystore.Key
		alg  keystore.Algorithm
		bad  []int
	}{
		{"sign", sign, r, keystore.RSASignRaw, []int{0, 1, 127, 129}},
		{"sign", sign, r, keystore.RSASignPKCS1, []int{0, 118, 128}},
		{"sign", sign, r, keystore.RSASignSHA256, []int{0}},
		{"sign", sign, r, keystore.RSAPSS, []int{0, 1, 16, 19, 21, 31, 33, 63, 65, 128}},
		{"sign", sign, r, keystore.RSAPSSSHA256, []int{0}},
		{"sign", sign, e, keystore.ECDSA, []int{0}},
		{"sign", sign, e, keystore.ECDSASHA256, []int{0}},
		{"decipher", keystore.Key.Decipher, r, keystore.RSADecryptRaw, []int{0, 127, 129}},
		{"decipher", keystore.Key.Decipher, r, keystore.RSADecryptPKCS1, []int{0, 127, 129}},
		{"decipher", keystore.Key.Decipher, r, keystore.RSADecryptOAEP, []int{0, 127, 129}},
		{"decipher", keystore.Key.Decipher, e, keystore.ECDH, []int{0, 1, 33, 64, 66}},
		{"cipher", keystore.Key.Cipher, a, keystore.AESCBCEncrypt, []int{0, 1, 15, 17, 31}},
		{"cipher", keystore.Key.Cipher, a, keystore.AESCBCDecrypt, []int{0, 1, 15, 17, 31}},
		{"cipher", keystore.Key.Cipher, a, keystore.AESCMAC, []int{0}},
		{"cipher", keystore.Key.Cipher, a, keystore.DeriveAES, []int{0}},
	} {
		for _, n := range c.bad {
			_, err := c.do(c.key, c.alg, make([]byte, n))
			require.ErrorIs(t, err, keystore.ErrLength, "%s %v, %d bytes", c.name, c.alg, n)
		}
	}
}

func sign(k keystore.Key, a keystore.Algorithm, data []byte) ([]byte, error) {
	return k.Sign(seeded(5), a, data)
}

func TestOperations_RefuseWrongValues(t *testing.T) {
	t.Parallel()
	r, e := rsaKey(t, 1024), ecKey(t, "secp256r1")
	n, _ := r.RSAPublic()
	for _, a := range []keystore.Algorithm{keystore.RSADecryptRaw, keystore.RSADecryptPKCS1, keystore.RSADecryptOAEP} {
		_, err := r.Decipher(a, n)
		require.ErrorIs(t, err, keystore.ErrData, "%v of n itself", a)
	}
	_, err := r.Sign(nil, keystore.RSASignRaw, n)
	require.ErrorIs(t, err, keystore.ErrData)
	garbage := bytes.Repeat([]byte{1}, 128)
	_, err = r.Decipher(keystore.RSADecryptPKCS1, garbage)
	require.ErrorIs(t, err, keystore.ErrData)
	_, err = r.Decipher(keystore.RSADecryptOAEP, garbage)
	require.ErrorIs(t, err, keystore.ErrData)

	point := e.ECPublic().Bytes()
	point[64] ^= 1
	_, err = e.Decipher(keystore.ECDH, point)
	require.ErrorIs(t, err, keystore.ErrData)
	point[64] ^= 1
	point[0] = 5
	_, err = e.Decipher(keystore.ECDH, point)
	require.ErrorIs(t, err, keystore.ErrData)
	_, err = e.Agree(ecKey(t, "brainpoolP256r1").ECPublic())
	require.ErrorIs(t, err, keystore.ErrData, "a peer on another curve")
	_, err = r.Agree(e.ECPublic())
	require.ErrorIs(t, err, keystore.ErrAlgorithm)
}

// KEY-45: the answer is the whole point, and the same for both sides.
func TestECDH_BothSidesAgree(t *testing.T) {
	t.Parallel()
	for _, c := range curve.All() {
		one := ecKey(t, c.Name())
		two, err := keystore.GenerateEC(seeded(8), c)
		require.NoError(t, err)
		a, err := one.Decipher(keystore.ECDH, two.ECPublic().Bytes())
		require.NoError(t, err)
		b, err := two.Decipher(keystore.ECDH, one.ECPublic().Bytes())
		require.NoError(t, err)
		require.Equal(t, a, b)
		_, err = c.Public(a)
		require.NoError(t, err, "04||x||y")
		agreed, err := one.Agree(two.ECPublic())
		require.NoError(t, err)
		require.Equal(t, a, agreed)
	}
}

func TestSign_ECIsDeterministicWithoutRandomness(t *testing.T) {
	t.Parallel()
	k := ecKey(t, "brainpoolP256r1")
	first, err := k.Sign(nil, keystore.ECDSASHA256, []byte("x"))
	require.NoError(t, err)
	second, err := k.Sign(nil, keystore.ECDSASHA256, []byte("x"))
	require.NoError(t, err)
	require.Equal(t, first, second)
	random, err := k.Sign(seeded(1), keystore.ECDSASHA256, []byte("x"))
	require.NoError(t, err)
	require.NotEqual(t, first, random)
}

func TestRandomness_MissingIsAnError(t *testing.T) {
	t.Parallel()
	broken := iotest.ErrReader(errors.New("broken"))
	c := curveNamed(t, "secp256r1")
	d := domainOf(t, make([]byte, 32))
	e := ecKey(t, "secp256r1")
	for name, err := range map[string]error{
		"AES, nil":     second(keystore.GenerateAES(nil, 128)),
		"AES":          second(keystore.GenerateAES(broken, 128)),
		"EC, nil":      second(keystore.GenerateEC(nil, c)),
		"EC":           second(keystore.GenerateEC(broken, c)),
		"pool, nil":    second(keystore.GenerateRSA(keystore.PoolGenerator{}, 1024, f4)),
		"pool":         second(keystore.GenerateRSA(keystore.PoolGenerator{Rand: broken}, 1024, f4)),
		"system, nil":  second(keystore.GenerateRSA(keystore.SystemGenerator{}, 1024, f4)),
		"PSS, nil":     second(rsaKey(t, 1024).Sign(nil, keystore.RSAPSSSHA256, []byte("x"))),
		"PSS":          second(rsaKey(t, 1024).Sign(broken, keystore.RSAPSSSHA256, []byte("x"))),
		"DKEK, nil":    second(keystore.RandomDKEK(nil)),
		"DKEK":         second(keystore.RandomDKEK(broken)),
		"wrap, nil":    second(d.Wrap(nil, e)),
		"wrap, broken": second(d.Wrap(broken, e)),
	} {
		require.ErrorIs(t, err, keystore.ErrRandom, name)
	}
}

func second[T any](_ T, err error) error { return err }

func TestAES_GeneratesFromTheGivenRandomness(t *testing.T) {
	t.Parallel()
	for _, bits := range []int{128, 192, 256} {
		value := bytes.Repeat([]byte{0x5A}, bits/8)
		k, err := keystore.GenerateAES(bytes.NewReader(value), bits)
		require.NoError(t, err)
		same, err := keystore.NewAES(value)
		require.NoError(t, err)
		require.Equal(t, stored(t, same), stored(t, k))
		require.Equal(t, bits, k.Bits())
	}
	for _, bits := range []int{0, 64, 127, 129, 512} {
		_, err := keystore.GenerateAES(seeded(1), bits)
		require.ErrorIs(t, err, keystore.ErrParameters)
	}
	_, err := keystore.NewAES(make([]byte, 20))
	require.ErrorIs(t, err, keystore.ErrParameters)
}

func TestNewAES_KeepsItsOwnCopy(t *testing.T) {
	t.Parallel()
	value := make([]byte, 16)
	k, err := keystore.NewAES(value)
	require.NoError(t, err)
	before := stored(t, k)
	value[0] = 1
	require.Equal(t, before, stored(t, k))
}

// KEY-52.
func TestCipher_DerivesInOneStep(t *testing.T) {
	t.Parallel()
	value := bytes.Repeat([]byte{7}, 32)
	k, err := keystore.NewAES(value)
	require.NoError(t, err)
	got, err := k.Cipher(keystore.DeriveAES, []byte("label"))
	require.NoError(t, err)
	want := sha256.Sum256(append(append([]byte{0, 0, 0, 1}, value...), "label"...))
	require.Equal(t, want[:], got)
}

func TestCipher_DecryptUndoesEncrypt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		k, err := keystore.NewAES(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(rt, "key"))
		require.NoError(t, err)
		blocks := rapid.IntRange(1, 20).Draw(rt, "blocks")
		data := rapid.SliceOfN(rapid.Byte(), 16*blocks, 16*blocks).Draw(rt, "data")
		before := bytes.Clone(data)
		secret, err := k.Cipher(keystore.AESCBCEncrypt, data)
		require.NoError(t, err)
		require.NotEqual(t, data, secret)
		plain, err := k.Cipher(keystore.AESCBCDecrypt, secret)
		require.NoError(t, err)
		require.Equal(t, data, plain)
		require.Equal(t, before, data, "the input is left alone")
	})
}
