package keystore_test

import (
	"bytes"
	"errors"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore"
)

var kek = bytes.Repeat([]byte{0x44}, 32)

// DOM-44, the table of sizes. Its last row is one too high for all
// three AES keys: by its own layout the header of an AES blob has 29 bytes,
// 8 + 1 + 10 + 6 + 2 + 2.
func TestWrap_Sizes(t *testing.T) {
	t.Parallel()
	d := domainOf(t, kek)
	for _, c := range []struct {
		key                 keystore.Key
		kind                byte
		size, parts         int
		plain, padded, blob int
	}{
		{ecKey(t, "secp192r1"), 0x0C, 192, 7, 242, 256, 299},
		{ecKey(t, "brainpoolP224r1"), 0x0C, 224, 7, 278, 288, 331},
		{ecKey(t, "brainpoolP256r1"), 0x0C, 256, 7, 314, 320, 363},
		{ecKey(t, "brainpoolP256t1"), 0x0C, 256, 7, 314, 320, 363},
		{ecKey(t, "brainpoolP320r1"), 0x0C, 320, 7, 386, 400, 443},
		{ecKey(t, "secp384r1"), 0x0C, 384, 7, 458, 464, 507},
		{ecKey(t, "brainpoolP512r1"), 0x0C, 512, 7, 602, 608, 651},
		{ecKey(t, "secp521r1"), 0x0C, 528, 7, 620, 624, 667},
		{rsaKey(t, 1024), 0x06, 1024, 7, 475, 480, 523},
		{rsaKey(t, 1536), 0x06, 1536, 7, 699, 704, 747},
		{rsaKey(t, 2048), 0x06, 2048, 7, 923, 928, 971},
		{rsaKey(t, 3072), 0x05, 3072, 3, 787, 800, 843},
		{rsaKey(t, 4096), 0x05, 4096, 3, 1043, 1056, 1099},
		{aesKey(t, 128), 0x0F, 16, 0, 26, 32, 77},
		{aesKey(t, 192), 0x0F, 24, 0, 34, 48, 93},
		{aesKey(t, 256), 0x0F, 32, 0, 42, 48, 93},
	} {
		blob, err := d.Wrap(seeded(1), c.key)
		require.NoError(t, err)
		require.Len(t, blob, c.blob, "%v", c.key)
		o := openBlob(t, kek, blob, c.parts)
		require.Equal(t, []byte{c.kind}, o.kind)
		require.Equal(t, c.size, o.size, "%v", c.key)
		require.Len(t, o.rest, c.padded-10, "%v", c.key)
		padding := o.padding
		if c.kind == 0x0F {
			padding = padding[c.size:]
		}
		require.Len(t, padding, c.padded-c.plain, "%v", c.key)
		require.Equal(t, append([]byte{0x80}, make([]byte, len(padding)-1)...), padding)
		kcv := d.KCV()
		require.Equal(t, kcv[:], o.kcv)
		require.Empty(t, o.access)
		require.Empty(t, o.keyOID)
	}
}

