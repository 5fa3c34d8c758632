// Package control is a card that is running in a reader, from outside of the
// card: taking it out, resetting it, letting it fail, watching it, and giving it
// another state. A process that runs a card serves all of that at a control
// socket, for other processes of the same user.
//
//	running := control.New("alice", card, file)
//	… put running.Faults into a reader, which becomes running.Reader …
//	wait, err := running.Serve(ctx, socket)
//
//	c, err := control.Dial(ctx, socket)
//	err = c.Eject(ctx, false)
//
// The package knows no command line and no names of files.
package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/vsmartcard"
	"hsmemu/vsmartcard/descriptors"
	"hsmemu/vsmartcard/pcscd"
)

// Limits of a control socket.
const (
	// maxTalks and maxTraces are how many can talk to a card at a time, and how
	// many of them can follow it.
	maxTalks  = 200
	maxTraces = 16
	// turnPatience is how long a request waits for the end of a client's
	// transaction.
	turnPatience = 5 * time.Second
	// quiet is how long a conversation keeps clients of the reader from the card
	// after its last command.
	quiet = 2 * time.Second
	// acceptPause is how long the socket waits after a failure.
	acceptPause = 20 * time.Millisecond
)

// Serve listens at a path until the context ends. The caller holds the card, so
// a socket left over there from an earlier process is nobody's. When Serve
// returns, wait returns when the last conversation is over.
func (c *Card) Serve(ctx context.Context, path string) (wait func(), err error) {
	listener, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	// The one who asks for this fault comes through the socket.
	c.Faults.Remove = func() { _ = c.eject(ctx, true) } // a reader that has ended holds no card
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := listener.Accept()
			switch {
			case errors.Is(err, net.ErrClosed):
				return
			case err != nil: // no room for another open file, say; that passes
				t := time.NewTimer(acceptPause)
				<-t.C
				continue
			}
			if c.talking.Load() >= maxTalks || descriptors.KeptBack(conn, 0) {
				_ = json.NewEncoder(conn).Encode(reply{Version: Version, Error: coded(ErrBusy)})
				_ = conn.Close()
				continue
			}
			c.talking.Add(1)
			open.Go(func() {
				defer c.talking.Add(-1)
				c.talk(ctx, conn)
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

func listen(path string) (net.Listener, error) {
	name, release, err := short(path)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", name)
	if err != nil {
		return nil, err
	}
	// The name under which it was made is gone by the time it is closed.
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// talk works off the requests of one connection.
func (c *Card) talk(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	ctx = vsmartcard.WithClient(ctx, sync.OnceValue(func() vsmartcard.Client { return pcscd.ClientOf(conn) }))
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, maxLine)
	answers := json.NewEncoder(conn)
	said := &conversation{Card: c}
	said.mu.Lock() // on a busy machine it may come to an end before it is written down
	said.pause = time.AfterFunc(quiet, said.end)
	said.mu.Unlock()
	defer said.end()
	for lines.Scan() {
		var q request
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			_ = answers.Encode(answered(nil, fmt.Errorf("request %w: %s", ErrMalformed, jsonWords(err))))
			return
		}
		if q.Do == verbWatch && q.Version == Version {
			said.end()
			stop() // it has something left to say at the end
			c.watch(ctx, conn, lines)
			return
		}
		err := answers.Encode(answered(said.answer(ctx, q)))
		clear(lines.Bytes()) // a state has keys
		if err != nil {
			return
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		_ = answers.Encode(answered(nil, fmt.Errorf("request %w: a line of more than %d bytes", ErrMalformed, maxLine)))
	}
}

// answered is the reply that carries a result or an error.
func answered(result any, err error) reply {
	r := reply{Version: Version}
	if err == nil && result != nil {
		r.Result, err = json.Marshal(result)
	}
	if err != nil {
		r.Error = coded(err)
	}
	return r
}

// conversation is one connection to the control socket. Its commands to the card
// follow each other in one turn, lest a client of the reader come between those
// that store a key, say.
type conversation struct {
	*Card
	mu    sync.Mutex
	turn  Turn        // nil while it has none
	pause *time.Timer // ends it
}

// end ends the turn that the conversation may have.
func (c *conversation) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop()
}

func (c *conversation) drop() {
	c.pause.Stop()
	if c.turn != nil {
		c.turn.End()
		c.turn = nil
	}
}

// take makes it the conversation's turn, with a card that has power.
func (c *conversation) take(ctx context.Context) error {
	c.pause.Stop()
	if c.turn != nil && c.turn.Power() == nil {
		return nil
	}
	c.drop()
	t, err := c.waitTurn(ctx)
	if err != nil {
		return err
	}
	c.turn = t
	if c.stay.Load() == nil {
		return ErrEjected
	}
	return t.Power()
}

func (c *conversation) answer(ctx context.Context, q request) (any, error) {
	if q.Do != verbTransmit {
		c.end() // it may wait for a turn of its own
	}
	if q.Version != Version {
		return nil, &Error{CodeVersion, fmt.Sprintf("request of version %d: this process speaks version %d", q.Version, Version)}
	}
	switch q.Do {
	case verbEject:
		args, err := unmarshal[forced](q.Args)
		if err != nil {
			return nil, err
		}
		return nil, c.eject(ctx, args.Force)
	case verbInsert:
		return nil, c.Insert(ctx)
	case verbReset:
		args, err := unmarshal[forced](q.Args)
		if err != nil {
			return nil, err
		}
		return nil, c.reset(ctx, args.Force)
	case verbShow:
		return c.Show(), nil
	case verbTransmit:
		args, err := unmarshal[exchange](q.Args)
		if err != nil {
			return nil, err
		}
		return c.transmit(ctx, args.APDU)
	case verbRestore:
		args, err := unmarshal[restoration](q.Args)
		if err != nil {
			return nil, err
		}
		return c.restore(ctx, args)
	case verbFault:
		args, err := unmarshal[FaultSetting](q.Args)
		if err != nil {
			return nil, err
		}
		return nil, c.Faults.Set(args.Name, args.Settings)
	case verbFaults:
		return faultList{c.Faults.List()}, nil
	case verbClear:
		c.Faults.Clear()
		return nil, nil
	}
	return nil, &Error{CodeVerb, fmt.Sprintf("request %q not known", q.Do)}
}

// transmit gives the card a command as its reader does: through the faults, and
// as long as the card is in.
func (c *conversation) transmit(ctx context.Context, command []byte) (exchange, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.take(ctx); err != nil {
		c.drop()
		return exchange{}, err
	}
	defer c.pause.Reset(quiet)
	in := c.stay.Load()
	if in == nil {
		return exchange{}, ErrEjected
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(in.ctx, cancel)()
	events, stop := c.Card.Card.Watch(1)
	defer stop()
	before := c.Card.Card.Snapshot()
	answer, err := port{c.Card}.Transmit(ctx, command)
	if loggedOut(before, c.Card.Card.Snapshot()) {
		c.turn.Tell()
	}
	if in.ctx.Err() != nil {
		return exchange{}, ErrEjected // whatever became of the command
	}
	x := exchange{APDU: answer}
	select {
	case e := <-events:
		x.Event = new(EventOf(e))
		if e.Kind != emulator.Did {
			x.Event = nil // a fault answered
		}
	default: // the card did not see the command, or failed in it
	}
	return x, err
}

// loggedOut reports whether somebody was logged in before and is no more. Public
// keys that were not enough for a login are none.
func loggedOut(before, after chip.State) bool {
	was, is := before.Applet.Login, after.Applet.Login
	return was.User && !is.User || was.PIN && !is.PIN || was.SO && !is.SO
}

// watch sends an event for everything that happens to the card until the other
// side hangs up, or the context ends and it has been told what had happened by then.
func (c *Card) watch(ctx context.Context, conn net.Conn, lines *bufio.Scanner) {
	out := bufio.NewWriter(conn)
	answers := json.NewEncoder(out)
	say := func(r reply) error { return errors.Join(answers.Encode(r), out.Flush()) }
	defer c.traces.Add(-1)
	if c.traces.Add(1) > maxTraces {
		_ = say(answered(nil, &Error{CodeBusy, "too many are following this card"}))
		return
	}
	// One that does not listen holds up neither the end of the process nor, since
	// closing the connection wakes the reader below, that of this function.
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastWords, func() { _ = conn.Close() }) })()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for lines.Scan() { // until the other side hangs up
		}
		cancel()
	}()
	batches := Follow(ctx, c)
	if say(reply{Version: Version}) != nil { // watching from here on
		cancel()
	}
	for batch := range batches {
		for _, e := range batch {
			if answers.Encode(report{Version, e.Event}) != nil {
				return
			}
		}
		if out.Flush() != nil {
			return
		}
	}
}
