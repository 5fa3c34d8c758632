//go:build linux

package console_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/console"
	"hsmemu/emulator/control"
	"hsmemu/emulator/lesson"
	"hsmemu/emulator/web"
	"hsmemu/vsmartcard/pcscd"
)

// kept stands for the file of a card.
type kept struct{}

func (kept) Generation() uint64 { return 7 }
func (kept) Seal() string       { return "none" }

// hold is longer than any test has a command wait, however busy the machine is.
const hold = 5 * time.Minute

// class is a console with cards in the readers of a private daemon, and a program that
// uses the first.
type class struct {
	private *control.Private
	// trainer and pupil are the addresses as they are printed.
	trainer, pupil string
	base           string
	results        string // where students post
	// kept are snapshots in files, by tag.
	kept    map[string]control.Moment
	program *pcscd.Handle
	end     func()
}

const (
	selects = "00A4040C0BE82B0601040181C31F0201"
	ask     = "00200081"
	wrong   = "0020008106313131313131"
	right   = "0020008106363438323139"
)

// begin starts a console for cards in a situation.
func begin(t testing.TB, names ...string) *class {
	t.Helper()
	dir := t.TempDir()
	l, socket, remove, err := pcscd.ListenIn("", t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { _ = remove() })
	var places []control.Placement
	for _, name := range names {
		card, err := emulator.NewCard(chip.Order{Like: new(chip.Usual())}, emulator.System())
		require.NoError(t, err)
		places = append(places, control.Placement{Name: name, Card: card, Kept: kept{}, Socket: filepath.Join(dir, name)})
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	c := &class{kept: map[string]control.Moment{}}
	c.private, err = control.Start(ctx, l, socket, places)
	require.NoError(t, err)
	page, err := console.New(c.private.Cards, console.Options{
		Rand: rand.Reader, Clock: time.Now, Results: lesson.NewClass(2, time.Now), Hold: hold,
		Kept: func(string) ([]string, error) { return slices.Sorted(maps.Keys(c.kept)), nil },
		Read: func(_, tag string) (control.Moment, error) {
			m, is := c.kept[tag]
			if !is {
				return m, errors.New("there is no snapshot " + tag)
			}
			return m, nil
		},
		Make: func(situation string) (control.Moment, error) {
			return control.MomentLike(emulator.System(), situation)
		},
	})
	require.NoError(t, err)
	listener, err := web.Listen(ctx, "127.0.0.1:0", web.ThisMachine)
	require.NoError(t, err)
	c.trainer, c.pupil, c.base = page.Address(listener), page.ClassAddress(listener), "http://"+listener.Addr().String()
	c.results = page.ReportAddress(listener)
	served, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- page.Serve(served, listener) }()
	ended := false
	c.end = func() {
		if !ended {
			ended = true
			stop()
			require.NoError(t, <-done)
		}
	}
	client, err := pcscd.Dial(ctx, socket)
	require.NoError(t, err)
	c.program, err = client.Connect(ctx, c.private.Names[0], pcscd.Shared, pcscd.T0|pcscd.T1)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = client.Close()
		c.end()
		require.NoError(t, c.private.Close())
		cancel()
	})
	return c
}

// send sends commands as a program does, and returns the last answer in hexadecimal.
func (c *class) send(t testing.TB, commands ...string) string {
	t.Helper()
	var answer []byte
	for _, one := range commands {
		command, err := apdu.ParseHex(one)
		require.NoError(t, err)
		answer, err = c.program.Transmit(t.Context(), command)
		require.NoError(t, err)
	}
	return strings.ToUpper(hexOf(answer))
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, x := range b {
		s.WriteByte(digits[x>>4])
		s.WriteByte(digits[x&15])
	}
	return s.String()
}

// visitor is somebody with a browser of the simplest kind.
type visitor struct {
	*http.Client
	base string
}

// visit opens an address that was printed.
func visit(t testing.TB, address string) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	v := &visitor{&http.Client{Jar: jar}, address[:strings.Index(address, "/?")]}
	status, _ := v.get(t, address[len(v.base):])
	require.Equal(t, http.StatusOK, status)
	return v
}

func (v *visitor) get(t testing.TB, path string) (int, string) {
	t.Helper()
	answer, err := v.Get(v.base + path)
	require.NoError(t, err)
	return read(t, answer)
}

func (v *visitor) post(t testing.TB, path string, form ...string) (int, string) {
	t.Helper()
	values := url.Values{}
	for i := 0; i < len(form); i += 2 {
		values.Set(form[i], form[i+1])
	}
	answer, err := v.PostForm(v.base+path, values)
	require.NoError(t, err)
	return read(t, answer)
}

func read(t testing.TB, answer *http.Response) (int, string) {
	t.Helper()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.NotContains(t, string(body), "The page could not be made")
	return answer.StatusCode, string(body)
}
