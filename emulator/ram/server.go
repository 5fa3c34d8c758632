package ram

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// Prefix is what the path of a service begins with: /rt/<service>, or
	// /rt/<service>/<session> for clients that cannot be given a cookie.
	Prefix = "/rt/"
	// Cookie is the name of the cookie by which a connection, or before it a session
	// of the caller's, is known.
	Cookie = "JSESSIONID"
	// ConnectionsMax is how many cards are connected at a time, if a server does not
	// say otherwise.
	ConnectionsMax = 4096
	// SourceMax is how many cards of one source are connected at a time, if a server
	// does not say otherwise.
	SourceMax = 256
)

// What a client is told whose card is not served. A status would tell the person there
// no more than that something is wrong.
const (
	textFull       = "As many cards are connected as this server serves. Try again later."
	textSourceFull = "Too many cards are connected from your address. Try again later."
)

// Service does something with a card that has connected. The client is told that
// this was all when it returns nil, and that the server gave up when it returns
// an error, unless the last notice had a negative number: then the client has its
// reason. The context ends with the connection; its cause is why.
type Service func(ctx context.Context, card *Session) error

// Server serves cards, and is an http.Handler. It is for an http.Server such as
// NewHTTPServer makes. Its fields are set before the first request.
type Server struct {
	// Services are what there is, by the name in the URL.
	Services map[string]Service
	// Known reports whether a session, in a URL or in a client's first cookie, is
	// one that the caller has begun; nil for none. It is the caller's to choose
	// names that nobody guesses, and to forget them: whoever knows one can connect a
	// card of his own in that session, and ends the one that was there. Commands and
	// answers are safe from him: a connection has a name of its own, which its client
	// alone is told.
	Known func(session string) bool
	// Ended is told what a service returned, when it did; nil for nobody.
	Ended func(service string, card *Session, err error)
	// Limit is how many cards are connected at a time, and LimitOfSource how many of
	// one source, so that nobody takes the room of all; 0 for ConnectionsMax and
	// SourceMax. Further ones get a notice of −1 that says so.
	Limit, LimitOfSource int
	// Source tells clients from each other; nil for their addresses without the port.
	Source func(*http.Request) string
	// HungUp is closed when the connection of TCP that a request came by has ended, for
	// [Session.Deserted]; nil where nobody knows.
	HungUp func(context.Context) <-chan struct{}

	mu          sync.Mutex
	closed      bool
	connections map[string]*Session // by the name in the cookie
	sessions    map[string]*Session // by the caller's session
	sources     map[string]int      // connections of each
	running     sync.WaitGroup
}

// NewHTTPServer is a server of HTTP with limits for a [Server]: clients that are
// slow or long-winded are sent off, and have time to read why.
func NewHTTPServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, MaxHeaderBytes: 16 << 10,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: IdleTime, WriteTimeout: 2 * IdleTime, IdleTimeout: IdleTime,
	}
}

// Close ends all connections, and returns when their services have.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	var all []*Session
	for _, c := range s.connections {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		c.drop(ErrEnded)
	}
	s.running.Wait()
	return nil
}

// Connections is how many cards are connected.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.connections)
}

// ServeHTTP answers one request of a client.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, session, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, Prefix), "/")
	service, ok := s.Services[name]
	var cookie string
	if c, err := r.Cookie(Cookie); err == nil {
		cookie = c.Value
	}
	// A connection outlives the caller's session, which may end or get another name
	// while the card is in the midst of something.
	c := s.connection(cookie, name)
	switch {
	case !ok || !strings.HasPrefix(r.URL.Path, Prefix) || c == nil && session != "" && !s.knows(session):
		status(w, http.StatusNotFound)
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		status(w, http.StatusMethodNotAllowed)
		return
	case formType(r.Header.Get("Content-Type")):
		status(w, http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		if errors.As(err, new(*http.MaxBytesError)) {
			status(w, http.StatusRequestEntityTooLarge)
			return
		}
		status(w, http.StatusBadRequest)
		return
	}
	// The times of the server are for its pages. That for reading is over, and net/http
	// has taken it away; the answer may take as long as the client waits. Not every
	// ResponseWriter has times.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(AnswerTime)) //nolint:forbidigo // the connection's clock is the system's
	if atr, err := ParseOpening(body); err == nil {
		if c != nil && session != "" && !s.knows(session) {
			status(w, http.StatusNotFound)
			return
		}
		s.open(w, r, opening{name, service, session, cookie, atr})
		return
	}
	result, err := ParseResult(body)
	switch {
	case err != nil:
		if c != nil {
			c.drop(fmt.Errorf("%w: %w", ErrProtocol, err))
		}
		status(w, http.StatusBadRequest)
	case c == nil:
		status(w, http.StatusGatewayTimeout) // a 404 would tell of a wrong URL
	default:
		c.take(w, r, result, s.hungUp(r))
	}
}

