package ram_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/ram"
	"hsmemu/vsmartcard"
)

var _ vsmartcard.Card = (*ram.Session)(nil)

// patience is far more than anything takes that does not wait for a time-out.
const patience = 2 * time.Minute

const typeOfResult = "application/org.openscdp-content-mgt-response;version=1.0"

func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// served is a server on loopback, and what became of its services.
type served struct {
	*ram.Server
	url   string
	ended chan error
}

func serve(t testing.TB, service ram.Service) *served {
	t.Helper()
	s := &served{Server: &ram.Server{Services: map[string]ram.Service{"paas": service, "hsm": service}}, ended: make(chan error, 2000)}
	s.Known = func(id string) bool { return id == "web" }
	s.Ended = func(_ string, _ *ram.Session, err error) { s.ended <- err }
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	h := ram.NewHTTPServer(s)
	h.ReadHeaderTimeout, h.ReadTimeout, h.IdleTimeout = patience, patience, patience // other tests are about these
	go func() { _ = h.Serve(l) }()
	s.url = "http://" + l.Addr().String()
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		require.NoError(t, h.Close())
		require.Zero(t, s.Connections())
	})
	return s
}

// end is what a service returned.
func (s *served) end(t testing.TB) error {
	t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-soon(t).Done():
		require.Fail(t, "the service goes on")
		return nil
	}
}

// post is a request as ram-client sends it, with a cookie or none.
func (s *served) post(t testing.TB, path, cookie, body string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(soon(t), http.MethodPost, s.url+path, bytes.NewReader(unhex(t, body)))
	require.NoError(t, err)
	r.Header.Set("Content-Type", typeOfResult)
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	w, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.Body.Close() })
	return w
}

// cookieOf is what the Java client takes of the first answer.
func cookieOf(w *http.Response) string {
	first, _, _ := strings.Cut(w.Header.Get("Set-Cookie"), ";")
	return first
}

func requireRequest(t testing.TB, w *http.Response, want string) {
	t.Helper()
	require.Equal(t, http.StatusOK, w.StatusCode)
	require.Empty(t, w.TransferEncoding, "the Java client reads no chunks")
	b, err := io.ReadAll(w.Body)
	require.NoError(t, err)
	require.Equal(t, unhex(t, want), b)
	require.EqualValues(t, len(b), w.ContentLength)
}

// requireNotice is the last thing that a client hears, in words that it shows (PORTAL
// protocol, rules for a server, 6: a negative notice, and nothing after it).
func requireNotice(t testing.TB, w *http.Response, words string) {
	t.Helper()
	require.Equal(t, http.StatusOK, w.StatusCode)
	b, err := io.ReadAll(w.Body)
	require.NoError(t, err)
	request, err := ram.ParseRequest(b)
	require.NoError(t, err)
	require.Len(t, request, 1)
	require.Equal(t, ram.TagNotice, request[0].Tag)
	n, err := ram.ParseNotice(request[0].Value)
	require.NoError(t, err)
	require.Equal(t, ram.Notice{Number: -1, Text: words}, n)
}

func requireStatus(t testing.TB, w *http.Response, code int) {
	t.Helper()
	require.Equal(t, code, w.StatusCode)
	require.Empty(t, w.TransferEncoding)
	if code != http.StatusNoContent {
		require.Equal(t, "0", w.Header.Get("Content-Length"))
	}
}

// hello is the service of the recorded exchange.
func hello(ctx context.Context, card *ram.Session) error {
	if err := card.Notify(ctx, ram.Notice{Text: "Hi"}); err != nil {
		return err
	}
	_, err := card.Transmit(ctx, []byte{0, 0x20, 0, 0x81, 0})
	return err
}

