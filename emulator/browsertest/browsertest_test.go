//go:build linux

package browsertest_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"hsmemu/emulator/browsertest"
)

func page(t *testing.T, html string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(html))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestBrowser_SeesAndClicks(t *testing.T) {
	b := browsertest.Start(t)
	b.Open(page(t, `<!doctype html><html lang="en"><title>A page</title><main><h1>A page</h1>
<button id="b">Press</button><p id="p">waiting</p></main>
<script>b.onclick = () => setTimeout(() => p.textContent = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light', 50)</script>`))
	b.Theme("dark")
	b.Do(chromedp.Click("#b"))
	b.Until("p.textContent === 'dark'")
	require.Equal(t, "A page", browsertest.Value[string](b, "document.title"))
	b.Accessible()
	b.Picture("unused.png")
}

// The browser of a test writes nothing beside what its user has.
func TestBrowser_LeavesTheHomeOfItsUserAlone(t *testing.T) {
	home := t.TempDir()
	for name, folder := range map[string]string{"HOME": "", "XDG_CONFIG_HOME": "config", "XDG_CACHE_HOME": "cache", "XDG_DATA_HOME": "data"} {
		t.Setenv(name, filepath.Join(home, folder))
	}
	t.Run("browser", func(t *testing.T) {
		browsertest.Start(t).Open(page(t, `<!doctype html><html lang="en"><title>A page</title>`))
	})
	left, err := os.ReadDir(home)
	require.NoError(t, err)
	require.Empty(t, left)
}

// failing is a test that fails without ending the one that looks at it.
type failing struct {
	*testing.T
	failed int
}

func (f *failing) Errorf(string, ...any) { f.failed++ }

func TestBrowser_FindsWhatKeepsPeopleOut(t *testing.T) {
	f := &failing{T: t}
	b := browsertest.Start(f)
	b.Open(page(t, `<!doctype html><html lang="en"><title>A page</title><main><h1>A page</h1><input>
<p style="color: #eee; background: #fff">hardly seen</p></main>`))
	b.Accessible()
	require.GreaterOrEqual(t, f.failed, 4, "an input without a name and too little contrast, twice")
	f.failed = 0
	b.Do(chromedp.Evaluate[chromedp.Void]("setTimeout(() => nothing.there(), 0); undefined"))
	require.Eventually(t, func() bool { // the browser tells it some time later
		b.NoErrors()
		return f.failed > 0
	}, time.Minute, 10*time.Millisecond, "an exception")
}
