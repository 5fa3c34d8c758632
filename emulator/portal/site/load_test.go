package site_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/service"
	"hsmemu/emulator/portal/site"
	"hsmemu/emulator/ram"
	"hsmemu/pinstate"
)

// unlimited is for tests in which all come from one place.
var unlimited = account.Limits{
	Sessions: account.Rate{N: 1 << 30, Per: time.Minute}, Logins: account.Rate{N: 1 << 30, Per: time.Minute}, CodesOfToken: account.Rate{N: 1 << 30, Per: time.Minute},
	CodesOfAddress: account.Rate{N: 1 << 30, Per: time.Minute}, CodesOfSource: account.Rate{N: 1 << 30, Per: time.Minute},
}

// busy is a portal as hsmemu portal serve serves it, for a crowd.
type busy struct {
	*site.Portal
	url       string
	transport *http.Transport
	cards     *timed
	ended     atomic.Int64 // connections of cards that ended with an error
}

func crowded(t testing.TB) *busy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := &busy{url: "http://" + l.Addr().String()}
	// One client for many cards: each of them with a connection of its own would take two
	// open files in this process.
	b.transport = &http.Transport{MaxIdleConnsPerHost: 512, MaxConnsPerHost: 512}
	b.cards = &timed{RoundTripper: b.transport}
	b.Portal, err = site.Open(t.Context(), t.TempDir(), site.Options{
		Records: records.Options{Now: time.Now}, Reach: site.Reach{URL: b.url}, Account: account.Options{Limits: unlimited}, CardsOfAddress: site.CardsMax,
		Ended: func(_ string, err error) {
			if err != nil {
				b.ended.Add(1)
			}
		},
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- b.Serve(ctx, l) }()
	t.Cleanup(func() {
		b.transport.CloseIdleConnections()
		cancel()
		require.NoError(t, <-served)
		require.NoError(t, b.Close())
	})
	return b
}

// made makes a card that is initialised, and whose user is logged in.
func made(t testing.TB, firmware string, serial int) *chiptest.Card {
	t.Helper()
	env := chiptest.World(fmt.Sprint("crowd ", firmware, " ", serial))
	d, err := chip.Manufacture(env, chip.Order{Firmware: firmware, Serial: fmt.Sprintf("DENK96%05d", serial)})
	require.NoError(t, err)
	c := &chiptest.Card{Name: strconv.Itoa(serial), Env: env, State: chip.Boot(d)}
	k := client.New(c)
	_, err = k.Select(t.Context())
	require.NoError(t, err)
	require.NoError(t, k.Initialise(t.Context(), client.Setup{Options: pinstate.OptionResetEnabled, SOPIN: soPIN, PIN: userPIN, Tries: 3}))
	require.NoError(t, k.VerifyPIN(t.Context(), client.UserPIN, userPIN))
	return c
}

// makeAll makes n cards, the first of them with a serial number.
func makeAll(t testing.TB, firmware string, first, n int) []*chiptest.Card {
	cards := make([]*chiptest.Card, n)
	var all sync.WaitGroup
	for part := range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for i := part; i < n; i += runtime.GOMAXPROCS(0) {
				cards[i] = made(t, firmware, first+i)
			}
		})
	}
	all.Wait()
	return cards
}

// owner registers a card with an account of its own.
func (b *busy) owner(t testing.TB, tx *records.Tx, c *chiptest.Card) (by service.Actor, token int64) {
	t.Helper()
	p, err := b.Accounts.Prove(t.Context(), c.Copy())
	require.NoError(t, err)
	by = service.Actor{Token: p.Path()}
	by.Account, err = tx.Insert("INSERT INTO accounts (email, created) VALUES (?, 0)", "u"+c.Name+"@example.org")
	require.NoError(t, err)
	_, err = tx.Exec("INSERT INTO roles (account, role) VALUES (?, 'Subscriber')", by.Account)
	require.NoError(t, err)
	token, err = tx.Insert("INSERT INTO tokens (path, name, public_key, firmware, account, status, registered) VALUES (?, ?, ?, ?, ?, 'active', 1)",
		p.Path(), string(p.Device.Device.CHR), p.Key(), p.Firmware, by.Account)
	require.NoError(t, err)
	return by, token
}

