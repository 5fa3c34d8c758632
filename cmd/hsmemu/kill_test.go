//go:build linux

package main

import (
	"errors"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
	"hsmemu/vsmartcard/pcscd"
)

// A process that is killed at any moment, while a client keeps its card busy,
// leaves a card that opens; that has what was acknowledged, and what was not
// whole or not at all; and whose counters are not higher for it.
func TestKill_AtAnyMoment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind  string
		times int
		while time.Duration // for which it is used, at most
	}{{seal.KindNone, 240, 40 * time.Millisecond}, {seal.KindTPM, 60, 100 * time.Millisecond}} {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			tpm := ""
			if c.kind == seal.KindTPM {
				tpm = newTPM(t).socket()
			}
			h := newHome(t, "HSMEMU_TPM="+tpm)
			h.run("card", "new", "alice", "--seal", c.kind)
			opt := store.Options{Sealers: []seal.Sealer{seal.Insecure{}, seal.TPM{Address: tpm}}}
			k := &killing{t: t, home: h, options: opt, while: c.while, before: account{}, driver: newDriver(rand.Uint64()), done: map[string]int{}}
			began := time.Now()
			enough := func() bool { return k.kills > c.times/5 && k.done["UPDATE BINARY"] > 0 }
			for k.kills < c.times && (time.Since(began) < 40*time.Second || !enough()) {
				k.once()
			}
			t.Logf("%d kills, %d of them in the middle of a command; deeds done: %v", k.kills, k.amid, k.done)
			require.Greater(t, k.kills, c.times/5)
			require.Greater(t, k.amid, k.kills/10)
			require.NotEmpty(t, k.done["UPDATE BINARY"])
		})
	}
}

// A process that is asked to end at any moment ends cleanly, with nothing to say,
// and the same holds.
func TestTerminate_AtAnyMoment(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.run("card", "new", "alice")
	k := &killing{
		t: t, home: h, politely: true, while: 40 * time.Millisecond,
		before: account{}, driver: newDriver(rand.Uint64()), done: map[string]int{},
	}
	for k.kills < 40 {
		k.once()
	}
	t.Logf("%d ends, %d of them in the middle of a command; deeds done: %v", k.kills, k.amid, k.done)
	require.Greater(t, k.amid, 10)
}

// killing is a card that loses its process again and again.
type killing struct {
	t        *testing.T
	home     *home
	politely bool // by SIGTERM
	options  store.Options
	while    time.Duration
	driver   *driver
	before   account // what is certain
	under    *deed   // what was under way

	kills, amid int
	done        map[string]int
}

// once has a process run the card for a while, kills it, and looks what is
// left.
func (k *killing) once() {
	p := k.home.start("alice")
	defer p.kill()
	if k.politely || rand.IntN(20) > 0 { // else it is killed before it is ready
		p.ready(k.t)
		k.use(p)
	}
	if k.politely {
		p.ended(k.t)
	} else {
		p.kill()
	}
	k.kills++
	d, _, err := store.Read[chip.Durable](k.home.file("alice"), k.options)
	require.NoError(k.t, err)
	about := "killed"
	if k.under != nil {
		about = "killed during " + k.under.name
		k.amid++
	}
	k.before, k.under = checkFound(k.t, k.before, k.under, d, about), nil
	k.driver.out = true
}

// use keeps the card busy until the process is killed.
func (k *killing) use(p *runner) {
	c := k.home.client(k.t.Context())
	defer func() { _ = c.Close() }() // it has lost the other end
	checkAlive(k.t, func(command []byte) []byte { return c.send(k.t, command) }, k.before, "after a kill")
	signal := syscall.SIGKILL
	if k.politely {
		signal = syscall.SIGTERM
	}
	killer := time.AfterFunc(rand.N(k.while), func() { _ = p.cmd.Process.Signal(signal) })
	defer killer.Stop()
	for {
		one := k.driver.next(k.before)
		k.under = &one
		answer, err := c.card.Transmit(k.t.Context(), one.command)
		if err != nil {
			require.True(k.t, errors.Is(err, pcscd.ErrComm), "%v", err)
			return
		}
		r, err := apdu.ParseResponse(answer)
		require.NoError(k.t, err)
		require.NotEqual(k.t, apdu.MemoryFailure, r.SW)
		if r.SW == apdu.OK {
			k.done[one.name]++
		}
		k.before, k.under = one.settled(k.before, r), nil
	}
}
