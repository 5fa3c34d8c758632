//go:build linux

package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"hsmemu/emulator/browsertest"
)

// pupil is somebody in the shell of a lesson that is on a page, too.
type pupil struct {
	keys           io.WriteCloser
	out            *said
	trainer, class string // addresses
}

var addresses = regexp.MustCompile(`console (http://\S+)\nclass (http://\S+)\n`)

func (h *home) pupil(args ...string) *pupil {
	h.t.Helper()
	cmd := h.command(append([]string{"lesson", "--console"}, args...)...)
	cmd.Env = append(cmd.Env, "SHELL=/bin/sh")
	p := &pupil{out: &said{}}
	var err error
	p.keys, err = cmd.StdinPipe()
	require.NoError(h.t, err)
	cmd.Stdout, cmd.Stderr = p.out, p.out
	require.NoError(h.t, cmd.Start())
	h.t.Cleanup(func() {
		require.NoError(h.t, p.keys.Close())
		require.NoError(h.t, cmd.Wait(), "%s", p.out)
	})
	require.Eventually(h.t, func() bool { return addresses.MatchString(p.out.String()) }, patience, 20*time.Millisecond, "%s", p.out)
	found := addresses.FindStringSubmatch(p.out.String())
	p.trainer, p.class = found[1], found[2]
	return p
}

// types types lines into the shell.
func (p *pupil) types(t *testing.T, lines string) {
	t.Helper()
	_, err := io.WriteString(p.keys, lines+"\n")
	require.NoError(t, err)
}

// visit opens the page of the card at an address.
func (p *pupil) visit(b *browsertest.Browser, address string) {
	b.Open(address)
	b.Until("location.search === ''")
	b.Do(chromedp.Evaluate[chromedp.Void]("location.href = '/card/lab'"))
	b.Until("location.pathname === '/card/lab' && document.documentElement.dataset.live")
}

const panel = "document.querySelector('[data-panel=lesson]')"

// A lesson is worked through on the page as in the shell: both judge alike, and each
// shows what was done in the other.
func TestLesson_OnThePage(t *testing.T) {
	t.Parallel()
	p := newHome(t).pupil("blocked-pin")
	b := browsertest.Start(t)
	p.visit(b, p.trainer)
	says := func(text string) { t.Helper(); b.Until(panel + ".innerText.includes(`" + text + "`)") }
	press := func(deed string) { t.Helper(); b.Do(chromedp.Click("form[action='/lesson/" + deed + "'] button")) }
	said := func(text string) {
		t.Helper()
		b.Until("document.getElementById('said').textContent.includes(`" + text + "`)")
	}
	says("step 1 of 3")
	says("Block it")
	press("check")
	said("This step is not solved yet")
	says(`card "lab": user_pin.state is ready, and not blocked`)
	press("next")
	said("This step is not solved yet")
	says("step 1 of 3")
	press("hint")
	says("Hint 1")
	says("1 of 3 hints shown")
	p.types(t, "lesson hint")
	says("Hint 2")
	b.Accessible()

	// A card that has one try less is brought back.
	p.types(t, "pkcs11-tool --login --pin 000000 -O")
	b.Until("document.querySelector('[data-panel=counters] .number').textContent === '2 of 3'")
	press("undo")
	said("which no real card allows")
	b.Until("document.querySelector('[data-panel=counters] .number').textContent === '3 of 3'")

	// Solved is said by itself, and what was said before is not beside it.
	gone := func() { t.Helper(); b.Until("document.getElementById('said').hidden") }
	p.types(t, "for try in 1 2 3; do pkcs11-tool --login --pin 000000 -O; done")
	says("Solved.")
	gone()
	b.Accessible()
	b.Do(chromedp.Evaluate[chromedp.Void]("scrollTo(0, 0)"))
	b.Picture("console-lesson.png")
	press("next")
	says("step 2 of 3")
	says("Try the right one")
	said("On to the next step.")
	p.types(t, "pkcs11-tool --login --pin 648219 -O")
	says("Solved.")
	gone()
	press("hint")
	said("A hint is below")
	p.types(t, "lesson next")
	says("step 3 of 3")
	gone()
	p.types(t, "pkcs11-tool --login --login-type so --so-pin 3537363231383830 --init-pin --new-pin 648219")
	says("Solved.")
	press("next")
	says("All steps are done.")
	says("What this would have cost on hardware")
	b.Accessible()
	b.NoErrors()
}

