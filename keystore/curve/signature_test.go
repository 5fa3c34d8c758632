package curve_test

import (
	"bytes"
	"crypto/rand"
	"encoding/asn1"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore/curve"
)

func TestSignature_SurvivesItsEncodings(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		r := newReference(c)
		w := c.OrderLen()
		edges := r.edges(t)
		for i, x := range edges {
			y := edges[len(edges)-1-i]
			if x.Sign() == 0 || y.Sign() == 0 {
				continue
			}
			s := curve.Signature{R: x.FillBytes(make([]byte, w)), S: y.FillBytes(make([]byte, w))}
			plain, err := c.ParsePlain(s.Plain())
			require.NoError(t, err)
			require.Equal(t, s, plain)
			require.Len(t, s.Plain(), 2*w)

			want, err := asn1.Marshal(struct{ R, S *big.Int }{x, y})
			require.NoError(t, err)
			require.Equal(t, want, s.DER())
			parsed, err := c.ParseDER(s.DER())
			require.NoError(t, err)
			require.Equal(t, s, parsed)

			var padded struct{ R, S asn1.RawValue }
			rest, err := asn1.Unmarshal(s.PaddedDER(), &padded)
			require.NoError(t, err)
			require.Empty(t, rest)
			for _, n := range []struct {
				want *big.Int
				got  asn1.RawValue
			}{{x, padded.R}, {y, padded.S}} {
				require.Equal(t, asn1.TagInteger, n.got.Tag)
				require.Zero(t, n.want.Cmp(new(big.Int).SetBytes(n.got.Bytes)))
				require.Zero(t, n.got.Bytes[0]&0x80, "it is not negative")
				require.Len(t, n.got.Bytes, max(w, n.want.BitLen()/8+1))
			}
		}
	})
	require.Equal(t, []byte{0x30, 6, 2, 1, 0, 2, 1, 0}, curve.Signature{}.DER())
}

func TestParsePlain_ChecksLengthAndRange(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		w := c.OrderLen()
		n := c.Parameters().N
		one := append(make([]byte, w-1), 1)
		for name, b := range map[string][]byte{
			"nothing": nil, "odd": make([]byte, 2*w-1), "short": make([]byte, 2*w-2), "long": bytes.Repeat([]byte{1}, 2*w+2),
			"r = 0": append(make([]byte, w), one...), "s = 0": append(bytes.Clone(one), make([]byte, w)...),
			"r = n": append(bytes.Clone(n), one...), "s = n": append(bytes.Clone(one), n...),
		} {
			_, err := c.ParsePlain(b)
			require.ErrorIs(t, err, curve.ErrSignature, name)
		}
		_, err := c.ParsePlain(append(bytes.Clone(one), one...))
		require.NoError(t, err)
	})
}

