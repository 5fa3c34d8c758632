package service_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/pki"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/service"
	"hsmemu/keystore/curve"
)

// pkcs10 is a request for a certificate, in PEM.
func pkcs10(t testing.TB, name string, hosts ...string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}, DNSNames: hosts}, key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// center is a trust center with its officers.
type center struct {
	id               int64
	registration, ca service.Actor
}

func (w *world) center(t testing.TB, name string, private bool) center {
	t.Helper()
	by := w.person(t, strings.ToLower(name)+"@example.org")
	r := w.submitted(t, by, service.TrustCenter, service.Data{Name: name, Private: private})
	require.Equal(t, service.Completed, r.Word)
	c := center{r.Data.Center, w.person(t, "ro-"+strings.ToLower(name)+"@example.org"), w.person(t, "co-"+strings.ToLower(name)+"@example.org")}
	w.write(t, func(tx *records.Tx) error {
		_, err := tx.Exec("INSERT INTO roles (account, role, subject) VALUES (?, ?, ?), (?, ?, ?)",
			c.registration.Account, string(account.RegistrationOfficer), c.id, c.ca.Account, string(account.CertificationOfficer), c.id)
		return err
	})
	return c
}

// A certificate's whole life, for every profile: request, approve, issue, accept,
// revoke, and the revocation list that says so.
func TestCertificate(t *testing.T) {
	t.Parallel()
	w := open(t)
	c := w.center(t, "Acme", false)
	alice := w.person(t, "alice@example.org")
	for n, p := range pki.Profiles() {
		r := w.submitted(t, alice, service.Certificate, service.Data{Center: c.id, Profile: p.Name, Request: pkcs10(t, "www.example.org", "www.example.org")})
		require.Equal(t, service.Approve, r.Word, "%s: it waits for a registration officer", p.Name)
		require.Equal(t, "www.example.org", r.Data.CommonName)
		_, err := w.Issued(t.Context(), alice, r.ID)
		require.ErrorIs(t, err, service.ErrUnknown)
		_, err = w.Do(t.Context(), c.ca, r.ID, service.DoIssue, service.Data{})
		require.ErrorIs(t, err, service.ErrNotAllowed, "it is not approved")
		r, err = w.Do(t.Context(), c.registration, r.ID, service.DoApprove, service.Data{})
		require.NoError(t, err)
		require.Equal(t, service.Produce, r.Word)
		r, err = w.Do(t.Context(), c.ca, r.ID, service.DoIssue, service.Data{})
		require.NoError(t, err)
		require.Equal(t, service.Accept, r.Word)
		issued, err := w.Issued(t.Context(), alice, r.ID)
		require.NoError(t, err)
		require.Zero(t, issued.Accepted)
		x, err := issued.X509()
		require.NoError(t, err)
		require.Equal(t, "CN=www.example.org,O=Acme,C=XX", x.Subject.String())
		require.Equal(t, p.Authority, x.IsCA)
		require.Equal(t, p.Extended, x.ExtKeyUsage)
		require.Equal(t, []string{"http://localhost/se/crl/2"}, x.CRLDistributionPoints)
		root, err := x509.ParseCertificate(issued.Chain[0])
		require.NoError(t, err)
		require.NoError(t, x.CheckSignatureFrom(root))
		r, err = w.Do(t.Context(), alice, r.ID, service.DoAccept, service.Data{})
		require.NoError(t, err)
		require.Equal(t, service.Completed, r.Word)
		by := []service.Actor{alice, c.ca, c.registration, alice}[n]
		_, err = w.Do(t.Context(), by, r.ID, service.DoRevoke, service.Data{Reason: 7})
		require.ErrorIs(t, err, pki.ErrRevocation)
		r, err = w.Do(t.Context(), by, r.ID, service.DoRevoke, service.Data{Reason: 1})
		require.NoError(t, err)
		require.Equal(t, service.Revoked, r.Word)
		issued, err = w.Issued(t.Context(), alice, r.ID)
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), issued.Revoked, time.Hour)
		require.Equal(t, pki.KeyCompromise, issued.Reason)
		der, err := w.CRL(t.Context(), issued.Authority)
		require.NoError(t, err)
		list, err := x509.ParseRevocationList(der)
		require.NoError(t, err)
		require.NoError(t, list.CheckSignatureFrom(root))
		require.Len(t, list.RevokedCertificateEntries, n+1)
		require.Equal(t, x.SerialNumber, list.RevokedCertificateEntries[n].SerialNumber)
		require.EqualValues(t, n+2, list.Number.Uint64())
		require.Equal(t, []string{
			"Request started (Edit)", "Request submitted (Approve)", "Request approved (Produce)", "Certificate issued (Accept)", "Certificate accepted (Completed)",
			"revocation list cannot be made: reason 7 is none (Completed)", "Certificate revoked (Revoked)",
		}, w.log(t, alice, r.ID))
	}
	require.NotEmpty(t, w.mails(t, "alice@example.org"), "what officers did")
	require.Contains(t, w.mails(t, "ro-acme@example.org"), "Service request 2 waits for you", "for approval")
	require.Equal(t, w.mails(t, "ro-acme@example.org"), w.mails(t, "co-acme@example.org"), "each once")
	require.Equal(t, "Service request 3", w.mails(t, "alice@example.org")[2])
}