// What ram-client 2.12 with libcurl 7.88.1 sends, byte for byte, on one connection
// that is kept; and what has to come back (PORTAL-3).
func TestServer_BytesOfTheCClient(t *testing.T) {
	t.Parallel()
	s := serve(t, hello)
	host := strings.TrimPrefix(s.url, "http://")
	conn, err := net.Dial("tcp", host)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	answers := bufio.NewReader(conn)
	cookie := ""
	for _, step := range []struct {
		body   string
		status int
		want   string
	}{
		{theOpening, http.StatusOK, theNotice},
		{theNothing, http.StatusOK, "AA07 22050020008100"},
		{"AB07 23026E00 800101", http.StatusNoContent, ""},
	} {
		body := unhex(t, step.body)
		head := "POST /rt/paas/web HTTP/1.1\r\nHost: " + host + "\r\n"
		if cookie != "" {
			head += "Cookie: " + cookie + "\r\n"
		}
		head += "Content-Type: " + typeOfResult + "\r\nAccept: */*\r\nX-Admin-Protocol: openscdp-remote-admin/1.0\r\n" +
			fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body))
		_, err := conn.Write(append([]byte(head), body...))
		require.NoError(t, err)
		w, err := http.ReadResponse(answers, nil)
		require.NoError(t, err)
		if step.status == http.StatusOK {
			requireRequest(t, w, step.want)
			require.Equal(t, "application/org.openscdp-content-mgt-request;version=1.0", w.Header.Get("Content-Type"))
		} else {
			requireStatus(t, w, step.status)
		}
		require.False(t, w.Close, "the connection is kept")
		if c := cookieOf(w); cookie == "" {
			require.Regexp(t, `^JSESSIONID=[A-Z2-7]{26}$`, c)
			cookie = c
		} else {
			require.Empty(t, c)
		}
	}
	require.NoError(t, s.end(t))
}

// The Java client: a cookie of the web session, which the first answer replaces, no
// X-Admin-Protocol, always one command counted (PORTAL-4).
func TestServer_TheJavaClient(t *testing.T) {
	t.Parallel()
	ids := make(chan string, 1)
	s := serve(t, func(ctx context.Context, card *ram.Session) error {
		ids <- card.ID()
		return hello(ctx, card)
	})
	w := s.post(t, "/rt/paas", "JSESSIONID=web", theOpening)
	requireRequest(t, w, theNotice)
	require.Equal(t, "web", <-ids)
	cookie := cookieOf(w)
	require.NotEmpty(t, cookie)
	requireRequest(t, s.post(t, "/rt/paas", cookie, "AB03800101"), "AA07 22050020008100")
	requireStatus(t, s.post(t, "/rt/paas", cookie, "AB0723029000800101"), http.StatusNoContent)
	require.NoError(t, s.end(t))
	requireStatus(t, s.post(t, "/rt/paas", cookie, "AB03800101"), http.StatusGatewayTimeout)

	// Before the end it wants to have been asked for something.
	s = serve(t, func(context.Context, *ram.Session) error { return nil })
	w = s.post(t, "/rt/paas", "", theOpening)
	requireRequest(t, w, "AA00")
	requireStatus(t, s.post(t, "/rt/paas", cookieOf(w), "AB03800101"), http.StatusNoContent)
}

// A server that is closed tells clients that wait, and waits for its services.
func TestServer_Close(t *testing.T) {
	t.Parallel()
	s := serve(t, func(ctx context.Context, _ *ram.Session) error {
		<-ctx.Done()
		return context.Cause(ctx)
	})
	status := make(chan int, 1)
	go func() { status <- s.post(t, "/rt/paas", "", theOpening).StatusCode }()
	require.Eventually(t, func() bool { return s.Connections() == 1 }, patience, time.Millisecond)
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.end(t), ram.ErrEnded)
	require.Equal(t, http.StatusGatewayTimeout, <-status)
}

