package site_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/applet/pkcs15"
	"hsmemu/emulator"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/pki"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/service"
	"hsmemu/emulator/portal/site"
	"hsmemu/emulator/portal/soap"
	"hsmemu/emulator/ram"
	"hsmemu/keystore/curve"
)

// answers has what is between two tags of an answer by SOAP.
var (
	returnCode   = regexp.MustCompile(`<ReturnCode>(.*?)</ReturnCode>`)
	certificates = regexp.MustCompile(`<Certificate>(.*?)</Certificate>`)
)

// ask asks the certificate service for a certificate of a key on a card.
func (p *portal) ask(request, device []byte, email, code string) (soap.ReturnCode, [][]byte) {
	p.t.Helper()
	if code != "" {
		code = "<ActivationCode>" + code + "</ActivationCode>"
	}
	body := fmt.Sprintf(`<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><n:RequestCertificate xmlns:n=%q>`+
		`<CertificateSigningRequest>%s</CertificateSigningRequest><DeviceCertificate>%s</DeviceCertificate><CommonName>Alice</CommonName>`+
		`<eMailAddress>%s</eMailAddress>%s</n:RequestCertificate></s:Body></s:Envelope>`, soap.Namespace,
		base64.StdEncoding.EncodeToString(request), base64.StdEncoding.EncodeToString(device), email, code)
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.url+soap.Path, strings.NewReader(body))
	require.NoError(p.t, err)
	r.Header.Set("Content-Type", "text/xml; charset=utf-8")
	r.Header.Set("SOAPAction", soap.Action)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(p.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(p.t, err)
	require.Equal(p.t, http.StatusOK, answer.StatusCode, string(text))
	var ders [][]byte
	for _, c := range certificates.FindAllSubmatch(text, -1) {
		der, err := base64.StdEncoding.DecodeString(string(c[1]))
		require.NoError(p.t, err)
		ders = append(ders, der)
	}
	return soap.ReturnCode(returnCode.FindSubmatch(text)[1]), ders
}

// keyOn makes a key on a card, and is the card's request and its device certificates.
func keyOn(t testing.TB, c *emulator.Card) (request, device []byte) {
	t.Helper()
	k := client.New(c)
	on, _ := curve.ByName("secp256r1")
	r, err := k.GenerateEC(t.Context(), 1, on, client.KeySpec{Holder: "UTCC00001"})
	require.NoError(t, err)
	chain, err := k.Device(t.Context())
	require.NoError(t, err)
	return r.Raw, chain.Bytes()
}

// lines are those of the audit log, the oldest first.
func (p *portal) lines() (list []string) {
	p.t.Helper()
	require.NoError(p.t, p.Records.Read(p.t.Context(), func(tx *records.Tx) error {
		events, err := tx.Events(1000)
		for _, e := range events {
			list = append([]string{fmt.Sprintf("%d %s %s: %s: %s", e.Account, e.Token, e.Action, e.Object, e.Detail)}, list...)
		}
		return err
	}))
	return list
}

// revoked are the serial numbers of a revocation list.
func (p *person) revoked(path string) (serials []string) {
	p.t.Helper()
	list, err := x509.ParseRevocationList([]byte(p.get(path).text))
	require.NoError(p.t, err)
	for _, e := range list.RevokedCertificateEntries {
		serials = append(serials, e.SerialNumber.String())
	}
	return serials
}

