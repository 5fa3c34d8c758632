package web

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Feed tells listeners what happens, as server-sent events
// (https://html.spec.whatwg.org/multipage/server-sent-events.html). Whoever says
// something to it waits for no listener: a listener that is further behind than
// Kept messages is dropped, and its browser connects again by itself.
type Feed struct {
	// Kept is how many messages it keeps for listeners that are behind or come back,
	// and MaxListeners how many listeners it has at most; 0 is 256 and 1000.
	Kept, MaxListeners int
	// KeepAlive is the time after which a silent stream gets a comment, so that what
	// is between does not give it up; 0 is 15 s.
	KeepAlive time.Duration
	// Recall has a new listener told what is kept, and not only what is said from then on.
	Recall bool
	// Patience is how long one write to a listener may take; 0 is 10 s.
	Patience time.Duration

	mu        sync.Mutex
	messages  []told // the last ones, the newest last
	last      uint64 // number of the newest message, from 1
	said      chan struct{}
	listeners int
}

// ErrSlow is the end of a stream whose listener was too far behind.
var ErrSlow = errors.New("listener is too slow")

// told is a message as it is sent, and what it tells of. One whose text is gone was
// replaced by a later one.
type told struct {
	of   string
	text []byte
}

// Say tells all listeners something: the name of a kind of event, one word, and text
// that may have several lines.
func (f *Feed) Say(name, text string) { f.Replace("", name, text) }

// Replace is Say for something of which only the newest is worth telling: an earlier
// message of the same is no longer kept for those who are behind. Of "" all are.
func (f *Feed) Replace(of, name, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last++
	if keep := cmp.Or(f.Kept, 256); len(f.messages) >= keep {
		f.messages = append(f.messages[:0:0], f.messages[len(f.messages)-keep+1:]...)
	}
	if i := slices.IndexFunc(f.messages, func(m told) bool { return of != "" && m.of == of }); i >= 0 {
		f.messages[i] = told{}
	}
	f.messages = append(f.messages, told{of, message(strconv.FormatUint(f.last, 10), name, text)})
	if f.said != nil {
		close(f.said)
		f.said = nil
	}
}

// message is an event as it is sent; id may be empty.
func message(id, name, text string) []byte {
	var b bytes.Buffer
	if id != "" {
		b.WriteString("id: " + id + "\n")
	}
	b.WriteString("event: " + name + "\n")
	for line := range strings.Lines(strings.ReplaceAll(text, "\r", "\n")) {
		b.WriteString("data: " + strings.TrimSuffix(line, "\n") + "\n")
	}
	if text == "" {
		b.WriteString("data: \n")
	}
	b.WriteString("\n")
	return b.Bytes()
}

// Listeners is how many listen.
func (f *Feed) Listeners() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.listeners
}

// since are the messages after a number as they are sent, the number of the last
// one, and what is closed with the next message. Not whole says that there were
// others in between, which are no longer there.
func (f *Feed) since(number uint64) (pending [][]byte, last uint64, said <-chan struct{}, whole bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.said == nil {
		f.said = make(chan struct{})
	}
	missing := f.last - number // wraps for a number of another run
	if number > f.last || missing > uint64(len(f.messages)) {
		return nil, f.last, f.said, false
	}
	for _, m := range f.messages[uint64(len(f.messages))-missing:] {
		if m.text != nil {
			pending = append(pending, m.text)
		}
	}
	return pending, f.last, f.said, true
}

// Last is the number of the newest message. A page that was made after it is told the rest
// when its browser listens with ?after= and that number.
func (f *Feed) Last() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// Serve streams what is said from now on, or after the message that a browser had last
// (Last-Event-ID) or that its page has (?after=), until the listener goes, the server ends,
// or the listener is too slow, which is [ErrSlow]. Where a listener that comes back has
// missed messages that are not kept, an event named "lost" stands for them. More listeners
// than MaxListeners are answered 503.
func (f *Feed) Serve(w http.ResponseWriter, r *http.Request) error {
	if !f.enter() {
		w.Header().Set("Retry-After", "5")
		http.Error(w, "Too many are listening.", http.StatusServiceUnavailable)
		return nil
	}
	defer f.leave()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("X-Accel-Buffering", "no") // a proxy that holds text back would hold back events
	s := stream{w: w, control: http.NewResponseController(w), keep: cmp.Or(f.KeepAlive, 15*time.Second), patience: cmp.Or(f.Patience, 10*time.Second)}
	_, at, _, _ := f.since(0) // before the listener knows that it listens
	if f.Recall {
		at = 0
	}
	if err := s.write([]byte("retry: 2000\n\n")); err != nil {
		return err
	}
	had := cmp.Or(r.Header.Get("Last-Event-ID"), r.URL.Query().Get("after"))
	if number, err := strconv.ParseUint(had, 10, 64); err == nil {
		at = number
		if _, last, _, whole := f.since(at); !whole {
			at = last
			if err := s.write(message(strconv.FormatUint(last, 10), "lost", "")); err != nil {
				return err
			}
		}
	}
	return s.run(r.Context(), f, at)
}

func (f *Feed) enter() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listeners >= cmp.Or(f.MaxListeners, 1000) {
		return false
	}
	f.listeners++
	return true
}

func (f *Feed) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listeners--
}

// stream is what goes to one listener.
type stream struct {
	w              http.ResponseWriter
	control        *http.ResponseController
	keep, patience time.Duration
}

// write sends parts of the stream at once.
func (s stream) write(parts ...[]byte) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(s.patience)); err != nil && !errors.Is(err, http.ErrNotSupported) { //nolint:forbidigo // the connection's clock is the system's
		return err
	}
	for _, p := range parts {
		if _, err := s.w.Write(p); err != nil {
			return err
		}
	}
	return s.control.Flush()
}

// run sends what comes after a message.
func (s stream) run(ctx context.Context, f *Feed, at uint64) error {
	idle := time.NewTicker(s.keep)
	defer idle.Stop()
	for {
		pending, last, said, whole := f.since(at)
		if !whole {
			return ErrSlow
		}
		if len(pending) > 0 {
			if err := s.write(pending...); err != nil {
				return err
			}
			at = last
			continue
		}
		select {
		case <-said:
		case <-idle.C:
			if err := s.write([]byte(": still here\n\n")); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		case <-ending(ctx):
			return nil
		}
	}
}
