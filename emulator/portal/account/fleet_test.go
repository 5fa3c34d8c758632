package account_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/ram"
)

// unlimited is for tests in which many come from one place.
var unlimited = account.Limits{
	Sessions: account.Rate{N: 1 << 30, Per: time.Minute}, Logins: account.Rate{N: 1 << 30, Per: time.Minute}, CodesOfToken: account.Rate{N: 1 << 30, Per: time.Minute},
	CodesOfAddress: account.Rate{N: 1 << 30, Per: time.Minute}, CodesOfSource: account.Rate{N: 1 << 30, Per: time.Minute},
}

// fleet makes cards that are logged in, each registered for an account of its own,
// without the ceremony of the first log-in.
func fleet(t testing.TB, s *site, n int) []*chiptest.Card {
	t.Helper()
	cards := make([]*chiptest.Card, n)
	var wg sync.WaitGroup
	for part := range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := part; i < n; i += runtime.GOMAXPROCS(0) {
				cards[i] = manufacture(t, "4.1", i)
			}
		})
	}
	wg.Wait()
	for group := range slices.Chunk(cards, 500) {
		require.NoError(t, s.store.Write(t.Context(), func(tx *records.Tx) error {
			for _, c := range group {
				p, err := s.Prove(t.Context(), c.Copy())
				if err != nil {
					return err
				}
				id, err := tx.Insert("INSERT INTO accounts (email, created) VALUES (?, ?)", "u"+c.Name+"@example.org", day.Unix())
				if err != nil {
					return err
				}
				_, err = tx.Insert("INSERT INTO tokens (path, name, public_key, firmware, account, status, registered) VALUES (?, ?, ?, '4.1', ?, 'active', ?)",
					p.Path(), string(p.Device.Device.CHR), p.Key(), id, day.Unix())
				if err != nil {
					return err
				}
			}
			return nil
		}))
	}
	return cards
}

// transport is one for many agents, which would otherwise hold a connection each.
func transport(t testing.TB) *http.Transport {
	tr := &http.Transport{MaxIdleConnsPerHost: 256, MaxConnsPerHost: 256}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// A thousand cards, a third of them with a wrong PIN state, all are answered, and each
// session is the one of its card's owner. A hundred of them come at the same time: how
// long more would wait depends on the machine, and an agent waits for 40 seconds. With
// HSMEMU_TEST_CARDS it is that number, such as 10000, and all at the same time.
func TestLogin_AThousandCards(t *testing.T) {
	n, together := 1000, 100
	if text := os.Getenv("HSMEMU_TEST_CARDS"); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		require.NoError(t, err)
		together = n
	}
	s := open(t, account.Options{Limits: unlimited})
	cards := fleet(t, s, n)
	tr := transport(t)
	type outcome struct {
		took time.Duration
		err  error
	}
	outcomes := make(chan outcome, n)
	came := make(chan struct{}, together)
	began := time.Now()
	for i, c := range cards {
		go func() {
			came <- struct{}{}
			defer func() { <-came }()
			at := time.Now()
			err := s.one(t.Context(), tr, c, i%3 == 2)
			outcomes <- outcome{time.Since(at), err}
		}()
	}
	var took []time.Duration
	for range n {
		o := <-outcomes
		require.NoError(t, o.err)
		took = append(took, o.took)
	}
	all := time.Since(began)
	slices.Sort(took)
	t.Logf("%d cards in %v, %.0f a minute; half of them within %v, the last within %v",
		n, all.Round(time.Millisecond), float64(n)/all.Minutes(), took[n/2].Round(time.Millisecond), took[n-1].Round(time.Millisecond))
	var in int
	require.NoError(t, s.store.Read(t.Context(), func(tx *records.Tx) error {
		return tx.QueryRow("SELECT COUNT(*) FROM sessions WHERE state = 'logged-in'").Scan(&in)
	}))
	require.Equal(t, n-n/3, in)
	// Clients that were refused do not come back, and nobody tells the server so.
	require.LessOrEqual(t, s.ram.Connections(), n/3)
}