// The Java client cancels with a request of its own beside the one that waits; the
// answer to a client that gives up is 204 (PORTAL-10).
func TestServer_ACancellationNeedNotBeAsked(t *testing.T) {
	t.Parallel()
	told := make(chan struct{})
	s := serve(t, func(ctx context.Context, card *ram.Session) error {
		if err := card.Notify(ctx, ram.Notice{Text: "Hi"}); err != nil {
			return err
		}
		close(told)
		<-ctx.Done()
		return context.Cause(ctx)
	})
	cookie := cookieOf(s.post(t, "/rt/paas", "", theOpening))
	waiting := make(chan int, 1)
	go func() { waiting <- s.post(t, "/rt/paas", cookie, theNothing).StatusCode }()
	<-told
	// A result that was sent twice, with nothing asked meanwhile, does no harm.
	requireStatus(t, s.post(t, "/rt/paas", cookie, theNothing), http.StatusConflict)
	require.Equal(t, 1, s.Connections())
	requireStatus(t, s.post(t, "/rt/paas", cookie, "AB12 E1100C0E43616E63656C6C65642062792075"), http.StatusNoContent)
	err := s.end(t)
	var closed *ram.ClosedError
	require.ErrorAs(t, err, &closed)
	require.Equal(t, "Cancelled by u", closed.Text)
	require.EqualError(t, err, `the client gave up: "Cancelled by u"`)
	require.Equal(t, http.StatusGatewayTimeout, <-waiting)
}

func TestServer_RefusesOtherRequests(t *testing.T) {
	t.Parallel()
	s := serve(t, hello)
	s.Limit = 2
	send := func(method, path, kind string, body io.Reader) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(soon(t), method, s.url+path, body)
		require.NoError(t, err)
		r.Header.Set("Content-Type", kind)
		w, err := http.DefaultTransport.RoundTrip(r)
		require.NoError(t, err)
		t.Cleanup(func() { _ = w.Body.Close() })
		return w
	}
	opening := func() io.Reader { return bytes.NewReader(unhex(t, theOpening)) }
	for _, path := range []string{"/", "/rt", "/rt/", "/rt/other", "/paas", "/rt/paas/unknown", "/rt/paas/web/more", "/rt//paas"} {
		requireStatus(t, send(http.MethodPost, path, typeOfResult, opening()), http.StatusNotFound)
	}
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodOptions} {
		w := send(method, "/rt/paas", typeOfResult, nil)
		requireStatus(t, w, http.StatusMethodNotAllowed)
		require.Equal(t, "POST", w.Header.Get("Allow"))
	}
	// A web page elsewhere may have a browser send these without asking anybody.
	for _, kind := range []string{"", "text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "nonsense/"} {
		requireStatus(t, send(http.MethodPost, "/rt/paas", kind, opening()), http.StatusUnsupportedMediaType)
	}
	for _, body := range []string{"", "00", "E8", "AA00", "AB", "E803C0013B", "8E04C0023B00"} {
		requireStatus(t, s.post(t, "/rt/paas", "", body), http.StatusBadRequest)
	}
	requireStatus(t, send(http.MethodPost, "/rt/paas", typeOfResult, bytes.NewReader(make([]byte, 1<<16+4))), http.StatusRequestEntityTooLarge)
	requireStatus(t, s.post(t, "/rt/paas", "", theNothing), http.StatusGatewayTimeout)
	requireStatus(t, s.post(t, "/rt/paas", "JSESSIONID=made-up", theNothing), http.StatusGatewayTimeout)
	require.Zero(t, s.Connections())
	require.Empty(t, s.ended, "no service has begun")

	r, err := http.NewRequestWithContext(soon(t), http.MethodPost, s.url+"/rt/paas", opening())
	require.NoError(t, err)
	r.Header.Set("Cookie", strings.Repeat("x", 64<<10))
	w, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	defer w.Body.Close()
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, w.StatusCode)

	for range 2 {
		requireRequest(t, s.post(t, "/rt/paas", "", theOpening), theNotice)
	}
	full := s.post(t, "/rt/paas", "", theOpening)
	requireNotice(t, full, "As many cards are connected as this server serves. Try again later.")
	require.Empty(t, cookieOf(full))
	require.NoError(t, s.Close())
	requireStatus(t, s.post(t, "/rt/paas", "", theOpening), http.StatusServiceUnavailable)
}

