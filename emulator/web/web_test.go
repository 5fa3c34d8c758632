package web_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/web"
)

func TestListen_StaysOnThisMachine(t *testing.T) {
	for _, address := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0"} {
		_, err := web.Listen(t.Context(), address, web.ThisMachine)
		require.ErrorIs(t, err, web.ErrExposed, address)
	}
	for _, address := range []string{"127.0.0.1:0", "localhost:0"} {
		l, err := web.Listen(t.Context(), address, web.ThisMachine)
		require.NoError(t, err, address)
		require.True(t, l.Addr().(*net.TCPAddr).IP.IsLoopback())
		require.NoError(t, l.Close())
	}
	l, err := web.Listen(t.Context(), ":0", web.Anybody)
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_, err = web.Listen(t.Context(), "no port", web.ThisMachine)
	require.Error(t, err)
}

// An address for every interface is no host that a browser opens, nor one of a certificate.
func TestAt(t *testing.T) {
	all := map[string]bool{"127.0.0.1:0": false, "localhost:0": false, ":0": true, "0.0.0.0:0": true}
	if l, err := net.Listen("tcp6", "[::]:0"); err == nil { // not every system has IPv6
		require.NoError(t, l.Close())
		all["[::]:0"] = true
	}
	for listen, everywhere := range all {
		l, err := web.Listen(t.Context(), listen, web.Anybody)
		require.NoError(t, err, listen)
		at, elsewhere := web.At(l)
		require.Equal(t, everywhere, elsewhere, listen)
		require.Regexp(t, `^127\.0\.0\.1:[1-9]\d*$`, at, listen)
		conn, err := net.Dial("tcp", at)
		require.NoError(t, err, listen)
		require.NoError(t, conn.Close())
		require.NoError(t, l.Close())
	}
}

// serve serves pages as a program does, until the test or end ends it.
func serve(t *testing.T, pages http.Handler) (url string, end func()) {
	t.Helper()
	l, err := web.Listen(t.Context(), "localhost:0", web.ThisMachine)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() {
		done <- web.Server{Handler: web.Guard{Names: []string{"trainer.example"}}.Around(pages)}.Serve(ctx, l)
	}()
	ended := false
	end = func() {
		if !ended {
			ended = true
			cancel()
			require.NoError(t, <-done)
		}
	}
	t.Cleanup(end)
	return "http://" + l.Addr().String(), end
}

func TestGuard_Rules(t *testing.T) {
	var pages web.Pages
	changed := 0
	pages.Read("/{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "page") })
	pages.Read("/style.css", web.Style)
	pages.Change("/change", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			http.Error(w, "too long", http.StatusRequestEntityTooLarge)
			return
		}
		changed++
	})
	url, _ := serve(t, &pages)
	ask := func(method, path, host, body string, header ...string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, url+path, strings.NewReader(body))
		require.NoError(t, err)
		r.Host = host
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, answer.Body)
		require.NoError(t, answer.Body.Close())
		return answer
	}

	answer := ask("GET", "/", "", "")
	require.Equal(t, http.StatusOK, answer.StatusCode)
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"} {
		require.Equal(t, want, answer.Header.Get(name))
	}
	policy := answer.Header.Get("Content-Security-Policy")
	require.Contains(t, policy, "default-src 'none'")
	require.NotContains(t, policy, "unsafe")
	require.NotContains(t, policy, "http")

	// A name that somebody points at this machine is not this machine's (DNS rebinding).
	require.Equal(t, http.StatusMisdirectedRequest, ask("GET", "/", "attacker.example", "").StatusCode)
	require.Equal(t, http.StatusMisdirectedRequest, ask("GET", "/", "localhost.attacker.example:80", "").StatusCode)
	for _, host := range []string{"localhost:1234", "127.0.0.1", "[::1]:80", "Trainer.Example:8080"} {
		require.Equal(t, http.StatusOK, ask("GET", "/", host, "").StatusCode, host)
	}

	require.Equal(t, http.StatusMethodNotAllowed, ask("GET", "/change", "", "").StatusCode)
	require.Equal(t, http.StatusMethodNotAllowed, ask("POST", "/", "", "").StatusCode)
	require.Equal(t, http.StatusForbidden, ask("POST", "/change", "", "", "Sec-Fetch-Site", "cross-site").StatusCode)
	require.Equal(t, http.StatusForbidden, ask("POST", "/change", "", "", "Sec-Fetch-Site", "same-site").StatusCode)
	require.Equal(t, http.StatusForbidden, ask("POST", "/change", "", "", "Origin", "https://attacker.example").StatusCode)
	require.Equal(t, http.StatusRequestEntityTooLarge, ask("POST", "/change", "", strings.Repeat("x", web.MaxBody+1)).StatusCode)
	require.Zero(t, changed)
	require.Equal(t, http.StatusOK, ask("POST", "/change", "", "x", "Sec-Fetch-Site", "same-origin").StatusCode)
	require.Equal(t, 1, changed)
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, ask("GET", "/", "", "", "X-Long", strings.Repeat("x", 40<<10)).StatusCode)

	answer = ask("GET", "/style.css", "", "")
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Contains(t, answer.Header.Get("Content-Type"), "text/css")
}

