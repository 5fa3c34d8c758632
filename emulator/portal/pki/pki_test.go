//go:build linux

package pki_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/portal/pki"
	"hsmemu/keystore/curve"
	"hsmemu/pinstate"
)

// now is what OpenSSL takes for the time, too: its checks are made then.
var now = time.Now().UTC().Truncate(time.Second)

// made are the authorities of a developer network and of a trust center below it.
var made = sync.OnceValues(func() (net, trust pki.Authority) {
	net, err := pki.NewDevNet(rand.Reader, now)
	if err != nil {
		panic(err)
	}
	i, err := net.Open()
	if err != nil {
		panic(err)
	}
	below, err := pki.ProfileNamed("SubCA")
	if err != nil {
		panic(err)
	}
	below.Rule = `C=UT, O=Acme\, Inc., CN=${servicerequest.commonName}`
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		panic(err)
	}
	r, err := pki.ParsePKCS10(der)
	if err != nil {
		panic(err)
	}
	c, err := i.Issue(rand.Reader, pki.Order{
		Profile: below, Request: r, Subject: pki.Subject{CommonName: "Acme Issuing CA 1"}, At: now, CRL: []string{"http://localhost:8080/se/crl/1"},
	})
	if err != nil {
		panic(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return net, pki.Authority{Certificate: c.Raw, Chain: i.Bundle(), Key: secret}
})

func open(t testing.TB, a pki.Authority) *pki.Issuer {
	t.Helper()
	i, err := a.Open()
	require.NoError(t, err)
	return i
}

// openssl runs OpenSSL in a folder and returns what it prints.
func openssl(t testing.TB, folder string, args ...string) (string, error) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "openssl", args...)
	c.Dir = folder
	out, err := c.CombinedOutput()
	return string(out), err
}

func save(t testing.TB, folder, name, kind string, ders ...[]byte) {
	t.Helper()
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	require.NoError(t, os.WriteFile(filepath.Join(folder, name), out, 0o600))
}

// request makes a PKCS #10 request for a key.
func request(t testing.TB, key crypto.Signer, change func(*x509.CertificateRequest)) []byte {
	t.Helper()
	r := &x509.CertificateRequest{
		Subject:  pkix.Name{Country: []string{"DE"}, Organization: []string{"Somebody else"}, CommonName: "root"},
		DNSNames: []string{"bank.example"}, EmailAddresses: []string{"root@bank.example"},
	}
	if change != nil {
		change(r)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, r, key)
	require.NoError(t, err)
	return der
}

func ecKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	require.NoError(t, err)
	return key
}

func profile(t testing.TB, name string) pki.Profile {
	t.Helper()
	p, err := pki.ProfileNamed(name)
	require.NoError(t, err)
	return p
}

func issue(t testing.TB, i *pki.Issuer, name string, key crypto.Signer, s pki.Subject) *x509.Certificate {
	t.Helper()
	r, err := pki.ParsePKCS10(request(t, key, nil))
	require.NoError(t, err)
	c, err := i.Issue(rand.Reader, pki.Order{Profile: profile(t, name), Request: r, Subject: s, At: now, CRL: []string{"http://localhost:8080/se/crl/2"}})
	require.NoError(t, err)
	return c
}

var alice = pki.Subject{CommonName: "Alice", Email: "alice@example.com", Hosts: []string{"portal.example", "127.0.0.1"}}

// The developer network's authority as spec and vendor's scripts have it: subject,
// serial, signature, 10 years, path length 1.
func TestNewDevNet_IsARoot(t *testing.T) {
	t.Parallel()
	network, _ := made()
	folder := t.TempDir()
	save(t, folder, "root.pem", "CERTIFICATE", network.Certificate)
	text, err := openssl(t, folder, "x509", "-in", "root.pem", "-noout", "-text", "-nameopt", "RFC2253,-dn_rev")
	require.NoError(t, err, text)
	for _, want := range []string{
		"Subject: C=XX,O=UTEM Emulator,CN=Emulated Developer Network CA 1\n", "Issuer: C=XX,O=UTEM Emulator,CN=Emulated Developer Network CA 1\n",
		"Signature Algorithm: sha256WithRSAEncryption", "(2048 bit)", "CA:TRUE, pathlen:1", "Certificate Sign, CRL Sign",
	} {
		require.Contains(t, text, want)
	}
	i := open(t, network)
	require.Equal(t, now, i.Certificate.NotBefore)
	require.Equal(t, now.AddDate(10, 0, 0), i.Certificate.NotAfter)
	require.LessOrEqual(t, i.Certificate.SerialNumber.BitLen(), 63)
	out, err := openssl(t, folder, "verify", "-x509_strict", "-CAfile", "root.pem", "root.pem")
	require.NoError(t, err, out)
}

