package site_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/emulator"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/site"
	"hsmemu/emulator/ram"
	"hsmemu/emulator/web"
)

// blockedCard is one whose SO-PIN has no try left.
func blockedCard(t testing.TB, serial string) *emulator.Card {
	t.Helper()
	c := card(t, serial, "4.1")
	k := client.New(c)
	for range 15 {
		require.Error(t, k.VerifyPIN(t.Context(), client.SOPIN, []byte("00000000")))
	}
	return c
}

// served is a portal at a listener of its own, as the program serves it.
type served struct {
	*site.Portal
	t      testing.TB
	folder string
	at     string
	client *http.Client
	end    func()
	ended  chan error
}

// serve opens the portal of a folder, with its own TLS or none.
func serve(t testing.TB, folder string, encrypted bool) *served {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &served{t: t, folder: folder, at: "http://" + l.Addr().String(), ended: make(chan error, 1)}
	o := site.Options{Records: records.Options{Now: time.Now}, Reach: site.Reach{URL: s.at, TLS: encrypted}}
	s.Portal, err = site.Open(t.Context(), folder, o)
	require.NoError(t, err)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	s.client = &http.Client{Jar: jar, Transport: transport}
	if encrypted {
		own, err := s.TLS(t.Context(), []string{"127.0.0.1"})
		require.NoError(t, err)
		transport.TLSClientConfig = (&portal{Portal: s.Portal, t: t}).roots()
		l, s.at = tls.NewListener(l, own), "https://"+l.Addr().String()
	}
	var ctx context.Context
	ctx, s.end = context.WithCancel(t.Context())
	go func() { s.ended <- s.Serve(ctx, l) }()
	return s
}

// close ends the portal as the program does.
func (s *served) close() {
	s.t.Helper()
	s.end()
	require.NoError(s.t, <-s.ended)
	require.NoError(s.t, s.Close())
}

// person is somebody at the portal.
func (s *served) person() *person {
	return &person{&portal{Portal: s.Portal, t: s.t, url: s.at}, *s.client}
}

// roots trust the portal's own authority.
func (p *portal) roots() *tls.Config {
	_, issuer, err := p.Service.DevNetAuthority(p.t.Context())
	require.NoError(p.t, err)
	return rootsOf(issuer.Certificate)
}

// The session's cookie is not for scripts, not for other sites, and under TLS for TLS
// and this server alone.
func TestSecurity_Cookie(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		s := serve(t, t.TempDir(), encrypted)
		s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		r, err := s.client.PostForm(s.at+"/se/begin", nil)
		require.NoError(t, err)
		require.NoError(t, r.Body.Close())
		require.Len(t, r.Cookies(), 1)
		c := r.Cookies()[0]
		require.True(t, c.HttpOnly)
		require.Equal(t, http.SameSiteStrictMode, c.SameSite)
		require.Equal(t, encrypted, c.Secure)
		require.Equal(t, encrypted, strings.HasPrefix(c.Name, "__Host-"))
		require.Equal(t, "/", c.Path)
		require.Empty(t, c.Domain)
		s.close()
	}
}

// A page of another site changes nothing here, and no page loads anything from there.
func TestSecurity_OtherSites(t *testing.T) {
	t.Parallel()
	p := open(t).person()
	p.register(card(t, "DENK0000001", "4.1"), "a@example.org")
	before := p.dump()
	for name, headers := range map[string][2]string{
		"Origin":         {"Origin", "https://evil.example"},
		"Sec-Fetch-Site": {"Sec-Fetch-Site", "cross-site"},
	} {
		for _, path := range []string{"/se/begin", "/se/logout", "/se/requests", "/se/preferences", "/se/enrol", "/api/sessions", "/api/servicerequests"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+path, strings.NewReader("type=FirmwareUpdate"))
			require.NoError(t, err)
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set(headers[0], headers[1])
			require.Equal(t, http.StatusForbidden, p.answer(p.Do(r)).status, "%s %s", name, path)
		}
	}
	// A form cannot be of the kind that the certificate service takes.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/se/caws", strings.NewReader("x"))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "text/plain")
	require.Equal(t, http.StatusUnsupportedMediaType, p.answer(p.Do(r)).status)
	require.Equal(t, before, p.dump())
	// Under a foreign name nothing is read either.
	r, err = http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/se/outbox", http.NoBody)
	require.NoError(t, err)
	r.Host = "evil.example"
	require.Equal(t, http.StatusMisdirectedRequest, p.answer(p.Do(r)).status)

	for _, path := range p.paths() {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodHead, p.url+path, http.NoBody)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		answer, err := p.Do(r.WithContext(ctx))
		require.NoError(t, err, path)
		policy := answer.Header.Get("Content-Security-Policy")
		require.Contains(t, policy, "default-src 'none'", path)
		require.NotContains(t, policy, "unsafe", path)
		require.Contains(t, policy, "frame-ancestors 'none'", path)
		require.Equal(t, "nosniff", answer.Header.Get("X-Content-Type-Options"), path)
		cancel()
		require.NoError(t, answer.Body.Close())
	}
}

