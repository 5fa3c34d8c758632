//go:build linux

package soap_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
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
	"hsmemu/applet/pkcs15"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/portal/pki"
	"hsmemu/emulator/portal/soap"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
	"hsmemu/pinstate"
)

// now is what OpenSSL takes for the time, too: its checks are made then.
var now = time.Now().UTC().Truncate(time.Second)

// network is the authority of a developer network.
var network = sync.OnceValue(func() *pki.Issuer {
	a, err := pki.NewDevNet(rand.Reader, now)
	if err != nil {
		panic(err)
	}
	i, err := a.Open()
	if err != nil {
		panic(err)
	}
	return i
})

// mailbox keeps the code of each address, and lets three wrong ones pass.
type mailbox struct {
	mu    sync.Mutex
	codes map[string]string
	tries map[string]int
	asked int
	fails error
	// issued are the certificates that were kept, while there is room.
	issued []soap.Issued
	full   error
}

func newMailbox() *mailbox { return &mailbox{codes: map[string]string{}, tries: map[string]int{}} }

func (m *mailbox) Ask(_ context.Context, email string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails != nil {
		return m.fails
	}
	m.asked++
	m.codes[email] = fmt.Sprintf("%06d", 604225+m.asked)
	return nil
}

func (m *mailbox) Redeem(_ context.Context, email, code string, issue func() (soap.Issued, error)) (soap.Verdict, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails != nil {
		return soap.CodeWrong, m.fails
	}
	if m.tries[email] >= 3 {
		return soap.CodeExcessive, nil
	}
	m.tries[email]++
	if known := m.codes[email]; known == "" || known != code {
		return soap.CodeWrong, nil
	}
	m.tries[email] = 0
	i, err := issue()
	if err = errors.Join(err, m.full); err != nil {
		return soap.CodeWrong, err
	}
	m.issued = append(m.issued, i)
	delete(m.codes, email)
	return soap.CodeRight, nil
}

func config(m *mailbox) soap.Config {
	return soap.Config{
		Issuer: func(context.Context) (*pki.Issuer, error) { return network(), nil },
		Codes:  m, Roots: cvc.EmulatorRoots(), CRL: []string{"http://localhost:8080/se/crl/1"},
		Rand: rand.Reader, Now: func() time.Time { return now },
	}
}

func serve(t testing.TB, c soap.Config) string {
	t.Helper()
	s, err := soap.New(c)
	require.NoError(t, err)
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return h.URL + soap.Path
}

// ask is a request for a certificate; an empty code leaves the element out.
type ask struct {
	request, device         []byte
	commonName, email, code string
}

// body is the request as requestcert.js sends it.
func (a ask) body() string {
	code := ""
	if a.code != "" {
		code = "<ActivationCode>" + a.code + "</ActivationCode>"
	}
	return `<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:ns="http://www.openscdp.org/CAService"><soapenv:Header/><soapenv:Body><ns:RequestCertificate>` +
		`<CertificateSigningRequest>` + base64.StdEncoding.EncodeToString(a.request) + `</CertificateSigningRequest>` +
		`<DeviceCertificate>` + base64.StdEncoding.EncodeToString(a.device) + `</DeviceCertificate>` +
		`<CommonName>` + a.commonName + `</CommonName><eMailAddress>` + a.email + `</eMailAddress>` + code +
		`</ns:RequestCertificate></soapenv:Body></soapenv:Envelope>`
}

// answer is what the service says, read strictly.
type answer struct {
	XMLName xml.Name `xml:"http://schemas.xmlsoap.org/soap/envelope/ Envelope"`
	Body    struct {
		Response *struct {
			ReturnCode   soap.ReturnCode `xml:"ReturnCode"`
			Certificates struct {
				Certificate []string `xml:"Certificate"`
			} `xml:"Certificates"`
		} `xml:"http://www.openscdp.org/CAService RequestCertificateResponse"`
		Fault *struct {
			Code   string `xml:"faultcode"`
			String string `xml:"faultstring"`
		} `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault"`
	} `xml:"http://schemas.xmlsoap.org/soap/envelope/ Body"`
}

func post(t testing.TB, url, contentType, action, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	r.Header.Set("SOAPAction", action)
	w, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer w.Body.Close()
	b, err := io.ReadAll(w.Body)
	require.NoError(t, err)
	return w.StatusCode, string(b)
}

