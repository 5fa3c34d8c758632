//go:build linux

package console_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/applet/pkcs15"
	"hsmemu/emulator/browsertest"
	"hsmemu/keystore/curve"
)

// What a trainer does, in a real browser, live.
func TestConsole_InABrowser(t *testing.T) {
	c := begin(t, "lab", "second")
	b := browsertest.Start(t)
	b.Open(c.trainer)
	b.Until("location.search === '' && document.querySelectorAll('[data-card]').length === 2")
	require.NotContains(t, browsertest.Value[string](b, "document.cookie"), "hsmemu", "the script cannot read the cookie")
	b.Until("document.documentElement.dataset.live")
	b.Accessible()

	b.Open(c.base + "/card/lab")
	b.Until("document.documentElement.dataset.live")
	require.Equal(t, "operational", browsertest.Value[string](b, "document.querySelector('.cycle .node.lit text').textContent"))

	require.Equal(t, "wrong ones: a try each, INITIALIZE: costs all keys",
		browsertest.Value[string](b, "Array.from(document.querySelectorAll('.cycle .move.lit')).map(g => g.querySelector('.by').textContent + ': ' + g.querySelector('.costs').textContent).join(', ')"))

	// A try is seen without loading the page again.
	c.send(t, selects, ask, wrong)
	b.Until("document.querySelector('[data-panel=counters] .number').textContent === '2 of 3'")
	b.Until("document.querySelector('#log li').textContent.includes('wrong, 2 tries left')")
	b.Until("document.querySelector('[data-panel=why]').textContent.includes('Wrong user PIN')")

	// Its bytes, by keyboard: words and bytes light up together, and lead to each other.
	b.Do(chromedp.Click("#log li .event summary"))
	b.Until("document.querySelector('#log li .part')")
	b.Do(chromedp.Focus("#log li .part:nth-child(2)"))
	require.Equal(t, "INS: VERIFY", browsertest.Value[string](b, "document.querySelector('#log li.pointed, #log .meanings .pointed').textContent.replace(/ [A-Z]+-\\d+$/, '')"))
	require.Contains(t, browsertest.Value[string](b, "document.querySelector('#log .meanings a[href^=\"/rules\"]').getAttribute('href')"), "/rules/")
	b.Accessible()
	b.Do(chromedp.ScrollIntoView("#h-cycle"))
	b.Picture("console-cycle.png")
	b.Do(chromedp.ScrollIntoView("#h-log"))
	b.Picture("console-bytes.png")
	b.Do(chromedp.Evaluate[chromedp.Void]("scrollTo(0, 0)"))

	// Held, asked about, let go.
	require.Equal(t, "none", browsertest.Value[string](b, "getComputedStyle(document.querySelector('.let-go')).display"))
	b.Do(chromedp.Click("form[action$=hold] input[value=pin] + button"))
	b.Until("document.querySelector('[data-panel=held]').textContent.includes('commands with a PIN')")
	answered := make(chan string, 1)
	go func() { answered <- c.send(t, wrong) }()
	b.Until("document.querySelector('[data-panel=waits]').textContent.includes('What will the counter of the user PIN show?')")
	require.Equal(t, "2 of 3", browsertest.Value[string](b, "document.querySelector('[data-panel=counters] .number').textContent"))
	b.Accessible()
	b.Do(chromedp.Evaluate[chromedp.Void]("scrollTo(0, 0)"))
	seen := "(q => { const r = document.querySelector(q).getBoundingClientRect(); return r.height > 0 && r.top >= 0 && r.bottom <= innerHeight })"
	for _, one := range []string{"[data-panel=waits]", "#release", "[data-panel=counters] .number"} {
		require.True(t, browsertest.Value[bool](b, seen+"('"+one+"')"), "%s is where people look while a command waits", one)
	}
	b.Picture("console.png")
	b.Do(chromedp.Click("#release"))
	require.Equal(t, "63C1", <-answered)
	b.Until("document.querySelector('[data-panel=counters] .number').textContent === '1 of 3'")
	b.Until("document.querySelector('[data-panel=waits]').textContent === ''")

	// Out and in, and back to the beginning; the focus stays where it was.
	b.Do(chromedp.Click("form[action$=eject] button"))
	b.Until("document.querySelector('[data-panel=summary]').textContent.includes('out of its reader')")
	b.Do(chromedp.Click("form[action$=insert] button"))
	b.Until("!document.querySelector('[data-panel=summary]').textContent.includes('out of its reader')")
	b.Do(chromedp.Click(".moments li:last-child button"))
	b.Until("document.querySelector('[data-panel=counters] .number').textContent === '3 of 3'")
	b.Until("document.getElementById('said').textContent.includes('which no real card can do')")

	b.Do(chromedp.Click("#type"))
	b.Until("document.documentElement.dataset.type === 'large'")
	b.Accessible()
	b.Open(c.base + "/rules/pins#PIN-" + "39")
	b.Accessible()
	b.NoErrors()
}

