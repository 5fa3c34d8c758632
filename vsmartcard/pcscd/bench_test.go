package pcscd_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard"
	"hsmemu/vsmartcard/pcscd"
)

// null is the fastest card there can be.
type null struct{}

func (null) ATR() []byte  { return atr }
func (null) Reset() error { return nil }

func (null) Transmit(context.Context, []byte) ([]byte, error) { return []byte{0x90, 0x00}, nil }

// query asks for the state of the PIN, a command of four bytes.
var query = []byte{0x00, 0x20, 0x00, 0x81}

// BenchmarkTransmit measures one command from a client to a card that answers
// at once, and back: through this daemon, through the system's with vpcd, and
// as many bytes over a socket with nobody in between, which is as fast as it
// can get.
func BenchmarkTransmit(b *testing.B) {
	b.Run("socket alone", func(b *testing.B) {
		client, server := socketPair(b)
		go func() {
			request, reply := make([]byte, 8+32+len(query)), make([]byte, 32+2)
			for {
				if _, err := io.ReadFull(server, request); err != nil {
					return
				}
				if _, err := server.Write(reply); err != nil {
					return
				}
			}
		}()
		request, reply := make([]byte, 8+32+len(query)), make([]byte, 32+2)
		for b.Loop() {
			if _, err := client.Write(request); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(client, reply); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("private daemon", func(b *testing.B) {
		transmit(b, privateDaemon(b), name0)
	})
	b.Run("pcscd and vpcd", func(b *testing.B) {
		socket, _ := systemDaemon(b, null{})
		transmit(b, socket, vpcdName)
	})
}

func transmit(b *testing.B, socket, reader string) {
	b.Helper()
	c, err := pcscd.Dial(b.Context(), socket)
	require.NoError(b, err)
	defer c.Close()
	h, err := c.Connect(b.Context(), reader, pcscd.Shared, pcscd.T1)
	require.NoError(b, err)
	ctx := context.Background()
	for b.Loop() {
		if _, err := h.Transmit(ctx, query); err != nil {
			b.Fatal(err)
		}
	}
}

// socketPair is two ends of a connection over a socket in the file system.
func socketPair(tb testing.TB) (client, server net.Conn) {
	tb.Helper()
	l, err := pcscd.Listen(filepath.Join(tb.TempDir(), "s"))
	require.NoError(tb, err)
	defer l.Close()
	client, err = net.Dial("unix", l.Addr().String())
	require.NoError(tb, err)
	server, err = l.Accept()
	require.NoError(tb, err)
	tb.Cleanup(func() {
		_ = client.Close()
		_ = server.Close()
	})
	return client, server
}

// privateDaemon starts one with a null card and returns its socket.
func privateDaemon(tb testing.TB) string {
	tb.Helper()
	_, path := privateReader(tb)
	return path
}

func privateReader(tb testing.TB) (*pcscd.Reader, string) {
	tb.Helper()
	var s pcscd.Server
	r, err := s.Add(pcscd.NitrokeyHSM("DENK01234560000", 0))
	require.NoError(tb, err)
	require.NoError(tb, r.Insert(null{}))
	path := filepath.Join(tb.TempDir(), "s")
	l, err := pcscd.Listen(path)
	require.NoError(tb, err)
	done := at(func() error { return s.Serve(l) })
	tb.Cleanup(func() {
		require.NoError(tb, s.Close())
		require.ErrorIs(tb, <-done, pcscd.ErrClosed)
	})
	return r, path
}

// vpcdName is the name of the first slot of vpcd.
const vpcdName = "Virtual PCD 00 00"

// systemDaemon starts Debian's pcscd with a card in the first of its two virtual
// readers, and returns its socket. The daemon gets the socket from us, as from a
// service manager, so that it needs neither root nor a fixed place: any number
// of them run side by side.
func systemDaemon(tb testing.TB, card vsmartcard.Card) (socket string, bridge *vsmartcard.Bridge) {
	tb.Helper()
	dir := tb.TempDir()
	port := freePort(tb)
	config := filepath.Join(dir, "reader.conf")
	require.NoError(tb, os.WriteFile(config, fmt.Appendf(nil,
		"FRIENDLYNAME \"Virtual PCD\"\nDEVICENAME /dev/null:%#x\nLIBPATH /usr/lib/pcsc/drivers/serial/libifdvpcd.so\nCHANNELID %#x\n",
		port, port), 0o600))
	socket = filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	require.NoError(tb, err)
	l.SetUnlinkOnClose(false)
	inherited, err := l.File()
	require.NoError(tb, err)
	// The daemon takes the socket only if it finds its own process number.
	daemon := exec.Command("sh", "-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"`, "sh",
		"/usr/sbin/pcscd", "--foreground", "--config", config)
	daemon.ExtraFiles = []*os.File{inherited}
	require.NoError(tb, daemon.Start())
	tb.Cleanup(func() {
		_ = daemon.Process.Signal(syscall.SIGTERM)
		_ = daemon.Wait()
	})
	require.NoError(tb, inherited.Close())
	require.NoError(tb, l.Close())

	c, err := pcscd.Dial(soon(tb), socket)
	require.NoError(tb, err)
	defer func() { require.NoError(tb, c.Close()) }()
	seenAs(tb, c, vpcdName, pcscd.StateAbsent)
	bridge, err = vsmartcard.Dial(soon(tb), fmt.Sprintf("127.0.0.1:%d", port), card)
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := at(func() error { return bridge.Run(ctx) })
	tb.Cleanup(func() {
		cancel()
		require.NoError(tb, <-done)
	})
	require.NoError(tb, bridge.Ready(soon(tb)))
	seenAs(tb, c, vpcdName, pcscd.StatePresent)
	return socket, bridge
}

// freePort finds a port that is free together with the next. It lies below those
// that Linux hands out by itself, so that it stays free until the daemon takes it.
func freePort(tb testing.TB) int {
	tb.Helper()
	for {
		port := 20000 + rand.IntN(12000)
		first, err := net.Listen("tcp4", fmt.Sprintf(":%d", port))
		if err != nil {
			continue
		}
		second, err := net.Listen("tcp4", fmt.Sprintf(":%d", port+1))
		require.NoError(tb, first.Close())
		if err == nil {
			require.NoError(tb, second.Close())
			return port
		}
	}
}

// seenAs waits until a client sees a reader in some state.
func seenAs(tb testing.TB, c *pcscd.Client, name string, state pcscd.State) {
	tb.Helper()
	_, err := c.Wait(soon(tb), func(readers []pcscd.ReaderState) bool {
		for _, r := range readers {
			if r.Name == name && r.State&state != 0 {
				return true
			}
		}
		return false
	})
	require.NoError(tb, err)
}

// BenchmarkInsertion measures the time from the insertion of a card until a
// client that waits for it knows; to take the card out again is not counted.
func BenchmarkInsertion(b *testing.B) {
	b.Run("private daemon", func(b *testing.B) {
		r, path := privateReader(b)
		insertion(b, path, name0, r.Eject, func() error { return r.Insert(null{}) })
	})
	b.Run("pcscd and vpcd", func(b *testing.B) {
		socket, bridge := systemDaemon(b, null{})
		insertion(b, socket, vpcdName,
			func() error { return bridge.Eject(soon(b)) },
			func() error { return bridge.Insert(soon(b)) })
	})
}

func insertion(b *testing.B, socket, name string, eject, insert func() error) {
	b.Helper()
	c, err := pcscd.Dial(b.Context(), socket)
	require.NoError(b, err)
	defer c.Close()
	var total time.Duration
	for b.Loop() {
		require.NoError(b, eject())
		seenAs(b, c, name, pcscd.StateAbsent)
		waiting := at(func() time.Time {
			seenAs(b, c, name, pcscd.StatePresent)
			return time.Now()
		})
		start := time.Now()
		require.NoError(b, insert())
		total += (<-waiting).Sub(start)
	}
	b.ReportMetric(float64(total.Nanoseconds())/float64(b.N), "ns/insertion")
}
