package pcscd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"hsmemu/vsmartcard"
)

// foreignPause is how long a client that names somebody else's handle waits
// for the end of its connection (PCSC-9).
const foreignPause = 2 * time.Second

var (
	// errDrop ends a connection that does not keep to the protocol.
	errDrop = errors.New("not the protocol")
	// errHandedOver ends a goroutine whose connection goes on in another.
	errHandedOver = errors.New("handed over")
)

// conn is one connection, with at most one context on it. It is served by one
// goroutine at a time.
type conn struct {
	server *Server
	stream net.Conn
	in     *bufio.Reader
	out    outbox
	client func() vsmartcard.Client
	over   chan struct{}   // closed at the end
	done   <-chan struct{} // closed with the server

	minor   uint32
	handles map[uint32]*handle
	body    [connectSize]byte // of most requests

	// Under the server's lock.
	context  uint32
	fetching bool // registered, but the table that goes with it is not out yet
	owed     bool // an event that came meanwhile
	owedCode Code
}

func newConn(s *Server, stream net.Conn, number int, done <-chan struct{}) *conn {
	c := &conn{
		server: s, stream: stream, in: bufio.NewReader(stream),
		over: make(chan struct{}), done: done,
		minor: minorOldest, handles: make(map[uint32]*handle),
	}
	c.client = sync.OnceValue(func() vsmartcard.Client {
		client := ClientOf(stream)
		client.Connection = number
		return client
	})
	c.out.written.L = &c.out.mu
	return c
}

// run serves requests until the connection ends or another goroutine has taken
// it over.
func (c *conn) run() {
	for {
		err := c.request()
		if errors.Is(err, errHandedOver) {
			return
		}
		if err != nil {
			c.end()
			return
		}
	}
}

// end frees what the client held.
func (c *conn) end() {
	_ = c.stream.Close()
	c.server.leave(c)
	c.release()
	close(c.over)
}

// release gives up all handles.
func (c *conn) release() {
	for n, h := range c.handles {
		h.reader.release(h)
		delete(c.handles, n)
		c.server.unreserve(n)
	}
}

// request reads one request and answers it.
func (c *conn) request() error {
	var header [headerSize]byte
	if _, err := io.ReadFull(c.in, header[:]); err != nil {
		return err
	}
	size, command := binary.NativeEndian.Uint32(header[:]), binary.NativeEndian.Uint32(header[4:])
	want, ok := bodySize(command)
	if !ok || size != want {
		return errDrop
	}
	body := structure(c.body[:min(want, connectSize)])
	if want > connectSize {
		body = make(structure, want)
	}
	if _, err := io.ReadFull(c.in, body); err != nil {
		return err
	}
	return c.dispatch(command, body)
}

// bodySize returns the size of a command's structure (PCSC-12). Commands
// that no client uses are unknown here too.
func bodySize(command uint32) (uint32, bool) {
	switch command {
	case commandEstablish:
		return establishSize, true
	case commandRelease:
		return releaseSize, true
	case commandConnect:
		return connectSize, true
	case commandReconnect:
		return reconnectSize, true
	case commandDisconnect:
		return disconnectSize, true
	case commandBegin:
		return beginSize, true
	case commandEnd:
		return endSize, true
	case commandTransmit:
		return transmitSize, true
	case commandControl:
		return controlSize, true
	case commandStatus:
		return statusSize, true
	case commandCancel:
		return cancelSize, true
	case commandAttribGet, commandAttribSet:
		return attribSize, true
	case commandVersion:
		return versionSize, true
	case commandReaders, commandWait, commandStopWaiting, commandReaderEvents,
		commandReadersLength, commandReadersArray:
		return 0, true
	}
	return 0, false
}

// established reports whether the client has a context.
func (c *conn) established() bool {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	return c.context != 0
}

// payload reads what follows a request's structure.
func (c *conn) payload(length uint32) ([]byte, error) {
	if length > payloadMax {
		return nil, errDrop
	}
	b := make([]byte, length)
	_, err := io.ReadFull(c.in, b)
	return b, err
}

// reply answers with s and, if there is one, a payload.
func (c *conn) reply(s structure, payload []byte) error {
	c.out.put(s)
	if len(payload) > 0 {
		c.out.put(payload)
	}
	return c.out.flush(c.stream)
}

// handle finds one of this connection's own handles. A client that names
// another has gone wrong, or tries numbers, and is let go after a pause; one
// that has given up its context, at once.
func (c *conn) handle(number uint32) (*handle, error) {
	if h, ok := c.handles[number]; ok {
		return h, nil
	}
	if !c.established() {
		return nil, errDrop
	}
	lost, stop := c.watch()
	defer stop()
	t := time.NewTimer(foreignPause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-lost:
	case <-c.done:
	}
	return nil, errDrop
}

// watch finds out if the client goes while its request waits. The function
// returned ends it and must be called before anything more is read.
func (c *conn) watch() (lost <-chan struct{}, stop func()) {
	gone, ended := make(chan struct{}), make(chan struct{})
	c.server.running.Go(func() {
		defer close(ended)
		if _, err := c.in.Peek(1); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			close(gone)
		}
	})
	return gone, func() {
		_ = c.stream.SetReadDeadline(time.Unix(1, 0))
		<-ended
		_ = c.stream.SetReadDeadline(time.Time{})
	}
}