// PORTAL-30: the certificate service is part of the portal. Its codes have limits, and
// what it issues is in the records, so that it can be revoked.
func TestPortal_CertificateService(t *testing.T) {
	t.Parallel()
	p := open(t)
	admin := p.person()
	admin.register(card(t, "DENK0000001", "4.1"), "admin@example.org")
	request, device := keyOn(t, card(t, "DENK0000002", "4.1"))
	code, _ := p.ask(request, device, "alice@example.org", "")
	require.Equal(t, soap.ActivationCodeRequired, code)
	mailed := digits.FindString(admin.get("/se/outbox").text)
	wrong := "000000"
	if mailed == wrong {
		wrong = "000001"
	}
	code, _ = p.ask(request, device, "alice@example.org", wrong)
	require.Equal(t, soap.ActivationCodeWrong, code)
	code, _ = p.ask(request, device, "bob@example.org", mailed)
	require.Equal(t, soap.ExcessiveTries, code, "it was sent to another address")
	code, chain := p.ask(request, device, "ALICE@example.org", mailed)
	require.Equal(t, soap.OK, code)
	require.Len(t, chain, 2)
	got, err := x509.ParseCertificate(chain[0])
	require.NoError(t, err)
	block, _ := pem.Decode([]byte(p.person().get("/se/devnet.pem").text))
	require.Equal(t, chain[1], block.Bytes, "everybody may have the root")
	root, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	require.NoError(t, got.CheckSignatureFrom(root))
	code, _ = p.ask(request, device, "alice@example.org", mailed)
	require.Equal(t, soap.ExcessiveTries, code, "the code is used up")

	// Whoever has no account cannot revoke it, so a certification officer does.
	require.Equal(t, []string{p.url + "/se/crl/1"}, got.CRLDistributionPoints)
	require.Empty(t, admin.revoked("/se/crl/1"))
	require.Contains(t, admin.get("/se/requests").text, `"/se/requests/1"`)
	page := admin.post("/se/requests/1", "action", "Revoke Certificate", "reason", "1")
	require.Contains(t, page.text, "Certificate revoked (Revoked)")
	require.Equal(t, []string{got.SerialNumber.String()}, admin.revoked("/se/crl/1"))
	log := strings.Join(p.lines(), "\n")
	require.Contains(t, log, "0  activation code sent: alice@example.org: for a certificate")
	require.Contains(t, log, "0  activation code wrong: alice@example.org: for a certificate, 2 tries left")
	require.Regexp(t, `0 /UTSRCAEM1/UTDICAEM01/DENK0000002 service request: DevNetCertificate 1: Certificate issued \(Completed\); .*serial number [0-9A-F]+`, log)

	// That of an address with an account is its owner's, who revokes it. An address gets
	// five codes an hour, one of which was for the registration.
	owner := p.person()
	owner.register(card(t, "DENK0000003", "4.1"), "owner@example.org")
	require.NotContains(t, owner.get("/se/requests").text, `"/se/requests/2"`)
	for range 4 {
		code, _ = p.ask(request, device, "owner@example.org", "")
		require.Equal(t, soap.ActivationCodeRequired, code)
	}
	code, _ = p.ask(request, device, "owner@example.org", "")
	require.Equal(t, soap.ExcessiveTries, code)
	mailed = digits.FindString(admin.get("/se/outbox").text)
	for range 3 {
		wrong = fmt.Sprintf("%06d", (number(mailed)+1)%1_000_000)
		code, _ = p.ask(request, device, "owner@example.org", wrong)
		require.Equal(t, soap.ActivationCodeWrong, code)
	}
	code, _ = p.ask(request, device, "owner@example.org", mailed)
	require.Equal(t, soap.ExcessiveTries, code, "three tries")

	_, err = p.Accounts.AccountByEmail(t.Context(), "alice@example.org")
	require.ErrorIs(t, err, account.ErrNoAccount, "a certificate makes no account")
	require.NoError(t, p.Service.Record(t.Context(), root, "", "owner@example.org"))
	require.Contains(t, owner.get("/se/requests").text, `"/se/requests/2"`)
	require.Contains(t, owner.post("/se/requests/2", "action", "Revoke Certificate", "reason", "0").text, "Certificate revoked (Revoked)")
	require.Len(t, admin.revoked("/se/crl/1"), 2)
}

// A certificate that cannot be kept is not handed out, and does not use up the code.
func TestPortal_CertificateNotKept(t *testing.T) {
	t.Parallel()
	p := open(t)
	request, device := keyOn(t, card(t, "DENK0000002", "4.1"))
	code, _ := p.ask(request, device, "alice@example.org", "")
	require.Equal(t, soap.ActivationCodeRequired, code)
	mailed := digits.FindString(p.person().get("/se/outbox").text)
	change := func(schema string) {
		require.NoError(t, p.Records.Write(t.Context(), func(tx *records.Tx) error {
			_, err := tx.Exec(schema)
			return err
		}))
	}
	change("CREATE TRIGGER full BEFORE INSERT ON certificates BEGIN SELECT RAISE(ABORT, 'no room'); END")
	code, chain := p.ask(request, device, "alice@example.org", mailed)
	require.Equal(t, soap.InternalError, code)
	require.Empty(t, chain)
	require.Zero(t, p.count("SELECT COUNT(*) FROM requests"))
	change("DROP TRIGGER full")
	code, chain = p.ask(request, device, "alice@example.org", mailed)
	require.Equal(t, soap.OK, code)
	require.Len(t, chain, 2)
	require.Equal(t, 1, p.count("SELECT COUNT(*) FROM certificates WHERE request IS NOT NULL"))
}