// hungUp is closed when the connection of a request has ended; nil if that is not known.
func (s *Server) hungUp(r *http.Request) <-chan struct{} {
	if s.HungUp == nil {
		return nil
	}
	return s.HungUp(r.Context())
}

func (s *Server) knows(session string) bool { return s.Known != nil && s.Known(session) }

// connection is the one with this name, if it is of this service.
func (s *Server) connection(cookie, service string) *Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.connections[cookie]; c != nil && c.service == service {
		return c
	}
	return nil
}

// formType reports whether any web page can have a browser send a body of this type
// to any server, or whether it says nothing: clients say what they send.
func formType(header string) bool {
	t, _, err := mime.ParseMediaType(header)
	return err != nil || t == "text/plain" || t == "application/x-www-form-urlencoded" || t == "multipart/form-data"
}

// opening is a client's first request.
type opening struct {
	name    string
	service Service
	session string // in the URL
	cookie  string
	atr     []byte
}

// open makes a connection with a new name, never one that a client chose, and
// answers when its service asks for something.
func (s *Server) open(w http.ResponseWriter, r *http.Request, o opening) {
	if o.session == "" && s.knows(o.cookie) {
		o.session = o.cookie
	}
	c := newSession(o)
	c.source, c.hungUp = s.source(r), s.hungUp(r)
	c.forget = func() { s.forget(c) }
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		status(w, http.StatusServiceUnavailable)
		return
	}
	older := s.connections[o.cookie]
	if o.session != "" {
		older = s.sessions[o.session]
	}
	if full := s.full(older, c.source); full != "" {
		s.mu.Unlock()
		refuse(w, full)
		return
	}
	if s.connections == nil {
		s.connections, s.sessions, s.sources = map[string]*Session{}, map[string]*Session{}, map[string]int{}
	}
	s.sources[c.source]++
	s.connections[c.name] = c
	if c.id != "" {
		s.sessions[c.id] = c
	}
	s.running.Add(1)
	s.mu.Unlock()
	if older != nil {
		older.drop(ErrReplaced)
	}
	go func() {
		defer s.running.Done()
		c.result = s.serve(o.service, c)
		close(c.finished)
		if s.Ended != nil {
			s.Ended(o.name, c, c.result)
		}
	}()
	// Clients take the cookie of the first answer for all that follows.
	http.SetCookie(w, &http.Cookie{
		Name: Cookie, Value: c.name, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	})
	c.next(w, r)
}

// full is why there is no room for one more connection of a source, in place of an
// older one or of none; empty if there is.
func (s *Server) full(older *Session, source string) string {
	switch {
	case older == nil && len(s.connections) >= cmp.Or(s.Limit, ConnectionsMax):
		return textFull
	case (older == nil || older.source != source) && s.sources[source] >= cmp.Or(s.LimitOfSource, SourceMax):
		return textSourceFull
	}
	return ""
}

// source is what tells the client of a request from others.
func (s *Server) source(r *http.Request) string {
	if s.Source != nil {
		return s.Source(r)
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// refuse tells a client why its card is not served. There is no connection to which it
// could come back.
func refuse(w http.ResponseWriter, why string) {
	o, _ := Notice{Number: -1, Text: why}.object() // it is short
	body, _ := Request{o}.Bytes()
	_ = write(w, body) // a client that has gone needs no reason
}

// serve runs a service; a panic of its is an error of this connection alone.
func (s *Server) serve(service Service, c *Session) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v\n%s", ErrPanic, r, debug.Stack())
		}
	}()
	return service(c.ctx, c)
}

// forget takes a connection out of the lists.
func (s *Server) forget(c *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.connections[c.name] != c {
		return
	}
	delete(s.connections, c.name)
	if s.sources[c.source]--; s.sources[c.source] == 0 {
		delete(s.sources, c.source)
	}
	if s.sessions[c.id] == c {
		delete(s.sessions, c.id)
	}
}

// newName is a name of 128 random bits.
func newName() string { return rand.Text() }

// status ends a request without a body that a client would read. Its length is
// given: the Java client does not read chunks.
func status(w http.ResponseWriter, code int) {
	w.Header().Set(protocolName, protocol)
	w.Header().Set("Cache-Control", "no-store")
	if code != http.StatusNoContent {
		w.Header().Set("Content-Length", "0")
	}
	w.WriteHeader(code)
}

// write sends a request to a client.
func write(w http.ResponseWriter, body []byte) error {
	w.Header().Set(protocolName, protocol)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", typeOfRequest)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, err := w.Write(body)
	return err
}
