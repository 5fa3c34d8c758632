package site_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/service"
)

// evil are texts that do something where they are not taken for text.
var evil = []string{
	`<script>alert(1)</script>`,
	`"><img src=x onerror=alert(1)>`,
	`'; DROP TABLE accounts; --`,
	`{{.Person.Account.Email}}`,
	`javascript:alert(1)`,
	"a\r\nSet-Cookie: evil=1",
	"\u202Egnp.exe",
	"Zoë \u65E5\u672C\u8A9E \U0001F600",
	"../../../../etc/passwd",
	"%2e%2e%2f%00",
	strings.Repeat("x", 5000),
}

// registered makes the account of a person, logged in with a card of its own.
func (p *portal) registered(n int) *person {
	v := p.person()
	v.register(card(p.t, fmt.Sprintf("DENK000%04d", n), "4.1"), fmt.Sprintf("p%d@example.org", n))
	return v
}

// raw is one request, of which all is chosen.
func (p *person) raw(method, path, kind, body string, headers ...string) (int, http.Header, string) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, p.url+path, strings.NewReader(body))
	require.NoError(p.t, err, path)
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	for _, c := range p.Jar.Cookies(r.URL) {
		r.AddCookie(c)
	}
	w, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(p.t, err)
	defer w.Body.Close()
	var b bytes.Buffer
	_, err = io.CopyN(&b, w.Body, 1<<20) // a stream of events has no end
	if err != nil {
		require.ErrorIs(p.t, err, io.EOF)
	}
	return w.StatusCode, w.Header, b.String()
}

// rows is everything that the records hold but sessions, which use makes longer.
func (p *portal) rows() (all string) {
	require.NoError(p.t, p.Records.Read(p.t.Context(), func(tx *records.Tx) error {
		for _, table := range []string{"accounts", "tokens", "subjects", "roles", "requests", "request_log", "certificates", "issuers", "mails", "audit", "authorities"} {
			var n, last int
			if err := tx.QueryRow("SELECT COUNT(*), COALESCE(MAX(rowid), 0) FROM "+table).Scan(&n, &last); err != nil {
				return err
			}
			all += fmt.Sprintln(table, n, last)
		}
		return nil
	}))
	return all
}

