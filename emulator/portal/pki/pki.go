// Package pki certifies keys with X.509 certificates, as the portal's certification
// authorities do: that of the developer network, and those of trust centers. It has
// authorities, profiles, certificates and revocation lists as values; where they are
// stored and who may ask for them is its caller's business.
//
//	stored, err := pki.NewDevNet(rand.Reader, now) // once; then kept, it has a private key in it
//	issuer, err := stored.Open()
//	request, err := pki.ParsePKCS10(body)          // or pki.ParseCard for a card's own request
//	profile, err := pki.ProfileNamed("TLSClient")
//	certificate, err := issuer.Issue(rand.Reader, pki.Order{
//		Profile: profile, Request: request, Subject: pki.Subject{CommonName: "Alice"}, At: now,
//		CRL: []string{"http://localhost:8080/se/crl/1"},
//	})
//
// A subject's name comes from what the caller has approved and from the rule of the
// profile, never from the request. Who trusts the certificates is another matter: a
// card below the emulator's root proves nothing (see cvc.EmulatorIssuer).
package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"hsmemu/emulator/portal"
)

// Errors of this package. Those of other packages that they came of are wrapped
// beside them.
var (
	// ErrAuthority says that a stored Authority is none.
	ErrAuthority = errors.New("stored certification authority is damaged")
	// ErrTime says that an authority is asked for something outside its own validity.
	ErrTime = errors.New("the certification authority is not valid then")
	// ErrPathLength says that an authority may not certify other authorities.
	ErrPathLength = errors.New("the certification authority may not certify others")
	// ErrSyntax says that a request for a certificate is none.
	ErrSyntax = errors.New("certification request is malformed")
	// ErrSignature says that a request is not signed by its own key, or that a
	// signature of the device that vouches for it is wrong.
	ErrSignature = errors.New("certification request has a wrong signature")
	// ErrAlgorithm says that a request is signed by an algorithm that is not accepted.
	ErrAlgorithm = errors.New("signature algorithm is not accepted")
	// ErrKey says that a public key is too weak, or of a kind that is not accepted.
	ErrKey = errors.New("public key is not accepted")
	// ErrDevice says that no device below an accepted root vouches for a key.
	ErrDevice = errors.New("no accepted device vouches for the key")
	// ErrName says that a name is missing or cannot be certified.
	ErrName = errors.New("name cannot be certified")
	// ErrProfile says that there is no such profile.
	ErrProfile = errors.New("unknown certificate profile")
	// ErrRevocation says that an entry of a revocation list is wrong.
	ErrRevocation = errors.New("revocation list cannot be made")
)

// Kind is the kind of an authority's key.
type Kind int

// The kinds of keys that are made here.
const (
	RSA2048 Kind = iota
	P256
)

