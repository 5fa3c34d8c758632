package ram_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
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

// piped is a listener whose connections are pipes, the servers' ends of which it is sent,
// so that a server of HTTP with all its limits runs in a bubble of synctest, on the clock
// of that.
type piped chan net.Conn

func (l piped) Accept() (net.Conn, error) {
	if c, ok := <-l; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (l piped) Close() error {
	close(l)
	return nil
}

func (piped) Addr() net.Addr { return &net.TCPAddr{} }

// dial is the client's end of a connection that has been accepted.
func (l piped) dial() net.Conn {
	client, server := net.Pipe()
	l <- server
	return client
}

// transport is HTTP over such connections; dials counts them.
func (l piped) transport(dials *atomic.Int32) *http.Transport {
	return &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		dials.Add(1)
		return l.dial(), nil
	}}
}

// pipes is a server of one service whose connections are pipes, and what the service
// returned.
func pipes(t *testing.T, service ram.Service) (*served, piped) {
	t.Helper()
	s := &served{Server: &ram.Server{Services: map[string]ram.Service{"paas": service}}, url: "http://localhost", ended: make(chan error, 2000)}
	s.Ended = func(_ string, _ *ram.Session, err error) { s.ended <- err }
	l, h := make(piped), ram.NewHTTPServer(s)
	go func() { _ = h.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		require.NoError(t, h.Close())
		time.Sleep(time.Minute) // net/http lingers over a connection that it ends
	})
	return s, l
}

// A service that takes its time is waited for also behind a server whose limits are those
// of web pages: net/http counts the time for an answer from when the request was read.
func TestServer_BehindShortLimits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		s := &ram.Server{
			Services: map[string]ram.Service{"paas": func(ctx context.Context, card *ram.Session) error {
				time.Sleep(ram.KeepAlive - time.Second) // longer than the server's limits, and one answer
				return hello(ctx, card)
			}},
			Ended: func(_ string, _ *ram.Session, err error) { ended <- err },
		}
		l := make(piped)
		h := &http.Server{Handler: s, ReadTimeout: 2 * time.Second, WriteTimeout: 3 * time.Second}
		go func() { _ = h.Serve(l) }()
		defer func() { require.NoError(t, h.Close()) }()
		defer func() { require.NoError(t, s.Close()) }()
		start := time.Now()
		var dials atomic.Int32
		require.NoError(t, (&ram.Agent{Card: &numbered{}, Transport: l.transport(&dials)}).Run(t.Context(), "http://localhost/rt/paas"))
		require.NoError(t, <-ended)
		require.Equal(t, ram.KeepAlive-time.Second, time.Since(start))
		require.EqualValues(t, 1, dials.Load())
	})
}

// A server that closes a connection while the card works is reached by a new one, as by
// libcurl (PORTAL protocol, 2.3: a closed connection is simply reopened), and the card's
// name there is in the cookie.
func TestAgent_IdleConnectionIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		s := &ram.Server{
			Services: map[string]ram.Service{"paas": func(ctx context.Context, card *ram.Session) error {
				for range 3 {
					if _, err := card.Transmit(ctx, []byte{0, 0x46, 0, 0}); err != nil {
						return err
					}
				}
				return nil
			}},
			Ended: func(_ string, _ *ram.Session, err error) { ended <- err },
		}
		l := make(piped)
		h := ram.NewHTTPServer(s)
		h.IdleTimeout = 5 * time.Second
		go func() { _ = h.Serve(l) }()
		defer func() { require.NoError(t, h.Close()) }()
		defer func() { require.NoError(t, s.Close()) }()
		card := &numbered{during: func(context.Context) { time.Sleep(30 * time.Second) }, answer: []byte{0x90, 0}}
		var dials atomic.Int32
		require.NoError(t, (&ram.Agent{Card: card, Transport: l.transport(&dials)}).Run(t.Context(), "http://localhost/rt/paas"))
		require.NoError(t, <-ended)
		require.EqualValues(t, 4, dials.Load())
	})
}

// A head or a body that comes too slowly is not waited for.
func TestServer_SlowRequests(t *testing.T) {
	t.Parallel()
	for sent, most := range map[string]time.Duration{
		"POST /rt/pa": 10 * time.Second,
		"POST /rt/paas HTTP/1.1\r\nHost: x\r\nContent-Type: " + typeOfResult + "\r\nContent-Length: 28\r\n\r\n\xE8\x1A\xC0": ram.IdleTime,
	} {
		synctest.Test(t, func(t *testing.T) {
			s, l := pipes(t, hello)
			conn := l.dial()
			defer conn.Close()
			start := time.Now()
			require.NoError(t, conn.SetDeadline(start.Add(time.Hour)))
			_, err := io.WriteString(conn, sent)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, conn)
			require.NoError(t, err, "the server closes it")
			require.WithinRange(t, time.Now(), start.Add(most), start.Add(most+time.Second))
			require.Zero(t, s.Connections())
		})
	}
}