// A result has to be one of the request.
func TestServer_RefusesOtherResults(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		theNothing, "AB0723026E00C0013B", theResult, "AB 0B 23026E00 23026E00 800102", "AB07C0023B00800100", "AB08C0023B00800100", "E8", "00", "AA00",
	} {
		s := serve(t, func(ctx context.Context, card *ram.Session) error {
			_, err := card.Transmit(ctx, []byte{0, 0x20, 0, 0x81})
			return err
		})
		w := s.post(t, "/rt/paas", "", theOpening)
		requireRequest(t, w, "AA06220400200081")
		requireStatus(t, s.post(t, "/rt/paas", cookieOf(w), body), http.StatusBadRequest)
		require.ErrorIs(t, s.end(t), ram.ErrProtocol, body)
		requireStatus(t, s.post(t, "/rt/paas", cookieOf(w), theNothing), http.StatusGatewayTimeout)
	}
}

// Of two connections of a session the later one stays. Neither the session nor a
// name that a client made up lets anybody into a connection that there is.
func TestServer_SessionsCannotBeEntered(t *testing.T) {
	t.Parallel()
	s := serve(t, hello)
	first := s.post(t, "/rt/paas/web", "", theOpening)
	requireRequest(t, first, theNotice)
	for _, cookie := range []string{"", "JSESSIONID=web", "JSESSIONID=", "JSESSIONID=" + strings.Repeat("A", 26)} {
		requireStatus(t, s.post(t, "/rt/paas/web", cookie, theNothing), http.StatusGatewayTimeout)
		requireStatus(t, s.post(t, "/rt/paas", cookie, "AB02E100"), http.StatusGatewayTimeout)
	}
	requireStatus(t, s.post(t, "/rt/hsm", cookieOf(first), theNothing), http.StatusGatewayTimeout) // another service
	require.Equal(t, 1, s.Connections())

	// A name that a client brings is not taken over.
	made := s.post(t, "/rt/paas", "JSESSIONID=mine", theOpening)
	requireRequest(t, made, theNotice)
	require.NotEqual(t, "JSESSIONID=mine", cookieOf(made))
	require.Equal(t, 2, s.Connections())

	second := s.post(t, "/rt/paas", "JSESSIONID=web", theOpening)
	requireRequest(t, second, theNotice)
	require.ErrorIs(t, s.end(t), ram.ErrReplaced)
	requireStatus(t, s.post(t, "/rt/paas/web", cookieOf(first), theNothing), http.StatusGatewayTimeout)
	require.Equal(t, 2, s.Connections())

	// The same cookie again is the same client, which has begun anew.
	third := s.post(t, "/rt/paas", cookieOf(made), theOpening)
	requireRequest(t, third, theNotice)
	require.ErrorIs(t, s.end(t), ram.ErrReplaced)
	require.Equal(t, 2, s.Connections())
	requireRequest(t, s.post(t, "/rt/paas", cookieOf(second), theNothing), "AA07 22050020008100")
	requireStatus(t, s.post(t, "/rt/paas", cookieOf(second), "AB0723029000800101"), http.StatusNoContent)
	require.NoError(t, s.end(t))
	require.Equal(t, 1, s.Connections())
}

