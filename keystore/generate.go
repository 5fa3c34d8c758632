package keystore

import (
	"crypto/rsa"
	_ "embed" // for the pool
	"fmt"
	"io"
	"math/big"
)

// Primes are the two primes of an RSA key, big-endian.
type Primes struct{ P, Q Secret }

// Generator makes the primes of RSA keys. It is an interface because the
// standard library makes them with its own randomness only, so that a card
// that must do the same thing twice needs another source.
type Generator interface {
	// GenerateRSA returns two different primes whose product has the given
	// number of bits, both suitable for the public exponent: p-1 and q-1
	// have no factor in common with it. It returns ErrParameters if it
	// cannot make such primes.
	GenerateRSA(bits int, exponent uint32) (Primes, error)
}

// GenerateRSA makes a new RSA key with a modulus of 1024, 1536, 2048, 3072 or
// 4096 bits. The public exponent is big-endian, odd and between 3 and 2^31-1.
// For anything else it returns ErrParameters; errors of g are passed on.
func GenerateRSA(g Generator, bits int, exponent []byte) (Key, error) {
	switch bits {
	case 1024, 1536, 2048, 3072, 4096:
	default:
		return Key{}, fmt.Errorf("%w: an RSA key of %d bits", ErrParameters, bits)
	}
	e, err := publicExponent(exponent)
	if err != nil {
		return Key{}, err
	}
	primes, err := g.GenerateRSA(bits, e)
	if err != nil {
		return Key{}, err
	}
	k, err := NewRSA(RSAParts{E: exponent, P: primes.P, Q: primes.Q})
	if err != nil {
		return Key{}, err
	}
	if k.Bits() != bits {
		return Key{}, fmt.Errorf("%w: generator made %d bits instead of %d", ErrKey, k.Bits(), bits)
	}
	return k, nil
}

// SystemGenerator makes RSA keys with crypto/rsa.
type SystemGenerator struct {
	// Rand is handed to crypto/rsa, which since Go 1.26 ignores it in favour
	// of the system's source unless GODEBUG says cryptocustomrand=1. It
	// must not be nil.
	Rand io.Reader
}

// GenerateRSA implements Generator. crypto/rsa knows the exponent 65537 only;
// for others it is asked for keys until two of their primes fit, which is
// soon: of an odd prime factor f of the exponent, one prime in f-1 is lost.
func (g SystemGenerator) GenerateRSA(bits int, exponent uint32) (Primes, error) {
	if g.Rand == nil {
		return Primes{}, ErrRandom
	}
	const attempts = 32 // for exponent 3, all of them fail once in 10^17
	var first *big.Int
	for range attempts {
		key, err := rsa.GenerateKey(g.Rand, bits)
		if err != nil {
			return Primes{}, fmt.Errorf("%w: %w", ErrParameters, err)
		}
		for _, p := range key.Primes {
			switch {
			case !fits(p, exponent):
			case first == nil:
				first = p
			default:
				return ordered(first, p), nil
			}
		}
	}
	return Primes{}, fmt.Errorf("%w: no primes for this public exponent", ErrParameters)
}

// fits reports whether p-1 and e have no factor in common.
func fits(p *big.Int, e uint32) bool {
	m := new(big.Int).Sub(p, big.NewInt(1))
	return m.GCD(nil, nil, m, big.NewInt(int64(e))).Cmp(big.NewInt(1)) == 0
}

// ordered puts the larger prime first, as is the custom.
func ordered(p, q *big.Int) Primes {
	if p.Cmp(q) < 0 {
		p, q = q, p
	}
	return Primes{P: p.Bytes(), Q: q.Bytes()}
}

// PoolGenerator draws RSA primes from a small pool that is part of this
// package and therefore public. It is for tests and for cards that must
// behave the same in every run: equal bytes from Rand give equal keys, and a
// key takes no time. Its keys protect nothing.
type PoolGenerator struct {
	// Rand is read for 8 bytes per key. It must not be nil.
	Rand io.Reader
}

// pool holds poolSize primes of 512, of 768, 1024, 1536 and 2048 bits,
// big-endian, one after the other. The test of the pool makes it (-update)
// and checks what PoolGenerator relies on: the two highest bits of every
// prime are set, so that products have full length, and no p-1 has a prime
// factor from 3 to 257, or 65537, so that nearly every exponent in use fits.
//
//go:embed pool.bin
var pool []byte

const poolSize = 32

// GenerateRSA implements Generator. There are 496 different keys of each
// size.
func (g PoolGenerator) GenerateRSA(bits int, exponent uint32) (Primes, error) {
	var choice [8]byte
	if err := fill(g.Rand, choice[:]); err != nil {
		return Primes{}, err
	}
	offset, width := 0, 0
	for _, size := range []int{1024, 1536, 2048, 3072, 4096} {
		width = size / 16
		if size == bits {
			break
		}
		offset += poolSize * width
		width = 0
	}
	if width == 0 {
		return Primes{}, fmt.Errorf("%w: an RSA key of %d bits", ErrParameters, bits)
	}
	var fitting []*big.Int
	for i := range poolSize {
		at := offset + i*width
		if p := new(big.Int).SetBytes(pool[at : at+width]); fits(p, exponent) {
			fitting = append(fitting, p)
		}
	}
	if len(fitting) < 2 {
		return Primes{}, fmt.Errorf("%w: no primes for this public exponent", ErrParameters)
	}
	draw := func(b []byte, n int) int { // uniform enough: n is small against 2^32
		return int(new(big.Int).SetBytes(b).Uint64() % uint64(n))
	}
	i := draw(choice[:4], len(fitting))
	j := (i + 1 + draw(choice[4:], len(fitting)-1)) % len(fitting)
	return ordered(fitting[i], fitting[j]), nil
}
