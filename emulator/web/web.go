// Package web is what every page server of this project needs: a listener that
// stays on this machine unless told otherwise, a server with limits that ends in
// order, rules that every request obeys, server-sent events, and one stylesheet.
//
//	l, err := web.Listen(ctx, "localhost:0", web.ThisMachine)
//	var pages web.Pages
//	pages.Read("/{$}", page)       // GET, changes nothing
//	pages.Change("/eject", eject)  // POST
//	err = web.Server{Handler: web.Guard{}.Around(&pages)}.Serve(ctx, l)
//
// It knows no page, no user and no card.
package web

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"hsmemu/vsmartcard/descriptors"
)

// Exposure is who can reach a server.
type Exposure int

// Who can reach a server.
const (
	ThisMachine Exposure = iota // programs on this machine alone
	Anybody                     // whoever reaches the address
)

// ErrExposed is the answer to an address that other machines reach, where nobody
// said that they may.
var ErrExposed = errors.New("address is not a loopback one")

// Listen listens at HOST:PORT, where port 0 is any free one. For [ThisMachine] the host
// has to be a loopback address, or a name that stands for nothing else; localhost is
// 127.0.0.1. Errors: ErrExposed, those of package net.
func Listen(ctx context.Context, address string, e Exposure) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen for browsers: %w", err)
	}
	// Not every machine has a file of hosts or a name server that know it (RFC 6761, 6.3).
	if strings.EqualFold(host, "localhost") {
		host = "127.0.0.1"
	}
	if e == ThisMachine {
		// A listener at a name would look the name up again.
		if host, err = loopback(ctx, host); err != nil {
			return nil, fmt.Errorf("listen for browsers at %s: %w", address, err)
		}
	}
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("listen for browsers: %w", err)
	}
	return l, nil
}

// loopback is the first address of a host, all of which are on this machine.
func loopback(ctx context.Context, host string) (string, error) {
	if host == "" {
		return "", ErrExposed // every address of the machine
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return "", err
	}
	if i := slices.IndexFunc(addresses, func(a netip.Addr) bool { return !a.Unmap().IsLoopback() }); i >= 0 || len(addresses) == 0 {
		return "", ErrExposed
	}
	// A browser tries both for a name; a URL is printed with what is returned.
	if i := slices.IndexFunc(addresses, func(a netip.Addr) bool { return a.Unmap().Is4() }); i > 0 {
		return addresses[i].Unmap().String(), nil
	}
	return addresses[0].Unmap().String(), nil
}

// At is HOST:PORT of a listener, for URLs that somebody opens: one that listens at every
// address of the machine is reached at that of loopback from here, and elsewhere reports that
// other machines put an address of this one in its place.
func At(l net.Listener) (address string, elsewhere bool) {
	address = l.Addr().String()
	if at, err := netip.ParseAddrPort(address); err == nil && at.Addr().Unmap().IsUnspecified() {
		// Systems that listen at [::] have IPv4 come there, too (net.Listen).
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port()).String(), true
	}
	return address, false
}

// Limits of a server.
const (
	// MaxBody is the length of a request's body in bytes, if its page says nothing else.
	MaxBody = 64 << 10

	maxHeader    = 16 << 10
	headerTime   = 5 * time.Second
	readTime     = 15 * time.Second
	writeTime    = 30 * time.Second
	idleTime     = 60 * time.Second
	shutdownTime = 5 * time.Second
)

// Server serves pages with limits of time and length.
type Server struct {
	Handler http.Handler
	// Log hears of what goes wrong with connections; nil keeps silent.
	Log *slog.Logger
}

// Serve serves at a listener, which it owns, until the context ends. Then streams
// of events end, requests that have begun are answered within five seconds, and
// the rest is cut off. It returns nil after the context's end.
func (s Server) Serve(ctx context.Context, l net.Listener) error {
	ending := make(chan struct{})
	quiet := log.New(io.Discard, "", 0)
	if s.Log != nil {
		quiet = slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug)
	}
	server := &http.Server{
		Handler: s.Handler, ErrorLog: quiet, MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: headerTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime,
		// Not ctx: what has begun is to be finished.
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.WithoutCancel(ctx), endingKey{}, (<-chan struct{})(ending))
		},
	}
	hangUps(server)
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		close(ending)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
		defer cancel()
		if server.Shutdown(last) != nil {
			_ = server.Close() // there is nobody to tell
		}
	})
	err := server.Serve(&sparing{Listener: l, log: s.Log})
	if stop() { // it failed by itself
		return fmt.Errorf("serve browsers: %w", errors.Join(err, server.Close()))
	}
	<-ended
	return nil
}

