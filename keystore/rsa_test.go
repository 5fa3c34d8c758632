package keystore_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hsmemu/keystore"
)

// bigKey is an RSA key as big numbers, computed without the package.
type bigKey struct{ n, e, d, p, q, dp, dq, qinv *big.Int }

func bigKeyOf(p, q *big.Int, e int64) bigKey {
	one := big.NewInt(1)
	p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
	k := bigKey{n: new(big.Int).Mul(p, q), e: big.NewInt(e), p: p, q: q}
	k.d = new(big.Int).ModInverse(k.e, new(big.Int).Mul(p1, q1))
	k.dp, k.dq = new(big.Int).Mod(k.d, p1), new(big.Int).Mod(k.d, q1)
	k.qinv = new(big.Int).ModInverse(q, p)
	return k
}

func pooledPrimes(t testing.TB, bits int) (p, q *big.Int) {
	t.Helper()
	primes, err := keystore.PoolGenerator{Rand: seeded(4)}.GenerateRSA(bits, 65537)
	require.NoError(t, err)
	return new(big.Int).SetBytes(primes.P), new(big.Int).SetBytes(primes.Q)
}

func (k bigKey) parts() keystore.RSAParts {
	return keystore.RSAParts{
		N: k.n.Bytes(), E: k.e.Bytes(), D: k.d.Bytes(), P: k.p.Bytes(), Q: k.q.Bytes(),
		DP: k.dp.Bytes(), DQ: k.dq.Bytes(), QInverse: k.qinv.Bytes(),
	}
}

func TestNewRSA_AnySufficientPartsMakeTheKey(t *testing.T) {
	t.Parallel()
	for _, bits := range []int{1024, 2048, 4096} {
		for _, e := range []int64{3, 5, 17, 257, 65537, 65539, 1<<31 - 1} {
			p, q := pooledPrimes(t, bits)
			full := bigKeyOf(p, q, e).parts()
			want, err := keystore.NewRSA(full)
			require.NoError(t, err)
			require.Equal(t, bits, want.Bits())
			signAndVerify(t, want)
			for name, parts := range map[string]keystore.RSAParts{
				"primes":           {E: full.E, P: full.P, Q: full.Q, D: full.D},
				"private exponent": {N: full.N, E: full.E, D: full.D},
				"leading zeros": {
					N: zeros(full.N), E: zeros(full.E), D: zeros(full.D), P: zeros(full.P), Q: zeros(full.Q),
					DP: zeros(full.DP), DQ: zeros(full.DQ), QInverse: zeros(full.QInverse),
				},
			} {
				if bits == 4096 && e != 65537 {
					continue // factoring takes a while
				}
				k, err := keystore.NewRSA(parts)
				require.NoError(t, err, name)
				require.Equal(t, stored(t, want), stored(t, k), name)
			}
		}
	}
}

func zeros(b []byte) []byte { return append(make([]byte, 5), b...) }

