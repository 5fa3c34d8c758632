//go:build linux

package site_test

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/emulator/browsertest"
)

// submit presses the button with a text.
func submit(b *browsertest.Browser, text string) {
	b.Do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf("[...document.querySelectorAll('button')].find(b => b.textContent.trim() === %q).click()", text)))
}

// at is the address that the page tells a card to connect to.
func at(b *browsertest.Browser) string {
	return regexp.MustCompile(`http://\S*/rt/paas\S*`).FindString(browsertest.Value[string](b, "document.querySelector('pre').textContent"))
}

// The whole story in a browser, without a mouse where that matters: register, block a
// second card, update it while the page follows, and look at what came of it.
func TestSite_Browser(t *testing.T) {
	t.Parallel()
	p := open(t)
	b := browsertest.Start(t)
	b.Open(p.url)
	b.Accessible()
	submit(b, "Log in with a card")
	b.Accessible()
	owner, address := card(t, "DENK0000001", "4.1"), at(b)
	b.Open(p.url) // it tells no address, and waits as well
	b.Until("document.getElementById('waiting') && !document.querySelector('pre')")
	b.Accessible()
	_, err := p.connect(owner, address)
	require.NoError(t, err)
	b.Until("document.title.startsWith('Register your card')") // the script has seen it
	b.Accessible()
	b.Do(chromedp.SendKeys("#email", "owner@example.org\r"))
	b.Until("document.getElementById('code')")
	b.Accessible()
	code := digits.FindString(p.person().get("/se/outbox").text)
	b.Do(chromedp.SendKeys("#code", code+"\r"))
	b.Until("document.title.startsWith('Mail')")
	b.Accessible()
	submit(b, "Save")
	b.Until("document.title.startsWith('Home')")
	b.Accessible()
	// A menu opens and closes by the keyboard.
	for range 2 {
		const open = "document.querySelector('nav details:nth-of-type(1)').open"
		before := browsertest.Value[bool](b, open)
		b.Do(chromedp.Evaluate[chromedp.Void]("document.querySelector('nav summary').focus()"), chromedp.KeyEvent("\r"))
		b.Until(fmt.Sprintf("%s === %t", open, !before))
		b.Accessible()
	}

	blocked := card(t, "DENK0000002", "4.1")
	k := client.New(blocked)
	for range 15 {
		require.Error(t, k.VerifyPIN(t.Context(), client.SOPIN, []byte("00000000")))
	}
	submit(b, "Update firmware")
	b.Until("document.title.startsWith('Update firmware')")
	b.Accessible()
	submit(b, "Submit")
	b.Until("document.getElementById('live')")
	b.Accessible()
	halfway := make(chan struct{})
	go func() {
		defer close(halfway)
		_, err = p.connect(blocked, at(b))
	}()
	b.Until("document.getElementById('bar')?.value > 0")
	<-halfway
	require.NoError(t, err)
	b.Until("document.getElementById('word').textContent === 'Completed'")
	b.Accessible()

	// A card is identified for a trust center, and added to it.
	b.Open(p.url)
	submit(b, "Create Trust Center Subject")
	b.Until("document.title.startsWith('Create Trust Center Subject')")
	b.Do(chromedp.SendKeys("#name", "Acme"))
	submit(b, "Submit")
	b.Until("document.getElementById('word').textContent === 'Completed'")
	b.Open(p.url + "/se/subjects")
	b.Do(chromedp.Evaluate[chromedp.Void]("[...document.querySelectorAll('a')].find(a => a.textContent === 'Acme').click()"))
	b.Until("document.title.startsWith('Acme')")
	b.Accessible()
	b.Do(chromedp.Evaluate[chromedp.Void]("[...document.querySelectorAll('a')].find(a => a.textContent === 'Tokens of the trust center').click()"))
	b.Until("document.title.startsWith('Tokens of Acme')")
	b.Accessible()
	submit(b, "Identify token")
	b.Until("document.getElementById('waiting')")
	b.Accessible()
	token, _ := custodied(t, "DENK0000010", 1, "DENK0000011", "DENK0000012")
	_, err = p.connect(token, at(b))
	require.NoError(t, err)
	b.Until("[...document.querySelectorAll('button')].some(b => b.textContent === 'Add Token')") // the script has seen it
	b.Accessible()
	submit(b, "Add Token")
	b.Until("document.querySelector('h2 code')?.textContent === '/UTSRCAEM1/UTDICAEM01/DENK0000010'")
	b.Accessible()
	p.hsm(token)
	connected := func() bool {
		b.Do(chromedp.Reload())
		return browsertest.Value[bool](b, "document.body.innerText.includes('0 of 1 needed, 2 registered')")
	}
	require.Eventually(t, connected, patience, 100*time.Millisecond)
	b.Accessible()
	submit(b, "Authenticate")
	b.Until("document.getElementById('waiting')")
	b.Accessible()

	for _, page := range []string{"tokens", "subjects", "issuers", "requests", "outbox", "audit", "notice"} {
		b.Open(p.url + "/se/" + page)
		b.Accessible()
	}
	b.NoErrors()
}
