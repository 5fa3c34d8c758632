package curve_test

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"math/big"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore/curve"
)

// standard has the curves whose signatures the standard library makes.
var standard = map[string]bool{"secp224r1": true, "secp256r1": true, "secp384r1": true, "secp521r1": true}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

func TestSign_MakesTheVectorsOfRFC6979(t *testing.T) {
	t.Parallel()
	file, err := os.Open("testdata/rfc6979.txt")
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	var k *curve.Private
	count := 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		f := strings.Fields(lines.Text())
		switch {
		case f[0] == "#":
		case f[0] == "key":
			k, err = byName(t, f[1]).Private(unhex(t, f[2]))
			require.NoError(t, err)
		default:
			digest := digestOf(t, f[0], f[1])
			want := curve.Signature{R: unhex(t, f[2]), S: unhex(t, f[3])}
			s, err := k.Sign(nil, digest)
			require.NoError(t, err)
			require.Equal(t, want, s, lines.Text())
			require.Equal(t, want, k.SignByGroup(digest), lines.Text())
			require.True(t, k.Public().Verify(digest, s))
			require.True(t, k.Public().VerifyByGroup(digest, s))
			count++
		}
	}
	require.Equal(t, 50, count)
}

func digestOf(t *testing.T, hash, message string) []byte {
	t.Helper()
	switch m := []byte(message); hash {
	case "SHA-1":
		d := sha1.Sum(m)
		return d[:]
	case "SHA-224":
		d := sha256.Sum224(m)
		return d[:]
	case "SHA-256":
		d := sha256.Sum256(m)
		return d[:]
	case "SHA-384":
		d := sha512.Sum384(m)
		return d[:]
	case "SHA-512":
		d := sha512.Sum512(m)
		return d[:]
	}
	require.Fail(t, "unknown hash "+hash)
	return nil
}

// nonce is RFC 6979 §3.2 once more, with math/big.
func (r *reference) nonce(newHash func() hash.Hash, d *big.Int, digest, extra []byte) *big.Int {
	sum := func(key []byte, parts ...[]byte) []byte {
		m := hmac.New(newHash, key)
		for _, p := range parts {
			m.Write(p)
		}
		return m.Sum(nil)
	}
	bits := func(b []byte) *big.Int {
		x := new(big.Int).SetBytes(b)
		if excess := 8*len(b) - r.n.BitLen(); excess > 0 {
			x.Rsh(x, uint(excess))
		}
		return x
	}
	octets := func(x *big.Int) []byte { return x.FillBytes(make([]byte, (r.n.BitLen()+7)/8)) }
	k, v := make([]byte, newHash().Size()), bytes.Repeat([]byte{1}, newHash().Size())
	z := bits(digest)
	for _, separator := range []byte{0, 1} {
		k = sum(k, v, []byte{separator}, octets(d), octets(z.Mod(z, r.n)), extra)
		v = sum(k, v)
	}
	for {
		var t []byte
		for 8*len(t) < r.n.BitLen() {
			v = sum(k, v)
			t = append(t, v...)
		}
		if x := bits(t); x.Sign() > 0 && x.Cmp(r.n) < 0 {
			return x
		}
		k = sum(k, v, []byte{0})
		v = sum(k, v)
	}
}

// sign leaves the multiplication to the package: it has tests of its own and
// math/big is slow at it.
func (r *reference) sign(t *testing.T, c *curve.Curve, d, nonce *big.Int, digest []byte) curve.Signature {
	t.Helper()

	z := new(big.Int).SetBytes(digest)
	if excess := 8*len(digest) - r.n.BitLen(); excess > 0 {
		z.Rsh(z, uint(excess))
	}
	product, err := c.Private(nonce.Bytes())
	require.NoError(t, err)
	x := r.point(product.Public().Bytes()).x
	x.Mod(x, r.n)
	s := new(big.Int).Mul(x, d)
	s.Add(s, z).Mul(s, new(big.Int).ModInverse(nonce, r.n)).Mod(s, r.n)
	w := (r.n.BitLen() + 7) / 8
	return curve.Signature{R: x.FillBytes(make([]byte, w)), S: s.FillBytes(make([]byte, w))}
}