func TestNewRSA_RefusesContradictions(t *testing.T) {
	t.Parallel()
	p, q := pooledPrimes(t, 1024)
	plus := func(b keystore.Secret, n int64) []byte {
		x := new(big.Int).SetBytes(b)
		return x.Add(x, big.NewInt(n)).Bytes()
	}
	noCRT := func(r *keystore.RSAParts) { r.P, r.Q, r.DP, r.DQ, r.QInverse = nil, nil, nil, nil, nil }
	for name, spoil := range map[string]func(*keystore.RSAParts){
		"n": func(r *keystore.RSAParts) { r.N = plus(r.N, 2) },
		"d": func(r *keystore.RSAParts) { r.D = plus(r.D, 2) },
		"d above n": func(r *keystore.RSAParts) {
			one := big.NewInt(1)
			phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
			r.D = phi.Mul(phi, big.NewInt(4)).Add(phi, new(big.Int).SetBytes(r.D)).Bytes()
		},
		"d above n without primes": func(r *keystore.RSAParts) {
			noCRT(r)
			r.D = append([]byte{1}, r.D...)
		},
		"p":                 func(r *keystore.RSAParts) { r.P = plus(r.P, 2) },
		"q":                 func(r *keystore.RSAParts) { r.Q = plus(r.Q, -2) },
		"p even":            func(r *keystore.RSAParts) { r.P = plus(r.P, 1) },
		"p missing":         func(r *keystore.RSAParts) { r.P = nil },
		"q missing":         func(r *keystore.RSAParts) { r.Q = nil },
		"dp":                func(r *keystore.RSAParts) { r.DP = plus(r.DP, 2) },
		"dq":                func(r *keystore.RSAParts) { r.DQ = plus(r.DQ, 2) },
		"q inverse":         func(r *keystore.RSAParts) { r.QInverse = plus(r.QInverse, 1) },
		"primes exchanged":  func(r *keystore.RSAParts) { r.P, r.Q = r.Q, r.P },
		"p twice":           func(r *keystore.RSAParts) { *r = keystore.RSAParts{E: r.E, P: r.P, Q: r.P} },
		"d without primes":  func(r *keystore.RSAParts) { noCRT(r); r.D = plus(r.D, 2) },
		"n without primes":  func(r *keystore.RSAParts) { noCRT(r); r.N = plus(r.N, 2) },
		"n even":            func(r *keystore.RSAParts) { noCRT(r); r.N = plus(r.N, 1) },
		"d is zero":         func(r *keystore.RSAParts) { noCRT(r); r.D = []byte{0} },
		"d is zero, n even": func(r *keystore.RSAParts) { noCRT(r); r.D, r.N = []byte{0}, plus(r.N, 1) },
		"d is one":          func(r *keystore.RSAParts) { noCRT(r); r.D = []byte{1} },
		"other e":           func(r *keystore.RSAParts) { r.E = []byte{17} },
		"close primes": func(r *keystore.RSAParts) {
			next := new(big.Int).SetBytes(r.P)
			for next.Add(next, big.NewInt(2)); !next.ProbablyPrime(5) || new(big.Int).Mod(next, big.NewInt(65537)).Int64() == 1; {
				next.Add(next, big.NewInt(2))
			}
			*r = keystore.RSAParts{E: r.E, P: r.P, Q: next.Bytes()}
		},
		"composite p": func(r *keystore.RSAParts) {
			composite := new(big.Int).SetBytes(r.P)
			for composite.Add(composite, big.NewInt(2)); composite.ProbablyPrime(5); {
				composite.Add(composite, big.NewInt(2))
			}
			*r = keystore.RSAParts{E: r.E, P: composite.Bytes(), Q: r.Q}
		},
		"unequal primes": func(r *keystore.RSAParts) {
			*r = keystore.RSAParts{E: r.E, P: []byte{0xFB}, Q: bigPrime(t).Bytes()}
		},
	} {
		parts := bigKeyOf(p, q, 65537).parts()
		_, err := keystore.NewRSA(parts)
		require.NoError(t, err)
		spoil(&parts)
		_, err = keystore.NewRSA(parts)
		require.ErrorIs(t, err, keystore.ErrKey, name)
	}
}

// bigPrime has 1024 bits.
func bigPrime(t testing.TB) *big.Int {
	p, _ := pooledPrimes(t, 2048)
	return p
}

func TestNewRSA_RefusesSizesAndExponents(t *testing.T) {
	t.Parallel()
	p, q := pooledPrimes(t, 1024)
	good := bigKeyOf(p, q, 65537)
	for name, e := range map[string][]byte{
		"none": nil, "zero": {0}, "one": {1}, "even": {1, 0, 2}, "over 31 bits": {0x80, 0, 0, 1}, "5 bytes": {1, 0, 1, 0, 1},
	} {
		parts := good.parts()
		parts.E = e
		_, err := keystore.NewRSA(parts)
		require.ErrorIs(t, err, keystore.ErrParameters, name)
		_, err = keystore.GenerateRSA(keystore.PoolGenerator{Rand: seeded(1)}, 1024, e)
		require.ErrorIs(t, err, keystore.ErrParameters, name)
	}
	small := []byte{0xC7} // 199
	for name, parts := range map[string]keystore.RSAParts{
		"too short": {E: f4, P: p.Bytes(), Q: small},
		"too long":  {E: f4, N: append(good.n.Bytes(), make([]byte, 400)...), D: good.d.Bytes()},
		"nothing":   {E: f4},
	} {
		_, err := keystore.NewRSA(parts)
		require.ErrorIs(t, err, keystore.ErrParameters, name)
	}
}

