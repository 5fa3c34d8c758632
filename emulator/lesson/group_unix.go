//go:build unix

package lesson

import (
	"os/exec"
	"syscall"
	"time"
)

// inGroup makes a program the leader of a process group.
func inGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// killGroup ends all processes of a group at once; there may be none left.
func killGroup(group int) { _ = syscall.Kill(-group, syscall.SIGKILL) }

// endGroup kills a group and waits until it is gone, so that nothing holds its files any
// more; not for ever, since a process that nobody waits for stays as a zombie.
func endGroup(group int) {
	killGroup(group)
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for range 100 {
		if syscall.Kill(-group, 0) != nil {
			return
		}
		<-look.C
	}
}