// number is one in decimal.
func number(text string) (n int) {
	_, _ = fmt.Sscanf(text, "%d", &n)
	return n
}

// pair makes a client certificate of the developer network.
func (p *portal) pair(email string) tls.Certificate {
	p.t.Helper()
	_, issuer, err := p.Service.DevNetAuthority(p.t.Context())
	require.NoError(p.t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(p.t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	require.NoError(p.t, err)
	r, err := pki.ParsePKCS10(der)
	require.NoError(p.t, err)
	profile, err := pki.ProfileNamed("TLSClient")
	require.NoError(p.t, err)
	c, err := issuer.Issue(rand.Reader, pki.Order{Profile: profile, Request: r, Subject: pki.Subject{CommonName: "program"}, At: time.Now()})
	require.NoError(p.t, err)
	require.NoError(p.t, p.Service.Record(p.t.Context(), c, "", email))
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}
}

// https asks, with the developer network's root and a certificate if there
// is one.
func (p *portal) https(certificates ...tls.Certificate) *http.Client {
	p.t.Helper()
	config := p.roots()
	config.Certificates = certificates
	transport := &http.Transport{TLSClientConfig: config}
	p.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// rootsOf trusts one authority.
func rootsOf(root *x509.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return &tls.Config{RootCAs: pool}
}

// Registered cards are HSMs for programs with a certificate; whose was revoked, and
// who has none, is refused.
func TestPortal_CloudHSM(t *testing.T) {
	t.Parallel()
	p := open(t)
	operator := p.person()
	registered := card(t, "DENK0000001", "4.1")
	operator.register(registered, "operator@example.org")
	k := client.New(registered)
	request, _ := keyOn(t, registered)
	require.NoError(t, k.WriteFile(t.Context(), pkcs15.File(pkcs15.PrefixCertificate, 1), request))
	require.NoError(t, k.WriteFile(t.Context(), pkcs15.File(pkcs15.PrefixKeyDescription, 1), pkcs15.Key{
		Kind: pkcs15.EC, Label: "sign", ID: []byte{0xA0, 1}, Usage: pkcs15.Sign, Bits: 256,
	}.Bytes()))
	own, err := p.TLS(t.Context(), []string{"127.0.0.1"})
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, end := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- p.ServeHSM(ctx, l, own, nil) }()
	defer func() { end(); require.NoError(t, <-served) }()

	for serial, why := range map[string]string{"DENK0000002": "nobody has registered it", "DENK0000001": "it has another key than the registered one"} {
		var last ram.Notice
		refused, cancel := context.WithTimeout(t.Context(), patience) // one that is not refused stays
		err := (&ram.Agent{Card: card(t, serial, "4.1"), Notice: func(n ram.Notice) { last = n }}).Run(refused, p.url+"/rt/hsm")
		cancel()
		require.Error(t, err, why)
		require.Equal(t, -1, last.Number, why)
	}
	connected := make(chan struct{})
	go func() { _ = (&ram.Agent{Card: registered}).Run(ctx, p.url+"/rt/hsm"); close(connected) }()
	defer func() { end(); <-connected }()
	const path = "/UTSRCAEM1/UTDICAEM01/DENK0000001"
	require.Eventually(t, func() bool { return strings.Contains(operator.get("/se/hsms").text, path) }, patience, 10*time.Millisecond)
	shown := operator.get("/se/hsms").text
	require.Contains(t, shown, `<span class="good">logged in</span>`)
	require.Contains(t, shown, "No page takes a PIN")
	require.NotContains(t, shown, "DENK0000002")

	good := p.pair("operator@example.org")
	ask := func(c *http.Client, path string) (int, string) {
		r, err := c.Get("https://" + l.Addr().String() + "/se/api/" + path)
		require.NoError(t, err)
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		return r.StatusCode, string(text)
	}
	program := p.https(good)
	status, text := ask(program, "hsms")
	require.Equal(t, http.StatusOK, status)
	var hsms []struct{ ID string }
	require.NoError(t, json.Unmarshal([]byte(text), &hsms))
	require.Equal(t, "UTSRCAEM1.UTDICAEM01.DENK0000001", hsms[0].ID)
	status, text = ask(program, "keys")
	require.Equal(t, http.StatusOK, status)
	var keys []struct{ ID, PubKey string }
	require.NoError(t, json.Unmarshal([]byte(text), &keys))
	require.Len(t, keys, 1)
	hash := sha256.Sum256([]byte("text"))
	r, err := program.Post("https://"+l.Addr().String()+"/se/api/keys/"+keys[0].ID+"/signhash", "application/json",
		strings.NewReader(fmt.Sprintf(`{"hash":%q,"algo":"ECDSA"}`, hex.EncodeToString(hash[:]))))
	require.NoError(t, err)
	var signed struct{ Signature string }
	require.NoError(t, json.NewDecoder(r.Body).Decode(&signed))
	require.NoError(t, r.Body.Close())
	signature, err := hex.DecodeString(signed.Signature)
	require.NoError(t, err)
	der, err := base64.StdEncoding.DecodeString(keys[0].PubKey)
	require.NoError(t, err)
	public, err := x509.ParsePKIXPublicKey(der)
	require.NoError(t, err)
	require.True(t, ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), hash[:], signature))

	status, _ = ask(p.https(), "hsms")
	require.Equal(t, http.StatusUnauthorized, status)
	// The certificate of somebody else, or of nobody who has an account, is for his own cards.
	for _, stranger := range []string{"stranger@example.org", "nobody@example.org"} {
		if stranger[0] == 's' {
			p.person().register(card(t, "DENK0000004", "4.1"), stranger)
		}
		foreign := p.https(p.pair(stranger))
		status, text = ask(foreign, "hsms")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, "[]", strings.TrimSpace(text))
		status, _ = ask(foreign, "keys/"+keys[0].ID)
		require.Equal(t, http.StatusNotFound, status)
	}
	page := operator.post("/se/requests/1", "action", "Revoke Certificate", "reason", "1")
	require.Contains(t, page.text, "Revoked")
	status, text = ask(program, "hsms") // over the connection that it has
	require.Equal(t, http.StatusForbidden, status)
	require.Contains(t, text, "certificate_revoked")

	// An Operator of nothing sees no HSM.
	other := p.person()
	other.register(card(t, "DENK0000003", "4.1"), "other@example.org")
	require.Equal(t, http.StatusForbidden, other.get("/se/hsms").status)
}