// send sends a request and returns the code and the certificates, in DER.
func send(t testing.TB, url, body string) (soap.ReturnCode, [][]byte) {
	t.Helper()
	status, text := post(t, url, "text/xml; charset=utf-8", `"`+soap.Action+`"`, body)
	require.Equal(t, http.StatusOK, status, text)
	var a answer
	require.NoError(t, xml.Unmarshal([]byte(text), &a), text)
	require.NotNil(t, a.Body.Response, text)
	var ders [][]byte
	for _, c := range a.Body.Response.Certificates.Certificate {
		der, err := base64.StdEncoding.DecodeString(c)
		require.NoError(t, err)
		ders = append(ders, der)
	}
	return a.Body.Response.ReturnCode, ders
}

var pin = []byte("648219")

// newCard is a card that was taken into use.
func newCard(t testing.TB, name string) *client.Client {
	t.Helper()
	made, err := chiptest.Manufacture("4.1", name)
	require.NoError(t, err)
	c := client.New(made)
	_, err = c.Select(t.Context())
	require.NoError(t, err)
	require.NoError(t, c.Initialise(t.Context(), client.Setup{Options: pinstate.OptionResetEnabled, SOPIN: []byte("57621880"), PIN: pin, Tries: 3}))
	require.NoError(t, c.Login(t.Context(), pin))
	return c
}

// evidence makes a key on a card, and is what the service is sent of it.
func evidence(t testing.TB, c *client.Client, ref byte, kind string) ask {
	t.Helper()
	spec := client.KeySpec{Holder: "UTCC00001"}
	var r cvc.Authenticated
	var err error
	if on, ok := curve.ByName(kind); ok {
		r, err = c.GenerateEC(t.Context(), ref, on, spec)
	} else {
		r, err = c.GenerateRSA(t.Context(), ref, 2048, spec)
	}
	require.NoError(t, err)
	chain, err := c.Device(t.Context())
	require.NoError(t, err)
	return ask{request: r.Raw, device: chain.Bytes(), commonName: "Alice", email: "alice@example.com"}
}

func openssl(t testing.TB, folder string, args ...string) (string, error) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "openssl", args...)
	c.Dir = folder
	out, err := c.CombinedOutput()
	return string(out), err
}

// onCard signs with a key on a card, as a TLS client does.
type onCard struct {
	ctx    context.Context
	card   *client.Client
	ref    byte
	public crypto.PublicKey
}

func (k onCard) Public() crypto.PublicKey { return k.public }

func (k onCard) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	algorithm := keystore.RSAPSS // TLS 1.3 has no other
	if _, ec := k.public.(*ecdsa.PublicKey); ec {
		algorithm = keystore.ECDSA
	}
	return k.card.Sign(k.ctx, k.ref, algorithm, digest)
}

