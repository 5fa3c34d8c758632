package lesson

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"mime"
	"net/http"
	"slices"
	"sync"
	"time"
	"unicode"
)

// A Result is how it stands with a step, as it is posted to a trainer.
type Result struct {
	Schema  int    `json:"schema"`  // 1
	Student string `json:"student"` // 1 to 64 printable characters
	Lesson  string `json:"lesson"`  // title, 1 to 128 printable characters
	Step    int    `json:"step"`    // from 1 to steps
	Steps   int    `json:"steps"`   // 1 to 50
	Solved  bool   `json:"solved"`
	Hints   int    `json:"hints"` // shown of this step
	Tries   int    `json:"tries"` // checks of this step
}

// ErrStudent says that no trainer can be told of a student of that name.
var ErrStudent = errors.New("student: 1 to 64 printable characters")

// ErrReport says that results cannot be posted there.
var ErrReport = errors.New("report: the URL of a trainer's console, as http://127.0.0.1:8080/class")

const longestName = 64

// check says what is wrong with a result.
func (r Result) check() error {
	switch {
	case r.Schema != 1:
		return fmt.Errorf("schema %d, and not 1", r.Schema)
	case !printable(r.Student, longestName):
		return ErrStudent
	case !printable(r.Lesson, 128):
		return fmt.Errorf("lesson: 1 to 128 printable characters")
	case r.Steps < 1 || r.Steps > maxSteps || r.Step < 1 || r.Step > r.Steps:
		return fmt.Errorf("step %d of %d", r.Step, r.Steps)
	case r.Hints < 0 || r.Hints > hintsOf || r.Tries < 0 || r.Tries > 1e6:
		return fmt.Errorf("%d hints, %d tries", r.Hints, r.Tries)
	}
	return nil
}

func printable(s string, longest int) bool {
	n := 0
	for _, r := range s {
		if n++; !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return false
		}
	}
	return n > 0 && n <= longest
}

// poster follows no redirect: the address of a class is its only secret, and whoever is
// redirected tells it on, as the Referer, together with the result.
var poster = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// ErrNoClass says that there is no Class at a URL but a page, as that which students look
// at.
var ErrNoClass = errors.New("this address is that of a web page and takes no results; `hsmemu lesson class` prints one that does, and `hsmemu run --console --console-results` behind the word report")

// Post tells a trainer's Class at a URL about a result, and nobody else: it follows no
// redirect. Error: ErrNoClass.
func Post(ctx context.Context, url string, r Result) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	q.Header.Set("Content-Type", "application/json")
	a, err := poster.Do(q)
	if err != nil {
		return err
	}
	defer func() { _ = a.Body.Close() }() // read as far as it matters
	if a.StatusCode != http.StatusNoContent {
		if kind, _, err := mime.ParseMediaType(a.Header.Get("Content-Type")); err == nil && kind == "text/html" {
			return fmt.Errorf("%s: %w", a.Status, ErrNoClass)
		}
		said, _ := io.ReadAll(io.LimitReader(a.Body, 200)) // the status says enough
		return fmt.Errorf("%s: %s", a.Status, bytes.TrimSpace(said))
	}
	return nil
}

// A Class keeps the results of students in memory and shows them as a table. It is an
// http.Handler for one path: POST takes a Result, GET shows the table, or JSON to
// who accepts that first. It knows no password: who mounts it decides who reaches it.
type Class struct {
	most  int
	clock func() time.Time

	mu       sync.Mutex
	students map[string]*Standing
	taken    int
}

// Taken is how many results it has taken, so that whoever shows them knows when there
// are others.
func (c *Class) Taken() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.taken
}

// A Standing is how it stands with a student and a lesson.
type Standing struct {
	Student string    `json:"student"`
	Lesson  string    `json:"lesson"`
	At      time.Time `json:"at"`
	Steps   []Result  `json:"steps"` // by number; those without a result are empty
}