// PORTAL-32, and every profile by OpenSSL: what is in the certificate, and that it is good for its
// purpose and for no other.
func TestIssue_Profiles(t *testing.T) {
	t.Parallel()
	network, trust := made()
	folder := t.TempDir()
	save(t, folder, "root.pem", "CERTIFICATE", network.Certificate)
	save(t, folder, "sub.pem", "CERTIFICATE", trust.Certificate)
	for _, c := range []struct {
		profile string
		by      pki.Authority
		key     crypto.Signer
		has     []string
		lacks   []string
		purpose map[string]bool
	}{
		{
			"TLSServer", trust, ecKey(t, elliptic.P256()),
			[]string{"Digital Signature, Key Encipherment", "TLS Web Server Authentication\n", "DNS:portal.example, IP Address:127.0.0.1", "CA:FALSE", `Subject: C=UT,O=Acme\, Inc.,CN=Alice`},
			[]string{"bank.example", "Somebody", "CN=root"},
			map[string]bool{"sslserver": true, "sslclient": false, "smimesign": false},
		},
		{
			"TLSClient", trust, ecKey(t, elliptic.P384()),
			[]string{"Digital Signature\n", "TLS Web Client Authentication\n", "CA:FALSE"},
			[]string{"Alternative Name", "Key Encipherment"},
			map[string]bool{"sslserver": false, "sslclient": true, "smimesign": false},
		},
		{
			"EmailAndTLSClient", network, ecKey(t, elliptic.P521()),
			[]string{"Digital Signature, Key Encipherment", "TLS Web Client Authentication, E-mail Protection", "email:alice@example.com", "sha256WithRSAEncryption", "Subject: C=XX,O=UTEM Emulator,CN=Alice"},
			[]string{"bank.example"},
			map[string]bool{"sslserver": false, "sslclient": true, "smimesign": true},
		},
		{
			"SubCA", network, ecKey(t, elliptic.P256()),
			[]string{"Certificate Sign, CRL Sign", "CA:TRUE, pathlen:0"},
			[]string{"Alternative Name", "Extended"},
			map[string]bool{"sslserver": false},
		},
	} {
		t.Run(c.profile, func(t *testing.T) {
			i := open(t, c.by)
			certificate := issue(t, i, c.profile, c.key, alice)
			require.LessOrEqual(t, certificate.SerialNumber.BitLen(), 63)
			require.Equal(t, now, certificate.NotBefore)
			require.Equal(t, 1095*24*time.Hour, certificate.NotAfter.Sub(certificate.NotBefore))
			require.Equal(t, i.Certificate.SubjectKeyId, certificate.AuthorityKeyId)
			require.Len(t, certificate.SubjectKeyId, 20)
			name := c.profile + ".pem"
			save(t, folder, name, "CERTIFICATE", certificate.Raw)
			text, err := openssl(t, folder, "x509", "-in", name, "-noout", "-text", "-nameopt", "RFC2253,-dn_rev")
			require.NoError(t, err, text)
			for _, want := range append(c.has, "URI:http://localhost:8080/se/crl/2", "Subject Key Identifier", "Authority Key Identifier", "Version: 3 ") {
				require.Contains(t, text, want)
			}
			for _, not := range c.lacks {
				require.NotContains(t, text, not)
			}
			for purpose, good := range c.purpose {
				out, err := openssl(t, folder, "verify", "-x509_strict", "-purpose", purpose, "-CAfile", "root.pem", "-untrusted", "sub.pem", name)
				require.Equal(t, good, err == nil, "%s: %s", purpose, out)
			}
			roots, between := x509.NewCertPool(), x509.NewCertPool()
			require.True(t, roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: network.Certificate})))
			for _, der := range i.Bundle() {
				above, err := x509.ParseCertificate(der)
				require.NoError(t, err)
				between.AddCert(above)
			}
			_, err = certificate.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			require.NoError(t, err)
		})
	}
}

