//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/portal"
	accounts "hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/ram"
	"hsmemu/pinstate"
)

// portalProcess is hsmemu portal serve, at an address of its own.
type portalProcess struct {
	*runner
	url string
}

// servePortal starts it on a data folder, perhaps by another program.
func (h *home) servePortal(data string, by ...string) *portalProcess {
	h.t.Helper()
	p := &portalProcess{runner: &runner{cmd: h.command("portal", "serve", "--data", data, "--listen", "127.0.0.1:0"), said: &said{}}}
	if len(by) > 0 {
		path, err := exec.LookPath(by[0])
		require.NoError(h.t, err)
		program, err := exec.LookPath("hsmemu")
		require.NoError(h.t, err)
		p.cmd.Path, p.cmd.Args = path, append(append(by, program), p.cmd.Args[1:]...)
	}
	p.start(h.t)
	line, err := p.out.ReadString('\n')
	require.NoError(h.t, err, "the portal does not open its folder: %s", p.said)
	p.url = strings.TrimSuffix(strings.TrimSpace(line), "/rt/paas")
	p.ready(h.t)
	go p.drain() // else it waits for its reader
	return p
}

// visitor is a person's browser and program, logged in with a card.
type visitor struct{ session string }

// call asks the interface for programs, and post sends a page's form; both return the
// status, 0 where there was no answer.
func (v *visitor) call(ctx context.Context, method, at string, in, out any) int {
	body, err := json.Marshal(in)
	if err != nil {
		return 0
	}
	return v.ask(ctx, method, at, "application/json", body, out)
}

func (v *visitor) post(ctx context.Context, at string, form url.Values) int {
	return v.ask(ctx, http.MethodPost, at, "application/x-www-form-urlencoded", []byte(form.Encode()), nil)
}

func (v *visitor) ask(ctx context.Context, method, at, kind string, body []byte, out any) int {
	r, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
	if err != nil {
		return 0
	}
	r.Header.Set("Content-Type", kind)
	r.Header.Set("Authorization", "Bearer "+v.session)
	r.AddCookie(&http.Cookie{Name: "hsmemu-session", Value: v.session})
	w, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		return 0
	}
	defer w.Body.Close()
	for _, c := range w.Cookies() {
		if c.Name == "hsmemu-session" {
			v.session = c.Value
		}
	}
	text, err := io.ReadAll(w.Body)
	if page, is := out.(*string); is {
		*page, out = string(text), nil
	}
	if err != nil || out != nil && w.StatusCode < 400 && json.Unmarshal(text, out) != nil {
		return 0
	}
	return w.StatusCode
}

var cardsURL = regexp.MustCompile(`http://[^ <"]*/rt/paas[^ <"]*`)

var activation = regexp.MustCompile(`ACTIVATION CODE (\d{6})`)

// visit registers a card as a program does, and returns its owner, who has logged in to
// the pages afterwards: programs may use that session, too.
func visit(ctx context.Context, t *testing.T, at string) *visitor {
	t.Helper()
	v := &visitor{}
	var begun struct{ SessionID, RAMURL string }
	require.Equal(t, http.StatusCreated, v.call(ctx, http.MethodPost, at+"/api/sessions", struct{}{}, &begun))
	v.session = begun.SessionID
	card, err := chiptest.Manufacture("4.1", "the owner's")
	require.NoError(t, err)
	take(t, card)
	require.NoError(t, client.New(card).VerifyPIN(ctx, client.UserPIN, []byte(userPIN)))
	require.NoError(t, (&ram.Agent{Card: card}).Run(ctx, begun.RAMURL))
	session := at + "/api/sessions/current"
	require.Equal(t, http.StatusOK, v.call(ctx, http.MethodPost, session+"/enroll", map[string]string{"email": "owner@example.org"}, nil))
	var mails []struct{ Body string }
	require.Equal(t, http.StatusOK, v.call(ctx, http.MethodGet, at+"/api/admin/outbox", nil, &mails))
	code := activation.FindStringSubmatch(mails[0].Body)
	require.Equal(t, http.StatusOK, v.call(ctx, http.MethodPost, session+"/activate", map[string]string{"code": code[1]}, nil))

	v.session = ""
	var page string
	require.Equal(t, http.StatusOK, v.ask(ctx, http.MethodPost, at+"/se/begin", "application/x-www-form-urlencoded", nil, &page))
	require.NoError(t, (&ram.Agent{Card: card}).Run(ctx, cardsURL.FindString(page)))
	require.Equal(t, http.StatusSeeOther, v.post(ctx, at+"/se/continue", nil))
	return v
}

