package cvc

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"math/big"

	"hsmemu/applet/tlv"
	"hsmemu/keystore/curve"
)

// PublicKey is the public key template 7F49 (CVC-6): a scheme and either
// an RSA key or a point. Point, Modulus and Exponent are big-endian.
type PublicKey struct {
	Scheme Scheme
	// Curve is nil for RSA, and for a point whose domain parameters are those
	// of the key that certifies it.
	Curve *curve.Curve
	// Point is 04 || x || y, each coordinate as wide as the field.
	Point []byte
	// Modulus and Exponent are the RSA key.
	Modulus, Exponent []byte
}

// Tags inside 7F49. RSA keys use the first two.
const (
	tagModulus  = tlv.Tag(0x81) // EC: the prime p
	tagExponent = tlv.Tag(0x82) // EC: the coefficient a
	tagP        = tlv.Tag(0x81)
	tagA        = tlv.Tag(0x82)
	tagB        = tlv.Tag(0x83)
	tagG        = tlv.Tag(0x84)
	tagN        = tlv.Tag(0x85)
	tagPoint    = tlv.Tag(0x86)
	tagCofactor = tlv.Tag(0x87)
	tagBits     = tlv.Tag(0x02)
)

// maxModulus is the largest RSA key of the card, in bits.
const maxModulus = 4096

// NewEC makes the template of a point, with domain parameters.
func NewEC(s Scheme, p *curve.Public) PublicKey {
	return PublicKey{Scheme: s, Curve: p.Curve(), Point: p.Bytes()}
}

// NewRSA makes the template of an RSA key from big-endian modulus and exponent.
func NewRSA(s Scheme, modulus, exponent []byte) PublicKey {
	return PublicKey{Scheme: s, Modulus: modulus, Exponent: exponent}
}

// WithoutDomain is the key without domain parameters, the form certificates
// below the root carry.
func (k PublicKey) WithoutDomain() PublicKey {
	k.Curve = nil
	return k
}

// Inherit completes a point that has no domain parameters with those of the
// key that certifies it. Any other key is returned as it is.
func (k PublicKey) Inherit(from PublicKey) PublicKey {
	if k.Scheme.EC() && k.Curve == nil {
		k.Curve = from.Curve
	}
	return k
}

// EC returns the point as a key of its curve. ErrKey if it is an RSA key, has
// no domain parameters or is not on the curve.
func (k PublicKey) EC() (*curve.Public, error) {
	switch {
	case !k.Scheme.EC():
		return nil, fmt.Errorf("%w: not an elliptic curve key", ErrKey)
	case k.Curve == nil:
		return nil, fmt.Errorf("%w: no domain parameters", ErrKey)
	}
	p, err := k.Curve.Public(k.Point)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return p, nil
}

// Verify checks a signature over a message: plain r || s for elliptic curves,
// a block as long as the modulus for RSA (PSS with any salt length). It
// returns ErrSignature, or ErrKey if the key cannot be used.
func (k PublicKey) Verify(message, signature []byte) error {
	digest := k.Scheme.Digest(message)
	if k.Scheme.RSA() {
		return k.verifyRSA(digest, signature)
	}
	p, err := k.EC()
	if err != nil {
		return err
	}
	s, err := k.Curve.ParsePlain(signature)
	if err != nil || !p.Verify(digest, s) {
		return ErrSignature
	}
	return nil
}

func (k PublicKey) verifyRSA(digest, signature []byte) error {
	n, e := new(big.Int).SetBytes(k.Modulus), new(big.Int).SetBytes(k.Exponent)
	if n.BitLen() > maxModulus || !e.IsInt64() {
		return fmt.Errorf("%w: RSA modulus or exponent too long", ErrKey)
	}
	pub := &rsa.PublicKey{N: n, E: int(e.Int64())}
	var err error
	if k.Scheme.PSS() {
		err = rsa.VerifyPSS(pub, k.Scheme.Hash(), digest, signature, nil)
	} else {
		err = rsa.VerifyPKCS1v15(pub, k.Scheme.Hash(), digest, signature)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rsa.ErrVerification):
		return ErrSignature
	}
	return fmt.Errorf("%w: %w", ErrKey, err)
}

// Bytes encodes the template as 7F49: 06 81 82 for RSA, 06 86 for a point
// without domain parameters, 06 81 82 83 84 85 86 87 for one with. ErrKey if
// the key is incomplete.
func (k PublicKey) Bytes() ([]byte, error) {
	if err := k.check(); err != nil {
		return nil, err
	}
	v := tlv.Append(nil, tagOID, k.Scheme.OID())
	switch {
	case k.Scheme.RSA():
		v = tlv.Append(v, tagModulus, k.Modulus)
		v = tlv.Append(v, tagExponent, k.Exponent)
	case k.Curve == nil:
		v = tlv.Append(v, tagPoint, k.Point)
	default:
		v = appendDomain(v, k.Curve)
		v = tlv.Append(v, tagPoint, k.Point)
		v = tlv.Append(v, tagCofactor, []byte{1})
	}
	return tlv.Append(nil, tagKey, v), nil
}

