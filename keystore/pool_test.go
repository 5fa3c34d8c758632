package keystore_test

import (
	"crypto/rand"
	"flag"
	"math/big"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "make new data: pool.bin")

const poolPrimes = 32

// unfit is the product of the primes no p-1 in the pool may have.
func unfit() *big.Int {
	product := big.NewInt(65537)
	for p := int64(3); p <= 257; p += 2 {
		if big.NewInt(p).ProbablyPrime(0) {
			product.Mul(product, big.NewInt(p))
		}
	}
	return product
}

func isPoolPrime(p, unfit *big.Int, bits int) bool {
	m := new(big.Int).Sub(p, big.NewInt(1))
	return p.BitLen() == bits && p.Bit(bits-2) == 1 && p.Bit(0) == 1 &&
		m.GCD(nil, nil, m, unfit).Cmp(big.NewInt(1)) == 0 &&
		p.ProbablyPrime(1)
}

func TestPool_HoldsWhatTheGeneratorReliesOn(t *testing.T) {
	t.Parallel()
	unfit := unfit()
	if *update {
		var out []byte
		for _, bits := range []int{512, 768, 1024, 1536, 2048} {
			buf := make([]byte, bits/8)
			for i := 0; i < poolPrimes; {
				_, _ = rand.Read(buf)
				buf[0] |= 0xC0
				buf[len(buf)-1] |= 1
				if isPoolPrime(new(big.Int).SetBytes(buf), unfit, bits) {
					out = append(out, buf...)
					i++
				}
			}
		}
		require.NoError(t, os.WriteFile("pool.bin", out, 0o644))
	}
	pool, err := os.ReadFile("pool.bin")
	require.NoError(t, err)
	for _, bits := range []int{512, 768, 1024, 1536, 2048} {
		seen := map[uint32]bool{}
		for range poolPrimes {
			require.GreaterOrEqual(t, len(pool), bits/8)
			p := new(big.Int).SetBytes(pool[:bits/8])
			pool = pool[bits/8:]
			require.True(t, isPoolPrime(p, unfit, bits), "a number of %d bits", bits)
			// Different in the first 32 bits, so never close to each other.
			top := uint32(new(big.Int).Rsh(p, uint(bits-32)).Uint64())
			require.False(t, seen[top])
			seen[top] = true
		}
	}
	require.Empty(t, pool)
}
