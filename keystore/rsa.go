package keystore

import (
	"bytes"
	"crypto/rsa"
	"crypto/subtle"
	"fmt"
	"math/big"

	"filippo.io/bigmod"
)

const (
	rsaMinBits = 1024
	rsaMaxBits = 4096
	// rsaMaxExponent is the largest public exponent crypto/rsa works with.
	rsaMaxExponent = 1<<31 - 1
)

// rsaKey is an RSA key with two primes. Primes, exponent and CRT coefficient
// are what is kept; everything else follows from them by cheap arithmetic.
// (The coefficient follows too, but not cheaply.)
type rsaKey struct {
	n       []byte // modulus, no leading zeros
	e       uint32 // public exponent, odd, 3 to 2^31-1
	p, q    []byte // primes, no leading zeros
	qinv    []byte // q^-1 mod p, as long as p
	d       []byte // private exponent if it came from outside and is not the smallest; else nil
	machine *rsaMachine
}

// rsaMachine is what the operations need: the key of the standard library,
// which does everything except the bare exponentiation, and the numbers for
// that one.
type rsaMachine struct {
	std     *rsa.PrivateKey
	n, p, q *bigmod.Modulus
	qn      *bigmod.Nat // q, as a number modulo n
	qinv    *bigmod.Nat
	dp, dq  []byte
}

// RSAParts are the parts of an RSA private key with two primes, big-endian
// with any number of leading zeros. E and either P and Q or N and D are
// needed; what is there besides is checked, what is absent (nil) is computed.
type RSAParts struct {
	N, E     []byte // modulus and public exponent
	D        Secret // private exponent
	P, Q     Secret // primes
	DP, DQ   Secret // d mod p-1, d mod q-1
	QInverse Secret // q^-1 mod p
}

// NewRSA makes a Key of its parts: without list, without counter, in domain
// 0. The modulus has 1024 to 4096 bits, the public exponent is odd and
// between 3 and 2^31-1 (what crypto/rsa works with). NewRSA returns
// ErrParameters if a size is out of range and ErrKey if parts are missing or
// contradict each other, or if the key is so weak that crypto/rsa refuses
// it (primes that are almost equal) or primes do not fit into half the length
// of the modulus, where blobs have room for them.
//
// An absent private exponent becomes the smallest one, e^-1 mod
// lcm(p-1, q-1) (FIPS 186-5 A.1.1). A given one may be larger, as older
// software makes it, but is below the modulus; Wrap gives it back unchanged.
func NewRSA(parts RSAParts) (Key, error) {
	number := func(b []byte) *big.Int { return new(big.Int).SetBytes(b) }
	n, p, q := number(parts.N), number(parts.P), number(parts.Q)
	e, err := publicExponent(parts.E)
	if err != nil {
		return Key{}, err
	}
	if p.Sign() == 0 && q.Sign() == 0 {
		if err := checkModulus(n); err != nil {
			return Key{}, err
		}
		if p, q, err = factor(n, big.NewInt(int64(e)), number(parts.D)); err != nil {
			return Key{}, err
		}
	}
	k, err := newRSAKey(p, q, new(big.Int).ModInverse(q, atLeastTwo(p)), e)
	if err != nil {
		return Key{}, err
	}
	if parts.N != nil && n.Cmp(number(k.n)) != 0 {
		return Key{}, fmt.Errorf("%w: n is not p·q", ErrKey)
	}
	if k.machine, err = newRSAMachine(k); err != nil {
		return Key{}, err
	}
	if err := k.check(parts); err != nil {
		return Key{}, err
	}
	return Key{rsa: veiled(k)}, nil
}

// check compares the optional parts with the computed ones, and tries the
// key once: a key with a composite "prime" passes every relation between its
// parts and shows only here.
func (k *rsaKey) check(parts RSAParts) error {
	if parts.D != nil {
		d, err := k.privateExponent(parts.D)
		if err != nil {
			return err
		}
		if !sameNumber(d, k.machine.std.D.Bytes()) {
			k.d = d
		}
	}
	for _, part := range []struct {
		name       string
		given, has []byte
	}{
		{"d mod p-1", parts.DP, k.machine.dp},
		{"d mod q-1", parts.DQ, k.machine.dq},
		{"q^-1 mod p", parts.QInverse, k.qinv},
	} {
		if part.given != nil && !sameNumber(part.given, part.has) {
			return fmt.Errorf("%w: %s is wrong", ErrKey, part.name)
		}
	}
	trial := make([]byte, len(k.n))
	trial[len(trial)-1] = 2
	_, err := k.machine.raw(trial)
	return err
}