func TestGenerateRSA_PoolIsReproducibleAndFitsTheExponent(t *testing.T) {
	t.Parallel()
	for _, bits := range []int{1024, 1536, 2048, 3072, 4096} {
		moduli := map[string]bool{}
		for seed := range byte(8) {
			k, err := keystore.GenerateRSA(keystore.PoolGenerator{Rand: seeded(seed)}, bits, f4)
			require.NoError(t, err)
			again, err := keystore.GenerateRSA(keystore.PoolGenerator{Rand: seeded(seed)}, bits, f4)
			require.NoError(t, err)
			require.Equal(t, stored(t, k), stored(t, again))
			require.Equal(t, bits, k.Bits())
			n, _ := k.RSAPublic()
			moduli[string(n)] = true
		}
		require.Greater(t, len(moduli), 6, "eight seeds give different keys")
	}
	for _, e := range []int64{3, 5, 7, 17, 257, 65537} {
		k, err := keystore.GenerateRSA(keystore.PoolGenerator{Rand: seeded(1)}, 1024, big.NewInt(e).Bytes())
		require.NoError(t, err)
		_, exponent := k.RSAPublic()
		require.Equal(t, big.NewInt(e).Bytes(), exponent)
		signAndVerify(t, k)
	}
	// An exponent that divides p-1 of one prime of the pool.
	p, _ := pooledPrimes(t, 1024)
	awkward := factorOf(p)
	require.Less(t, awkward, int64(1<<31))
	r := seeded(7)
	for range 200 {
		_, err := keystore.GenerateRSA(keystore.PoolGenerator{Rand: r}, 1024, big.NewInt(awkward).Bytes())
		require.NoError(t, err)
	}
	for _, bits := range []int{0, 512, 1023, 1025, 1280, 8192} {
		_, err := keystore.GenerateRSA(keystore.PoolGenerator{Rand: seeded(1)}, bits, f4)
		require.ErrorIs(t, err, keystore.ErrParameters)
		_, err = keystore.PoolGenerator{Rand: seeded(1)}.GenerateRSA(bits, 65537)
		require.ErrorIs(t, err, keystore.ErrParameters)
	}
}

func TestGenerateRSA_PoolReachesEveryPair(t *testing.T) {
	t.Parallel()
	r := seeded(6)
	seen := map[string]bool{}
	for range 6000 {
		primes, err := keystore.PoolGenerator{Rand: r}.GenerateRSA(1024, 65537)
		require.NoError(t, err)
		require.Positive(t, bytes.Compare(primes.P, primes.Q))
		seen[string(primes.P)+string(primes.Q)] = true
	}
	require.Len(t, seen, 496)
}

func TestGenerateRSA_SystemMakesAnyExponent(t *testing.T) {
	t.Parallel()
	for _, e := range []int64{3, 17, 65537, 1<<31 - 1} {
		k, err := keystore.GenerateRSA(keystore.SystemGenerator{Rand: seeded(1)}, 1024, big.NewInt(e).Bytes())
		require.NoError(t, err)
		require.Equal(t, 1024, k.Bits())
		_, exponent := k.RSAPublic()
		require.Equal(t, big.NewInt(e).Bytes(), exponent)
		signAndVerify(t, k)
	}
	_, err := keystore.SystemGenerator{Rand: seeded(1)}.GenerateRSA(512, 65537)
	require.ErrorIs(t, err, keystore.ErrParameters)
}

type fixedPrimes keystore.Primes

func (f fixedPrimes) GenerateRSA(int, uint32) (keystore.Primes, error) {
	return keystore.Primes(f), nil
}

func TestGenerateRSA_DistrustsItsGenerator(t *testing.T) {
	t.Parallel()
	p, q := pooledPrimes(t, 1536)
	_, err := keystore.GenerateRSA(fixedPrimes{P: p.Bytes(), Q: q.Bytes()}, 1024, f4)
	require.ErrorIs(t, err, keystore.ErrKey, "another size")
	_, err = keystore.GenerateRSA(fixedPrimes{P: p.Bytes(), Q: p.Bytes()}, 1536, f4)
	require.ErrorIs(t, err, keystore.ErrKey, "one prime twice")
}

// OpenSC pads by itself and sends the block: the result must be what
// crypto/rsa makes of the same DigestInfo.
func TestSign_RawOfPaddedBlockIsPKCS1(t *testing.T) {
	t.Parallel()
	for _, bits := range []int{1024, 1536, 2048, 3072, 4096} {
		k := rsaKey(t, bits)
		sum := sha256.Sum256([]byte("message"))
		info := append(unhex(t, "3031300d060960864801650304020105000420"), sum[:]...)
		s, err := k.Sign(nil, keystore.RSASignRaw, padded(bits/8, info))
		require.NoError(t, err)
		require.NoError(t, rsa.VerifyPKCS1v15(rsaPublic(k), crypto.SHA256, sum[:], s))
		for _, c := range []struct {
			a    keystore.Algorithm
			data []byte
		}{{keystore.RSASignPKCS1, info}, {keystore.RSASignSHA256, []byte("message")}} {
			same, err := k.Sign(nil, c.a, c.data)
			require.NoError(t, err)
			require.Equal(t, s, same, "%v", c.a)
		}
	}
}

// padded is EMSA-PKCS1-v1_5 of RFC 8017 §9.2.
func padded(size int, info []byte) []byte {
	block := append([]byte{0, 1}, bytes.Repeat([]byte{0xFF}, size-len(info)-3)...)
	return append(append(block, 0), info...)
}