// A waiting client whose place another takes is told so.
func TestServer_AWaitingClientIsReplaced(t *testing.T) {
	t.Parallel()
	var begun atomic.Int32
	s := serve(t, func(ctx context.Context, card *ram.Session) error {
		if begun.Add(1) == 1 {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		return hello(ctx, card)
	})
	status := make(chan int, 1)
	go func() { status <- s.post(t, "/rt/paas/web", "", theOpening).StatusCode }()
	require.Eventually(t, func() bool { return begun.Load() == 1 }, patience, time.Millisecond)
	requireRequest(t, s.post(t, "/rt/paas/web", "", theOpening), theNotice)
	require.Equal(t, http.StatusGatewayTimeout, <-status)
	require.ErrorIs(t, s.end(t), ram.ErrReplaced)
}

var errService = errors.New("no such device")

// How a service ends is told in the client's words: 204, 504, or a last notice.
func TestServer_TheEndOfAService(t *testing.T) {
	t.Parallel()
	fails := serve(t, func(context.Context, *ram.Session) error { return errService })
	requireStatus(t, fails.post(t, "/rt/paas", "", theOpening), http.StatusGatewayTimeout)
	require.ErrorIs(t, fails.end(t), errService)
	require.Eventually(t, func() bool { return fails.Connections() == 0 }, patience, time.Millisecond)

	later := serve(t, func(ctx context.Context, card *ram.Session) error {
		return errors.Join(card.Notify(ctx, ram.Notice{Text: "Hi"}), errService)
	})
	cookie := cookieOf(later.post(t, "/rt/paas", "", theOpening))
	requireStatus(t, later.post(t, "/rt/paas", cookie, theNothing), http.StatusGatewayTimeout)

	// The C client does not come back after this one; the Java client does.
	negative := serve(t, func(ctx context.Context, card *ram.Session) error {
		if err := card.Notify(ctx, ram.Notice{Number: -6}); !errors.Is(err, ram.ErrNumber) {
			return err
		}
		if err := card.Notify(ctx, ram.Notice{Number: -1, Text: "no"}); err != nil {
			return err
		}
		if _, err := card.Transmit(ctx, []byte{0, 0, 0, 0}); !errors.Is(err, ram.ErrEnded) {
			return err
		}
		return errService
	})
	w := negative.post(t, "/rt/paas", "", theOpening)
	requireRequest(t, w, "AA09 E007 0201FF 0C026E6F")
	require.ErrorIs(t, negative.end(t), errService)
	requireStatus(t, negative.post(t, "/rt/paas", cookieOf(w), "AB03800101"), http.StatusNoContent)
	require.Zero(t, negative.Connections())

	panics := serve(t, func(context.Context, *ram.Session) error { panic("at the disco") })
	requireStatus(t, panics.post(t, "/rt/paas", "", theOpening), http.StatusGatewayTimeout)
	require.ErrorContains(t, panics.end(t), "at the disco")
}

// Whoever gives up waiting leaves the connection as it was: the answer that comes
// later is nobody's.
func TestSession_TheCallersContext(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	given := make(chan struct{}) // up by the caller
	up := sync.OnceFunc(func() { close(given) })
	s := serve(t, func(ctx context.Context, card *ram.Session) error {
		defer up()
		short, cancel := context.WithCancel(ctx)
		go func() {
			<-asked
			cancel()
		}()
		if _, err := card.Transmit(short, []byte{0, 1, 0, 0}); !errors.Is(err, context.Canceled) {
			return fmt.Errorf("the first: %w", err)
		}
		if _, err := card.Transmit(short, []byte{0, 2, 0, 0}); !errors.Is(err, context.Canceled) {
			return fmt.Errorf("the second: %w", err)
		}
		up()
		answer, err := card.Transmit(ctx, []byte{0, 3, 0, 0})
		if err == nil && !bytes.Equal(answer, []byte{0x90, 3}) {
			err = fmt.Errorf("the answer of another command: %X", answer)
		}
		return err
	})
	w := s.post(t, "/rt/paas", "", theOpening)
	requireRequest(t, w, "AA06220400010000")
	close(asked)
	<-given
	requireRequest(t, s.post(t, "/rt/paas", cookieOf(w), "AB0723029001800101"), "AA06220400030000")
	requireStatus(t, s.post(t, "/rt/paas", cookieOf(w), "AB0723029003800101"), http.StatusNoContent)
	require.NoError(t, s.end(t))
}

// A client that goes away while it waits is noticed at once.
func TestSession_TheClientGoesAway(t *testing.T) {
	t.Parallel()
	s := serve(t, func(ctx context.Context, card *ram.Session) error {
		<-ctx.Done()
		_, err := card.Transmit(ctx, []byte{0, 1, 0, 0})
		return err
	})
	ctx, cancel := context.WithCancel(soon(t))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/rt/paas", bytes.NewReader(unhex(t, theOpening)))
	require.NoError(t, err)
	r.Header.Set("Content-Type", typeOfResult)
	var client sync.WaitGroup
	client.Go(func() {
		w, err := http.DefaultTransport.RoundTrip(r)
		if err == nil {
			_ = w.Body.Close()
		}
	})
	require.Eventually(t, func() bool { return s.Connections() == 1 }, patience, time.Millisecond)
	cancel()
	require.ErrorIs(t, s.end(t), ram.ErrLost)
	client.Wait()
}