// The portal's own certificate is for the names that it was asked for, stays the same
// as long as it can, and is made anew before it ends.
func TestPortal_OwnCertificate(t *testing.T) {
	t.Parallel()
	folder, now := t.TempDir(), time.Now()
	opened := func() *site.Portal {
		p, err := site.Open(t.Context(), folder, site.Options{Records: records.Options{Now: func() time.Time { return now }}, Reach: site.Reach{URL: "https://portal.example.org"}})
		require.NoError(t, err)
		return p
	}
	p := opened()
	hosts := []string{"portal.example.org", "127.0.0.1"}
	first, err := p.Service.Server(t.Context(), hosts)
	require.NoError(t, err)
	_, issuer, err := p.Service.DevNetAuthority(t.Context())
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(issuer.Certificate)
	for _, name := range hosts {
		_, err = first.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: pool, CurrentTime: now})
		require.NoError(t, err)
	}
	_, err = p.Service.Server(t.Context(), []string{"no name"})
	require.ErrorIs(t, err, pki.ErrName)
	require.NoError(t, p.Close())
	p = opened()
	defer func() { require.NoError(t, p.Close()) }()
	again, err := p.Service.Server(t.Context(), hosts)
	require.NoError(t, err)
	require.Equal(t, first.Certificate, again.Certificate)
	require.Equal(t, first.PrivateKey, again.PrivateKey)
	other, err := p.Service.Server(t.Context(), []string{"other.example.org"})
	require.NoError(t, err)
	require.NotEqual(t, first.Certificate, other.Certificate)
	now = first.Leaf.NotAfter.AddDate(0, 0, -29)
	renewed, err := p.Service.Server(t.Context(), hosts)
	require.NoError(t, err)
	require.True(t, renewed.Leaf.NotAfter.After(first.Leaf.NotAfter))

	// TLS 1.2 at least.
	own, err := p.TLS(t.Context(), hosts)
	require.NoError(t, err)
	for version, good := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		c, s := net.Pipe()
		go func() { _ = tls.Server(s, own).Handshake(); _ = s.Close() }()
		err = tls.Client(c, &tls.Config{
			RootCAs: pool, ServerName: hosts[0], MinVersion: version, MaxVersion: version, Time: func() time.Time { return now },
		}).HandshakeContext(t.Context())
		require.Equal(t, good, err == nil, "%x: %v", version, err)
		_ = c.Close()
	}
}

