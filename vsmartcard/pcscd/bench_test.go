package pcscd_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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
		systemDaemon(b)
		transmit(b, pcscd.DefaultSocket, vpcdName)
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

// systemDaemon starts Debian's pcscd with a null card in its virtual reader.
// There is one place for its socket, so that others are kept away by a lock.
func systemDaemon(tb testing.TB) *vsmartcard.Bridge {
	tb.Helper()
	require.Zero(tb, os.Geteuid(), "pcscd has to be started as root")
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "hsmemu-pcscd.lock"), os.O_CREATE|os.O_RDWR, 0o666)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = lock.Close() })
	require.NoError(tb, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	port := l.Addr().(*net.TCPAddr).Port
	require.NoError(tb, l.Close())
	config := filepath.Join(tb.TempDir(), "reader.conf")
	require.NoError(tb, os.WriteFile(config, fmt.Appendf(nil,
		"FRIENDLYNAME \"Virtual PCD\"\nDEVICENAME /dev/null:%#x\nLIBPATH /usr/lib/pcsc/drivers/serial/libifdvpcd.so\nCHANNELID %#x\n",
		port, port), 0o600))
	for _, left := range []string{"pcscd.comm", "pcscd.pid"} {
		_ = os.Remove(filepath.Join(filepath.Dir(pcscd.DefaultSocket), left))
	}
	daemon := exec.Command("/usr/sbin/pcscd", "--foreground", "--config", config)
	require.NoError(tb, daemon.Start())
	tb.Cleanup(func() {
		_ = daemon.Process.Signal(syscall.SIGTERM)
		_ = daemon.Wait()
	})

	// The socket comes last.
	var c *pcscd.Client
	for ctx := soon(tb); ; {
		c, err = pcscd.Dial(ctx, pcscd.DefaultSocket)
		if err == nil {
			break
		}
		require.NoError(tb, ctx.Err(), "pcscd does not come up: %v", err)
		runtime.Gosched()
	}
	bridge, err := vsmartcard.Dial(soon(tb), fmt.Sprintf("127.0.0.1:%d", port), null{})
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := at(func() error { return bridge.Run(ctx) })
	tb.Cleanup(func() {
		cancel()
		require.NoError(tb, <-done)
	})
	require.NoError(tb, bridge.Ready(soon(tb)))
	seenAs(tb, c, vpcdName, pcscd.StatePresent)
	require.NoError(tb, c.Close())
	return bridge
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
		bridge := systemDaemon(b)
		insertion(b, pcscd.DefaultSocket, vpcdName,
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
