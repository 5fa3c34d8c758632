package lesson

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// ErrTooLong says that a script did not end within its time.
var ErrTooLong = errors.New("it did not end within its time")

// script runs a shell script. Its output goes into a file, so that what it leaves
// in the background holds nothing up.
type script struct {
	shell   string // sh or bash
	path    string
	dir     string
	env     []string
	limit   time.Duration
	lasting bool // what it leaves in the background goes on
	// mark is a variable of the environment, NAME=VALUE, that no other script has; empty for
	// none. What leaves the process group is known by it.
	mark string
}

// shellOf is the shell that a script's first line asks for.
func shellOf(text string) string {
	first, _, _ := strings.Cut(text, "\n")
	if strings.HasPrefix(first, "#!") && strings.Contains(first, "bash") {
		return "bash"
	}
	return "sh"
}

// longestOutput is how much of a script's output is kept, and mostOutput how much it may
// print: it is on a disk that everybody uses.
const (
	longestOutput = 64 << 10
	mostOutput    = 16 << 20
)

// ErrTooMuch says that a script printed more than 16 MB.
var ErrTooMuch = errors.New("it printed more than 16 MB")

// envScript is the variable that marks what a script of a session has started.
const envScript = "HSMEMU_LESSON_SCRIPT"

// markOf is what the marks of all scripts of a session begin with.
func markOf(dir string) string { return envScript + "=" + dir + ":" }

// kill ends what the script has started.
func (s script) kill(group int) {
	killGroup(group)
	if s.mark != "" {
		killMarked(s.mark)
	}
}

// run returns what the script printed, and its exit code. When it took too long, or
// the context ends, it and all processes of its group and with its mark are killed. group, where it is
// not 0, is the process group of what may go on. Errors: ErrTooLong, ErrTooMuch, that of the
// context, and whatever hinders its start.
func (s script) run(ctx context.Context) (out string, code, group int, err error) {
	printed, err := os.CreateTemp("", "hsmemu-lesson-*.out")
	if err != nil {
		return "", 0, 0, err
	}
	defer func() {
		_ = os.Remove(printed.Name()) // a temporary file
		_ = printed.Close()
	}()
	cmd := exec.Command(s.shell, s.path) //nolint:noctx // the group is killed, and not the process alone
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.dir, s.env, printed, printed
	if s.mark != "" {
		cmd.Env = append(slices.Clip(s.env), s.mark)
	}
	inGroup(cmd)
	if err := cmd.Start(); err != nil {
		return "", 0, 0, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err = cmd.Wait()
	}()
	late := time.NewTimer(s.limit)
	defer late.Stop()
	group = cmd.Process.Pid
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	why := error(nil)
	for done := false; !done; {
		select {
		case <-ended:
			done = true
			continue
		case <-look.C:
			if info, err := printed.Stat(); err != nil || info.Size() <= mostOutput {
				continue
			}
			why = ErrTooMuch
		case <-late.C:
			why = fmt.Errorf("%w, %v", ErrTooLong, s.limit)
		case <-ctx.Done():
			why = ctx.Err()
		}
		s.kill(group)
		<-ended
		err, done = why, true
	}
	if !s.lasting {
		s.kill(group)
		group = 0
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code, err = exit.ExitCode(), nil
	}
	text, failed := io.ReadAll(io.NewSectionReader(printed, 0, longestOutput))
	return string(text), code, group, errors.Join(err, failed)
}
