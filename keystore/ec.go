package keystore

import (
	"fmt"
	"io"

	"hsmemu/keystore/curve"
)

// ecKey is an EC private key. The scalar is enough to keep: the public point
// follows from it, but costs a scalar multiplication, which is why a key that
// comes from a file stays unprepared until somebody asks.
type ecKey struct {
	curve *curve.Curve
	d     []byte         // big-endian, as long as the order, 1 <= d < n
	ready *curve.Private // nil until prepared
}

// NewEC makes a Key of a private EC key: without list, without counter, in
// domain 0.
func NewEC(d *curve.Private) Key {
	return Key{ec: &ecKey{curve: d.Curve(), d: d.Bytes(), ready: d}}
}

// GenerateEC makes a new EC key from the randomness of rand. It returns
// ErrRandom if rand is nil or fails.
func GenerateEC(rand io.Reader, c *curve.Curve) (Key, error) {
	if rand == nil {
		return Key{}, ErrRandom
	}
	d, err := c.Generate(rand)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrRandom, err)
	}
	return NewEC(d), nil
}

func (k *ecKey) private() *curve.Private {
	if k.ready != nil {
		return k.ready
	}
	d, err := k.curve.Private(k.d)
	if err != nil {
		panic("keystore: a scalar that was checked is out of range")
	}
	return d
}

func (k *ecKey) prepared() *ecKey {
	if k.ready != nil {
		return k
	}
	return &ecKey{curve: k.curve, d: k.d, ready: k.private()}
}

func (k *ecKey) sign(rand io.Reader, a Algorithm, data []byte) ([]byte, error) {
	if a != ECDSA {
		h, ok := a.messageHash()
		if !ok || a&0xF0 != ECDSA {
			return nil, ErrAlgorithm
		}
		data = digest(h, data)
	}
	s, err := k.private().Sign(rand, data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRandom, err)
	}
	return s.DER(), nil
}

func (k *ecKey) peer(point []byte) (*curve.Public, error) {
	if len(point) != 1+2*k.curve.FieldLen() {
		return nil, ErrLength
	}
	q, err := k.curve.Public(point)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrData, err)
	}
	return q, nil
}
