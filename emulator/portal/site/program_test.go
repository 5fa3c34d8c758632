package site_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whoever planted the cookie of a browser's session has nothing of it, also not by the
// interface for programs (ADR 13).
func TestAPI_PlantedCookie(t *testing.T) {
	t.Parallel()
	p := open(t)
	c := card(t, "DENK0000001", "4.1")
	p.person().register(c, "a@example.org")

	v := p.person()
	at := ramURL.FindString(v.post("/se/begin").text)
	site := must(url.Parse(p.url))
	thief := p.program()
	thief.session = v.Jar.Cookies(site)[0].Value
	refused := func() {
		t.Helper()
		thief.call(http.StatusUnauthorized, "GET", "/api/sessions/current", nil, nil)
		thief.call(http.StatusUnauthorized, "GET", "/api/tokens", nil, nil)
		thief.call(http.StatusUnauthorized, "POST", "/api/sessions/current/enroll", object{"email": "thief@example.org"}, nil)
		thief.call(http.StatusUnauthorized, "POST", "/api/servicerequests", object{"type": "FirmwareUpdate"}, nil)
		thief.call(http.StatusUnauthorized, "POST", "/api/sessions/current/logout", nil, nil)
	}
	refused()
	_, err := p.connect(c, at)
	require.NoError(t, err)
	refused()
	require.NotContains(t, v.get("/se/outbox").text, "Log out")
	require.Equal(t, 200, v.post("/se/continue").status)
	refused()
	thief.session = v.Jar.Cookies(site)[0].Value
	thief.call(http.StatusOK, "GET", "/api/tokens", nil, nil)
}

// Whoever has planted a session that he began in somebody's browser waits in vain for a card
// there: only the answer to the button tells an address, and it is that of a new session.
func TestPages_SessionOfSomebodyElse(t *testing.T) {
	t.Parallel()
	p := open(t)
	thief, v := p.person(), p.person()
	site := must(url.Parse(p.url))
	at := ramURL.FindString(thief.post("/se/begin").text)
	require.NotEmpty(t, at)
	planted := thief.Jar.Cookies(site)[0]
	v.Jar.SetCookies(site, []*http.Cookie{{Name: planted.Name, Value: planted.Value, Path: "/"}})
	waits := v.get("/se/paas")
	require.Contains(t, waits.text, "Log in with a card</button>")
	require.Empty(t, ramURL.FindString(waits.text))
	require.Contains(t, waits.text, `id="waiting"`, "whoever has the address on another page gets on")
	own := ramURL.FindString(v.post("/se/begin").text)
	require.NotEmpty(t, own)
	require.NotEqual(t, at, own)
	v.register(card(t, "DENK0000001", "4.1"), "a@example.org")
	require.Contains(t, thief.get("/se/state").text, `"state":"anonymous"`)
	require.Empty(t, ramURL.FindString(thief.get("/se/paas").text))
}

// The session of a program is none for a browser.
func TestPages_SessionOfAProgram(t *testing.T) {
	t.Parallel()
	p := open(t)
	program := p.enrolled(card(t, "DENK0000001", "4.1"), "a@example.org")
	for _, session := range []string{program.session, program.begun()} {
		v := p.person()
		plant := func() {
			v.Jar.SetCookies(must(url.Parse(p.url)), []*http.Cookie{{Name: "hsmemu-session", Value: session, Path: "/"}})
		}
		plant()
		require.Contains(t, v.get("/se/paas").text, "Log in with a card</button>")
		require.Equal(t, "/se/paas", v.get("/se/tokens").path)
		require.Equal(t, http.StatusUnauthorized, v.get("/se/state").status)
		require.Equal(t, http.StatusUnauthorized, v.post("/se/continue").status)
		require.Equal(t, 200, v.post("/se/logout").status)
		program.session = session
		program.call(http.StatusOK, "GET", "/api/sessions/current", nil, nil)
	}
}

// begun is another session of a program.
func (p *program) begun() string {
	p.t.Helper()
	var begun struct{ SessionID string }
	p.call(http.StatusCreated, "POST", "/api/sessions", nil, &begun)
	return begun.SessionID
}
