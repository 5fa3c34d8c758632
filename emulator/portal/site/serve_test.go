package site_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/site"
)

func TestHosts(t *testing.T) {
	t.Parallel()
	here := []string{"localhost", "127.0.0.1", "::1"}
	for listen, want := range map[string][]string{
		"127.0.0.1:8080":  {"portal.example.org", "127.0.0.1", "localhost", "::1"},
		"Localhost:1":     {"portal.example.org", "Localhost", "localhost", "127.0.0.1", "::1"},
		":8080":           append([]string{"portal.example.org"}, here...),
		"0.0.0.0:8080":    append([]string{"portal.example.org"}, here...),
		"[::]:8080":       append([]string{"portal.example.org"}, here...),
		"192.0.2.1:443":   {"portal.example.org", "192.0.2.1"},
		"example.org:443": {"portal.example.org", "example.org"},
	} {
		require.Equal(t, want, site.Hosts(listen, []string{"portal.example.org"}), listen)
	}
	require.Equal(t, []string{"example.org"}, site.Hosts("example.org:1", []string{"example.org", "example.org"}), "each once")
}

// listen listens for a portal at any free port.
func listen(t testing.TB, a site.Address) *site.Listener {
	t.Helper()
	if a.Listen == "" {
		a.Listen = "127.0.0.1:0"
	}
	l, err := site.Listen(t.Context(), a)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	return l
}

// A portal is known by its first name, and by HTTPS where it is encrypted.
func TestListener_Reach(t *testing.T) {
	t.Parallel()
	r := listen(t, site.Address{}).Reach()
	require.Regexp(t, `^http://127\.0\.0\.1:[1-9]\d*$`, r.URL)
	require.Equal(t, site.Reach{URL: r.URL, Names: []string{"127.0.0.1"}}, r)
	require.False(t, listen(t, site.Address{}).Elsewhere())
	l := listen(t, site.Address{Listen: "0.0.0.0:0", TLS: true})
	require.Regexp(t, `^https://127\.0\.0\.1:[1-9]\d*$`, l.Reach().URL, "its certificate is for that one, and for no [::]")
	require.True(t, l.Elsewhere())
	require.False(t, listen(t, site.Address{Listen: "0.0.0.0:0", Names: []string{"portal.example.org"}}).Elsewhere())
	r = listen(t, site.Address{Listen: ":0", Names: []string{"portal.example.org", "x"}, TLS: true}).Reach()
	require.Regexp(t, `^https://portal\.example\.org:[1-9]\d*$`, r.URL)
	require.Equal(t, site.Reach{URL: r.URL, TLS: true, Names: []string{"", "portal.example.org", "x"}, Exposed: true}, r)
}

// Files that are no certificates, and addresses that are taken, are told of before there is
// a portal.
func TestListen_Fails(t *testing.T) {
	t.Parallel()
	none := filepath.Join(t.TempDir(), "none.pem")
	taken := listen(t, site.Address{})
	at := strings.TrimPrefix(taken.Reach().URL, "http://")
	for _, a := range []site.Address{
		{Listen: "127.0.0.1:0", TLS: true, Certificate: none, Key: none},
		{Listen: "127.0.0.1:0", TLS: true, HSM: "127.0.0.1:0", Clients: none},
		{Listen: at},
		{Listen: "127.0.0.1:0", TLS: true, HSM: at},
		{Listen: "127.0.0.1"},
	} {
		_, err := site.Listen(t.Context(), a)
		require.Error(t, err, a)
	}
}

// A name that no URL can have is refused, encrypted or not: it would be printed, and in certificates.
func TestListen_Names(t *testing.T) {
	t.Parallel()
	for name, good := range map[string]bool{
		"portal": true, "portal.example.org": true, "my_host": true, "192.0.2.1": true, "2001:db8::1": true, "xn--prtal-kua.example": true,
		"": false, "foo bar": false, "http://portal": false, "portal:8080": false, "[::1]": false, "fe80::1%lo": false, "portal/se": false, "a@b": false, "a?b": false, "a#b": false, "a\nb": false, "a%20b": false,
	} {
		l, err := site.Listen(t.Context(), site.Address{Listen: "127.0.0.1:0", Names: []string{"localhost", name}})
		if !good {
			require.ErrorIs(t, err, site.ErrHost, "%q", name)
			continue
		}
		require.NoError(t, err, name)
		l.Close()
	}
}

// get reads a page by HTTPS.
func get(t testing.TB, c *tls.Config, at string) (status int, body []byte, err error) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: c, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		// As a browser does; Go asks the system, which may not know it (RFC 6761, 6.3).
		if port, ok := strings.CutPrefix(address, "localhost:"); ok {
			address = "127.0.0.1:" + port
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at, http.NoBody)
	require.NoError(t, err)
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return 0, nil, err
	}
	body, err = io.ReadAll(answer.Body)
	return answer.StatusCode, body, errors.Join(err, answer.Body.Close())
}

