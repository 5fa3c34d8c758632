package cvc

import (
	"fmt"
	"time"

	"hsmemu/applet/tlv"
)

// CertificateBody is what a certificate states.
type CertificateBody struct {
	// CAR names the issuer, CHR the holder.
	CAR Name
	Key PublicKey
	CHR Name
	// Authorization is the role of the holder.
	Authorization Authorization
	// Effective and Expires are the first and the last day of validity, at
	// midnight UTC when read.
	Effective, Expires time.Time
	// Extensions come last and may be absent.
	Extensions Extensions
}

// Certificate is a card verifiable certificate 7F21.
type Certificate struct {
	CertificateBody
	// Raw is the whole object, Body the part that is signed (7F4E).
	Raw, Body []byte
	Signature []byte
}

// Authorization is the certificate holder authorization template 7F4C: a kind
// of role and its rights.
type Authorization struct {
	// OID is the content of an object identifier.
	OID string
	// Rights is the discretionary data; the top two bits of the first byte
	// are the role.
	Rights string
}

// roleOID is id-SC-HSM, 1.3.6.1.4.1.24991.3.1.1 (CVC-10).
const roleOID = "\x2B\x06\x01\x04\x01\x81\xC3\x1F\x03\x01\x01"

// Role is a place in the chain of a SmartCard-HSM (CVC-10).
type Role byte

// The three roles, and the word for anything else.
const (
	RoleDevice  Role = 0x00
	RoleIssuer  Role = 0x80
	RoleRoot    Role = 0xC0
	RoleForeign Role = 0xFF
)

const roleBits = 0xC0

// Authorize is the template that gives a role in the PKI of SmartCard-HSMs.
func Authorize(r Role) Authorization {
	return Authorization{OID: roleOID, Rights: string([]byte{byte(r) & roleBits})}
}

// Role returns the role that the template gives: RoleForeign if it belongs to
// another PKI or is none of the three.
func (a Authorization) Role() Role {
	if a.OID != roleOID || len(a.Rights) == 0 {
		return RoleForeign
	}
	switch r := Role(a.Rights[0] & roleBits); r {
	case RoleDevice, RoleIssuer, RoleRoot:
		return r
	}
	return RoleForeign
}

// String says the role in a word.
func (r Role) String() string {
	switch r {
	case RoleDevice:
		return "device"
	case RoleIssuer:
		return "device issuer"
	case RoleRoot:
		return "root"
	}
	return "foreign role"
}

func parseAuthorization(value []byte) (Authorization, error) {
	l, err := tlv.Parse(value)
	if err != nil {
		return Authorization{}, fmt.Errorf("%w: %w", ErrStructure, err)
	}
	s := sequence{l}
	oid, err := s.mandatory(tagOID)
	if err != nil {
		return Authorization{}, err
	}
	rights, err := s.mandatory(tagDiscretionary)
	if err != nil {
		return Authorization{}, err
	}
	return Authorization{OID: string(oid), Rights: string(rights)}, s.end()
}

// Sign makes the certificate; s is the scheme of the issuer's key and sign
// uses it. Both names must be valid: a root with any other name is not found
// by the programs that look for it.
func (b CertificateBody) Sign(s Scheme, sign Signer) (Certificate, error) {
	if !b.CAR.Valid() || !b.CHR.Valid() {
		return Certificate{}, fmt.Errorf("%w: issuer %s, holder %s", ErrName, b.CAR, b.CHR)
	}
	v, err := appendHead(nil, b.CAR, b.Key, b.CHR)
	if err != nil {
		return Certificate{}, err
	}
	v = tlv.Append(v, tagAuthorization,
		tlv.Append(nil, tagOID, []byte(b.Authorization.OID)),
		tlv.Append(nil, tagDiscretionary, []byte(b.Authorization.Rights)))
	if v, err = appendDate(v, tagEffective, b.Effective); err != nil {
		return Certificate{}, err
	}
	if v, err = appendDate(v, tagExpires, b.Expires); err != nil {
		return Certificate{}, err
	}
	b.Effective, b.Expires = midnight(b.Effective), midnight(b.Expires)
	c := Certificate{CertificateBody: b, Body: tlv.Append(nil, tagBody, appendExtensions(v, b.Extensions))}
	if c.Signature, err = sign(s, c.Body); err != nil {
		return Certificate{}, err
	}
	c.Raw = tlv.Append(nil, tagCertificate, c.Body, tlv.Append(nil, tagSignature, c.Signature))
	return c, nil
}

// ParseCertificate reads a certificate with or without its 7F21 header. Bytes
// behind the object are ignored if the header is there. The result shares no
// memory with b. A request is refused with ErrStructure.
func ParseCertificate(b []byte) (Certificate, error) {
	c, raw, err := open(b, tagCertificate, tagBody, tagSignature)
	if err != nil {
		return Certificate{}, err
	}
	l, err := c[0].Children()
	if err != nil {
		return Certificate{}, fmt.Errorf("%w: %w", ErrStructure, err)
	}
	s := sequence{l}
	r := Certificate{Raw: raw, Body: c[0].Raw, Signature: c[1].Value}
	r.CertificateBody, err = s.certificate()
	return r, err
}

func (s *sequence) certificate() (b CertificateBody, err error) {
	h, err := s.head()
	if err != nil {
		return b, err
	}
	if h.CAR == "" {
		return b, fmt.Errorf("%w: no issuer", ErrName)
	}
	b.CAR, b.Key, b.CHR = h.CAR, h.Key, h.CHR
	a, err := s.mandatory(tagAuthorization)
	if err != nil {
		return b, err
	}
	if b.Authorization, err = parseAuthorization(a); err != nil {
		return b, err
	}
	from, err := s.mandatory(tagEffective)
	if err != nil {
		return b, err
	}
	if b.Effective, err = parseDate(from); err != nil {
		return b, err
	}
	to, err := s.mandatory(tagExpires)
	if err != nil {
		return b, err
	}
	if b.Expires, err = parseDate(to); err != nil {
		return b, err
	}
	if b.Extensions, err = s.extensions(); err != nil {
		return b, err
	}
	return b, s.end()
}

// Verify checks that the certificate is signed by the issuer's key, with the
// scheme of that key: ErrSignature, or ErrKey if the key cannot be used.
func (c Certificate) Verify(issuer PublicKey) error {
	return issuer.Verify(c.Body, c.Signature)
}

// ValidOn reports whether the calendar day of t lies between the effective and
// the expiration date, both included.
func (c Certificate) ValidOn(t time.Time) bool {
	day := midnight(t)
	return !day.Before(c.Effective) && !day.After(c.Expires)
}
