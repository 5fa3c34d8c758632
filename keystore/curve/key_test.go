package curve_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore/curve"
)

func generate(t testing.TB, c *curve.Curve) *curve.Private {
	t.Helper()
	k, err := c.Generate(rand.Reader)
	require.NoError(t, err)
	return k
}

// pattern is an endless source of known bytes.
type pattern struct{ next byte }

func (p *pattern) Read(b []byte) (int, error) {
	for i := range b {
		p.next = p.next*5 + 17
		b[i] = p.next
	}
	return len(b), nil
}

func TestGenerate_IsTheReducedRandomness(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		r := newReference(c)
		used := make([]byte, c.OrderLen()+8)
		_, err := io.ReadFull(&pattern{}, used)
		require.NoError(t, err)
		want := new(big.Int).SetBytes(used)

		k, err := c.Generate(&pattern{})
		require.NoError(t, err)
		require.Equal(t, want.Mod(want, r.n).FillBytes(make([]byte, c.OrderLen())), k.Bytes())
		require.Same(t, c, k.Curve())

		k, err = c.Generate(iotest.OneByteReader(&pattern{}))
		require.NoError(t, err)
		require.Equal(t, want.FillBytes(make([]byte, c.OrderLen())), k.Bytes(), "randomness may come in pieces")

		_, err = c.Generate(bytes.NewReader(used))
		require.NoError(t, err, "no more than 8 bytes above the order's length are taken")
	})
}

func TestGenerate_WantsRandomness(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	each(t, func(t *testing.T, c *curve.Curve) {
		_, err := c.Generate(nil)
		require.ErrorIs(t, err, curve.ErrRandom)
		_, err = c.Generate(iotest.ErrReader(broken))
		require.ErrorIs(t, err, curve.ErrRandom)
		require.ErrorIs(t, err, broken)
		_, err = c.Generate(bytes.NewReader(make([]byte, c.OrderLen())))
		require.ErrorIs(t, err, curve.ErrRandom)
		_, err = c.Generate(bytes.NewReader(make([]byte, c.OrderLen()+8)))
		require.ErrorIs(t, err, curve.ErrRandom, "zero")
	})
}

func TestPrivate_IsBetweenOneAndTheOrder(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		n := c.Parameters().N
		above := new(big.Int).SetBytes(n)
		above.Add(above, big.NewInt(1))
		g := c.Parameters().G
		for name, d := range map[string][]byte{
			"nothing": nil, "zero": {0}, "wide zero": make([]byte, 100), "n": n, "n+1": above.Bytes(),
			"2^(8·len)":   append([]byte{1}, make([]byte, c.OrderLen())...),
			"1 far left":  append([]byte{1}, make([]byte, 99)...),
			"all bits":    bytes.Repeat([]byte{0xff}, c.OrderLen()),
			"1 bit and 1": append([]byte{1}, append(make([]byte, 80), 1)...),
		} {
			_, err := c.Private(d)
			require.ErrorIs(t, err, curve.ErrScalar, name)
			_, err = c.PrivateWithPublic(d, g)
			require.ErrorIs(t, err, curve.ErrScalar, name)
		}
		for _, width := range []int{1, c.OrderLen(), 200} {
			k, err := c.Private(big.NewInt(1).FillBytes(make([]byte, width)))
			require.NoError(t, err)
			require.Equal(t, g, k.Public().Bytes())
		}
	})
}

func TestPrivateWithPublic_IsTheSameKey(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		k := generate(t, c)
		same, err := c.PrivateWithPublic(k.Bytes(), k.Public().Bytes())
		require.NoError(t, err)
		require.Equal(t, k.Bytes(), same.Bytes())
		require.Equal(t, k.Public().Bytes(), same.Public().Bytes())
		peer := generate(t, c).Public()
		want, err := k.Shared(peer)
		require.NoError(t, err)
		have, err := same.Shared(peer)
		require.NoError(t, err)
		require.Equal(t, want, have)

		_, err = c.PrivateWithPublic(k.Bytes(), c.Parameters().G[:5])
		require.ErrorIs(t, err, curve.ErrPoint)
	})
}

