// Package curve holds the nineteen elliptic curves of a SmartCard-HSM with
// ECDSA (FIPS 186-5, SEC 1) and Diffie-Hellman (SEC 1 §3.3.1) on them.
//
// ECDSA on secp224r1, secp256r1, secp384r1 and secp521r1 is the standard
// library's. Everything else, that is ECDSA on the other fifteen curves and
// Diffie-Hellman on all of them, is done by one group whose operations take
// the same time for all secrets.
//
// The package does not hash messages, does not derive keys from shared points
// and knows no certificates. Numbers are big-endian and points are
// uncompressed (04||x||y, SEC 1 §2.3.3) throughout.
//
//	c, _ := curve.ByName("brainpoolP256r1")
//	key, err := c.Generate(rand.Reader)
//	signature, err := key.Sign(rand.Reader, digest)
//	ok := key.Public().Verify(digest, signature)
package curve

import (
	"bytes"
	"crypto/elliptic"
	"encoding/hex"
	"errors"
)

var (
	// ErrUnknown is returned for domain parameters of no curve of this package.
	ErrUnknown = errors.New("domain parameters belong to no known curve")
	// ErrScalar is returned for a private key outside 1 … n-1.
	ErrScalar = errors.New("private key is not between 1 and n-1")
	// ErrPoint is returned for bytes that are not an uncompressed point of the
	// curve, and for the point at infinity.
	ErrPoint = errors.New("not an uncompressed point of the curve")
	// ErrCurve is returned when two keys lie on different curves.
	ErrCurve = errors.New("keys are on different curves")
	// ErrDigest is returned for an empty digest.
	ErrDigest = errors.New("digest is empty")
	// ErrSignature is returned for an encoding that is not a signature with r
	// and s between 1 and n-1.
	ErrSignature = errors.New("malformed signature")
	// ErrRandom is returned when no usable randomness could be read.
	ErrRandom = errors.New("no randomness")
)

// Curve is one of the nineteen curves. There is exactly one *Curve of each, so
// pointers may be compared.
type Curve struct {
	name       string
	oid        []byte
	parameters Parameters
	standard   elliptic.Curve // nil if crypto/ecdsa does not have the curve
	group      *group
}

// Parameters are the domain parameters of SEC 1 §3.1.1: the prime P, the
// coefficients A and B of y² = x³ + Ax + B, the base point G = 04||x||y and its
// prime order N. The cofactor is 1. Those made by this package have numbers as
// wide as P.
type Parameters struct{ P, A, B, G, N []byte }

// curves never changes once the program runs.
var curves = build()

func build() []*Curve {
	all := make([]*Curve, len(descriptions))
	table := baseMultiples
	for i := range descriptions {
		d := &descriptions[i]
		c := &Curve{name: d.name, oid: unhex(d.oid), standard: d.standard}
		c.parameters = Parameters{P: unhex(d.p), A: unhex(d.a), B: unhex(d.b), G: unhex("04" + d.g), N: unhex(d.n)}
		c.group, table = newGroup(&c.parameters, table)
		all[i] = c
	}
	return all
}

// unhex decodes a constant of this package.
func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("constant is not hexadecimal")
	}
	return b
}

// All returns the nineteen curves, those of SEC 2 with random parameters first,
// then brainpool r1, those with an endomorphism, and brainpool t1.
func All() []*Curve { return append([]*Curve(nil), curves...) }

// ByName finds a curve by its name in SEC 2 ("secp256r1") or RFC 5639
// ("brainpoolP256r1").
func ByName(name string) (*Curve, bool) {
	for _, c := range curves {
		if c.name == name {
			return c, true
		}
	}
	return nil, false
}

// ByOID finds a curve by its object identifier, given as the content of the DER
// encoding without tag and length.
func ByOID(der []byte) (*Curve, bool) {
	for _, c := range curves {
		if bytes.Equal(c.oid, der) {
			return c, true
		}
	}
	return nil, false
}

// ByParameters finds the curve with the domain parameters p. Numbers may have
// any count of leading zeros, and so may the halves of the base point. It
// returns ErrUnknown unless all five values agree.
func ByParameters(p Parameters) (*Curve, error) {
	for _, c := range curves {
		if c.parameters.equal(&p) {
			return c, nil
		}
	}
	return nil, ErrUnknown
}

func (p *Parameters) equal(q *Parameters) bool {
	return sameNumber(p.P, q.P) && sameNumber(p.A, q.A) && sameNumber(p.B, q.B) &&
		sameNumber(p.N, q.N) && samePoint(p.G, q.G)
}

func sameNumber(x, y []byte) bool {
	return bytes.Equal(bytes.TrimLeft(x, "\x00"), bytes.TrimLeft(y, "\x00"))
}

// samePoint compares an uncompressed point p with anything.
func samePoint(p, q []byte) bool {
	if len(q)%2 == 0 || q[0] != p[0] {
		return false
	}
	m, n := len(p)/2, len(q)/2
	return sameNumber(p[1:1+m], q[1:1+n]) && sameNumber(p[1+m:], q[1+n:])
}

// Name returns the name of the curve in SEC 2 or RFC 5639.
func (c *Curve) Name() string { return c.name }

// String returns the name of the curve.
func (c *Curve) String() string { return c.name }

// Bits returns the length of the field's prime in bits.
func (c *Curve) Bits() int { return c.group.p.bits }

// FieldLen returns the length of a coordinate in bytes.
func (c *Curve) FieldLen() int { return c.group.p.bytes }

// OrderLen returns the length of a private key and of half a signature in bytes.
func (c *Curve) OrderLen() int { return c.group.n.bytes }

// OID returns the object identifier as the content of its DER encoding.
func (c *Curve) OID() []byte { return bytes.Clone(c.oid) }

// Parameters returns the domain parameters.
func (c *Curve) Parameters() Parameters {
	p := &c.parameters
	return Parameters{
		P: bytes.Clone(p.P), A: bytes.Clone(p.A), B: bytes.Clone(p.B),
		G: bytes.Clone(p.G), N: bytes.Clone(p.N),
	}
}
