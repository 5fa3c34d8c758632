package keyfile

import (
	"bytes"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"

	"hsmemu/keystore"
	"hsmemu/keystore/curve"
)

// Object identifiers of keys (RFC 3279, RFC 5480).
var (
	oidRSA        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidEC         = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidPrimeField = asn1.ObjectIdentifier{1, 2, 840, 10045, 1, 1}
)

// parsePrivateKey reads the key of a PEM block: PKCS #8, PKCS #1 or SEC 1.
// Parameters are those of a block before it, which an old EC key may need.
func parsePrivateKey(block *pem.Block, parameters []byte) (keystore.Key, error) {
	if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
		return keystore.Key{}, ErrEncrypted
	}
	switch block.Type {
	case "PRIVATE KEY":
		return parsePKCS8(block.Bytes)
	case "RSA PRIVATE KEY":
		return parsePKCS1(block.Bytes)
	case "EC PRIVATE KEY":
		return parseSEC1(block.Bytes, parameters)
	}
	return keystore.Key{}, fmt.Errorf("%w: a block %q", ErrBlock, block.Type)
}

// unmarshal reads one DER object that fills its bytes.
func unmarshal(der []byte, v any) error {
	rest, err := asn1.Unmarshal(der, v)
	if err == nil && len(rest) > 0 {
		err = errors.New("something behind it")
	}
	if err != nil {
		return fmt.Errorf("private key: %w", err)
	}
	return nil
}

// parsePKCS8 reads a PrivateKeyInfo (RFC 5208 §5).
func parsePKCS8(der []byte) (keystore.Key, error) {
	var info struct {
		Version   int
		Algorithm struct {
			ID         asn1.ObjectIdentifier
			Parameters asn1.RawValue `asn1:"optional"`
		}
		Key        []byte
		Attributes asn1.RawValue `asn1:"optional,tag:0"`
	}
	if err := unmarshal(der, &info); err != nil {
		return keystore.Key{}, err
	}
	switch algorithm := info.Algorithm.ID; {
	case algorithm.Equal(oidRSA):
		return parsePKCS1(info.Key)
	case algorithm.Equal(oidEC):
		return parseSEC1(info.Key, info.Algorithm.Parameters.FullBytes)
	default:
		return keystore.Key{}, fmt.Errorf("the card has RSA and EC keys, not algorithm %s", algorithm)
	}
}

// parsePKCS1 reads an RSAPrivateKey (RFC 8017 A.1.2).
func parsePKCS1(der []byte) (keystore.Key, error) {
	var k struct {
		Version                     int
		N, E, D, P, Q, DP, DQ, QInv *big.Int
		More                        asn1.RawValue `asn1:"optional"`
	}
	if err := unmarshal(der, &k); err != nil {
		return keystore.Key{}, err
	}
	if k.Version != 0 {
		return keystore.Key{}, errors.New("an RSA key with more than two primes")
	}
	for _, n := range []*big.Int{k.N, k.E, k.D, k.P, k.Q, k.DP, k.DQ, k.QInv} {
		if n.Sign() <= 0 {
			return keystore.Key{}, errors.New("private key: a number that is not positive")
		}
	}
	key, err := keystore.NewRSA(keystore.RSAParts{
		N: k.N.Bytes(), E: k.E.Bytes(), D: k.D.Bytes(), P: k.P.Bytes(), Q: k.Q.Bytes(),
		DP: k.DP.Bytes(), DQ: k.DQ.Bytes(), QInverse: k.QInv.Bytes(),
	})
	if err != nil {
		return keystore.Key{}, fmt.Errorf("RSA key of %d bits: %w", k.N.BitLen(), err)
	}
	return key, nil
}

// parseSEC1 reads an ECPrivateKey (RFC 5915 §3). Its curve is named in it or,
// in PKCS #8, beside it.
func parseSEC1(der, parameters []byte) (keystore.Key, error) {
	var k struct {
		Version    int
		D          []byte
		Parameters asn1.RawValue  `asn1:"optional,explicit,tag:0"`
		Public     asn1.BitString `asn1:"optional,explicit,tag:1"`
	}
	if err := unmarshal(der, &k); err != nil {
		return keystore.Key{}, err
	}
	if len(k.Parameters.Bytes) > 0 {
		parameters = k.Parameters.Bytes
	}
	c, err := parseCurve(parameters)
	if err != nil {
		return keystore.Key{}, err
	}
	d, err := c.Private(k.D)
	if err != nil {
		return keystore.Key{}, fmt.Errorf("private key on %s: %w", c, err)
	}
	if k.Public.BitLength > 0 && !samePoint(k.Public.Bytes, d.Public().Bytes()) {
		return keystore.Key{}, fmt.Errorf("private key on %s: its public part belongs to another key", c)
	}
	return keystore.NewEC(d), nil
}

// parseCurve reads EC domain parameters: the name of a curve, or everything
// that makes one (RFC 3279 §2.3.5).
func parseCurve(der []byte) (*curve.Curve, error) {
	var outer asn1.RawValue
	if err := unmarshal(der, &outer); err != nil {
		return nil, fmt.Errorf("curve of the %w", err)
	}
	if outer.Tag == asn1.TagOID {
		if c, ok := curve.ByOID(outer.Bytes); ok {
			return c, nil
		}
		var name asn1.ObjectIdentifier
		_ = unmarshal(der, &name) // an unreadable name is an unknown one
		return nil, fmt.Errorf("the card does not have the curve %s", name)
	}
	var e struct {
		Version int
		Field   struct {
			Type asn1.ObjectIdentifier
			P    asn1.RawValue
		}
		Curve struct {
			A, B []byte
			Seed asn1.BitString `asn1:"optional"`
		}
		Base     []byte
		Order    *big.Int
		Cofactor *big.Int `asn1:"optional"`
	}
	if err := unmarshal(der, &e); err != nil {
		return nil, fmt.Errorf("curve of the %w", err)
	}
	if !e.Field.Type.Equal(oidPrimeField) {
		return nil, errors.New("the card has curves over prime fields only")
	}
	p := curve.Parameters{P: e.Field.P.Bytes, A: e.Curve.A, B: e.Curve.B, G: e.Base, N: e.Order.Bytes()}
	for _, c := range curve.All() {
		// A base point may be compressed.
		if known := c.Parameters(); bytes.Equal(known.N, bytes.TrimLeft(p.N, "\x00")) && samePoint(p.G, known.G) {
			p.G = known.G
		}
	}
	c, err := curve.ByParameters(p)
	if err != nil {
		return nil, errors.New("the card does not have the curve with these parameters")
	}
	return c, nil
}