func TestWrap_Contents(t *testing.T) {
	t.Parallel()
	d := domainOf(t, kek)

	p, q := pooledPrimes(t, 2048)
	numbers := bigKeyOf(p, q, 65537)
	k, err := keystore.NewRSA(numbers.parts())
	require.NoError(t, err)
	k.Algorithms = []keystore.Algorithm{keystore.RSASignSHA256, keystore.Wrap}
	blob, err := d.Wrap(bytes.NewReader([]byte("12345678")), k)
	require.NoError(t, err)
	o := openBlob(t, kek, blob, 7)
	require.Equal(t, unhex(t, "04007F00070202020102"), o.oid)
	require.Equal(t, []byte{0x33, 0x92}, o.list)
	require.Equal(t, "12345678", string(o.random))
	half := func(x *big.Int) []byte { return x.FillBytes(make([]byte, 128)) }
	require.Equal(t, [][]byte{
		half(numbers.dp), half(numbers.dq), half(p), half(numbers.qinv), half(q), numbers.n.Bytes(), f4,
	}, o.parts)

	p, q = pooledPrimes(t, 3072)
	numbers = bigKeyOf(p, q, 65537)
	// Both private exponents: modulo the totient as given, and our own, the
	// smallest.
	k, err = keystore.NewRSA(numbers.parts())
	require.NoError(t, err)
	blob, err = d.Wrap(seeded(1), k)
	require.NoError(t, err)
	o = openBlob(t, kek, blob, 3)
	require.Equal(t, [][]byte{numbers.d.FillBytes(make([]byte, 384)), numbers.n.Bytes(), f4}, o.parts)
	require.Empty(t, o.list)
	k, err = keystore.NewRSA(keystore.RSAParts{E: f4, P: p.Bytes(), Q: q.Bytes()})
	require.NoError(t, err)
	blob, err = d.Wrap(seeded(1), k)
	require.NoError(t, err)
	one := big.NewInt(1)
	p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
	lambda := new(big.Int).Mul(p1, q1)
	lambda.Div(lambda, new(big.Int).GCD(nil, nil, p1, q1))
	smallest := new(big.Int).ModInverse(big.NewInt(65537), lambda)
	require.Equal(t, smallest.FillBytes(make([]byte, 384)), openBlob(t, kek, blob, 3).parts[0])

	a, err := keystore.NewAES([]byte("0123456789abcdef"))
	require.NoError(t, err)
	blob, err = d.Wrap(seeded(1), a)
	require.NoError(t, err)
	o = openBlob(t, kek, blob, 0)
	require.Equal(t, unhex(t, "6086480165030401"), o.oid)
	require.Equal(t, unhex(t, "10111899"), o.list)
	require.Equal(t, "0123456789abcdef", string(o.rest[:16]))
	a.Algorithms = []keystore.Algorithm{keystore.AESCMAC, keystore.Wrap}
	blob, err = d.Wrap(seeded(1), a)
	require.NoError(t, err)
	require.Equal(t, []byte{0x18, 0x92}, openBlob(t, kek, blob, 0).list)
}

// coprime reports whether e and p-1 have no factor in common.
func coprime(e int64, p *big.Int) bool {
	m := new(big.Int).Sub(p, big.NewInt(1))
	return m.GCD(nil, nil, m, big.NewInt(e)).Cmp(big.NewInt(1)) == 0
}

// CRT parts have half the width of the modulus, also when they are small.
func TestWrap_PadsSmallParts(t *testing.T) {
	t.Parallel()
	d := domainOf(t, kek)
	p, q := pooledPrimes(t, 1024)
	found := [2]bool{}
	for e := int64(65537); e < 69537; e += 2 {
		if !coprime(e, p) || !coprime(e, q) {
			continue
		}
		numbers := bigKeyOf(p, q, e)
		small := false
		for i, x := range []*big.Int{numbers.dp, numbers.dq} {
			if x.BitLen() <= 504 && !found[i] {
				found[i], small = true, true
			}
		}
		if !small {
			continue
		}
		k, err := keystore.NewRSA(numbers.parts())
		require.NoError(t, err)
		blob, err := d.Wrap(seeded(1), k)
		require.NoError(t, err)
		require.Len(t, blob, 523)
		for _, part := range openBlob(t, kek, blob, 7).parts[:5] {
			require.Len(t, part, 64)
		}
		back, err := d.Unwrap(blob)
		require.NoError(t, err)
		require.True(t, k.SamePublic(back))
		signAndVerify(t, back)
	}
	require.Equal(t, [2]bool{true, true}, found)
}

func TestWrap_UnwrapGivesTheKeyBack(t *testing.T) {
	t.Parallel()
	d := domainOf(t, kek)
	for _, k := range allKinds(t) {
		k.Algorithms = append(keystore.DefaultAlgorithms(k.Kind()), keystore.Replace)
		bare := k
		k.Uses = keystore.Uses{Limited: true, Left: 3} // these two stay behind
		k.Domain = 4
		blob, err := d.Wrap(seeded(1), k)
		require.NoError(t, err)
		back, err := d.Unwrap(blob)
		require.NoError(t, err, "%v", k)
		require.Equal(t, stored(t, bare), stored(t, back))
	}
	// Without a list: none comes back, except for AES (DOM-14).
	for _, k := range []keystore.Key{rsaKey(t, 1024), ecKey(t, "secp192r1"), aesKey(t, 256)} {
		blob, err := d.Wrap(seeded(1), k)
		require.NoError(t, err)
		back, err := d.Unwrap(blob)
		require.NoError(t, err)
		if k.Kind() == keystore.AES {
			k.Algorithms = []keystore.Algorithm{0x10, 0x11, 0x18, 0x99}
		}
		require.Equal(t, stored(t, k), stored(t, back))
	}
}

