package curve_test

import (
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore/curve"
)

// each runs a test for every curve.
func each(t *testing.T, test func(*testing.T, *curve.Curve)) {
	t.Helper()
	for _, c := range curve.All() {
		t.Run(c.Name(), func(t *testing.T) {
			t.Parallel()
			test(t, c)
		})
	}
}

func byName(t testing.TB, name string) *curve.Curve {
	t.Helper()
	c, ok := curve.ByName(name)
	require.True(t, ok, name)
	return c
}

// Shows KEY-16.
func TestAll_ListsNineteenCurvesOfTheRightSize(t *testing.T) {
	t.Parallel()
	want := []struct {
		name      string
		bits, len int
	}{
		{"secp192r1", 192, 24},
		{"secp224r1", 224, 28},
		{"secp256r1", 256, 32},
		{"secp384r1", 384, 48},
		{"secp521r1", 521, 66},
		{"brainpoolP192r1", 192, 24},
		{"brainpoolP224r1", 224, 28},
		{"brainpoolP256r1", 256, 32},
		{"brainpoolP320r1", 320, 40},
		{"brainpoolP384r1", 384, 48},
		{"brainpoolP512r1", 512, 64},
		{"secp192k1", 192, 24},
		{"secp256k1", 256, 32},
		{"brainpoolP192t1", 192, 24},
		{"brainpoolP224t1", 224, 28},
		{"brainpoolP256t1", 256, 32},
		{"brainpoolP320t1", 320, 40},
		{"brainpoolP384t1", 384, 48},
		{"brainpoolP512t1", 512, 64},
	}
	all := curve.All()
	require.Len(t, all, len(want))
	for i, w := range want {
		require.Equal(t, w.name, all[i].Name())
		require.Equal(t, w.name, all[i].String())
		require.Equal(t, w.bits, all[i].Bits())
		require.Equal(t, w.len, all[i].FieldLen())
		require.Equal(t, w.len, all[i].OrderLen())
	}
}

func TestBy_FindsEveryCurveAndNoOther(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		require.Same(t, c, byName(t, c.Name()))
		found, ok := curve.ByOID(c.OID())
		require.True(t, ok)
		require.Same(t, c, found)
		found, err := curve.ByParameters(c.Parameters())
		require.NoError(t, err)
		require.Same(t, c, found)
	})
	_, ok := curve.ByName("secp160r1")
	require.False(t, ok)
	_, ok = curve.ByOID(nil)
	require.False(t, ok)
	_, err := curve.ByParameters(curve.Parameters{})
	require.ErrorIs(t, err, curve.ErrUnknown)
}

func TestByParameters_DoesNotCareForLeadingZeros(t *testing.T) {
	t.Parallel()
	pad := func(b []byte) []byte { return append(make([]byte, 3), b...) }
	each(t, func(t *testing.T, c *curve.Curve) {
		p := c.Parameters()
		w := c.FieldLen()
		padded := curve.Parameters{P: pad(p.P), A: pad(p.A), B: pad(p.B), N: pad(p.N)}
		padded.G = append(append([]byte{4}, pad(p.G[1:1+w])...), pad(p.G[1+w:])...)
		found, err := curve.ByParameters(padded)
		require.NoError(t, err)
		require.Same(t, c, found)

		short := p
		short.A = new(big.Int).SetBytes(p.A).Bytes()
		short.P = new(big.Int).SetBytes(p.P).Bytes()
		found, err = curve.ByParameters(short)
		require.NoError(t, err)
		require.Same(t, c, found)
	})
}

func TestByParameters_ComparesEveryValue(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		for i := range 5 {
			p := c.Parameters()
			field := []*[]byte{&p.P, &p.A, &p.B, &p.G, &p.N}[i]
			(*field)[len(*field)-1] ^= 1
			_, err := curve.ByParameters(p)
			require.ErrorIs(t, err, curve.ErrUnknown, "value %d changed", i)
		}
		for _, g := range [][]byte{nil, {4}, {0}, c.Parameters().G[1:], c.Parameters().G[:c.FieldLen()+1]} {
			p := c.Parameters()
			p.G = g
			_, err := curve.ByParameters(p)
			require.ErrorIs(t, err, curve.ErrUnknown, "base point %x", g)
		}
		p := c.Parameters()
		p.G[0] = 6
		_, err := curve.ByParameters(p)
		require.ErrorIs(t, err, curve.ErrUnknown, "hybrid base point")
	})
}

