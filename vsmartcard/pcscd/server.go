package pcscd

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"hsmemu/vsmartcard/descriptors"
)

// ReadersMax is the number of readers a daemon can have; clients before
// version 4.6 know no more.
const ReadersMax = tableLength

// ClientsMax is the number of clients a daemon can have at a time, as pcscd's
// own. More are hung up on.
const ClientsMax = 200

// The time a card keeps its power when nobody uses it, as readers on USB have
// it (PCSC-25).
const graceDefault = 5 * time.Second

// The errors of a daemon's owner; clients get a [Code].
var (
	// ErrClosed means that the server or the reader has been closed.
	ErrClosed = errors.New("closed")
	// ErrTooManyReaders means that there are [ReadersMax] already.
	ErrTooManyReaders = errors.New("no room for another reader: a daemon has 16 at most")
	// ErrReaderName means that a reader's name is empty, too long, not plain
	// text or taken.
	ErrReaderName = errors.New("unusable reader name")
	// ErrOccupied means that there is a card in the reader already.
	ErrOccupied = errors.New("there is a card in the reader")
	// ErrEmpty means that there is no card in the reader.
	ErrEmpty = errors.New("no card in the reader")
)

// Server is a PC/SC daemon with readers of its own. Its zero value is one
// without readers, ready to serve. All methods may be called from any
// goroutine.
type Server struct {
	// Grace is how long a card that no client uses keeps its power, and with
	// it its login. Zero stands for 5 seconds, as with readers on USB; a
	// negative value for ever. It is set before the first reader.
	Grace time.Duration

	// Random gives the numbers of contexts and handles, 4 bytes each; nil
	// stands for crypto/rand. It is set before the first client.
	Random io.Reader

	running sync.WaitGroup // all goroutines and armed timers

	mu        sync.Mutex
	done      chan struct{} // closed by Close, made by whoever asks first
	closed    bool
	listeners map[net.Listener]bool
	conns     map[*conn]bool
	joined    int // connections so far
	contexts  map[uint32]*conn
	used      map[uint32]bool // numbers of handles
	places    [tableLength]*Reader
	states    [tableLength]ReaderState // what clients see of places
	arrivals  uint32                   // readers that came or went
	waiting   map[*conn]bool
}

// over returns the channel that Close closes. The lock is held.
func (s *Server) over() chan struct{} {
	if s.done == nil {
		s.done = make(chan struct{})
	}
	return s.done
}

// Serve accepts clients from l until the server is closed, and then returns
// [ErrClosed]. It closes l. Any number of listeners can be served.
func (s *Server) Serve(l net.Listener) error {
	defer func() { _ = l.Close() }()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	if s.listeners == nil {
		s.listeners = make(map[net.Listener]bool)
	}
	s.listeners[l] = true
	done := s.over()
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	for {
		stream, err := l.Accept()
		switch {
		case err == nil:
			_, _ = s.join(stream)
		case isClosed(done):
			return ErrClosed
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			// Out of descriptors, or the client gave up: neither lasts.
			pause(done, 10*time.Millisecond)
		}
	}
}

// ServeConn serves one client on a connection that came from elsewhere, and
// returns when it is over.
func (s *Server) ServeConn(stream net.Conn) {
	if c, ok := s.join(stream); ok {
		<-c.over
	}
}

// join makes a client of a connection and serves it, unless the server is
// closed or full.
func (s *Server) join(stream net.Conn) (*conn, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= ClientsMax || descriptors.KeptBack(stream, 0) {
		_ = stream.Close()
		return nil, false
	}
	if s.conns == nil {
		s.conns = make(map[*conn]bool)
		s.contexts = make(map[uint32]*conn)
		s.used = make(map[uint32]bool)
		s.waiting = make(map[*conn]bool)
	}
	s.joined++
	c := newConn(s, stream, s.joined, s.over())
	s.conns[c] = true
	s.running.Go(c.run)
	return c, true
}

// leave forgets a client.
func (s *Server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	delete(s.waiting, c)
	s.forget(c)
}

// forget gives up a client's context. The lock is held.
func (s *Server) forget(c *conn) {
	if c.context != 0 {
		delete(s.contexts, c.context)
		c.context = 0
	}
}