// one has a card log in, or fail since its user is not authenticated.
func (s *site) one(ctx context.Context, tr http.RoundTripper, c *chiptest.Card, loggedOut bool) error {
	cookie, _, err := s.Begin(ctx, everySource)
	if err != nil {
		return err
	}
	if loggedOut {
		if err := c.Reset(); err != nil {
			return err
		}
	}
	err = (&ram.Agent{Card: c, Transport: tr}).Run(ctx, s.url+"/rt/paas/"+account.RAMID(cookie))
	if loggedOut {
		var ended ram.NoticeError
		if !errors.As(err, &ended) || ended.Number != -1 {
			return fmt.Errorf("card %s: %w, in place of a refusal", c.Name, err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("card %s: %w", c.Name, err)
	}
	got, err := s.Session(ctx, cookie)
	if err == nil && got.Account.Email != "u"+c.Name+"@example.org" {
		err = fmt.Errorf("card %s is logged in as %q", c.Name, got.Account.Email)
	}
	return err
}

// A log-in over RAM on loopback with records on disk, and beside it what both ends
// cannot do without: the same proof in process.
func BenchmarkLogin(b *testing.B) {
	prepare := func(b *testing.B) (*site, []*chiptest.Card) {
		s := open(b, account.Options{Limits: unlimited})
		return s, fleet(b, s, 64)
	}
	b.Run("proof in process", func(b *testing.B) {
		s, cards := prepare(b)
		for i := 0; b.Loop(); i++ {
			p, err := s.Prove(b.Context(), cards[i%len(cards)])
			if err != nil || p.UserPIN.State != client.Verified {
				b.Fatal(err, p.UserPIN)
			}
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Minutes(), "/min")
	})
	for _, at := range []int{1, 16} {
		b.Run(fmt.Sprint("over RAM, ", at, " at a time"), func(b *testing.B) {
			s, cards := prepare(b)
			tr := transport(b)
			b.ResetTimer()
			var wg sync.WaitGroup
			next := make(chan int)
			for w := range at {
				wg.Go(func() {
					for range next {
						// A worker has cards of its own.
						if err := s.one(b.Context(), tr, cards[w], false); err != nil {
							b.Error(err)
						}
					}
				})
			}
			for i := range b.N {
				next <- i
			}
			close(next)
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Minutes(), "/min")
		})
	}
}

// What a page costs that asks who is there.
func BenchmarkSession(b *testing.B) {
	s := open(b, account.Options{Limits: unlimited})
	cards := fleet(b, s, 1)
	cookie, _ := s.loggedIn(b, cards[0])
	for b.Loop() {
		if _, err := s.Session(b.Context(), cookie); err != nil {
			b.Fatal(err)
		}
	}
}

// What a session takes of memory, which is nothing between requests, and of the disk;
// and what a card takes while it is connected.
func BenchmarkMemory(b *testing.B) {
	const n = 2000
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	for b.Loop() {
		s := open(b, account.Options{Limits: unlimited})
		size := func() (pages int) {
			require.NoError(b, s.store.Read(b.Context(), func(tx *records.Tx) error {
				return tx.QueryRow("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").Scan(&pages)
			}))
			return pages
		}
		before, disk := heap(), size()
		for range n {
			s.begin(b)
		}
		b.ReportMetric(float64(max(heap(), before)-before)/n, "heap-B/session")
		b.ReportMetric(float64(size()-disk)/n, "disk-B/session")

		// Cards whose client has taken a command and does not answer.
		tr := transport(b)
		before = heap()
		for range n {
			r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, s.url+"/rt/paas/"+account.RAMID(s.begin(b)), bytes.NewReader(ram.Opening([]byte{0x3B, 0x80})))
			require.NoError(b, err)
			r.Header.Set("Content-Type", "application/octet-stream")
			w, err := tr.RoundTrip(r)
			require.NoError(b, err)
			require.Equal(b, http.StatusOK, w.StatusCode)
			require.NoError(b, w.Body.Close())
		}
		require.Equal(b, n, s.ram.Connections())
		b.ReportMetric(float64(max(heap(), before)-before)/n, "heap-B/card")
	}
}
