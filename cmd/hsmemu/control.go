package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/view"
	"hsmemu/vsmartcard"
)

// reader is what a process that runs a card can do with it from outside the
// card: take it out of its reader and put it in again. Both return when clients
// can see the effect.
type reader interface {
	Eject(context.Context) error
	Insert(context.Context) error
	// Reset resets the card as its reader would.
	Reset() error
	// Place says where the card is, for people.
	Place() string
	// Turn waits until no client has the card in a transaction, as long as ctx,
	// and keeps clients from it; the error names the client that has it.
	Turn(context.Context) (turn, error)
}

// turn is a card that clients are kept from.
type turn interface {
	// Tell tells clients that their logins are over, as a reset does.
	Tell()
	// End lets clients go on.
	End()
}

// request is one line from a command to the process that runs a card.
type request struct {
	Do string `json:"do"`
	// APDU is a command in hexadecimal, for transmit.
	APDU string `json:"apdu,omitempty"`
	// Words are a fault and its settings.
	Words []string `json:"words,omitempty"`
	// State is a whole card, for restore.
	State json.RawMessage `json:"state,omitempty"`
	// Force is for a restore of a card with a counter, and for taking a card out
	// or resetting it whoever uses it.
	Force bool `json:"force,omitempty"`
}

// The verbs of a request.
const (
	doEject  = "eject"
	doInsert = "insert"
	doReset  = "reset"
	doShow   = "show"
	doTrace  = "trace"
	// doTransmit sends a command in the session that the card's clients share.
	doTransmit = "transmit"
	doRestore  = "restore"
	doFault    = "fault"
	doFaults   = "faults"
	doClear    = "clear"
)

// maxRequest is the length of the longest line, more than the longest command
// APDU takes in hexadecimal, and more than a full card.
const maxRequest = 1 << 20

// reply is one line back. A trace has one for every command of the card.
type reply struct {
	Error string `json:"error,omitempty"`
	// Counted tells that the error is emulator.ErrCounted.
	Counted bool       `json:"counted,omitempty"`
	View    *view.Card `json:"view,omitempty"`
	Trace   string     `json:"trace,omitempty"`
	APDU    string     `json:"apdu,omitempty"`
	Lines   []string   `json:"lines,omitempty"`
}

// errNobody says that no process runs the card.
var errNobody = errors.New("no process runs this card")

// controlSuffix ends the name of a card's control socket.
const controlSuffix = ".sock"

// short gives a name for a path that fits into a socket address however long
// the path is: Linux shows an open folder under a short name. The folder has to
// stay open while the name is used.
func short(path string) (name string, release func(), err error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	release = func() { _ = dir.Close() } // nothing was written through it
	name = fmt.Sprintf("/proc/self/fd/%d", dir.Fd())
	if _, err := os.Stat(name); err != nil {
		return path, release, nil
	}
	return filepath.Join(name, filepath.Base(path)), release, nil
}

func (a *app) controlPath(card string) (string, error) {
	path, err := a.path(card)
	if err != nil {
		return "", err
	}
	return path[:len(path)-len(cardSuffix)] + controlSuffix, nil
}

// control serves the requests for one running card until the context ends.
type control struct {
	app    *app
	held   *held
	reader reader

	ejected atomic.Bool
	traces  atomic.Int32
}

// serve listens on the control socket. The card's file is held by this
// process, so a socket left over from an earlier one is nobody's. When serve
// returns, wait tells that the last conversation is over.
func (s *control) serve(ctx context.Context) (wait func(), err error) {
	path, err := s.app.controlPath(s.held.name)
	if err != nil {
		return nil, err
	}
	name, release, err := short(path)
	if err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	defer release()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	listener, err := net.Listen("unix", name)
	if err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	// The name under which it was made is gone by the time it is closed.
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("open the control socket: %w", err), listener.Close())
	}
	// The one who asks for this fault comes through the socket.
	s.held.faults.Remove = func() { s.answer(ctx, request{Do: doEject, Force: true}) }
	var open sync.WaitGroup
	var talking atomic.Int32
	open.Go(func() {
		for {
			conn, err := listener.Accept()
			switch {
			case errors.Is(err, net.ErrClosed):
				return
			case err != nil: // no room for another open file, say; that passes
				<-time.After(acceptPause)
				continue
			}
			if talking.Load() >= maxTalks || vsmartcard.KeptBack(conn) {
				_ = json.NewEncoder(conn).Encode(reply{Error: "too many are talking to this card"})
				_ = conn.Close()
				continue
			}
			talking.Add(1)
			open.Go(func() {
				defer talking.Add(-1)
				s.talk(ctx, conn)
			})
		}
	})
	// It ends Accept; nothing else can be done about its error.
	ended := context.AfterFunc(ctx, func() { _ = listener.Close() })
	return func() {
		ended()
		_ = listener.Close()
		_ = os.Remove(path) // here, because the next process may own it as soon as this one gives the card back
		open.Wait()
	}, nil
}

// maxTalks and maxTraces are how many can talk to a card at a time, and how many
// of them can follow it.
const (
	maxTalks  = 200
	maxTraces = 16
)