// PORTAL-30, the way of the vendor's requestcert.js: a key on the card, a request without code,
// one with a wrong code, one with the right one; the certificate goes to the key, and
// then the card logs in to a server with it.
func TestService_CertifiesACardsKey(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"RSA", "secp256r1", "secp384r1"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			mails := newMailbox()
			c := config(mails)
			var ends []soap.ReturnCode
			c.Ended = func(code soap.ReturnCode, _ error) { ends = append(ends, code) }
			url := serve(t, c)
			card := newCard(t, "a card with "+kind)
			a := evidence(t, card, 1, kind)
			require.NoError(t, card.WriteFile(t.Context(), pkcs15.File(pkcs15.PrefixKeyDescription, 1), pkcs15.Key{
				Kind: map[bool]pkcs15.Kind{true: pkcs15.RSA, false: pkcs15.EC}[kind == "RSA"], Label: "localhost", ID: []byte{1}, Usage: pkcs15.UsageRSA, Bits: 2048,
			}.Bytes()))

			code, ders := send(t, url, a.body())
			require.Equal(t, soap.ActivationCodeRequired, code)
			require.Empty(t, ders)
			a.code = "000000"
			code, ders = send(t, url, a.body())
			require.Equal(t, soap.ActivationCodeWrong, code)
			require.Empty(t, ders)
			require.Empty(t, mails.issued)
			a.code = mails.codes["alice@example.com"]
			code, ders = send(t, url, a.body())
			require.Equal(t, soap.OK, code)
			require.Len(t, ders, 2, "its own, and the root's")
			require.Equal(t, network().Certificate.Raw, ders[1])
			require.NoError(t, card.WriteFile(t.Context(), pkcs15.File(pkcs15.PrefixCertificate, 1), ders[0]))
			require.Equal(t, []soap.ReturnCode{soap.ActivationCodeRequired, soap.ActivationCodeWrong, soap.OK}, ends)
			require.Len(t, mails.issued, 1)
			require.Equal(t, "alice@example.com", mails.issued[0].Email)
			require.True(t, strings.HasPrefix(mails.issued[0].Device, "/UTSRCAEM1/UTDICAEM01/DENK99"), mails.issued[0].Device)
			code, _ = send(t, url, a.body())
			require.Equal(t, soap.ActivationCodeWrong, code, "a code is good for one certificate")

			stored, err := card.ReadFile(t.Context(), pkcs15.File(pkcs15.PrefixCertificate, 1))
			require.NoError(t, err)
			require.Equal(t, mails.issued[0].Certificate, stored)
			folder := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(folder, "root.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ders[1]}), 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(folder, "card.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: stored}), 0o600))
			for _, purpose := range []string{"sslclient", "smimesign"} {
				out, err := openssl(t, folder, "verify", "-x509_strict", "-purpose", purpose, "-CAfile", "root.pem", "card.pem")
				require.NoError(t, err, out)
			}
			out, err := openssl(t, folder, "x509", "-in", "card.pem", "-noout", "-text")
			require.NoError(t, err, out)
			require.Contains(t, out, "email:alice@example.com")
			require.Contains(t, out, "http://localhost:8080/se/crl/1")
			certificate, err := x509.ParseCertificate(stored)
			require.NoError(t, err)
			require.Equal(t, "CN=Alice,O=UTEM Emulator,C=XX", certificate.Subject.String())
			require.Equal(t, 1095*24*time.Hour, certificate.NotAfter.Sub(certificate.NotBefore))
			login(t, card, certificate)
		})
	}
}

// login has a card authenticate a client of TLS.
func login(t *testing.T, card *client.Client, certificate *x509.Certificate) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(network().Certificate)
	var seen string
	h := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen = r.TLS.VerifiedChains[0][0].Subject.CommonName
	}))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	require.NoError(t, err)
	request, err := pki.ParsePKCS10(der)
	require.NoError(t, err)
	profile, err := pki.ProfileNamed("TLSServer")
	require.NoError(t, err)
	server, err := network().Issue(rand.Reader, pki.Order{Profile: profile, Request: request, Subject: pki.Subject{CommonName: "x", Hosts: []string{"127.0.0.1"}}, At: now})
	require.NoError(t, err)
	h.TLS = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{server.Raw}, PrivateKey: key}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: roots,
	}
	h.StartTLS()
	defer h.Close()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{{
		Certificate: [][]byte{certificate.Raw}, PrivateKey: onCard{t.Context(), card, 1, certificate.PublicKey},
	}}}}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.URL, nil)
	require.NoError(t, err)
	w, err := transport.RoundTrip(r)
	require.NoError(t, err)
	require.NoError(t, w.Body.Close())
	require.Equal(t, "Alice", seen)
}

