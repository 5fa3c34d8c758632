package curve_test

import (
	"crypto/rand"
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

func generate(t testing.TB, c *curve.Curve) *curve.Private {
	t.Helper()
	k, err := c.Generate(rand.Reader)
	require.NoError(t, err)
	return k
}

func TestSign_IsVerifiedAndNothingElseIs(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		k := generate(t, c)
		digest := []byte("0123456789abcdef0123456789abcdef")
		s, err := k.Sign(rand.Reader, digest)
		require.NoError(t, err)
		require.True(t, k.Public().Verify(digest, s))
		for i := range digest[:20] {
			other := append([]byte(nil), digest...)
			other[i] ^= 1
			require.False(t, k.Public().Verify(other, s))
		}
		again, err := c.ParseDER(s.DER())
		require.NoError(t, err)
		require.Equal(t, s, again)
	})
}

func TestShared_AgreesFromBothSides(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		a, b := generate(t, c), generate(t, c)
		ab, err := a.Shared(b.Public())
		require.NoError(t, err)
		ba, err := b.Shared(a.Public())
		require.NoError(t, err)
		require.Equal(t, ab, ba)
	})
}