func TestPrivateWithPublic_SignsByTheScalarWhateverThePoint(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		k, foreign := generate(t, c), generate(t, c).Public()
		mixed, err := c.PrivateWithPublic(k.Bytes(), foreign.Bytes())
		require.NoError(t, err)
		require.Equal(t, foreign.Bytes(), mixed.Public().Bytes())
		for _, source := range []io.Reader{nil, rand.Reader} {
			s, err := mixed.Sign(source, digest256[:])
			require.NoError(t, err)
			require.True(t, k.Public().Verify(digest256[:], s))
			require.False(t, foreign.Verify(digest256[:], s))
		}
	})
}

func TestPrivate_IsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		k := generate(t, c)
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				s, err := k.Sign(rand.Reader, digest256[:])
				if err != nil || !k.Public().Verify(digest256[:], s) {
					t.Errorf("bad signature: %v", err)
				}
				if _, err := k.Shared(k.Public()); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	})
}

func TestPrivate_KeepsItsSecretWhenPrinted(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		k := generate(t, c)
		var traces []string // of the number as a whole and of its words
		for d := k.Bytes(); len(d) >= 8; d = d[:len(d)-8] {
			whole, word := new(big.Int).SetBytes(d), new(big.Int).SetBytes(d[len(d)-8:])
			traces = append(traces, whole.String(), whole.Text(16), word.String(), word.Text(16))
		}
		type hidden struct{ key *curve.Private }
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%b", "%c", "%p", "%t", "%w", "%e"} {
			for _, value := range []any{k, *k, struct{ Key *curve.Private }{k}, hidden{k}, &hidden{k}, []*curve.Private{k}, []curve.Private{*k}} {
				text := strings.ToLower(fmt.Sprintf(verb, value))
				for _, trace := range traces {
					require.NotContains(t, text, trace, "%s of %T", verb, value)
				}
			}
		}
		require.Equal(t, "private key on "+c.Name(), fmt.Sprint(k))
		require.Equal(t, "private key on no curve", fmt.Sprint(curve.Private{}))
	})
}

func TestKeys_GiveAwayCopies(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		k := generate(t, c)
		d, q := k.Bytes(), k.Public().Bytes()
		clear(k.Bytes())
		clear(k.Public().Bytes())
		require.Equal(t, d, k.Bytes())
		require.Equal(t, q, k.Public().Bytes())

		given := bytes.Clone(q)
		public, err := c.Public(given)
		require.NoError(t, err)
		clear(given)
		require.Equal(t, q, public.Bytes())
		require.Same(t, c, public.Curve())
	})
}

func TestPublic_RefusesWhatIsNoPointOfTheCurve(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		r := newReference(c)
		w := c.FieldLen()
		change := func(f func(b []byte) []byte) []byte { return f(c.Parameters().G) }
		coordinates := func(x, y *big.Int) []byte {
			return append(append([]byte{4}, x.FillBytes(make([]byte, w))...), y.FillBytes(make([]byte, w))...)
		}
		bad := map[string][]byte{
			"nothing":             nil,
			"infinity":            {0},
			"infinity, wide":      make([]byte, 1+2*w),
			"origin":              append([]byte{4}, make([]byte, 2*w)...),
			"without its header":  change(func(b []byte) []byte { return b[1:] }),
			"a byte too short":    change(func(b []byte) []byte { return b[:2*w] }),
			"a byte too long":     change(func(b []byte) []byte { return append(b, 0) }),
			"compressed":          change(func(b []byte) []byte { return append([]byte{2}, b[1:1+w]...) }),
			"hybrid":              change(func(b []byte) []byte { b[0] = 6 + b[2*w]&1; return b }),
			"compressed and long": change(func(b []byte) []byte { b[0] = 2; return b }),
			"last bit changed":    change(func(b []byte) []byte { b[2*w] ^= 1; return b }),
			"x changed":           change(func(b []byte) []byte { b[w] ^= 1; return b }),
			"coordinates swapped": coordinates(r.g.y, r.g.x),
			"all bits":            append([]byte{4}, bytes.Repeat([]byte{0xff}, 2*w)...),
		}
		for i, small := range r.smallX() {
			limit := new(big.Int).Lsh(big.NewInt(1), uint(8*w))
			if x := new(big.Int).Add(small.x, r.p); x.Cmp(limit) < 0 {
				bad[fmt.Sprintf("x+p, point %d", i)] = coordinates(x, small.y)
			}
			if y := new(big.Int).Add(small.y, r.p); y.Cmp(limit) < 0 {
				bad[fmt.Sprintf("y+p, point %d", i)] = coordinates(small.x, y)
			}
			good, err := c.Public(r.bytes(small))
			require.NoError(t, err)
			require.Equal(t, r.bytes(small), good.Bytes())
		}
		for name, b := range bad {
			_, err := c.Public(b)
			require.ErrorIs(t, err, curve.ErrPoint, name)
		}
	})
}