// "Create Signer": a trust center has further signers, each with a name of its own; the
// newest one issues, and lists of all of them are issued anew.
func TestSite_CreateSigner(t *testing.T) {
	t.Parallel()
	p := open(t).person()
	p.register(card(t, "DENK0000001", "4.1"), "admin@example.org")
	made := p.post("/se/requests", "type", "CreateTrustCenter")
	require.Contains(t, p.post(made.path, "action", "Submit", "name", "Acme").text, "Trust center created (Completed)")
	subject := regexp.MustCompile(`/se/subjects/\d+">Acme`).FindString(p.get("/se/subjects").text)
	subject = strings.TrimSuffix(subject, `">Acme`)
	require.NotEmpty(t, subject)
	require.Contains(t, p.get(subject).text, "Create Signer")
	id := strings.TrimPrefix(subject, "/se/subjects/")
	signer := p.post("/se/requests", "type", "CreateSigner", "center", id)
	require.Equal(t, http.StatusUnprocessableEntity, p.post(signer.path, "action", "Submit", "center", id).status, "a name is missing")
	taken := p.post(signer.path, "action", "Submit", "center", id, "name", "Acme")
	require.Contains(t, taken.text, account.ErrTaken.Error())
	require.Contains(t, p.post(signer.path, "action", "Submit", "center", id, "name", "Acme CA 2").text, "Signer created (Completed)")
	require.Contains(t, p.get(subject).text, "C=XX, O=Acme, CN=Acme CA 2")
	lists := p.post("/se/requests", "type", "IssueCRL", "center", id)
	require.Contains(t, p.post(lists.path, "action", "Submit", "center", id).text, "CRL issued (Completed)")
	require.Equal(t, 2, strings.Count(p.get(subject).text, "CRL 2<"), "one of each signer")

	// An officer of the trust center alone begins it, too; others do not.
	officer := p.portal.person()
	officer.register(card(t, "DENK0000002", "4.1"), "officer@example.org")
	require.Equal(t, http.StatusConflict, officer.post("/se/requests", "type", string(service.Signer), "center", id).status)
	p.post(subject+"/grant", "email", "officer@example.org", "role", string(account.CertificationOfficer))
	require.Equal(t, http.StatusOK, officer.post("/se/requests", "type", string(service.Signer), "center", id).status)
}

// Who checks a certificate finds a revocation list that holds, also when nothing was
// revoked for long.
func TestPortal_RenewsRevocationLists(t *testing.T) {
	t.Parallel()
	now := time.Now()
	p, err := site.Open(t.Context(), t.TempDir(), site.Options{Records: records.Options{Now: func() time.Time { return now }}, Reach: site.Reach{URL: "https://portal.example.org"}})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	id, _, err := p.Service.DevNetAuthority(t.Context())
	require.NoError(t, err)
	list := func() *x509.RevocationList {
		der, err := p.Service.CRL(t.Context(), id)
		require.NoError(t, err)
		l, err := x509.ParseRevocationList(der)
		require.NoError(t, err)
		return l
	}
	first := list()
	now = now.Add(6 * 24 * time.Hour)
	require.NoError(t, p.Look(t.Context()))
	require.Equal(t, first.Number, list().Number)
	now = now.Add(2 * 24 * time.Hour)
	require.NoError(t, p.Look(t.Context()))
	require.Equal(t, 1, list().Number.Cmp(first.Number))
	require.True(t, list().NextUpdate.After(now.Add(9*24*time.Hour)))
}
