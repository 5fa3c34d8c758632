package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"
)

// Profile says what certificates of one purpose look like.
type Profile struct {
	// Name is what the portal calls it.
	Name string
	// Rule is the distinguished name, with variables of the issuer and of the service
	// request: ${issuer.c}, ${issuer.o}, ${issuer.cn}, ${servicerequest.commonName}
	// and ${servicerequest.email}.
	Rule string
	// Days is how long a certificate is valid, if its issuer is.
	Days int
	// Authority makes it one of a certification authority.
	Authority bool
	Usage     x509.KeyUsage
	Extended  []x509.ExtKeyUsage
	// Alternative is what the subjectAltName holds.
	Alternative Alternative
}

// Alternative says what a subjectAltName holds.
type Alternative int

// What subjectAltNames hold.
const (
	NoAlternative Alternative = iota
	ByEmail                   // the subject's e-mail address, as an rfc822Name
	ByHost                    // the subject's hosts
)

// rule is that of the vendor's, with the organisation of the issuer (inferred).
const rule = "C=${issuer.c}, O=${issuer.o}, CN=${servicerequest.commonName}"

// days is that of the vendor's scripts, for all of them (PORTAL-32).
const days = 1095

// profiles are those of the vendor's portal. Key usage of TLSServer and the path
// length of SubCA, always 0, are inferred.
var profiles = []Profile{
	{Name: "SubCA", Rule: rule, Days: days, Authority: true, Usage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign},
	{
		Name: "TLSServer", Rule: rule, Days: days, Alternative: ByHost,
		Usage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, Extended: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	},
	{
		Name: "TLSClient", Rule: rule, Days: days,
		Usage: x509.KeyUsageDigitalSignature, Extended: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	},
	{
		Name: "EmailAndTLSClient", Rule: rule, Days: days, Alternative: ByEmail,
		Usage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		Extended: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageEmailProtection},
	},
}

// CheckSubject reports whether the profile can name a subject, whoever the issuer is,
// so that nobody is asked anything for a request that fails in the end. Error: ErrName.
func (p Profile) CheckSubject(s Subject) error {
	if _, err := named(p.Rule, pkix.Name{}, s); err != nil {
		return err
	}
	return alternative(&x509.Certificate{}, p.Alternative, s)
}

// Profiles are all there are, in the order of the portal's menu.
func Profiles() []Profile { return slices.Clone(profiles) }

// ProfileNamed is the profile of a name. Error: ErrProfile.
func ProfileNamed(name string) (Profile, error) {
	i := slices.IndexFunc(profiles, func(p Profile) bool { return p.Name == name })
	if i < 0 {
		return Profile{}, fmt.Errorf("%w: %q", ErrProfile, name)
	}
	return profiles[i], nil
}