// The vectors of the RFC have digests and candidates below the order; on
// brainpool curves a third to a half of both are not.
func TestSign_FollowsRFC6979OnEveryCurve(t *testing.T) {
	t.Parallel()
	hashes := map[int]func() hash.Hash{20: sha1.New, 28: sha256.New224, 48: sha512.New384, 64: sha512.New}
	each(t, func(t *testing.T, c *curve.Curve) {
		r := newReference(c)
		k := generate(t, c)
		d := new(big.Int).SetBytes(k.Bytes())
		for _, length := range []int{1, 20, 28, 29, 32, 48, 64, 100} {
			newHash, ok := hashes[length]
			if !ok {
				newHash = sha256.New
			}
			for i := range byte(2) {
				digest := bytes.Repeat([]byte{0xff - 77*i}, length)
				want := r.sign(t, c, d, r.nonce(newHash, d, digest, nil), digest)
				s, err := k.Sign(nil, digest)
				require.NoError(t, err)
				require.Equal(t, want, s, "%d bytes", length)
				require.Equal(t, want, k.SignByGroup(digest), "%d bytes", length)
				if standard[c.Name()] {
					continue
				}
				extra := make([]byte, 32)
				_, err = io.ReadFull(&pattern{i}, extra)
				require.NoError(t, err)
				s, err = k.Sign(&pattern{i}, digest)
				require.NoError(t, err)
				require.Equal(t, r.sign(t, c, d, r.nonce(newHash, d, digest, extra), digest), s, "hedged, %d bytes", length)
			}
		}
	})
}

func TestSign_TakesADigestOfAnyLength(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		k := generate(t, c)
		digest := make([]byte, 132)
		_, err := rand.Read(digest)
		require.NoError(t, err)
		w := c.OrderLen()
		for _, n := range []int{1, 8, 9, 20, 32, w - 1, w, w + 1, 132} {
			var source io.Reader
			if n%2 == 0 {
				source = rand.Reader
			}
			s, err := k.Sign(source, digest[:n])
			require.NoError(t, err)
			require.Len(t, s.R, c.OrderLen())
			require.Len(t, s.S, c.OrderLen())
			require.True(t, k.Public().Verify(digest[:n], s), "%d bytes", n)
			require.True(t, k.Public().VerifyByGroup(digest[:n], s), "%d bytes", n)
		}
		_, err = k.Sign(rand.Reader, nil)
		require.ErrorIs(t, err, curve.ErrDigest)
		_, err = k.Sign(nil, []byte{})
		require.ErrorIs(t, err, curve.ErrDigest)
	})
}

func TestVerify_LooksAtTheLeftmostBitsOnly(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		k := generate(t, c)
		digest := bytes.Repeat([]byte{0x5a}, 2*c.OrderLen())
		s, err := k.Sign(nil, digest)
		require.NoError(t, err)
		bits := c.Bits() // as many as the order has, on all curves here
		for _, bit := range []int{0, 1, bits - 9, bits - 1, bits, bits + 1, 8*len(digest) - 1} {
			other := bytes.Clone(digest)
			other[bit/8] ^= 0x80 >> (bit % 8)
			require.Equal(t, bit >= bits, k.Public().Verify(other, s), "bit %d", bit)
			require.Equal(t, bit >= bits, k.Public().VerifyByGroup(other, s), "bit %d", bit)
		}
		require.True(t, k.Public().Verify(digest[:c.OrderLen()], s))
		// An empty digest is not the number zero.
		s, err = k.Sign(nil, []byte{0})
		require.NoError(t, err)
		require.True(t, k.Public().Verify([]byte{0, 0}, s))
		require.False(t, k.Public().Verify(nil, s))
		// Short digests are not padded on the right: 5a and 5a00 differ.
		s, err = k.Sign(nil, []byte{0x5a})
		require.NoError(t, err)
		require.True(t, k.Public().Verify([]byte{0, 0, 0x5a}, s))
		require.False(t, k.Public().Verify([]byte{0x5a, 0}, s))
	})
}

