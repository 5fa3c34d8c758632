package program

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// descendants are what a program has started and has not waited for. They become our
// children when the program ends, whatever session they are in.
type descendants struct {
	before []int // children that we had before
}

// prSetChildSubreaper is PR_SET_CHILD_SUBREAPER of prctl(2).
const prSetChildSubreaper = 36

// adopt has orphans below us become our children from now on. Errors: those of the
// system.
func adopt() (descendants, error) {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); errno != 0 {
		return descendants{}, fmt.Errorf("adopt what a program leaves behind: %w", errno)
	}
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		return descendants{}, fmt.Errorf("watch what a program leaves behind: %w", err)
	}
	return descendants{before: children()}, nil
}

// children are the process numbers of ours, also of those that ended and that nobody
// has waited for.
func children() (all []int) {
	own := strconv.Itoa(os.Getpid())
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it has just ended
		}
		// The name, in parentheses, may have anything in it; behind it are state and parent.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) > 1 && fields[1] == own {
			all = append(all, pid)
		}
	}
	return all
}

// running are those that have not ended, in the session of the program and outside of
// it. Those that ended are waited for.
func (d descendants) running() (pids []int) {
	for _, pid := range children() {
		if slices.Contains(d.before, pid) {
			continue
		}
		if ended, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil); err == nil && ended == 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// alive reports whether some are running, once the program has ended. Its process
// number is not looked at: it may be another's by now.
func (d descendants) alive(int) bool { return len(d.running()) > 0 }

// end ends them, and what becomes ours by that. One that starts others all the time
// is not waited for beyond a second.
func (d descendants) end(int) {
	over, again := time.NewTimer(time.Second), time.NewTicker(time.Millisecond)
	defer over.Stop()
	defer again.Stop()
	for {
		left := d.running()
		if len(left) == 0 {
			return
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		select {
		case <-again.C:
		case <-over.C:
			return
		}
	}
}
