package store_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

// swtpm is a software TPM (Debian package swtpm) of this test's own, whose
// memory outlives its process.
type swtpm struct {
	dir string // with its state and its socket
	cmd *exec.Cmd
}

// tpmState is the file that swtpm keeps its memory in.
const tpmState = "tpm2-00.permall"

// newTPM starts one. That swtpm is not installed is a failure.
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

// revive starts one with a memory from before.
func revive(t testing.TB, state string) *swtpm {
	t.Helper()
	s := newTPM(t)
	s.stop(t)
	raw, err := os.ReadFile(state)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, tpmState), raw, 0o600))
	s.start(t)
	return s
}

func (s *swtpm) socket() string { return filepath.Join(s.dir, "socket") }

func (s *swtpm) start(t testing.TB) {
	t.Helper()
	path, err := exec.LookPath("swtpm")
	require.NoError(t, err, "the Debian package swtpm is needed")
	s.cmd = exec.Command(path, "socket", "--tpm2", "--tpmstate", "dir="+s.dir,
		"--server", "type=unixio,path="+s.socket(), "--flags", "not-need-init")
	require.NoError(t, s.cmd.Start())
	require.Eventually(t, func() bool {
		c, err := net.Dial("unix", s.socket())
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

// A file sealed by a TPM lives through the TPM's restarts, is not opened by
// another TPM, and does not come back as it was.
func TestFile_SealedByTPM(t *testing.T) {
	t.Parallel()
	tpm := newTPM(t)
	opt := store.Options{Sealers: []seal.Sealer{seal.TPM{Address: tpm.socket()}, seal.Insecure{}}}
	path := place(t)
	f, err := store.Create(path, value{Name: "secret", Tries: 1}, opt)
	require.NoError(t, err)
	require.Equal(t, "tpm", f.Seal())
	copies := []string{contents(t, path)}
	for n := 2; n < 6; n++ {
		require.NoError(t, f.Save(value{Name: "secret", Tries: n}))
		copies = append(copies, contents(t, path))
		require.NotContains(t, contents(t, path), "secret")
		require.NoError(t, f.Close())
		tpm.stop(t)
		_, err = store.Open[value](path, opt)
		require.ErrorIs(t, err, seal.ErrNoTPM)
		tpm.start(t)
		f, err = store.Open[value](path, opt)
		require.NoError(t, err)
		v, err := f.Load()
		require.NoError(t, err)
		require.Equal(t, n, v.Tries)
	}
	require.NoError(t, f.Close())

	other := store.Options{Sealers: []seal.Sealer{seal.TPM{Address: newTPM(t).socket()}}}
	_, err = store.Open[value](path, other)
	require.ErrorIs(t, err, seal.ErrOtherTPM)
	require.Equal(t, copies[4], contents(t, path))

	require.NoError(t, os.WriteFile(path, []byte(copies[3]), 0o600))
	_, err = store.Open[value](path, opt)
	require.ErrorIs(t, err, store.ErrRolledBack)
	require.ErrorContains(t, err, "this file is older than the card's counter")
	f, err = store.Accept[value](path, opt)
	require.NoError(t, err)
	v, err := f.Load()
	require.NoError(t, err)
	require.Equal(t, 4, v.Tries)
	require.NoError(t, f.Close())
	require.NoError(t, os.WriteFile(path, []byte(copies[4]), 0o600))
	_, err = store.Open[value](path, opt)
	require.ErrorIs(t, err, store.ErrRolledBack, "what was newer is now old")
}

// A TPM whose own memory was put back cannot bring old files back, nor is the
// card lost.
func TestFile_TPMPutBack(t *testing.T) {
	t.Parallel()
	tpm := newTPM(t)
	opt := store.Options{Sealers: []seal.Sealer{seal.TPM{Address: tpm.socket(), PCRs: []int{16}}}}
	path := place(t)
	f, err := store.Create(path, value{Tries: 1}, opt)
	require.NoError(t, err)
	state := filepath.Join(tpm.dir, tpmState)
	memory, err := os.ReadFile(state)
	require.NoError(t, err)
	for n := 2; n < 6; n++ {
		require.NoError(t, f.Save(value{Tries: n}))
	}
	require.NoError(t, f.Close())
	tpm.stop(t)
	require.NoError(t, os.WriteFile(state, memory, 0o600))
	tpm.start(t)
	_, err = store.Open[value](path, opt)
	require.ErrorIs(t, err, store.ErrAhead)
	old := contents(t, path)
	// Accepting keeps the registers, also where the sealer names none.
	bare := store.Options{Sealers: []seal.Sealer{seal.TPM{Address: tpm.socket()}}}
	f, err = store.Accept[value](path, bare)
	require.NoError(t, err)
	v, err := f.Load()
	require.NoError(t, err)
	require.Equal(t, 5, v.Tries)
	require.NoError(t, f.Close())
	require.Contains(t, contents(t, path), `"pcrs":[16]`)
	require.NoError(t, os.WriteFile(path, []byte(old), 0o600))
	_, err = store.Open[value](path, opt)
	require.ErrorIs(t, err, seal.ErrNoCounter)
}

// Changing the seal takes the old counter out of the TPM.
func TestReseal_ByTPM(t *testing.T) {
	t.Parallel()
	tpm := seal.TPM{Address: newTPM(t).socket()}
	opt := store.Options{Sealers: []seal.Sealer{seal.Insecure{}, cheap, tpm}}
	path := place(t)
	f, err := store.Create(path, value{Name: "x"}, opt)
	require.NoError(t, err)
	var copies []string
	for _, s := range []seal.Sealer{tpm, cheap, tpm, tpm, seal.Insecure{}, tpm} {
		if f.Seal() == seal.KindTPM {
			copies = append(copies, contents(t, path))
		}
		require.NoError(t, f.Reseal(s))
		require.NoError(t, f.Save(value{Name: "x"}))
	}
	require.NoError(t, f.Close())
	now := contents(t, path)
	require.Len(t, copies, 3)
	for _, old := range copies {
		require.NoError(t, os.WriteFile(path, []byte(old), 0o600))
		_, err = store.Open[value](path, opt)
		require.ErrorIs(t, err, seal.ErrNoCounter)
	}
	require.NoError(t, os.WriteFile(path, []byte(now), 0o600))
	v, _, err := store.Read[value](path, opt)
	require.NoError(t, err)
	require.Equal(t, "x", v.Name)
	require.NoError(t, store.Remove(path, opt))
	require.NoError(t, os.WriteFile(path, []byte(now), 0o600))
	_, err = store.Open[value](path, opt)
	require.ErrorIs(t, err, seal.ErrNoCounter, "a removed card's counter goes with it")
}