// Nobody asks for codes, begins sessions or logs in without end: 429.
func TestSecurity_Rates(t *testing.T) {
	t.Parallel()
	one := account.Rate{N: 1, Per: time.Hour}
	p := openWith(t, site.Options{Account: account.Options{Limits: account.Limits{
		Sessions: account.Rate{N: 2, Per: time.Hour}, Logins: one, CodesOfToken: account.Rate{N: 2, Per: time.Hour}, CodesOfAddress: one,
	}}})
	a := p.person()
	at := ramURL.FindString(a.post("/se/begin").text)
	_, err := p.connect(card(t, "DENK0000001", "4.1"), at)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, a.post("/se/enrol", "email", "a@example.org").status)
	require.Equal(t, http.StatusTooManyRequests, a.post("/se/enrol", "email", "a@example.org").status, "of this address")
	require.Equal(t, http.StatusOK, a.post("/se/enrol", "email", "b@example.org").status)
	require.Equal(t, http.StatusTooManyRequests, a.post("/se/enrol", "email", "c@example.org").status, "with this card")

	b := p.person()
	at = ramURL.FindString(b.post("/se/begin").text)
	mute := card(t, "DENK0000002", "4.1")
	require.NoError(t, mute.Reset()) // nobody is logged in to it, so the log-in fails
	_, err = p.connect(mute, at)
	require.Error(t, err)
	said, err := p.connect(mute, at)
	require.Error(t, err)
	require.Contains(t, said[len(said)-1].Text, "oo many attempts")
	require.Equal(t, http.StatusTooManyRequests, p.person().post("/se/begin").status)
}

// A request has an end: of its body, and of its header.
func TestSecurity_Lengths(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir(), false)
	defer s.close()
	p := s.person()
	p.register(card(t, "DENK0000001", "4.1"), "a@example.org")
	before := p.dump()
	// Without the limit, and with what was read of it, these would change preferences.
	for _, form := range []string{"x=" + strings.Repeat("x", web.MaxBody), "requests=1&security=%zz"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/se/preferences", strings.NewReader(form))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		want := http.StatusUnprocessableEntity
		if len(form) > web.MaxBody {
			want = http.StatusRequestEntityTooLarge
		}
		require.Equal(t, want, p.answer(p.Do(r)).status)
	}
	site, err := url.Parse(p.url)
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/api/servicerequests", strings.NewReader(
		strings.Repeat(" ", web.MaxBody)+`{"type":"FirmwareUpdate"}`))
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+p.Jar.Cookies(site)[0].Value)
	r.Header.Set("Content-Type", "application/json")
	require.Equal(t, http.StatusRequestEntityTooLarge, p.answer(p.Do(r)).status)
	r, err = http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/se/caws", strings.NewReader(strings.Repeat("x", 1<<20)))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "text/xml")
	require.Equal(t, http.StatusRequestEntityTooLarge, p.answer(p.Do(r)).status)
	r, err = http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/se/paas", http.NoBody)
	require.NoError(t, err)
	r.Header.Set("X-Long", strings.Repeat("x", 64<<10))
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, p.answer(p.Do(r)).status)
	require.Equal(t, before, p.dump())
}