func TestWrap_Refuses(t *testing.T) {
	t.Parallel()
	k := ecKey(t, "secp192r1")
	for _, d := range []keystore.Domain{{}, keystore.NewDKEK(1), keystore.NewDKEK(0), keystore.NewXKEK([]byte("g"))} {
		_, err := d.Wrap(seeded(1), k)
		require.ErrorIs(t, err, keystore.ErrNotReady)
		_, err = d.Unwrap(make([]byte, 100))
		require.ErrorIs(t, err, keystore.ErrNotReady)
	}
	k.Algorithms = []keystore.Algorithm{keystore.ECDSA}
	_, err := domainOf(t, kek).Wrap(seeded(1), k)
	require.ErrorIs(t, err, keystore.ErrAlgorithm)
	_, err = domainOf(t, kek).Wrap(seeded(1), keystore.Key{})
	require.ErrorIs(t, err, keystore.ErrAlgorithm)
	_, err = domainOf(t, kek).Wrap(seeded(1), keystore.Key{Algorithms: []keystore.Algorithm{keystore.Wrap}})
	require.ErrorIs(t, err, keystore.ErrAlgorithm)
}

// No bit of a blob may be changed, and nothing cut off or added.
func TestUnwrap_EveryByteCounts(t *testing.T) {
	t.Parallel()
	d := domainOf(t, kek)
	for _, k := range []keystore.Key{rsaKey(t, 1024), ecKey(t, "secp521r1"), aesKey(t, 128)} {
		blob, err := d.Wrap(seeded(1), k)
		require.NoError(t, err)
		for i := range blob {
			for _, flip := range []byte{0x01, 0x10, 0x80, 0xFF} {
				blob[i] ^= flip
				_, err := d.Unwrap(blob)
				switch {
				case i < 8:
					require.ErrorIs(t, err, keystore.ErrKCV, "byte %d", i)
				default:
					require.True(t, errors.Is(err, keystore.ErrMAC) || errors.Is(err, keystore.ErrBlob), "byte %d: %v", i, err)
				}
				blob[i] ^= flip
			}
		}
		_, err = d.Unwrap(blob)
		require.NoError(t, err)
		for n := range blob {
			_, err = d.Unwrap(blob[:n])
			require.Error(t, err)
		}
		_, err = d.Unwrap(append(blob, 0))
		require.Error(t, err)
	}
}

func TestUnwrap_OtherKEK(t *testing.T) {
	t.Parallel()
	blob, err := domainOf(t, kek).Wrap(seeded(1), aesKey(t, 128))
	require.NoError(t, err)
	_, err = domainOf(t, bytes.Repeat([]byte{0x45}, 32)).Unwrap(blob)
	require.ErrorIs(t, err, keystore.ErrKCV)
}

func TestUnwrap_MalformedBlobs(t *testing.T) {
	t.Parallel()
	d := domainOf(t, kek)
	sealed := func(kind byte, plain []byte) []byte { return sealBlob(t, kek, kind, nil, plain) }
	block := make([]byte, 16)
	for name, blob := range map[string][]byte{
		"nothing":          nil,
		"short":            make([]byte, 48),
		"type 00":          sealed(0x00, block),
		"type 07":          sealed(0x07, block),
		"no ciphertext":    sealBlob(t, kek, 0x0F, make([]byte, 30), nil),
		"broken block":     sealed(0x0F, make([]byte, 32))[:79],
		"half a length":    append(append(make([]byte, 8), 0x0F, 0, 38), make([]byte, 38+1+16)...),
		"header cut":       append(append(make([]byte, 8), 0x0F, 0, 40), make([]byte, 39+16)...),
		"RSA empty parts":  sealed(0x05, plainOf(1024, nil, nil, nil)),
		"part cut by one":  sealed(0x05, append(make([]byte, 8), 4, 0, 0, 5, 1, 1, 1, 1)),
		"AES too long":     sealed(0x0F, append(make([]byte, 8), 0, 32, 1, 2, 3, 4, 5, 6)),
		"RSA empty":        sealed(0x06, block),
		"RSA part missing": sealed(0x05, plainOf(1024, []byte{1}, []byte{2})),
		"EC cut":           sealed(0x0C, append(make([]byte, 8), 1, 0, 0, 32, 0, 0, 0, 0)),
	} {
		_, err := d.Unwrap(blob)
		require.ErrorIs(t, err, keystore.ErrBlob, name)
	}
}

