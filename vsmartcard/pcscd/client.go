package pcscd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// EnvSocket is the environment variable that tells clients where the daemon's
// socket is; DefaultSocket is where they look without it.
const (
	EnvSocket     = "PCSCLITE_CSOCK_NAME"
	DefaultSocket = "/run/pcscd/pcscd.comm"
)

// retryPause lies between attempts at a card that another client holds.
const retryPause = 100 * time.Millisecond

// Client is a client of a PC/SC daemon, this package's or pcsc-lite's own: one
// context with its own connection. Its methods take turns, except that
// [Client.Cancel] interrupts [Client.Wait].
//
// When the context given to a call ends while the daemon owes an answer, the
// connection cannot be used any more; Wait alone takes its request back.
type Client struct {
	path    string
	minor   int
	context uint32

	mu   sync.Mutex
	conn net.Conn
}

// Dial connects to the daemon whose socket is at path; "" stands for the value
// of PCSCLITE_CSOCK_NAME or else the system's daemon. The error is
// [ErrNoService] when none is there.
func Dial(ctx context.Context, path string) (*Client, error) {
	if path == "" {
		path = os.Getenv(EnvSocket)
	}
	if path == "" {
		path = DefaultSocket
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoService, err)
	}
	c, err := Open(ctx, conn, minorNewest)
	if err != nil {
		return nil, err
	}
	c.path = path
	return c, nil
}

// Open starts a client on a connection to a daemon, which it owns from then
// on. It asks for the given minor of protocol version 4 and accepts the older
// one that a daemon may name.
func Open(ctx context.Context, conn net.Conn, minor int) (*Client, error) {
	c := &Client{conn: conn, minor: minor}
	if err := c.greet(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) greet(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		version := make(structure, versionSize)
		version.set(versionMajorAt, versionMajor)
		version.set(versionMinorAt, uint32(c.minor))
		err := c.call(ctx, commandVersion, version, versionCodeAt)
		server := version.number(versionMinorAt)
		if err == nil {
			if version.number(versionMajorAt) != versionMajor || server < minorOldest {
				return fmt.Errorf("%w: protocol version %d.%d", ErrNoService, version.number(versionMajorAt), server)
			}
			c.minor = int(min(server, minorNewest))
			break
		}
		var code Code
		if !errors.As(err, &code) || attempt > 0 || server < minorOldest || server >= uint32(c.minor) {
			return fmt.Errorf("protocol version 4.%d: %w", c.minor, err)
		}
		c.minor = int(server)
	}
	establish := make(structure, establishSize)
	if err := c.call(ctx, commandEstablish, establish, establishCodeAt); err != nil {
		return err
	}
	c.context = establish.number(establishContextAt)
	return nil
}

// Close releases the context, and with it all its handles.
func (c *Client) Close() error { return c.conn.Close() }

// Minor returns the protocol version in use, 4 to 6.
func (c *Client) Minor() int { return c.minor }

// Context returns the daemon's number for this client.
func (c *Client) Context() uint32 { return c.context }

// call exchanges one structure, which is overwritten by the reply, and turns
// the return code in it into an error.
func (c *Client) call(ctx context.Context, command uint32, s structure, codeAt int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.exchange(ctx, command, s, nil, codeAt, -1)
	return err
}

// exchange is call under the lock, with a payload after the request, and one
// after a successful reply whose length the reply has at lengthAt.
func (c *Client) exchange(ctx context.Context, command uint32, s structure, payload []byte, codeAt, lengthAt int) ([]byte, error) {
	defer c.interrupt(ctx)()
	if err := c.send(command, s, payload); err != nil {
		return nil, err
	}
	if err := c.receive(s); err != nil {
		return nil, err
	}
	if code := Code(s.number(codeAt)); code != OK {
		return nil, code
	}
	if lengthAt < 0 {
		return nil, nil
	}
	n := s.number(lengthAt)
	if n > payloadMax {
		return nil, fmt.Errorf("%w: reply of %d bytes", ErrComm, n)
	}
	answer := make(structure, n)
	if err := c.receive(answer); err != nil {
		return nil, err // what has not come is no answer
	}
	return answer, nil
}

