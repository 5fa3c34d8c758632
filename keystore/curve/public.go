package curve

import (
	"bytes"
	"crypto/ecdsa"
)

// Public is a public key, a point of a curve other than the point at
// infinity. It does not change.
type Public struct {
	curve    *Curve
	encoded  []byte
	point    affine
	standard *ecdsa.PublicKey // nil if crypto/ecdsa does not have the curve
}

// Public reads an uncompressed point 04||x||y of 1+2·FieldLen bytes. It
// returns ErrPoint for any other form or length, for coordinates not below p
// and for points that are not on the curve. All curves have prime order, so
// every point that passes has order n (full validation, SEC 1 §3.2.2.1).
func (c *Curve) Public(point []byte) (*Public, error) {
	q, ok := c.group.decode(point)
	if !ok {
		return nil, ErrPoint
	}
	return c.public(&q, bytes.Clone(point)), nil
}

// public takes a point that is known to be on the curve.
func (c *Curve) public(q *affine, encoded []byte) *Public {
	k := &Public{curve: c, encoded: encoded, point: *q}
	if c.standard != nil {
		standard, err := ecdsa.ParseUncompressedPublicKey(c.standard, encoded)
		if err != nil {
			panic("the standard library refuses a point of the curve")
		}
		k.standard = standard
	}
	return k
}

// Curve returns the curve of the key.
func (k *Public) Curve() *Curve { return k.curve }

// Bytes returns the point as 04||x||y.
func (k *Public) Bytes() []byte { return bytes.Clone(k.encoded) }

// Verify reports whether s is a signature of the digest by the owner of the
// key (SEC 1 §4.1.4). Of a digest longer than the order of the curve only the
// leftmost bits count. An empty digest has no valid signature. R and S may
// have leading zeros.
func (k *Public) Verify(digest []byte, s Signature) bool {
	n := k.curve.group.n
	r, okR := n.parse(s.R)
	t, okS := n.parse(s.S)
	if len(digest) == 0 || !okR || !okS || r.isZero() == 1 || t.isZero() == 1 {
		return false
	}
	if k.standard != nil {
		return ecdsa.VerifyASN1(k.standard, digest, s.DER())
	}
	return k.verify(digest, &r, &t)
}

func (k *Public) verify(digest []byte, r, s *element) bool {
	c, n := k.curve.group, k.curve.group.n
	z := n.leftmost(digest)
	var w, u, v element
	n.into(&w, s)
	n.invert(&w, &w)
	n.mul(&u, &z, &w) // one factor in Montgomery form: the product is not
	n.mul(&v, r, &w)
	var left, right point
	c.multiplyBase(&left, &u)
	c.multiply(&right, &v, &k.point)
	c.add(&left, &left, &right)
	q, ok := c.affine(&left)
	if !ok {
		return false
	}
	x := c.abscissa(&q)
	return x.equal(r) == 1
}

// abscissa returns x mod n, not in Montgomery form. Hasse's bound makes one
// subtraction enough, p and n having the same number of words.
func (c *group) abscissa(q *affine) (x element) {
	c.p.out(&x, &q.x)
	c.n.reduceOnce(&x, &x, 0)
	return x
}
