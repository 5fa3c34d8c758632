//go:build linux || darwin || windows

package seal_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore/seal"
)

// swtpm is a software TPM (Debian package swtpm) of this test's own, whose
// memory outlives its process.
type swtpm struct {
	dir string // with its state and its socket
	cmd *exec.Cmd
}

// newTPM starts one on a Unix socket. That swtpm is not installed is a failure:
// sealing that nobody tested seals nothing.
func newTPM(t testing.TB) *swtpm {
	t.Helper()
	dir, err := os.MkdirTemp("", "swtpm") //nolint:usetesting // the name of a Unix socket has to be short
	require.NoError(t, err)
	s := &swtpm{dir: dir}
	t.Cleanup(func() {
		s.stop(t)
		require.NoError(t, os.RemoveAll(dir))
	})
	s.start(t)
	return s
}

func (s *swtpm) socket() string { return filepath.Join(s.dir, "socket") }

func (s *swtpm) sealer() seal.TPM { return seal.TPM{Address: s.socket()} }

func (s *swtpm) start(t testing.TB) {
	t.Helper()
	s.run(t, "unix", s.socket(), "type=unixio,path="+s.socket())
}

func (s *swtpm) run(t testing.TB, network, address, server string) {
	t.Helper()
	path, err := exec.LookPath("swtpm")
	require.NoError(t, err, "the Debian package swtpm is needed")
	s.cmd = exec.Command(path, "socket", "--tpm2", "--tpmstate", "dir="+s.dir, "--server", server, "--flags", "not-need-init")
	require.NoError(t, s.cmd.Start())
	require.Eventually(t, func() bool {
		c, err := net.Dial(network, address)
		if err != nil {
			return false
		}
		return c.Close() == nil
	}, 2*time.Minute, 5*time.Millisecond, "swtpm does not answer")
}

// stop ends it as a power cut does.
func (s *swtpm) stop(t testing.TB) {
	t.Helper()
	if s.cmd == nil {
		return
	}
	require.NoError(t, s.cmd.Process.Kill())
	_ = s.cmd.Wait()
	s.cmd = nil
	_ = os.Remove(s.socket())
}

func (s *swtpm) restart(t testing.TB) {
	t.Helper()
	s.stop(t)
	s.start(t)
}
