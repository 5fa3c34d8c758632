package keystore

import (
	"fmt"
	"io"

	"hsmemu/keystore/curve"
)

// NewEC makes a Key of a private EC key: without list, without counter, in
// domain 0.
func NewEC(d *curve.Private) Key { return Key{ec: veiled(d)} }

// GenerateEC makes a new EC key from the randomness of rand. It returns
// ErrRandom if rand is nil or fails.
func GenerateEC(rand io.Reader, c *curve.Curve) (Key, error) {
	d, err := c.Generate(rand)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrRandom, err)
	}
	return NewEC(d), nil
}

func signEC(rand io.Reader, k *curve.Private, a Algorithm, data []byte) ([]byte, error) {
	if a != ECDSA {
		h, ok := a.messageHash()
		if !ok || a&0xF0 != ECDSA {
			return nil, ErrAlgorithm
		}
		data = digest(h, data)
	}
	s, err := k.Sign(rand, data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRandom, err)
	}
	return s.DER(), nil
}

// peerOf reads the point a peer has sent for an agreement with k.
func peerOf(k *curve.Private, point []byte) (*curve.Public, error) {
	if len(point) != 1+2*k.Curve().FieldLen() {
		return nil, ErrLength
	}
	q, err := k.Curve().Public(point)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrData, err)
	}
	return q, nil
}
