//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/applet/tlv"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/store"
	"hsmemu/vsmartcard/pcscd"
)

// These tests run under the race detector, both ends of them: the process that
// runs the card and the commands that talk to it.

// tell runs a command line in this process, one that takes no card.
func (h *home) tell(args ...string) (out, said string, code int) {
	var o, e bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &o, err: &e, outside: emulator.System(), env: func(name string) string {
		for _, kv := range h.env {
			if value, is := strings.CutPrefix(kv, name+"="); is {
				return value
			}
		}
		return ""
	}}
	code = a.run(h.t.Context(), args)
	return o.String(), e.String(), code
}

// must is tell for what succeeds.
func (h *home) must(args ...string) string {
	out, said, code := h.tell(args...)
	require.Zero(h.t, code, "%v: %s", args, said)
	return out
}

// setUp makes a card and initialises it. It does so in processes of their own:
// children that other tests start here would have this one's locks until they
// are what they are to be.
func (h *home) setUp(card string) {
	h.run("card", "new", card)
	h.run("apdu", "--card", card, fmt.Sprintf("%X", wireSelect), fmt.Sprintf("%X", newDriver(1).initialise(driverSOPIN).command))
}

// served is a card that was set up and a process that runs it.
func served(t *testing.T) (*home, *runner) {
	h := newHome(t)
	h.setUp("alice")
	p := h.start("alice")
	t.Cleanup(p.kill)
	p.ready(t)
	return h, p
}

// end ends the process politely.
func (p *runner) end(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	p.ended(t)
}