// newRSAKey puts a key together and checks what is cheap to check, some
// microseconds in all.
func newRSAKey(p, q, qinv *big.Int, e uint32) (*rsaKey, error) {
	if err := checkExponent(e); err != nil {
		return nil, err
	}
	if p.Bit(0) == 0 || q.Bit(0) == 0 || qinv == nil || qinv.Cmp(p) >= 0 {
		return nil, fmt.Errorf("%w: primes", ErrKey)
	}
	n := new(big.Int).Mul(p, q)
	if err := checkModulus(n); err != nil {
		return nil, err
	}
	product := new(big.Int).Mul(q, qinv)
	if product.Mod(product, p).Cmp(big.NewInt(1)) != 0 {
		return nil, fmt.Errorf("%w: q^-1 mod p is wrong", ErrKey)
	}
	k := &rsaKey{n: n.Bytes(), e: e, p: p.Bytes(), q: q.Bytes()}
	if half := (len(k.n) + 1) / 2; len(k.p) > half || len(k.q) > half {
		return nil, fmt.Errorf("%w: primes of very different size", ErrKey)
	}
	k.qinv = qinv.FillBytes(make([]byte, len(k.p)))
	return k, nil
}

// privateExponent returns d without leading zeros if it is a private exponent
// of the key below the modulus, else ErrKey.
func (k *rsaKey) privateExponent(d []byte) ([]byte, error) {
	given, one := new(big.Int).SetBytes(d), big.NewInt(1)
	wrong := given.Cmp(new(big.Int).SetBytes(k.n)) >= 0
	for _, p := range [][]byte{k.p, k.q} {
		order := new(big.Int).SetBytes(p)
		product := new(big.Int).Mul(given, big.NewInt(int64(k.e)))
		wrong = wrong || product.Mod(product, order.Sub(order, one)).Cmp(one) != 0
	}
	if wrong {
		return nil, fmt.Errorf("%w: d does not belong to e", ErrKey)
	}
	return given.Bytes(), nil
}

// publicExponent reads a big-endian public exponent of any width.
func publicExponent(b []byte) (uint32, error) {
	e := new(big.Int).SetBytes(b)
	if e.BitLen() > 32 {
		return 0, fmt.Errorf("%w: public exponent of %d bits", ErrParameters, e.BitLen())
	}
	return uint32(e.Uint64()), checkExponent(uint32(e.Uint64()))
}

func checkExponent(e uint32) error {
	if e&1 == 0 || e < 3 || e > rsaMaxExponent {
		return fmt.Errorf("%w: public exponent %d", ErrParameters, e)
	}
	return nil
}

func checkModulus(n *big.Int) error {
	if bits := n.BitLen(); bits < rsaMinBits || bits > rsaMaxBits {
		return fmt.Errorf("%w: an RSA modulus of %d bits", ErrParameters, bits)
	}
	return nil
}

// private returns d mod p-1, d mod q-1 and the smallest d.
func (k *rsaKey) private() (dp, dq, d *big.Int, err error) {
	one, e := big.NewInt(1), big.NewInt(int64(k.e))
	p1 := new(big.Int).SetBytes(k.p)
	q1 := new(big.Int).SetBytes(k.q)
	p1.Sub(p1, one)
	q1.Sub(q1, one)
	lambda := new(big.Int).GCD(nil, nil, p1, q1)
	lambda.Div(p1, lambda).Mul(lambda, q1)
	if d = new(big.Int).ModInverse(e, lambda); d == nil {
		return nil, nil, nil, fmt.Errorf("%w: e has a factor in common with p-1 or q-1", ErrKey)
	}
	return p1.Mod(d, p1), q1.Mod(d, q1), d, nil
}

func (k *rsaKey) exponent() []byte {
	return big.NewInt(int64(k.e)).Bytes()
}

func (k *rsaKey) prepared() *rsaKey {
	if k.machine != nil {
		return k
	}
	m, err := newRSAMachine(k)
	if err != nil {
		return k
	}
	c := *k
	c.machine = m
	return &c
}

// prepare returns the machine of the key, a new one if the key is not
// prepared.
func (k *rsaKey) prepare() (*rsaMachine, error) {
	if k.machine != nil {
		return k.machine, nil
	}
	return newRSAMachine(k)
}