// take takes a card into use.
func take(t *testing.T, card *chiptest.Card) {
	t.Helper()
	c := client.New(card)
	_, err := c.Select(t.Context())
	require.NoError(t, err)
	require.NoError(t, c.Initialise(t.Context(), client.Setup{Options: pinstate.OptionResetEnabled, SOPIN: []byte("57621880"), PIN: []byte(userPIN), Tries: 3}))
}

// block blocks the SO-PIN of a card, which it may have to be taken into use for.
func block(t *testing.T, card *chiptest.Card) {
	t.Helper()
	require.NoError(t, card.Reset())
	take(t, card)
	c := client.New(card)
	for range 15 {
		require.Error(t, c.VerifyPIN(t.Context(), client.SOPIN, []byte("00000000")))
	}
}

// asked is a service request as programs see it.
type asked struct {
	ID      int64    `json:"id"`
	State   string   `json:"state"`
	Actions []string `json:"actions"`
}

// wants makes sure that an update of the card in the reader is asked for.
func (v *visitor) wants(ctx context.Context, t *testing.T, at string) {
	t.Helper()
	var open []asked
	require.Equal(t, http.StatusOK, v.call(ctx, http.MethodGet, at+"/api/servicerequests?open=true", nil, &open))
	for _, q := range open {
		if q.State == "Submit" || q.State == "Running" {
			return
		}
	}
	var q asked
	require.Equal(t, http.StatusCreated, v.call(ctx, http.MethodPost, at+"/api/servicerequests", map[string]string{"type": "FirmwareUpdate"}, &q))
	require.Equal(t, http.StatusOK, v.call(ctx, http.MethodPost, fmt.Sprintf("%s/api/servicerequests/%d/submit", at, q.ID), struct{}{}, nil))
}