// The key identifier is the one that OpenSSL makes (RFC 5280 §4.2.1.2, method 1).
func TestIssue_KeyIdentifierIsOpenSSLs(t *testing.T) {
	t.Parallel()
	network, _ := made()
	folder := t.TempDir()
	save(t, folder, "root.pem", "CERTIFICATE", network.Certificate)
	save(t, folder, "root.key", "PRIVATE KEY", network.Key)
	out, err := openssl(t, folder, "req", "-x509", "-new", "-key", "root.key", "-subj", "/CN=x", "-out", "again.pem", "-addext", "subjectKeyIdentifier=hash")
	require.NoError(t, err, out)
	id := func(name string) string {
		out, err := openssl(t, folder, "x509", "-in", name, "-noout", "-ext", "subjectKeyIdentifier")
		require.NoError(t, err, out)
		return out
	}
	require.Equal(t, id("again.pem"), id("root.pem"))
}

// An end entity's certificate does not outlive its issuer, and an issuer that has
// ended issues nothing.
func TestIssue_WithinTheIssuer(t *testing.T) {
	t.Parallel()
	network, trust := made()
	r, err := pki.ParsePKCS10(request(t, ecKey(t, elliptic.P256()), nil))
	require.NoError(t, err)
	i := open(t, trust)
	o := pki.Order{Profile: profile(t, "TLSClient"), Request: r, Subject: alice, At: i.Certificate.NotAfter.AddDate(0, 0, -5)}
	certificate, err := i.Issue(rand.Reader, o)
	require.NoError(t, err)
	require.Equal(t, i.Certificate.NotAfter, certificate.NotAfter)
	for _, at := range []time.Time{i.Certificate.NotAfter.Add(time.Second), i.Certificate.NotBefore.Add(-time.Second)} {
		o.At = at
		_, err = i.Issue(rand.Reader, o)
		require.ErrorIs(t, err, pki.ErrTime)
		_, err = i.CRL(rand.Reader, 1, at, nil)
		require.ErrorIs(t, err, pki.ErrTime)
	}
	// A path of length 0 ends there, and one of length 1 a step further.
	o.Profile, o.At = profile(t, "SubCA"), now
	_, err = i.Issue(rand.Reader, o)
	require.ErrorIs(t, err, pki.ErrPathLength)
	_, err = open(t, network).Issue(rand.Reader, o)
	require.NoError(t, err)
	// Neither a request that nobody read nor the issuer's own key.
	o.Request, o.Profile = pki.Request{}, profile(t, "TLSClient")
	_, err = i.Issue(rand.Reader, o)
	require.ErrorIs(t, err, pki.ErrSyntax)
	o.Request, err = pki.ParsePKCS10(request(t, i.Signer, nil))
	require.NoError(t, err)
	_, err = i.Issue(rand.Reader, o)
	require.ErrorIs(t, err, pki.ErrKey)
}