// What has begun is answered when a server ends, and streams of events end.
func TestServer_EndsInOrder(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	var feed web.Feed
	var pages web.Pages
	pages.Read("/slow", func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-goOn
		_, _ = io.WriteString(w, "answered")
	})
	pages.Read("/events", func(w http.ResponseWriter, r *http.Request) { _ = feed.Serve(w, r) })
	url, end := serve(t, &pages)
	stream := listen(t, url+"/events", "")
	stream.wait(t, "retry")
	answered := make(chan string, 1)
	go func() {
		answer, err := http.Get(url + "/slow")
		if err != nil {
			answered <- err.Error()
			return
		}
		body, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		answered <- string(body)
	}()
	<-begun
	go func() {
		<-stream.ended
		close(goOn)
	}()
	end()
	require.Equal(t, "answered", <-answered)
}

func TestServer_SaysWhyItFailed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.ErrorIs(t, web.Server{Handler: http.NotFoundHandler()}.Serve(t.Context(), l), net.ErrClosed)
}

func TestStyle_NothingFromElsewhere(t *testing.T) {
	w := httptest.NewRecorder()
	web.Style(w, httptest.NewRequest("GET", "/style.css", nil))
	require.NotContains(t, w.Body.String(), "url(")
	require.NotContains(t, w.Body.String(), "@import")
}

// A handler learns that a connection has ended, whoever ends it, and whether it is encrypted
// or not; another request by the same connection has not ended it.
func TestHungUp(t *testing.T) {
	t.Parallel()
	require.Nil(t, web.HungUp(t.Context()), "nobody serves it")
	for name, encrypted := range map[string]bool{"HTTP": false, "HTTPS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var l net.Listener
			l, err := web.Listen(t.Context(), "localhost:0", web.ThisMachine)
			require.NoError(t, err)
			url, transport := "http://"+l.Addr().String(), &http.Transport{ForceAttemptHTTP2: true}
			if encrypted {
				by := httptest.NewTLSServer(nil) // for its certificate
				defer by.Close()
				config := by.TLS.Clone()
				config.NextProtos = []string{"h2", "http/1.1"}
				l, url = tls.NewListener(l, config), "https://"+l.Addr().String()
				transport.TLSClientConfig = by.Client().Transport.(*http.Transport).TLSClientConfig
			}
			ctx, end := context.WithCancel(t.Context())
			came, ended := make(chan (<-chan struct{}), 1), make(chan error, 1)
			go func() {
				ended <- web.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { came <- web.HungUp(r.Context()) })}.Serve(ctx, l)
			}()
			ask := func() <-chan struct{} {
				answer, err := (&http.Client{Transport: transport}).Get(url)
				require.NoError(t, err)
				_, err = io.Copy(io.Discard, answer.Body)
				require.NoError(t, errors.Join(err, answer.Body.Close()))
				return <-came
			}
			one := ask()
			two := ask()
			require.Equal(t, one, two, "the same connection")
			select {
			case <-one:
				require.Fail(t, "the client is there")
			default:
			}
			closed := func(c <-chan struct{}) {
				t.Helper()
				select {
				case <-c:
				case <-time.After(time.Minute):
					require.Fail(t, "nobody noticed")
				}
			}
			transport.CloseIdleConnections()
			closed(one)
			three := ask()
			end()
			closed(three)
			require.NoError(t, <-ended)
		})
	}
}