// Widths, paddings and object identifiers that other cards and tools write.
//
// Shows DOM-43.
func TestUnwrap_IsLiberalInForm(t *testing.T) {
	t.Parallel()
	d := domainOf(t, kek)
	e := ecKey(t, "secp521r1")
	c := e.Curve().Parameters()
	strip := func(b []byte) []byte { return bytes.TrimLeft(b, "\x00") }
	wide := func(point []byte) []byte {
		w := len(point) / 2
		return bytes.Join([][]byte{{4}, zeros(point[1 : 1+w]), zeros(point[1+w:])}, nil)
	}
	p, q := pooledPrimes(t, 1024)
	r := bigKeyOf(p, q, 65537)
	rk, err := keystore.NewRSA(r.parts())
	require.NoError(t, err)
	crt, err := keystore.NewRSA(keystore.RSAParts{E: f4, P: p.Bytes(), Q: q.Bytes()})
	require.NoError(t, err)
	a := aesKey(t, 128)
	aesValue := aesBytes(t, 16)
	for name, x := range map[string]struct {
		kind  byte
		plain []byte
		want  keystore.Key
	}{
		"EC wide": {
			0x0C,
			plainOf(528, zeros(c.A), zeros(c.B), zeros(c.P), zeros(c.N), wide(c.G), zeros(e.EC().Bytes()), wide(e.ECPublic().Bytes())),
			e,
		},
		"EC stripped, size in bits": {
			0x0C,
			plainOf(521, strip(c.A), strip(c.B), strip(c.P), strip(c.N), c.G, strip(e.EC().Bytes()), e.ECPublic().Bytes()),
			e,
		},
		"RSA CRT wide": {
			0x06,
			plainOf(1024, zeros(r.dp.Bytes()), zeros(r.dq.Bytes()), zeros(p.Bytes()), zeros(r.qinv.Bytes()), zeros(q.Bytes()), zeros(r.n.Bytes()), zeros(f4)),
			crt,
		},
		"small RSA with private exponent": {0x05, plainOf(1024, r.d.Bytes(), r.n.Bytes(), f4), rk},
		"AES, padding of a peer": {
			0x0F, bytes.Join([][]byte{make([]byte, 8), {0, 16}, aesValue, {6, 6, 6, 6, 6, 6}}, nil), a,
		},
		"AES, one more block": {
			0x0F, append(pad(bytes.Join([][]byte{make([]byte, 8), {0, 16}, aesValue}, nil)), make([]byte, 16)...), a,
		},
	} {
		got, err := d.Unwrap(sealBlob(t, kek, x.kind, nil, x.plain))
		require.NoError(t, err, name)
		require.Equal(t, stored(t, x.want), stored(t, got), name)
	}
}

// aesBytes are the bytes aesKey makes its keys of.
func aesBytes(t testing.TB, n int) []byte {
	b := make([]byte, n)
	_, err := seeded(2).Read(b)
	require.NoError(t, err)
	return b
}

