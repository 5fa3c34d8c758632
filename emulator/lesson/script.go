package lesson

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
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
}

// shellOf is the shell that a script's first line asks for.
func shellOf(text string) string {
	first, _, _ := strings.Cut(text, "\n")
	if strings.HasPrefix(first, "#!") && strings.Contains(first, "bash") {
		return "bash"
	}
	return "sh"
}

// longestOutput is how much of a script's output is kept.
const longestOutput = 64 << 10

// run returns what the script printed, and its exit code. When it took too long, or
// the context ends, it and all processes of its group are killed. group, where it is
// not 0, is the process group of what may go on. Errors: ErrTooLong, that of the
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
	select {
	case <-ended:
	case <-late.C:
		killGroup(group)
		<-ended
		err = fmt.Errorf("%w, %v", ErrTooLong, s.limit)
	case <-ctx.Done():
		killGroup(group)
		<-ended
		err = ctx.Err()
	}
	if !s.lasting {
		killGroup(group)
		group = 0
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code, err = exit.ExitCode(), nil
	}
	text, failed := io.ReadAll(io.NewSectionReader(printed, 0, longestOutput))
	return string(text), code, group, errors.Join(err, failed)
}
