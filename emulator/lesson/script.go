package lesson

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"time"

	"hsmemu/emulator/program"
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
	// temporary is where its output is meanwhile, and writable are the folders that it can
	// write beneath, where the system confines it.
	temporary string
	writable  []string
}

// shellOf is the shell that runs a script: bash if its first line asks for that, otherwise sh.
func shellOf(text string) string {
	if interpreter(text) == "bash" {
		return "bash"
	}
	return "sh"
}

// shells are the interpreters that a script may ask for.
var shells = []string{"", "sh", "bash", "dash", "ash"}

// interpreter is the name of the program that a script's first line asks for, also by env;
// empty if it asks for none.
func interpreter(text string) string {
	first, _, _ := strings.Cut(text, "\n")
	asked, is := strings.CutPrefix(first, "#!")
	if !is {
		return ""
	}
	for _, word := range strings.Fields(asked) {
		if name := path.Base(word); name != "env" && !strings.HasPrefix(word, "-") {
			return name
		}
	}
	return ""
}

// longestOutput is how much of a script's output is kept, and mostOutput how much it, with
// what it has left in the background, may print, and may write into each file: it is on a
// disk that everybody uses.
const (
	longestOutput = 64 << 10
	mostOutput    = 16 << 20
)

// parent is what runs a script, so that it is not us whom the script finds as its parent.
// Whoever writes more than the limit, in blocks of 512 bytes, is ended by the system, also
// when the script has ended before.
var parent = fmt.Sprintf(`ulimit -c 0; ulimit -f %d; "$0" "$1"; exit $?`, mostOutput/512)

// ErrTooMuch says that a script printed more than 16 MB, and ErrKilled that it has killed
// the shell that runs it.
var (
	ErrTooMuch = errors.New("it printed more than 16 MB")
	ErrKilled  = errors.New("it killed the shell that runs it")
)

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
// not 0, is the process group of what may go on. Errors: ErrTooLong, ErrTooMuch, ErrKilled, that of the
// context, and whatever hinders its start.
func (s script) run(ctx context.Context) (out string, code, group int, err error) {
	printed, err := os.CreateTemp(s.temporary, "hsmemu-lesson-*.out")
	if err != nil {
		return "", 0, 0, err
	}
	defer func() {
		_ = os.Remove(printed.Name()) // a temporary file
		_ = printed.Close()
	}()
	cmd := exec.Command("sh", "-c", parent, s.shell, s.path) //nolint:noctx // the group is killed, and not the process alone
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.dir, s.env, printed, printed
	if s.mark != "" {
		cmd.Env = append(slices.Clip(s.env), s.mark)
	}
	inGroup(cmd)
	if err := program.StartConfined(cmd, s.writable...); err != nil {
		return "", 0, 0, err
	}
	ended := make(chan error)
	go func() { ended <- cmd.Wait() }()
	late := time.NewTimer(s.limit)
	defer late.Stop()
	group = cmd.Process.Pid
	why := error(nil)
	select {
	case err = <-ended:
	case <-late.C:
		why = fmt.Errorf("%w, %v", ErrTooLong, s.limit)
	case <-ctx.Done():
		why = ctx.Err()
	}
	if why != nil {
		s.kill(group)
		err = <-ended
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code, err = exit.ExitCode(), nil
	}
	switch info, failed := printed.Stat(); {
	case why != nil:
		err = why
	case failed != nil:
		err = failed
	case info.Size() >= mostOutput:
		err = ErrTooMuch
	case code < 0: // a signal
		err = ErrKilled
	}
	if err != nil || !s.lasting {
		s.kill(group)
		group = 0
	}
	text, failed := io.ReadAll(io.NewSectionReader(printed, 0, longestOutput))
	return string(text), code, group, errors.Join(err, failed)
}
