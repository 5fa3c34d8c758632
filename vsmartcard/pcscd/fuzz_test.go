package pcscd_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard/pcscd"
)

// played is a connection that plays bytes and keeps what comes back.
type played struct {
	in  io.Reader
	out bytes.Buffer
}

func (p *played) Read(b []byte) (int, error)       { return p.in.Read(b) }
func (p *played) Write(b []byte) (int, error)      { return p.out.Write(b) }
func (p *played) Close() error                     { return nil }
func (p *played) LocalAddr() net.Addr              { return nil }
func (p *played) RemoteAddr() net.Addr             { return nil }
func (p *played) SetDeadline(time.Time) error      { return nil }
func (p *played) SetReadDeadline(time.Time) error  { return nil }
func (p *played) SetWriteDeadline(time.Time) error { return nil }

// counting gives 1, 2, 3 and so on for numbers.
type counting struct{ n uint32 }

func (c *counting) Read(b []byte) (int, error) {
	c.n++
	return copy(b, binary.BigEndian.AppendUint32(nil, c.n)), nil
}

// fuzzed is a server whose first context is 1 and first handle 2.
func fuzzed(t *testing.T) (*pcscd.Server, *pcscd.Reader, *fake) {
	t.Helper()
	s := &pcscd.Server{Random: &counting{}, Grace: -1}
	about := pcscd.NitrokeyHSM("DENK01234560000", 0)
	about.NoRaw = false // more ways to the card
	r, err := s.Add(about)
	require.NoError(t, err)
	card := newFake()
	require.NoError(t, r.Insert(card))
	return s, r, card
}

func frame(command int, body ...[]byte) []byte {
	b := join(body...)
	return join(word(len(b)), word(command), b)
}

// sizes of the replies to each command of that many bytes; -1: as the request.
var sizes = map[uint32][2]int{
	0x01: {12, -1}, 0x02: {8, -1}, 0x04: {152, -1}, 0x05: {24, -1}, 0x06: {12, -1}, 0x07: {8, -1},
	0x08: {12, -1}, 0x09: {32, -1}, 0x0A: {24, -1}, 0x0B: {8, -1}, 0x0D: {8, -1}, 0x0F: {280, -1},
	0x10: {280, -1}, 0x11: {12, -1}, 0x12: {0, 2944}, 0x13: {0, 2944}, 0x14: {0, 8}, 0x15: {0, 8},
	0x16: {0, 4}, 0x17: {0, 2944},
}

// FuzzFrames feeds any bytes to a connection that has no context: as much is
// answered as there are well-formed requests, and nothing after them.
func FuzzFrames(f *testing.F) {
	f.Add(frame(0x11, word(4), word(4), word(0)))
	f.Add(join(frame(0x11, word(4), word(6), word(0)), frame(0x13), frame(0x16), frame(0x17), frame(0x14), frame(0x14)))
	f.Add(join(frame(0x12), frame(0x13), frame(0x13), frame(0x14), frame(0x15), frame(0x0D, word(1), word(0))))
	f.Add(frame(0x09, make([]byte, 32)))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, in []byte) {
		want, minor, registered := 0, 4, false
	requests:
		for rest := in; len(rest) >= 8; {
			size, command := int(binary.NativeEndian.Uint32(rest)), binary.NativeEndian.Uint32(rest[4:])
			known, ok := sizes[command]
			if !ok || size != known[0] || len(rest) < 8+size {
				break
			}
			body := rest[8 : 8+size]
			switch command {
			case 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0F, 0x10:
				break requests // a handle that is not there
			case 0x01:
				return // from here on it is the other target's
			case 0x11:
				minor = min(max(int(int32(binary.NativeEndian.Uint32(body[4:]))), 4), 6)
			case 0x13:
				registered = true
				if minor == 6 {
					want -= 2944
				}
			case 0x14:
				if !registered {
					want -= 8
				}
				registered = false
			}
			if known[1] < 0 {
				want += size
			} else {
				want += known[1]
			}
			rest = rest[8+size:]
		}
		synctest.Test(t, func(t *testing.T) {
			s, _, card := fuzzed(t)
			stream := &played{in: bytes.NewReader(in)}
			s.ServeConn(stream)
			require.NoError(t, s.Close())
			require.Equal(t, want, stream.out.Len())
			require.Empty(t, card.seen())
		})
	})
}

// FuzzSession feeds any bytes to a client with a context and a handle, in a
// transaction. However it ends, the card is reset and free for the next, who
// finds everything in order.
func FuzzSession(f *testing.F) {
	name := make([]byte, 128)
	copy(name, name0)
	transmit := frame(0x09, word(2), word(2), word(16), word(4), word(3), word(16), word(258), word(0))
	f.Add(join(transmit, []byte{0, 0x84, 0, 0}))
	f.Add(frame(0x08, word(2), word(1), word(0)))
	f.Add(join(frame(0x07, word(2), word(0)), frame(0x06, word(2), word(2), word(0)), frame(0x04, word(1), name, word(1), word(3), make([]byte, 12))))
	f.Add(join(frame(0x05, word(2), word(1), word(2), word(1), word(0), word(0)), frame(0x0B, word(2), word(0))))
	f.Add(join(frame(0x0A, word(2), word(0x42000D48), word(0), word(264), word(0), word(0)), frame(0x0F, word(2), word(0x90303), make([]byte, 264), word(264), word(0))))
	f.Add(join(frame(0x13), transmit, []byte{0, 0xA4, 4, 0}, frame(0x14), frame(0x02, word(1), word(0))))
	f.Add(join(frame(0x04, word(1), name, word(2), word(3), make([]byte, 12)), frame(0x06, word(2), word(0), word(0))))
	prefix := join(
		frame(0x11, word(4), word(4), word(0)),
		frame(0x01, word(2), word(0), word(0)),
		frame(0x04, word(1), name, word(2), word(3), make([]byte, 12)),
		frame(0x07, word(2), word(0)),
	)
	f.Fuzz(func(t *testing.T, in []byte) {
		synctest.Test(t, func(t *testing.T) { session(t, prefix, in) })
	})
}

func session(t *testing.T, prefix, in []byte) {
	s, r, card := fuzzed(t)
	stream := &played{in: io.MultiReader(bytes.NewReader(prefix), bytes.NewReader(in))}
	s.ServeConn(stream)
	require.Equal(t, word(0), stream.out.Bytes()[12+12+152+4:][:4], "the transaction has begun")

	client, server := net.Pipe()
	go s.ServeConn(server)
	c, err := pcscd.Open(t.Context(), client, 6)
	require.NoError(t, err)
	readers, err := c.Readers(t.Context())
	require.NoError(t, err)
	require.Len(t, readers, 1)
	require.Zero(t, readers[0].Sharing)
	h, err := c.Connect(t.Context(), r.Name(), pcscd.Exclusive, pcscd.T1|pcscd.Raw)
	require.NoError(t, err)
	before := len(card.seen())
	_, err = h.Transmit(t.Context(), []byte{0, 0x84, 0, 0})
	require.NoError(t, err)
	require.Len(t, card.seen(), before+1)
	require.NoError(t, s.Close())
}
