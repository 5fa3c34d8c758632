package pcscd_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard"
	"hsmemu/vsmartcard/pcscd"
)

// atr is the one of a Nitrokey HSM 2 with firmware 3 (T=1 only).
var atr = []byte{
	0x3B, 0xDE, 0x18, 0xFF, 0x81, 0x91, 0xFE, 0x1F, 0xC3, 0x80, 0x31, 0x81, 0x54,
	0x48, 0x53, 0x4D, 0x31, 0x73, 0x80, 0x21, 0x40, 0x81, 0x07, 0x1C,
}

// applet is the SmartCard-HSM's name, by which it is selected.
const applet = "\xE8\x2B\x06\x01\x04\x01\x81\xC3\x1F\x02\x01"

// fake is a card that answers like a SmartCard-HSM as shipped, as far as
// OpenSC goes to find out what it is, and notes what happens to it.
type fake struct {
	mu       sync.Mutex
	transmit func(ctx context.Context, command []byte) ([]byte, error) // nil: as above
	onReset  func() error
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

func (f *fake) setATR(b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.atr = b
}

func (f *fake) Reset() error {
	f.mu.Lock()
	f.resets++
	do := f.onReset
	f.mu.Unlock()
	if do != nil {
		return do()
	}
	return nil
}

func (f *fake) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	f.mu.Lock()
	f.commands = append(f.commands, command)
	do := f.transmit
	f.mu.Unlock()
	if do != nil {
		return do(ctx, command)
	}
	return answer(command), nil
}

// does has the card do something else with commands from now on, and
// resetsWith with a reset.
func (f *fake) does(transmit func(ctx context.Context, command []byte) ([]byte, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.transmit = transmit
}

func (f *fake) resetsWith(do func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onReset = do
}

// answer knows SELECT by AID, whose answer names version 4.1, the PIN query of
// a card never initialised, and nothing else.
func answer(command []byte) []byte {
	switch {
	case len(command) >= 4 && command[1] == 0xA4 && strings.Contains(string(command), applet):
		return []byte{0x6F, 0x07, 0x82, 0x01, 0x78, 0x85, 0x02, 0x04, 0x01, 0x90, 0x00}
	case len(command) == 4 && command[1] == 0x20:
		return []byte{0x69, 0x84}
	case len(command) >= 4 && command[1] == 0x58:
		return []byte{0xCC, 0x00, 0x90, 0x00}
	}
	return []byte{0x6A, 0x82}
}

func (f *fake) resetCount() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.resets
}

func (f *fake) seen() [][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.commands
}

const (
	name0 = "Nitrokey Nitrokey HSM (DENK01234560000         ) 00 00"
	name1 = "Nitrokey Nitrokey HSM (DENK0765432             ) 01 00"
)

// service is a server on a socket, with a reader and a card in it.
type service struct {
	t      testing.TB
	server *pcscd.Server
	path   string
	reader *pcscd.Reader
	second *pcscd.Reader
	card   *fake
	tap    *tap
}

func newService(t testing.TB) *service {
	t.Helper()
	return newServiceOn(t, &pcscd.Server{Grace: -1}) // so that its time is no matter
}

func newServiceOn(t testing.TB, server *pcscd.Server) *service {
	t.Helper()
	s := &service{t: t, server: server, card: newFake(), path: filepath.Join(t.TempDir(), "s")}
	var err error
	s.reader, err = s.server.Add(pcscd.NitrokeyHSM("DENK01234560000", 0))
	require.NoError(t, err)
	require.NoError(t, s.reader.Insert(s.card))
	s.listen()
	return s
}

func (s *service) listen() {
	l, err := pcscd.Listen(s.path)
	require.NoError(s.t, err)
	s.tap = &tap{Listener: l}
	done := make(chan error, 1)
	go func() { done <- s.server.Serve(s.tap) }()
	s.t.Cleanup(func() {
		require.NoError(s.t, s.server.Close())
		require.ErrorIs(s.t, <-done, pcscd.ErrClosed)
	})
}

// client is a client of the newest protocol, and clientOf of another.
func (s *service) client() *pcscd.Client {
	s.t.Helper()
	return s.clientOf(6)
}

func (s *service) clientOf(minor int) *pcscd.Client {
	s.t.Helper()
	stream := s.raw()
	c, err := pcscd.Open(soon(s.t), stream, minor)
	require.NoError(s.t, err)
	return c
}

// raw is a connection without a client.
func (s *service) raw() net.Conn {
	s.t.Helper()
	conn, err := net.Dial("unix", s.path)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// connect is a handle on the card, shared.
func (s *service) connect(c *pcscd.Client) *pcscd.Handle {
	s.t.Helper()
	h, err := c.Connect(soon(s.t), name0, pcscd.Shared, pcscd.T0|pcscd.T1)
	require.NoError(s.t, err)
	return h
}

// state is how clients see the first reader.
func (s *service) state(c *pcscd.Client) pcscd.ReaderState {
	s.t.Helper()
	readers, err := c.Readers(soon(s.t))
	require.NoError(s.t, err)
	require.NotEmpty(s.t, readers)
	return readers[0]
}

// until waits until the first reader is as wanted.
func (s *service) until(c *pcscd.Client, wanted func(pcscd.ReaderState) bool) pcscd.ReaderState {
	s.t.Helper()
	var last []pcscd.ReaderState
	_, err := c.Wait(soon(s.t), func(readers []pcscd.ReaderState) bool {
		last = readers
		return len(readers) > 0 && wanted(readers[0])
	})
	require.NoError(s.t, err, "%+v", last)
	return last[0]
}

func has(state pcscd.State) func(pcscd.ReaderState) bool {
	return func(r pcscd.ReaderState) bool { return r.State&state != 0 }
}

func sharing(n int32) func(pcscd.ReaderState) bool {
	return func(r pcscd.ReaderState) bool { return r.Sharing == n }
}

// patience is far more than anything takes, also on a busy machine.
const patience = 2 * time.Minute

// soon is a context for something that takes no time worth mentioning.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// at runs f aside and returns what it returned.
func at[T any](f func() T) <-chan T {
	c := make(chan T, 1)
	go func() { c <- f() }()
	return c
}

var (
	_ vsmartcard.Card = (*pcscd.Handle)(nil)
	_ vsmartcard.Card = (*fake)(nil)
)