// gone tells the errors that a client gets when its card was taken out or
// reset, and that another try may cure.
func gone(err error) bool {
	for _, code := range []error{
		pcscd.ErrRemoved, pcscd.ErrReset, pcscd.ErrNoSmartcard, pcscd.ErrNotTransacted, pcscd.ErrUnpowered, pcscd.ErrReaderUnavailable,
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// writer is a client that writes numbers into a file of its own, as long as it
// is let, whatever becomes of its card in between.
type writer struct {
	h    *home
	file byte
	// acknowledged is the last number that was; tried may be there, too.
	acknowledged, tried atomic.Int64
}

func number(n int64) []byte { return fmt.Appendf(nil, "%08d", n) }

func (w *writer) write(ctx context.Context) error {
	c, err := pcscd.Dial(ctx, w.h.socket())
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	for ctx.Err() == nil {
		if err := w.session(ctx, c); err != nil && !gone(err) {
			return err
		}
	}
	return nil
}

// session writes until the card is gone.
func (w *writer) session(ctx context.Context, c *pcscd.Client) error {
	readers, err := c.Readers(ctx)
	if err != nil {
		return err
	}
	card, err := c.Connect(ctx, readers[0].Name, pcscd.Shared, pcscd.T1)
	if err != nil {
		return err
	}
	defer func() { _ = card.Disconnect(ctx, pcscd.Leave) }()
	if err := card.Begin(ctx); err != nil {
		return err
	}
	verify := newDriver(1).verify(account{"PIN": driverPIN}, driverPIN)
	for _, command := range [][]byte{wireSelect, verify.command} {
		if _, err := card.Transmit(ctx, command); err != nil {
			return err
		}
	}
	for range 5 {
		n := w.tried.Add(1)
		answer, err := card.Transmit(ctx, wire(0xD7, 0xCF, w.file, tlv.Append(nil, 0x54, []byte{0, 0}), tlv.Append(nil, 0x53, number(n))))
		if err != nil {
			return err
		}
		switch sw := statusOf(w.h.t, answer); sw {
		case apdu.OK:
			w.acknowledged.Store(n)
		case apdu.SecurityStatus, apdu.InstructionNotSupported, apdu.ClassNotSupported:
			return nil // somebody else's reset has ended the login
		default:
			return sw
		}
	}
	return card.End(ctx, pcscd.Leave)
}

// check reports whether what was acknowledged is in the file.
func (w *writer) check(t *testing.T, d chip.Durable) {
	for _, f := range d.Applet.Files {
		if f.ID == 0xCF00|uint16(w.file) {
			require.GreaterOrEqual(t, string(f.Data), string(number(w.acknowledged.Load())))
			require.LessOrEqual(t, string(f.Data), string(number(w.tried.Load())))
			require.Len(t, f.Data, 8)
			return
		}
	}
	require.Zero(t, w.acknowledged.Load(), "no file %d", w.file)
}

func (h *home) durable(t *testing.T) chip.Durable {
	d, _, err := store.Read[chip.Durable](h.file("alice"), store.Options{})
	require.NoError(t, err)
	return d
}

// Two clients share a card that is ejected, inserted and reset while they use
// it, and looked at from all sides. Nothing acknowledged is lost, and nothing
// is written by half.
func TestRaces_TwoClientsWhileTheCardComesAndGoes(t *testing.T) {
	t.Parallel()
	h, p := served(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var running sync.WaitGroup
	writers := []*writer{{h: h, file: 1}, {h: h, file: 2}}
	for _, w := range writers {
		running.Go(func() {
			if err := w.write(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("client %d: %v", w.file, err)
			}
		})
	}
	running.Go(func() { // somebody looks on
		for ctx.Err() == nil {
			h.must("card", "show", "alice", "--json")
			h.must("card", "list")
		}
	})
	var traced bytes.Buffer
	running.Go(func() {
		a := &app{out: &traced, err: &bytes.Buffer{}, env: func(string) string { return "" }}
		if code := a.run(ctx, []string{"--state", h.dir, "trace", "--card", "alice"}); code != exitDone {
			t.Errorf("trace: exit code %d", code)
		}
	})
	work := func() { // both get on
		a, b := writers[0].acknowledged.Load(), writers[1].acknowledged.Load()
		require.Eventually(t, func() bool {
			return writers[0].acknowledged.Load() > a && writers[1].acknowledged.Load() > b
		}, patience, time.Millisecond)
	}
	for range 20 {
		work()
		h.must("card", "eject", "alice")
		h.must("card", "insert", "alice")
		work()
		h.must("card", "reset", "alice")
	}
	work()
	stop()
	running.Wait()
	require.Contains(t, traced.String(), "UPDATE BINARY EF CF01")
	p.end(t)
	for _, w := range writers {
		w.check(t, h.durable(t))
	}
}

// A card is put back into an earlier state while a client uses it. The client
// sees a removal and an insertion; what it writes from then on stays.
func TestRaces_RestoreDuringCommands(t *testing.T) {
	t.Parallel()
	h, p := served(t)
	h.must("card", "snapshot", "alice", "then")
	seen := h.client(t.Context())
	defer func() { _ = seen.Close() }()
	readers, err := seen.Readers(t.Context())
	require.NoError(t, err)
	events := readers[0].Events

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	w := &writer{h: h, file: 1}
	var running sync.WaitGroup
	running.Go(func() {
		if err := w.write(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("client: %v", err)
		}
	})
	const times = 20
	for range times {
		before := w.acknowledged.Load()
		require.Eventually(t, func() bool { return w.acknowledged.Load() > before }, patience, time.Millisecond)
		h.must("card", "restore", "alice", "then")
	}
	after := w.tried.Load()
	require.Eventually(t, func() bool { return w.acknowledged.Load() > after }, patience, time.Millisecond)
	stop()
	running.Wait()
	readers, err = seen.Readers(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2*times, readers[0].Events-events)
	_, err = seen.card.Transmit(t.Context(), wireSelect)
	require.Contains(t, []error{pcscd.ErrRemoved, pcscd.ErrReset}, err, "removed, or reset by the other client since")
	p.end(t)
	w.check(t, h.durable(t))
}

// The state that is restored is the one that was kept: a command that was under
// way has come to its end before, or has not happened.
func TestRaces_RestoreIsWhole(t *testing.T) {
	t.Parallel()
	h, p := served(t)
	h.must("card", "snapshot", "alice", "then")
	kept := accountOf(h.durable(t))
	driver, before := newDriver(2), kept
	var busy atomic.Int64
	for i := range int64(20) {
		c := h.client(t.Context())
		c.send(t, wireSelect)
		removed := make(chan error)
		go func() {
			for {
				one := driver.next(before)
				answer, err := c.card.Transmit(t.Context(), one.command)
				if err != nil {
					removed <- err
					return
				}
				r, _ := apdu.ParseResponse(answer)
				before = one.settled(before, r)
				busy.Add(1)
			}
		}()
		enough := busy.Load() + i%5
		require.Eventually(t, func() bool { return busy.Load() >= enough }, patience, 100*time.Microsecond)
		h.must("card", "restore", "alice", "then")
		require.Contains(t, []error{pcscd.ErrRemoved, pcscd.ErrNotTransacted}, <-removed, "between two commands, or in one")
		require.Equal(t, kept, accountOf(h.durable(t)))
		before = kept
		require.NoError(t, c.Close())
	}
	p.end(t)
}

// Of processes that want a card at the same moment one gets it; the others say
// who has it, and change nothing.
func TestRaces_TwoProcesses(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.setUp("alice")
	right := fmt.Sprintf("%X", newDriver(1).verify(account{"PIN": driverPIN}, driverPIN).command)
	var done, refused atomic.Int64
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for range 12 {
				out, err := h.command("apdu", "--card", "alice", fmt.Sprintf("%X", wireSelect), right).CombinedOutput()
				switch {
				case err == nil && bytes.Contains(out, []byte("VERIFY user PIN → 9000")):
					done.Add(1)
				case bytes.HasPrefix(out, []byte(`hsmemu: card "alice" is in use by `)):
					refused.Add(1)
				default:
					t.Errorf("%v: %s", err, out)
				}
			}
		})
	}
	running.Wait()
	t.Logf("%d did it, %d were refused", done.Load(), refused.Load())
	require.Positive(t, done.Load())
	require.Positive(t, refused.Load())
	info, err := store.Inspect(h.file("alice"), store.Options{})
	require.NoError(t, err)
	require.EqualValues(t, 2+2*done.Load(), info.Generation, "two saves for each, and none for the others")
}
