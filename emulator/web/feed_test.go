package web_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/web"
)

// listener is somebody who listens, line by line.
type listener struct {
	lines chan string
	ended chan struct{}
}

func listen(t *testing.T, url, last string) *listener {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	require.NoError(t, err)
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Contains(t, answer.Header.Get("Content-Type"), "text/event-stream")
	l := &listener{make(chan string, 10000), make(chan struct{})}
	go func() {
		defer close(l.ended)
		defer answer.Body.Close()
		for s := bufio.NewScanner(answer.Body); s.Scan(); {
			l.lines <- s.Text()
		}
	}()
	return l
}

// wait returns the next line that begins with a text.
func (l *listener) wait(t *testing.T, prefix string) string {
	t.Helper()
	limit := time.NewTimer(2 * time.Minute)
	defer limit.Stop()
	for {
		select {
		case line := <-l.lines:
			if strings.HasPrefix(line, prefix) {
				return line
			}
		case <-limit.C:
			require.Fail(t, "no line "+prefix)
		}
	}
}

func feedAt(t *testing.T, f *web.Feed, ended chan<- error) string {
	var pages web.Pages
	pages.Read("/events", func(w http.ResponseWriter, r *http.Request) {
		if err := f.Serve(w, r); ended != nil {
			ended <- err
		}
	})
	url, _ := serve(t, &pages)
	return url + "/events"
}

func TestFeed_TellsAndGoesOnWhereAListenerWas(t *testing.T) {
	f := &web.Feed{Kept: 3}
	f.Say("early", "nobody listens")
	url := feedAt(t, f, nil)
	one := listen(t, url, "")
	one.wait(t, "retry")
	f.Say("card", "two\nlines")
	require.Equal(t, "id: 2", one.wait(t, "id"))
	require.Equal(t, "event: card", one.wait(t, "event"))
	require.Equal(t, "data: two", one.wait(t, "data"))
	require.Equal(t, "data: lines", one.wait(t, "data"))
	// A line break in a text begins no event of its own.
	f.Say("card", "x\r\revent: forged")
	require.Equal(t, "event: card", one.wait(t, "event"))
	require.Equal(t, "data: x", one.wait(t, "data"))
	require.Equal(t, "data: event: forged", one.wait(t, "data: e"))

	again := listen(t, url, "2")
	require.Equal(t, "id: 3", again.wait(t, "id"))
	require.Equal(t, uint64(3), f.Last())
	page := listen(t, url+"?after=1", "") // was made before the second
	require.Equal(t, "id: 2", page.wait(t, "id"))
	page = listen(t, url+"?after=1", "2") // and its browser comes back
	require.Equal(t, "id: 3", page.wait(t, "id"))
	for range 5 {
		f.Say("card", "more")
	}
	for _, last := range []string{"2", "18446744073709551615", "99"} { // too old, and of another run
		lost := listen(t, url, last)
		require.Equal(t, "event: lost", lost.wait(t, "event"), last)
	}
}

func TestFeed_KeepsASilentStreamOpen(t *testing.T) {
	url := feedAt(t, &web.Feed{KeepAlive: 20 * time.Millisecond}, nil)
	one := listen(t, url, "")
	one.wait(t, ":")
	one.wait(t, ":")
}

func TestFeed_HasALimit(t *testing.T) {
	f := &web.Feed{MaxListeners: 1}
	url := feedAt(t, f, nil)
	listen(t, url, "").wait(t, "retry")
	answer, err := http.Get(url)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
	require.Equal(t, "5", answer.Header.Get("Retry-After"))
	require.Equal(t, 1, f.Listeners())
}

// piped is a listener whose connections are pipes, the servers' ends of which it is sent.
type piped chan net.Conn

func (l piped) Accept() (net.Conn, error) {
	if c, ok := <-l; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (l piped) Close() error {
	close(l)
	return nil
}

func (piped) Addr() net.Addr { return &net.TCPAddr{} }

// One that reads nothing is dropped, and whoever says something does not notice.
func TestFeed_DropsASlowListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &web.Feed{Kept: 8}
		ended := make(chan error, 1)
		pages := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { ended <- f.Serve(w, r) })
		l := make(piped)
		ctx, end := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- web.Server{Handler: pages}.Serve(ctx, l) }()
		client, server := net.Pipe()
		l <- server
		_, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		require.NoError(t, err)
		_, err = client.Read(make([]byte, 1))
		require.NoError(t, err)
		require.Equal(t, 1, f.Listeners())
		began := time.Now()
		for range 100 {
			f.Say("card", "more")
		}
		require.Zero(t, time.Since(began))
		require.Error(t, <-ended)
		require.Equal(t, 10*time.Second, time.Since(began))
		require.Zero(t, f.Listeners())
		end()
		require.NoError(t, <-done)
		require.NoError(t, client.Close())
	})
}

// Of what was replaced only the newest is kept for a listener that comes back, and the
// rest in its order.
func TestFeed_Replace(t *testing.T) {
	t.Parallel()
	f := &web.Feed{Kept: 8}
	url, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = f.Serve(w, r) }))
	f.Say("row", "one")
	for range 5 {
		f.Replace("table", "panel", strings.Repeat("x", 10))
	}
	f.Say("row", "two")
	f.Replace("table", "panel", "last")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	r.Header.Set("Last-Event-ID", "0")
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }() // only read
	var told []string
	for lines := bufio.NewScanner(answer.Body); len(told) < 3 && lines.Scan(); {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			told = append(told, data)
		}
	}
	require.Equal(t, []string{"one", "two", "last"}, told)
}

// What was said before anybody listened is told, where that is wanted.
func TestFeed_Recall(t *testing.T) {
	t.Parallel()
	for _, recall := range []bool{true, false} {
		f := &web.Feed{Recall: recall}
		url, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = f.Serve(w, r) }))
		f.Say("row", "before")
		l := listen(t, url, "")
		f.Say("row", "after")
		want := map[bool]string{true: "data: before", false: "data: after"}
		require.Equal(t, want[recall], l.wait(t, "data: "))
	}
}
