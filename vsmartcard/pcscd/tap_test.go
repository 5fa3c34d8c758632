package pcscd_test

import (
	"encoding/binary"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tap notes what passes over the connections of a listener.
type tap struct {
	net.Listener

	mu      sync.Mutex
	entries []entry
	clients []*tapped
}

// entry is some bytes of connection n in one direction, or an act of the
// test's ('!').
type entry struct {
	n    int
	way  byte
	data []byte
}

func (l *tap) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &tapped{Conn: conn, tap: l, n: len(l.clients) + 1}
	l.clients = append(l.clients, c)
	return c, nil
}

// note adds to the record; what follows in the same direction is one entry
// with it.
func (l *tap) note(n int, way byte, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(data) == 0 {
		return
	}
	if k := len(l.entries); k > 0 && way != '!' && l.entries[k-1].n == n && l.entries[k-1].way == way {
		l.entries[k-1].data = append(l.entries[k-1].data, data...)
		return
	}
	l.entries = append(l.entries, entry{n, way, append([]byte(nil), data...)})
}

// recorded returns what has passed so far.
func (l *tap) recorded() []entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]entry(nil), l.entries...)
}

// tapped is one connection.
type tapped struct {
	net.Conn
	tap *tap
	n   int

	rest []byte // of the client's requests, not yet taken apart
	last uint32 // the last command of which all has come
	said int    // bytes to the client since
}

func (c *tapped) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.tap.note(c.n, '>', b[:n])
	c.tap.mu.Lock()
	defer c.tap.mu.Unlock()
	c.rest = append(c.rest, b[:n]...)
	for len(c.rest) >= 8 {
		size, command := int(binary.NativeEndian.Uint32(c.rest)), binary.NativeEndian.Uint32(c.rest[4:])
		if size > 1000 || len(c.rest) < 8+size {
			break
		}
		body := c.rest[8 : 8+size]
		switch command {
		case 0x09:
			size += int(binary.NativeEndian.Uint32(body[12:]))
		case 0x0A:
			size += int(binary.NativeEndian.Uint32(body[8:]))
		}
		if len(c.rest) < 8+size {
			break
		}
		c.rest = c.rest[8+size:]
		c.last, c.said = command, 0
	}
	return n, err
}

func (c *tapped) Write(b []byte) (int, error) {
	c.tap.note(c.n, '<', b)
	c.tap.mu.Lock()
	c.said += len(b)
	c.tap.mu.Unlock()
	return c.Conn.Write(b)
}

// registered are the commands after which a client may wait for an event, with the
// sizes of their replies: more than that is the event.
var registered = map[uint32]int{0x13: 2944, 0x15: 8, 0x17: 2944}

// settled waits until the last client to come waits itself: for an event. What
// it has asked for before says so only if nothing follows, hence the pause.
func (l *tap) settled(t testing.TB) {
	t.Helper()
	ctx := soon(t)
	for {
		before := len(l.recorded())
		timer := time.NewTimer(250 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			require.Fail(t, "the client does not wait")
		}
		l.mu.Lock()
		waits := false
		if n := len(l.clients); n > 0 {
			last := l.clients[n-1]
			size, may := registered[last.last]
			waits = may && last.said <= size
		}
		same := len(l.entries) == before
		l.mu.Unlock()
		if same && waits {
			return
		}
	}
}

// SyscallConn lets the server ask who the client is.
func (c *tapped) SyscallConn() (syscall.RawConn, error) {
	return c.Conn.(syscall.Conn).SyscallConn()
}
