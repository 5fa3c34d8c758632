package ram_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/ram"
)

// Requests that lie about their length, stop in the middle or come a byte at a time take
// no connection of a card with them, and leave nothing behind.
func TestServer_LyingRequests(t *testing.T) {
	t.Parallel()
	const host = "localhost"
	head := "POST /rt/paas HTTP/1.1\r\nHost: " + host + "\r\nContent-Type: " + typeOfResult + "\r\n"
	body := string(unhex(t, theOpening))
	for name, c := range map[string]struct {
		text string
		want []int
	}{
		"longer than it is":     {head + "Content-Length: 5000\r\n\r\n" + body, []int{400, 408}},
		"shorter than it is":    {head + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)-1) + body, []int{400, 504}},
		"negative":              {head + "Content-Length: -1\r\n\r\n" + body, []int{400}},
		"two lengths":           {head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n" + body, []int{400}},
		"length and chunks":     {head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", []int{400}},
		"chunk without end":     {head + "Transfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n" + strings.Repeat("x", 70000), []int{413, 400}},
		"half a head":           {head, []int{0, 400, 408}},
		"head of a megabyte":    {head + "X: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", []int{431}},
		"ten thousand headers":  {head + strings.Repeat("X: y\r\n", 10000) + "\r\n", []int{431}},
		"a header with newline": {head + "X: a\n b\r\n\r\n", []int{400}},
		"not HTTP":              {"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03\r\n\r\n", []int{400}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, l := pipes(t, hello)
				conn := l.dial()
				start := time.Now()
				var client sync.WaitGroup
				client.Go(func() { _, _ = io.WriteString(conn, c.text) }) // it may be sent off before it has said all
				status := 0
				if w, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
					status = w.StatusCode
					require.NoError(t, w.Body.Close())
				}
				require.NoError(t, conn.Close())
				client.Wait()
				require.Contains(t, c.want, status)
				require.LessOrEqual(t, time.Since(start), ram.IdleTime)
				require.Zero(t, s.Connections())
			})
		})
	}
	t.Run("a byte at a time", func(t *testing.T) { // it is sent off, however much it goes on
		synctest.Test(t, func(t *testing.T) {
			_, l := pipes(t, hello)
			conn := l.dial()
			var client sync.WaitGroup
			client.Go(func() { _, _ = io.Copy(io.Discard, conn) })
			start := time.Now()
			_, err := io.WriteString(conn, head+"Content-Length: 60000\r\n\r\n")
			require.NoError(t, err)
			for err == nil {
				_, err = conn.Write([]byte{0xAB})
				<-time.After(10 * time.Millisecond) // a slow client
			}
			client.Wait()
			require.NoError(t, conn.Close())
			require.WithinRange(t, time.Now(), start.Add(ram.IdleTime), start.Add(ram.IdleTime+time.Second))
			agent := &ram.Agent{Card: &numbered{}, Transport: l.transport(new(atomic.Int32))}
			require.NoError(t, agent.Run(t.Context(), "http://"+host+"/rt/paas"), "it serves others as before")
		})
	})
}

// Whoever does not have the cookie of a connection cannot answer for its card, with
// whatever names he knows or makes up; and an answer that is sent again counts once.
func TestServer_StolenNames(t *testing.T) {
	t.Parallel()
	var commands int
	s := serve(t, func(ctx context.Context, card *ram.Session) error {
		for range 3 {
			answer, err := card.Transmit(ctx, []byte{0, 0x20, 0, 0x81, 0})
			if err != nil {
				return err
			}
			commands++
			if !bytes.Equal(answer, []byte{0x6E, 0}) {
				return fmt.Errorf("the answer of somebody else: %X", answer)
			}
		}
		return nil
	})
	const command, lie, truth = "AA07 22050020008100", "AB0723029000800101", "AB0723026E00800101"
	first := s.post(t, "/rt/paas/web", "", theOpening)
	requireRequest(t, first, command)
	cookie := cookieOf(first)
	_, name, _ := strings.Cut(cookie, "=")
	for _, other := range []string{"", "JSESSIONID=web", "JSESSIONID=", "JSESSIONID=" + strings.ToLower(name), "JSESSIONID=" + name[:len(name)-1], "jsessionid=" + name, "JSESSIONID=x; JSESSIONID=" + name, "JSESSIONID=\"" + name} {
		requireStatus(t, s.post(t, "/rt/paas/web", other, lie), http.StatusGatewayTimeout)
		requireStatus(t, s.post(t, "/rt/paas", other, lie), http.StatusGatewayTimeout)
	}
	requireStatus(t, s.post(t, "/rt/hsm", cookie, lie), http.StatusGatewayTimeout) // another service
	requireStatus(t, s.post(t, "/rt/paas/"+name, "", lie), http.StatusNotFound)
	requireRequest(t, s.post(t, "/rt/paas/web", cookie, truth), command)
	requireRequest(t, s.post(t, "/rt/paas/web", cookie, truth), command)
	requireStatus(t, s.post(t, "/rt/paas/web", cookie, truth), http.StatusNoContent)
	require.NoError(t, s.end(t))
	require.Equal(t, 3, commands)
	requireStatus(t, s.post(t, "/rt/paas/web", cookie, truth), http.StatusGatewayTimeout)
}