func TestParseDER_IsStrict(t *testing.T) {
	t.Parallel()
	c := byName(t, "secp521r1") // the one whose signatures need a long length
	for name, b := range map[string][]byte{
		"nothing":                {},
		"tag only":               {0x30},
		"empty sequence":         {0x30, 0},
		"one integer":            {0x30, 3, 2, 1, 1},
		"three integers":         {0x30, 9, 2, 1, 1, 2, 1, 1, 2, 1, 1},
		"trailing byte":          {0x30, 6, 2, 1, 1, 2, 1, 1, 0},
		"inner trailing byte":    {0x30, 7, 2, 1, 1, 2, 1, 1, 0},
		"cut":                    {0x30, 6, 2, 1, 1, 2, 1},
		"sequence too short":     {0x30, 5, 2, 1, 1, 2, 1, 1},
		"integer too long":       {0x30, 6, 2, 1, 1, 2, 2, 1},
		"set":                    {0x31, 6, 2, 1, 1, 2, 1, 1},
		"octet string":           {0x30, 6, 4, 1, 1, 2, 1, 1},
		"long form length":       {0x30, 0x81, 6, 2, 1, 1, 2, 1, 1},
		"two byte length":        {0x30, 0x82, 0, 6, 2, 1, 1, 2, 1, 1},
		"indefinite length":      {0x30, 0x80, 2, 1, 1, 2, 1, 1, 0, 0},
		"length cut":             {0x30, 0x81},
		"reserved length":        {0x30, 0xff, 2, 1, 1, 2, 1, 1},
		"long form of integer":   {0x30, 7, 2, 0x81, 1, 1, 2, 1, 1},
		"empty r":                {0x30, 5, 2, 0, 2, 1, 1},
		"empty s":                {0x30, 5, 2, 1, 1, 2, 0},
		"zero r":                 {0x30, 6, 2, 1, 0, 2, 1, 1},
		"zero s":                 {0x30, 6, 2, 1, 1, 2, 1, 0},
		"negative r":             {0x30, 6, 2, 1, 0x81, 2, 1, 1},
		"negative s":             {0x30, 6, 2, 1, 1, 2, 1, 0xff},
		"leading zero r":         {0x30, 7, 2, 2, 0, 1, 2, 1, 1},
		"leading zero s":         {0x30, 7, 2, 1, 1, 2, 2, 0, 0x7f},
		"leading zeros before 1": {0x30, 8, 2, 3, 0, 0, 0x81, 2, 1, 1},
	} {
		_, err := c.ParseDER(b)
		require.ErrorIs(t, err, curve.ErrSignature, name)
	}
	for _, b := range [][]byte{
		{0x30, 6, 2, 1, 1, 2, 1, 0x7f},
		{0x30, 7, 2, 2, 0, 0x80, 2, 1, 1},
	} {
		s, err := c.ParseDER(b)
		require.NoError(t, err)
		require.Equal(t, b, s.DER())
	}
}

func TestParseDER_ChecksTheRange(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *curve.Curve) {
		n := new(big.Int).SetBytes(c.Parameters().N)
		last := new(big.Int).Sub(n, big.NewInt(1))
		huge := new(big.Int).Lsh(big.NewInt(1), 900)
		one := big.NewInt(1)
		for _, v := range []struct {
			r, s *big.Int
			ok   bool
		}{{one, one, true}, {last, last, true}, {n, one, false}, {one, n, false}, {huge, one, false}, {one, huge, false}} {
			b, err := asn1.Marshal(struct{ R, S *big.Int }{v.r, v.s})
			require.NoError(t, err)
			_, err = c.ParseDER(b)
			if v.ok {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, curve.ErrSignature)
			}
		}
	})
}

func FuzzParseDER(f *testing.F) {
	for i, c := range curve.All() {
		k, err := c.Generate(rand.Reader)
		require.NoError(f, err)
		s, err := k.Sign(nil, digest256[:])
		require.NoError(f, err)
		f.Add(i, s.DER())
	}
	f.Add(0, []byte{0x30, 6, 2, 1, 1, 2, 1, 1})
	f.Add(0, []byte{0x30, 0x81, 6, 2, 1, 1, 2, 1, 1})
	f.Fuzz(func(t *testing.T, i int, b []byte) {
		all := curve.All()
		c := all[uint(i)%uint(len(all))]
		s, err := c.ParseDER(b)
		if err != nil {
			require.ErrorIs(t, err, curve.ErrSignature)
			return
		}
		require.Equal(t, b, s.DER(), "one signature has one encoding")
		again, err := c.ParsePlain(s.Plain())
		require.NoError(t, err)
		require.Equal(t, s, again)
		var v struct{ R, S *big.Int }
		rest, err := asn1.Unmarshal(b, &v)
		require.NoError(t, err)
		require.Empty(t, rest)
		require.Zero(t, v.R.Cmp(new(big.Int).SetBytes(s.R)))
		require.Zero(t, v.S.Cmp(new(big.Int).SetBytes(s.S)))
	})
}
