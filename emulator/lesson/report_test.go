package lesson_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/lesson"
)

func newClass(t *testing.T, most int) string {
	t.Helper()
	s := httptest.NewServer(lesson.NewClass(most, time.Now))
	t.Cleanup(s.Close)
	return s.URL
}

func get(t *testing.T, url, accept string) string {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	q.Header.Set("Accept", accept)
	a, err := http.DefaultClient.Do(q)
	require.NoError(t, err)
	text, err := io.ReadAll(a.Body)
	require.NoError(t, err)
	require.NoError(t, a.Body.Close())
	require.Equal(t, http.StatusOK, a.StatusCode)
	require.Equal(t, "nosniff", a.Header.Get("X-Content-Type-Options"))
	require.Contains(t, a.Header.Get("Content-Security-Policy"), "default-src 'none'")
	return string(text)
}

func result(student string, step int, solved bool) lesson.Result {
	return lesson.Result{Schema: 1, Student: student, Lesson: "A & B", Step: step, Steps: 3, Solved: solved, Tries: 2, Hints: 1}
}

func TestClass(t *testing.T) {
	url := newClass(t, 2)
	require.Contains(t, get(t, url, "text/html"), "no results yet")
	require.NoError(t, lesson.Post(t.Context(), url, result("<b>bob</b>", 1, true)))
	require.NoError(t, lesson.Post(t.Context(), url, result("<b>bob</b>", 2, false)))
	require.NoError(t, lesson.Post(t.Context(), url, result("alice", 1, false)))
	page := get(t, url, "text/html")
	require.Contains(t, page, "&lt;b&gt;bob&lt;/b&gt;</th><td>A &amp; B</td>")
	require.NotContains(t, page, "<b>")
	require.Contains(t, page, `<span class="solved">solved</span> (1 hint) · 2 tries (1 hint) · –`)
	require.Less(t, strings.Index(page, "bob"), strings.Index(page, "alice"))
	begun := result("alice", 2, false)
	begun.Tries, begun.Hints = 0, 0
	require.NoError(t, lesson.Post(t.Context(), url, begun))
	require.Contains(t, get(t, url, "text/html"), `2 tries (1 hint) · at it · –`)
	require.Contains(t, get(t, url, "application/json"), `"student":"alice","lesson":"A \u0026 B"`)
	require.ErrorContains(t, lesson.Post(t.Context(), url, result("carol", 1, false)), "507 Insufficient Storage: the class is full")
	require.NoError(t, lesson.Post(t.Context(), url, result("alice", 2, true)), "who is there already has room")
}

// Nothing that a stranger sends gets in or takes up room.
func TestClass_Refuses(t *testing.T) {
	url := newClass(t, 20)
	const good = `{"schema":1,"student":"a","lesson":"b","step":1,"steps":2,"solved":true,"hints":0,"tries":1}`
	for _, c := range []struct {
		name, method, kind, origin, body string
		want                             int
	}{
		{"good", "POST", "application/json", "", good, 204},
		{"method", "PUT", "application/json", "", good, 405},
		{"another origin", "POST", "application/json", "http://evil.example", good, 403},
		{"a form", "POST", "text/plain", "", good, 415},
		{"no JSON", "POST", "application/json", "", "x", 400},
		{"long", "POST", "application/json", "", strings.Replace(good, `"a"`, `"`+strings.Repeat("a", 5000)+`"`, 1), 400},
		{"long name", "POST", "application/json", "", strings.Replace(good, `"a"`, `"`+strings.Repeat("a", 65)+`"`, 1), 400},
		{"no name", "POST", "application/json", "", strings.Replace(good, `"a"`, `""`, 1), 400},
		{"control characters", "POST", "application/json", "", strings.Replace(good, `"a"`, `"a\u001b[2J"`, 1), 400},
		{"long lesson", "POST", "application/json", "", strings.Replace(good, `"b"`, `"`+strings.Repeat("b", 129)+`"`, 1), 400},
		{"many steps", "POST", "application/json", "", strings.Replace(good, `"steps":2`, `"steps":51`, 1), 400},
		{"step out of range", "POST", "application/json", "", strings.Replace(good, `"step":1`, `"step":3`, 1), 400},
		{"step 0", "POST", "application/json", "", strings.Replace(good, `"step":1`, `"step":0`, 1), 400},
		{"negative", "POST", "application/json", "", strings.Replace(good, `"tries":1`, `"tries":-1`, 1), 400},
		{"another schema", "POST", "application/json", "", strings.Replace(good, `"schema":1`, `"schema":2`, 1), 400},
		{"text behind it", "POST", "application/json", "", good + "x", 400},
		{"another behind it", "POST", "application/json", "", good + good, 400},
		{"unknown member", "POST", "application/json", "", strings.Replace(good, `"schema"`, `"x":1,"schema"`, 1), 400},
	} {
		q, err := http.NewRequestWithContext(t.Context(), c.method, url, strings.NewReader(c.body))
		require.NoError(t, err)
		q.Header.Set("Content-Type", c.kind)
		if c.origin != "" {
			q.Header.Set("Origin", c.origin)
		}
		a, err := http.DefaultClient.Do(q)
		require.NoError(t, err)
		require.NoError(t, a.Body.Close())
		require.Equal(t, c.want, a.StatusCode, c.name)
	}
	require.Equal(t, 1, strings.Count(get(t, url, ""), `<th scope="row">`))
}

// A trainer's console that is not there holds nobody up.
func TestPost_Nobody(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body) // or the server does not notice its end
		<-q.Context().Done()
	}))
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, lesson.Post(ctx, s.URL, result("a", 1, true)), context.DeadlineExceeded)
}

// The address of a page that people look at is told as that, and the page is not.
func TestPost_Page(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusForbidden, http.StatusMethodNotAllowed} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<!DOCTYPE html>\n<title>Cards</title>")
		}))
		err := lesson.Post(t.Context(), s.URL, result("a", 1, true))
		s.Close()
		require.ErrorIs(t, err, lesson.ErrNoClass)
		require.ErrorContains(t, err, strconv.Itoa(status))
		require.NotContains(t, err.Error(), "\n")
		require.NotContains(t, err.Error(), "<")
	}
}

// Whoever answers at the trainer's address cannot send the result on, nor the address,
// which is the class's only secret.
func TestPost_Redirected(t *testing.T) {
	var told atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		told.Add(1)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := httptest.NewServer(http.RedirectHandler(other.URL, status))
		err := lesson.Post(t.Context(), s.URL+"/class/secret", result("a", 1, true))
		s.Close()
		require.ErrorContains(t, err, strconv.Itoa(status))
	}
	require.Zero(t, told.Load())
}
