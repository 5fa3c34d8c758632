//go:build linux

package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"hsmemu/emulator/browsertest"
)

// Addresses in docs/portal.md: of the portal, and of a session for cards, which readers
// copy from a page.
const (
	portalAddress = "127.0.0.1:8080"
	cardAddress   = "http://" + portalAddress + "/rt/paas/..."
)

// TestPortalManual plays docs/portal.md: its commands as TestManual does, and between
// them, in a browser, what it tells readers to do on the pages:
//
//   - Open `http://...` opens the page;
//   - **words** are on the page: a button or a link is pressed, a field is filled with
//     what stood in `marks` before it, and of a heading or a state it is waited for;
//   - `six digits` are what stands on the page;
//   - a picture is taken there, and kept with -pictures.
//
// It is the way that the vendor tells of: PORTAL-11, PORTAL-13, PORTAL-15, PORTAL-16,
// UPDATE-2 and UPDATE-5.
func TestPortalManual(t *testing.T) {
	t.Parallel()
	docs, err := filepath.Abs("../../docs")
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(docs, "portal.md"))
	require.NoError(t, err)
	steps, err := readManual(string(text))
	require.NoError(t, err)
	address := portalAddress // which is on the pictures
	if flag.Lookup("pictures").Value.String() != "true" {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		address = free.Addr().String()
		require.NoError(t, free.Close())
	}
	p, err := newPlay(t, docs, steps, "HSMEMU_LISTEN="+address)
	require.NoError(t, err)
	defer func() { require.NoError(t, p.close()) }()
	p.calls(portalAddress, address)
	v := &pageReader{t: t, address: address}
	fenced, pictures := false, 0
	for n, line := range strings.Split(string(text), "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
		case !fenced:
			pictures += v.follow(line)
		case len(steps) > 0 && steps[0].line == n+1:
			if strings.Contains(steps[0].command, cardAddress) {
				steps[0].command = strings.ReplaceAll(steps[0].command, cardAddress, v.card())
			}
			require.NoError(t, p.play(steps[0]))
			steps = steps[1:]
		}
	}
	require.Empty(t, steps)
	require.GreaterOrEqual(t, pictures, 4)
	v.NoErrors()
	kept, err := filepath.Glob(filepath.Join(docs, "portal-*.png"))
	require.NoError(t, err)
	require.Len(t, kept, pictures, "pictures that the document does not show")
}

// pageReader does on the pages what the document says.
type pageReader struct {
	*browsertest.Browser
	t       *testing.T
	address string
	// marked is the last text in marks.
	marked string
}

// whatToDo finds what is to be done in a line of the document.
var whatToDo = regexp.MustCompile("(?:(Open) )?`([^`]+)`|\\*\\*([^*]+)\\*\\*|!\\[([^\\]]*)\\]\\((portal-[a-z]+\\.png)\\)")

// follow does what a line says, and returns how many pictures it shows.
func (v *pageReader) follow(line string) (pictures int) {
	v.t.Helper()
	for _, m := range whatToDo.FindAllStringSubmatch(line, -1) {
		opens, marked, words, alt, picture := m[1] != "", m[2], m[3], m[4], m[5]
		switch {
		case opens:
			v.Browser = browsertest.Start(v.t)
			v.Theme("light")
			v.Do(chromedp.EmulateViewport(960, 850))
			v.Open(strings.ReplaceAll(marked, portalAddress, v.address))
		case marked == "six digits":
			v.Until(`!window.left && /\b[0-9]{6}\b/.test(document.body.innerText)`)
			v.marked = browsertest.Value[string](v.Browser, `document.body.innerText.match(/\b[0-9]{6}\b/)[0]`)
		case marked != "":
			v.marked = marked
		case words != "":
			require.NotNil(v.t, v.Browser, "no page is open for %s", words)
			v.do(words)
		case picture != "":
			require.NotEmpty(v.t, alt, "%s is told to nobody who cannot see it", picture)
			v.Until("!window.left && document.readyState === 'complete'")
			v.Picture(picture)
			pictures++
		}
	}
	return pictures
}

// do does what the page has under some words. A page that is being left is marked, so
// that it is not taken for the next one.
func (v *pageReader) do(words string) {
	v.t.Helper()
	find := func(what string) string {
		return fmt.Sprintf("[...document.querySelectorAll('%s')].find(e => e.textContent.trim() === %q)", what, words)
	}
	button, label := find("button, a"), find("label")
	v.Until(fmt.Sprintf("!window.left && document.readyState === 'complete' && (%s || %s || %s)", button, label, find("strong, h1")))
	switch {
	case browsertest.Value[bool](v.Browser, "!!"+button):
		v.Do(chromedp.Evaluate[chromedp.Void]("window.left = true; " + button + ".click()"))
	case browsertest.Value[bool](v.Browser, "!!"+label):
		v.Do(chromedp.SendKeys("#"+browsertest.Value[string](v.Browser, label+".htmlFor"), v.marked))
	}
}

// card is where the page has cards connect.
func (v *pageReader) card() string {
	v.t.Helper()
	const at = `document.querySelector('pre')?.textContent.match(/http:\S*\/rt\/paas\S*/)?.[0]`
	v.Until("!window.left && " + at)
	return browsertest.Value[string](v.Browser, at)
}