// login has a card log in to a new session, as a program does.
func (b *busy) login(ctx context.Context, c *chiptest.Card) error {
	var begun struct{ SessionID, RAMURL string }
	if err := b.call(ctx, http.MethodPost, "/api/sessions", "", &begun); err != nil {
		return err
	}
	if err := (&ram.Agent{Card: c, Transport: b.cards}).Run(ctx, begun.RAMURL); err != nil {
		return err
	}
	var now struct{ State, Email string }
	if err := b.call(ctx, http.MethodGet, "/api/sessions/current", begun.SessionID, &now); err != nil {
		return err
	}
	if now.State != "logged-in" || now.Email != "u"+c.Name+"@example.org" {
		return fmt.Errorf("card %s is %s as %q", c.Name, now.State, now.Email)
	}
	return nil
}

// call asks the interface for programs.
func (b *busy) call(ctx context.Context, method, path, session string, out any) error {
	r, err := http.NewRequestWithContext(ctx, method, b.url+path, http.NoBody)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+session)
	answer, err := b.transport.RoundTrip(r)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(answer.Body)
	err = errors.Join(err, answer.Body.Close())
	if err == nil && answer.StatusCode >= 400 {
		err = fmt.Errorf("%s %s: %s %s", method, path, answer.Status, text)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(text, out)
}

// told has a card connect without a session, and wants to hear a text last.
func (b *busy) told(ctx context.Context, c *chiptest.Card, want string) error {
	var last string
	err := (&ram.Agent{Card: c, Transport: b.cards, Notice: func(n ram.Notice) { last = n.Text }}).Run(ctx, b.url+"/rt/paas")
	if err == nil && !strings.HasPrefix(last, want) {
		err = fmt.Errorf("card %s heard %q", c.Name, last)
	}
	return err
}

