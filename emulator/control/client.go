package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"sync"
	"time"

	"hsmemu/applet"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/view"
)

// replyPatience is how long a client waits for the reply to a request that takes
// the server no time. A busy machine may hold the server up.
const replyPatience = 5 * time.Second

// workPatience is how long it waits for one that may have to wait for a client
// of the reader, or for a command: key generation takes its time.
const workPatience = 10 * time.Minute

// Client speaks to the process that runs a card. Its methods take turns. When a
// context ends, or the server answers in a way that a client does not know, the
// connection is given up and the card goes on; the next request makes a new one.
type Client struct {
	path string
	// mu is for Close, which does not wait for its turn: conn is changed under it,
	// and not made anew once it is closed.
	mu     sync.Mutex
	conn   net.Conn
	closed bool
	lines  *bufio.Scanner
	// reply is replyPatience.
	reply time.Duration
	// alive reports whether the server has answered on this connection.
	alive bool
	// turn is held by the method whose turn it is; a channel, since who waits for
	// it may give up.
	turn chan struct{}
}

// Dial reaches the process that runs a card at its control socket. Error:
// ErrNobody if there is none.
func Dial(ctx context.Context, path string) (*Client, error) {
	c := &Client{path: path, reply: replyPatience, turn: make(chan struct{}, 1)}
	if err := c.connect(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Client) connect(ctx context.Context) error {
	name, release, err := short(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNobody
	}
	if err != nil {
		return err
	}
	defer release()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", name)
	if errors.Is(err, fs.ErrNotExist) || nobody(err) {
		return ErrNobody
	}
	if err != nil {
		return fmt.Errorf("reach the process that runs the card: %w", err)
	}
	c.lines = bufio.NewScanner(conn)
	c.lines.Buffer(nil, maxLine)
	return c.use(conn)
}

// use makes a connection the client's; nil leaves it without one.
func (c *Client) use(conn net.Conn) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed && conn != nil {
		return errors.Join(net.ErrClosed, conn.Close())
	}
	c.conn = conn
	return nil
}

// Close ends the conversation, also one that has ended, and with it the method
// that may be under way. Methods fail from then on.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.conn == nil {
		return nil
	}
	if err := c.conn.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Eject takes the card out of its reader, and returns when clients can see it.
// Without force it waits for the end of a client's transaction. Errors: ErrInUse,
// ErrHeld.
func (c *Client) Eject(ctx context.Context, force bool) error {
	_, err := ask[none](ctx, c, workPatience, verbEject, forced{force})
	return err
}

// Insert puts an ejected card back, and returns when clients can see it.
func (c *Client) Insert(ctx context.Context) error {
	_, err := ask[none](ctx, c, workPatience, verbInsert, nil)
	return err
}

// Reset resets the card, see [Client.Eject] for force. Errors: ErrEjected, and those of
// Eject.
func (c *Client) Reset(ctx context.Context, force bool) error {
	_, err := ask[none](ctx, c, workPatience, verbReset, forced{force})
	return err
}

// Show describes the card as it is now.
func (c *Client) Show(ctx context.Context) (view.Card, error) {
	return ask[view.Card](ctx, c, c.reply, verbShow, nil)
}

// Transmit has the card execute a command APDU in the session that its clients
// share, through the faults that are set. The card stays with this conversation
// until it ends, has been quiet for a moment, or asks for something else. Errors:
// ErrInUse while a client of the reader has the card, ErrEjected.
func (c *Client) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	answer, _, err := c.Exchange(ctx, command)
	return answer, err
}

// Exchange is Transmit that also tells what observers of the card are told; nil
// where the card failed in the command.
func (c *Client) Exchange(ctx context.Context, command []byte) ([]byte, *view.Event, error) {
	r, err := ask[exchange](ctx, c, workPatience, verbTransmit, exchange{APDU: command})
	return r.APDU, r.Event, err
}

// Restore puts the card into another state; clients see a removal and an
// insertion. It returns what that took back which no card ever takes back, in
// words. Errors: applet.ErrState, without force emulator.ErrForeign and
// emulator.ErrCounted, ErrInUse.
func (c *Client) Restore(ctx context.Context, d chip.Durable, force bool) ([]string, error) {
	r, err := ask[undone](ctx, c, workPatience, verbRestore, restoration{d, force})
	return r.Undone, err
}

// SetFault sets a fault. Error: emulator.ErrFault.
func (c *Client) SetFault(ctx context.Context, f FaultSetting) error {
	_, err := ask[none](ctx, c, c.reply, verbFault, f)
	return err
}

// Faults lists the faults that are set.
func (c *Client) Faults(ctx context.Context) ([]string, error) {
	r, err := ask[faultList](ctx, c, c.reply, verbFaults, nil)
	return r.Faults, err
}