// PORTAL-31: every return code, and what it comes of.
func TestService_ReturnCodes(t *testing.T) {
	t.Parallel()
	card := newCard(t, "codes")
	good := evidence(t, card, 1, "secp256r1")
	other := evidence(t, newCard(t, "another"), 1, "secp256r1")
	brainpool := evidence(t, card, 2, "brainpoolP256r1")
	forged := append([]byte{}, good.request...)
	forged[len(forged)-1] ^= 1
	with := func(change func(*ask)) string {
		a := good
		change(&a)
		return a.body()
	}
	broken := errors.New("no mail today")
	for name, c := range map[string]struct {
		body   string
		change func(*soap.Config, *mailbox)
		code   soap.ReturnCode
		quiet  bool // nobody is sent a mail
	}{
		"required":           {with(func(*ask) {}), nil, soap.ActivationCodeRequired, false},
		"wrong":              {with(func(a *ask) { a.code = "123456" }), nil, soap.ActivationCodeWrong, true},
		"excessive tries":    {with(func(a *ask) { a.code = "123456" }), func(_ *soap.Config, m *mailbox) { m.tries[good.email] = 3 }, soap.ExcessiveTries, true},
		"excessive mails":    {with(func(*ask) {}), func(_ *soap.Config, m *mailbox) { m.fails = soap.ErrExcessive }, soap.ExcessiveTries, true},
		"no mail":            {with(func(*ask) {}), func(_ *soap.Config, m *mailbox) { m.fails = broken }, soap.InternalError, true},
		"no answer":          {with(func(a *ask) { a.code = "1" }), func(_ *soap.Config, m *mailbox) { m.fails = broken }, soap.InternalError, true},
		"another device":     {with(func(a *ask) { a.device = other.device }), nil, soap.NotAllowed, true},
		"another root":       {with(func(*ask) {}), func(c *soap.Config, _ *mailbox) { c.Roots = cvc.VendorRoots() }, soap.NotAllowed, true},
		"a curve":            {brainpool.body(), nil, soap.NotAllowed, true},
		"forged":             {with(func(a *ask) { a.request = forged }), nil, soap.Signature, true},
		"no request":         {with(func(a *ask) { a.request = nil }), nil, soap.Syntax, true},
		"no device":          {with(func(a *ask) { a.device = nil }), nil, soap.Syntax, true},
		"no name":            {with(func(a *ask) { a.commonName = "" }), nil, soap.Syntax, true},
		"a long name":        {with(func(a *ask) { a.commonName = strings.Repeat("x", 65) }), nil, soap.Syntax, true},
		"no address":         {with(func(a *ask) { a.email = "" }), nil, soap.Syntax, true},
		"no such address":    {with(func(a *ask) { a.email = "alice" }), nil, soap.Syntax, true},
		"two addresses":      {with(func(a *ask) { a.email = "a@example.com, b@example.com" }), nil, soap.Syntax, true},
		"not base64":         {strings.Replace(good.body(), "<DeviceCertificate>", "<DeviceCertificate>!", 1), nil, soap.Syntax, true},
		"another operation":  {strings.ReplaceAll(good.body(), "RequestCertificate>", "RevokeCertificate>"), nil, soap.Syntax, true},
		"another namespace":  {strings.Replace(good.body(), "openscdp.org/CAService", "example.org/CAService", 1), nil, soap.Syntax, true},
		"an element more":    {strings.Replace(good.body(), "</ns:RequestCertificate>", "<Role/></ns:RequestCertificate>", 1), nil, soap.Syntax, true},
		"an element less":    {strings.Replace(good.body(), "<CommonName>Alice</CommonName>", "", 1), nil, soap.Syntax, true},
		"an element inside":  {strings.Replace(good.body(), "Alice", "<b>Alice</b>", 1), nil, soap.Syntax, true},
		"in another order":   {strings.Replace(good.body(), "<CommonName>Alice</CommonName><eMailAddress>alice@example.com</eMailAddress>", "<eMailAddress>alice@example.com</eMailAddress><CommonName>Alice</CommonName>", 1), nil, soap.Syntax, true},
		"namespaced, folded": {strings.NewReplacer("ns:RequestCertificate", "RequestCertificate", `xmlns:ns=`, `xmlns=`, "</CommonName>", "</CommonName>\n ", "<CommonName>", "<CommonName>\n").Replace(good.body()), nil, soap.ActivationCodeRequired, false},
	} {
		mails := newMailbox()
		config := config(mails)
		if c.change != nil {
			c.change(&config, mails)
		}
		code, ders := send(t, serve(t, config), c.body)
		require.Equal(t, c.code, code, name)
		require.Empty(t, ders, name)
		require.Equal(t, c.quiet, mails.asked == 0, name)
	}
}

// What was not recorded is not handed out, and where nobody can certify no code is
// used up.
func TestService_FailsWithoutLosses(t *testing.T) {
	t.Parallel()
	a := evidence(t, newCard(t, "losses"), 1, "secp256r1")
	mails := newMailbox()
	require.NoError(t, mails.Ask(t.Context(), a.email))
	a.code = mails.codes[a.email]
	away := errors.New("it is away")
	c := config(mails)
	c.Issuer = func(context.Context) (*pki.Issuer, error) { return nil, away }
	var why error
	c.Ended = func(_ soap.ReturnCode, err error) { why = err }
	code, ders := send(t, serve(t, c), a.body())
	require.Equal(t, soap.InternalError, code)
	require.ErrorIs(t, why, away)
	require.Empty(t, ders)
	require.NotEmpty(t, mails.codes)
	c = config(mails)
	mails.full = errors.New("no room on the disk")
	code, ders = send(t, serve(t, c), a.body())
	require.Equal(t, soap.InternalError, code)
	require.Empty(t, ders, "it is not kept")
	mails.full = nil
	code, ders = send(t, serve(t, c), a.body())
	require.Equal(t, soap.OK, code)
	require.NotEmpty(t, ders)
}

