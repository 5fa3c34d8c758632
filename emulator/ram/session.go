package ram

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"hsmemu/applet/tlv"
)

// Session is a card that has connected to a server, for as long as that lasts. It
// is a vsmartcard.Card. Its methods may be called by several goroutines; each
// call is one request to the client.
type Session struct {
	id, name, service string
	source            string // of the client
	atr               atomic.Pointer[[]byte]

	ctx    context.Context // ends with the connection
	end    context.CancelCauseFunc
	forget func()

	// requests are taken by the POST that waits for one.
	requests chan *exchange
	// finished is closed when the service has returned result.
	finished chan struct{}
	result   error

	mu          sync.Mutex
	outstanding *exchange // what the client has been sent and not answered
	sent        bool      // the client was sent something
	last        bool      // a notice with a negative number was sent
	idle        *time.Timer
	hungUp      <-chan struct{} // closed when the connection of the last request has ended
	wanders     bool            // the client makes new connections of TCP
}

// exchange is a request on its way to the client and back.
type exchange struct {
	body  []byte
	wants []tlv.Tag   // objects that answer it
	last  bool        // nothing is sent after it
	reply chan Result // of capacity 1
}

func newExchange(r Request) (*exchange, error) {
	body, err := r.Bytes()
	if err != nil {
		return nil, err
	}
	x := &exchange{body: body, reply: make(chan Result, 1)}
	for _, o := range r {
		switch o.Tag {
		case TagCommand:
			x.wants = append(x.wants, TagAnswer)
		case TagReset:
			x.wants = append(x.wants, TagReset)
		}
	}
	return x, nil
}

// fits reports whether a result is one of this request.
func (x *exchange) fits(r Result) bool {
	if len(r.Answers) != len(x.wants) {
		return false
	}
	for i, o := range r.Answers {
		if o.Tag != x.wants[i] {
			return false
		}
	}
	return true
}

func newSession(o opening) *Session {
	c := &Session{
		id: o.session, name: newName(), service: o.name,
		requests: make(chan *exchange), finished: make(chan struct{}),
	}
	c.ctx, c.end = context.WithCancelCause(context.Background())
	c.atr.Store(&o.atr)
	c.idle = time.AfterFunc(IdleTime, func() { c.drop(ErrIdle) })
	c.idle.Stop() // the client is here
	return c
}

// ID is the caller's session that the card connected in, empty for none.
func (c *Session) ID() string { return c.id }

// ATR is the answer to reset that the client sent last.
func (c *Session) ATR() []byte { return *c.atr.Load() }

// Reset has the client take the power away and give it back.
func (c *Session) Reset() error {
	_, err := c.exchange(c.ctx, Object{Tag: TagReset})
	return err
}

// Transmit has the card execute a command APDU. Errors: that of ctx, ErrTooLong,
// ErrAnswer, and those of a connection that has ended, such as [ClosedError] and
// ErrIdle.
func (c *Session) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	r, err := c.exchange(ctx, Object{TagCommand, command})
	if err != nil {
		return nil, err
	}
	if answer := r.Answers[0].Value; len(answer) >= 2 {
		return answer, nil
	}
	return nil, ErrAnswer
}

// Notify tells the person at the card something, and returns when the client has
// taken it. A notice with a negative number is the last thing that a client hears,
// and it need not answer. Errors: as for Transmit, and ErrNumber.
func (c *Session) Notify(ctx context.Context, n Notice) error {
	o, err := n.object()
	if err != nil {
		return err
	}
	_, err = c.exchange(ctx, o)
	return err
}

// exchange sends a request with one object and waits for the result.
func (c *Session) exchange(ctx context.Context, o Object) (Result, error) {
	x, err := newExchange(Request{o})
	if err != nil {
		return Result{}, err
	}
	if o.Tag == TagNotice {
		n, _ := ParseNotice(o.Value) // made by us
		x.last = n.Number < 0
	}
	if c.over() {
		return Result{}, ErrEnded
	}
	select {
	case c.requests <- x:
	case <-c.finished:
		return Result{}, ErrEnded
	case <-ctx.Done():
		return Result{}, c.why(ctx)
	case <-c.ctx.Done():
		return Result{}, context.Cause(c.ctx)
	}
	if x.last {
		c.mu.Lock()
		c.last = true
		c.mu.Unlock()
		return Result{}, nil
	}
	select {
	case r := <-x.reply:
		return r, nil
	case <-ctx.Done():
		return Result{}, c.why(ctx)
	case <-c.ctx.Done():
		return Result{}, context.Cause(c.ctx)
	}
}