// Digests at and above the order have to be reduced.
func TestSign_TakesDigestsAboveTheOrder(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		k := generate(t, c)
		n := c.Parameters().N
		for _, digest := range [][]byte{n, bytes.Repeat([]byte{0xff}, c.OrderLen()), make([]byte, c.OrderLen()), make([]byte, 3)} {
			for _, source := range []io.Reader{nil, rand.Reader} {
				s, err := k.Sign(source, digest)
				require.NoError(t, err)
				require.True(t, k.Public().Verify(digest, s))
				require.True(t, k.Public().VerifyByGroup(digest, s))
			}
		}
	})
}

func TestSign_IsDeterministicWithoutRandomnessOnly(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		k := generate(t, c)
		for _, digest := range [][]byte{digest256[:], digest256[:7]} {
			first, err := k.Sign(nil, digest)
			require.NoError(t, err)
			second, err := k.Sign(nil, digest)
			require.NoError(t, err)
			require.Equal(t, first, second)

			third, err := k.Sign(rand.Reader, digest)
			require.NoError(t, err)
			fourth, err := k.Sign(rand.Reader, digest)
			require.NoError(t, err)
			require.NotEqual(t, first.R, third.R)
			require.NotEqual(t, third.R, fourth.R)

			changed := append([]byte{digest[0] ^ 1}, digest[1:]...)
			fifth, err := k.Sign(nil, changed)
			require.NoError(t, err)
			require.NotEqual(t, first.R, fifth.R, "a nonce must never serve twice")
		}
	})
}

// Own curves: the reader's bytes alone decide, and its failure is told.
// Standard curves: the system's randomness is used and the reader ignored.
func TestSign_UsesTheReaderOnOwnCurves(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	each(t, func(t *testing.T, c *curve.Curve) {
		k := generate(t, c)
		first, err := k.Sign(&pattern{}, digest256[:])
		require.NoError(t, err)
		second, err := k.Sign(&pattern{}, digest256[:])
		require.NoError(t, err)
		other, err := k.Sign(&pattern{1}, digest256[:])
		require.NoError(t, err)
		require.NotEqual(t, first, other)
		_, err = k.Sign(iotest.ErrReader(broken), digest256[:])
		if standard[c.Name()] {
			require.NotEqual(t, first, second)
			require.NoError(t, err)
			return
		}
		require.Equal(t, first, second)
		require.ErrorIs(t, err, curve.ErrRandom)
		require.ErrorIs(t, err, broken)
	})
}

func TestVerify_RefusesWhatIsNoSignature(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		r := newReference(c)
		k := generate(t, c)
		good, err := k.Sign(nil, digest256[:])
		require.NoError(t, err)
		plus := func(b []byte) []byte {
			x := new(big.Int).SetBytes(b)
			return x.Add(x, r.n).Bytes()
		}
		for name, s := range map[string]curve.Signature{
			"nothing":      {},
			"r = 0":        {R: make([]byte, c.OrderLen()), S: good.S},
			"s = 0":        {R: good.R, S: make([]byte, c.OrderLen())},
			"r = n":        {R: r.n.Bytes(), S: good.S},
			"s = n":        {R: good.R, S: r.n.Bytes()},
			"r + n":        {R: plus(good.R), S: good.S},
			"s + n":        {R: good.R, S: plus(good.S)},
			"r, s swapped": {R: good.S, S: good.R},
			"r too wide":   {R: append([]byte{1}, good.R...), S: good.S},
			"s too wide":   {R: good.R, S: append([]byte{1}, good.S...)},
			"r cut":        {R: good.R[:c.OrderLen()-1], S: good.S},
		} {
			require.False(t, k.Public().Verify(digest256[:], s), name)
		}
		require.False(t, k.Public().Verify(nil, good), "empty digest")
		require.False(t, generate(t, c).Public().Verify(digest256[:], good), "other key")
		require.True(t, k.Public().Verify(digest256[:], good))
		require.True(t, k.Public().Verify(digest256[:], curve.Signature{R: append([]byte{0, 0}, good.R...), S: append([]byte{0}, good.S...)}))

		// The mirrored s is the other valid signature with this r.
		mirrored := new(big.Int).Sub(r.n, new(big.Int).SetBytes(good.S))
		require.True(t, k.Public().Verify(digest256[:], curve.Signature{R: good.R, S: mirrored.Bytes()}))

		for bit := 0; bit < 8*c.OrderLen(); bit += 61 {
			for part := range 2 {
				s := curve.Signature{R: bytes.Clone(good.R), S: bytes.Clone(good.S)}
				[][]byte{s.R, s.S}[part][bit/8] ^= 0x80 >> (bit % 8)
				require.False(t, k.Public().Verify(digest256[:], s), "bit %d of part %d", bit, part)
			}
		}
	})
}