// A revocation list is issued anew by a certification officer; anybody may have it.
func TestCRL(t *testing.T) {
	t.Parallel()
	w := open(t)
	c := w.center(t, "Acme", false)
	for n := range 3 {
		authorities, err := w.Authorities(t.Context(), c.ca)
		require.NoError(t, err)
		require.Equal(t, pki.DevNet, authorities[0].Name)
		require.Equal(t, c.id, authorities[1].Center)
		require.EqualValues(t, n+1, authorities[1].CRLNumber)
		require.Equal(t, service.Completed, w.submitted(t, c.ca, service.RevocationList, service.Data{Center: c.id}).Word)
	}
	_, err := w.Start(t.Context(), c.registration, service.RevocationList, service.Data{Center: c.id})
	require.ErrorIs(t, err, service.ErrNotAllowed)
	_, err = w.CRL(t.Context(), 99)
	require.ErrorIs(t, err, service.ErrUnknown)
}

// What is wrong with a form is said when it is submitted, and kept in the log.
func TestCertificate_Wrong(t *testing.T) {
	t.Parallel()
	w := open(t)
	c, hidden := w.center(t, "Acme", false), w.center(t, "Hidden", true)
	alice := w.person(t, "alice@example.org")
	fine := pkcs10(t, "Alice")
	r, err := w.Start(t.Context(), alice, service.Certificate, service.Data{})
	require.NoError(t, err)
	for _, x := range []struct {
		form service.Data
		want error
	}{
		{service.Data{Profile: "TLSClient", Request: fine}, service.ErrData},
		{service.Data{Center: c.id, Profile: "Root", Request: fine}, pki.ErrProfile},
		{service.Data{Center: c.id, Profile: "TLSClient"}, service.ErrData},
		{service.Data{Center: c.id, Profile: "TLSClient", Request: []byte("x")}, pki.ErrSyntax},
		{service.Data{Center: c.id, Profile: "TLSClient", Request: pkcs10(t, "")}, service.ErrData},
		{service.Data{Center: c.id, Profile: "TLSServer", Request: fine, Hosts: []string{"*"}}, pki.ErrName},
		{service.Data{Center: c.id, Profile: "EmailAndTLSClient", Request: fine, Email: "nobody"}, pki.ErrName},
		{service.Data{Center: hidden.id, Profile: "TLSClient", Request: fine}, service.ErrUnknown},
	} {
		_, err := w.Do(t.Context(), alice, r.ID, service.DoSubmit, x.form)
		require.ErrorIs(t, err, x.want)
		w.get(t, alice, r.ID, service.Edit)
	}
	require.Len(t, w.log(t, alice, r.ID), 8, "all but the trust center that there is not for her")
	taken, err := w.Start(t.Context(), alice, service.TrustCenter, service.Data{Name: "acme"})
	require.NoError(t, err)
	_, err = w.Do(t.Context(), alice, taken.ID, service.DoSubmit, service.Data{})
	require.ErrorIs(t, err, account.ErrTaken)
	authorities, err := w.Authorities(t.Context(), alice)
	require.NoError(t, err)
	require.Len(t, authorities, 2, "the developer network's, and the public trust center's")
	comma := w.submitted(t, alice, service.TrustCenter, service.Data{Name: `Dewey, Cheatem \ Howe`})
	require.Equal(t, service.Completed, comma.Word)
}

// The developer network certifies keys of registered cards alone, for the address of
// their account: S16.
func TestDevNet(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice, bob := w.person(t, "alice@example.org"), w.person(t, "bob@example.org")
	card := situation{firmware: "4.1"}.card(t, "devnet")
	w.register(t, alice, card)
	p256, _ := curve.ByName("secp256r1")
	c := client.New(card)
	_, err := c.Select(t.Context())
	require.NoError(t, err)
	require.NoError(t, c.Login(t.Context(), userPIN))
	made, err := c.GenerateEC(t.Context(), 1, p256, client.KeySpec{Holder: cvc.Name(card.Durable().Device.Name)})
	require.NoError(t, err)
	form := service.Data{Request: made.Raw, Device: card.File(pkcs15.FileDevice), Email: "mallory@example.org"}
	r := w.submitted(t, alice, service.DevNet, form)
	require.Equal(t, service.Completed, r.Word)
	issued, err := w.Issued(t.Context(), alice, r.ID)
	require.NoError(t, err)
	x, err := issued.X509()
	require.NoError(t, err)
	require.Equal(t, []string{"alice@example.org"}, x.EmailAddresses)
	require.Equal(t, "CN=alice@example.org,O=UTEM Emulator,C=XX", x.Subject.String())
	require.Equal(t, "CN=Emulated Developer Network CA 1,O=UTEM Emulator,C=XX", x.Issuer.String())

	for want, f := range map[error]service.Data{
		service.ErrData: {Request: made.Raw}, pki.ErrSyntax: {Request: []byte("x"), Device: form.Device},
	} {
		r, err := w.Start(t.Context(), alice, service.DevNet, f)
		require.NoError(t, err)
		_, err = w.Do(t.Context(), alice, r.ID, service.DoSubmit, service.Data{})
		require.ErrorIs(t, err, want)
	}
	r, err = w.Start(t.Context(), bob, service.DevNet, form)
	require.NoError(t, err)
	_, err = w.Do(t.Context(), bob, r.ID, service.DoSubmit, service.Data{})
	require.ErrorContains(t, err, "is not registered with this account")
	_, err = w.Issued(t.Context(), bob, r.ID)
	require.ErrorIs(t, err, service.ErrUnknown)
}