// A point of another curve over the same field, y² = x³ + ax + b', would give
// the private key away bit by bit if it were accepted.
func TestPublic_RefusesPointsOfOtherCurves(t *testing.T) {
	t.Parallel()
	for _, c := range curve.All() {
		for _, other := range curve.All() {
			if c == other {
				continue
			}
			_, err := c.Public(other.Parameters().G)
			require.ErrorIs(t, err, curve.ErrPoint, "%s on %s", other, c)
		}
	}
}

func TestShared_WantsOneCurve(t *testing.T) {
	t.Parallel()
	k := generate(t, byName(t, "secp256r1"))
	_, err := k.Shared(generate(t, byName(t, "brainpoolP256r1")).Public())
	require.ErrorIs(t, err, curve.ErrCurve)
	_, err = k.Shared(nil)
	require.ErrorIs(t, err, curve.ErrCurve)
}

func TestAdd_IsModularAddition(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		r := newReference(c)
		k := generate(t, c)
		d := new(big.Int).SetBytes(k.Bytes())
		toZero := new(big.Int).Sub(r.n, d)
		many := new(big.Int).Lsh(r.n, 900)
		for name, v := range map[string]struct {
			t    []byte
			want *big.Int
		}{
			"nothing":         {nil, d},
			"zero":            {make([]byte, 5), d},
			"one":             {[]byte{1}, new(big.Int).Add(d, big.NewInt(1))},
			"the order":       {r.n.Bytes(), d},
			"many orders":     {many.Bytes(), d},
			"up to one":       {new(big.Int).Add(toZero, big.NewInt(1)).Bytes(), big.NewInt(1)},
			"down by one":     {new(big.Int).Sub(r.n, big.NewInt(1)).Bytes(), new(big.Int).Sub(d, big.NewInt(1))},
			"all bits":        {bytes.Repeat([]byte{0xff}, c.OrderLen()), nil},
			"as 128 bytes":    {bytes.Repeat([]byte{0xa7}, 128), nil},
			"of odd length":   {bytes.Repeat([]byte{0x5c}, 77), nil},
			"its own":         {k.Bytes(), nil},
			"wide leading 0s": {append(make([]byte, 300), 9), nil},
		} {
			if v.want == nil {
				v.want = new(big.Int).Add(d, new(big.Int).SetBytes(v.t))
			}
			want := new(big.Int).Mod(v.want, r.n)
			sum, err := k.Add(v.t)
			require.NoError(t, err, name)
			require.Equal(t, want.FillBytes(make([]byte, c.OrderLen())), sum.Bytes(), name)
			require.Equal(t, r.bytes(r.multiply(want, r.g)), sum.Public().Bytes(), name)
		}
		_, err := k.Add(toZero.Bytes())
		require.ErrorIs(t, err, curve.ErrScalar)
		_, err = k.Add(many.Add(many, toZero).Bytes())
		require.ErrorIs(t, err, curve.ErrScalar)
		require.Equal(t, d.FillBytes(make([]byte, c.OrderLen())), k.Bytes(), "the key itself stays")
	})
}

func FuzzPublic(f *testing.F) {
	for i, c := range curve.All() {
		r := newReference(c)
		f.Add(i, c.Parameters().G)
		f.Add(i, c.Parameters().G[1:])
		for _, p := range r.smallX() {
			f.Add(i, r.bytes(p))
		}
	}
	f.Fuzz(func(t *testing.T, i int, b []byte) {
		all := curve.All()
		c := all[uint(i)%uint(len(all))]
		k, err := c.Public(b)
		if err != nil {
			require.ErrorIs(t, err, curve.ErrPoint)
			if r := newReference(c); len(b) == 1+2*c.FieldLen() && b[0] == 4 {
				require.False(t, r.contains(r.point(b)))
			}
			return
		}
		require.Equal(t, b, k.Bytes())
		r := newReference(c)
		require.True(t, r.contains(r.point(b)))
	})
}
