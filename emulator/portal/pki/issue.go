package pki

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"slices"
	"time"
)

// Order is what a certificate is issued by.
type Order struct {
	Profile Profile
	Request Request
	Subject Subject
	// At is when it begins.
	At time.Time
	// CRL are the URLs of the issuer's revocation list; none leaves the extension out.
	CRL []string
}

// certificate is an order whose name and request are settled.
type certificate struct {
	profile Profile
	name    Name
	subject Subject
	key     crypto.PublicKey
	at      time.Time
	crl     []string
}

// Issue certifies a key. The certificate has a random serial number of 63 bits, is
// valid for the days of the profile but not beyond its issuer, and names neither
// more nor less than the profile's rule says. Errors: ErrSyntax for a Request that no
// function of this package has made, ErrName, ErrKey, ErrTime, ErrPathLength, and
// those of rand and of the signer.
func (i *Issuer) Issue(rand io.Reader, o Order) (*x509.Certificate, error) {
	if o.Request.key == nil {
		return nil, fmt.Errorf("issue a certificate: %w: no key", ErrSyntax)
	}
	if sameKey(o.Request.key, i.Certificate.PublicKey) {
		return nil, fmt.Errorf("issue a certificate: %w: it is the issuer's own", ErrKey)
	}
	name, err := named(o.Profile.Rule, i.Certificate.Subject, o.Subject)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	c, err := i.certify(rand, certificate{o.Profile, name, o.Subject, o.Request.key, o.At, o.CRL})
	if err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	return c, nil
}

// certify makes and signs a certificate.
func (i *Issuer) certify(rand io.Reader, o certificate) (*x509.Certificate, error) {
	if o.at.Before(i.Certificate.NotBefore) || o.at.After(i.Certificate.NotAfter) {
		return nil, ErrTime
	}
	if !i.Certificate.IsCA || o.profile.Authority && i.Certificate.MaxPathLenZero {
		return nil, ErrPathLength
	}
	end := o.at.AddDate(0, 0, o.profile.Days)
	if end.After(i.Certificate.NotAfter) {
		end = i.Certificate.NotAfter
	}
	template, err := authorityTemplate(rand, o.name, o.at, end, 0)
	if err != nil {
		return nil, err
	}
	if !o.profile.Authority {
		template.IsCA, template.MaxPathLenZero = false, false
	}
	template.KeyUsage, template.ExtKeyUsage, template.CRLDistributionPoints = o.profile.Usage, o.profile.Extended, o.crl
	if template.SubjectKeyId, err = keyID(o.key); err != nil {
		return nil, err
	}
	if err := alternative(template, o.profile.Alternative, o.subject); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand, template, i.Certificate, o.key, i.Signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// alternative fills in the subjectAltName.
func alternative(c *x509.Certificate, a Alternative, s Subject) error {
	switch a {
	case NoAlternative:
	case ByEmail:
		if err := CheckEmail(s.Email); err != nil {
			return err
		}
		c.EmailAddresses = []string{s.Email}
	case ByHost:
		list := s.Hosts
		if len(list) == 0 {
			list = []string{s.CommonName}
		}
		dns, ips, err := hosts(list)
		if err != nil {
			return err
		}
		c.DNSNames = dns
		for _, ip := range ips {
			c.IPAddresses = append(c.IPAddresses, net.IP(ip.AsSlice()))
		}
	}
	return nil
}

// Reason is why a certificate was revoked (RFC 5280 §5.3.1).
type Reason int

// The reasons. 7 is not used, and 8 is for lists of changes.
const (
	Unspecified          Reason = 0
	KeyCompromise        Reason = 1
	CACompromise         Reason = 2
	AffiliationChanged   Reason = 3
	Superseded           Reason = 4
	CessationOfOperation Reason = 5
	CertificateHold      Reason = 6
	PrivilegeWithdrawn   Reason = 9
	AACompromise         Reason = 10
)

var reasons = map[Reason]string{
	Unspecified: "unspecified", KeyCompromise: "keyCompromise", CACompromise: "cACompromise", AffiliationChanged: "affiliationChanged",
	Superseded: "superseded", CessationOfOperation: "cessationOfOperation", CertificateHold: "certificateHold",
	PrivilegeWithdrawn: "privilegeWithdrawn", AACompromise: "aACompromise",
}

// Reasons are those that there are, in the order of their numbers.
func Reasons() []Reason { return slices.Sorted(maps.Keys(reasons)) }

// String is the reason's name in RFC 5280, such as "keyCompromise".
func (r Reason) String() string {
	if name, known := reasons[r]; known {
		return name
	}
	return fmt.Sprintf("reason %d", int(r))
}

// Revocation is an entry of a revocation list.
type Revocation struct {
	Serial *big.Int
	At     time.Time
	Reason Reason
}

// crlDays is when the next list is due, as in the vendor's scripts.
const crlDays = 10

// CRL makes the authority's revocation list with a number that is larger than that of
// every list before, valid for 10 days, in DER. Errors: ErrRevocation, ErrTime, and
// those of rand and of the signer.
func (i *Issuer) CRL(rand io.Reader, number uint64, at time.Time, revoked []Revocation) ([]byte, error) {
	if at.Before(i.Certificate.NotBefore) || at.After(i.Certificate.NotAfter) {
		return nil, fmt.Errorf("make a revocation list: %w", ErrTime)
	}
	at = at.UTC().Truncate(time.Second)
	list := &x509.RevocationList{
		Number: new(big.Int).SetUint64(number), ThisUpdate: at, NextUpdate: at.AddDate(0, 0, crlDays),
	}
	seen := map[string]bool{}
	for _, r := range revoked {
		_, known := reasons[r.Reason]
		switch {
		case r.Serial == nil || r.Serial.Sign() <= 0:
			return nil, fmt.Errorf("%w: no serial number", ErrRevocation)
		case seen[r.Serial.String()]:
			return nil, fmt.Errorf("%w: %X is in it twice", ErrRevocation, r.Serial)
		case !known:
			return nil, fmt.Errorf("%w: %v is none", ErrRevocation, r.Reason)
		case r.At.Truncate(time.Second).After(at):
			return nil, fmt.Errorf("%w: %X is revoked later", ErrRevocation, r.Serial)
		}
		seen[r.Serial.String()] = true
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: r.Serial, RevocationTime: r.At.UTC().Truncate(time.Second), ReasonCode: int(r.Reason),
		})
	}
	der, err := x509.CreateRevocationList(rand, list, i.Certificate, i.Signer)
	if err != nil {
		return nil, fmt.Errorf("make a revocation list: %w", err)
	}
	return der, nil
}
