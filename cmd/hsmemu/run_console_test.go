//go:build linux

package main

import (
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The page restores a snapshot of the state folder, and asks nobody for the passphrase
// of one that is sealed otherwise.
func TestRun_RestoresSnapshotsFromThePage(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	phrase := filepath.Join(t.TempDir(), "phrase")
	require.NoError(t, os.WriteFile(phrase, []byte("a passphrase of then\n"), 0o600))
	do := func(args ...string) string {
		t.Helper()
		out, err := h.command(args...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	do("card", "new", "lab", "--like", "user=3", "--seal", "passphrase", "--passphrase-file", phrase)
	do("card", "snapshot", "lab", "sealed", "--passphrase-file", phrase)
	do("card", "reseal", "lab", "--seal", "none", "--passphrase-file", phrase)
	do("card", "snapshot", "lab", "full")

	s := h.runConsole(t, "lab")
	defer s.end(t)
	restore := func(tag string) string {
		t.Helper()
		return s.post(t, "/card/lab/restore", "tag", tag)
	}
	page := s.get(t, "/card/lab")
	require.Contains(t, page, "Restore full")
	require.Contains(t, page, "Restore sealed")

	do("apdu", "--card", "lab", "--expect", "9000", "--expect", "63C2", "00A4040C0BE82B0601040181C31F0201", "0020008106313131313131")
	require.Contains(t, do("card", "show", "lab"), "2 of 3 tries left")
	require.Contains(t, restore("full"), "which no real card can do")
	require.Contains(t, do("card", "show", "lab"), "3 of 3 tries left")
	require.Contains(t, restore("sealed"), "hsmemu card restore lab sealed")
	require.Contains(t, restore("../../lab"), "That did not work")
	require.Contains(t, restore(""), "That did not work")
	require.NotContains(t, s.out.String(), "passphrase of")
}

// shownRun is `run` with a page for its card, and a browser of the simplest kind that the
// trainer has.
type shownRun struct {
	*exec.Cmd
	out     *said
	socket  string
	base    string
	browser *http.Client
}

func (h *home) runConsole(t *testing.T, card string) *shownRun {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	s := &shownRun{out: &said{}, socket: filepath.Join(t.TempDir(), "s"), browser: &http.Client{Jar: jar}}
	s.Cmd = h.command("run", "--card", card, "--console", "--socket", s.socket)
	s.Stdout, s.Stderr = s.out, s.out
	require.NoError(t, s.Start())
	require.Eventually(t, func() bool { return strings.Contains(s.out.String(), "ready") }, patience, 20*time.Millisecond, "%s", s.out)
	address := addresses.FindStringSubmatch(s.out.String())[1]
	s.base = address[:strings.Index(address, "/?")]
	s.get(t, address[len(s.base):])
	return s
}

// end ends it as a service manager does.
func (s *shownRun) end(t *testing.T) {
	t.Helper()
	require.NoError(t, s.Process.Signal(syscall.SIGTERM))
	require.NoError(t, s.Wait())
}

func (s *shownRun) get(t *testing.T, path string) string {
	t.Helper()
	return page(t)(s.browser.Get(s.base + path))
}

func (s *shownRun) post(t *testing.T, path, name, value string) string {
	t.Helper()
	return page(t)(s.browser.PostForm(s.base+path, url.Values{name: {value}}))
}

func page(t *testing.T) func(*http.Response, error) string {
	return func(answer *http.Response, err error) string {
		t.Helper()
		require.NoError(t, err)
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		return string(text)
	}
}

// A command that the page holds back goes when `run` is ended, and its program has the
// card's answer: one try is spent, and nobody asks himself whether one was.
func TestRun_LetsHeldCommandsGo(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.run("card", "new", "lab", "--like", "user=3")
	s := h.runConsole(t, "lab")
	require.Contains(t, s.post(t, "/card/lab/hold", "what", "pin"), "Commands wait")
	tool := exec.Command("pkcs11-tool", "--login", "--pin", "111111", "--list-objects")
	tool.Env = append(os.Environ(), "PCSCLITE_CSOCK_NAME="+s.socket)
	tool.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out said
	tool.Stdout, tool.Stderr = &out, &out
	require.NoError(t, tool.Start())
	require.Eventually(t, func() bool {
		return strings.Contains(s.get(t, "/card/lab"), "What will the counter of the user PIN show?")
	}, patience, 20*time.Millisecond)
	s.end(t)
	require.Error(t, tool.Wait())
	require.Contains(t, out.String(), "CKR_PIN_INCORRECT")
	shown, err := h.command("card", "show", "lab").CombinedOutput()
	require.NoError(t, err, "%s", shown)
	require.Contains(t, string(shown), "2 of 3 tries left")
}

// What listens at every address prints one that can be opened, and that others need another.
func TestBrowsers_EveryAddress(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.run("card", "new", "lab")
	every := "[::]:0"
	if l, err := net.Listen("tcp6", every); err != nil { // not every system has IPv6
		every = "0.0.0.0:0"
	} else {
		require.NoError(t, l.Close())
	}
	for _, args := range [][]string{
		{"run", "--card", "lab", "--console=:0", "--console-open"},
		{"lesson", "class", "--listen", "0.0.0.0:0", "--open"},
		{"portal", "serve", "--listen", every},
	} {
		cmd := h.command(args...)
		var out, told said
		cmd.Stdout, cmd.Stderr = &out, &told
		require.NoError(t, cmd.Start())
		require.Eventually(t, func() bool { return strings.Contains(out.String(), "ready\n") }, patience, interval, "%s: %s", args, &told)
		answer, err := http.Get(regexp.MustCompile(`http://127\.0\.0\.1:\d+/\S*`).FindString(out.String()))
		require.NoError(t, err, "%s: %s", args, &out)
		require.NoError(t, answer.Body.Close())
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, cmd.Wait())
		require.Regexp(t, `^hsmemu: 127\.0\.0\.1 is this machine itself; from other machines .*\n$`, told.String(), "%s", args)
	}
}

// Whoever starts a page is told, once, that its browsers are turned away, and why.
func TestBrowsers_TurnedAwayIsSaid(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"run", "--card", "lab", "--console"}, {"lesson", "class"}, {"portal", "serve", "--listen", "localhost:0"},
	} {
		h := newHome(t)
		h.run("card", "new", "lab")
		cmd := h.command(args...)
		path, err := exec.LookPath("prlimit")
		require.NoError(t, err)
		cmd.Path, cmd.Args = path, append([]string{"prlimit", "--nofile=200:200"}, cmd.Args...)
		var out, told said
		cmd.Stdout, cmd.Stderr = &out, &told
		require.NoError(t, cmd.Start())
		require.Eventually(t, func() bool { return strings.Contains(out.String(), "ready\n") }, patience, interval, "%s: %s", args, &told)
		host := regexp.MustCompile(`http://([^/\s]+)`).FindStringSubmatch(out.String())[1]
		var all []net.Conn
		for range 200 {
			conn, err := net.Dial("tcp", host)
			require.NoError(t, err)
			all = append(all, conn)
			_, _ = conn.Write([]byte("GET / HTTP/1.1\r\n")) // it may be turned away
		}
		require.Eventually(t, func() bool { return told.String() != "" }, patience, interval, "%s", args)
		for _, conn := range all {
			_ = conn.Close()
		}
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, cmd.Wait())
		require.Equal(t, "hsmemu: browsers are turned away: the limit of open files leaves no more for them\n", told.String(), "%s", args)
	}
}
