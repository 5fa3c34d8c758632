package ram_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/ram"
)

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
