//go:build linux

package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/control"
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

func (h *home) file(card string) string { return filepath.Join(h.dir, card+".card") }

// runner is a process that runs cards.
type runner struct {
	cmd      *exec.Cmd
	out      *bufio.Reader
	said     *said
	draining sync.Once
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
	p.start(h.t)
	return p
}

func (p *runner) start(t *testing.T) {
	t.Helper()
	p.cmd.Stderr = p.said
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.out = bufio.NewReader(out)
	require.NoError(t, p.cmd.Start())
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

// drain reads what it still says, to its end. Whoever calls it beside others waits for
// the one that reads.
func (p *runner) drain() {
	p.draining.Do(func() { _, _ = io.Copy(io.Discard, p.out) })
}

// kill ends it as nothing else can: between any two instructions.
func (p *runner) kill() {
	_ = p.cmd.Process.Kill()
	p.drain()
	_ = p.cmd.Wait() // killed
}

// ended waits until it has ended by itself, cleanly and silently.
func (p *runner) ended(t *testing.T) {
	t.Helper()
	late := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	p.drain()
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

// reach reaches the process that runs a card.
func reach(t *testing.T, a *app, card string) (*control.Client, error) {
	t.Helper()
	d, err := a.cards()
	require.NoError(t, err)
	return control.Reach(soon(t), d, card)
}
