package curve

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"io"
	"math/big"
)

// Private is a private key together with its public key. It does not change
// and may be used by several goroutines. Formatting it shows no secret.
type Private struct {
	curve    *Curve
	d        *element // not in Montgomery form; a pointer, because fmt prints the address of one inside a struct
	public   *Public
	standard *ecdsa.PrivateKey // nil if crypto/ecdsa does not have the curve
}

// Generate makes a private key from OrderLen+8 bytes of rand (FIPS 186-5
// A.2.1: reduced from 64 surplus bits). Equal bytes make equal keys. It
// returns ErrRandom when rand is nil, fails or yields zero.
func (c *Curve) Generate(rand io.Reader) (*Private, error) {
	b, err := read(rand, c.group.n.bytes+8)
	if err != nil {
		return nil, err
	}
	d := c.group.n.reduce(b)
	if d.isZero() == 1 {
		return nil, fmt.Errorf("%w: it made the key zero", ErrRandom)
	}
	c.group.n.out(&d, &d)
	return c.private(&d), nil
}

func read(rand io.Reader, n int) ([]byte, error) {
	if rand == nil {
		return nil, fmt.Errorf("%w: no source", ErrRandom)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(rand, b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRandom, err)
	}
	return b, nil
}

// Private reads a big-endian private key of any width. It returns ErrScalar
// unless 1 <= d < n. It computes the public key, which PrivateWithPublic
// saves.
func (c *Curve) Private(d []byte) (*Private, error) {
	x, err := c.scalar(d)
	if err != nil {
		return nil, err
	}
	return c.private(&x), nil
}

// PrivateWithPublic is Private for a caller who has kept the public key
// 04||x||y, and several times as fast. It checks only that the point is on
// the curve (ErrPoint), not that it belongs to d: with a foreign point,
// signatures and shared points are still those of d, while Public returns the
// foreign one. So it is for keys from the caller's own store.
func (c *Curve) PrivateWithPublic(d, point []byte) (*Private, error) {
	x, err := c.scalar(d)
	if err != nil {
		return nil, err
	}
	public, err := c.Public(point)
	if err != nil {
		return nil, err
	}
	return c.withPublic(&x, public), nil
}

func (c *Curve) scalar(b []byte) (element, error) {
	d, ok := c.group.n.parse(b)
	if !ok || d.isZero() == 1 {
		return element{}, ErrScalar
	}
	return d, nil
}

// private takes a scalar between 1 and n-1.
func (c *Curve) private(d *element) *Private {
	if c.standard != nil {
		return c.standardPrivate(d)
	}
	var p point
	c.group.multiplyBase(&p, d)
	q, _ := c.group.affine(&p) // not infinity: d is no multiple of n
	return c.withPublic(d, c.public(&q, c.group.encode(&q)))
}

// standardPrivate lets the standard library compute the public key.
func (c *Curve) standardPrivate(d *element) *Private {
	w := c.group.n.bytes
	standard, err := ecdsa.ParseRawPrivateKey(c.standard, d.appendBytes(make([]byte, 0, w), w))
	if err != nil {
		panic("the standard library refuses a private key")
	}
	encoded, err := standard.PublicKey.Bytes()
	if err != nil {
		panic("the standard library refuses its own public key")
	}
	q, ok := c.group.decode(encoded)
	if !ok {
		panic("the standard library's public key is not on the curve")
	}
	public := &Public{curve: c, encoded: encoded, point: q, standard: &standard.PublicKey}
	return &Private{curve: c, d: d, public: public, standard: standard}
}

func (c *Curve) withPublic(d *element, public *Public) *Private {
	k := &Private{curve: c, d: d, public: public}
	if c.standard != nil {
		//lint:ignore SA1019 there is no other way to a key whose public half is known
		k.standard = &ecdsa.PrivateKey{PublicKey: *public.standard, D: new(big.Int).SetBytes(k.Bytes())}
	}
	return k
}

// Curve returns the curve of the key.
func (k *Private) Curve() *Curve { return k.curve }

// Bytes returns the private key in OrderLen bytes.
func (k *Private) Bytes() []byte {
	w := k.curve.group.n.bytes
	return k.d.appendBytes(make([]byte, 0, w), w)
}

// Public returns the public key.
func (k *Private) Public() *Public { return k.public }