// ECTemplate is the 7F49 that asks a card for a key on a curve whose request is
// signed with a scheme: 06 81 82 83 84 85 87, the form the clients send.
func ECTemplate(s Scheme, on *curve.Curve) []byte {
	v := appendDomain(tlv.Append(nil, tagOID, s.OID()), on)
	return tlv.Append(nil, tagKey, tlv.Append(v, tagCofactor, []byte{1}))
}

// RSATemplate is the 7F49 that asks a card for an RSA key of a size in bits, with
// the exponent 65537: 06 82 02.
func RSATemplate(s Scheme, bits int) []byte {
	v := tlv.Append(nil, tagOID, s.OID())
	v = tlv.Append(v, tagExponent, []byte{1, 0, 1})
	return tlv.Append(nil, tagKey, tlv.Append(v, tagBits, []byte{byte(bits >> 8), byte(bits)}))
}

func appendDomain(v []byte, c *curve.Curve) []byte {
	d := c.Parameters()
	v = tlv.Append(v, tagP, d.P)
	v = tlv.Append(v, tagA, d.A)
	v = tlv.Append(v, tagB, d.B)
	v = tlv.Append(v, tagG, d.G)
	return tlv.Append(v, tagN, d.N)
}

// check reports whether the fields fit the scheme and each other.
func (k PublicKey) check() error {
	switch {
	case k.Scheme.RSA():
		if len(k.Modulus) == 0 || len(k.Exponent) == 0 || len(k.Point) != 0 || k.Curve != nil {
			return fmt.Errorf("%w: not an RSA key", ErrKey)
		}
	case k.Scheme.EC():
		if len(k.Point) == 0 || len(k.Modulus) != 0 || len(k.Exponent) != 0 {
			return fmt.Errorf("%w: not an elliptic curve key", ErrKey)
		}
		if k.Curve != nil {
			_, err := k.EC()
			return err
		}
	default:
		return ErrScheme
	}
	return nil
}

// parseKey reads the value of 7F49. The objects may come in any order; the
// size in bits (02) that some requests repeat is ignored (CVC-6).
func parseKey(value []byte) (PublicKey, error) {
	l, err := tlv.Parse(value)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: %w", ErrStructure, err)
	}
	parts := make(map[tlv.Tag][]byte, len(l))
	for _, n := range l {
		if _, twice := parts[n.Tag]; twice {
			return PublicKey{}, fmt.Errorf("%w: %s twice in a public key", ErrStructure, n.Tag)
		}
		parts[n.Tag] = n.Value
	}
	s, ok := SchemeByOID(parts[tagOID])
	if !ok {
		return PublicKey{}, ErrScheme
	}
	k := PublicKey{Scheme: s}
	if s.RSA() {
		k.Modulus, k.Exponent = parts[tagModulus], parts[tagExponent]
		delete(parts, tagBits)
		if len(parts) != 3 {
			return PublicKey{}, fmt.Errorf("%w: not an RSA key", ErrKey)
		}
		return k, k.check()
	}
	k.Point = parts[tagPoint]
	delete(parts, tagOID)
	delete(parts, tagPoint)
	if len(parts) > 0 {
		if k.Curve, err = parseDomain(parts); err != nil {
			return PublicKey{}, err
		}
	}
	return k, k.check()
}

// parseDomain finds the curve of explicit domain parameters, of which only the
// cofactor may be missing.
func parseDomain(parts map[tlv.Tag][]byte) (*curve.Curve, error) {
	if h, ok := parts[tagCofactor]; ok && (len(h) != 1 || h[0] != 1) {
		return nil, fmt.Errorf("%w: cofactor is not one", ErrKey)
	}
	delete(parts, tagCofactor)
	d := curve.Parameters{P: parts[tagP], A: parts[tagA], B: parts[tagB], G: parts[tagG], N: parts[tagN]}
	if len(parts) != 5 || len(d.P) == 0 || len(d.A) == 0 || len(d.B) == 0 || len(d.G) == 0 || len(d.N) == 0 {
		return nil, fmt.Errorf("%w: incomplete domain parameters", ErrKey)
	}
	c, err := curve.ByParameters(d)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return c, nil
}

// Signer signs a message with a scheme: plain r || s for elliptic curves, the
// PKCS #1 block for RSA. It hashes the message itself.
type Signer func(s Scheme, message []byte) ([]byte, error)

// SignEC is the Signer of an elliptic curve key. With rand nil the signatures
// are deterministic (RFC 6979).
func SignEC(k *curve.Private, rand io.Reader) Signer {
	return func(s Scheme, message []byte) ([]byte, error) {
		if !s.EC() {
			return nil, fmt.Errorf("%w: cannot sign with %s", ErrKey, s)
		}
		sig, err := k.Sign(rand, s.Digest(message))
		if err != nil {
			return nil, fmt.Errorf("sign: %w", err)
		}
		return sig.Plain(), nil
	}
}