// dump is the whole database as text. How long a session lasts is left out: every use
// moves it.
func (p *portal) dump() string {
	p.t.Helper()
	var b strings.Builder
	require.NoError(p.t, p.Records.Read(p.t.Context(), func(tx *records.Tx) error {
		text := func(query string, values ...any) (list []string, err error) {
			err = tx.Each(func(scan func(...any) error) error {
				var s string
				err := scan(&s)
				list = append(list, s)
				return err
			}, query, values...)
			return list, err
		}
		tables, err := text("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
		if err != nil {
			return err
		}
		for _, table := range tables {
			columns, err := text("SELECT 'quote(' || name || ')' FROM pragma_table_info(?) WHERE NOT (?1 = 'sessions' AND name = 'expires')", table)
			if err != nil {
				return err
			}
			rows, err := text("SELECT " + strings.Join(columns, "||' '||") + " FROM " + table + " ORDER BY 1")
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%s\n%s\n", table, strings.Join(rows, "\n"))
		}
		return nil
	}))
	return b.String()
}

// paths are all those that GET reads, with something that is there in place of what is
// not fixed. Streams of events are left out.
func (p *portal) paths() (list []string) {
	for _, path := range p.ReadPaths() {
		if strings.HasSuffix(path, "/events") {
			continue
		}
		list = append(list, strings.NewReplacer("{$}", "", "{id}", "1", "{file}", "1.pem", "{session}", "current").Replace(path))
	}
	return list
}

// GET changes nothing, whoever asks: nobody, and somebody with every role. What
// changes something is not reached by GET.
func TestSecurity_GETChangesNothing(t *testing.T) {
	t.Parallel()
	p := open(t)
	admin := p.person()
	admin.register(card(t, "DENK0000001", "4.1"), "admin@example.org")
	made := admin.post("/se/requests", "type", "CreateTrustCenter")
	admin.post(made.path, "action", "Submit", "name", "Acme")
	request := admin.post("/se/requests", "type", "FirmwareUpdate")
	admin.post(request.path, "action", "Submit", "token", "0")
	begun := p.person()
	begun.post("/se/begin")
	require.GreaterOrEqual(t, len(p.paths()), 25)
	site, err := url.Parse(p.url)
	require.NoError(t, err)
	bearer := admin.Jar.Cookies(site)[0].Value
	before := p.dump()
	found := 0
	for _, path := range p.paths() {
		for who, visitor := range map[string]*person{"nobody": p.person(), "begun": begun, "admin": admin} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				r, err := http.NewRequestWithContext(t.Context(), method, p.url+path, http.NoBody)
				require.NoError(t, err)
				if who == "admin" {
					r.Header.Set("Authorization", "Bearer "+bearer)
				}
				answer := visitor.answer(visitor.Do(r))
				require.Less(t, answer.status, 500, "%s %s", method, path)
				if who == "admin" && answer.status == http.StatusOK && !strings.Contains(answer.path, "/se/paas") {
					found++
				}
				require.Equal(t, before, p.dump(), "%s %s %s", who, method, path)
			}
		}
	}
	require.GreaterOrEqual(t, found, 40, "most of them were there")
	ctx, end := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+request.path+"/events", http.NoBody)
	require.NoError(t, err)
	stream, err := admin.Do(r)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, stream.StatusCode)
	end()
	require.NoError(t, stream.Body.Close())
	require.Equal(t, before, p.dump(), "events")
	for _, path := range []string{
		"/se/begin", "/se/continue", "/se/logout", "/se/enrol", "/se/activate", "/se/tokens/1/remove", "/se/subjects/1/grant", "/se/issuers/x",
		"/api/sessions", "/api/sessions/current/logout", "/api/servicerequests/1/submit",
	} {
		require.Equal(t, http.StatusMethodNotAllowed, admin.get(path).status, path)
		require.Equal(t, before, p.dump(), path)
	}
}

// Who did what with which card is in the audit log, and no secret.
func TestSecurity_Audit(t *testing.T) {
	t.Parallel()
	p := open(t).person()
	p.register(card(t, "DENK0000001", "4.1"), "a@example.org")
	code := digits.FindString(p.get("/se/outbox").text)
	request := p.post("/se/requests", "type", "FirmwareUpdate")
	p.post(request.path, "action", "Submit", "token", "0")
	p.post(request.path, "action", "Cancel Request")
	issuer := regexp.MustCompile(`UTDICAEM02[0-9A-Z]{5}`).FindString(p.get("/se/issuers").text)
	p.post("/se/issuers/"+issuer, "ready", "1", "licences", "7")
	p.post("/se/tokens/1/remove", "last", "1")
	log := strings.Join(p.lines(), "\n")
	const who = "1 /UTSRCAEM1/UTDICAEM01/DENK0000001 "
	for _, line := range []string{
		who + "register token: /UTSRCAEM1/UTDICAEM01/DENK0000001",
		who + "notification preferences",
		who + "service request: FirmwareUpdate 1: Request started (Edit)",
		who + "service request: FirmwareUpdate 1: Request scheduled (Submit)",
		who + "service request: FirmwareUpdate 1: Request cancelled (Cancelled)",
		who + "device issuer: " + issuer + ": ready true, 7 licences",
		who + "remove token: /UTSRCAEM1/UTDICAEM01/DENK0000001",
	} {
		require.Contains(t, log, line)
	}
	require.NotContains(t, log, code)
	require.NotContains(t, log, string(userPIN))
}