// The whole portal is killed at random moments, while a card is updated through it, a
// program makes requests and a browser posts its forms. Its folder opens each time, what
// it has confirmed is there, the update is finished, and what it costs is counted once.
// HSMEMU_TEST_KILLS is another number of rounds, such as 200.
func TestPortal_Killed(t *testing.T) {
	t.Parallel()
	rounds := 20
	if text := os.Getenv("HSMEMU_TEST_KILLS"); text != "" {
		var err error
		rounds, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	if testing.Short() {
		rounds = min(rounds, 5)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute+time.Duration(rounds)*15*time.Second)
	defer cancel()
	h := newHome(t)
	data := filepath.Join(h.dir, "portal")
	p := h.servePortal(data)
	owner := visit(ctx, t, p.url)
	p.kill()

	random := rand.New(rand.NewPCG(1, 3))
	done := []int{0} // updates of each chip that came to their end
	newCard := func() *chiptest.Card {
		card, err := chiptest.Manufacture("4.1", fmt.Sprint("blocked ", len(done)))
		require.NoError(t, err)
		block(t, card)
		return card
	}
	card := newCard()
	var mu sync.Mutex
	confirmed := map[int64]bool{}
	preferences, kills := 0, 0
	span := time.Second
	finished := func() {
		if done[len(done)-1]++; done[len(done)-1] == 5 {
			done = append(done, 0)
			card = newCard()
			return
		}
		block(t, card)
	}
	for range rounds {
		p = h.servePortal(data)
		owner.wants(ctx, t, p.url)
		round, end := context.WithCancel(ctx)
		var others sync.WaitGroup
		others.Go(func() {
			for round.Err() == nil {
				var q asked
				if owner.call(round, http.MethodPost, p.url+"/api/servicerequests", map[string]any{"type": "CreateTrustCenter", "data": map[string]string{"name": "n"}}, &q) != http.StatusCreated {
					continue
				}
				mu.Lock()
				confirmed[q.ID] = true
				mu.Unlock()
				owner.call(round, http.MethodPost, fmt.Sprintf("%s/api/servicerequests/%d/cancel-request", p.url, q.ID), struct{}{}, nil)
			}
		})
		others.Go(func() {
			for round.Err() == nil {
				if owner.post(round, p.url+"/se/preferences", url.Values{"security": {"1"}}) == http.StatusSeeOther {
					mu.Lock()
					preferences++
					mu.Unlock()
				}
			}
		})
		killer := time.AfterFunc(time.Duration(random.Int64N(int64(span))), func() { _ = p.cmd.Process.Kill() })
		err := (&ram.Agent{Card: card}).Run(ctx, p.url+"/rt/paas/"+accounts.RAMID(owner.session))
		killer.Stop()
		_ = p.cmd.Process.Kill()
		end()
		others.Wait()
		p.kill()
		// About half of them come to their end, however fast the machine is.
		if err == nil {
			span = span * 4 / 5
			finished()
		} else {
			span = min(span*6/5, 5*time.Second)
			kills++
		}
	}
	// And once without.
	p = h.servePortal(data)
	owner.wants(ctx, t, p.url)
	require.NoError(t, (&ram.Agent{Card: card}).Run(ctx, p.url+"/rt/paas/"+accounts.RAMID(owner.session)))
	finished()
	p.kill()

	store, err := records.Open(data, records.Options{Now: time.Now})
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	all := 0
	for _, n := range done {
		all += n
	}
	t.Logf("killed %d times over %d updates; %d requests and %d forms confirmed", kills, all, len(confirmed), preferences)
	count := func(query string, values ...any) (n int) {
		require.NoError(t, store.Read(ctx, func(tx *records.Tx) error { return tx.QueryRow(query, values...).Scan(&n) }))
		return n
	}
	require.Zero(t, count("SELECT COUNT(*) FROM updates"))
	require.Zero(t, count("SELECT COUNT(*) FROM requests WHERE state = 'Running'"))
	require.Equal(t, 1000-all, count("SELECT SUM(licences) FROM issuers"), "every update has cost one licence")
	require.Equal(t, all, count("SELECT SUM(blocked_updates) FROM chips"), "every update is counted once (S24)")
	require.LessOrEqual(t, count("SELECT MAX(blocked_updates) FROM chips"), 5)
	require.Equal(t, all, count("SELECT COUNT(*) FROM devices WHERE position > 1"))
	require.Equal(t, all, count("SELECT COUNT(*) FROM requests WHERE type = 'FirmwareUpdate' AND state = 'Completed'"))
	require.GreaterOrEqual(t, count("SELECT COUNT(*) FROM audit WHERE action = 'notification preferences'"), preferences)
	for id := range confirmed {
		require.Equal(t, 1, count("SELECT COUNT(*) FROM requests WHERE id = ?", id), "request %d was confirmed", id)
	}
	require.NoError(t, store.Read(ctx, func(tx *records.Tx) error {
		var said string
		require.NoError(t, tx.QueryRow("PRAGMA integrity_check").Scan(&said))
		require.Equal(t, "ok", said)
		return nil
	}))
}

// The disk under the portal is full: people and cards are told that it could not record
// what they wanted, and nothing that was half done holds. When there is room again, the
// same process goes on.
func TestPortal_FullDisk(t *testing.T) {
	t.Parallel()
	within := []string{"unshare", "--mount"}
	if os.Geteuid() != 0 {
		within = append(within, "--user", "--map-root-user")
	}
	within = append(within, "--", "sh", "-c", `mount -t tmpfs -o size=2m,mode=700 tmpfs "$1" && shift && exec "$@"`, "sh")
	h := newHome(t)
	disk := filepath.Join(h.dir, "disk")
	require.NoError(t, os.Mkdir(disk, 0o700))
	if out, err := exec.Command(within[0], append(within[1:], disk, "true")...).CombinedOutput(); err != nil {
		t.Fatalf("this test mounts a file system in a mount namespace of its own; root needs CAP_SYS_ADMIN for it, and anybody else "+
			"user namespaces, which a chroot, many containers and kernel.unprivileged_userns_clone=0 refuse: %v: %s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	data := filepath.Join(disk, "portal")
	p := h.servePortal(data, append(within, disk)...)
	defer p.kill()
	owner := visit(ctx, t, p.url)
	card, err := chiptest.Manufacture("4.1", "on a full disk")
	require.NoError(t, err)
	block(t, card)
	owner.wants(ctx, t, p.url)
	// The mount is in the name space of the process, and can be seen by its root.
	seen := filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "root", disk)
	fill := func() {
		f, err := os.OpenFile(filepath.Join(seen, "filler"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		require.NoError(t, err)
		for size := 64 << 10; size > 0; size /= 2 {
			for err = nil; err == nil; {
				_, err = f.Write(make([]byte, size))
			}
		}
		require.NoError(t, f.Close())
	}
	free := func() { require.NoError(t, os.Remove(filepath.Join(seen, "filler"))) }
	fill()
	var confirmed []int64
	refused := 0
	for n := 0; refused < 3; n++ {
		require.Less(t, n, 3000, "the disk does not become full")
		var q asked
		switch status := owner.call(ctx, http.MethodPost, p.url+"/api/servicerequests", map[string]any{
			"type": "CreateTrustCenter", "data": map[string]string{"name": strings.Repeat("n", 2000)},
		}, &q); status {
		case http.StatusCreated:
			confirmed = append(confirmed, q.ID)
		case http.StatusConflict:
			// As many as an account may have open; the log of another one grows.
			if status := owner.post(ctx, p.url+"/se/preferences", url.Values{}); status == http.StatusInternalServerError {
				refused++
			}
		default:
			require.Equal(t, http.StatusInternalServerError, status)
			refused++
		}
	}
	var said []string
	connect := func() error {
		said = nil
		return (&ram.Agent{Card: card, Notice: func(n ram.Notice) { said = append(said, n.Text) }}).Run(ctx, p.url+"/rt/paas/"+accounts.RAMID(owner.session))
	}
	before := card.Durable().Serial()
	err = connect()
	require.Error(t, err)
	require.False(t, errors.Is(err, ram.CodeNetwork) || errors.Is(err, ram.CodeUnreachable), "the portal goes on: %v", err)
	require.Equal(t, before, card.Durable().Serial(), "nothing that could not be recorded was said to the card")
	require.Contains(t, strings.Join(said, "\n"), "The portal could not record it")
	require.Equal(t, http.StatusOK, owner.call(ctx, http.MethodGet, p.url+"/api/servicerequests", nil, nil), "and what was recorded can be read")

	free()
	require.NoError(t, connect(), "%q", said)
	require.NotEqual(t, before, card.Durable().Serial())
	for _, id := range confirmed {
		require.Equal(t, http.StatusOK, owner.call(ctx, http.MethodGet, fmt.Sprintf("%s/api/servicerequests/%d", p.url, id), nil, nil))
	}
	// Room that comes and goes in the midst of an update.
	for n := range 3 {
		block(t, card)
		owner.wants(ctx, t, p.url)
		filled := make(chan struct{})
		late := time.AfterFunc(time.Duration(n*40)*time.Millisecond, func() {
			defer close(filled)
			fill()
		})
		err := connect()
		if !late.Stop() {
			<-filled // it takes room as long as it has the file open
		}
		if _, there := os.Stat(filepath.Join(seen, "filler")); there == nil {
			free()
		}
		if err != nil {
			require.NoError(t, connect(), "%q", said)
		}
	}
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP)) // nothing is written meanwhile
	copied := filepath.Join(h.dir, "copy")
	require.NoError(t, os.CopyFS(copied, os.DirFS(filepath.Join(seen, "portal"))))
	store, err := records.Open(copied, records.Options{Now: time.Now})
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	books, err := store.Ledger().Load(chipOf(ctx, t, card))
	require.NoError(t, err)
	require.Nil(t, books.Chip.Running)
	require.Equal(t, 4, books.Chip.Blocked)
}

// chipOf is the serial number of a card's chip.
func chipOf(ctx context.Context, t *testing.T, card *chiptest.Card) portal.ChipID {
	t.Helper()
	seen, err := portal.Inspect(ctx, card.Copy(), chiptest.Seeded("x"))
	require.NoError(t, err)
	return seen.Chip
}