// Every path of one person is asked for by another one, and by nobody: there is nothing
// to see, and nothing is changed.
func TestSite_NobodyElsesThings(t *testing.T) {
	t.Parallel()
	p := open(t)
	p.registered(1) // the administrator
	alice, mallory, nobody := p.registered(2), p.registered(3), p.person()
	const secret = "hers-alone"
	center := alice.post("/se/requests", "type", "CreateTrustCenter").path
	alice.post(center, "action", "Submit", "name", "Centre "+secret, "private", "1")
	subject := alice.get("/se/subjects")
	require.Contains(t, subject.text, secret)
	var own int
	require.NoError(t, p.Records.Read(t.Context(), func(tx *records.Tx) error {
		return tx.QueryRow("SELECT id FROM subjects WHERE kind = 'trust center'").Scan(&own)
	}))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: secret}}, key)
	require.NoError(t, err)
	certificate := alice.post("/se/requests", "type", "PKCS10ServiceRequest").path
	alice.post(certificate, "action", "Save", "common_name", secret, "request", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
	update := alice.post("/se/requests", "type", "FirmwareUpdate").path
	alice.post(update, "action", "Submit", "token", "0")
	before := p.rows()

	tokens := func(v *person) (id int64) {
		require.NoError(t, p.Records.Read(t.Context(), func(tx *records.Tx) error {
			return tx.QueryRow("SELECT t.id FROM tokens t JOIN accounts a ON a.id = t.account WHERE a.email = 'p2@example.org'").Scan(&id)
		}))
		return id
	}
	hers := strconv.FormatInt(tokens(alice), 10)
	at := strconv.Itoa(own)
	api := strings.NewReplacer("/se/requests", "/api/servicerequests")
	var paths []string
	for _, request := range []string{center, certificate, update} {
		paths = append(paths, request, request+"/events", request+"/certificate.pem", api.Replace(request))
	}
	paths = append(paths, "/se/subjects/"+at, "/se/subjects", "/se/requests", "/se/tokens", "/se/audit", "/se/notice", "/api/servicerequests", "/api/tokens",
		"/se/authorities/1.pem", "/se/authorities/2.pem", "/se/preferences")
	type change struct {
		path, form string
	}
	var changes []change
	for _, request := range []string{center, certificate, update} {
		for _, a := range []service.Action{
			service.DoSave, service.DoSubmit, service.DoCancel, service.DoApprove, service.DoReject, service.DoIssue, service.DoAccept, service.DoRevoke, service.DoStartOver,
		} {
			changes = append(changes, change{request, "action=" + url.QueryEscape(string(a)) + "&name=x"})
		}
	}
	changes = append(changes,
		change{"/se/tokens/" + hers + "/remove", "last=1"},
		change{"/se/subjects/" + at + "/grant", "email=p3@example.org&role=Manager"},
		change{"/se/subjects/" + at + "/revoke", "email=p2@example.org&role=Manager"},
		change{"/se/subjects/" + at + "/person", "email=new@example.org"},
		change{"/se/subjects/" + at + "/system", "name=new"},
		change{"/se/issuers", ""}, change{"/se/issuers/UTDICAEM02", "ready=&licences=0"},
		change{"/se/notice", "versions=4.1&subject=s&text=t"},
	)
	for who, v := range map[string]*person{"another": mallory, "nobody": nobody} {
		for _, path := range paths {
			status, _, text := v.raw("GET", path, "", "")
			require.NotContains(t, text, secret, "%s sees %s", who, path)
			require.Less(t, status, 500, path)
			if who == "nobody" {
				require.Contains(t, []int{http.StatusSeeOther, http.StatusUnauthorized}, status, path)
			}
		}
		for _, c := range changes {
			status, _, text := v.raw("POST", c.path, "application/x-www-form-urlencoded", c.form)
			require.NotContains(t, text, secret, c.path)
			require.Less(t, status, 500, "%s %s", c.path, c.form)
			if who == "another" {
				require.GreaterOrEqual(t, status, 400, "%s %s", c.path, c.form)
			}
		}
	}
	require.Equal(t, before, p.rows())

	// Who has an account is nobody's business who may not grant roles.
	_, _, there := mallory.raw("POST", "/se/subjects/"+at+"/grant", "application/x-www-form-urlencoded", "email=p2@example.org&role=Manager")
	_, _, not := mallory.raw("POST", "/se/subjects/"+at+"/grant", "application/x-www-form-urlencoded", "email=none@example.org&role=Manager")
	require.Equal(t, there, not)
}