// What students see: the same, live and large, with nothing to press.
func TestConsole_ClassInABrowser(t *testing.T) {
	c := begin(t, "lab")
	b := browsertest.Start(t)
	b.Open(c.pupil)
	b.Until("location.search === ''")
	b.Open(c.base + "/card/lab")
	b.Until("document.documentElement.dataset.live")
	require.Zero(t, browsertest.Value[int](b, "document.forms.length"))
	c.send(t, selects, wrong, wrong, wrong)
	b.Until("document.querySelector('[data-panel=counters] .number').textContent === '0 of 3'")
	b.Until("document.querySelector('.cycle .node.lit text').textContent === 'user PIN blocked'")
	b.Accessible()
	b.Picture("console-class.png")
	status := browsertest.Value[int](b, "fetch('/card/lab/reset', {method: 'POST'}).then(r => r.status)")
	require.Equal(t, 403, status)
}

// A label with markup in it is text, on the page and in what comes live.
func TestConsole_LabelsAreText(t *testing.T) {
	c := begin(t, "lab")
	b := browsertest.Start(t)
	b.Open(c.trainer)
	b.Until("location.search === ''")
	b.Open(c.base + "/card/lab")
	b.Until("document.documentElement.dataset.live")
	label := `<img src=x onerror="document.title='taken'"><script>document.title='taken'</script>`
	c.send(t, selects, right)
	writeLabel(t, c, label)
	b.Until("document.querySelector('[data-panel=keys]').textContent.includes('onerror')")
	b.Open(c.base + "/card/lab")
	b.Until("document.querySelector('[data-panel=keys]').textContent.includes('onerror')")
	require.Zero(t, browsertest.Value[int](b, "document.querySelectorAll('img, [data-panel=keys] script').length"))
	require.False(t, strings.Contains(browsertest.Value[string](b, "document.title"), "taken"))
	b.NoErrors()
}

// writeLabel makes a key with a label.
func writeLabel(t *testing.T, c *class, label string) {
	t.Helper()
	host := client.New(c.program)
	on, known := curve.ByName("secp256r1")
	require.True(t, known)
	_, err := host.GenerateEC(t.Context(), 1, on, client.KeySpec{Holder: "LABEL00001"})
	require.NoError(t, err)
	description := pkcs15.Key{Kind: pkcs15.EC, Label: label, ID: []byte{1}, Usage: pkcs15.UsageEC, Bits: 256}
	require.NoError(t, host.WriteFile(t.Context(), pkcs15.File(pkcs15.PrefixKeyDescription, 1), description.Bytes()))
}

// On a telephone nothing is cut off and no word is taken apart by large type; the drawing is
// as large as can be read, and scrolls. On a wide window counters have the room that is there.
func TestConsole_OnATelephone(t *testing.T) {
	c := begin(t, "lab")
	b := browsertest.Start(t)
	b.Do(chromedp.EmulateViewport(390, 900))
	for _, address := range []string{c.trainer, c.pupil} {
		b.Open(address)
		b.Until("location.search === ''")
		b.Open(c.base + "/card/lab")
		b.Until("document.documentElement.dataset.live")
		require.NoError(t, c.private.Cards[0].Eject(t.Context())) // its row has the path of a socket
		require.NoError(t, c.private.Cards[0].Insert(t.Context()))
		b.Until("document.querySelector('#log').textContent.includes('card put in')")
		require.Empty(t, browsertest.Value[string](b, `Array.from(document.querySelectorAll('main *')).filter(e => {
			const r = e.getBoundingClientRect(), p = e.closest('.panel'), x = e.closest('.scroll-x')
			return r.width > 0 && !(x && x !== e) && r.right > (p ? p.getBoundingClientRect().right - 8 : innerWidth) && e !== p
		}).map(e => e.outerHTML.slice(0, 80)).join('\n')`))
		require.LessOrEqual(t, browsertest.Value[float64](b, "parseFloat(getComputedStyle(document.documentElement).fontSize)"), 20.0)
		require.GreaterOrEqual(t, browsertest.Value[float64](b, "document.querySelector('.cycle').getBoundingClientRect().width"), 500.0)
		b.Accessible()
	}
	b.Do(chromedp.EmulateViewport(1280, 900))
	require.Equal(t, 28.0, browsertest.Value[float64](b, "Math.round(parseFloat(getComputedStyle(document.documentElement).fontSize))"))
	b.Open(c.trainer)
	b.Until("location.search === ''")
	b.Open(c.base + "/card/lab")
	require.Greater(t, browsertest.Value[float64](b, "document.querySelector('[data-panel=counters]').getBoundingClientRect().width"), 700.0)
	b.NoErrors()
}