func TestRaw_IsTheInverseOfThePublicOperation(t *testing.T) {
	t.Parallel()
	var keys []keystore.Key
	for _, e := range []int64{3, 65537, 1<<31 - 1} {
		p, q := pooledPrimes(t, 1024)
		k, err := keystore.NewRSA(bigKeyOf(p, q, e).parts())
		require.NoError(t, err)
		keys = append(keys, k)
	}
	rapid.Check(t, func(rt *rapid.T) {
		k := rapid.SampledFrom(keys).Draw(rt, "key")
		n, e := k.RSAPublic()
		modulus := new(big.Int).SetBytes(n)
		x := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 0, 128).Draw(rt, "number"))
		x.Mod(x, modulus)
		block := x.FillBytes(make([]byte, 128))
		for _, do := range []func() ([]byte, error){
			func() ([]byte, error) { return k.Sign(nil, keystore.RSASignRaw, block) },
			func() ([]byte, error) { return k.Decipher(keystore.RSADecryptRaw, block) },
		} {
			out, err := do()
			require.NoError(t, err)
			require.Len(t, out, 128)
			back := new(big.Int).Exp(new(big.Int).SetBytes(out), new(big.Int).SetBytes(e), modulus)
			require.Zero(t, back.Cmp(x))
		}
	})
}

func TestSign_PSSTakesItsSaltFromRand(t *testing.T) {
	t.Parallel()
	k := rsaKey(t, 1024)
	sum := sha256.Sum256([]byte("m"))
	one, err := k.Sign(seeded(1), keystore.RSAPSS, sum[:])
	require.NoError(t, err)
	same, err := k.Sign(seeded(1), keystore.RSAPSSSHA256, []byte("m"))
	require.NoError(t, err)
	require.Equal(t, one, same)
	other, err := k.Sign(seeded(2), keystore.RSAPSS, sum[:])
	require.NoError(t, err)
	require.NotEqual(t, one, other)
}

// 1024 bits leave no room for a SHA-512 hash and as much salt.
func TestSign_PSSNeedsRoom(t *testing.T) {
	t.Parallel()
	k := rsaKey(t, 1024)
	_, err := k.Sign(seeded(1), keystore.RSAPSSSHA512, []byte("m"))
	require.ErrorIs(t, err, keystore.ErrAlgorithm)
	_, err = k.Sign(seeded(1), keystore.RSAPSS, make([]byte, 64))
	require.ErrorIs(t, err, keystore.ErrAlgorithm)
	_, err = k.Sign(seeded(1), keystore.RSAPSSSHA384, []byte("m"))
	require.NoError(t, err)
}

func TestPrepared_ChangesNothingButTheCost(t *testing.T) {
	t.Parallel()
	for _, k := range []keystore.Key{rsaKey(t, 1024), ecKey(t, "secp192k1"), aesKey(t, 128), {}} {
		var bare keystore.Key
		require.NoError(t, bare.UnmarshalJSON([]byte(stored(t, k))))
		require.Equal(t, stored(t, k), stored(t, bare.Prepared()))
		if k.Kind() == keystore.RSA {
			signAndVerify(t, bare)
			signAndVerify(t, bare.Prepared())
		}
	}
}

// A state file may hold primes that do not go with the exponent, or are none:
// reading does not notice, using does.
func TestSign_StoredNonsenseGivesNoSignature(t *testing.T) {
	t.Parallel()
	p, q := pooledPrimes(t, 1024)
	composite := new(big.Int).Add(p, big.NewInt(2))
	for composite.ProbablyPrime(5) {
		composite.Add(composite, big.NewInt(2))
	}
	for _, c := range []struct {
		p *big.Int
		e int64
	}{{composite, 65537}, {p, factorOf(p)}} {
		text := storedRSA(c.p, q, c.e)
		var k keystore.Key
		require.NoError(t, k.UnmarshalJSON([]byte(text)))
		for _, key := range []keystore.Key{k, k.Prepared()} {
			_, err := key.Sign(seeded(1), keystore.RSASignSHA256, []byte("m"))
			require.ErrorIs(t, err, keystore.ErrKey)
			_, err = key.Sign(seeded(1), keystore.RSAPSSSHA256, []byte("m"))
			require.ErrorIs(t, err, keystore.ErrKey)
			_, err = key.Decipher(keystore.RSADecryptRaw, append(make([]byte, 127), 2))
			require.ErrorIs(t, err, keystore.ErrKey)
		}
	}
}

// factorOf finds an odd prime factor of p-1; those of the pool are all above
// 257.
func factorOf(p *big.Int) int64 {
	m := new(big.Int).Sub(p, big.NewInt(1))
	for f := int64(3); ; f += 2 {
		if new(big.Int).Mod(m, big.NewInt(f)).Sign() == 0 {
			return f
		}
	}
}
