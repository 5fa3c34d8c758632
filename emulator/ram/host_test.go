package ram_test

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/ram"
)

// A service that takes its time is waited for also behind a server whose limits are those
// of web pages: net/http ends a request when the time for reading it is over, although it
// was read long ago.
func TestServer_BehindShortLimits(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	s := &ram.Server{
		Services: map[string]ram.Service{"paas": func(ctx context.Context, card *ram.Session) error {
			<-time.After(600 * time.Millisecond) // longer than the server's limits
			return hello(ctx, card)
		}},
		Ended: func(_ string, _ *ram.Session, err error) { ended <- err },
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	h := &http.Server{Handler: s, ReadTimeout: 200 * time.Millisecond, WriteTimeout: 300 * time.Millisecond}
	go func() { _ = h.Serve(l) }()
	defer func() { require.NoError(t, h.Close()) }()
	defer func() { require.NoError(t, s.Close()) }()
	require.NoError(t, (&ram.Agent{Card: &numbered{}}).Run(soon(t), "http://"+l.Addr().String()+"/rt/paas"))
	require.NoError(t, <-ended)
}

// A session that ends, or gets another name, while a card is connected in it takes
// nothing from the card: what it is in the midst of comes to its end. Another card does
// not connect any more.
func TestServer_SessionEndsInTheMiddle(t *testing.T) {
	t.Parallel()
	var over atomic.Bool
	s := serve(t, func(ctx context.Context, card *ram.Session) error {
		over.Store(true)
		return hello(ctx, card)
	})
	s.Known = func(id string) bool { return id == "web" && !over.Load() }
	require.NoError(t, (&ram.Agent{Card: &numbered{}}).Run(soon(t), s.url+"/rt/paas/web"))
	require.NoError(t, s.end(t))
	require.ErrorIs(t, (&ram.Agent{Card: &numbered{}}).Run(soon(t), s.url+"/rt/paas/web"), ram.CodeURL)
	// Also not with the cookie of a connection that goes on.
	over.Store(false)
	w := s.post(t, "/rt/paas/web", "", theOpening)
	requireRequest(t, w, theNotice)
	requireStatus(t, s.post(t, "/rt/paas/web", cookieOf(w), theOpening), http.StatusNotFound)
	requireRequest(t, s.post(t, "/rt/paas/web", cookieOf(w), theNothing), "AA07 22050020008100")
}
