//go:build linux

package main

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
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

	run := h.command("run", "--card", "lab", "--console", "--socket", filepath.Join(t.TempDir(), "s"))
	var out said
	run.Stdout, run.Stderr = &out, &out
	require.NoError(t, run.Start())
	defer func() {
		require.NoError(t, run.Process.Signal(os.Interrupt))
		require.NoError(t, run.Wait())
	}()
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "ready") }, patience, 20*time.Millisecond, "%s", &out)
	address, err := url.Parse(addresses.FindStringSubmatch(out.String())[1])
	require.NoError(t, err)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	browser := &http.Client{Jar: jar}
	read := func(answer *http.Response, err error) string {
		t.Helper()
		require.NoError(t, err)
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		return string(text)
	}
	restore := func(tag string) string {
		t.Helper()
		return read(browser.PostForm("http://"+address.Host+"/card/lab/restore", url.Values{"tag": {tag}}))
	}
	read(browser.Get(address.String()))
	page := read(browser.Get("http://" + address.Host + "/card/lab"))
	require.Contains(t, page, "Restore full")
	require.Contains(t, page, "Restore sealed")

	do("apdu", "--card", "lab", "--expect", "9000", "--expect", "63C2", "00A4040C0BE82B0601040181C31F0201", "0020008106313131313131")
	require.Contains(t, do("card", "show", "lab"), "2 of 3 tries left")
	require.Contains(t, restore("full"), "which no real card can do")
	require.Contains(t, do("card", "show", "lab"), "3 of 3 tries left")
	require.Contains(t, restore("sealed"), "hsmemu card restore lab sealed")
	require.Contains(t, restore("../../lab"), "That did not work")
	require.Contains(t, restore(""), "That did not work")
	require.NotContains(t, out.String(), "passphrase of")
}
