//go:build unix

package program

import (
	"os"
	"os/exec"
	"syscall"
)

// passed are the signals that a program gets when we are sent them.
var passed = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}

// ownSession has a program run in a session of its own, without a terminal, and
// what ends it end all that it has started.
func ownSession(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