// Whoever has written a lesson does not write the page; a class sees it, and has nothing
// to press.
func TestLesson_TextsAreText(t *testing.T) {
	t.Parallel()
	text := "# Big <b>one</b>\n\n<script>document.title='taken'</script> and `<img src=x onerror=alert(1)>`\n\n" +
		"* [out](javascript:alert(1)) **strong** [in](https://example.org/a*b\"onmouseover=x) *soft*\n\n```sh\n<i>echo</i>\n```{{exec}}\n"
	p := newHome(t).pupil("--dir", writeLesson(t, map[string]string{"text.md": text, "verify.sh": "echo '<u>no'; exit 1\n"}))
	b := browsertest.Start(t)
	p.visit(b, p.trainer)
	b.Do(chromedp.Click("form[action='/lesson/check'] button"))
	b.Until(panel + ".innerText.includes('<u>no')")
	for _, shown := range []string{"Big <b>one</b>", "<script>document.title='taken'</script>", "<img src=x onerror=alert(1)>", "<i>echo</i>"} {
		require.Contains(t, browsertest.Value[string](b, panel+".innerText"), shown)
	}
	require.Zero(t, browsertest.Value[int](b, panel+".querySelectorAll('b, script, img, i, u, [onmouseover]').length"))
	require.Equal(t, "https://example.org/a%2Ab%22onmouseover=x", browsertest.Value[string](b, "Array.from("+panel+".querySelectorAll('a')).map(a => a.href).join()"))
	require.Equal(t, "strong,soft", browsertest.Value[string](b, "Array.from("+panel+".querySelectorAll('li strong, li em')).map(a => a.textContent).join()"))
	b.Accessible()
	b.NoErrors()

	p.visit(b, p.class)
	require.Contains(t, browsertest.Value[string](b, panel+".innerText"), "Big <b>one</b>")
	require.Zero(t, browsertest.Value[int](b, "document.forms.length"))
	require.Equal(t, 403, browsertest.Value[int](b, "fetch('/lesson/next', {method: 'POST'}).then(r => r.status)"))
	b.Accessible()
}

// What undo leaves as it is the page tells as the shell does.
func TestLesson_UndoOnThePageTellsWhatIsLeft(t *testing.T) {
	t.Parallel()
	p := newHome(t).pupil("--dir", writeLesson(t, map[string]string{
		"index.json": `{"title": "T", "details": {"intro": {"background": "setup.sh"}, "steps": [
			{"title": "S", "text": "text.md", "verify": "verify.sh"}, {"title": "S", "text": "text.md", "verify": "verify.sh"}]}}`,
		"lesson.json": `{"schema": 1, "cards": ["lab"], "steps": [{"hints": "hints.md", "solution": "solution.sh"}, {"hints": "hints.md", "solution": "solution.sh"}]}`,
		"verify.sh":   "true\n",
	}))
	place := filepath.Join(t.TempDir(), "place")
	p.types(t, `pwd > "`+place+`" && mv "`+place+`" "`+place+`.whole"`)
	var work []byte
	require.Eventually(t, func() bool {
		var err error
		work, err = os.ReadFile(place + ".whole")
		return err == nil
	}, patience, 20*time.Millisecond, "%s", p.out)
	listener, err := net.Listen("unix", filepath.Join(strings.TrimSpace(string(work)), "sock"))
	require.NoError(t, err)
	defer listener.Close()
	b := browsertest.Start(t)
	p.visit(b, p.trainer)
	b.Do(chromedp.Click("form[action='/lesson/next'] button"))
	b.Until(panel + ".innerText.includes('step 2 of 2')")
	b.Do(chromedp.Click("form[action='/lesson/undo'] button"))
	b.Until("document.getElementById('said').textContent.includes('since only programs can make them: sock.')")
	b.NoErrors()
}
