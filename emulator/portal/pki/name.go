package pki

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net/mail"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Subject is whom a certificate is for, as whoever approved it knows them.
type Subject struct {
	// CommonName is a person's, a server's or an authority's name.
	CommonName string
	// Email is an address without a display name.
	Email string
	// Hosts are the DNS names and IP addresses of a server; none stands for the
	// common name.
	Hosts []string
}

// Name is a distinguished name: attributes in their order, each an RDN of its own.
type Name []attribute

type attribute struct{ key, value string }

// attributes are the types that names are made of, and how long their values may be
// (RFC 5280 appendix A).
var attributes = map[string]struct {
	oid asn1.ObjectIdentifier
	max int
}{
	"C":            {asn1.ObjectIdentifier{2, 5, 4, 6}, 2},
	"O":            {asn1.ObjectIdentifier{2, 5, 4, 10}, 64},
	"OU":           {asn1.ObjectIdentifier{2, 5, 4, 11}, 64},
	"CN":           {asn1.ObjectIdentifier{2, 5, 4, 3}, 64},
	"L":            {asn1.ObjectIdentifier{2, 5, 4, 7}, 128},
	"ST":           {asn1.ObjectIdentifier{2, 5, 4, 8}, 128},
	"SERIALNUMBER": {asn1.ObjectIdentifier{2, 5, 4, 5}, 64},
}

// ParseName reads a distinguished name as people write it, "C=UT, O=Acme, CN=Acme CA
// 1", in the order of the certificate. A backslash before a comma or a backslash
// takes its meaning away. Error: ErrName.
func ParseName(text string) (Name, error) {
	n, err := splitName(text)
	if err != nil {
		return nil, err
	}
	return n, n.check()
}

// splitName reads the form of a name and judges no value.
func splitName(text string) (Name, error) {
	var n Name
	part := ""
	take := func() error {
		key, value, found := strings.Cut(part, "=")
		key, value = strings.ToUpper(strings.TrimSpace(key)), strings.TrimSpace(value)
		if _, known := attributes[key]; !known || !found {
			return fmt.Errorf("%w: %q is no attribute of a name", ErrName, part)
		}
		n, part = append(n, attribute{key, value}), ""
		return nil
	}
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text) && (text[i+1] == ',' || text[i+1] == '\\'):
			i++
			part += text[i : i+1]
		case text[i] == '\\':
			return nil, fmt.Errorf("%w: %q has a backslash before neither a comma nor a backslash", ErrName, text)
		case text[i] == ',':
			if err := take(); err != nil {
				return nil, err
			}
		default:
			part += text[i : i+1]
		}
	}
	return n, take()
}

// check judges the values.
func (n Name) check() error {
	for _, a := range n {
		switch {
		case a.value == "":
			return fmt.Errorf("%w: %s is empty", ErrName, a.key)
		case !utf8.ValidString(a.value) || strings.ContainsFunc(a.value, func(r rune) bool { return !unicode.IsPrint(r) }):
			return fmt.Errorf("%w: %s %q has characters that cannot be printed", ErrName, a.key, a.value)
		case strings.TrimSpace(a.value) != a.value:
			return fmt.Errorf("%w: %s %q begins or ends with a blank", ErrName, a.key, a.value)
		case utf8.RuneCountInString(a.value) > attributes[a.key].max:
			return fmt.Errorf("%w: %s has more than %d characters", ErrName, a.key, attributes[a.key].max)
		case a.key == "C" && (len(a.value) != 2 || strings.ContainsFunc(a.value, func(r rune) bool { return r < 'A' || r > 'Z' })):
			return fmt.Errorf("%w: %q is no country of two capital letters", ErrName, a.value)
		}
	}
	return nil
}

// String is the name as ParseName reads it.
func (n Name) String() string {
	words := make([]string, len(n))
	for i, a := range n {
		words[i] = a.key + "=" + strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace(a.value)
	}
	return strings.Join(words, ", ")
}

// der is the name in DER.
func (n Name) der() ([]byte, error) {
	if err := n.check(); err != nil {
		return nil, err
	}
	var sequence pkix.RDNSequence
	for _, a := range n {
		sequence = append(sequence, pkix.RelativeDistinguishedNameSET{{Type: attributes[a.key].oid, Value: a.value}})
	}
	der, err := asn1.Marshal(sequence)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrName, err)
	}
	return der, nil
}

// named applies the rule of a profile. A variable stands for one value, whatever is in
// it: no value becomes two attributes. Attributes of the issuer that it does not have
// are left out.
func named(rule string, issuer pkix.Name, s Subject) (Name, error) {
	first := func(list []string) string {
		if len(list) == 0 {
			return ""
		}
		return list[0]
	}
	variables := map[string]string{
		"issuer.c":  first(issuer.Country),
		"issuer.o":  first(issuer.Organization),
		"issuer.cn": issuer.CommonName,

		"servicerequest.commonName": s.CommonName,
		"servicerequest.email":      s.Email,
	}
	pattern, err := splitName(rule)
	if err != nil {
		return nil, err
	}
	var n Name
	for _, a := range pattern {
		value, missing := "", false
		for rest := a.value; rest != ""; {
			before, behind, found := strings.Cut(rest, "${")
			value += before
			if !found {
				break
			}
			variable, after, closed := strings.Cut(behind, "}")
			meaning, known := variables[variable]
			if !closed || !known {
				return nil, fmt.Errorf("%w: the rule has an unknown variable %q", ErrName, variable)
			}
			missing = missing || meaning == "" && strings.HasPrefix(variable, "issuer.")
			value, rest = value+meaning, after
		}
		if !missing {
			n = append(n, attribute{a.key, value})
		}
	}
	return n, n.check()
}

// CheckEmail refuses, with ErrName, what is no address for a subjectAltName: one of
// at most 254 ASCII characters without display name or comment.
func CheckEmail(address string) error {
	a, err := mail.ParseAddress(address)
	if err != nil || a.Address != address || len(address) > 254 || strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%w: %q is no e-mail address", ErrName, address)
	}
	return nil
}

// hosts splits names of a server into DNS names and addresses.
func hosts(list []string) (dns []string, ips []netip.Addr, err error) {
	if len(list) > 64 {
		return nil, nil, fmt.Errorf("%w: more than 64 hosts", ErrName)
	}
	for _, h := range list {
		ip, err := netip.ParseAddr(h)
		switch {
		case err == nil && ip.Zone() == "":
			ips = append(ips, ip)
		case validHost(h):
			dns = append(dns, h)
		default:
			return nil, nil, fmt.Errorf("%w: %q is neither a DNS name nor an IP address", ErrName, h)
		}
	}
	return dns, ips, nil
}

// validHost reports whether a text is a DNS name of letters, digits and hyphens. There
// are no wildcards: whoever approves a name approves one server.
func validHost(h string) bool {
	labels := strings.Split(h, ".")
	numeric := strings.Trim(labels[len(labels)-1], "0123456789") == "" // looks like an address
	return len(h) <= 253 && !numeric && !slices.ContainsFunc(labels, func(l string) bool {
		bad := func(r rune) bool {
			return r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
		}
		return l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.ContainsFunc(l, bad)
	})
}
