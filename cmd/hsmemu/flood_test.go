//go:build linux

package main

import (
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/vsmartcard/pcscd"
)

// However many connect, and to whatever, a process that may have few files open
// saves its card: connections never get the last of its descriptors.
func TestFlood_CannotMakeASaveFail(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.setUp("alice")
	p := h.startBy("alice", "prlimit", "--nofile=60:60")
	t.Cleanup(p.kill)
	p.ready(t)
	c := h.client(t.Context())
	c.send(t, wireSelect)
	driver := newDriver(1)
	wrong := driver.verify(account{"PIN": driverPIN}, "000000").command
	right := driver.verify(account{"PIN": driverPIN}, driverPIN).command

	var flood []net.Conn
	defer func() {
		for _, conn := range flood {
			_ = conn.Close()
		}
	}()
	control := filepath.Join(h.dir, "alice.sock")
	for range 300 {
		for _, path := range []string{h.socket(), control} {
			conn, err := net.Dial("unix", path)
			require.NoError(t, err)
			flood = append(flood, conn)
		}
	}
	var open []os.DirEntry
	require.Eventually(t, func() bool {
		var err error
		open, err = os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
		return err != nil || len(open) > 25
	}, patience, interval, "the flood is there")
	require.LessOrEqual(t, len(open), 33, "and leaves some")
	for range 20 {
		require.NotEqual(t, apdu.MemoryFailure, statusOf(t, c.send(t, wrong)))
		require.Equal(t, apdu.OK, statusOf(t, c.send(t, right)))
		for range 10 {
			conn, err := net.Dial("unix", h.socket())
			require.NoError(t, err)
			flood = append(flood, conn)
		}
	}
	for _, conn := range flood {
		_ = conn.Close()
	}
	require.Eventually(t, func() bool { _, said, code := h.tell("card", "show", "alice"); return code == 0 && said == "" }, patience, 10*time.Millisecond)
	require.Empty(t, p.said.String())
	p.end(t)
}

// What comes through the control socket waits for a program's transaction, or
// says whose it is; --force takes a card out all the same, as a hand does.
func TestControl_RespectsTransactions(t *testing.T) {
	t.Parallel()
	h, p := served(t)
	c := h.client(t.Context())
	other := h.client(t.Context())
	c.send(t, wireSelect)
	driver := newDriver(1)
	right := driver.verify(account{"PIN": driverPIN}, driverPIN).command
	require.Equal(t, apdu.OK, statusOf(t, c.send(t, right)))
	h.must("card", "snapshot", "alice", "then")
	a := newApp(t, h.dir)
	status := func(command string) (string, error) {
		c, err := reach(t, a, "alice")
		require.NoError(t, err)
		defer c.Close()
		b, err := hex.DecodeString(command)
		require.NoError(t, err)
		answer, err := c.Transmit(soon(t), b)
		return hex.EncodeToString(answer), err
	}

	// A logout through the control socket is told to all.
	answer, err := status(fmt.Sprintf("%X", wireSelect))
	require.NoError(t, err)
	require.Equal(t, "9000", answer)
	for _, one := range []*pcscClient{c, other} {
		_, err := one.card.Transmit(t.Context(), right)
		require.ErrorIs(t, err, pcscd.ErrReset)
		require.NoError(t, one.card.Reconnect(t.Context(), pcscd.Leave))
	}
	// A command that ends no login is not.
	require.Equal(t, apdu.OK, statusOf(t, c.send(t, right)))
	answer, err = status("00200081")
	require.NoError(t, err)
	require.Equal(t, "9000", answer)
	require.NoError(t, other.card.Status(t.Context()))

	require.NoError(t, c.card.Begin(t.Context()))
	holder := fmt.Sprintf(`the card is in a transaction of .+, process %d`, os.Getpid())
	commands := [][]string{{"card", "eject", "alice"}, {"card", "reset", "alice"}, {"card", "restore", "alice", "then"}}
	said, codes := make([]string, len(commands)), make([]int, len(commands))
	var waiting sync.WaitGroup // all at the same time: each waits for some seconds
	for i, command := range commands {
		waiting.Go(func() { _, said[i], codes[i] = h.tell(command...) })
	}
	_, err = status("00200081")
	require.Error(t, err)
	require.Regexp(t, holder, err.Error())
	waiting.Wait()
	for i, command := range commands {
		require.Equal(t, exitFailed, codes[i], command)
		require.Regexp(t, holder, said[i], command)
	}
	require.Equal(t, apdu.OK, statusOf(t, c.send(t, right)), "nothing of it happened")
	done := make(chan error, 1)
	go func() {
		_, err := status("00200081")
		done <- err
	}()
	require.NoError(t, c.card.End(t.Context(), pcscd.Leave))
	require.NoError(t, <-done)

	require.NoError(t, c.card.Begin(t.Context()))
	h.must("card", "eject", "alice", "--force")
	_, err = c.card.Transmit(t.Context(), right)
	require.ErrorIs(t, err, pcscd.ErrRemoved)
	h.must("card", "insert", "alice")
	require.NoError(t, c.Close())
	require.NoError(t, other.Close())
	p.end(t)
}