// Bodies that are no envelope of SOAP 1.1, and the faults they get.
func TestService_Faults(t *testing.T) {
	t.Parallel()
	url := serve(t, config(newMailbox()))
	const open = `<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/">`
	for name, c := range map[string]struct{ body, code, text string }{
		"nothing":         {"", "soapenv:Client", "empty"},
		"no XML":          {"{}", "soapenv:Client", "text outside"},
		"half":            {open, "soapenv:Client", "not XML"},
		"entities":        {`<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]>` + open + `&c;</e:Envelope>`, "soapenv:Client", "document types"},
		"an outer entity": {`<!DOCTYPE a SYSTEM "file:///etc/passwd">` + open + `</e:Envelope>`, "soapenv:Client", "document types"},
		"unknown entity":  {open + `&b;</e:Envelope>`, "soapenv:Client", "invalid character entity"},
		"instruction":     {`<?xml-stylesheet href="x"?>` + open + `</e:Envelope>`, "soapenv:Client", "processing instructions"},
		"another charset": {`<?xml version="1.0" encoding="UTF-16"?>` + open + `</e:Envelope>`, "soapenv:Client", "not XML"},
		"not UTF-8":       {open + "\xFF</e:Envelope>", "soapenv:Client", "invalid UTF-8"},
		"deep":            {open + strings.Repeat("<a>", 9) + strings.Repeat("</a>", 9) + `</e:Envelope>`, "soapenv:Client", "deep"},
		"many":            {open + strings.Repeat("<a/>", 65) + `</e:Envelope>`, "soapenv:Client", "elements"},
		"long":            {open + strings.Repeat("a", 33<<10) + `</e:Envelope>`, "soapenv:Client", "bytes in an element"},
		"two":             {open + `</e:Envelope><a/>`, "soapenv:Client", "second document"},
		"no body":         {open + `</e:Envelope>`, "soapenv:Client", "no body"},
		"two bodies":      {open + `<e:Body><a/></e:Body><e:Body><a/></e:Body></e:Envelope>`, "soapenv:Client", "no body"},
		"two operations":  {open + `<e:Body><a/><a/></e:Body></e:Envelope>`, "soapenv:Client", "no body"},
		"SOAP 1.2":        {`<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope"><e:Body><a/></e:Body></e:Envelope>`, "soapenv:VersionMismatch", "1.1"},
		"a header":        {open + `<e:Header><a e:mustUnderstand="1"/></e:Header><e:Body><a/></e:Body></e:Envelope>`, "soapenv:MustUnderstand", "header"},
		"no envelope":     {"<a/>", "soapenv:Client", "no envelope"},
		"markup in text":  {open + `<a></b></e:Envelope>`, "soapenv:Client", "&lt;a&gt;"},
	} {
		status, text := post(t, url, "text/xml", soap.Action, c.body)
		require.Equal(t, http.StatusInternalServerError, status, name)
		var a answer
		require.NoError(t, xml.Unmarshal([]byte(text), &a), text)
		require.NotNil(t, a.Body.Fault, name)
		require.Equal(t, c.code, a.Body.Fault.Code, name)
		require.Contains(t, text, c.text, name)
	}
	// An optional header is passed over.
	_, text := post(t, url, "text/xml", "", open+`<e:Header><a e:mustUnderstand="0"/></e:Header><e:Body><a/></e:Body></e:Envelope>`)
	require.Contains(t, text, "<ReturnCode>failure_syntax</ReturnCode>")
}