// generate makes a key. Randomness is the system's: the standard library takes no
// other.
func (k Kind) generate() (crypto.Signer, error) {
	switch k {
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	return nil, fmt.Errorf("%w: kind %d", ErrKey, int(k))
}

// Authority is a certification authority as it is stored.
type Authority struct {
	// Certificate is its own, in DER.
	Certificate []byte `json:"certificate"`
	// Chain are the certificates above it, the next one first and the root last;
	// none for a root.
	Chain [][]byte `json:"chain,omitempty"`
	// Key is the private key, PKCS #8 in DER.
	Key portal.Secret `json:"key"`
}

// DevNet is the subject of the emulated developer network's authority. That of the
// vendor is C=DE, O=CardContact, CN=CardContact Developer Network CA 1.
const DevNet = "C=XX, O=UTEM Emulator, CN=Emulated Developer Network CA 1"

// Root is what a self-signed authority is made of.
type Root struct {
	// Subject is its distinguished name, such as "C=UT, O=Acme, CN=Acme CA 1".
	Subject string
	Kind    Kind
	// PathLength is how many authorities may be between it and an end entity.
	PathLength int
	// At is when it begins.
	At time.Time
}

// rootYears is how long a root is valid, as the vendor's demonstration authority is.
const rootYears = 10

// NewDevNet makes the authority of the emulated developer network: a root with an
// RSA key of 2048 bits, path length 1, valid for 10 years.
func NewDevNet(rand io.Reader, at time.Time) (Authority, error) {
	return NewRoot(rand, Root{Subject: DevNet, Kind: RSA2048, PathLength: 1, At: at})
}

// NewRoot makes a self-signed authority, valid for 10 years. Serial numbers come from
// rand. Errors: ErrName, ErrKey, and those of rand.
func NewRoot(rand io.Reader, r Root) (Authority, error) {
	name, err := ParseName(r.Subject)
	if err != nil {
		return Authority{}, fmt.Errorf("make a root: %w", err)
	}
	template, err := authorityTemplate(rand, name, r.At, r.At.AddDate(rootYears, 0, 0), r.PathLength)
	if err != nil {
		return Authority{}, fmt.Errorf("make a root: %w", err)
	}
	key, err := r.Kind.generate()
	if err != nil {
		return Authority{}, fmt.Errorf("make a root: %w", err)
	}
	if template.SubjectKeyId, err = keyID(key.Public()); err != nil {
		return Authority{}, fmt.Errorf("make a root: %w", err)
	}
	template.AuthorityKeyId = template.SubjectKeyId
	der, err := x509.CreateCertificate(rand, template, template, key.Public(), key)
	if err != nil {
		return Authority{}, fmt.Errorf("make a root: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Authority{}, err
	}
	return Authority{Certificate: der, Key: secret}, nil
}

// authorityTemplate is the certificate of an authority before it is signed.
func authorityTemplate(rand io.Reader, name Name, from, to time.Time, pathLength int) (*x509.Certificate, error) {
	subject, err := name.der()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial(rand)
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial, RawSubject: subject, NotBefore: from.UTC().Truncate(time.Second), NotAfter: to.UTC().Truncate(time.Second),
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: pathLength, MaxPathLenZero: pathLength == 0,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, nil
}

// newSerial draws a serial number of 8 bytes whose top bit is clear, as the vendor's
// scripts do.
func newSerial(rand io.Reader) (*big.Int, error) {
	var b [8]byte
	for {
		if _, err := io.ReadFull(rand, b[:]); err != nil {
			return nil, fmt.Errorf("draw a serial number: %w", err)
		}
		b[0] &= 0x7F
		if n := new(big.Int).SetBytes(b[:]); n.Sign() > 0 {
			return n, nil
		}
	}
}

// keyID is the SHA-1 of a public key without its header (RFC 5280 §4.2.1.2, method 1).
func keyID(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	id := sha1.Sum(info.Key.RightAlign())
	return id[:], nil
}

// Issuer is an authority that is ready to sign. Several goroutines may use it if
// they may use its Signer.
type Issuer struct {
	// Certificate is the authority's own.
	Certificate *x509.Certificate
	// Chain are the certificates above it, the next one first.
	Chain []*x509.Certificate
	// Signer has its key, in memory or in an HSM.
	Signer crypto.Signer
}

// Open reads a stored authority, and checks that key and certificates belong
// together. Error: ErrAuthority.
func (a Authority) Open() (*Issuer, error) {
	i := &Issuer{}
	var err error
	if i.Certificate, err = x509.ParseCertificate(a.Certificate); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAuthority, err)
	}
	above := i.Certificate
	for _, der := range a.Chain {
		c, err := x509.ParseCertificate(der)
		if err == nil {
			err = above.CheckSignatureFrom(c)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrAuthority, err)
		}
		i.Chain, above = append(i.Chain, c), c
	}
	if err := above.CheckSignatureFrom(above); err != nil {
		return nil, fmt.Errorf("%w: its chain ends below a root: %w", ErrAuthority, err)
	}
	// An error of the parser is not passed on: it may tell of the key.
	key, err := x509.ParsePKCS8PrivateKey(a.Key)
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, fmt.Errorf("%w: no private key", ErrAuthority)
	}
	if !sameKey(signer.Public(), i.Certificate.PublicKey) {
		return nil, fmt.Errorf("%w: the key is another's", ErrAuthority)
	}
	i.Signer = signer
	return i, nil
}

func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// Bundle are the authority's certificate and those above it, each in DER: what
// stands behind a certificate that it issues.
func (i *Issuer) Bundle() [][]byte {
	all := [][]byte{bytes.Clone(i.Certificate.Raw)}
	for _, c := range i.Chain {
		all = append(all, bytes.Clone(c.Raw))
	}
	return all
}
