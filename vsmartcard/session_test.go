package vsmartcard_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard"
)

// Shows PCSC-1, PCSC-2 and PCSC-4.
func TestServe_AnswersTheReader(t *testing.T) {
	t.Parallel()
	card := newFake()
	d, done := serve(t, card)

	d.send(4)
	require.Equal(t, atr, d.receive())
	resets, _ := card.seen()
	require.Zero(t, resets, "an ATR poll has no side effect")

	d.send(1)
	d.send(4)
	require.Equal(t, atr, d.receive())
	resets, _ = card.seen()
	require.Equal(t, 1, resets, "power on")

	d.send(0x00, 0xA4, 0x04, 0x00)
	require.Equal(t, []byte{0x90, 0x00}, d.receive())

	d.send(2)
	d.send(0)
	d.send(4)
	d.receive()
	resets, commands := card.seen()
	require.Equal(t, 3, resets, "reset and power off")
	require.Equal(t, [][]byte{{0x00, 0xA4, 0x04, 0x00}}, commands)

	require.NoError(t, d.conn.Close())
	require.NoError(t, <-done)
	resets, _ = card.seen()
	require.Equal(t, 4, resets, "a card out of its reader has no power")
}

func TestServe_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	reader, conn := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- vsmartcard.Serve(ctx, conn, newFake()) }()
	d := driver{t, reader}
	d.powerUp()
	cancel()
	require.NoError(t, <-done)
	d.gone()
}

func TestServe_HostileFrames(t *testing.T) {
	t.Parallel()
	long := bytes.Repeat([]byte{0xA5}, 65535)
	long[0] = 0x80
	for _, c := range []struct {
		name     string
		bytes    []byte // as they come, before an ATR poll
		answers  int    // frames until the one of the poll
		commands int
	}{
		{name: "length 0", bytes: []byte{0, 0}},
		{name: "length 0, many", bytes: bytes.Repeat([]byte{0, 0}, 1000)},
		{name: "unknown control byte", bytes: []byte{0, 1, 3, 0, 1, 5, 0, 1, 0xFF}},
		{name: "length 65535", bytes: append([]byte{0xFF, 0xFF}, long...), answers: 1, commands: 1},
		{name: "two bytes", bytes: []byte{0, 2, 0, 0}, answers: 1, commands: 1},
		{name: "power again and again", bytes: bytes.Repeat([]byte{0, 1, 1}, 100)},
		{name: "frames across pieces", bytes: bytes.Repeat([]byte{0, 4, 0, 0x84, 0, 0, 0, 1, 1, 0, 5, 0, 0x84, 0, 0, 8}, 9), answers: 18, commands: 18},
		{name: "frames in one piece", bytes: []byte{0, 1, 1, 0, 1, 4, 0, 4, 0, 0x84, 0, 0, 0, 0, 0, 1, 4}, answers: 3, commands: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, piece := range []int{1, 3, 8, len(c.bytes)} {
				if len(c.bytes)/piece > 10000 {
					continue
				}
				card := newFake()
				d, _ := serve(t, card)
				go func() {
					for b := range slicesOf(c.bytes, piece) {
						_, _ = d.conn.Write(b)
					}
					_, _ = d.conn.Write([]byte{0, 1, 4})
				}()
				for range c.answers {
					d.receive()
				}
				require.Equal(t, atr, d.receive())
				_, commands := card.seen()
				require.Len(t, commands, c.commands)
			}
		})
	}
}

// slicesOf cuts b into pieces of n bytes.
func slicesOf(b []byte, n int) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for ; len(b) > 0; b = b[min(n, len(b)):] {
			if !yield(b[:min(n, len(b))]) {
				return
			}
		}
	}
}

func TestServe_FrameCutOffEndsTheSession(t *testing.T) {
	t.Parallel()
	for _, part := range [][]byte{{0}, {0, 5}, {0, 5, 0, 0xA4}, {0xFF, 0xFF, 1}} {
		card := newFake()
		d, done := serve(t, card)
		_, err := d.conn.Write(part)
		require.NoError(t, err)
		require.NoError(t, d.conn.Close())
		require.ErrorIs(t, <-done, io.ErrUnexpectedEOF)
		resets, commands := card.seen()
		require.Equal(t, 1, resets)
		require.Empty(t, commands, "half a command is none")
	}
}