// ClearFaults removes all faults.
func (c *Client) ClearFaults(ctx context.Context) error {
	_, err := ask[none](ctx, c, c.reply, verbClear, nil)
	return err
}

// Watch follows the card from here on. The sequence ends with the context or with
// the process that runs the card, without an error in either case; the client is
// good for nothing else afterwards. Error: ErrBusy.
func (c *Client) Watch(ctx context.Context) (iter.Seq2[view.Event, error], error) {
	if _, err := ask[none](ctx, c, c.reply, verbWatch, nil); err != nil {
		return nil, err
	}
	conn := c.conn
	return func(yield func(view.Event, error) bool) {
		defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
		defer func() { _ = conn.Close() }()
		for {
			e, err := receive[view.Event](c)
			if errors.Is(err, ErrEnded) || ctx.Err() != nil || !yield(e, err) || err != nil {
				return
			}
		}
	}, nil
}

// none is the result of a verb that has none.
type none struct{}

// ask sends a request and reads its reply.
func ask[Result any](ctx context.Context, c *Client, patience time.Duration, do verb, args any) (r Result, err error) {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return r, ctx.Err()
	}
	defer func() { <-c.turn }()
	if err := ctx.Err(); err != nil {
		return r, err
	}
	if c.conn == nil {
		if err := c.connect(ctx); err != nil {
			return r, err
		}
	}
	if patience > c.reply && !c.alive {
		// A process that is stopped takes connections and says nothing.
		if _, err := exchangeLines[faultList](ctx, c, c.reply, verbFaults, nil); err != nil {
			return r, err
		}
		c.alive = true
	}
	return exchangeLines[Result](ctx, c, patience, do, args)
}

// exchangeLines is ask, in turn and with a connection.
func exchangeLines[Result any](ctx context.Context, c *Client, patience time.Duration, do verb, args any) (r Result, err error) {
	conn := c.conn
	defer func() {
		// After these errors the server has hung up, or does not know where it is.
		if err != nil && (!errors.As(err, new(*Error)) || errors.Is(err, ErrBusy) || errors.Is(err, ErrMalformed)) {
			_ = conn.Close()
			c.alive = false
			_ = c.use(nil)
		}
	}()
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// Closing is what ends a wait for a reply that never comes.
	stop := context.AfterFunc(limited, func() { _ = conn.Close() })
	defer stop()
	q := request{Version: Version, Do: do}
	if args != nil {
		if q.Args, err = json.Marshal(args); err != nil {
			return r, err
		}
		defer clear(q.Args)
	}
	line, err := json.Marshal(q)
	if err != nil {
		return r, err
	}
	defer clear(line)
	// A server that is full says so and hangs up before it hears anything: what
	// became of the request is in the reply, or in its absence.
	_, _ = conn.Write(append(line, '\n'))
	r, err = receive[Result](c)
	switch {
	case err == nil:
		return r, nil
	case ctx.Err() != nil:
		return r, ctx.Err()
	case limited.Err() != nil:
		return r, ErrSilent
	}
	return r, err
}

func receive[Result any](c *Client) (r Result, err error) {
	if !c.lines.Scan() {
		if errors.Is(c.lines.Err(), bufio.ErrTooLong) {
			return r, fmt.Errorf("reply %w: a line of more than %d bytes", ErrMalformed, maxLine)
		}
		if err := c.lines.Err(); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
			return r, fmt.Errorf("%w: %w", ErrEnded, err)
		}
		return r, ErrEnded
	}
	// One pass over the line, since a trace has many of them.
	answer := struct {
		reply

		Result *Result `json:"result"`
	}{}
	failed := json.Unmarshal(c.lines.Bytes(), &answer)
	if failed != nil { // what the rest of the line says is said of its result
		var rest reply
		if err := json.Unmarshal(c.lines.Bytes(), &rest); err != nil {
			return r, fmt.Errorf("reply %w: %s", ErrMalformed, jsonWords(err))
		}
		answer.reply = rest
	}
	switch {
	case answer.Version > Version || answer.Version < 1:
		return r, fmt.Errorf("%w: %d, this program speaks %d", ErrVersion, answer.Version, Version)
	case answer.Error != nil:
		return r, answer.Error
	case errors.Is(failed, applet.ErrState):
		return r, failed
	case failed != nil:
		return r, fmt.Errorf("reply %w: %s", ErrMalformed, jsonWords(failed))
	case answer.Result != nil:
		return *answer.Result, nil
	}
	if _, without := any(r).(none); !without {
		return r, fmt.Errorf("reply %w: no result", ErrMalformed)
	}
	return r, nil
}