// Who sends slowly is cut off, and others are served meanwhile.
func TestSecurity_SlowClients(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir(), false)
	defer s.close()
	host := strings.TrimPrefix(s.at, "http://")
	var slow []net.Conn
	come := func(request string, values ...any) net.Conn {
		c, err := net.Dial("tcp", host)
		require.NoError(t, err)
		_, err = fmt.Fprintf(c, request, values...)
		require.NoError(t, err)
		slow = append(slow, c)
		return c
	}
	defer func() {
		for _, c := range slow {
			_ = c.Close()
		}
	}()
	const header = "GET /se/paas HTTP/1.1\r\nHost: %s\r\nX-"
	for range 25 {
		come(header, host)
		// Its header is whole, its body is not.
		come("POST /se/enrol HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ne", host)
	}
	// Others are served while one is there that is cut off after five seconds, which a busy machine may need for them.
	served := func() bool {
		one := come(header, host)
		require.Equal(t, http.StatusOK, s.person().get("/se/paas").status)
		require.NoError(t, one.SetReadDeadline(time.Now().Add(time.Millisecond)))
		_, err := one.Read(make([]byte, 1))
		return errors.Is(err, os.ErrDeadlineExceeded)
	}
	for began := time.Now(); !served(); {
		require.Less(t, time.Since(began), patience, "others are served while it is there")
	}
	for _, c := range slow {
		go func() { // a byte at a time
			again := time.NewTicker(500 * time.Millisecond)
			defer again.Stop()
			for range again.C {
				if _, err := c.Write([]byte("x")); err != nil {
					return
				}
			}
		}()
	}
	for n, c := range slow {
		require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
		_, err := io.Copy(io.Discard, bufio.NewReader(c))
		var timeout net.Error
		require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "client %d is still there", n)
	}
}

// waiting is a card that stops at a command until it is let go, or the connection ends.
type waiting struct {
	*emulator.Card
	at      int
	sent    int
	reached chan struct{}
}

func (w *waiting) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if w.sent++; w.sent == w.at {
		close(w.reached)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return w.Card.Transmit(ctx, command)
}

// A portal that ends during an update leaves a request that goes on where it was, at
// the portal that is opened next.
func TestSecurity_ShutdownDuringAnUpdate(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := serve(t, folder, false)
	p := s.person()
	p.register(card(t, "DENK0000001", "4.1"), "a@example.org")
	request := p.post("/se/requests", "type", "FirmwareUpdate")
	scheduled := p.post(request.path, "action", "Submit", "token", "0")
	c := blockedCard(t, "DENK0000002")
	w := &waiting{Card: c, at: 30, reached: make(chan struct{})}
	ctx, pull := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- (&ram.Agent{Card: w}).Run(ctx, ramURL.FindString(scheduled.text)) }()
	<-w.reached
	require.Contains(t, p.get(request.path).text, "Running")
	began := time.Now()
	s.close()
	require.Less(t, time.Since(began), patience)
	pull()
	require.Error(t, <-ended)

	s = serve(t, folder, false)
	defer s.close()
	again := s.person()
	again.Jar = p.Jar // browsers keep a cookie for a host, whatever its port
	page := again.get(request.path)
	require.Contains(t, page.text, "Running")
	require.NoError(t, c.Reset())
	require.NoError(t, (&ram.Agent{Card: c}).Run(t.Context(), ramURL.FindString(page.text)))
	require.Contains(t, again.get(request.path).text, "Completed")
}

// A browser that closes in the middle of a stream of events leaves nothing that runs.
func TestSecurity_ClosedStream(t *testing.T) {
	s := serve(t, t.TempDir(), false)
	defer s.close()
	p := s.person()
	p.register(card(t, "DENK0000001", "4.1"), "a@example.org")
	request := p.post("/se/requests", "type", "FirmwareUpdate")
	p.post(request.path, "action", "Submit", "token", "0")
	running := func() int {
		all := make([]byte, 4<<20)
		all = all[:runtime.Stack(all, true)]
		return bytes.Count(all, []byte("site.(*site).events("))
	}
	require.Zero(t, running())
	var ends []context.CancelFunc
	for range 10 {
		ctx, end := context.WithCancel(t.Context())
		ends = append(ends, end)
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+request.path+"/events", http.NoBody)
		require.NoError(t, err)
		answer, err := p.Do(r)
		require.NoError(t, err)
		line, err := bufio.NewReader(answer.Body).ReadString('\n')
		require.NoError(t, err)
		require.Contains(t, line, "retry")
		defer answer.Body.Close()
	}
	require.Equal(t, 10, running())
	for _, end := range ends {
		end()
	}
	require.Eventually(t, func() bool { return running() == 0 }, patience, 20*time.Millisecond)
}