// The two brainpool curves of a size have p and n in common: one value of the
// other curve makes either of them unknown.
func TestByParameters_DoesNotMixCurvesOfOneField(t *testing.T) {
	t.Parallel()
	for _, size := range []string{"192", "224", "256", "320", "384", "512"} {
		random, twisted := byName(t, "brainpoolP"+size+"r1"), byName(t, "brainpoolP"+size+"t1")
		require.Equal(t, random.Parameters().P, twisted.Parameters().P)
		require.Equal(t, random.Parameters().N, twisted.Parameters().N)
		for _, c := range []*curve.Curve{random, twisted} {
			other := random
			if c == random {
				other = twisted
			}
			for i := range 3 {
				p, q := c.Parameters(), other.Parameters()
				*[]*[]byte{&p.A, &p.B, &p.G}[i] = [][]byte{q.A, q.B, q.G}[i]
				_, err := curve.ByParameters(p)
				require.ErrorIs(t, err, curve.ErrUnknown, "%s with value %d of %s", c, i, other)
			}
		}
	}
}

// RFC 5639 §3: with its Z, (x, y) → (Z²x, Z³y) leads from r1 to t1 and from base
// point to base point, and A of t1 is -3. So it leads from every public key to
// that of the same private key.
func TestParameters_OfT1AreTheTwistOfR1(t *testing.T) {
	t.Parallel()
	for _, size := range []string{"192", "224", "256", "320", "384", "512"} {
		random, twisted := byName(t, "brainpoolP"+size+"r1"), byName(t, "brainpoolP"+size+"t1")
		from, to := newReference(random), newReference(twisted)
		require.Equal(t, big.NewInt(3), new(big.Int).Sub(to.p, to.a))
		over := func(a, b *big.Int) *big.Int { return from.mod(new(big.Int).Mul(a, new(big.Int).ModInverse(b, from.p))) }
		power := func(a *big.Int, e int64) *big.Int { return new(big.Int).Exp(a, big.NewInt(e), from.p) }
		z := over(over(to.g.y, from.g.y), over(to.g.x, from.g.x)) // Z³ / Z²
		require.Equal(t, to.a, from.mod(new(big.Int).Mul(power(z, 4), from.a)))
		require.Equal(t, to.b, from.mod(new(big.Int).Mul(power(z, 6), from.b)))
		k := generate(t, random)
		same, err := twisted.Private(k.Bytes())
		require.NoError(t, err)
		q, image := from.point(k.Public().Bytes()), to.point(same.Public().Bytes())
		require.Equal(t, image.x, from.mod(new(big.Int).Mul(power(z, 2), q.x)))
		require.Equal(t, image.y, from.mod(new(big.Int).Mul(power(z, 3), q.y)))
		_, err = k.Shared(same.Public())
		require.ErrorIs(t, err, curve.ErrCurve)
		s, err := k.Sign(nil, []byte{1})
		require.NoError(t, err)
		require.False(t, same.Public().Verify([]byte{1}, s))
	}
}

func TestParameters_AreOfAGroupOfPrimeOrder(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		r := newReference(c)
		require.True(t, r.p.ProbablyPrime(20))
		require.True(t, r.n.ProbablyPrime(20))
		require.Equal(t, c.Bits(), r.p.BitLen())
		require.Equal(t, c.Bits(), r.n.BitLen())
		require.True(t, r.contains(r.g))
		require.Nil(t, r.multiply(r.n, r.g).x)
		// With |n - p - 1| <= 2√p (Hasse) a point of order n leaves no room for a cofactor.
		off := new(big.Int).Sub(r.n, r.p)
		off.Sub(off, big.NewInt(1))
		require.LessOrEqual(t, off.Mul(off, off).Cmp(new(big.Int).Lsh(r.p, 2)), 0)
	})
}

func TestCurve_GivesAwayCopies(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		want := c.Parameters()
		p := c.Parameters()
		for _, b := range [][]byte{p.P, p.A, p.B, p.G, p.N, c.OID()} {
			clear(b)
		}
		require.Equal(t, want, c.Parameters())
		require.NotZero(t, c.OID()[0])
	})
	all := curve.All()
	clear(all)
	require.NotNil(t, curve.All()[0])
}
