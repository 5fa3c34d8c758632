package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"hsmemu/applet/cvc"
)

// Request is a request for a certificate whose signatures hold and whose key is
// accepted. Only the functions of this package make one.
type Request struct {
	key crypto.PublicKey
	// Asked is what a PKCS #10 request says of its subject, for whoever approves it.
	// Nothing of it comes into a certificate by itself.
	Asked Subject
	// Attestation proves which device made and holds the key of a card's request; nil
	// for PKCS #10.
	Attestation *cvc.Attestation
}

// Key is the public key: an *rsa.PublicKey or an *ecdsa.PublicKey.
func (r Request) Key() crypto.PublicKey { return r.key }

// requestMax is the longest request that is read, in bytes.
const requestMax = 16 << 10

// The keys that are accepted: RSA from rsaMin to rsaMax bits, with an exponent of at
// least 65537, and the curves that crypto/x509 knows, from 256 bits on. Brainpool's
// are not among them.
const (
	rsaMin      = 2048
	rsaMax      = 4096
	minExponent = 65537
)

var curves = map[string]elliptic.Curve{
	"secp256r1": elliptic.P256(), "secp384r1": elliptic.P384(), "secp521r1": elliptic.P521(),
}

// signatures are the algorithms that a PKCS #10 request may be signed by.
var signatures = []x509.SignatureAlgorithm{
	x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
	x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512,
}

// schemes are those that a card may sign a request by: the ones without SHA-1, and
// without SHA-224.
var schemes = []cvc.Scheme{
	cvc.RSASHA256, cvc.RSASHA512, cvc.PSSSHA256, cvc.PSSSHA512, cvc.ECDSASHA256, cvc.ECDSASHA384, cvc.ECDSASHA512,
}

// accept judges a key. Error: ErrKey.
func accept(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < rsaMin || n > rsaMax {
			return fmt.Errorf("%w: RSA with %d bits, not %d to %d", ErrKey, n, rsaMin, rsaMax)
		}
		if k.E < minExponent || k.E&1 == 0 || k.N.Bit(0) == 0 {
			return fmt.Errorf("%w: RSA with exponent %d or an even modulus", ErrKey, k.E)
		}
		return nil
	case *ecdsa.PublicKey:
		for _, c := range curves {
			if k.Curve == c {
				return nil
			}
		}
		return fmt.Errorf("%w: curve %s", ErrKey, k.Params().Name)
	}
	return fmt.Errorf("%w: neither RSA nor EC", ErrKey)
}

// ParsePKCS10 reads a request in DER or PEM and verifies its signature. Errors:
// ErrSyntax, ErrKey, ErrAlgorithm, ErrSignature.
func ParsePKCS10(b []byte) (Request, error) {
	if len(b) > requestMax {
		return Request{}, fmt.Errorf("%w: more than %d bytes", ErrSyntax, requestMax)
	}
	if block, _ := pem.Decode(b); block != nil {
		if block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
			return Request{}, fmt.Errorf("%w: it is a %q", ErrSyntax, block.Type)
		}
		b = block.Bytes
	}
	r, err := x509.ParseCertificateRequest(b)
	if err != nil {
		if foreignCurve(b) {
			return Request{}, fmt.Errorf("%w: %w", ErrKey, err)
		}
		return Request{}, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	if err := accept(r.PublicKey); err != nil {
		return Request{}, err
	}
	if !slices.Contains(signatures, r.SignatureAlgorithm) {
		return Request{}, fmt.Errorf("%w: %v", ErrAlgorithm, r.SignatureAlgorithm)
	}
	if err := r.CheckSignature(); err != nil {
		return Request{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	asked := Subject{CommonName: r.Subject.CommonName, Hosts: r.DNSNames}
	for _, ip := range r.IPAddresses {
		asked.Hosts = append(asked.Hosts, ip.String())
	}
	if len(r.EmailAddresses) > 0 {
		asked.Email = r.EmailAddresses[0]
	}
	return Request{key: r.PublicKey, Asked: asked}, nil
}

// foreignCurve reports whether bytes are a request for an EC key: crypto/x509 refuses
// one on a curve that it does not know, and the reason is to be told from nonsense.
func foreignCurve(b []byte) bool {
	var r struct {
		Info struct {
			Version int
			Subject asn1.RawValue
			Key     struct {
				Algorithm pkix.AlgorithmIdentifier
				Key       asn1.BitString
			}
			Attributes asn1.RawValue `asn1:"optional,tag:0"`
		}
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	rest, err := asn1.Unmarshal(b, &r)
	return err == nil && len(rest) == 0 && r.Info.Key.Algorithm.Algorithm.Equal(asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1})
}

// ParseCard reads the request that a card made for a key (67), and the content of EF
// 2F02 of that card. It verifies the chain to one of the roots, that the request
// names the device, the device's signature and that of the key itself: then the key
// was made in that device and is there (CVC-33). Errors: ErrSyntax, ErrKey,
// ErrAlgorithm, ErrSignature, ErrDevice.
func ParseCard(request, device []byte, roots cvc.Roots) (Request, error) {
	if len(request) > requestMax || len(device) > requestMax {
		return Request{}, fmt.Errorf("%w: more than %d bytes", ErrSyntax, requestMax)
	}
	a, err := cvc.Attest(request, device, roots)
	if err != nil {
		return Request{}, fmt.Errorf("%w: %w", kindOf(err), err)
	}
	if s := a.Request.Request.Key.Scheme; !slices.Contains(schemes, s) {
		return Request{}, fmt.Errorf("%w: %v", ErrAlgorithm, s)
	}
	key, err := publicKey(a.Request.Request.Key)
	if err == nil {
		err = accept(key)
	}
	if err != nil {
		return Request{}, err
	}
	return Request{key: key, Attestation: &a}, nil
}

// kindOf is the error of this package for one of cvc's.
func kindOf(err error) error {
	for _, e := range []error{
		cvc.ErrOuterSignature, cvc.ErrInnerSignature, cvc.ErrDeviceSignature, cvc.ErrIssuerSignature, cvc.ErrRootSignature, cvc.ErrSignature,
	} {
		if errors.Is(err, e) {
			return ErrSignature
		}
	}
	for _, e := range []error{cvc.ErrUnknownRoot, cvc.ErrIssuerReference, cvc.ErrRole, cvc.ErrOuterReference} {
		if errors.Is(err, e) {
			return ErrDevice
		}
	}
	if errors.Is(err, cvc.ErrKey) {
		return ErrKey
	}
	return ErrSyntax
}

// publicKey is a card's key as the standard library has it. Error: ErrKey.
func publicKey(k cvc.PublicKey) (crypto.PublicKey, error) {
	if k.Scheme.RSA() {
		n, e := new(big.Int).SetBytes(k.Modulus), new(big.Int).SetBytes(k.Exponent)
		if e.BitLen() > 31 {
			return nil, fmt.Errorf("%w: RSA with an exponent of %d bits", ErrKey, e.BitLen())
		}
		return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
	}
	point, err := k.EC()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	on, ok := curves[point.Curve().Name()]
	if !ok {
		return nil, fmt.Errorf("%w: curve %s", ErrKey, point.Curve().Name())
	}
	key, err := ecdsa.ParseUncompressedPublicKey(on, point.Bytes())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return key, nil
}
