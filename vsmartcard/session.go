package vsmartcard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// Serve puts card into the reader at the other end of conn: it answers vpcd's
// frames until the connection or ctx ends. It owns conn and closes it. The
// card is reset when the reader says so and once more at the end, for a card
// that leaves its reader has no power.
//
// Serve returns nil when the reader closed the connection between two frames
// or ctx ended, [io.ErrUnexpectedEOF] when it broke off inside a frame, and
// otherwise what the connection or the card reported. A card that fails a
// command cannot say so in this protocol; the connection is closed, which the
// reader takes for a removed card.
func Serve(ctx context.Context, conn net.Conn, card Card) error {
	return newSession(ctx, conn, card, func() {}).run(ctx)
}

// session is one connection to a reader.
type session struct {
	ctx    context.Context // for the commands in flight
	cancel context.CancelFunc
	conn   net.Conn
	card   Card
	frames frames
	ready  func() // the reader has the ATR of a card that it has powered
	insist bool   // on being noticed, see overlooked

	powered bool
	met     bool // the reader has said something about power
	polls   int  // before it did
	outcome outcome
	gone    chan struct{} // closed when the connection is closed

	mu      sync.Mutex
	ejected bool
	working bool // on a command
}

// outcome says how a session ended.
type outcome int

const (
	readerLeft outcome = iota // or the card was taken away
	cardFailed
	cardOverlooked
)

// pollsBeforePower is how often a reader may look for a card before it powers
// it. Drivers do it twice or three times at once, then at every poll.
const pollsBeforePower = 3

func newSession(ctx context.Context, conn net.Conn, card Card, ready func()) *session {
	ctx, cancel := context.WithCancel(ctx)
	return &session{
		ctx: ctx, cancel: cancel, conn: conn, card: card, ready: ready,
		frames: frames{from: conn, acknowledge: quickAcknowledge(conn)},
		gone:   make(chan struct{}),
	}
}

// run serves until the connection or ctx ends. Ejecting the card ends the
// commands' context but not the connection, which the reader closes.
func (s *session) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	err := s.serve()
	stop()
	s.cancel()
	_ = s.conn.Close()
	close(s.gone)
	if failed := s.card.Reset(); failed != nil && errors.Is(err, io.EOF) {
		err = fmt.Errorf("reset at the end: %w", failed)
	}
	if ctx.Err() != nil || s.isEjected() || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (s *session) serve() error {
	for {
		payload, err := s.frames.next()
		if err != nil {
			return err
		}
		answer, err := s.answer(payload)
		if err != nil {
			return err
		}
		if answer == nil {
			s.frames.acknowledge()
			continue
		}
		if _, err := s.conn.Write(frame(answer)); err != nil {
			return err
		}
		if s.powered && len(payload) == 1 {
			s.ready()
		}
	}
}

// answer does what one frame asks for; a nil answer means that the reader
// expects none.
func (s *session) answer(payload []byte) ([]byte, error) {
	switch len(payload) {
	case 0:
		return nil, nil // no message of the protocol (PCSC-1)
	case 1:
		return s.control(payload[0])
	}
	if !s.begin() {
		return nil, s.drain()
	}
	response, err := s.card.Transmit(s.ctx, append([]byte(nil), payload...))
	if err == nil && (len(response) < 2 || len(response) > frameMax) {
		err = fmt.Errorf("%w: %d bytes", ErrAnswer, len(response))
	}
	if !s.finish(err) {
		return nil, io.EOF // ejected, and the reader knows
	}
	if err != nil {
		return nil, fmt.Errorf("command of %d bytes: %w", len(payload), err)
	}
	return response, nil
}

func (s *session) control(code byte) ([]byte, error) {
	switch code {
	case controlOff, controlOn, controlReset:
		s.powered, s.met = code != controlOff, true
		if err := s.card.Reset(); err != nil {
			return nil, fmt.Errorf("reset: %w", err)
		}
		return nil, nil
	case controlATR:
		if s.isEjected() {
			return nil, s.drain()
		}
		if s.overlooked() {
			s.outcome = cardOverlooked
			endOfStream(s.conn)
			return nil, s.drain()
		}
		if atr := s.card.ATR(); len(atr) > 0 {
			return atr, nil
		}
		return muteATR, nil
	}
	return nil, nil
}

// overlooked tells that the reader takes this card for the one before it, and
// so neither powers it nor shows it to anybody. That happens to a card that is
// there already when vpcd finds out, by anything but a look for a card, that
// the one before has gone. Taking the card away once lets the reader notice.
func (s *session) overlooked() bool {
	if !s.insist || s.met {
		return false
	}
	s.polls++
	return s.polls > pollsBeforePower
}

// begin notes that the card works on a command, unless it is gone.
func (s *session) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.working = !s.ejected
	return s.working
}

// finish notes that it does so no more, tells the reader if it failed, and
// reports whether the card is still there.
func (s *session) finish(failed error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.working = false
	if failed != nil && !s.ejected {
		s.outcome = cardFailed
		fail(s.conn)
	}
	return !s.ejected
}

func (s *session) isEjected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ejected
}

// drain reads until the reader has seen the end of the stream and closes its
// side.
func (s *session) drain() error {
	_, err := io.Copy(io.Discard, s.conn)
	if err == nil {
		err = io.EOF
	}
	return err
}

// fail closes conn so that a reader that waits for an answer takes its command
// for failed. A mere end of the stream would not do: Debian's vpcd 3.3 passes
// it, and an error while it reads the length, on to its clients as an answer
// of no bytes. An error after the length is one for it and for its
// successors.
func fail(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_, _ = tcp.Write([]byte{0, 2})
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// endOfStream closes conn's way out and, where there is no telling when the
// other side has noticed, the way in.
func endOfStream(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		_ = conn.Close()
	}
}

// eject takes the card away from the reader. A command in flight is broken off
// midway; otherwise the reader is noticing at its next poll, and closes the
// connection then.
func (s *session) eject() (midway, noticing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ejected {
		return false, !s.working
	}
	s.ejected = true
	s.cancel()
	if s.working {
		fail(s.conn)
		return true, false
	}
	endOfStream(s.conn)
	return false, true
}