// anybody believes every certificate.
var anybody = &tls.Config{InsecureSkipVerify: true} // whose it is, is another test's

// People come to one listener, by TLS, and programs to the other, with a certificate;
// what ends one of them ends both. Whoever has only the fingerprint can trust the root.
func TestServed(t *testing.T) {
	t.Parallel()
	p := open(t)
	l := listen(t, site.Address{TLS: true, Names: []string{"localhost", "portal.example.org"}, HSM: "127.0.0.1:0"})
	s, err := p.At(t.Context(), l)
	require.NoError(t, err)
	at := l.Reach().URL
	require.Equal(t, []string{at + "/rt/paas", at + "/se/paas", at + "/se/devnet.pem"}, []string{s.Cards, s.Pages, s.Root})
	require.Regexp(t, `^https://localhost:\d+/se/api/$`, s.Programs)
	ctx, end := context.WithCancel(t.Context())
	defer end()
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	_, text, err := get(t, anybody, s.Root)
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	require.Equal(t, s.Sum, sha256.Sum256(block.Bytes))
	authority, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(authority)
	for _, name := range []string{"portal.example.org", "localhost", "127.0.0.1"} {
		status, _, err := get(t, &tls.Config{RootCAs: pool, ServerName: name}, s.Pages)
		require.NoError(t, err, name)
		require.Equal(t, http.StatusOK, status)
	}
	_, _, err = get(t, &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS11}, s.Pages)
	require.Error(t, err)
	status, _, err := get(t, &tls.Config{RootCAs: pool}, s.Programs+"hsms")
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, status)
	status, _, err = get(t, &tls.Config{RootCAs: pool}, at+"/se/api/hsms")
	require.NoError(t, err)
	require.Equal(t, http.StatusNotFound, status, "programs have an address of their own")
	l.Close()
	require.Error(t, <-served)

	s, err = p.At(t.Context(), listen(t, site.Address{TLS: true, HSM: "127.0.0.1:0"}))
	require.NoError(t, err)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, s.Serve(over), "it ends before it has begun")
	alone, err := p.At(t.Context(), listen(t, site.Address{}))
	require.NoError(t, err)
	require.Empty(t, alone.Programs+alone.Root)
	go func() { served <- alone.Serve(ctx) }()
	end()
	require.NoError(t, <-served)
}

// A certificate of a file is served as it is, and is below no root of the portal's.
func TestServed_GivenCertificate(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	form := &x509.Certificate{SerialNumber: big.NewInt(7), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "both.pem")
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
	require.NoError(t, os.WriteFile(file, both, 0o600))
	s, err := open(t).At(t.Context(), listen(t, site.Address{TLS: true, Certificate: file, Key: file}))
	require.NoError(t, err)
	require.Empty(t, s.Root)
	ctx, end := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	var got []byte
	_, _, err = get(t, &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(c tls.ConnectionState) error {
		got = c.PeerCertificates[0].Raw
		return nil
	}}, s.Pages)
	require.NoError(t, err)
	require.Equal(t, der, got)
	end()
	require.NoError(t, <-served)
}

// A portal that other machines reach shows nobody's mail on a page: without a mail server
// it is told to whoever runs the portal, as the vendor's does.
func TestPortal_TellsMail(t *testing.T) {
	t.Parallel()
	told := make(chan account.Mail, 1)
	o := site.Options{Reach: site.Reach{Exposed: true}, Printed: func(m account.Mail) { told <- m }}
	p := openWith(t, o)
	v := p.program()
	var begun struct{ SessionID, RAMURL string }
	v.call(http.StatusCreated, "POST", "/api/sessions", nil, &begun)
	v.session = begun.SessionID
	_, err := p.connect(card(t, "DENK0000001", "4.1"), begun.RAMURL)
	require.NoError(t, err)
	v.call(http.StatusOK, "POST", "/api/sessions/current/enroll", object{"email": "a@example.org"}, nil)
	v.call(http.StatusNotFound, "GET", "/api/admin/outbox", nil, nil) // without an account
	require.NoError(t, p.Look(t.Context()))
	m := <-told
	require.Equal(t, "a@example.org", m.To)
	require.Regexp(t, `\b\d{6}\b`, m.Body)
	browser := p.person()
	_, err = p.connect(card(t, "DENK0000002", "4.1"), ramURL.FindString(browser.post("/se/begin").text))
	require.NoError(t, err)
	require.Contains(t, browser.post("/se/enrol", "email", "b@example.org").text, "the portal prints it where it was started")
	require.Equal(t, "/se/paas", browser.get("/se/outbox").path, "who is not logged in is not told that there is no account")

	o.Exposed = false
	p = openWith(t, o)
	require.NoError(t, p.Look(t.Context()))
	p.program().call(http.StatusOK, "GET", "/api/admin/outbox", nil, nil)
}
