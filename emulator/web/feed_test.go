package web_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
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
	limit := time.NewTimer(10 * time.Second)
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

// One that reads nothing is dropped, and whoever says something does not notice.
func TestFeed_DropsASlowListener(t *testing.T) {
	f := &web.Feed{Kept: 8, Patience: 200 * time.Millisecond}
	ended := make(chan error, 1)
	url := feedAt(t, f, ended)
	host, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	conn, err := net.Dial("tcp", host)
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "GET /%s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return f.Listeners() == 1 }, 5*time.Second, time.Millisecond)
	big := strings.Repeat("x", 1<<20)
	began := time.Now()
	for range 100 { // more than the buffers between both take
		f.Say("card", big)
	}
	require.Less(t, time.Since(began), 5*time.Second)
	require.Error(t, <-ended)
	require.Zero(t, f.Listeners())
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
