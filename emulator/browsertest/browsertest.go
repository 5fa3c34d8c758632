// Package browsertest is a real browser for tests of pages: Debian's Chromium
// without a screen, which also looks for what keeps people with disabilities out
// of a page.
//
//	b := browsertest.Start(t)
//	b.Open(url)
//	b.Do(chromedp.Click("#eject"), chromedp.WaitVisible("#insert"))
//	b.Accessible() // in light and in dark
//	b.Picture("console.png") // into docs/, with -update
//
// It is used by tests alone.
package browsertest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// patience is how long a test's browser may take altogether.
const patience = 8 * time.Minute

// Browser is a page of a browser of its own, for one test. Whatever goes wrong ends the test.
type Browser struct {
	t   testing.TB
	ctx context.Context //nolint:containedctx // chromedp keeps its browser in there

	mu     sync.Mutex
	errors []string
}

// Start starts a browser, which ends with the test.
func Start(t testing.TB) *Browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("no browser (package chromium): %v", err)
	}
	folder, err := os.MkdirTemp("", "browser") //nolint:usetesting // which fails where the last processes of the browser still write
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(folder) })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox, // root has no sandbox
		chromedp.DisableGPU, chromedp.WindowSize(1280, 900), chromedp.WSURLReadTimeout(2*time.Minute), // so long may it take to start
		// It leaves folders behind, and reports of crashes even where it has a profile elsewhere.
		chromedp.Env("TMPDIR="+folder, "HOME="+folder, "XDG_CONFIG_HOME="+folder, "XDG_CACHE_HOME="+folder, "XDG_DATA_HOME="+folder))
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &Browser{t: t, ctx: ctx}
	b.Do()
	messages, done := chromedp.Console(ctx), make(chan struct{})
	go func() {
		defer close(done)
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.IsException() || m.Type == "error" {
				b.mu.Lock()
				b.errors = append(b.errors, m.String())
				b.mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits until it has ended
		<-done
	})
	return b
}

// remove removes what the browser has left, whose last processes may still be at work there.
func remove(folder string) {
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for range 1200 { // a minute
		if os.RemoveAll(folder) == nil {
			return
		}
		<-again.C
	}
}

// Do does something in the page.
func (b *Browser) Do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatalf("in the browser: %v\n%s", err, b.state())
	}
}

// Context is what functions of chromedp want to have in this browser.
func (b *Browser) Context() context.Context { return b.ctx }

// state is what the page shows, for a failure.
func (b *Browser) state() string {
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("location.href + '\\n' + document.body.innerText"))
	if err != nil {
		return "(the page does not answer: " + err.Error() + ")"
	}
	return text[:min(len(text), 4000)]
}

// Open goes to an address, and returns when the page has been loaded.
func (b *Browser) Open(url string) {
	b.t.Helper()
	b.Do(chromedp.Navigate(url))
}

// Value is what an expression of JavaScript gives, a promise's result for a promise.
func Value[T any](b *Browser, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("in the browser: %s: %v", expression, err)
	}
	return v
}

// Until waits until an expression of JavaScript is true, at most a minute.
func (b *Browser) Until(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		// A page that is on its way to another has no answer.
		if so, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expression+")")); err == nil && so {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			b.t.Fatalf("in the browser: not so: %s\n%s", expression, b.state())
		}
	}
}

// NoErrors fails the test if a page wrote an error to the browser's console: an
// exception, say, or something that its policy forbids.
func (b *Browser) NoErrors() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.errors {
		b.t.Errorf("on the browser's console: %s", e)
	}
}

// Theme has the page ask for light or dark: "light" or "dark".
func (b *Browser) Theme(theme string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: theme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
	if err != nil {
		b.t.Fatalf("in the browser: choose %s: %v", theme, err)
	}
}

// violation is what axe says of a page.
type violation struct {
	ID, Impact, Help string
	Nodes            []struct {
		HTML           string `json:"html"`
		FailureSummary string `json:"failureSummary"`
	}
}

// Accessible fails the test if axe finds anything in the page, in light or in dark.
func (b *Browser) Accessible() {
	b.t.Helper()
	axe, err := os.ReadFile(filepath.Join(root(b.t), "build", "axe-core-4.14.1", "axe.min.js"))
	if err != nil {
		b.t.Fatalf("axe-core is not there (run .ci/axe): %v", err)
	}
	for _, theme := range []string{"light", "dark"} {
		b.Theme(theme)
		b.Do(chromedp.Evaluate[chromedp.Void](string(axe) + ";undefined"))
		for _, v := range b.violations() {
			b.t.Errorf("%s: %s (%s): %s", theme, v.ID, v.Impact, v.Help)
			for _, n := range v.Nodes {
				b.t.Errorf("\t%s\n\t%s", n.HTML, n.FailureSummary)
			}
		}
	}
	b.Theme("light")
}

func (b *Browser) violations() []violation {
	b.t.Helper()
	text := Value[string](b, "axe.run(document, {resultTypes: ['violations']}).then(r => JSON.stringify(r.violations))")
	var list []violation
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		b.t.Fatal(err)
	}
	return list
}

var update = flag.Bool("pictures", false, "write the pictures of pages into docs/")

// Picture looks at what the window shows of the page, which has to be more than one
// colour. With -pictures the picture is kept in docs/, under its name. It is not
// compared: another release of the browser draws other bytes.
func (b *Browser) Picture(name string) {
	b.t.Helper()
	data, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatalf("take a picture: %v", err)
	}
	if err := shows(data); err != nil {
		b.t.Fatalf("picture %s: %v", name, err)
	}
	if !*update {
		return
	}
	if data, err = small(data); err != nil {
		b.t.Fatalf("picture %s: %v", name, err)
	}
	if err := os.WriteFile(filepath.Join(root(b.t), "docs", name), data, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// small is a picture with its 256 most frequent colours alone, and the nearest of them
// for the others.
func small(data []byte) ([]byte, error) {
	p, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	r, often := p.Bounds(), map[color.RGBA]int{}
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(p.At(x, y)).(color.RGBA) }
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			often[at(x, y)]++
		}
	}
	all := slices.Collect(maps.Keys(often))
	slices.SortFunc(all, func(a, b color.RGBA) int {
		return cmp.Or(cmp.Compare(often[b], often[a]), cmp.Compare(a.R, b.R), cmp.Compare(a.G, b.G), cmp.Compare(a.B, b.B))
	})
	var few color.Palette
	for _, c := range all[:min(len(all), 256)] {
		few = append(few, c)
	}
	nearest := map[color.RGBA]uint8{}
	for _, c := range all {
		nearest[c] = uint8(few.Index(c))
	}
	to := image.NewPaletted(r, few)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			to.SetColorIndex(x, y, nearest[at(x, y)])
		}
	}
	var b bytes.Buffer
	err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, to)
	return b.Bytes(), err
}

// shows returns nil for a picture of more than one colour.
func shows(data []byte) error {
	p, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return err
	}
	r := p.Bounds()
	for y := r.Min.Y; y < r.Max.Y; y += 3 {
		for x := r.Min.X; x < r.Max.X; x += 3 {
			if p.At(x, y) != p.At(r.Min.X, r.Min.Y) {
				return nil
			}
		}
	}
	return fmt.Errorf("nothing but one colour on %v", r)
}

// root is the folder of the module.
func root(t testing.TB) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
