package lesson

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// killMarked ends all processes of this user with a variable of the environment that
// begins with mark, in whatever process group or session they are. One that starts
// others all the time is not waited for beyond a second.
func killMarked(mark string) {
	over, again := time.NewTimer(time.Second), time.NewTicker(time.Millisecond)
	defer over.Stop()
	defer again.Stop()
	for {
		found := marked(mark)
		if len(found) == 0 {
			return
		}
		for _, pid := range found {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
		select {
		case <-again.C:
		case <-over.C:
			return
		}
	}
}

// marked are the process numbers of those, without our own and those that have ended.
func marked(mark string) (pids []int) {
	folders, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well-formed
	for _, folder := range folders {
		pid, err := strconv.Atoi(filepath.Base(folder))
		info, failed := os.Stat(folder)
		if err != nil || failed != nil || pid == os.Getpid() {
			continue
		}
		if of, is := info.Sys().(*syscall.Stat_t); !is || int(of.Uid) != os.Geteuid() {
			continue
		}
		environment, err := os.ReadFile(filepath.Join(folder, "environ"))
		if err == nil && bytes.Contains(append([]byte{0}, environment...), append([]byte{0}, mark...)) {
			pids = append(pids, pid)
		}
	}
	return pids
}
