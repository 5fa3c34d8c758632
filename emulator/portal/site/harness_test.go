package site_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/portal/site"
	"hsmemu/emulator/ram"
)

// patience is far more than anything takes, also on a busy machine.
const patience = 2 * time.Minute

// portal is one that runs, with its records in a folder of its own.
type portal struct {
	*site.Portal
	t   testing.TB
	url string
}

func open(t testing.TB) *portal { return openWith(t, site.Options{}) }

// openWith opens a portal that is special in some way.
func openWith(t testing.TB, o site.Options) *portal {
	p := &portal{t: t}
	var handler http.Handler
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(h.Close)
	p.url = h.URL
	var err error
	o.Records.Now, o.URL = time.Now, h.URL
	p.Portal, err = site.Open(t.Context(), t.TempDir(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	handler = p.Handler()
	return p
}

var (
	userPIN = []byte("648219")
	soPIN   = []byte("57621880")
)

// card makes an initialised card whose user is logged in.
func card(t testing.TB, serial, firmware string) *emulator.Card {
	c, err := emulator.NewCard(chip.Order{Serial: serial, Firmware: firmware}, emulator.System())
	require.NoError(t, err)
	k := client.New(c)
	_, err = k.Select(t.Context())
	require.NoError(t, err)
	require.NoError(t, k.Initialise(t.Context(), client.Setup{Options: 1, SOPIN: soPIN, PIN: userPIN, Tries: 3}))
	require.NoError(t, k.VerifyPIN(t.Context(), client.UserPIN, userPIN))
	return c
}

// connect connects a card, and returns what it was told.
func (p *portal) connect(c *emulator.Card, at string) (said []ram.Notice, err error) {
	err = (&ram.Agent{Card: c, Notice: func(n ram.Notice) { said = append(said, n) }}).Run(p.t.Context(), at)
	return said, err
}

// person is a browser without a screen.
type person struct {
	*portal
	http.Client
}

func (p *portal) person() *person {
	jar, err := cookiejar.New(nil)
	require.NoError(p.t, err)
	return &person{p, http.Client{Jar: jar}}
}

// page is what came of a request, after redirections.
type page struct {
	status     int
	path, text string
}

func (p *person) answer(r *http.Response, err error) page {
	p.t.Helper()
	require.NoError(p.t, err)
	defer r.Body.Close()
	var b strings.Builder
	_, err = io.Copy(&b, r.Body)
	require.NoError(p.t, err)
	return page{r.StatusCode, r.Request.URL.Path, b.String()}
}

func (p *person) get(path string) page {
	p.t.Helper()
	return p.answer(p.Get(p.url + path))
}

// post sends a form of names and values in turn.
func (p *person) post(path string, fields ...string) page {
	p.t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return p.answer(p.PostForm(p.url+path, form))
}

var digits = regexp.MustCompile(`\b[0-9]{6}\b`)

var ramURL = regexp.MustCompile(`http://[^ <"]*/rt/paas[^ <"]*`)

// register logs in with a card that nobody knows, and registers it.
func (p *person) register(c *emulator.Card, email string) {
	p.t.Helper()
	at := ramURL.FindString(p.post("/se/begin").text)
	_, err := p.connect(c, at)
	require.NoError(p.t, err)
	require.Contains(p.t, p.get("/se/paas").text, "Register your card")
	require.Contains(p.t, p.post("/se/enrol", "email", email).text, "A code of six digits was sent")
	code := digits.FindString(p.get("/se/outbox").text)
	require.Equal(p.t, "/se/preferences", p.post("/se/activate", "code", code).path)
	require.Equal(p.t, "/se/paas", p.post("/se/preferences", "security", "1").path)
}