// over reports whether a notice was sent that was the last thing.
func (c *Session) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// why is the reason for the end of a context: for the connection's own, and those
// made of it, why the connection ended.
func (c *Session) why(ctx context.Context) error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	return ctx.Err()
}

// Deserted reports whether the client has hung up while it owes a result. Always false where
// the server does not know, and for a client that has come by several connections of TCP: one
// that makes a connection for each request has hung up whenever its card works.
func (c *Session) Deserted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.hungUp:
		return c.outstanding != nil && !c.wanders
	default:
		return false
	}
}

// Replace ends the connection, as the card has come by another one.
func (c *Session) Replace() { c.drop(ErrReplaced) }

// drop ends the connection. The first reason is the one that stays.
func (c *Session) drop(why error) {
	c.end(why)
	c.idle.Stop()
	c.forget()
}

// take is a client's result, and answers with the next request.
func (c *Session) take(w http.ResponseWriter, r *http.Request, result Result, hungUp <-chan struct{}) {
	if result.Closed {
		c.drop(&ClosedError{told(result.Text)})
		status(w, http.StatusNoContent)
		return
	}
	c.mu.Lock()
	x := c.outstanding
	if x == nil {
		// A result that was sent twice, or made up: the connection goes on.
		c.mu.Unlock()
		status(w, http.StatusConflict)
		return
	}
	if !x.fits(result) {
		c.mu.Unlock()
		c.drop(fmt.Errorf("%w: %d objects for %d", ErrProtocol, len(result.Answers), len(x.wants)))
		status(w, http.StatusBadRequest)
		return
	}
	c.wanders = c.wanders || hungUp != c.hungUp
	c.outstanding, c.hungUp = nil, hungUp
	c.idle.Stop()
	c.mu.Unlock()
	for _, o := range result.Answers {
		if o.Tag == TagReset {
			c.atr.Store(&o.Value)
		}
	}
	x.reply <- result
	c.next(w, r)
}

// told is what is kept of a text that a client sent: 200 bytes, and nothing that is not
// seen or that a terminal obeys. It may be in a log.
func told(text string) string {
	const most, more = 200, "…"
	var b strings.Builder
	for _, r := range text {
		if !unicode.IsPrint(r) {
			r = unicode.ReplacementChar
		}
		if b.Len()+utf8.RuneLen(r)+len(more) > most {
			return b.String() + more
		}
		b.WriteRune(r)
	}
	return b.String()
}

// next answers a client when the service asks for something, when it has returned,
// or in time for the client not to give up.
func (c *Session) next(w http.ResponseWriter, r *http.Request) {
	alive := time.NewTimer(KeepAlive)
	defer alive.Stop()
	select {
	case x := <-c.requests:
		c.send(w, x)
	case <-c.finished:
		c.finish(w)
	case <-alive.C:
		c.send(w, c.nothing())
	case <-c.ctx.Done():
		status(w, http.StatusGatewayTimeout)
	case <-r.Context().Done():
		c.drop(ErrLost)
	}
}

// nothing is a request for nothing.
func (c *Session) nothing() *exchange {
	x, _ := newExchange(nil) // fits
	return x
}

// finish ends a connection whose service has returned. The Java client wants to be
// asked for something before the end, if only for nothing.
func (c *Session) finish(w http.ResponseWriter) {
	c.mu.Lock()
	sent, last := c.sent, c.last
	c.mu.Unlock()
	switch {
	case c.result != nil && !last:
		status(w, http.StatusGatewayTimeout)
	case !sent: // and so not last
		c.send(w, c.nothing())
		return
	default:
		status(w, http.StatusNoContent)
	}
	c.drop(ErrEnded)
}

func (c *Session) send(w http.ResponseWriter, x *exchange) {
	c.mu.Lock()
	c.outstanding, c.sent = x, true
	c.idle.Reset(IdleTime)
	c.mu.Unlock()
	if err := write(w, x.body); err != nil {
		c.drop(fmt.Errorf("%w: %w", ErrLost, err))
	}
}
