package curve_test

import (
	"flag"
	"math/big"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore/curve"
)

var update = flag.Bool("update", false, "write base.bin anew")

// The shape of the comb, as in base.go. After a change there, or with a new
// curve, give base.bin its new size with truncate(1), so that the package
// starts, and run this test with -update.
const (
	teeth  = 6
	blocks = 2
)

func TestBase_IsTheCombOfEveryCurve(t *testing.T) {
	var want []byte
	for _, c := range curve.All() {
		p := c.Parameters()
		n := new(big.Int).SetBytes(p.N)
		column := (n.BitLen() + teeth*blocks - 1) / (teeth * blocks)
		spacing := blocks * column
		base, err := c.Public(p.G)
		require.NoError(t, err)
		for b := range blocks {
			for e := range 1 << (teeth - 1) {
				k := new(big.Int)
				for j := range teeth {
					term := new(big.Int).Lsh(big.NewInt(1), uint(j*spacing+b*column))
					if j < teeth-1 && e>>j&1 == 0 {
						term.Neg(term)
					}
					k.Add(k, term)
				}
				k.Mod(k, n)
				// Shared does not use the comb.
				scalar, err := c.PrivateWithPublic(k.Bytes(), p.G)
				require.NoError(t, err)
				product, err := scalar.Shared(base)
				require.NoError(t, err)
				want = append(want, product[1:]...)
			}
		}
	}
	if *update {
		require.NoError(t, os.WriteFile("base.bin", want, 0o644))
	}
	have, err := os.ReadFile("base.bin")
	require.NoError(t, err)
	require.Equal(t, want, have, "run the test with -update")
}
