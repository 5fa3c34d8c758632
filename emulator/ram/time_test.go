package ram_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/ram"
)

// within hands requests to a server without a network, which bubbles of synctest
// do not have.
type within struct{ http.Handler }

func (w within) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.ServeHTTP(answer, r)
	}()
	select {
	case <-done:
		return answer.Result(), nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func send(t *testing.T, s http.Handler, cookie, body string) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/rt/paas", bytes.NewReader(unhex(t, body)))
	r.Header.Set("Content-Type", typeOfResult)
	r.Header.Set("Cookie", cookie)
	w, err := within{s}.RoundTrip(r)
	require.NoError(t, err)
	return w
}

// A service that takes its time keeps the client: every 25 seconds it is asked for
// nothing.
func TestServer_KeepsTheConnectionAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &ram.Server{Services: map[string]ram.Service{"paas": func(ctx context.Context, card *ram.Session) error {
			time.Sleep(100 * time.Second)
			return hello(ctx, card)
		}}}
		start := time.Now()
		w := send(t, s, "", theOpening)
		requireRequest(t, w, "AA00")
		require.Equal(t, ram.KeepAlive, time.Since(start))
		cookie := cookieOf(w)
		// The client may take a minute, and the service the same time after that.
		time.Sleep(ram.IdleTime - time.Second)
		requireRequest(t, send(t, s, cookie, theNothing), theNotice)
		require.Equal(t, 100*time.Second, time.Since(start))
		requireRequest(t, send(t, s, cookie, theNothing), "AA07 22050020008100")
		require.NoError(t, s.Close())
	})
}

// A client that does not come back is given up after a minute, not sooner.
func TestServer_GivesUpIdleClients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		s := &ram.Server{
			Services: map[string]ram.Service{"paas": hello},
			Ended:    func(_ string, _ *ram.Session, err error) { ended <- err },
		}
		w := send(t, s, "", theOpening)
		requireRequest(t, w, theNotice)
		time.Sleep(ram.IdleTime - time.Second)
		require.Equal(t, 1, s.Connections())
		requireRequest(t, send(t, s, cookieOf(w), theNothing), "AA07 22050020008100")
		time.Sleep(ram.IdleTime - time.Second)
		synctest.Wait()
		require.Empty(t, ended)
		time.Sleep(time.Second)
		require.ErrorIs(t, <-ended, ram.ErrIdle)
		require.Zero(t, s.Connections())
		requireStatus(t, send(t, s, cookieOf(w), theNothing), http.StatusGatewayTimeout)
	})
}

// A client that ended with a last notice is forgotten after a minute.
func TestServer_ForgetsWhoDoesNotComeBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &ram.Server{Services: map[string]ram.Service{"paas": func(ctx context.Context, card *ram.Session) error {
			return card.Notify(ctx, ram.Notice{Number: -1, Text: "no"})
		}}}
		requireRequest(t, send(t, s, "", theOpening), "AA09 E007 0201FF 0C026E6F")
		time.Sleep(ram.IdleTime)
		synctest.Wait()
		require.Zero(t, s.Connections())
	})
}

// An agent waits 40 seconds for an answer.
func TestAgent_Timeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stalls := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		start := time.Now()
		err := (&ram.Agent{Card: &numbered{}, Transport: within{stalls}}).Run(t.Context(), "http://localhost/rt/paas")
		require.ErrorIs(t, err, ram.CodeTimeout)
		require.EqualError(t, err, "the server did not answer in time: context deadline exceeded")
		require.Equal(t, ram.AnswerTime, time.Since(start))
	})
}

// Through an agent, too, time passes: a service that begins after minutes has its
// card, and one that is interrupted tells the server.
func TestAgent_StaysWithASlowServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var notices []string
		s := &ram.Server{Services: map[string]ram.Service{"paas": func(ctx context.Context, card *ram.Session) error {
			time.Sleep(10 * time.Minute)
			return hello(ctx, card)
		}}}
		a := &ram.Agent{Card: &numbered{}, Transport: within{s}, Notice: func(n ram.Notice) { notices = append(notices, n.Text) }}
		require.NoError(t, a.Run(t.Context(), "http://localhost/rt/paas"))
		require.Equal(t, "Hi", strings.Join(notices, ","))
	})
}
