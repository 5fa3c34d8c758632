// Package keyfile reads private keys and the certificates that belong to them
// from the files in which people keep them: PEM (RFC 7468, with keys in PKCS #8,
// PKCS #1 or SEC 1) and PKCS #12 (RFC 7292).
//
// It reads bytes and not files, and asks for a password only where there is
// something to open with it. It does not judge certificates.
//
//	m, err := keyfile.Read(data, func() ([]byte, error) { return password, nil })
package keyfile

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"math/big"
	"path/filepath"
	"strings"

	"software.sslmate.com/src/go-pkcs12"

	"hsmemu/keystore"
)

// Errors that a caller may want to give advice on. Others say in words what is
// wrong with the file.
var (
	// ErrFormat says that the bytes are neither PEM nor PKCS #12.
	ErrFormat = errors.New("neither PEM nor PKCS #12")
	// ErrPassword says that a PKCS #12 file does not open with the password.
	ErrPassword = errors.New("wrong password")
	// ErrEncrypted says that a private key in PEM is encrypted.
	ErrEncrypted = errors.New("the private key is encrypted")
	// ErrBlock says that a PEM block holds a private key in none of the three
	// forms.
	ErrBlock = errors.New("a form of private key that cards do not have")
	// ErrPKCS12 says that the file holds what the PKCS #12 library cannot read:
	// keys on curves that crypto/x509 does not know, and a few old ciphers.
	ErrPKCS12 = errors.New("this PKCS #12 file cannot be read")
)

// Material is what a file brings to a card.
type Material struct {
	Key keystore.Key
	// Own is the key's certificate, nil if the file has none.
	Own *Certificate
	// Issuers are all the other certificates, in the file's order.
	Issuers []Certificate
}

// Label is what the key is called: by its certificate, or else as the file is,
// whose name may have an ending.
func (m Material) Label(file string) string {
	if m.Own != nil && m.Own.Name != "" {
		return m.Own.Name
	}
	base := filepath.Base(file)
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// Certificate is the little of an X.509 certificate that matters to a card.
// It is read here and not by crypto/x509, which refuses certificates with keys
// on most of the card's curves.
type Certificate struct {
	// DER is the whole certificate.
	DER []byte
	// Name is the common name of the subject, or else the whole subject.
	Name string
	// PublicKeyInfo is the SubjectPublicKeyInfo, DER.
	PublicKeyInfo []byte
	// public is the content of the public key's bit string.
	public []byte
}

// Read reads a PEM or PKCS #12 file. The password is asked for only if there
// is a PKCS #12 file to open, and wiped. Errors: those of this package, and
// whatever else is wrong in words.
func Read(data []byte, password func() ([]byte, error)) (Material, error) {
	if bytes.Contains(data, []byte("-----BEGIN ")) {
		return readPEM(data)
	}
	return readPKCS12(data, password)
}

// readPEM takes the private key and the certificates of a PEM file and passes
// over everything else.
func readPEM(data []byte) (Material, error) {
	var keys []keystore.Key
	var found []Certificate
	var parameters []byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch kind := block.Type; {
		case kind == "EC PARAMETERS":
			parameters = block.Bytes
		case kind == "CERTIFICATE" || kind == "X509 CERTIFICATE" || kind == "TRUSTED CERTIFICATE":
			c, err := parseCertificate(block.Bytes)
			if err != nil {
				return Material{}, err
			}
			found = append(found, c)
		case strings.HasSuffix(kind, "PRIVATE KEY"):
			k, err := parsePrivateKey(block, parameters)
			if err != nil {
				return Material{}, err
			}
			keys = append(keys, k)
		}
	}
	if len(keys) != 1 {
		return Material{}, fmt.Errorf("%d private keys instead of one", len(keys))
	}
	return newMaterial(keys[0], found)
}