func TestIssue_Names(t *testing.T) {
	t.Parallel()
	network, _ := made()
	i := open(t, network)
	r, err := pki.ParsePKCS10(request(t, ecKey(t, elliptic.P256()), nil))
	require.NoError(t, err)
	for _, c := range []struct {
		profile string
		subject pki.Subject
		want    string // the name, or nothing for a refusal
	}{
		{"TLSClient", pki.Subject{CommonName: "Björk Guðmundsdóttir"}, "CN=Björk Guðmundsdóttir,O=UTEM Emulator,C=XX"},
		// What looks like more attributes stays one.
		{"TLSClient", pki.Subject{CommonName: "x, O=Bank"}, `CN=x\, O=Bank,O=UTEM Emulator,C=XX`},
		{"TLSClient", pki.Subject{CommonName: "${issuer.o}"}, `CN=${issuer.o},O=UTEM Emulator,C=XX`},
		{"TLSClient", pki.Subject{CommonName: strings.Repeat("ä", 64)}, "CN=" + strings.Repeat("ä", 64) + ",O=UTEM Emulator,C=XX"},
		{"TLSClient", pki.Subject{CommonName: strings.Repeat("ä", 65)}, ""},
		{"TLSClient", pki.Subject{}, ""},
		{"TLSClient", pki.Subject{CommonName: " x"}, ""},
		{"TLSClient", pki.Subject{CommonName: "x\x00y"}, ""},
		{"TLSClient", pki.Subject{CommonName: "x\ny"}, ""},
		{"TLSClient", pki.Subject{CommonName: "\u202Egnp.exe"}, ""},
		{"TLSClient", pki.Subject{CommonName: "\xFF"}, ""},
		{"EmailAndTLSClient", pki.Subject{CommonName: "x"}, ""},
		{"EmailAndTLSClient", pki.Subject{CommonName: "x", Email: "Alice <alice@example.com>"}, ""},
		{"EmailAndTLSClient", pki.Subject{CommonName: "x", Email: "alice@example.com\n"}, ""},
		{"EmailAndTLSClient", pki.Subject{CommonName: "x", Email: "alice@exämple.com"}, ""},
		{"TLSServer", pki.Subject{CommonName: "portal.example"}, "CN=portal.example,O=UTEM Emulator,C=XX"},
		{"TLSServer", pki.Subject{CommonName: "The portal"}, ""},
		{"TLSServer", pki.Subject{CommonName: "x", Hosts: []string{"*.example"}}, ""},
		{"TLSServer", pki.Subject{CommonName: "x", Hosts: []string{"a..example"}}, ""},
		{"TLSServer", pki.Subject{CommonName: "x", Hosts: []string{"-a.example"}}, ""},
		{"TLSServer", pki.Subject{CommonName: "x", Hosts: []string{"300.0.0.1"}}, ""},
		{"TLSServer", pki.Subject{CommonName: "x", Hosts: []string{"fe80::1%eth0"}}, ""},
		{"TLSServer", pki.Subject{CommonName: "x", Hosts: []string{"::1", "xn--portal-kva.example"}}, "CN=x,O=UTEM Emulator,C=XX"},
	} {
		certificate, err := i.Issue(rand.Reader, pki.Order{Profile: profile(t, c.profile), Request: r, Subject: c.subject, At: now})
		if c.want == "" {
			require.ErrorIs(t, err, pki.ErrName, "%+v", c.subject)
			continue
		}
		require.NoError(t, err, "%+v", c.subject)
		require.Equal(t, c.want, certificate.Subject.String())
	}
	own := pki.Profile{Rule: "CN=${servicerequest.nothing}", Days: 1}
	_, err = i.Issue(rand.Reader, pki.Order{Profile: own, Request: r, Subject: alice, At: now})
	require.ErrorIs(t, err, pki.ErrName)
	own.Rule = "CN=${issuer.cn} for ${servicerequest.commonName}, OU=${servicerequest.email}"
	certificate, err := i.Issue(rand.Reader, pki.Order{Profile: own, Request: r, Subject: alice, At: now})
	require.NoError(t, err)
	require.Equal(t, "CN=Emulated Developer Network CA 1 for Alice,OU=alice@example.com", certificate.Subject.String())
	_, err = pki.ProfileNamed("tlsclient")
	require.ErrorIs(t, err, pki.ErrProfile)
	require.Len(t, pki.Profiles(), 4)
}