// An agent that is ended while the card works tells the server, which need not wait
// for a minute; and while it waits, the server notices.
func TestAgent_Interrupted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s, l := pipes(t, func(ctx context.Context, card *ram.Session) error {
			_, err := card.Transmit(ctx, []byte{0, 0x20, 0, 0x81})
			return err
		})
		card := &numbered{during: func(ctx context.Context) {
			cancel()
			<-ctx.Done()
		}}
		a := &ram.Agent{Card: card, Transport: l.transport(new(atomic.Int32))}
		require.ErrorIs(t, a.Run(ctx, s.url+"/rt/paas"), context.Canceled)
		var closed *ram.ClosedError
		require.ErrorAs(t, s.end(t), &closed)
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s, l := pipes(t, func(ctx context.Context, _ *ram.Session) error {
			cancel()
			<-ctx.Done()
			return context.Cause(ctx)
		})
		a := &ram.Agent{Card: &numbered{}, Transport: l.transport(new(atomic.Int32))}
		require.ErrorIs(t, a.Run(ctx, s.url+"/rt/paas"), context.Canceled)
		require.ErrorIs(t, s.end(t), ram.ErrLost)
	})
}

// A thousand cards are connected to one server at the same time, and each gets the
// answers of its own. Not beside other tests, whose servers would wait for the processor.
func TestRAM_AThousandCards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const cards, rounds = 1000, 3
		var connected atomic.Int32
		all := make(chan struct{})
		s, l := pipes(t, func(ctx context.Context, card *ram.Session) error {
			if connected.Add(1) == cards {
				close(all)
			}
			select {
			case <-all:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			number := []byte(nil)
			for i := range rounds {
				command := []byte{0, 0, 0, byte(i)}
				answer, err := card.Transmit(ctx, command)
				if err != nil {
					return err
				}
				if number == nil {
					number = bytes.Clone(answer[:4])
				}
				if want := append(append(bytes.Clone(number), command...), 0x90, 0x00); !bytes.Equal(answer, want) {
					return fmt.Errorf("%X, not %X", answer, want)
				}
			}
			return card.Notify(ctx, ram.Notice{Number: int(binary.BigEndian.Uint32(number))})
		})
		s.LimitOfSource = cards
		var agents sync.WaitGroup
		var right atomic.Int32
		for i := range cards {
			agents.Go(func() {
				a := &ram.Agent{Card: &numbered{number: i}, Transport: l.transport(new(atomic.Int32)), Notice: func(n ram.Notice) {
					if n.Number == i {
						right.Add(1)
					}
				}}
				if err := a.Run(t.Context(), s.url+"/rt/paas"); err != nil {
					t.Errorf("card %d: %v", i, err)
				}
			})
		}
		agents.Wait()
		require.EqualValues(t, cards, right.Load())
		for range cards {
			require.NoError(t, s.end(t))
		}
		require.Zero(t, s.Connections())
	})
}

// A client that has hung up seems to have deserted its card while it owes a result, and
// not after it has come back by another connection of TCP.
func TestSession_Deserted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var card *ram.Session
		tcp := make(chan struct{})
		ended := make(chan error, 2)
		s := &ram.Server{
			Services: map[string]ram.Service{"paas": func(ctx context.Context, c *ram.Session) error {
				card = c
				if err := hello(ctx, c); err != nil {
					return err
				}
				return hello(ctx, c)
			}},
			Ended:  func(_ string, _ *ram.Session, err error) { ended <- err },
			HungUp: func(context.Context) <-chan struct{} { return tcp },
		}
		cookie := cookieOf(send(t, s, "", theOpening))
		require.False(t, card.Deserted())
		require.Equal(t, http.StatusOK, send(t, s, cookie, "AB03800100").StatusCode)
		require.False(t, card.Deserted())
		close(tcp)
		require.True(t, card.Deserted())
		card.Replace()
		synctest.Wait()
		require.ErrorIs(t, <-ended, ram.ErrReplaced)
		require.Equal(t, http.StatusGatewayTimeout, send(t, s, cookie, "AB0723029000800101").StatusCode)

		// A client that makes a connection for each request hangs up after each.
		tcp = make(chan struct{})
		cookie = cookieOf(send(t, s, "", theOpening))
		close(tcp)
		tcp = make(chan struct{})
		require.Equal(t, http.StatusOK, send(t, s, cookie, "AB03800100").StatusCode)
		close(tcp)
		require.False(t, card.Deserted())
		require.NoError(t, s.Close())
	})
}