// sparing is a listener that hangs up on those for whom there is no room: some open
// files of the process are kept for what it has to save, and for programs that use cards.
type sparing struct {
	net.Listener
	log  *slog.Logger
	full sync.Once
}

// Accept waits for somebody for whom there is room.
func (s *sparing) Accept() (net.Conn, error) {
	for {
		conn, err := s.Listener.Accept()
		if err != nil || !descriptors.KeptBack(conn, descriptors.Clients) {
			return conn, err
		}
		_ = conn.Close() // there is nobody to tell
		s.full.Do(func() {
			if s.log != nil {
				s.log.Warn("browsers are turned away: the limit of open files leaves no more for them")
			}
		})
	}
}

// hangUps has a server tell handlers, by [HungUp], when connections end.
func hangUps(server *http.Server) {
	var open sync.Map // of channels, by net.Conn
	server.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		c := make(chan struct{})
		open.Store(conn, c)
		return context.WithValue(ctx, hungUpKey{}, (<-chan struct{})(c))
	}
	server.ConnState = func(conn net.Conn, state http.ConnState) {
		if state != http.StateClosed && state != http.StateHijacked { // the last of a connection
			return
		}
		if c, ok := open.LoadAndDelete(conn); ok {
			close(c.(chan struct{})) // nothing else is in there
		}
	}
}

type hungUpKey struct{}

// HungUp is closed when the connection of TCP that a request came by has ended, also after
// the request was answered: the client has closed it or was killed, or its machine is off, which
// is noticed late. It is nil, which never is closed, for a request that no Server serves. A
// client may come back by another connection.
func HungUp(ctx context.Context) <-chan struct{} {
	c, _ := ctx.Value(hungUpKey{}).(<-chan struct{})
	return c
}

type endingKey struct{}

// ending is closed when the server of a request is about to end; nil, which never
// is, for a request that no Server serves.
func ending(ctx context.Context) <-chan struct{} {
	c, _ := ctx.Value(endingKey{}).(<-chan struct{})
	return c
}

// Pages sends requests to the page that is registered for their path. The zero
// value has none. A page that changes something is reached by POST alone.
type Pages struct{ mux http.ServeMux }

// Read registers a page for GET and HEAD, which changes nothing. The path may have
// the wildcards of [http.ServeMux].
func (p *Pages) Read(path string, h http.HandlerFunc) { p.mux.Handle("GET "+path, h) }

// Change registers an action for POST.
func (p *Pages) Change(path string, h http.HandlerFunc) { p.mux.Handle("POST "+path, h) }

// ServeHTTP serves the page of a request.
func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.mux.ServeHTTP(w, r) }

// Guard is the rules that every request to a page obeys.
type Guard struct {
	// Names are the names of this machine under which browsers may ask, besides
	// localhost and addresses in numbers, without a port. Any other name is somebody's who
	// had it point here, so that his page may read ours.
	Names []string
}

// policy lets a page load what this server has, and nothing else. Scripts and
// styles are files: none is in a page.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// Around puts the rules around pages: the headers by which a browser keeps others
// out, no request under a foreign name (421), none to change something that
// another site's page sent (403), no body longer than MaxBody.
func (g Guard) Around(pages http.Handler) http.Handler {
	same := http.NewCrossOriginProtection().Handler(pages)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if !g.knows(r.Host) {
			http.Error(w, "This server does not go by that name.", http.StatusMisdirectedRequest)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
		same.ServeHTTP(w, r)
	})
}

// knows reports whether a Host header can only come from a browser whose user
// meant this machine.
func (g Guard) knows(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return strings.EqualFold(host, "localhost") || slices.ContainsFunc(g.Names, func(n string) bool { return strings.EqualFold(n, host) })
}

//go:embed style.css
var files embed.FS

// Style serves the stylesheet that all pages of this project share. It follows the
// browser's choice of light or dark, which data-theme="light" or "dark" at the
// element html overrides; data-type="large" there makes everything as large as a
// back row needs it.
func Style(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-cache")
	http.ServeFileFS(w, r, files, "style.css")
}