// A page of another site, or a program that is no page, changes nothing by what it can
// have a browser send; and GET changes nothing.
func TestSite_OtherSites(t *testing.T) {
	t.Parallel()
	p := open(t)
	victim := p.registered(1)
	before := p.rows()
	forms := []string{"type=FirmwareUpdate", `{"type":"FirmwareUpdate","data":{}}`}
	for _, kind := range []string{"application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", "", "application/json"} {
		for _, path := range []string{"/se/requests", "/se/preferences", "/se/logout", "/se/issuers", "/api/servicerequests", "/api/sessions/current/logout", "/api/admin/dica"} {
			for _, form := range forms {
				status, _, _ := victim.raw("POST", path, kind, form, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example")
				require.Equal(t, http.StatusForbidden, status, "%s as %q", path, kind)
				status, _, _ = victim.raw("POST", path, kind, form, "Origin", "https://evil.example")
				require.Equal(t, http.StatusForbidden, status, "%s as %q", path, kind)
			}
		}
	}
	// The interface for programs knows no cookie.
	for _, path := range []string{"/api/servicerequests", "/api/admin/dica", "/api/sessions/current/logout"} {
		status, _, _ := victim.raw("POST", path, "application/json", "{}")
		require.Equal(t, http.StatusUnauthorized, status, path)
	}
	for _, path := range []string{"/se/begin", "/se/logout", "/se/continue", "/se/enrol", "/se/activate", "/se/tokens/1/remove", "/se/subjects/1/grant", "/se/issuers/UTDICAEM02"} {
		status, _, _ := victim.raw("GET", path+"?type=FirmwareUpdate&email=a@example.org", "", "")
		require.Contains(t, []int{http.StatusMethodNotAllowed, http.StatusNotFound}, status, path)
	}
	require.Equal(t, before, p.rows())
	require.Contains(t, victim.get("/se/paas").text, "Home")
}

// Whatever a person gives in whatever field: pages show it as text, headers do not have
// it, nothing fails inside, and the records stay whole.
func TestSite_EvilTexts(t *testing.T) {
	t.Parallel()
	p := open(t)
	admin := p.registered(1)
	program := p.program()
	cookies := admin.Jar.Cookies(must(url.Parse(p.url)))
	program.session = cookies[0].Value
	check := func(at string, status int, h http.Header, text string) {
		t.Helper()
		require.Less(t, status, 500, at)
		require.NotContains(t, text, "<script>alert", at)
		require.NotContains(t, text, "<img src=x", at)
		require.Empty(t, h.Get("Evil"))
		for _, c := range h.Values("Set-Cookie") {
			require.NotContains(t, c, "evil", at)
		}
		if strings.HasPrefix(h.Get("Content-Type"), "text/html") {
			require.Contains(t, h.Get("Content-Security-Policy"), "script-src 'self'", at)
			require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
		}
	}
	names := []string{"type", "action", "token", "firmware", "center", "profile", "common_name", "email", "hosts", "request", "device", "name", "private", "reason", "code", "licences", "ready", "versions", "subject", "text", "role", "last", "security", "requests"}
	requests := map[string]string{}
	for _, kind := range []service.Type{service.FirmwareUpdate, service.Certificate, service.DevNet, service.TrustCenter, service.Production, service.RevocationList} {
		requests[string(kind)] = admin.post("/se/requests", "type", string(kind)).path
	}
	center := admin.post("/se/requests", "type", string(service.TrustCenter)).path
	admin.post(center, "action", "Submit", "name", "Acme")
	for _, text := range evil {
		requests[string(service.TrustCenter)] = admin.post("/se/requests", "type", string(service.TrustCenter)).path
		all := url.Values{}
		for _, name := range names {
			all.Set(name, text)
		}
		one := func(path string, set ...string) {
			t.Helper()
			form := url.Values{}
			for k, v := range all {
				form[k] = v
			}
			for i := 0; i < len(set); i += 2 {
				form.Set(set[i], set[i+1])
			}
			status, h, answer := admin.raw("POST", path, "application/x-www-form-urlencoded", form.Encode(), "User-Agent", strings.Map(func(r rune) rune {
				if r < ' ' {
					return '_'
				}
				return r
			}, text))
			check(path+" "+text, status, h, answer)
		}
		for _, path := range []string{"/se/requests", "/se/enrol", "/se/activate", "/se/preferences", "/se/notice", "/se/issuers/UTDICAEM01", "/se/subjects/2/grant", "/se/subjects/2/person", "/se/subjects/2/system", "/se/subjects/2/" + url.PathEscape(text), "/se/issuers/" + url.PathEscape(text), "/se/tokens/" + url.PathEscape(text) + "/remove"} {
			one(path)
		}
		one("/se/notice", "versions", "4.1")
		for _, path := range requests {
			for _, action := range []string{"Save", "Submit", text} {
				one(path, "action", action)
				one(path, "action", action, "token", "0", "center", "0", "reason", "0", "request", "", "device", "")
			}
		}
		for _, path := range []string{
			"/se/requests/" + url.PathEscape(text), "/se/requests?before=" + url.QueryEscape(text), "/se/crl/" + url.PathEscape(text), "/se/authorities/" + url.PathEscape(text),
			"/api/servicerequests/" + url.PathEscape(text), "/api/sessions/" + url.PathEscape(text), "/rt/paas/" + url.PathEscape(text), "/rt/" + url.PathEscape(text), "/se/" + url.PathEscape(text),
		} {
			status, h, answer := admin.raw("GET", path, "", "", "Authorization", "Bearer "+program.session)
			check(path, status, h, answer)
			require.NotEqual(t, http.StatusOK, status, path)
			require.NotContains(t, answer, "root:")
		}
		for _, path := range []string{"/se/requests", "/se/subjects", "/se/outbox", "/se/audit", "/se/tokens", "/se/paas"} {
			status, h, answer := admin.raw("GET", path, "", "")
			require.Equal(t, http.StatusOK, status, path)
			check(path, status, h, answer)
		}
		// JSON, with the same.
		quoted := strconv.QuoteToASCII(text)
		for _, body := range []string{
			`{"type":` + quoted + `}`, `{"type":"CreateTrustCenter","data":{"name":` + quoted + `}}`, `{"type":"FirmwareUpdate","data":` + quoted + `}`,
		} {
			status, h, answer := admin.raw("POST", "/api/servicerequests", "application/json", body, "Authorization", "Bearer "+program.session)
			check("API "+body, status, h, answer)
		}
	}
	// The names that are none were refused, and those that are can be seen, as text.
	require.Contains(t, admin.get("/se/subjects").text, "Zoë 日本語 😀")
	require.Contains(t, admin.get("/se/subjects").text, "&lt;script&gt;alert(1)&lt;/script&gt;")
	require.NoError(t, p.Records.Read(t.Context(), func(tx *records.Tx) error {
		var ok string
		require.NoError(t, tx.QueryRow("PRAGMA integrity_check").Scan(&ok))
		require.Equal(t, "ok", ok)
		return tx.Each(func(func(...any) error) error { t.Error("a reference leads nowhere"); return nil }, "PRAGMA foreign_key_check")
	}))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Bodies that no program makes by mistake, and one that programs make by habit.
func TestAPI_Bodies(t *testing.T) {
	t.Parallel()
	p := open(t)
	v := p.registered(1)
	bearer := []string{"Authorization", "Bearer " + v.Jar.Cookies(must(url.Parse(p.url)))[0].Value}
	post := func(kind, body string) int {
		status, _, _ := v.raw("POST", "/api/servicerequests", kind, body, bearer...)
		return status
	}
	require.Equal(t, http.StatusCreated, post("application/json; charset=utf-8", `{"type":"FirmwareUpdate"}`))
	require.Equal(t, http.StatusCreated, post("Application/JSON", `{"type":"FirmwareUpdate"}`))
	before := p.rows()
	for name, body := range map[string]string{
		"deep":     `{"type":"FirmwareUpdate","data":` + strings.Repeat(`{"data":`, 9000) + "1" + strings.Repeat("}", 9001),
		"deep []":  strings.Repeat("[", 60000),
		"two":      `{"type":"FirmwareUpdate"}{"type":"FirmwareUpdate"}`,
		"rest":     `{"type":"FirmwareUpdate"}]`,
		"number":   `{"type":"FirmwareUpdate","data":{"token":1e400}}`,
		"negative": `{"type":"FirmwareUpdate","data":{"token":-1}}`,
		"null":     `null`,
		"array":    `[]`,
		"utf-8":    "{\"type\":\"\xff\xfe\"}",
		"unknown":  `{"type":"FirmwareUpdate","account":1}`,
	} {
		status := post("application/json", body)
		require.GreaterOrEqual(t, status, 400, name)
		require.Less(t, status, 500, name)
	}
	require.Equal(t, http.StatusRequestEntityTooLarge, post("application/json", `{"type":"`+strings.Repeat("x", 200<<10)+`"}`))
	status, _, _ := v.raw("POST", "/se/preferences", "application/x-www-form-urlencoded", "security=1&x="+strings.Repeat("x", 200<<10))
	require.Equal(t, http.StatusRequestEntityTooLarge, status, "and not a form with nothing in it")
	status, _, _ = v.raw("POST", "/se/preferences", "application/x-www-form-urlencoded", "security=%zz")
	require.Equal(t, http.StatusUnprocessableEntity, status)
	for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", "", "application/jsonp"} {
		require.Equal(t, http.StatusUnprocessableEntity, post(kind, `{"type":"FirmwareUpdate"}`), kind)
	}
	require.Equal(t, before, p.rows())
	for range 200 { // more than an account may have open
		post("application/json", `{"type":"FirmwareUpdate"}`)
	}
	require.Equal(t, http.StatusConflict, post("application/json", `{"type":"FirmwareUpdate"}`))
}

// An address of version 6 is one of very many that the same subscriber has.
func TestSite_Source6(t *testing.T) {
	t.Parallel()
	p := open(t)
	h := p.Handler()
	refused := 0
	for n := range 200 {
		r := must(http.NewRequestWithContext(t.Context(), "POST", "http://localhost/api/sessions", http.NoBody))
		r.RemoteAddr = fmt.Sprintf("[2001:db8:1:2:%x::1]:4711", n)
		w := &answer{header: http.Header{}}
		h.ServeHTTP(w, r)
		if w.status == http.StatusTooManyRequests {
			require.Regexp(t, `^[1-9]\d?$`, w.header.Get("Retry-After"), "a minute at most")
			refused++
		}
	}
	require.Equal(t, 200-account.DefaultLimits.Sessions.N, refused)
}

// answer is a ResponseWriter that keeps the status alone.
type answer struct {
	header http.Header
	status int
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) Write(b []byte) (int, error) { return len(b), nil }
func (a *answer) WriteHeader(status int)      { a.status = status }
