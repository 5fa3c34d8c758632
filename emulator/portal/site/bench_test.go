package site_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/service"
	"hsmemu/emulator/ram"
)

// median is that of the times that a benchmark took, in ms.
func median(b *testing.B, times []time.Duration) {
	if len(times) > 0 {
		slices.Sort(times)
		b.ReportMetric(float64(times[len(times)/2])/float64(time.Millisecond), "median-ms")
	}
}

// kept is what an agent exchanged with the portal.
type kept struct {
	http.RoundTripper
	asked, answered [][]byte
}

func (k *kept) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	w, err := k.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(w.Body)
	w.Body = io.NopCloser(bytes.NewReader(answer))
	k.asked, k.answered = append(k.asked, body), append(k.answered, answer)
	return w, err
}

// A whole firmware update with the default load file over RAM on loopback, with the
// records on disk; and beside it the same bodies, posted to a server that does nothing.
func BenchmarkUpdateOverRAM(b *testing.B) {
	p := crowded(b)
	require.NoError(b, p.Records.Write(b.Context(), func(tx *records.Tx) error {
		_, err := tx.Exec("UPDATE issuers SET licences = 1000000")
		return err
	}))
	serial := 0
	next := func() *chiptest.Card {
		c := made(b, "4.0", serial)
		serial++
		require.NoError(b, p.Records.Write(b.Context(), func(tx *records.Tx) error {
			by, token := p.owner(b, tx, c)
			_, err := tx.Exec("INSERT INTO requests (type, state, account, token, created, changed) VALUES ('FirmwareUpdate', 'Submit', ?, ?, 0, 0)", by.Account, token)
			return err
		}))
		return c
	}
	k := &kept{RoundTripper: p.transport}
	require.NoError(b, (&ram.Agent{Card: next(), Transport: k}).Run(b.Context(), p.url+"/rt/paas"))
	b.Run("update", func(b *testing.B) {
		var times []time.Duration
		for b.Loop() {
			b.StopTimer()
			c := next()
			b.StartTimer()
			began := time.Now()
			if err := p.told(b.Context(), c, "Firmware update completed"); err != nil {
				b.Fatal(err)
			}
			times = append(times, time.Since(began))
		}
		median(b, times)
		b.ReportMetric(float64(len(k.asked)), "posts")
	})
	b.Run("the same bytes", func(b *testing.B) {
		n := 0
		h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = w.Write(k.answered[n])
		}))
		defer h.Close()
		var times []time.Duration
		for b.Loop() {
			began := time.Now()
			for n = range k.asked {
				w, err := h.Client().Post(h.URL, "application/octet-stream", bytes.NewReader(k.asked[n]))
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, w.Body)
				_ = w.Body.Close()
			}
			times = append(times, time.Since(began))
		}
		median(b, times)
	})
}

// Log-ins by HTTP from beginning to end: a session is begun, a card connects in it, and
// the session says who is logged in. Beside it a page that needs no records, three times.
func BenchmarkLoginOverHTTP(b *testing.B) {
	p := crowded(b)
	cards := makeAll(b, "4.1", 0, 16)
	require.NoError(b, p.Records.Write(b.Context(), func(tx *records.Tx) error {
		for _, c := range cards {
			p.owner(b, tx, c)
		}
		return nil
	}))
	for _, at := range []int{1, 16} {
		b.Run(fmt.Sprint("log-in, ", at, " at a time"), func(b *testing.B) {
			all(b, at, func(worker int) error { return p.login(b.Context(), cards[worker]) })
		})
		b.Run(fmt.Sprint("three files, ", at, " at a time"), func(b *testing.B) {
			all(b, at, func(int) error {
				for range 3 {
					w, err := (&http.Client{Transport: p.transport}).Get(p.url + "/se/portal.js")
					if err != nil {
						return err
					}
					_, _ = io.Copy(io.Discard, w.Body)
					_ = w.Body.Close()
				}
				return nil
			})
		})
	}
}