// Consistent reports whether the public key belongs to the private one, which
// PrivateWithPublic believes its caller. It takes as long as Private.
func (k *Private) Consistent() bool {
	return bytes.Equal(k.curve.private(k.d).public.encoded, k.public.encoded)
}

// Format writes the name of the curve and no more, whatever the verb.
func (k Private) Format(f fmt.State, _ rune) {
	name := "no curve"
	if k.curve != nil {
		name = k.curve.name
	}
	_, _ = io.WriteString(f, "private key on "+name)
}

// Sign signs a digest, of which the leftmost bits count if it is longer than
// the order of the curve (SEC 1 §4.1.3). It returns ErrDigest for an empty
// one.
//
// With rand nil the signature is the deterministic one of RFC 6979. The hash
// function it asks for is told from the length of the digest: SHA-1, SHA-224,
// SHA-256, SHA-384 or SHA-512, and SHA-256 for any other length.
//
// Otherwise the signature is randomised. On the four curves of crypto/ecdsa
// the randomness is the system's, whatever rand is; on the others it is that
// of RFC 6979 with 32 bytes of rand as additional data (§3.6), and ErrRandom
// is returned when rand fails.
func (k *Private) Sign(rand io.Reader, digest []byte) (Signature, error) {
	if len(digest) == 0 {
		return Signature{}, ErrDigest
	}
	if k.standard != nil {
		if rand != nil {
			return k.parsed(ecdsa.SignASN1(rand, k.standard, digest))
		}
		if h := functionOfLength(len(digest)); h != 0 {
			return k.parsed(k.standard.Sign(nil, digest, h))
		}
	}
	var extra []byte
	if rand != nil {
		var err error
		if extra, err = read(rand, 32); err != nil {
			return Signature{}, err
		}
	}
	return k.sign(newNonces(k.curve.group.n, k.d, digest, extra), digest), nil
}

// functionOfLength names the function hashOfLength returns, or is 0 if no
// function has that length.
func functionOfLength(n int) crypto.Hash {
	switch n {
	case sha1.Size:
		return crypto.SHA1
	case sha256.Size224:
		return crypto.SHA224
	case sha256.Size:
		return crypto.SHA256
	case sha512.Size384:
		return crypto.SHA384
	case sha512.Size:
		return crypto.SHA512
	default:
		return 0
	}
}

func (k *Private) parsed(der []byte, err error) (Signature, error) {
	if err != nil {
		return Signature{}, fmt.Errorf("signing: %w", err)
	}
	return k.curve.ParseDER(der)
}

func (k *Private) sign(nonces *nonces, digest []byte) Signature {
	c, n := k.curve.group, k.curve.group.n
	z := n.leftmost(digest)
	n.into(&z, &z)
	var d element
	n.into(&d, k.d)
	for {
		nonce := nonces.next()
		var p point
		c.multiplyBase(&p, &nonce)
		q, _ := c.affine(&p)
		r := c.abscissa(&q)

		var s element
		n.into(&s, &r)
		n.mul(&s, &s, &d)
		n.add(&s, &s, &z)
		n.into(&nonce, &nonce)
		n.invert(&nonce, &nonce)
		n.mul(&s, &s, &nonce)
		n.out(&s, &s)
		if r.isZero() == 0 && s.isZero() == 0 {
			return k.curve.encodeSignature(&r, &s)
		}
	}
}

// Shared returns the product of the private key with the peer's point as
// 04||x||y (SEC 1 §3.3.1; its x alone is the shared secret there). It returns
// ErrCurve unless both keys are on the same curve.
func (k *Private) Shared(peer *Public) ([]byte, error) {
	if peer == nil || peer.curve != k.curve {
		return nil, ErrCurve
	}
	c := k.curve.group
	var p point
	c.multiply(&p, k.d, &peer.point)
	q, ok := c.affine(&p)
	if !ok { // cannot be, the order being prime
		return nil, ErrPoint
	}
	return c.encode(&q), nil
}

// Add returns the private key (d + t) mod n, t being a big-endian number of
// any length. It returns ErrScalar if the sum is zero.
func (k *Private) Add(t []byte) (*Private, error) {
	n := k.curve.group.n
	sum := n.reduce(t)
	n.out(&sum, &sum)
	n.add(&sum, &sum, k.d)
	if sum.isZero() == 1 {
		return nil, ErrScalar
	}
	return k.curve.private(&sum), nil
}