// What somebody has opened, and what the keyboard is on, stays so while the page goes on: reads that
// come later go into the line of those before them, and panels are drawn again.
func TestConsole_StaysAsItWasOpened(t *testing.T) {
	c := begin(t, "lab")
	b := browsertest.Start(t)
	b.Open(c.trainer)
	b.Until("location.search === ''")
	b.Open(c.base + "/card/lab")
	b.Until("document.documentElement.dataset.live")
	const read = "00B12F0204540200000400"
	c.send(t, selects, read)
	b.Until("document.querySelector('#log li summary').textContent === '2 reads'")
	b.Do(chromedp.Click("#log li > details > summary"))
	b.Do(chromedp.Click("#log .event summary"))
	b.Until("document.querySelector('#log .event .part')")
	b.Do(chromedp.Focus("#log .event .part:nth-child(2)"))
	c.send(t, read)
	b.Until("document.querySelector('#log li summary').textContent === '3 reads'")
	require.True(t, browsertest.Value[bool](b, "document.querySelector('#log li > details').open && document.querySelector('#log .event').open && document.querySelector('#log .event .part') !== null"))
	require.True(t, browsertest.Value[bool](b, "document.activeElement.matches('#log .event .part:nth-child(2)')"))

	// Two moments that are called the same, perhaps within a second, are two.
	for range 2 {
		status, _ := visit(t, c.trainer).post(t, "/card/lab/snapshot", "name", "the same")
		require.Equal(t, 200, status)
	}
	b.Until("document.querySelectorAll('.moments button').length === 3")
	b.Do(chromedp.Focus("#back-2"))
	c.send(t, wrong)
	b.Until("document.querySelectorAll('.moments button').length === 4")
	require.Equal(t, "back-2", browsertest.Value[string](b, "document.activeElement.id"))

	// A command is let go where commands are held, too, which is far from the top of the page.
	b.Do(chromedp.Click("form[action$=hold] input[value=pin] + button"))
	b.Until("document.querySelector('[data-panel=held]').textContent.includes('commands with a PIN')")
	answered := make(chan string, 1)
	go func() { answered <- c.send(t, wrong) }()
	b.Until("document.querySelector('#release-here')")
	b.Until("document.querySelector('[data-panel=summary]').textContent.includes('a command waits')")
	b.Accessible()
	b.Do(chromedp.Click("#release-here"))
	require.Equal(t, "63C1", <-answered)
	b.Until("!document.querySelector('#release-here')")

	// An event that is not kept any more is said in a sentence, not in a page.
	b.Until("document.querySelector('#log li').textContent.includes('1 try left')")
	b.Do(chromedp.Evaluate[chromedp.Void]("document.querySelector('#log li .event').dataset.event = '/card/lab/event/0'"))
	b.Do(chromedp.Click("#log li .event summary"))
	b.Until("document.querySelector('#log li .event > div').textContent === 'this event is not kept any more'")
	require.Zero(t, browsertest.Value[int](b, "document.querySelectorAll('#log h1').length"))
}

// What is lit in the life cycle is in sight on a telephone, and no word of the keys is cut.
func TestConsole_LitOnATelephone(t *testing.T) {
	c := begin(t, "lab")
	b := browsertest.Start(t)
	b.Do(chromedp.EmulateViewport(390, 900))
	b.Open(c.pupil)
	b.Until("location.search === ''")
	b.Open(c.base + "/card/lab")
	b.Until("document.documentElement.dataset.live")
	c.send(t, selects, right)
	writeLabel(t, c, "a key")
	c.send(t, wrong, wrong, wrong)
	const sight = `(() => {
		const p = document.querySelector('[data-panel=cycle]').getBoundingClientRect(), r = (q) => document.querySelector(q).getBoundingClientRect()
		return ['.cycle .node.lit', '[data-panel=cycle] > p', '[data-panel=cycle] > table'].every((q) => r(q).left >= p.left - 1 && r(q).right <= p.right + 1)
	})()`
	b.Until("document.querySelector('.cycle .node.lit text').textContent === 'user PIN blocked'")
	b.Until(sight)
	b.Open(c.base + "/card/lab")
	b.Until(sight)
	require.Less(t, browsertest.Value[float64](b, "document.querySelector('[data-panel=keys] tr:last-child').getBoundingClientRect().height"), 60.0, "each in a line")
	b.Accessible()
	b.NoErrors()
}