// all does something b.N times, by several at a time.
func all(b *testing.B, at int, do func(worker int) error) {
	b.ResetTimer()
	next := make(chan struct{})
	var workers sync.WaitGroup
	for n := range at {
		workers.Go(func() {
			for range next {
				if err := do(n); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for range b.N {
		next <- struct{}{}
	}
	close(next)
	workers.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Minutes(), "/min")
}

// Pages of a portal that has 10,000 accounts, each with a card, and 1,000 requests, of
// which the one who looks has some; beside them a page that needs no records.
func BenchmarkPages(b *testing.B) {
	p := crowded(b)
	cards := makeAll(b, "4.1", 0, 2)
	var mine, clerk service.Actor
	require.NoError(b, p.Records.Write(b.Context(), func(tx *records.Tx) error {
		clerk, _ = p.owner(b, tx, cards[0])
		mine, _ = p.owner(b, tx, cards[1])
		for _, role := range []string{"Administrator", "Registration Officer", "Manager"} {
			if _, err := tx.Exec("INSERT INTO roles (account, role) VALUES (?, ?)", clerk.Account, role); err != nil {
				return err
			}
		}
		for n := range 10000 {
			id, err := tx.Insert("INSERT INTO accounts (email, created) VALUES (?, 0)", fmt.Sprintf("a%d@example.org", n))
			if err != nil {
				return err
			}
			for _, more := range []string{
				"INSERT INTO roles (account, role) VALUES (?1, 'Subscriber')",
				"INSERT INTO subjects (kind, name, account, created) VALUES ('person', 'a' || ?1 || '@example.org', ?1, 0)",
				"INSERT INTO tokens (path, name, public_key, firmware, account, status, registered) VALUES ('/R/I/' || ?1, 'N', x'04', '4.1', ?1, 'active', 1)",
			} {
				if _, err := tx.Exec(more, id); err != nil {
					return err
				}
			}
			if n >= 1000 {
				continue
			}
			owner, word := id, "Submit"
			if n%20 == 0 {
				owner = mine.Account
			}
			if n%3 == 0 {
				word = "Completed"
			}
			if _, err := tx.Exec("INSERT INTO requests (type, state, account, created, changed) VALUES ('FirmwareUpdate', ?, ?, 0, 0)", word, owner); err != nil {
				return err
			}
		}
		return nil
	}))
	in := func(c *chiptest.Card) (cookie string) {
		cookie, _, err := p.Accounts.Begin(b.Context(), "here")
		require.NoError(b, err)
		base := &url.URL{Scheme: "http", Host: p.url[len("http://"):]}
		require.NoError(b, (&ram.Agent{Card: c}).Run(b.Context(), base.String()+"/rt/paas/"+account.RAMID(cookie)))
		cookie, _, err = p.Accounts.Renew(b.Context(), cookie)
		require.NoError(b, err)
		return cookie
	}
	who := map[string]string{"subscriber": in(cards[1]), "officer": in(cards[0])}
	for _, page := range []struct{ name, who, path string }{
		{"a file", "subscriber", "/se/portal.js"},
		{"home, subscriber", "subscriber", "/se/paas"},
		{"home, officer", "officer", "/se/paas"},
		{"requests, subscriber", "subscriber", "/se/requests"},
		{"requests, officer", "officer", "/se/requests"},
		{"tokens, subscriber", "subscriber", "/se/tokens"},
		{"subjects, subscriber", "subscriber", "/se/subjects"},
		{"subjects, officer", "officer", "/se/subjects"},
		{"audit, officer", "officer", "/se/audit"},
	} {
		b.Run(page.name, func(b *testing.B) {
			var times []time.Duration
			for b.Loop() {
				began := time.Now()
				r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, p.url+page.path, http.NoBody)
				if err != nil {
					b.Fatal(err)
				}
				r.AddCookie(&http.Cookie{Name: "hsmemu-session", Value: who[page.who]})
				w, err := p.transport.RoundTrip(r)
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.Copy(io.Discard, w.Body)
				if err != nil || w.StatusCode != http.StatusOK {
					b.Fatal(w.Status, err)
				}
				_ = w.Body.Close()
				times = append(times, time.Since(began))
				if len(times) == 1 {
					b.ReportMetric(float64(n)/1024, "KiB")
				}
			}
			median(b, times)
		})
	}
}