// interrupt makes the end of ctx break the exchange that is going on.
func (c *Client) interrupt(ctx context.Context) func() {
	if ctx.Done() == nil {
		return func() {}
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}

func (c *Client) send(command uint32, s structure, payload []byte) error {
	b := make([]byte, headerSize, headerSize+len(s)+len(payload))
	binary.NativeEndian.PutUint32(b, uint32(len(s)))
	binary.NativeEndian.PutUint32(b[4:], command)
	b = append(append(b, s...), payload...)
	if _, err := c.conn.Write(b); err != nil {
		return fmt.Errorf("%w: %w", ErrComm, err)
	}
	return nil
}

func (c *Client) receive(s structure) error {
	if _, err := io.ReadFull(c.conn, s); err != nil {
		return fmt.Errorf("%w: %w", ErrComm, err)
	}
	return nil
}

// Readers returns the readers in the daemon's order.
func (c *Client) Readers(ctx context.Context) ([]ReaderState, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.interrupt(ctx)()
	if c.minor < minorNewest {
		return c.fetch(commandReaders, tableLength*stateSize)
	}
	return c.fetchArray()
}

// ErrSeveralReaders says that a text does not tell one reader from the others.
var ErrSeveralReaders = errors.New("several readers are called so")

// Find returns the name of the reader that is called so, or else of the only one
// whose name contains the text, which is not empty. Errors: ErrUnknownReader, and ErrSeveralReaders,
// which names them.
func (c *Client) Find(ctx context.Context, text string) (string, error) {
	readers, err := c.Readers(ctx)
	if err != nil {
		return "", err
	}
	var fit []string
	for _, r := range readers {
		if r.Name == text {
			return text, nil
		}
		if text != "" && strings.Contains(r.Name, text) {
			fit = append(fit, r.Name)
		}
	}
	switch len(fit) {
	case 0:
		return "", ErrUnknownReader
	case 1:
		return fit[0], nil
	}
	return "", fmt.Errorf("%w: %s", ErrSeveralReaders, strings.Join(fit, ", "))
}

func (c *Client) fetch(command uint32, size int) ([]ReaderState, error) {
	if err := c.send(command, nil, nil); err != nil {
		return nil, err
	}
	b := make(structure, size)
	if err := c.receive(b); err != nil {
		return nil, err
	}
	return readersOf(b), nil
}

func (c *Client) fetchArray() ([]ReaderState, error) {
	if err := c.send(commandReadersLength, nil, nil); err != nil {
		return nil, err
	}
	length := make(structure, readersLengthSize)
	if err := c.receive(length); err != nil {
		return nil, err
	}
	n := length.number(0)
	if n > 1024 {
		return nil, fmt.Errorf("%w: %d readers", ErrComm, n)
	}
	return c.fetch(commandReadersArray, int(n)*stateSize)
}

// Wait returns the readers as soon as changed says yes to them: at once, or
// after any number of changes. When ctx ends it returns [ErrTimeout], and
// [ErrCancelled] after [Client.Cancel]; the client stays usable after both.
func (c *Client) Wait(ctx context.Context, changed func([]ReaderState) bool) ([]ReaderState, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		readers, err := c.register()
		if err != nil {
			return nil, err
		}
		if changed(readers) {
			return readers, c.unregister()
		}
		event := make(structure, waitSize)
		over, err := c.awaitEvent(ctx, event)
		if err != nil {
			return nil, err
		}
		if over {
			if err := c.unregister(); err != nil {
				return nil, err
			}
			return readers, ErrTimeout
		}
		if code := Code(event.number(waitCodeAt)); code != OK {
			return readers, code
		}
	}
}

func (c *Client) register() ([]ReaderState, error) {
	if c.minor < minorNewest {
		return c.fetch(commandWait, tableLength*stateSize)
	}
	if err := c.send(commandWait, nil, nil); err != nil {
		return nil, err
	}
	return c.fetchArray()
}

// unregister also takes the event that may have been under way as its answer.
func (c *Client) unregister() error {
	if err := c.send(commandStopWaiting, nil, nil); err != nil {
		return err
	}
	return c.receive(make(structure, waitSize))
}

// awaitEvent reads the event unless ctx ends before any of it has arrived.
func (c *Client) awaitEvent(ctx context.Context, event structure) (over bool, err error) {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		_ = c.conn.SetReadDeadline(time.Unix(1, 0))
	})
	n, err := io.ReadFull(c.conn, event)
	if !stop() {
		<-stopped
		_ = c.conn.SetReadDeadline(time.Time{})
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
		if n == 0 {
			return true, nil
		}
		return false, c.receive(event[n:])
	}
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrComm, err)
	}
	return false, nil
}

// Cancel ends the Wait of this client from another goroutine. It opens a
// connection of its own, so the client must come from [Dial].
func (c *Client) Cancel(ctx context.Context) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", c.path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoService, err)
	}
	defer func() { _ = conn.Close() }()
	other := &Client{conn: conn}
	cancel := make(structure, cancelSize)
	cancel.set(cancelContextAt, c.context)
	return other.call(ctx, commandCancel, cancel, cancelCodeAt)
}

// ReaderEvents returns how many readers have come and gone; daemons know it
// from minor 5 on.
func (c *Client) ReaderEvents(ctx context.Context) (uint32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.interrupt(ctx)()
	if c.minor < minorEvents {
		return 0, ErrUnsupportedFeature
	}
	if err := c.send(commandReaderEvents, nil, nil); err != nil {
		return 0, err
	}
	events := make(structure, readerEventsSize)
	if err := c.receive(events); err != nil {
		return 0, err
	}
	if code := Code(events.number(readerEventsCodeAt)); code != OK {
		return 0, code
	}
	return events.number(readerEventsAt), nil
}
