package pcscd_test

import (
	"bytes"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard/pcscd"
)

// Shows PCSC-9.
func TestHostile_RequestsEndTheirConnection(t *testing.T) {
	t.Parallel()
	for name, b := range map[string][]byte{
		"no such command":            join(word(0), word(0x18)),
		"command 0":                  join(word(0), word(0)),
		"command 3, which is unused": join(word(0), word(0x03)),
		"command C, which is unused": join(word(0), word(0x0C)),
		"command E, which is unused": join(word(0), word(0x0E)),
		"last command":               join(word(0), word(-1)),
		"size too small":             join(word(8), word(0x01), make([]byte, 8)),
		"size too large":             join(word(13), word(0x01), make([]byte, 13)),
		"size of everything":         join(word(-1), word(0x04)),
		"size where there is none":   join(word(4), word(0x12), make([]byte, 4)),
		"payload too long":           join(word(32), word(0x09), word(1), word(2), word(16), word(65549), make([]byte, 16)),
		"payload of everything":      join(word(32), word(0x09), word(1), word(2), word(16), word(-1), make([]byte, 16)),
		"control payload too long":   join(word(24), word(0x0A), word(1), word(2), word(65549), make([]byte, 12)),
		"text":                       []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
	} {
		s := newService(t)
		w := wire{t, s.raw()}
		_, err := w.conn.Write(b)
		require.NoError(t, err, name)
		w.dropped()
		s.connect(s.client()) // the others are served
	}
}

func TestHostile_NamesWithoutAnEnd(t *testing.T) {
	t.Parallel()
	s := newService(t)
	w := wire{t, s.raw()}
	number := w.establish(4)
	for _, name := range []string{"", strings.Repeat("x", 128), name0 + "x", name0[1:], "\xFF\xFE", "%s%n"} {
		got := w.call(0x04, w.connectBody(number, name, 2, 3))
		require.Equal(t, pcscd.ErrUnknownReader, codeAt(got, 148), "%q", name)
	}
}

// Half a message holds nothing but its own connection, and leaves what the
// client had when it breaks off.
func TestHostile_HalfMessages(t *testing.T) {
	t.Parallel()
	s := newService(t)
	c := s.client()
	full := func(h int) []byte {
		return join(word(32), word(0x09), word(h), word(2), word(16), word(4), word(3), word(16), word(258), word(0), []byte{0, 0x84, 0, 0})
	}
	for n := range full(0) {
		w := wire{t, s.raw()}
		h := w.handle(name0)
		_, err := w.conn.Write(full(h)[:n])
		require.NoError(t, err)
		require.EqualValues(t, 1, s.state(c).Sharing)
		require.NoError(t, w.conn.Close())
		s.until(c, sharing(0))
	}
	require.Empty(t, s.card.seen(), "half a command is none")
}

func TestHostile_BytesInPieces(t *testing.T) {
	t.Parallel()
	s := newService(t)
	w := wire{t, s.raw()}
	h := w.handle(name0)
	for _, b := range join(word(32), word(0x09), word(h), word(2), word(16), word(4), word(3), word(16), word(258), word(0), []byte{0, 0x84, 0, 0}) {
		_, err := w.conn.Write([]byte{b})
		require.NoError(t, err)
	}
	require.Equal(t, word(0), w.read(32)[28:])
	require.Equal(t, []byte{0x6A, 0x82}, w.read(2))
}

func TestHostile_RequestsAllAtOnce(t *testing.T) {
	t.Parallel()
	s := newService(t)
	w := wire{t, s.raw()}
	_, err := w.conn.Write(bytes.Repeat(join(word(0), word(0x15)), 100))
	require.NoError(t, err)
	for range 100 {
		require.Equal(t, join(word(1), word(0)), w.read(8))
	}
}

func TestServer_ManyConnections(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const n = 150
	var conns []net.Conn
	for range n {
		conns = append(conns, s.raw())
	}
	var all sync.WaitGroup
	failures := make(chan error, n)
	for i, conn := range conns {
		all.Go(func() {
			c, err := pcscd.Open(soon(t), conn, 4+i%3)
			if err != nil {
				failures <- err
				return
			}
			h, err := c.Connect(soon(t), name0, pcscd.Shared, pcscd.T1)
			if err != nil {
				failures <- err
				return
			}
			if _, err := h.Transmit(soon(t), []byte{0, 0x84, byte(i >> 8), byte(i)}); err != nil {
				failures <- err
			}
		})
	}
	all.Wait()
	close(failures)
	for err := range failures {
		require.NoError(t, err)
	}
	require.Len(t, s.card.seen(), n)
	c := s.client()
	require.EqualValues(t, n, s.state(c).Sharing)
	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
	s.until(c, sharing(0))
}

func TestServer_ManyTransactions(t *testing.T) {
	t.Parallel()
	s := newService(t)
	var inside, most, total int // guarded by the transactions themselves
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			h := s.connect(s.clientOf(4 + i%3))
			for range 20 {
				if err := h.Begin(soon(t)); err != nil {
					t.Error(err)
					return
				}
				inside++
				most = max(most, inside)
				total++
				if _, err := h.Transmit(soon(t), []byte{0, 0x84, 0, 0}); err != nil {
					t.Error(err)
				}
				inside--
				if err := h.End(soon(t), pcscd.Leave); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	require.Equal(t, 1, most)
	require.Equal(t, 160, total)
}
