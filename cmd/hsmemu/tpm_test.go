//go:build linux

package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// swtpm is a software TPM of a test's own, whose memory outlives its process.
type swtpm struct {
	dir string // with its memory and its socket
	cmd *exec.Cmd
}

// newSWTPM makes one and starts it.
func newSWTPM() (*swtpm, error) {
	dir, err := shortFolder()
	if err != nil {
		return nil, err
	}
	s := &swtpm{dir: dir}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func newTPM(t *testing.T) *swtpm {
	t.Helper()
	s, err := newSWTPM()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.close()) })
	return s
}

func (s *swtpm) socket() string { return filepath.Join(s.dir, "tpm.sock") }

// start starts it and returns when it answers.
func (s *swtpm) start() error {
	path, err := exec.LookPath("swtpm")
	if err != nil {
		return errors.Join(err, errors.New("install the package swtpm"))
	}
	s.cmd = exec.Command(path, "socket", "--tpm2", "--tpmstate", "dir="+s.dir,
		"--server", "type=unixio,path="+s.socket(), "--flags", "not-need-init")
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	return await(func() bool {
		c, err := net.Dial("unix", s.socket())
		return err == nil && c.Close() == nil
	})
}

// stop takes its power away.
func (s *swtpm) stop() error {
	if s.cmd == nil {
		return nil
	}
	err := s.cmd.Process.Kill()
	_ = s.cmd.Wait() // killed
	s.cmd = nil
	return errors.Join(err, os.Remove(s.socket()))
}

// forget makes another TPM of one that is stopped.
func (s *swtpm) forget() error { return os.Remove(filepath.Join(s.dir, "tpm2-00.permall")) }

func (s *swtpm) close() error {
	err := s.stop()
	if s.dir == "" {
		return err
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}
