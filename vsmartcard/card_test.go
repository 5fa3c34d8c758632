package vsmartcard_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard"
)

// atr is the one of a Nitrokey HSM 2 (T=1 only).
var atr = []byte{
	0x3B, 0xDE, 0x18, 0xFF, 0x81, 0x91, 0xFE, 0x1F, 0xC3, 0x80, 0x31, 0x81, 0x54,
	0x48, 0x53, 0x4D, 0x31, 0x73, 0x80, 0x21, 0x40, 0x81, 0x07, 0x1C,
}

// fake is a card that notes what happens to it.
type fake struct {
	transmit func(ctx context.Context, command []byte) ([]byte, error) // nil: 9000

	mu       sync.Mutex
	atr      []byte
	resets   int
	commands [][]byte
}

func newFake() *fake { return &fake{atr: atr} }

func (f *fake) ATR() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.atr
}

func (f *fake) Reset() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resets++
	return nil
}

func (f *fake) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	f.mu.Lock()
	f.commands = append(f.commands, command)
	f.mu.Unlock()
	if f.transmit != nil {
		return f.transmit(ctx, command)
	}
	return []byte{0x90, 0x00}, nil
}

func (f *fake) seen() (resets int, commands [][]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.resets, f.commands
}

// driver is vpcd's end of a connection.
type driver struct {
	tb   testing.TB
	conn net.Conn
}

func (d driver) send(payload ...byte) {
	d.tb.Helper()
	b := binary.BigEndian.AppendUint16(nil, uint16(len(payload)))
	_, err := d.conn.Write(append(b, payload...))
	require.NoError(d.tb, err)
}

func (d driver) receive() []byte {
	d.tb.Helper()
	length := make([]byte, 2)
	_, err := io.ReadFull(d.conn, length)
	require.NoError(d.tb, err)
	payload := make([]byte, binary.BigEndian.Uint16(length))
	_, err = io.ReadFull(d.conn, payload)
	require.NoError(d.tb, err)
	return payload
}

// powerUp does what pcscd does when it finds a card.
func (d driver) powerUp() []byte {
	d.tb.Helper()
	d.send(4)
	d.receive()
	d.send(1)
	d.send(4)
	return d.receive()
}

// gone checks that the card's end is closed; aborted, that it was cut off.
func (d driver) gone() {
	d.tb.Helper()
	_ = d.conn.SetReadDeadline(time.Now().Add(patience)) // a closed pipe has none
	_, err := d.conn.Read(make([]byte, 1))
	require.ErrorIs(d.tb, err, io.EOF)
}

// serve runs a card on one end of a pipe until the test ends.
func serve(t *testing.T, card vsmartcard.Card) (driver, <-chan error) {
	t.Helper()
	reader, conn := net.Pipe()
	done := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		done <- vsmartcard.Serve(context.Background(), conn, card)
	}()
	t.Cleanup(func() {
		_ = reader.Close()
		<-ended
	})
	return driver{t, reader}, done
}

// patience is far more than anything takes, also on a busy machine.
const patience = 2 * time.Minute

// soon is a context for something that takes no time worth mentioning.
func soon(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

func (d driver) aborted() {
	d.tb.Helper()
	_ = d.conn.SetReadDeadline(time.Now().Add(patience))
	rest, err := io.ReadAll(d.conn)
	require.ErrorIs(d.tb, err, syscall.ECONNRESET)
	require.Len(d.tb, rest, 2, "a length, and then the end")
}
