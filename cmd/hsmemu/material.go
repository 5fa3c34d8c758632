package main

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"strings"

	"software.sslmate.com/src/go-pkcs12"

	"hsmemu/keystore"
)

// material is what a file brings to a card: a private key, its certificate if
// there is one, and those of its issuers.
type material struct {
	key   keystore.Key
	own   *certificate
	chain []certificate
}

// certificate is the little of an X.509 certificate that matters to a card.
// It is read here and not by crypto/x509, which refuses certificates with keys
// on most of the card's curves.
type certificate struct {
	raw     []byte
	name    string // common name, or else the whole subject
	subject []byte // public key information, DER
	public  []byte // content of the public key's bit string
}

// readMaterial reads a PEM or PKCS #12 file. The password is asked for only if
// there is something to open.
func readMaterial(path string, password func() ([]byte, error)) (material, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return material{}, fmt.Errorf("read the key: %w", err)
	}
	defer clear(data)
	var m material
	if bytes.Contains(data, []byte("-----BEGIN ")) {
		m, err = readPEM(data)
	} else {
		m, err = readPKCS12(data, path, password)
	}
	if err != nil {
		return material{}, fmt.Errorf("read the key in %s: %w", path, err)
	}
	return m, nil
}

// readPEM takes the private key and the certificates of a PEM file and passes
// over everything else.
func readPEM(data []byte) (material, error) {
	var keys []keystore.Key
	var found []certificate
	var parameters []byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch kind := block.Type; {
		case kind == "EC PARAMETERS":
			parameters = block.Bytes
		case kind == "CERTIFICATE" || kind == "X509 CERTIFICATE" || kind == "TRUSTED CERTIFICATE":
			c, err := parseCertificate(block.Bytes)
			if err != nil {
				return material{}, err
			}
			found = append(found, c)
		case strings.HasSuffix(kind, "PRIVATE KEY"):
			k, err := parsePrivateKey(block, parameters)
			if err != nil {
				return material{}, err
			}
			keys = append(keys, k)
		}
	}
	if len(keys) != 1 {
		return material{}, fmt.Errorf("%d private keys instead of one", len(keys))
	}
	return newMaterial(keys[0], found)
}

// readPKCS12 opens a PKCS #12 file.
func readPKCS12(data []byte, path string, password func() ([]byte, error)) (material, error) {
	var outer asn1.RawValue
	if rest, err := asn1.Unmarshal(data, &outer); err != nil || len(rest) > 0 || outer.Tag != asn1.TagSequence {
		return material{}, errors.New("neither PEM nor PKCS #12")
	}
	secret, err := password()
	if err != nil {
		return material{}, err
	}
	defer clear(secret)
	private, own, chain, err := pkcs12.DecodeChain(data, string(secret))
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword) || errors.Is(err, pkcs12.ErrDecryption):
		return material{}, errors.New("wrong password")
	case err != nil:
		// The library cannot do brainpool curves and a few more, see
		// docs/adr/0008; OpenSSL turns them into what readPEM can.
		return material{}, hinted{err, "openssl pkcs12 -in " + path + " -nodes -out key.pem, then import key.pem"}
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return material{}, err
	}
	defer clear(der)
	k, err := parsePKCS8(der)
	if err != nil {
		return material{}, err
	}
	var found []certificate
	for _, x := range append([]*x509.Certificate{own}, chain...) {
		c, err := parseCertificate(x.Raw)
		if err != nil {
			return material{}, err
		}
		found = append(found, c)
	}
	return newMaterial(k, found)
}

// newMaterial sorts the certificates: the one with the key's public part is
// its own, the others are of its issuers.
func newMaterial(k keystore.Key, found []certificate) (material, error) {
	m := material{key: k}
	for i, c := range found {
		switch {
		case !c.belongsTo(k):
			m.chain = append(m.chain, c)
		case m.own != nil:
			return material{}, errors.New("two certificates belong to its key")
		default:
			m.own = &found[i]
		}
	}
	if len(found) > 0 && m.own == nil {
		return material{}, errors.New("no certificate in it belongs to its key")
	}
	return m, nil
}

func (c certificate) belongsTo(k keystore.Key) bool {
	switch k.Kind() {
	case keystore.EC:
		return samePoint(c.public, k.ECPublic().Bytes())
	case keystore.RSA:
		var public struct{ N, E *big.Int }
		if _, err := asn1.Unmarshal(c.public, &public); err != nil {
			return false
		}
		n, e := k.RSAPublic()
		return bytes.Equal(public.N.Bytes(), n) && bytes.Equal(public.E.Bytes(), e)
	}
	return false
}

// samePoint compares a point with one in the form 04 || x || y. The first one
// may be compressed (SEC 1 §2.3.3).
func samePoint(p, full []byte) bool {
	half := (len(full) + 1) / 2
	if len(p) == half && (p[0] == 2 || p[0] == 3) {
		return p[0]&1 == full[len(full)-1]&1 && bytes.Equal(p[1:], full[1:half])
	}
	return bytes.Equal(p, full)
}

var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// parseCertificate reads what a card needs of a certificate (RFC 5280 §4.1).
func parseCertificate(der []byte) (certificate, error) {
	var c struct {
		TBS struct {
			Version   int `asn1:"optional,explicit,tag:0"`
			Serial    *big.Int
			Algorithm asn1.RawValue
			Issuer    asn1.RawValue
			Validity  asn1.RawValue
			Subject   pkix.RDNSequence
			Public    struct {
				Raw       asn1.RawContent
				Algorithm asn1.RawValue
				Key       asn1.BitString
			}
		}
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	// Behind a trusted certificate there is what it is trusted for.
	rest, err := asn1.Unmarshal(der, &c)
	if err != nil {
		return certificate{}, fmt.Errorf("certificate: %w", err)
	}
	found := certificate{
		raw: der[:len(der)-len(rest)], name: c.TBS.Subject.String(),
		subject: c.TBS.Public.Raw, public: c.TBS.Public.Key.Bytes,
	}
	for _, set := range c.TBS.Subject {
		for _, attribute := range set {
			if name, ok := attribute.Value.(string); ok && attribute.Type.Equal(oidCommonName) {
				found.name = name
			}
		}
	}
	return found, nil
}
