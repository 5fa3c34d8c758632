package curve_test

import (
	"crypto/rand"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore/curve"
)

// reference is the textbook group law in affine coordinates with math/big.
type reference struct {
	p, a, b, n *big.Int
	g          xy
	width      int
}

// xy is a point; the neutral element has a nil x.
type xy struct{ x, y *big.Int }

func newReference(c *curve.Curve) *reference {
	p := c.Parameters()
	num := func(b []byte) *big.Int { return new(big.Int).SetBytes(b) }
	r := &reference{p: num(p.P), a: num(p.A), b: num(p.B), n: num(p.N), width: len(p.P)}
	r.g = r.point(p.G)
	return r
}

func (r *reference) point(b []byte) xy {
	if b == nil {
		return xy{}
	}
	return xy{new(big.Int).SetBytes(b[1 : 1+r.width]), new(big.Int).SetBytes(b[1+r.width:])}
}

func (r *reference) bytes(p xy) []byte {
	if p.x == nil {
		return nil
	}
	b := make([]byte, 1+2*r.width)
	b[0] = 4
	p.x.FillBytes(b[1 : 1+r.width])
	p.y.FillBytes(b[1+r.width:])
	return b
}

func (r *reference) mod(x *big.Int) *big.Int { return x.Mod(x, r.p) }

func (r *reference) negative(p xy) xy {
	return xy{p.x, r.mod(new(big.Int).Neg(p.y))}
}

// right is x³ + ax + b.
func (r *reference) right(x *big.Int) *big.Int {
	y := new(big.Int).Mul(x, x)
	y.Add(y, r.a)
	y.Mul(y, x)
	return r.mod(y.Add(y, r.b))
}

func (r *reference) contains(p xy) bool {
	return p.x.Cmp(r.p) < 0 && p.y.Cmp(r.p) < 0 && r.mod(new(big.Int).Mul(p.y, p.y)).Cmp(r.right(p.x)) == 0
}

func (r *reference) add(p, q xy) xy {
	if p.x == nil {
		return q
	}
	if q.x == nil {
		return p
	}
	rise, run := new(big.Int).Sub(q.y, p.y), new(big.Int).Sub(q.x, p.x)
	if r.mod(run).Sign() == 0 {
		if r.mod(new(big.Int).Add(p.y, q.y)).Sign() == 0 {
			return xy{}
		}
		rise.Mul(p.x, p.x)
		rise.Mul(rise, big.NewInt(3))
		rise.Add(rise, r.a)
		run.Lsh(p.y, 1)
	}
	slope := r.mod(rise.Mul(rise, run.ModInverse(run, r.p)))
	x := new(big.Int).Mul(slope, slope)
	r.mod(x.Sub(x, p.x).Sub(x, q.x))
	y := new(big.Int).Sub(p.x, x)
	r.mod(y.Mul(y, slope).Sub(y, p.y))
	return xy{x, y}
}

func (r *reference) multiply(k *big.Int, p xy) xy {
	var sum xy
	for i := k.BitLen() - 1; i >= 0; i-- {
		sum = r.add(sum, sum)
		if k.Bit(i) == 1 {
			sum = r.add(sum, p)
		}
	}
	return sum
}

// edges are scalars that tempt recodings and windows to err, and some others.
func (r *reference) edges(t testing.TB) []*big.Int {
	t.Helper()
	list := []*big.Int{big.NewInt(1), big.NewInt(2), big.NewInt(3), big.NewInt(15), big.NewInt(16), big.NewInt(31), big.NewInt(32)}
	for _, d := range []int64{1, 2, 3, 16, 31, 32} {
		list = append(list, new(big.Int).Sub(r.n, big.NewInt(d)))
	}
	half := new(big.Int).Rsh(r.n, 1)
	list = append(list, half, new(big.Int).Add(half, big.NewInt(1)))
	for _, bit := range []int{63, 64, 65, r.n.BitLen() / 2, r.n.BitLen() - 1} {
		power := new(big.Int).Lsh(big.NewInt(1), uint(bit))
		list = append(list, power, new(big.Int).Sub(power, big.NewInt(1)))
	}
	for range 4 {
		k, err := rand.Int(rand.Reader, r.n)
		require.NoError(t, err)
		list = append(list, k)
	}
	return list
}

// smallX returns the points with the least and the greatest abscissas.
func (r *reference) smallX() []xy {
	var points []xy
	try := func(x *big.Int) bool {
		y := new(big.Int).ModSqrt(r.right(x), r.p)
		if y == nil {
			return false
		}
		points = append(points, xy{x, y}, xy{x, r.mod(new(big.Int).Neg(y))})
		return true
	}
	for x, found := int64(0), 0; found < 3; x++ {
		if try(big.NewInt(x)) {
			found++
		}
	}
	for x, found := int64(1), 0; found < 2; x++ {
		if try(new(big.Int).Sub(r.p, big.NewInt(x))) {
			found++
		}
	}
	return points
}

func TestGroup_AddsAsMathBig(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		r := newReference(c)
		points := append(r.smallX(), xy{}, r.g, r.negative(r.g), r.add(r.g, r.g), r.multiply(r.edges(t)[20], r.g))
		for _, p := range points {
			for _, q := range points {
				want := r.bytes(r.add(p, q))
				for i, have := range c.Sums(r.bytes(p), r.bytes(q)) {
					require.Equal(t, want, have, "formula %d, %x + %x", i, r.bytes(p), r.bytes(q))
				}
			}
		}
	})
}

func TestPrivate_HasThePublicKeyOfMathBig(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		r := newReference(c)
		for _, d := range r.edges(t) {
			k, err := c.Private(d.Bytes())
			require.NoError(t, err)
			require.Equal(t, r.bytes(r.multiply(d, r.g)), k.Public().Bytes(), "%x", d)
			require.Equal(t, d.FillBytes(make([]byte, c.OrderLen())), k.Bytes())
		}
	})
}

func TestShared_IsTheProductOfMathBig(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		r := newReference(c)
		other := r.multiply(r.edges(t)[20], r.g)
		peers := append(r.smallX(), r.g, other)
		for i, d := range r.edges(t) {
			k, err := c.Private(d.Bytes())
			require.NoError(t, err)
			q := peers[i%len(peers)]
			peer, err := c.Public(r.bytes(q))
			require.NoError(t, err)
			shared, err := k.Shared(peer)
			require.NoError(t, err)
			require.Equal(t, r.bytes(r.multiply(d, q)), shared, "%x", d)
		}
	})
}
