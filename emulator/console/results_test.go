//go:build linux

package console_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"hsmemu/emulator/browsertest"
	"hsmemu/emulator/lesson"
)

func resultOf(student string, step, tries int, solved bool) lesson.Result {
	return lesson.Result{Schema: 1, Student: student, Lesson: "A & B", Step: step, Steps: 3, Solved: solved, Hints: 1, Tries: tries}
}

// The trainer sees live how students are doing; students see nothing of each other.
func TestConsole_ResultsOfAClass(t *testing.T) {
	c := begin(t, "lab")
	b := browsertest.Start(t)
	b.Open(c.trainer)
	b.Until("location.search === ''")
	b.Open(c.base + "/class")
	b.Until("document.documentElement.dataset.live")
	require.Equal(t, c.results, browsertest.Value[string](b, "document.querySelector('input').value"))
	require.NoError(t, lesson.Post(t.Context(), c.results, resultOf("<b>bob</b>", 1, 1, true)))
	require.NoError(t, lesson.Post(t.Context(), c.results, resultOf("alice", 2, 4, false)))
	b.Until("document.querySelectorAll('[data-panel=results] tbody tr').length === 2")
	table := browsertest.Value[string](b, "document.querySelector('[data-panel=results] tbody').innerText")
	for _, want := range []string{"<b>bob</b>\tA & B\t✓ solved, 1 hint\t–\t–", "alice\tA & B\t–\tnot yet, 4 tries, 1 hint\t–"} {
		require.Contains(t, table, want)
	}
	require.Zero(t, browsertest.Value[int](b, "document.querySelectorAll('[data-panel=results] b').length"))
	b.Accessible()
	b.Picture("console-results.png")
	b.NoErrors()

	require.ErrorContains(t, lesson.Post(t.Context(), c.results, resultOf("carol", 1, 1, true)), "the class is full")
	require.ErrorContains(t, lesson.Post(t.Context(), c.base+"/report/"+strings.Repeat("0", 32), resultOf("alice", 3, 1, true)), "403")
	require.ErrorContains(t, lesson.Post(t.Context(), c.base+"/report/"+c.pupil[strings.Index(c.pupil, "=")+1:], resultOf("alice", 3, 1, true)), "403")
	require.ErrorContains(t, lesson.Post(t.Context(), c.results, resultOf(strings.Repeat("a", 9000), 1, 1, true)), "400")
	answer, err := http.Get(c.results)
	require.NoError(t, err)
	status, body := read(t, answer)
	require.Equal(t, http.StatusMethodNotAllowed, status)
	require.NotContains(t, body, "alice")
	pupil := visit(t, c.pupil)
	for _, path := range []string{"/class", "/", "/card/lab"} {
		_, body = pupil.get(t, path)
		require.NotContains(t, body, "alice")
		require.NotContains(t, body, c.results[len(c.base):])
	}
}

// A snapshot that is kept in a file is restored from the page, by a trainer alone.
func TestConsole_RestoresSnapshotsInFiles(t *testing.T) {
	c := begin(t, "lab")
	c.kept["before <i>it</i>"] = c.private.Cards[0].Moment()
	require.Equal(t, "63C2", c.send(t, selects, wrong))
	pupil := visit(t, c.pupil)
	status, body := pupil.get(t, "/card/lab")
	require.Equal(t, http.StatusOK, status)
	const shown = "before &lt;i&gt;it" // which has to be there for others, or this shows nothing
	require.NotContains(t, body, shown)
	_, body = visit(t, c.trainer).get(t, "/card/lab")
	require.Contains(t, body, shown)
	status, _ = pupil.post(t, "/card/lab/restore", "tag", "before <i>it</i>")
	require.Equal(t, http.StatusForbidden, status)
	status, body = visit(t, c.trainer).post(t, "/card/lab/restore", "tag", "another")
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, body, "there is no snapshot another")
	require.Equal(t, "63C2", c.send(t, selects, ask))

	b := browsertest.Start(t)
	b.Open(c.trainer)
	b.Until("location.search === ''")
	b.Open(c.base + "/card/lab")
	b.Until("document.documentElement.dataset.live")
	b.Until("document.querySelector('[data-panel=counters] .number').textContent === '2 of 3'")
	b.Accessible()
	b.Do(chromedp.Click("form[action$='/restore'] button"))
	b.Until("document.querySelector('[data-panel=counters] .number').textContent === '3 of 3'")
	b.Until("document.getElementById('said').textContent.includes('as in the snapshot before <i>it</i>: ')")
	b.NoErrors()
}
