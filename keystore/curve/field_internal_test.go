package curve

// Inside the package, because a carry that is lost once in 2^64 products would
// not be found through keys and signatures.

import (
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func (f *modulus) big() *big.Int { return new(big.Int).SetBytes(f.m.appendBytes(nil, 72)) }

func toBig(x *element) *big.Int { return new(big.Int).SetBytes(x.appendBytes(nil, 72)) }

func fromBig(x *big.Int) element { return words(x.Bytes()) }

// residues draws numbers below m, with a liking for those near 0, near m and
// made of words of ones and zeros.
func residues(m *big.Int) *rapid.Generator[*big.Int] {
	return rapid.Custom(func(t *rapid.T) *big.Int {
		x := new(big.Int)
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			x.SetUint64(rapid.Uint64().Draw(t, "small"))
		case 1:
			x.Sub(m, x.SetUint64(rapid.Uint64Range(1, 1<<20).Draw(t, "below m")))
		case 2:
			for range maxLimbs {
				x.Lsh(x, 64)
				if w := rapid.IntRange(-1, 1).Draw(t, "word"); w != 0 {
					x.Or(x, new(big.Int).SetUint64(uint64(w)))
				}
			}
		default:
			x.SetBytes(rapid.SliceOfN(rapid.Byte(), 72, 72).Draw(t, "any"))
		}
		return x.Mod(x, m)
	})
}

func TestModulus_CalculatesAsMathBig(t *testing.T) {
	t.Parallel()
	for _, c := range curves {
		for name, f := range map[string]*modulus{"p": c.group.p, "n": c.group.n} {
			t.Run(c.name+" "+name, func(t *testing.T) {
				t.Parallel()
				m := f.big()
				r := new(big.Int).Lsh(big.NewInt(1), uint(64*f.limbs))
				rInverse := new(big.Int).ModInverse(r, m)
				half := new(big.Int).ModInverse(big.NewInt(2), m)
				gen := residues(m)
				rapid.Check(t, func(t *rapid.T) {
					bx, by := gen.Draw(t, "x"), gen.Draw(t, "y")
					x, y := fromBig(bx), fromBig(by)
					check := func(what string, z *element, want *big.Int) {
						require.Zero(t, want.Mod(want, m).Cmp(toBig(z)), "%s: %x", what, toBig(z))
					}
					var z element
					f.add(&z, &x, &y)
					check("add", &z, new(big.Int).Add(bx, by))
					f.sub(&z, &x, &y)
					check("sub", &z, new(big.Int).Sub(bx, by))
					f.mul(&z, &x, &y)
					product := new(big.Int).Mul(bx, by)
					check("mul", &z, product.Mul(product, rInverse))
					f.halve(&z, &x)
					check("halve", &z, new(big.Int).Mul(bx, half))
					f.into(&z, &x)
					check("into", &z, new(big.Int).Mul(bx, r))
					f.out(&z, &z)
					check("out", &z, new(big.Int).Set(bx))
					if wide := new(big.Int).Add(bx, m); wide.Cmp(r) < 0 {
						z = fromBig(wide)
						f.mul(&z, &z, &y)
						product = wide.Mul(wide, by)
						check("mul of a number above m", &z, product.Mul(product, rInverse))
					}
					z = x
					f.mul(&z, &z, &z) // the result shares memory with both factors
					square := new(big.Int).Mul(bx, bx)
					check("square", &z, square.Mul(square, rInverse))
				})
			})
		}
	}
}

func TestModulus_InvertsAndReducesAsMathBig(t *testing.T) {
	t.Parallel()
	for _, c := range curves {
		for name, f := range map[string]*modulus{"p": c.group.p, "n": c.group.n} {
			t.Run(c.name+" "+name, func(t *testing.T) {
				t.Parallel()
				m := f.big()
				var x element
				f.invert(&x, &element{})
				require.EqualValues(t, 1, x.isZero(), "0 has no inverse")
				rapid.Check(t, func(t *rapid.T) {
					b := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "b")
					want := new(big.Int).SetBytes(b)
					_, below := f.parse(b)
					require.Equal(t, want.Cmp(m) < 0, below)
					x := f.reduce(b)
					var z element
					f.out(&z, &x)
					require.Zero(t, want.Mod(want, m).Cmp(toBig(&z)))
					if want.Sign() == 0 {
						return
					}
					f.invert(&x, &x)
					f.out(&z, &x)
					require.Zero(t, want.ModInverse(want, m).Cmp(toBig(&z)))
				})
				for i := range int64(3) {
					near := new(big.Int).Add(m, big.NewInt(i-1))
					_, below := f.parse(near.Bytes())
					require.Equal(t, i == 0, below, "m%+d", i-1)
				}
			})
		}
	}
}

func TestModulus_TakesTheLeftmostBits(t *testing.T) {
	t.Parallel()
	for _, c := range curves {
		n := c.group.n
		for length := range 2 * n.bytes {
			b := make([]byte, length)
			for i := range b {
				b[i] = byte(0xa5 ^ i)
			}
			want := new(big.Int).SetBytes(b)
			if excess := 8*length - n.bits; excess > 0 {
				want.Rsh(want, uint(excess))
			}
			x := n.leftmost(b)
			require.Zero(t, want.Cmp(toBig(&x)), "%s, %d bytes", c.name, length)
		}
	}
}

func TestRecoding_HasOnlyOddDigits(t *testing.T) {
	t.Parallel()
	for bits := 2; bits <= 6; bits++ {
		for digit := range uint64(1) << bits {
			index, negative := split(digit, bits)
			value := 2*int(index) + 1
			if negative != 0 {
				require.Equal(t, ^uint64(0), negative)
				value = -value
			}
			require.Equal(t, 2*int(digit)-(1<<bits-1), value)
		}
	}
	require.Zero(t, equalMask(3, 5))
	require.Equal(t, ^uint64(0), equalMask(5, 5))
	require.Equal(t, ^uint64(0), equalMask(0, 0))
}
