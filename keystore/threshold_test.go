package keystore_test

import (
	"crypto/rand"
	"math/big"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore"
)

// split gives a password to its keepers, as sc-hsm-tool does.
func split(t *testing.T, password []byte, threshold, total int) []keystore.PasswordPart {
	t.Helper()
	prime, err := rand.Prime(rand.Reader, 64)
	require.NoError(t, err)
	polynomial := []*big.Int{new(big.Int).SetBytes(password)}
	for range threshold - 1 {
		c, err := rand.Int(rand.Reader, prime)
		require.NoError(t, err)
		polynomial = append(polynomial, c)
	}
	var parts []keystore.PasswordPart
	for x := 1; x <= total; x++ {
		y := new(big.Int)
		for _, c := range slices.Backward(polynomial) {
			y.Mul(y, big.NewInt(int64(x))).Add(y, c).Mod(y, prime)
		}
		parts = append(parts, keystore.PasswordPart{Prime: prime.Bytes(), ID: uint32(x), Value: y.Bytes()})
	}
	return parts
}

func TestJoinPassword_AnyEnoughPartsInAnyOrder(t *testing.T) {
	t.Parallel()
	for _, password := range [][]byte{
		{0x7F, 0xFF, 0xFF, 0xFF, 0, 0, 0, 1},
		{0, 0, 3, 4, 5, 6, 7, 8}, // the tool itself cannot join this one
		make([]byte, 8),
	} {
		parts := split(t, password, 3, 5)
		for _, choice := range [][]int{{0, 1, 2}, {4, 2, 0}, {1, 3, 4}, {4, 3, 2, 1, 0}} {
			var some []keystore.PasswordPart
			for _, i := range choice {
				some = append(some, parts[i])
			}
			joined, err := keystore.JoinPassword(some)
			require.NoError(t, err)
			require.Equal(t, password, joined)
		}
		joined, err := keystore.JoinPassword(parts[:2])
		require.NoError(t, err)
		require.NotEqual(t, password, joined, "two parts must not be enough")
	}
}

// Three parts as sc-hsm-tool of OpenSC 0.23 showed them; the password opened the
// share file that it had written.
func TestJoinPassword_OfTheTool(t *testing.T) {
	t.Parallel()
	prime := []byte("\xd5\x9f\x8c\xf7\xca\xf1\x96\x33")
	parts := []keystore.PasswordPart{
		{Prime: prime, ID: 1, Value: []byte("\x99\xfe\x9c\x7f\xdb\xc2\x6c\x23")},
		{Prime: prime, ID: 2, Value: []byte("\xc6\xbe\x91\x50\x84\xb4\xf1\x63")},
		{Prime: prime, ID: 3, Value: []byte("\x1d\xde\xf9\x29\x62\xb5\xe0\x70")},
	}
	for i := range parts {
		password, err := keystore.JoinPassword(slices.Delete(slices.Clone(parts), i, i+1))
		require.NoError(t, err)
		require.Equal(t, []byte("\x6d\x3e\xa7\xaf\x32\xcf\xe6\xe3"), password)
	}
}

func TestJoinPassword_RefusesPartsThatDoNotGoTogether(t *testing.T) {
	t.Parallel()
	parts := split(t, []byte{1, 2, 3, 4, 5, 6, 7, 8}, 2, 3)
	foreign := split(t, []byte{1, 2, 3, 4, 5, 6, 7, 8}, 2, 3)
	zero, composite, long := parts[0], parts[0], parts[0]
	zero.ID = 0
	composite.Prime = []byte{15}
	long.Prime = append([]byte{1}, make([]byte, 8)...)
	for name, some := range map[string][]keystore.PasswordPart{
		"none": nil, "twice": {parts[0], parts[1], parts[0]}, "two passwords": {parts[0], foreign[1]},
		"zero": {parts[1], zero}, "composite": {composite}, "longer than a password": {long},
	} {
		_, err := keystore.JoinPassword(some)
		require.ErrorIs(t, err, keystore.ErrShare, name)
	}
}
