//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
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

// home is a state folder, with a name short enough for sockets.
type home struct {
	t   *testing.T
	dir string
	env []string
}

func newHome(t *testing.T, env ...string) *home {
	t.Helper()
	dir, err := shortFolder()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	env = append(env, "HSMEMU_STATE="+dir, "XDG_RUNTIME_DIR="+dir, "GORACE=atexit_sleep_ms=10")
	return &home{t: t, dir: dir, env: env}
}

// shortFolder is a new folder whose sockets can be named: a socket's name has
// 107 characters at most.
func shortFolder() (string, error) { return os.MkdirTemp("", "hsmemu") }

// command is hsmemu as a process of its own.
func (h *home) command(args ...string) *exec.Cmd {
	cmd := exec.Command("hsmemu", args...)
	cmd.Env = append(os.Environ(), h.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// run runs it to its end.
func (h *home) run(args ...string) {
	h.t.Helper()
	out, err := h.command(args...).CombinedOutput()
	require.NoError(h.t, err, "%s", out)
}

func (h *home) socket() string { return filepath.Join(h.dir, "pcscd.comm") }

func (h *home) file(card string) string { return filepath.Join(h.dir, card+cardSuffix) }

// runner is a process that runs cards.
type runner struct {
	cmd  *exec.Cmd
	out  *bufio.Reader
	said *said
}

// said keeps what a process says.
type said struct {
	mu   sync.Mutex
	text []byte
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, p...)
	return len(p), nil
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.text)
}

// start starts a process that runs a card.
func (h *home) start(card string) *runner { return h.startBy(card) }

// startBy has another program start it.
func (h *home) startBy(card string, by ...string) *runner {
	h.t.Helper()
	p := &runner{cmd: h.command("run", "--card", card, "--socket", h.socket()), said: &said{}}
	if len(by) > 0 {
		path, err := exec.LookPath(by[0])
		require.NoError(h.t, err)
		p.cmd.Path, p.cmd.Args = path, append(by, p.cmd.Args...)
	}
	p.cmd.Stderr = p.said
	out, err := p.cmd.StdoutPipe()
	require.NoError(h.t, err)
	p.out = bufio.NewReader(out)
	require.NoError(h.t, p.cmd.Start())
	return p
}

// ready waits until the cards can be used.
func (p *runner) ready(t *testing.T) {
	t.Helper()
	for {
		line, err := p.out.ReadString('\n')
		require.NoError(t, err, "it said %s", p.said)
		if line == "ready\n" {
			return
		}
	}
}

// kill ends it as nothing else can: between any two instructions.
func (p *runner) kill() {
	_ = p.cmd.Process.Kill()
	_, _ = io.Copy(io.Discard, p.out)
	_ = p.cmd.Wait() // killed
}

// ended waits until it has ended by itself, cleanly and silently.
func (p *runner) ended(t *testing.T) {
	t.Helper()
	late := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	_, _ = io.Copy(io.Discard, p.out)
	require.NoError(t, p.cmd.Wait(), "it said %s", p.said)
	require.Empty(t, p.said.String())
}

// pcscClient is a PC/SC client that has taken up the first card.
type pcscClient struct {
	*pcscd.Client
	card *pcscd.Handle
}

func (h *home) client(ctx context.Context) *pcscClient {
	h.t.Helper()
	c, err := pcscd.Dial(ctx, h.socket())
	require.NoError(h.t, err)
	readers, err := c.Readers(ctx)
	require.NoError(h.t, err)
	require.NotEmpty(h.t, readers)
	card, err := c.Connect(ctx, readers[0].Name, pcscd.Shared, pcscd.T1)
	require.NoError(h.t, err)
	return &pcscClient{c, card}
}

// send is for commands that reach the card.
func (c *pcscClient) send(t *testing.T, command []byte) []byte {
	t.Helper()
	answer, err := c.card.Transmit(t.Context(), command)
	require.NoError(t, err)
	return answer
}

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
			for k.kills < c.times && time.Since(began) < 40*time.Second {
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