// turnPatience is how long a request waits for the end of a client's
// transaction.
const turnPatience = 5 * time.Second

// acceptPause is how long the control socket waits after a failure.
const acceptPause = 20 * time.Millisecond

// talk works off the requests of one connection.
func (s *control) talk(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, maxRequest)
	answers := json.NewEncoder(conn)
	for lines.Scan() {
		var q request
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			_ = answers.Encode(reply{Error: "request not understood"})
			return
		}
		if q.Do == doTrace {
			s.trace(ctx, lines, answers)
			return
		}
		if answers.Encode(s.answer(ctx, q)) != nil {
			return
		}
	}
}

func (s *control) answer(ctx context.Context, q request) reply {
	var err error
	switch q.Do {
	case doEject:
		err = s.inTurn(ctx, q.Force, func(turn) error {
			s.ejected.Store(true)
			return s.reader.Eject(ctx)
		})
	case doInsert:
		s.ejected.Store(false)
		err = s.reader.Insert(ctx)
	case doReset:
		err = s.inTurn(ctx, q.Force, func(turn) error { return s.reader.Reset() })
	case doShow:
		now := s.held.card.Snapshot()
		v := view.Of(s.held.name, now.Durable(), s.held.file.Seal(), s.held.file.Generation())
		v = v.Runs(os.Getpid(), s.reader.Place(), s.ejected.Load(), now)
		return reply{View: &v}
	case doFault, doFaults, doClear:
		return s.fault(q)
	case doRestore:
		return s.restore(ctx, q.State, q.Force)
	case doTransmit:
		return s.transmit(ctx, q.APDU)
	default:
		err = fmt.Errorf("request %q not known", q.Do)
	}
	return failed(err)
}

// failed is the reply for an error, or for none.
func failed(err error) reply {
	if err == nil {
		return reply{}
	}
	return reply{Error: err.Error(), Counted: errors.Is(err, emulator.ErrCounted)}
}

// inTurn does something to the card when no client of its reader has it in a
// transaction or for itself; at once if force says so.
func (s *control) inTurn(ctx context.Context, force bool, do func(turn) error) error {
	if force {
		return do(nil)
	}
	patient, cancel := context.WithTimeout(ctx, turnPatience)
	defer cancel()
	t, err := s.reader.Turn(patient)
	if err != nil {
		return err
	}
	defer t.End()
	return do(t)
}

func (s *control) transmit(ctx context.Context, text string) reply {
	command, err := hex.DecodeString(text)
	if err != nil {
		return reply{Error: "not a command in hexadecimal digits"}
	}
	var answer []byte
	err = s.inTurn(ctx, false, func(t turn) (err error) {
		before := s.held.card.Snapshot()
		answer, err = s.held.card.Transmit(ctx, command)
		if loggedOut(before, s.held.card.Snapshot()) {
			t.Tell()
		}
		return err
	})
	if err != nil {
		return failed(err)
	}
	return reply{APDU: hex.EncodeToString(answer)}
}

// loggedOut reports whether somebody was logged in before and is no more.
func loggedOut(before, after chip.State) bool {
	was, is := before.Applet.Login, after.Applet.Login
	return was.User && !is.User || was.PIN && !is.PIN || was.SO && !is.SO || was.Keys > is.Keys
}

// traceBuffer is how many commands a slow observer may lag behind.
const traceBuffer = 4096

// trace sends a line for every command until the other side hangs up.
func (s *control) trace(ctx context.Context, lines *bufio.Scanner, answers *json.Encoder) {
	defer s.traces.Add(-1)
	if s.traces.Add(1) > maxTraces {
		_ = answers.Encode(reply{Error: "too many are following this card"})
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for lines.Scan() { // until the other side hangs up
		}
		cancel()
	}()
	events, stop := s.held.card.Watch(traceBuffer)
	defer stop()
	if answers.Encode(reply{}) != nil { // watching from here on
		return
	}
	for {
		select {
		case e := <-events:
			if answers.Encode(reply{Trace: traceLine(e)}) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// dial reaches the process that runs a card; errNobody if there is none.
func (a *app) dial(ctx context.Context, card string) (net.Conn, error) {
	path, err := a.controlPath(card)
	if err != nil {
		return nil, err
	}
	name, release, err := short(path)
	if err != nil {
		return nil, err
	}
	defer release()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, errNobody
	}
	return conn, err
}

// ask sends one request to the process that runs a card.
func (a *app) ask(ctx context.Context, card string, q request) (reply, error) {
	conn, err := a.dial(ctx, card)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := json.NewEncoder(conn).Encode(q); err != nil {
		return reply{}, err
	}
	var r reply
	if err := json.NewDecoder(conn).Decode(&r); err != nil {
		return reply{}, fmt.Errorf("the process that runs the card ended: %w", err)
	}
	switch {
	case r.Counted:
		return reply{}, emulator.ErrCounted
	case r.Error != "":
		return reply{}, errors.New(r.Error)
	}
	return r, nil
}