// spread says the median, the 99th percentile and the longest of times.
func spread(times []time.Duration) string {
	if len(times) == 0 {
		return "none"
	}
	slices.Sort(times)
	at := func(p int) time.Duration {
		return times[min(len(times)-1, len(times)*p/100)].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("median %v, p99 %v, longest %v", at(50), at(99), at(100))
}

// timed takes the times of requests.
type timed struct {
	http.RoundTripper
	mu    sync.Mutex
	times []time.Duration
}

func (r *timed) RoundTrip(q *http.Request) (*http.Response, error) {
	began := time.Now()
	w, err := r.RoundTripper.RoundTrip(q)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.times = append(r.times, time.Since(began))
	return w, err
}

// used is what this process has in its memory.
func used() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// A crowd of cards is connected to one portal, and none is lost: six of ten log in, three
// have nothing to do, and one is updated. A hundred of them come at the same time: how long
// more would wait depends on the machine, and an agent waits for 40 seconds. With
// HSMEMU_TEST_CARDS it is that number, such as 10000, and all at the same time.
func TestPortal_Crowd(t *testing.T) {
	n, together := 500, 100
	if text := os.Getenv("HSMEMU_TEST_CARDS"); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		require.NoError(t, err)
		together = n
	}
	if testing.Short() {
		n = min(n, 50)
	}
	b := crowded(t)
	ctx := t.Context()

	require.True(t, t.Run("silent", func(t *testing.T) { b.silent(ctx, t, min(n, together)) }))

	updated := max(1, n/10)
	known := makeAll(t, "4.1", 0, min(n, 100))
	old := makeAll(t, "4.0", 50000, updated)
	owners := map[*chiptest.Card]service.Actor{}
	tokens := map[*chiptest.Card]int64{}
	require.NoError(t, b.Records.Write(ctx, func(tx *records.Tx) error {
		for _, c := range slices.Concat(known, old) {
			owners[c], tokens[c] = b.owner(t, tx, c)
		}
		_, err := tx.Exec("UPDATE issuers SET licences = ?", n)
		return err
	}))
	for _, c := range old {
		q, err := b.Service.Start(ctx, owners[c], service.FirmwareUpdate, service.Data{Token: tokens[c]})
		require.NoError(t, err)
		_, err = b.Service.Do(ctx, owners[c], q.ID, service.DoSubmit, service.Data{})
		require.NoError(t, err)
	}

	type outcome struct {
		kind string
		took time.Duration
		err  error
	}
	outcomes := make(chan outcome, n)
	came := make(chan struct{}, together)
	began := time.Now()
	for i := range n {
		c, kind := known[i%len(known)].Copy(), "log-in"
		do := b.login
		switch {
		case i < updated:
			c, kind = old[i], "update"
			do = func(ctx context.Context, c *chiptest.Card) error { return b.told(ctx, c, "Firmware update completed") }
		case i%3 == 0:
			kind = "nothing"
			do = func(ctx context.Context, c *chiptest.Card) error { return b.told(ctx, c, service.TextNothing) }
		}
		go func() {
			came <- struct{}{}
			defer func() { <-came }()
			began := time.Now()
			err := do(ctx, c)
			outcomes <- outcome{kind, time.Since(began), err}
		}()
	}
	// How long a change of the records waits for those before it.
	var queue []time.Duration
	asking, asked := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(asked)
		for {
			began := time.Now()
			if err := b.Records.Write(ctx, func(*records.Tx) error { return nil }); err != nil {
				return
			}
			queue = append(queue, time.Since(began))
			select {
			case <-asking:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	took := map[string][]time.Duration{}
	lost := 0
	for range n {
		o := <-outcomes
		took[o.kind] = append(took[o.kind], o.took)
		if o.err != nil {
			if lost++; lost <= 10 {
				t.Errorf("%s: %v", o.kind, o.err)
			}
		}
	}
	all := time.Since(began)
	close(asking)
	<-asked
	files, _ := os.ReadDir("/proc/self/fd")
	t.Logf("%d cards in %v, %.0f a minute, %d lost; %d open files", n, all.Round(time.Millisecond), float64(n)/all.Minutes(), lost, len(files))
	for kind, times := range took {
		t.Logf("%s, %d cards: %s", kind, len(times), spread(times))
	}
	t.Logf("a request of a card: %s", spread(b.cards.times))
	t.Logf("a change of the records: %s", spread(queue))
	require.Zero(t, lost)
	require.Zero(t, b.ended.Load())
	count := func(query string) (n int) {
		require.NoError(t, b.Records.Read(ctx, func(tx *records.Tx) error { return tx.QueryRow(query).Scan(&n) }))
		return n
	}
	require.Equal(t, len(took["log-in"]), count("SELECT COUNT(*) FROM sessions WHERE state = 'logged-in'"))
	require.Equal(t, updated, count("SELECT COUNT(*) FROM requests WHERE state = 'Completed'"))
	require.Equal(t, n-updated, count("SELECT licences FROM issuers"))
	require.Equal(t, 2*updated, count("SELECT COUNT(*) FROM devices"))
	require.Zero(t, count("SELECT COUNT(*) FROM updates"))
	for _, c := range old {
		require.Equal(t, "4.1", c.Durable().Firmware)
	}
}

// silent has cards connect and take a command, and measures what each takes of memory
// while the portal waits for its answer.
func (b *busy) silent(ctx context.Context, t *testing.T, n int) {
	post := func(cookie string, body []byte) (status int, name string, err error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/rt/paas", bytes.NewReader(body))
		if err != nil {
			return 0, "", err
		}
		r.Header.Set("Content-Type", "application/octet-stream")
		r.Header.Set("Cookie", cookie)
		w, err := b.transport.RoundTrip(r)
		if err != nil {
			return 0, "", err
		}
		_, err = io.Copy(io.Discard, w.Body)
		name, _, _ = strings.Cut(w.Header.Get("Set-Cookie"), ";")
		return w.StatusCode, name, errors.Join(err, w.Body.Close())
	}
	atOnce := func(n int, do func(int) error) {
		turns, failed := make(chan int), make(chan error, n)
		var all sync.WaitGroup
		for range 64 {
			all.Go(func() {
				for i := range turns {
					failed <- do(i)
				}
			})
		}
		for i := range n {
			turns <- i
		}
		close(turns)
		all.Wait()
		for range n {
			require.NoError(t, <-failed)
		}
	}
	before := used()
	cookies := make([]string, n)
	began := time.Now()
	atOnce(n, func(i int) error {
		status, name, err := post("", ram.Opening([]byte{0x3B, 0x80}))
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("card %d of %d: status %d", i, n, status)
		}
		cookies[i] = name
		return err
	})
	t.Logf("%d cards connected in %v; each takes %d bytes", n, time.Since(began).Round(time.Millisecond), (max(used(), before)-before)/uint64(n))
	last, err := ram.Result{Closed: true, Text: "done"}.Bytes()
	require.NoError(t, err)
	atOnce(n, func(i int) error {
		status, _, err := post(cookies[i], last)
		if err == nil && status != http.StatusNoContent {
			err = fmt.Errorf("card %d of %d: status %d at its end", i, n, status)
		}
		return err
	})
	require.Eventually(t, func() bool { return b.ended.Load() == int64(n) }, time.Minute, 10*time.Millisecond)
	b.ended.Store(0)
}