func TestParseName(t *testing.T) {
	t.Parallel()
	n, err := pki.ParseName(`C=UT, O=Acme\, \\Inc. ,CN= a=b `)
	require.NoError(t, err)
	require.Equal(t, `C=UT, O=Acme\, \\Inc., CN=a=b`, n.String())
	for _, bad := range []string{"", "CN", "CN=", "C=D", "C=de", "X=1", "CN=a,", `CN=a\b`, `CN=a\`, "CN=\x01", "CN=a,=b"} {
		_, err := pki.ParseName(bad)
		require.ErrorIs(t, err, pki.ErrName, bad)
	}
}

// Requests that are refused, and why.
func TestParsePKCS10_Refuses(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	command := func(args ...string) {
		out, err := openssl(t, folder, args...)
		require.NoError(t, err, out)
	}
	command("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:brainpoolP256r1", "-nodes", "-keyout", "k", "-subj", "/CN=x", "-outform", "DER", "-out", "brainpool")
	command("req", "-new", "-newkey", "ed25519", "-nodes", "-keyout", "k", "-subj", "/CN=x", "-outform", "DER", "-out", "ed25519")
	command("req", "-new", "-newkey", "rsa:2048", "-sha1", "-nodes", "-keyout", "k", "-subj", "/CN=x", "-outform", "DER", "-out", "sha1")
	command("req", "-new", "-newkey", "rsa:1024", "-nodes", "-keyout", "k", "-subj", "/CN=x", "-outform", "DER", "-out", "rsa1024")
	command("req", "-new", "-newkey", "rsa:2048", "-pkeyopt", "rsa_keygen_pubexp:3", "-nodes", "-keyout", "k", "-subj", "/CN=x", "-outform", "DER", "-out", "exponent3")
	command("req", "-new", "-newkey", "rsa:2048", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest", "-sha256", "-nodes", "-keyout", "k", "-subj", "/CN=x", "-out", "good.pem")
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(folder, name))
		require.NoError(t, err)
		return b
	}
	good := request(t, ecKey(t, elliptic.P256()), nil)
	forged := append([]byte{}, good...)
	forged[len(forged)-1] ^= 1
	for name, c := range map[string]struct {
		bytes []byte
		err   error
	}{
		"brainpool":       {read("brainpool"), pki.ErrKey},
		"Ed25519":         {read("ed25519"), pki.ErrKey},
		"P-224":           {request(t, ecKey(t, elliptic.P224()), nil), pki.ErrKey},
		"RSA 1024":        {read("rsa1024"), pki.ErrKey},
		"exponent 3":      {read("exponent3"), pki.ErrKey},
		"SHA-1":           {read("sha1"), pki.ErrAlgorithm},
		"forged":          {forged, pki.ErrSignature},
		"nothing":         {nil, pki.ErrSyntax},
		"trailing bytes":  {append(append([]byte{}, good...), 0), pki.ErrSyntax},
		"too long":        {make([]byte, pki.RequestMax+1), pki.ErrSyntax},
		"another PEM":     {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: good}), pki.ErrSyntax},
		"half":            {good[:len(good)/2], pki.ErrSyntax},
		"PEM, cut inside": {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: good[:40]}), pki.ErrSyntax},
	} {
		_, err := pki.ParsePKCS10(c.bytes)
		require.ErrorIs(t, err, c.err, name)
	}
	r, err := pki.ParsePKCS10(read("good.pem"))
	require.NoError(t, err)
	require.Equal(t, pki.Subject{CommonName: "x"}, r.Asked)
	require.IsType(t, &rsa.PublicKey{}, r.Key())
	r, err = pki.ParsePKCS10(good)
	require.NoError(t, err)
	require.Equal(t, pki.Subject{CommonName: "root", Email: "root@bank.example", Hosts: []string{"bank.example"}}, r.Asked)
}

// PORTAL-32, the list by OpenSSL: number, dates, reasons, and that a certificate on it is
// refused and another is not.
func TestCRL_OpenSSLRefusesWhatIsOnIt(t *testing.T) {
	t.Parallel()
	network, trust := made()
	i := open(t, trust)
	folder := t.TempDir()
	good, bad := issue(t, i, "TLSClient", ecKey(t, elliptic.P256()), alice), issue(t, i, "TLSClient", ecKey(t, elliptic.P256()), alice)
	der, err := i.CRL(rand.Reader, 255, now, []pki.Revocation{
		{bad.SerialNumber, now.Add(-time.Minute), pki.KeyCompromise}, {big.NewInt(4711), now, pki.Unspecified}, {big.NewInt(4712), now, pki.CertificateHold},
	})
	require.NoError(t, err)
	save(t, folder, "root.pem", "CERTIFICATE", network.Certificate)
	save(t, folder, "sub.pem", "CERTIFICATE", trust.Certificate)
	save(t, folder, "good.pem", "CERTIFICATE", good.Raw)
	save(t, folder, "bad.pem", "CERTIFICATE", bad.Raw)
	save(t, folder, "crl.pem", "X509 CRL", der)
	text, err := openssl(t, folder, "crl", "-in", "crl.pem", "-noout", "-text")
	require.NoError(t, err, text)
	for _, want := range []string{"Version 2", "255", "Key Compromise", "Certificate Hold", fmt.Sprintf("Serial Number: %X", bad.SerialNumber.Bytes()), "Authority Key Identifier"} {
		require.Contains(t, text, want)
	}
	require.Equal(t, 2, strings.Count(text, "CRL Reason Code"), "no reason is no extension: RFC 5280 §5.3.1")
	list, err := x509.ParseRevocationList(der)
	require.NoError(t, err)
	require.Equal(t, now, list.ThisUpdate)
	require.Equal(t, now.AddDate(0, 0, 10), list.NextUpdate)
	check := func(name string) (string, error) {
		return openssl(t, folder, "verify", "-crl_check", "-CAfile", "root.pem", "-untrusted", "sub.pem", "-CRLfile", "crl.pem", name)
	}
	out, err := check("good.pem")
	require.NoError(t, err, out)
	out, err = check("bad.pem")
	require.Error(t, err)
	require.Contains(t, out, "certificate revoked")

	one := big.NewInt(1)
	for name, wrong := range map[string][]pki.Revocation{
		"twice":          {{one, now, pki.Superseded}, {one, now, pki.Superseded}},
		"no serial":      {{nil, now, pki.Superseded}},
		"zero":           {{big.NewInt(0), now, pki.Superseded}},
		"reason 7":       {{one, now, 7}},
		"removeFromCRL":  {{one, now, 8}},
		"not yet":        {{one, now.Add(time.Second), pki.Superseded}},
		"unknown reason": {{one, now, -1}},
	} {
		_, err := i.CRL(rand.Reader, 1, now, wrong)
		require.ErrorIs(t, err, pki.ErrRevocation, name)
	}
	require.Equal(t, "keyCompromise", pki.KeyCompromise.String())
	require.Equal(t, "reason 7", pki.Reason(7).String())
}

// An authority is stored and opened again; its key is never printed.
func TestAuthority_IsAValueToStore(t *testing.T) {
	t.Parallel()
	network, trust := made()
	form, err := json.Marshal(trust)
	require.NoError(t, err)
	var again pki.Authority
	require.NoError(t, json.Unmarshal(form, &again))
	i := open(t, again)
	require.Equal(t, [][]byte{trust.Certificate, network.Certificate}, i.Bundle())
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%q", "%d"} {
		require.Equal(t, "•••", fmt.Sprintf(verb, trust.Key))
		require.Contains(t, fmt.Sprintf(verb, trust), "•••")
	}
	for name, damage := range map[string]func(*pki.Authority){
		"another's key":       func(a *pki.Authority) { a.Key = network.Key },
		"no key":              func(a *pki.Authority) { a.Key = nil },
		"half a key":          func(a *pki.Authority) { a.Key = a.Key[:20] },
		"no certificate":      func(a *pki.Authority) { a.Certificate = nil },
		"no chain":            func(a *pki.Authority) { a.Chain = nil },
		"a chain of its own":  func(a *pki.Authority) { a.Chain = [][]byte{a.Certificate} },
		"a chain of nonsense": func(a *pki.Authority) { a.Chain = [][]byte{{0x30, 0}} },
	} {
		wrong := trust
		damage(&wrong)
		_, err := wrong.Open()
		require.ErrorIs(t, err, pki.ErrAuthority, name)
	}
}

var errNoRandom = errors.New("no randomness")

type noRandom struct{}

func (noRandom) Read([]byte) (int, error) { return 0, errNoRandom }

func TestAuthority_NeedsRandomness(t *testing.T) {
	t.Parallel()
	_, err := pki.NewRoot(noRandom{}, pki.Root{Subject: "CN=x", Kind: pki.P256, At: now})
	require.ErrorIs(t, err, errNoRandom)
	_, err = pki.NewRoot(rand.Reader, pki.Root{Subject: "CN=x", Kind: 7, At: now})
	require.ErrorIs(t, err, pki.ErrKey)
	_, err = pki.NewRoot(rand.Reader, pki.Root{At: now})
	require.ErrorIs(t, err, pki.ErrName)
}

// A server and a client with issued certificates speak TLS, and a client with a
// certificate for servers does not get in.
func TestIssue_TLS(t *testing.T) {
	t.Parallel()
	network, trust := made()
	i := open(t, trust)
	pair := func(name string) tls.Certificate {
		key := ecKey(t, elliptic.P256())
		return tls.Certificate{Certificate: append([][]byte{issue(t, i, name, key, alice).Raw}, i.Bundle()[:1]...), PrivateKey: key}
	}
	roots := x509.NewCertPool()
	root, err := x509.ParseCertificate(network.Certificate)
	require.NoError(t, err)
	roots.AddCert(root)
	shake := func(client tls.Certificate) error {
		near, far := net.Pipe()
		defer near.Close()
		done := make(chan error, 1)
		go func() {
			defer far.Close()
			done <- tls.Server(far, &tls.Config{
				Certificates: []tls.Certificate{pair("TLSServer")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
				SessionTicketsDisabled: true, // nobody would read them
			}).HandshakeContext(t.Context())
		}()
		c := tls.Client(near, &tls.Config{RootCAs: roots, ServerName: "portal.example", Certificates: []tls.Certificate{client}})
		err := c.HandshakeContext(t.Context())
		_ = near.Close()
		return errors.Join(err, <-done)
	}
	require.NoError(t, shake(pair("TLSClient")))
	require.ErrorContains(t, shake(pair("TLSServer")), "incompatible key usage")
}

// card makes a card with a key, and returns the card's request for it and EF 2F02.
func card(t testing.TB, name string, generate func(context.Context, *client.Client) (cvc.Authenticated, error)) (request, device []byte) {
	t.Helper()
	ctx := t.Context()
	made, err := chiptest.Manufacture("4.1", name)
	require.NoError(t, err)
	c := client.New(made)
	_, err = c.Select(ctx)
	require.NoError(t, err)
	pin := []byte("648219")
	require.NoError(t, c.Initialise(ctx, client.Setup{Options: pinstate.OptionResetEnabled, SOPIN: []byte("57621880"), PIN: pin, Tries: 3}))
	require.NoError(t, c.Login(ctx, pin))
	r, err := generate(ctx, c)
	require.NoError(t, err)
	chain, err := c.Device(ctx)
	require.NoError(t, err)
	return r.Raw, chain.Bytes()
}

func rsaOf(bits int) func(context.Context, *client.Client) (cvc.Authenticated, error) {
	return func(ctx context.Context, c *client.Client) (cvc.Authenticated, error) {
		return c.GenerateRSA(ctx, 1, bits, client.KeySpec{Holder: "UTCC00001"})
	}
}

func ecOn(name string) func(context.Context, *client.Client) (cvc.Authenticated, error) {
	return func(ctx context.Context, c *client.Client) (cvc.Authenticated, error) {
		on, _ := curve.ByName(name)
		return c.GenerateEC(ctx, 1, on, client.KeySpec{Holder: "UTCC00001"})
	}
}

// CVC-33: a card's own request, RSA and EC, and whatever can be wrong with it.
func TestParseCard_AttestationDecides(t *testing.T) {
	t.Parallel()
	roots := cvc.EmulatorRoots()
	network, _ := made()
	folder := t.TempDir()
	save(t, folder, "root.pem", "CERTIFICATE", network.Certificate)
	for name, generate := range map[string]func(context.Context, *client.Client) (cvc.Authenticated, error){
		"rsa": rsaOf(2048), "p256": ecOn("secp256r1"), "p384": ecOn("secp384r1"), "p521": ecOn("secp521r1"),
	} {
		request, device := card(t, "good "+name, generate)
		r, err := pki.ParseCard(request, device, roots)
		require.NoError(t, err, name)
		require.Equal(t, r.Attestation.Device.CHR.Holder()[:6], "DENK99")
		c, err := open(t, network).Issue(rand.Reader, pki.Order{Profile: profile(t, "EmailAndTLSClient"), Request: r, Subject: alice, At: now})
		require.NoError(t, err)
		require.Equal(t, r.Key(), c.PublicKey)
		save(t, folder, name, "CERTIFICATE", c.Raw)
		out, err := openssl(t, folder, "verify", "-x509_strict", "-purpose", "smimesign", "-CAfile", "root.pem", name)
		require.NoError(t, err, out)
	}
	request, device := card(t, "A", ecOn("secp256r1"))
	_, other := card(t, "B", ecOn("secp256r1"))
	flip := func(b []byte, at int) []byte {
		b = append([]byte{}, b...)
		b[at] ^= 1
		return b
	}
	a, err := cvc.ParseAuthenticated(request)
	require.NoError(t, err)
	short, shortDevice := card(t, "C", rsaOf(1024))
	foreign, foreignDevice := card(t, "D", ecOn("brainpoolP256r1"))
	for name, c := range map[string]struct {
		request, device []byte
		roots           cvc.Roots
		err             error
	}{
		"another device":        {request, other, roots, pki.ErrDevice},
		"no such root":          {request, device, cvc.VendorRoots(), pki.ErrDevice},
		"no roots":              {request, device, nil, pki.ErrDevice},
		"outer signature":       {flip(request, len(request)-1), device, roots, pki.ErrSignature},
		"inner signature":       {flip(request, len(request)-70-25), device, roots, pki.ErrSignature},
		"not countersigned":     {a.Request.Raw, device, roots, pki.ErrSyntax},
		"no request":            {nil, device, roots, pki.ErrSyntax},
		"no device":             {request, nil, roots, pki.ErrSyntax},
		"one certificate":       {request, device[:len(device)/2], roots, pki.ErrSyntax},
		"device's signature":    {request, flip(device, len(device)/2-4), roots, pki.ErrSignature},
		"issuer's signature":    {request, flip(device, len(device)-1), roots, pki.ErrSignature},
		"RSA with 1024 bits":    {short, shortDevice, roots, pki.ErrKey},
		"a curve of Brainpool":  {foreign, foreignDevice, roots, pki.ErrKey},
		"request that is long":  {make([]byte, pki.RequestMax+1), device, roots, pki.ErrSyntax},
		"a device that is long": {request, make([]byte, pki.RequestMax+1), roots, pki.ErrSyntax},
	} {
		_, err := pki.ParseCard(c.request, c.device, c.roots)
		require.ErrorIs(t, err, c.err, name)
	}
}

// A device that certifies itself is below no root.
func TestParseCard_ForgedDevice(t *testing.T) {
	t.Parallel()
	request, _ := card(t, "A", ecOn("secp256r1"))
	on, _ := curve.ByName("brainpoolP256r1")
	key, err := on.Generate(rand.Reader)
	require.NoError(t, err)
	forged, err := cvc.NewRoot(key, cvc.EmulatorRoot().Certificate.CHR, now, rand.Reader)
	require.NoError(t, err)
	issuer, err := forged.NewIssuer(key, "UTDICAEM0100001", now, rand.Reader)
	require.NoError(t, err)
	device, err := issuer.IssueDevice(key.Public(), "DENK990000000000", now, rand.Reader)
	require.NoError(t, err)
	_, err = pki.ParseCard(request, device, cvc.EmulatorRoots())
	require.ErrorIs(t, err, pki.ErrSignature)
	require.ErrorIs(t, err, cvc.ErrIssuerSignature)
}

// No request panics, though a device vouches for whatever it is given, and what is
// taken can be certified.
func FuzzParseCard(f *testing.F) {
	on, _ := curve.ByName("brainpoolP256r1")
	key := func() *curve.Private {
		k, err := on.Generate(chiptest.Seeded("a device"))
		require.NoError(f, err)
		return k
	}()
	root, err := cvc.NewRoot(key, "UTSRCAFUZ00001", now, nil)
	require.NoError(f, err)
	issuer, err := root.NewIssuer(key, "UTDICAFUZ00001", now, nil)
	require.NoError(f, err)
	device, err := issuer.IssueDevice(key.Public(), "DENK990000000000", now, nil)
	require.NoError(f, err)
	roots := cvc.Roots{root.Certificate}
	_, trust := made()
	i, err := trust.Open()
	require.NoError(f, err)
	for name, generate := range map[string]func(context.Context, *client.Client) (cvc.Authenticated, error){
		"rsa": rsaOf(2048), "p256": ecOn("secp256r1"), "brainpool": ecOn("brainpoolP256r1"),
	} {
		r, _ := card(f, "fuzz "+name, generate)
		a, err := cvc.ParseAuthenticated(r)
		require.NoError(f, err)
		f.Add(a.Request.Raw)
		f.Add(r)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = pki.ParseCard(b, device, roots)
		_, _ = pki.ParseCard(device, b, roots)
		request, err := cvc.ParseRequest(b)
		if err != nil {
			return
		}
		a, err := request.Countersign("DENK990000000000", cvc.ECDSASHA256, cvc.SignEC(key, nil))
		if err != nil {
			return
		}
		r, err := pki.ParseCard(a.Raw, device, roots)
		if err != nil {
			return
		}
		c, err := i.Issue(rand.Reader, pki.Order{Profile: pki.Profiles()[2], Request: r, Subject: alice, At: now})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.CheckSignatureFrom(i.Certificate); err != nil {
			t.Fatal(err)
		}
	})
}

// No bytes of a request panic, and what is taken can be certified.
func FuzzParsePKCS10(f *testing.F) {
	f.Add(request(f, ecKey(f, elliptic.P256()), nil))
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request(f, ecKey(f, elliptic.P384()), nil)}))
	_, trust := made()
	i, err := trust.Open()
	require.NoError(f, err)
	client := pki.Profiles()[2]
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := pki.ParsePKCS10(b)
		if err != nil {
			return
		}
		if _, err := i.Issue(rand.Reader, pki.Order{Profile: client, Request: r, Subject: pki.Subject{CommonName: "x"}, At: now}); err != nil {
			t.Fatal(err)
		}
	})
}