// Whoever connects cards that say nothing takes his own room, and not that of others;
// it is free again when they are gone, and his own card may take the place of another.
func TestServer_LimitOfASource(t *testing.T) {
	t.Parallel()
	const words = "Too many cards are connected from your address. Try again later."
	s := &ram.Server{Services: map[string]ram.Service{"paas": hello}, Known: func(id string) bool { return id == "web" }}
	open := func(from, cookie string) *http.Response {
		r := httptest.NewRequest(http.MethodPost, "/rt/paas", bytes.NewReader(unhex(t, theOpening)))
		r.RemoteAddr = from
		r.Header.Set("Content-Type", typeOfResult)
		r.Header.Set("Cookie", cookie)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w.Result()
	}
	var cookies []string
	for port := range ram.SourceMax {
		w := open(fmt.Sprintf("192.0.2.1:%d", 1000+port), "")
		requireRequest(t, w, theNotice)
		cookies = append(cookies, cookieOf(w))
	}
	for _, cookie := range []string{"", "JSESSIONID=made-up", "JSESSIONID=web"} {
		w := open("192.0.2.1:999", cookie)
		requireNotice(t, w, words)
		require.Empty(t, cookieOf(w))
	}
	require.Equal(t, ram.SourceMax, s.Connections())
	requireRequest(t, open("192.0.2.2:1000", ""), theNotice)
	requireRequest(t, open("192.0.2.1:999", cookies[0]), theNotice) // in its own place
	requireNotice(t, open("192.0.2.1:999", cookies[0]), words)      // which is another's now
	other := cookieOf(open("192.0.2.2:1001", "JSESSIONID=web"))
	requireNotice(t, open("192.0.2.1:999", "JSESSIONID=web"), words) // a place of another source is none more of his
	require.NotEmpty(t, other)
	require.Equal(t, ram.SourceMax+2, s.Connections())

	gone := httptest.NewRequest(http.MethodPost, "/rt/paas", bytes.NewReader(unhex(t, "AB0DE1060C0474657374800100")))
	gone.Header.Set("Content-Type", typeOfResult)
	gone.Header.Set("Cookie", cookies[1])
	s.ServeHTTP(httptest.NewRecorder(), gone)
	requireRequest(t, open("192.0.2.1:999", ""), theNotice)
	requireNotice(t, open("192.0.2.1:999", ""), words)
	require.NoError(t, s.Close())
	require.Zero(t, s.Connections())

	s = &ram.Server{Services: map[string]ram.Service{"paas": hello}, LimitOfSource: 1, Source: func(*http.Request) string { return "all" }}
	requireRequest(t, open("192.0.2.1:1", ""), theNotice)
	requireNotice(t, open("192.0.2.2:1", ""), words)
	require.NoError(t, s.Close())
}

// What a client gives as its reason is in the server's log, whatever it is.
func TestServer_ReasonOfAClient(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Cancelled by user":                             "Cancelled by user",
		"a\r\nhsmemu: ready\x1b[2J\u202e\u00a0\x00\xff": "a��hsmemu: ready�[2J����",
		strings.Repeat("x", 60000):                      strings.Repeat("x", 197) + "…",
		strings.Repeat("ä", 30000):                      strings.Repeat("ä", 98) + "…",
		strings.Repeat("x", 197):                        strings.Repeat("x", 197),
	} {
		s := serve(t, hello)
		cookie := cookieOf(s.post(t, "/rt/paas", "", theOpening))
		body, err := ram.Result{Closed: true, Text: text}.Bytes()
		require.NoError(t, err)
		requireStatus(t, s.post(t, "/rt/paas", cookie, fmt.Sprintf("%X", body)), http.StatusNoContent)
		err = s.end(t)
		var closed *ram.ClosedError
		require.ErrorAs(t, err, &closed)
		require.Equal(t, want, closed.Text)
		require.Less(t, len(err.Error()), 300)
	}
}

// A client may send what it likes, wherever in the protocol: nobody panics, no
// connection outlives its service, and every answer is one of the protocol.
func FuzzServer(f *testing.F) {
	for _, seed := range []string{theOpening, theNothing, "AB0723026E00800101", "AB03E10180", "AB0DE1060C0474657374800100", "AA00", "AB82FFFF", "E826C024" + strings.Repeat("3B", 36), ""} {
		f.Add("/rt/paas", typeOfResult, unhex(f, seed), unhex(f, seed))
	}
	f.Add("/rt/paas/web", "text/plain", []byte{}, []byte{})
	f.Add("/rt//../paas/%00", "a/b", []byte{0xAB}, []byte{0xAB})
	f.Fuzz(func(t *testing.T, path, kind string, first, second []byte) {
		ended := make(chan error, 8)
		s := &ram.Server{
			Services: map[string]ram.Service{"paas": hello}, Known: func(id string) bool { return id == "web" },
			Ended: func(_ string, _ *ram.Session, err error) { ended <- err },
		}
		post := func(path, cookie string, body []byte) *http.Response {
			r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
			r.URL.Path = path
			r.Header.Set("Content-Type", kind)
			r.Header.Set("Cookie", cookie)
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			require.Contains(t, []int{200, 204, 400, 404, 409, 413, 415, 503, 504}, w.Code)
			if w.Code == http.StatusOK {
				_, err := ram.ParseRequest(w.Body.Bytes())
				require.NoError(t, err)
			}
			return w.Result()
		}
		post(path, "", first)
		kind = typeOfResult
		cookie := cookieOf(post("/rt/paas/web", "", unhex(t, theOpening)))
		post("/rt/paas", cookie, first)
		post("/rt/paas", cookie, second)
		require.NoError(t, s.Close())
		require.Zero(t, s.Connections())
		for len(ended) > 0 {
			require.NotErrorIs(t, <-ended, ram.ErrPanic)
		}
		require.Less(t, runtime.NumGoroutine(), 1000)
	})
}