// Blobs with a right MAC and parts that do not belong together.
//
// Shows DOM-27.
func TestUnwrap_InconsistentKeys(t *testing.T) {
	t.Parallel()
	d := domainOf(t, kek)
	p, q := pooledPrimes(t, 1024)
	r := bigKeyOf(p, q, 65537)
	for _, c := range []struct {
		kind  byte
		size  int
		parts [][]byte
	}{
		{0x05, 1024, [][]byte{r.d.Bytes(), r.n.Bytes(), bytes.Clone(f4)}},
		{0x06, 1024, [][]byte{r.dp.Bytes(), r.dq.Bytes(), p.Bytes(), r.qinv.Bytes(), q.Bytes(), r.n.Bytes(), bytes.Clone(f4)}},
	} {
		_, err := d.Unwrap(sealBlob(t, kek, c.kind, nil, plainOf(c.size, c.parts...)))
		require.NoError(t, err)
		for i := range c.parts {
			last := len(c.parts[i]) - 1
			c.parts[i][last] ^= 4
			_, err = d.Unwrap(sealBlob(t, kek, c.kind, nil, plainOf(c.size, c.parts...)))
			require.ErrorIs(t, err, keystore.ErrKey, "type %02X part %d", c.kind, i)
			c.parts[i][last] ^= 4
		}
		for _, size := range []int{0, 1023, 1025, 2048} {
			_, err = d.Unwrap(sealBlob(t, kek, c.kind, nil, plainOf(size, c.parts...)))
			require.ErrorIs(t, err, keystore.ErrKey, "size %d", size)
		}
		c.parts[len(c.parts)-1] = []byte{2}
		_, err = d.Unwrap(sealBlob(t, kek, c.kind, nil, plainOf(c.size, c.parts...)))
		require.ErrorIs(t, err, keystore.ErrParameters)
	}

	e := ecKey(t, "secp256r1")
	c := e.Curve().Parameters()
	parts := [][]byte{c.A, c.B, c.P, c.N, c.G, e.EC().Bytes(), e.ECPublic().Bytes()}
	_, err := d.Unwrap(sealBlob(t, kek, 0x0C, nil, plainOf(256, parts...)))
	require.NoError(t, err)
	for i := range parts {
		last := len(parts[i]) - 1
		parts[i][last] ^= 1
		want := keystore.ErrCurve
		if i >= 5 {
			want = keystore.ErrKey
		}
		_, err = d.Unwrap(sealBlob(t, kek, 0x0C, nil, plainOf(256, parts...)))
		require.ErrorIs(t, err, want, "part %d", i)
		parts[i][last] ^= 1
	}
	for _, size := range []int{0, 255, 32, 384} {
		_, err = d.Unwrap(sealBlob(t, kek, 0x0C, nil, plainOf(size, parts...)))
		require.ErrorIs(t, err, keystore.ErrKey, "size %d", size)
	}
	for _, scalar := range [][]byte{{0}, c.N, append([]byte{1}, c.N...)} {
		parts[5] = scalar
		_, err = d.Unwrap(sealBlob(t, kek, 0x0C, nil, plainOf(256, parts...)))
		require.ErrorIs(t, err, keystore.ErrKey)
	}

	for _, size := range []byte{0, 1, 15, 17, 20} {
		_, err = d.Unwrap(sealBlob(t, kek, 0x0F, nil, append(make([]byte, 9), append([]byte{size}, make([]byte, 22)...)...)))
		require.ErrorIs(t, err, keystore.ErrKey, "AES of %d bytes", size)
	}
}

// A blob names its curve by the parameters, and brainpool r1 and t1 of a size
// have p and n in common: a key of one is never taken for one of the other.
func TestUnwrap_DoesNotMixCurvesOfOneField(t *testing.T) {
	t.Parallel()
	d := domainOf(t, kek)
	for _, names := range [][2]string{{"brainpoolP256r1", "brainpoolP256t1"}, {"brainpoolP256t1", "brainpoolP256r1"}} {
		k, other := ecKey(t, names[0]), curveNamed(t, names[1]).Parameters()
		c := k.Curve().Parameters()
		parts := [][]byte{c.A, c.B, c.P, c.N, c.G, k.EC().Bytes(), k.ECPublic().Bytes()}
		unwrap := func() (keystore.Key, error) {
			return d.Unwrap(sealBlob(t, kek, 0x0C, nil, plainOf(256, parts...)))
		}
		back, err := unwrap()
		require.NoError(t, err)
		require.Equal(t, stored(t, k), stored(t, back))
		for i, foreign := range map[int][]byte{0: other.A, 1: other.B, 4: other.G} {
			mine := parts[i]
			parts[i] = foreign
			_, err = unwrap()
			require.ErrorIs(t, err, keystore.ErrCurve, "%s with part %d of %s", names[0], i, names[1])
			parts[i] = mine
		}
		parts[0], parts[1], parts[4] = other.A, other.B, other.G
		_, err = unwrap()
		require.ErrorIs(t, err, keystore.ErrKey, "point of %s on %s", names[0], names[1])
	}
}