func newRSAMachine(k *rsaKey) (*rsaMachine, error) {
	dp, dq, d, err := k.private()
	if err != nil {
		return nil, err
	}
	std := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).SetBytes(k.n), E: int(k.e)},
		D:         d,
		Primes:    []*big.Int{new(big.Int).SetBytes(k.p), new(big.Int).SetBytes(k.q)},
	}
	std.Precomputed.Dp, std.Precomputed.Dq, std.Precomputed.Qinv = dp, dq, new(big.Int).SetBytes(k.qinv)
	std.Precompute()
	if err := std.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	m := &rsaMachine{
		std: std,
		dp:  dp.FillBytes(make([]byte, len(k.p))),
		dq:  dq.FillBytes(make([]byte, len(k.q))),
	}
	if m.n, err = bigmod.NewModulus(k.n); err == nil {
		if m.p, err = bigmod.NewModulus(k.p); err == nil {
			m.q, err = bigmod.NewModulus(k.q)
		}
	}
	if err == nil {
		m.qn, err = bigmod.NewNat().SetBytes(k.q, m.n)
	}
	if err == nil {
		m.qinv, err = bigmod.NewNat().SetBytes(k.qinv, m.p)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return m, nil
}

// raw computes block^d mod n for a block of modulus length (RFC 8017 §5.1.2
// and §5.2.1, second form) and checks the result with the public exponent
// before anyone sees it: one faulty half of the computation would reveal the
// primes. It returns ErrData if the block is not below n.
func (m *rsaMachine) raw(block []byte) ([]byte, error) {
	c, err := bigmod.NewNat().SetBytes(block, m.n)
	if err != nil {
		return nil, fmt.Errorf("%w: the number is not below the modulus", ErrData)
	}
	t := bigmod.NewNat()
	mp := bigmod.NewNat().Exp(t.Mod(c, m.p), m.dp, m.p)
	mq := bigmod.NewNat().Exp(t.Mod(c, m.q), m.dq, m.q)
	// m = mq + q · ((mp - mq) · q^-1 mod p)
	mp.Sub(t.Mod(mq, m.p), m.p).Mul(m.qinv, m.p)
	mp.ExpandFor(m.n).Mul(m.qn, m.n).Add(mq.ExpandFor(m.n), m.n)
	if bigmod.NewNat().ExpShortVarTime(mp, uint(m.std.E), m.n).Equal(c) != 1 {
		return nil, fmt.Errorf("%w: the result does not verify", ErrKey)
	}
	return mp.Bytes(m.n), nil
}

// factor finds the primes of n from a pair of exponents with d·e = 1 modulo
// lcm(p-1, q-1): in d·e-1 = r·2^t, some power g^(r·2^i) of about every second
// g is a square root of 1 other than 1 and -1 (SP 800-56B appendix C.2, with
// small primes for g instead of random numbers).
func factor(n, e, d *big.Int) (p, q *big.Int, err error) {
	wrong := fmt.Errorf("%w: d and e do not belong to n", ErrKey)
	one := big.NewInt(1)
	if d.Sign() == 0 || d.Cmp(n) >= 0 { // an enormous d would take enormously long
		return nil, nil, wrong
	}
	r := new(big.Int).Mul(d, e)
	r.Sub(r, one)
	t := int(r.TrailingZeroBits())
	r.Rsh(r, uint(t))
	minusOne := new(big.Int).Sub(n, one)
	for g := int64(2); g < 150; g++ {
		if !big.NewInt(g).ProbablyPrime(0) {
			continue
		}
		x := new(big.Int).Exp(big.NewInt(g), r, n)
		for range t {
			if x.Cmp(one) == 0 || x.Cmp(minusOne) == 0 {
				break
			}
			y := new(big.Int).Mul(x, x)
			if y.Mod(y, n).Cmp(one) == 0 {
				p = x.GCD(nil, nil, x.Sub(x, one), n)
				q = new(big.Int).Div(n, p)
				if p.Cmp(q) < 0 {
					p, q = q, p
				}
				return p, q, nil
			}
			x = y
		}
		// For the true exponents the chain ends at 1, so it has met 1 or -1.
		if x.Cmp(one) != 0 && x.Cmp(minusOne) != 0 {
			return nil, nil, wrong
		}
	}
	return nil, nil, wrong
}

// atLeastTwo keeps ModInverse off the modulus zero.
func atLeastTwo(x *big.Int) *big.Int {
	if two := big.NewInt(2); x.Cmp(two) < 0 {
		return two
	}
	return x
}

func bitLen(b []byte) int { return new(big.Int).SetBytes(b).BitLen() }

// sameNumber compares two big-endian numbers without regard to leading zeros.
func sameNumber(a, b []byte) bool {
	w := max(len(a), len(b))
	return subtle.ConstantTimeCompare(leftPad(a, w), leftPad(b, w)) == 1
}

func leftPad(b []byte, width int) []byte {
	return append(bytes.Repeat([]byte{0}, max(0, width-len(b))), b...)
}