// forged makes a public key and a signature of the digest with a chosen point
// R for k·G, s = 1: Q = (R - z·G)/r.
func forged(r *reference, point xy, z *big.Int) (q xy, x *big.Int) {
	x = new(big.Int).Mod(point.x, r.n)
	q = r.add(point, r.negative(r.multiply(z, r.g)))
	return r.multiply(new(big.Int).ModInverse(x, r.n), q), x
}

// The abscissa of k·G may lie between n and p, which chance never shows. On
// every curve n < p.
func TestVerify_ReducesTheAbscissa(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		r := newReference(c)
		require.Negative(t, r.n.Cmp(r.p))
		x := new(big.Int).Add(r.n, big.NewInt(1))
		y := new(big.Int).ModSqrt(r.right(x), r.p)
		for y == nil {
			x.Add(x, big.NewInt(1))
			y = new(big.Int).ModSqrt(r.right(x), r.p)
		}
		require.Negative(t, x.Cmp(r.p))
		q, small := forged(r, xy{x, y}, new(big.Int).SetBytes([]byte{7}))
		k, err := c.Public(r.bytes(q))
		require.NoError(t, err)
		s := curve.Signature{R: small.Bytes(), S: []byte{1}}
		require.True(t, k.Verify([]byte{7}, s))
		require.True(t, k.VerifyByGroup([]byte{7}, s))
		require.False(t, k.Verify([]byte{7}, curve.Signature{R: x.Bytes(), S: []byte{1}}))
	})
}

// u1·G + u2·Q with equal summands, with opposite ones, and with u1 = 0.
func TestVerify_SurvivesSpecialSums(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		r := newReference(c)
		twice := r.add(r.g, r.g)
		x := new(big.Int).Mod(twice.x, r.n)
		inverse := new(big.Int).ModInverse(x, r.n)

		// z = 1, s = 1, Q = G/r: both summands are G.
		k, err := c.Public(r.bytes(r.multiply(inverse, r.g)))
		require.NoError(t, err)
		s := curve.Signature{R: x.Bytes(), S: []byte{1}}
		require.True(t, k.Verify([]byte{1}, s))
		require.True(t, k.VerifyByGroup([]byte{1}, s))

		// Q = -G/r: the sum is the point at infinity, which signs nothing.
		k, err = c.Public(r.bytes(r.multiply(inverse, r.negative(r.g))))
		require.NoError(t, err)
		require.False(t, k.Verify([]byte{1}, s))
		require.False(t, k.VerifyByGroup([]byte{1}, s))

		// z = 0, Q = 2G/r: only the second summand is there.
		k, err = c.Public(r.bytes(r.multiply(inverse, twice)))
		require.NoError(t, err)
		require.True(t, k.Verify([]byte{0}, s))
		require.True(t, k.VerifyByGroup([]byte{0}, s))
	})
}