// NewClass is an empty table for so many students at most. A student is shown with
// the lesson that was worked on last.
func NewClass(most int, clock func() time.Time) *Class {
	return &Class{most: most, clock: clock, students: make(map[string]*Standing)}
}

// longestResult is more than any Result takes.
const longestResult = 4 << 10

// ServeHTTP takes a result or shows the table.
func (c *Class) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	switch q.Method {
	case http.MethodPost:
		c.take(w, q)
	case http.MethodGet, http.MethodHead:
		c.show(w, q)
	default:
		h.Set("Allow", "GET, HEAD, POST")
		http.Error(w, "GET or POST", http.StatusMethodNotAllowed)
	}
}

func (c *Class) take(w http.ResponseWriter, q *http.Request) {
	if q.Header.Get("Origin") != "" { // a web page has a browser send it
		http.Error(w, "not from a web page", http.StatusForbidden)
		return
	}
	if kind, _, err := mime.ParseMediaType(q.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		http.Error(w, "a result is JSON", http.StatusUnsupportedMediaType)
		return
	}
	var r Result
	d := json.NewDecoder(http.MaxBytesReader(w, q.Body, longestResult))
	d.DisallowUnknownFields()
	err := d.Decode(&r)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something stands behind its end")
		} else {
			err = r.check()
		}
	}
	if err != nil {
		http.Error(w, "not a result: "+err.Error(), http.StatusBadRequest)
		return
	}
	if !c.add(r) {
		http.Error(w, "the class is full", http.StatusInsufficientStorage)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// add keeps a result; it reports false where there is no room for one more student.
func (c *Class) add(r Result) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.students[r.Student]
	switch {
	case s == nil && len(c.students) >= c.most:
		return false
	case s == nil, s.Lesson != r.Lesson, len(s.Steps) != r.Steps:
		s = &Standing{Student: r.Student, Lesson: r.Lesson, Steps: make([]Result, r.Steps)}
		c.students[r.Student] = s
	}
	c.taken++
	s.At = c.clock()
	s.Steps[r.Step-1] = r
	return true
}

// Standings are copies, sorted by students.
func (c *Class) Standings() []Standing {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]Standing, 0, len(c.students))
	for _, s := range c.students {
		one := *s
		one.Steps = slices.Clone(s.Steps)
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b Standing) int { return cmp.Compare(a.Student, b.Student) })
	return all
}

func (c *Class) show(w http.ResponseWriter, q *http.Request) {
	all := c.Standings()
	var b bytes.Buffer
	kind, err := "text/html; charset=utf-8", error(nil)
	if accepted, _, _ := mime.ParseMediaType(q.Header.Get("Accept")); accepted == "application/json" {
		kind = accepted
		err = json.NewEncoder(&b).Encode(all)
	} else {
		err = table.Execute(&b, all)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(b.Bytes()) // whoever asked went away
}

// table shows how a class is doing: words, so that colours say nothing alone.
var table = template.Must(template.New("").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="5"><title>Class</title>
<style>:root{color-scheme:light dark}body{font:1.2rem system-ui,sans-serif;margin:2rem}table{border-collapse:collapse}th,td{border:1px solid #888;padding:.3em .7em;text-align:left}.solved{font-weight:bold}</style>
</head><body><main><h1>Class</h1>
<table><thead><tr><th scope="col">Student</th><th scope="col">Lesson</th><th scope="col">Steps</th></tr></thead><tbody>
{{range .}}<tr><th scope="row">{{.Student}}</th><td>{{.Lesson}}</td><td>{{range $i, $s := .Steps}}{{if $i}} · {{end}}{{if $s.Solved}}<span class="solved">solved</span>{{else if $s.Tries}}{{$s.Tries}} {{if eq $s.Tries 1}}try{{else}}tries{{end}}{{else if $s.Schema}}at it{{else}}–{{end}}{{if $s.Hints}} ({{$s.Hints}} hint{{if ne $s.Hints 1}}s{{end}}){{end}}{{end}}</td></tr>
{{else}}<tr><td colspan="3">no results yet</td></tr>
{{end}}</tbody></table></main></body></html>
`))