// Close takes all cards out, drops all clients and returns when everything
// that the server started has ended, which includes commands that a card is
// still working on.
func (s *Server) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.over())
	}
	for l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.conns {
		_ = c.stream.Close()
	}
	places := s.places
	s.mu.Unlock()
	for _, r := range places {
		if r != nil {
			r.Close()
		}
	}
	s.running.Wait()
	return nil
}

// Add connects a reader without a card in it.
func (s *Server) Add(about Description) (*Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if err := checkName(about.Name); err != nil {
		return nil, err
	}
	free := -1
	for i, other := range s.places {
		switch {
		case other != nil && other.about.Name == about.Name:
			return nil, fmt.Errorf("%w: %q is taken", ErrReaderName, about.Name)
		case other == nil && free < 0:
			free = i
		}
	}
	if free < 0 {
		return nil, ErrTooManyReaders
	}
	r := newReader(s, free, about)
	s.places[free] = r
	s.states[free] = r.state
	s.arrivals++
	s.notifyAll()
	return r, nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrReaderName)
	case len(name) > nameMax:
		return fmt.Errorf("%w: %d bytes, at most %d", ErrReaderName, len(name), nameMax)
	case strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == 0x7F }):
		return fmt.Errorf("%w: %q", ErrReaderName, name)
	}
	return nil
}

// drop takes a reader out of the list.
func (s *Server) drop(r *Reader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.places[r.place], s.states[r.place] = nil, ReaderState{}
	s.arrivals++
	s.notifyAll()
}

// find returns the reader of that name.
func (s *Server) find(name string) *Reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.places {
		if r != nil && r.about.Name == name {
			return r
		}
	}
	return nil
}

// publish shows clients a reader's new state, and wakes those that wait if it
// differs in anything they wait for, or if there is news of another kind.
func (s *Server) publish(r *Reader, state ReaderState, news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.places[r.place] != r {
		return
	}
	old := s.states[r.place]
	s.states[r.place] = state
	if news || old.State != state.State || old.Events != state.Events || old.Sharing != state.Sharing {
		s.notifyAll()
	}
}

// notifyAll wakes all clients that wait. The lock is held.
func (s *Server) notifyAll() {
	for c := range s.waiting {
		s.notify(c, OK)
	}
}

// notify ends a client's registration with its one event, or puts that off
// while the client still reads the table that goes with the registration
// (PCSC-15). The lock is held.
func (s *Server) notify(c *conn, code Code) {
	if c.fetching {
		if !c.owed || code != OK {
			c.owed, c.owedCode = true, code
		}
		return
	}
	delete(s.waiting, c)
	event := make(structure, waitSize)
	event.set(waitCodeAt, uint32(code))
	c.out.put(event)
	if !s.closed {
		s.running.Go(func() { _ = c.out.flush(c.stream) })
	}
}

// establish gives a client its context number, a new one if it has one.
func (s *Server) establish(c *conn) (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.number(func(n uint32) bool { return s.contexts[n] == nil })
	if err != nil {
		return 0, err
	}
	s.forget(c)
	c.context = n
	s.contexts[n] = c
	return n, nil
}

// reserve finds a number for a new handle.
func (s *Server) reserve() (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.number(func(n uint32) bool { return !s.used[n] })
	if err == nil {
		s.used[n] = true
	}
	return n, err
}

// unreserve gives a handle's number back.
func (s *Server) unreserve(n uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.used, n)
}

// number draws numbers of 31 bits other than 0 until one is free.
func (s *Server) number(free func(uint32) bool) (uint32, error) {
	from := s.Random
	if from == nil {
		from = rand.Reader
	}
	var b [4]byte
	for {
		if _, err := io.ReadFull(from, b[:]); err != nil {
			return 0, ErrUnsupportedFeature
		}
		if n := binary.BigEndian.Uint32(b[:]) & 0x7FFFFFFF; n != 0 && free(n) {
			return n, nil
		}
	}
}

// isClosed reports whether done is.
func isClosed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// pause waits for d or until done is closed.
func pause(done <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-done:
	}
}