func TestServe_CardThatFailsLeavesTheReader(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, c := range []struct {
		name   string
		answer []byte
		err    error
		want   error
	}{
		{name: "error", err: broken, want: broken},
		{name: "no answer", want: vsmartcard.ErrAnswer},
		{name: "one byte", answer: []byte{0x90}, want: vsmartcard.ErrAnswer},
		{name: "longer than a frame", answer: make([]byte, 65536), want: vsmartcard.ErrAnswer},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			card := newFake()
			card.transmit = func(context.Context, []byte) ([]byte, error) { return c.answer, c.err }
			d, done := serve(t, card)
			d.send(0x00, 0x84, 0x00, 0x00)
			d.gone()
			require.ErrorIs(t, <-done, c.want)
		})
	}
}

func TestServe_LongestAnswer(t *testing.T) {
	t.Parallel()
	card := newFake()
	want := bytes.Repeat([]byte{0x5A}, 65535)
	card.transmit = func(context.Context, []byte) ([]byte, error) { return want, nil }
	d, _ := serve(t, card)
	d.send(0x00, 0x84, 0x00, 0x00)
	require.Equal(t, want, d.receive())
}

func TestServe_MuteCardShowsNoATR(t *testing.T) {
	t.Parallel()
	card := newFake()
	card.atr = nil
	d, _ := serve(t, card)
	d.send(4)
	require.Greater(t, len(d.receive()), 33, "the reader must not take it for an ATR, nor hang")
}

func TestServe_CommandIsTheCards(t *testing.T) {
	t.Parallel()
	card := newFake()
	d, _ := serve(t, card)
	for i := range byte(3) {
		d.send(0x00, 0xB1, i, i)
		d.receive()
	}
	_, commands := card.seen()
	require.Equal(t, [][]byte{{0, 0xB1, 0, 0}, {0, 0xB1, 1, 1}, {0, 0xB1, 2, 2}}, commands)
}

// counted counts writes.
type counted struct {
	net.Conn
	mu     sync.Mutex
	writes int
}

func (c *counted) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.writes++
	c.mu.Unlock()
	return c.Conn.Write(b)
}

// Shows PCSC-5.
func TestServe_OneWritePerAnswer(t *testing.T) {
	t.Parallel()
	reader, conn := net.Pipe()
	c := &counted{Conn: conn}
	done := make(chan error, 1)
	go func() { done <- vsmartcard.Serve(context.Background(), c, newFake()) }()
	d := driver{t, reader}
	d.powerUp()
	for range 10 {
		d.send(0x00, 0x84, 0x00, 0x00)
		d.receive()
	}
	require.NoError(t, reader.Close())
	require.NoError(t, <-done)
	require.Equal(t, 12, c.writes)
}

// recorded is a connection that plays bytes and keeps what is written.
type recorded struct {
	io.Reader
	bytes.Buffer
	closed bool
}

func (r *recorded) Read(b []byte) (int, error)       { return r.Reader.Read(b) }
func (r *recorded) Close() error                     { r.closed = true; return nil }
func (r *recorded) LocalAddr() net.Addr              { return nil }
func (r *recorded) RemoteAddr() net.Addr             { return nil }
func (r *recorded) SetDeadline(time.Time) error      { return nil }
func (r *recorded) SetReadDeadline(time.Time) error  { return nil }
func (r *recorded) SetWriteDeadline(time.Time) error { return nil }

// FuzzFrames feeds any bytes and compares with what the protocol's one table
// says about them.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0, 1, 4, 0, 1, 1, 0, 1, 4, 0, 4, 0, 0x84, 0, 0})
	f.Add([]byte{0, 0, 0, 1, 2, 0, 1, 0, 0, 1, 3})
	f.Add([]byte{0xFF, 0xFF, 0, 0})
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, in []byte) {
		var want []byte
		var resets, commands int
		rest := in
		for len(rest) >= 2 {
			n := int(binary.BigEndian.Uint16(rest))
			if len(rest) < 2+n {
				break
			}
			switch p := rest[2 : 2+n]; {
			case n == 1 && p[0] <= 2:
				resets++
			case n == 1 && p[0] == 4:
				want = append(append(want, 0, byte(len(atr))), atr...)
			case n > 1:
				commands++
				want = append(want, 0, 2, 0x90, 0)
			}
			rest = rest[2+n:]
		}
		card := newFake()
		conn := &recorded{Reader: io.MultiReader(bytes.NewReader(in[:len(in)/2]), bytes.NewReader(in[len(in)/2:]))}
		err := vsmartcard.Serve(t.Context(), conn, card)
		if len(rest) == 0 {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		}
		require.True(t, conn.closed)
		require.Equal(t, want, conn.Buffer.Bytes())
		gotResets, gotCommands := card.seen()
		require.Equal(t, resets+1, gotResets)
		require.Len(t, gotCommands, commands)
	})
}