// readPKCS12 opens a PKCS #12 file.
func readPKCS12(data []byte, password func() ([]byte, error)) (Material, error) {
	var outer asn1.RawValue
	if rest, err := asn1.Unmarshal(data, &outer); err != nil || len(rest) > 0 || outer.Tag != asn1.TagSequence {
		return Material{}, ErrFormat
	}
	if n := iterations(data, 0); n > maxIterations {
		return Material{}, fmt.Errorf("%w: %d iterations, more than %d", ErrPKCS12, n, maxIterations)
	}
	secret, err := password()
	if err != nil {
		return Material{}, err
	}
	defer clear(secret)
	private, own, chain, err := pkcs12.DecodeChain(data, string(secret))
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword) || errors.Is(err, pkcs12.ErrDecryption):
		return Material{}, ErrPassword
	case err != nil && strings.HasSuffix(err.Error(), "certificate missing"): // as the library says it, which has no error of its own for it
		return Material{}, fmt.Errorf("%w: a key without a certificate is read in PEM alone", ErrPKCS12)
	case err != nil:
		return Material{}, fmt.Errorf("%w: %w", ErrPKCS12, err) // see docs/adr/0008
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return Material{}, err
	}
	defer clear(der)
	k, err := parsePKCS8(der)
	if err != nil {
		return Material{}, err
	}
	var found []Certificate
	for _, x := range append([]*x509.Certificate{own}, chain...) {
		c, err := parseCertificate(x.Raw)
		if err != nil {
			return Material{}, err
		}
		found = append(found, c)
	}
	return newMaterial(k, found)
}

// maxIterations is more than any program asks for, and takes some seconds.
const maxIterations = 10_000_000

// iterations is the largest number of iterations of a key derivation that can be
// seen in a PKCS #12 file (RFC 7292 §4, RFC 8018 A.2): an INTEGER behind the OCTET
// STRING of a salt. Without a limit, a file of a thousand bytes keeps a processor
// busy for hours.
func iterations(der []byte, depth int) (most int64) {
	salted := false
	for len(der) > 0 && depth < 32 {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(der, &v)
		if err != nil {
			return most
		}
		der = rest
		isString := v.Class == asn1.ClassUniversal && v.Tag == asn1.TagOctetString
		switch {
		case salted && v.Class == asn1.ClassUniversal && v.Tag == asn1.TagInteger:
			n := new(big.Int).SetBytes(v.Bytes)
			if !n.IsInt64() {
				return math.MaxInt64
			}
			most = max(most, n.Int64())
		case v.IsCompound || isString:
			most = max(most, iterations(v.Bytes, depth+1))
		}
		salted = isString
	}
	return most
}

// newMaterial sorts the certificates: the one with the key's public part is
// its own, the others are of its issuers.
func newMaterial(k keystore.Key, found []Certificate) (Material, error) {
	m := Material{Key: k}
	for i, c := range found {
		switch {
		case !c.belongsTo(k):
			m.Issuers = append(m.Issuers, c)
		case m.Own != nil:
			return Material{}, errors.New("two certificates belong to its key")
		default:
			m.Own = &found[i]
		}
	}
	if len(found) > 0 && m.Own == nil {
		return Material{}, errors.New("no certificate in it belongs to its key")
	}
	return m, nil
}

func (c Certificate) belongsTo(k keystore.Key) bool {
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
func parseCertificate(der []byte) (Certificate, error) {
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
		return Certificate{}, fmt.Errorf("certificate: %w", err)
	}
	found := Certificate{
		DER: der[:len(der)-len(rest)], Name: c.TBS.Subject.String(),
		PublicKeyInfo: c.TBS.Public.Raw, public: c.TBS.Public.Key.Bytes,
	}
	for _, set := range c.TBS.Subject {
		for _, attribute := range set {
			if name, ok := attribute.Value.(string); ok && attribute.Type.Equal(oidCommonName) {
				found.Name = name
			}
		}
	}
	return found, nil
}