func TestService_HTTP(t *testing.T) {
	t.Parallel()
	url := serve(t, config(newMailbox()))
	for name, c := range map[string]struct {
		kind, action, body string
		status             int
	}{
		"a form":          {"application/x-www-form-urlencoded", soap.Action, "", http.StatusUnsupportedMediaType},
		"plain text":      {"text/plain", soap.Action, "", http.StatusUnsupportedMediaType},
		"no type":         {"", soap.Action, "", http.StatusUnsupportedMediaType},
		"Latin 1":         {"text/xml; charset=iso-8859-1", soap.Action, "", http.StatusUnsupportedMediaType},
		"too long":        {"text/xml", soap.Action, strings.Repeat(" ", soap.BodyMax+1), http.StatusRequestEntityTooLarge},
		"another action":  {"text/xml", "urn:other", "<a/>", http.StatusInternalServerError},
		"the long and OK": {"text/xml", soap.Action, strings.Repeat(" ", soap.BodyMax), http.StatusInternalServerError},
	} {
		status, text := post(t, url, c.kind, c.action, c.body)
		require.Equal(t, c.status, status, "%s: %s", name, text)
	}
	for method, want := range map[string]int{http.MethodPut: http.StatusMethodNotAllowed, http.MethodGet: http.StatusNotFound} {
		r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
		require.NoError(t, err)
		w, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, w.Body.Close())
		require.Equal(t, want, w.StatusCode)
	}
	_, err := soap.New(soap.Config{})
	require.Error(t, err)
}

// The description says the service's own address, its operation and every return
// code, and the elements that requests and answers have.
func TestService_Description(t *testing.T) {
	t.Parallel()
	type described struct {
		Elements []struct {
			Name     string `xml:"name,attr"`
			Children []struct {
				Name string `xml:"name,attr"`
			} `xml:"complexType>sequence>element"`
		} `xml:"types>schema>element"`
		Codes []struct {
			Value soap.ReturnCode `xml:"value,attr"`
		} `xml:"types>schema>simpleType>restriction>enumeration"`
		Action struct {
			Name string `xml:"soapAction,attr"`
		} `xml:"binding>operation>operation"`
		Address struct {
			Location string `xml:"location,attr"`
		} `xml:"service>port>address"`
	}
	get := func(url string) (d described) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"?wsdl", nil)
		require.NoError(t, err)
		w, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer w.Body.Close()
		require.Equal(t, "text/xml; charset=utf-8", w.Header.Get("Content-Type"))
		require.NoError(t, xml.NewDecoder(w.Body).Decode(&d))
		return d
	}
	url := serve(t, config(newMailbox()))
	d := get(url)
	require.Equal(t, url, d.Address.Location)
	require.Equal(t, soap.Action, d.Action.Name)
	var codes []soap.ReturnCode
	for _, c := range d.Codes {
		codes = append(codes, c.Value)
	}
	require.Equal(t, []soap.ReturnCode{
		soap.OK, soap.Syntax, soap.Signature, soap.NotAllowed, soap.ExcessiveTries, soap.ActivationCodeRequired, soap.ActivationCodeWrong, soap.InternalError,
	}, codes)
	require.Len(t, d.Elements, 2)
	var names []string
	for _, c := range d.Elements[0].Children {
		names = append(names, c.Name)
	}
	require.Equal(t, []string{"CertificateSigningRequest", "DeviceCertificate", "CommonName", "eMailAddress", "ActivationCode"}, names)
	c := config(newMailbox())
	c.URL = `https://portal.example/se/caws?a="b"&c`
	require.Equal(t, c.URL, get(serve(t, c)).Address.Location)
}

// No body panics, every answer is XML with one of the codes or a fault, and none has a
// certificate: nobody guesses a code.
func FuzzService(f *testing.F) {
	a := evidence(f, newCard(f, "fuzz"), 1, "secp256r1")
	f.Add([]byte(a.body()))
	a.code = "123456"
	f.Add([]byte(a.body()))
	f.Add([]byte(`<?xml version="1.0"?><e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Header><a e:mustUnderstand="1"/></e:Header><e:Body><a/></e:Body></e:Envelope>`))
	f.Add([]byte(`<!DOCTYPE a [<!ENTITY b "c">]><a>&b;&lt;&#65;<![CDATA[x]]><!-- y --></a>`))
	s, err := soap.New(config(newMailbox()))
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, soap.Path, bytes.NewReader(body))
		r.Header.Set("Content-Type", "text/xml")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code == http.StatusRequestEntityTooLarge {
			return
		}
		var a answer
		if err := xml.Unmarshal(w.Body.Bytes(), &a); err != nil {
			t.Fatalf("%v: %s", err, w.Body)
		}
		switch {
		case w.Code == http.StatusInternalServerError && a.Body.Fault != nil:
		case w.Code == http.StatusOK && a.Body.Response != nil && a.Body.Response.ReturnCode != soap.OK && len(a.Body.Response.Certificates.Certificate) == 0:
		default:
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	})
}
