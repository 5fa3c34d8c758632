//go:build unix

package lesson

import (
	"os/exec"
	"syscall"
)

// inGroup makes a program the leader of a process group.
func inGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// killGroup ends all processes of a group at once; there may be none left.
func killGroup(group int) { _ = syscall.Kill(-group, syscall.SIGKILL) }
