package vsmartcard_test

import (
	"context"
	"fmt"
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

// The tests of this file run Debian's pcscd with its vpcd driver. The daemon
// gets its listening socket from us, as a service manager would hand it over,
// and so needs neither root nor a place that only one daemon can have. The
// driver leaves room for one pair of readers: the tests do not run in parallel.

// daemon is a running pcscd.
type daemon struct {
	tb  testing.TB
	dir string // configuration, socket and what it says
	cmd *exec.Cmd
}

// startDaemon starts pcscd with a vpcd reader of two slots, device being what
// its reader.conf calls DEVICENAME.
func startDaemon(tb testing.TB, device string, port int) *daemon {
	tb.Helper()
	dir := tb.TempDir()
	d := &daemon{tb: tb, dir: dir}
	require.NoError(tb, os.WriteFile(filepath.Join(dir, "reader.conf"), fmt.Appendf(nil,
		"FRIENDLYNAME \"Virtual PCD\"\nDEVICENAME %s:%#x\nLIBPATH %s\nCHANNELID %#x\n",
		device, port, "/usr/lib/pcsc/drivers/serial/libifdvpcd.so", port), 0o600))
	d.start()
	tb.Cleanup(d.stop)
	return d
}

func (d *daemon) socket() string { return filepath.Join(d.dir, "comm") }

func (d *daemon) start() {
	d.tb.Helper()
	// It makes this folder even if it needs nothing there, and ends where it may not.
	if _, err := os.Stat("/run/pcscd"); os.Geteuid() != 0 {
		require.NoError(d.tb, err, "pcscd needs this folder, which systemd makes, and else .ci/install test")
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: d.socket()})
	require.NoError(d.tb, err)
	l.SetUnlinkOnClose(false)
	defer func() { _ = l.Close() }()
	inherited, err := l.File()
	require.NoError(d.tb, err)
	defer func() { _ = inherited.Close() }()
	output, err := os.Create(filepath.Join(d.dir, "output"))
	require.NoError(d.tb, err)
	defer func() { _ = output.Close() }()
	// The daemon takes the socket only if it finds its own process number.
	d.cmd = exec.Command("sh", "-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"`, "sh",
		"/usr/sbin/pcscd", "--foreground", "--config", filepath.Join(d.dir, "reader.conf"))
	d.cmd.ExtraFiles = []*os.File{inherited}
	d.cmd.Stdout, d.cmd.Stderr = output, output
	require.NoError(d.tb, d.cmd.Start())
	ctx := soon(d.tb)
	for {
		client, err := pcscd.Dial(ctx, d.socket())
		if err == nil {
			readers, err := client.Readers(ctx)
			require.NoError(d.tb, err)
			require.NoError(d.tb, client.Close())
			if len(readers) == 2 {
				return
			}
		}
		if pause(ctx, 5*time.Millisecond) != nil {
			said, _ := os.ReadFile(output.Name())
			require.Fail(d.tb, "pcscd does not come up", "%s", said)
		}
	}
}

// stop ends the daemon; without its socket, clients are refused and do not wait.
func (d *daemon) stop() {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	_ = d.cmd.Wait()
	_ = os.Remove(d.socket())
	d.cmd = nil
}

// pause is for things outside that announce nothing.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// freePorts finds a port that is free together with the one after it. It lies below
// those that Linux hands out by itself, so that it stays free until the daemon takes it.
func freePorts(tb testing.TB) int {
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

func (d *daemon) client() *pcscd.Client {
	d.tb.Helper()
	c, err := pcscd.Dial(soon(d.tb), d.socket())
	require.NoError(d.tb, err)
	d.tb.Cleanup(func() { _ = c.Close() })
	return c
}

const (
	reader0 = "Virtual PCD 00 00"
	reader1 = "Virtual PCD 00 01"
)

// seen waits until a client sees reader in the given state.
func seen(tb testing.TB, c *pcscd.Client, reader string, state pcscd.State) pcscd.ReaderState {
	tb.Helper()
	var found pcscd.ReaderState
	_, err := c.Wait(soon(tb), func(readers []pcscd.ReaderState) bool {
		for _, r := range readers {
			if r.Name == reader {
				found = r
			}
		}
		return found.State&state != 0
	})
	require.NoError(tb, err, "%+v", found)
	return found
}

func TestVPCD_CardIsSeenAndServes(t *testing.T) {
	port := freePorts(t)
	daemon := startDaemon(t, "/dev/null", port)
	c := daemon.client()
	seen(t, c, reader0, pcscd.StateAbsent)

	card := newFake()
	address := fmt.Sprintf("127.0.0.1:%d", port)
	b, err := vsmartcard.Dial(soon(t), address, card)
	require.NoError(t, err)
	run(t, b)
	require.NoError(t, b.Ready(soon(t)))
	require.Equal(t, atr, seen(t, c, reader0, pcscd.StatePresent).ATR)
	seen(t, c, reader1, pcscd.StateAbsent)

	h, err := c.Connect(soon(t), reader0, pcscd.Shared, pcscd.T0|pcscd.T1)
	require.NoError(t, err)
	require.Equal(t, pcscd.T1, h.Protocol())
	answer, err := h.Transmit(soon(t), []byte{0x00, 0xA4, 0x04, 0x00})
	require.NoError(t, err)
	require.Equal(t, []byte{0x90, 0x00}, answer)
	before, _ := card.seen()
	require.NoError(t, h.Reset())
	after, _ := card.seen()
	require.Greater(t, after, before)

	// A second card in the second slot.
	address, err = vsmartcard.Slot(address, 1)
	require.NoError(t, err)
	b2, err := vsmartcard.Dial(soon(t), address, newFake())
	require.NoError(t, err)
	run(t, b2)
	require.NoError(t, b2.Ready(soon(t)))
	seen(t, c, reader1, pcscd.StatePresent)

	// Out, in, and a long APDU.
	require.NoError(t, b.Eject(soon(t)))
	seen(t, c, reader0, pcscd.StateAbsent)
	_, err = h.Transmit(soon(t), []byte{0x00, 0xA4, 0x04, 0x00})
	require.ErrorIs(t, err, pcscd.ErrRemoved)
	require.NoError(t, b.Insert(soon(t)))
	seen(t, c, reader0, pcscd.StatePresent)
	require.NoError(t, h.Reconnect(soon(t), pcscd.Leave))
	long := append([]byte{0x80, 0x10, 0, 0, 0, 0xFF, 0xF0}, make([]byte, 0xFFF0)...)
	_, err = h.Transmit(soon(t), long)
	require.NoError(t, err)
	_, commands := card.seen()
	require.Equal(t, long, commands[len(commands)-1])

	// The daemon goes and comes again.
	daemon.stop()
	daemon.start()
	c = daemon.client()
	require.Equal(t, atr, seen(t, c, reader0, pcscd.StatePresent).ATR)
	seen(t, c, reader1, pcscd.StatePresent)
	require.NoError(t, b.Ready(soon(t)))
}

// A card that waits behind another one gets the place before the daemon has
// noticed that there was a change.
func TestVPCD_CardThatTakesOver(t *testing.T) {
	port := freePorts(t)
	startDaemon(t, "/dev/null", port)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	for range 3 {
		first, err := vsmartcard.Dial(soon(t), address, newFake())
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- first.Run(ctx) }()
		require.NoError(t, first.Ready(soon(t)))
		second, err := vsmartcard.Dial(soon(t), address, newFake())
		require.NoError(t, err)
		end, cancel2 := context.WithCancel(context.Background())
		defer cancel2()
		done2 := make(chan error, 1)
		go func() { done2 <- second.Run(end) }()
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, second.Ready(soon(t)))
		cancel2()
		require.NoError(t, <-done2)
	}
}

func TestVPCD_MuteCard(t *testing.T) {
	port := freePorts(t)
	daemon := startDaemon(t, "/dev/null", port)
	card := newFake()
	card.atr = nil
	b, err := vsmartcard.Dial(soon(t), fmt.Sprintf("127.0.0.1:%d", port), card)
	require.NoError(t, err)
	run(t, b)
	require.NoError(t, b.Ready(soon(t)))
	c := daemon.client()
	require.Empty(t, seen(t, c, reader0, pcscd.StateMute).ATR)
	_, err = c.Connect(soon(t), reader0, pcscd.Shared, pcscd.T1)
	require.ErrorIs(t, err, pcscd.ErrUnpowered)
}

// Debian's vpcd 3.3 connects to its cards once, when pcscd starts, and aborts
// pcscd as soon as one of its two slots has no connection. So both slots get a
// card here, and none is taken out.
func TestVPCD_OtherWayRound(t *testing.T) {
	port := freePorts(t)
	var bridges []*vsmartcard.Bridge
	for n := range 2 {
		b, err := vsmartcard.Listen(soon(t), fmt.Sprintf("127.0.0.1:%d", port+n), newFake())
		require.NoError(t, err)
		run(t, b)
		bridges = append(bridges, b)
	}
	daemon := startDaemon(t, "127.0.0.1", port)
	c := daemon.client()
	for n, b := range bridges {
		require.NoError(t, b.Ready(soon(t)))
		reader := fmt.Sprintf("Virtual PCD 00 %02d", n)
		require.Equal(t, atr, seen(t, c, reader, pcscd.StatePresent).ATR)
		h, err := c.Connect(soon(t), reader, pcscd.Shared, pcscd.T1)
		require.NoError(t, err)
		answer, err := h.Transmit(soon(t), []byte{0x00, 0xA4, 0x04, 0x00})
		require.NoError(t, err)
		require.Equal(t, []byte{0x90, 0x00}, answer)
	}
}

func TestVPCD_CardThatFailsComesBack(t *testing.T) {
	port := freePorts(t)
	daemon := startDaemon(t, "/dev/null", port)
	card := newFake()
	fail := true
	card.transmit = func(context.Context, []byte) ([]byte, error) {
		if fail {
			fail = false
			return nil, context.DeadlineExceeded
		}
		return []byte{0x90, 0x00}, nil
	}
	b, err := vsmartcard.Dial(soon(t), fmt.Sprintf("127.0.0.1:%d", port), card)
	require.NoError(t, err)
	run(t, b)
	c := daemon.client()
	seen(t, c, reader0, pcscd.StatePresent)
	h, err := c.Connect(soon(t), reader0, pcscd.Shared, pcscd.T1)
	require.NoError(t, err)
	answer, err := h.Transmit(soon(t), []byte{0x00, 0xA4, 0x04, 0x00})
	require.ErrorIs(t, err, pcscd.ErrNotTransacted, "%X", answer)
	seen(t, c, reader0, pcscd.StateAbsent)
	seen(t, c, reader0, pcscd.StatePresent)
	require.NoError(t, h.Reconnect(soon(t), pcscd.Leave))
	_, err = h.Transmit(soon(t), []byte{0x00, 0xA4, 0x04, 0x00})
	require.NoError(t, err)
}

func TestVPCD_RemovalInTheMiddleOfACommand(t *testing.T) {
	port := freePorts(t)
	daemon := startDaemon(t, "/dev/null", port)
	card := newFake()
	started := make(chan struct{}, 1)
	card.transmit = func(ctx context.Context, _ []byte) ([]byte, error) {
		started <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	b, err := vsmartcard.Dial(soon(t), fmt.Sprintf("127.0.0.1:%d", port), card)
	require.NoError(t, err)
	run(t, b)
	c, other := daemon.client(), daemon.client()
	seen(t, c, reader0, pcscd.StatePresent)
	h, err := c.Connect(soon(t), reader0, pcscd.Shared, pcscd.T1)
	require.NoError(t, err)
	failed := make(chan error, 1)
	go func() {
		_, err := h.Transmit(soon(t), []byte{0x00, 0xA4, 0x04, 0x00})
		failed <- err
	}()
	<-started
	require.NoError(t, b.Eject(soon(t)))
	require.ErrorIs(t, <-failed, pcscd.ErrNotTransacted)
	require.NotZero(t, seen(t, other, reader0, pcscd.StateAbsent).Events)

	require.NoError(t, b.Insert(soon(t)))
	seen(t, c, reader0, pcscd.StatePresent)
	require.NoError(t, h.Reconnect(soon(t), pcscd.Leave))
}
