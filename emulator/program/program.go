// Package program runs programs of others: with our input and output, and the
// signals that are sent to us meanwhile, or alone, to the end of all that they
// have started. How a program ended is told as shells tell it.
package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// Exit codes beside a program's own, as env and shells have them.
const (
	ExitCannot = 126 // the program cannot be run
	ExitAbsent = 127 // there is no such program, or not its interpreter
	exitSignal = 128 // and the number of the signal that ended it
)

// Exit is the exit code of a program, other than 0: its own, or 128 and the number
// of the signal that ended it.
type Exit int

// Error names the code.
func (e Exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// StartError says why a program could not be started.
type StartError struct {
	Name string
	// Absent tells that there is no such program.
	Absent bool
	Err    error

	orphan bool // the program is there, and its interpreter is not
}

// Error is the reason alone.
func (e *StartError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *StartError) Unwrap() error { return e.Err }

// Exit is the exit code that shells have for it.
func (e *StartError) Exit() Exit {
	if e.Absent || e.orphan {
		return ExitAbsent
	}
	return ExitCannot
}

// notStarted is a *StartError with the system's reason, without what that error says
// besides.
func notStarted(name string, err error) error {
	var path *fs.PathError
	if errors.Is(err, fs.ErrNotExist) && errors.As(err, &path) {
		if info, there := os.Stat(path.Path); there == nil && info.Mode().IsRegular() {
			return &StartError{Name: name, Err: noInterpreter(path.Path), orphan: true}
		}
	}
	if name == "" || errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return &StartError{Name: name, Absent: true, Err: errors.New("there is no such program")}
	}
	var looked *exec.Error
	switch {
	case errors.As(err, &path):
		err = path.Err
	case errors.As(err, &looked):
		err = looked.Err
	}
	return &StartError{Name: name, Err: err}
}

// noInterpreter says of a program which interpreter is missing, where its first line tells it:
// up to a space or tab, as the system has it, so that a carriage return is part of it.
func noInterpreter(path string) error {
	first := make([]byte, 256)
	n := 0
	if f, err := os.Open(path); err == nil {
		n, _ = io.ReadFull(f, first) // what there is
		_ = f.Close()
	}
	line, _, _ := strings.Cut(string(first[:n]), "\n")
	if said, is := strings.CutPrefix(line, "#!"); is {
		name, _, _ := strings.Cut(strings.TrimLeft(said, " \t"), " ")
		name, _, _ = strings.Cut(name, "\t")
		return fmt.Errorf("its interpreter %q is missing", name)
	}
	return errors.New("its interpreter is missing")
}

// Find looks for a program as a start of it does. Error: a *StartError.
func Find(name string) error {
	if _, err := exec.LookPath(name); err != nil {
		return notStarted(name, err)
	}
	return nil
}

// Signals are those that we are sent and a program should get.
type Signals struct{ came chan os.Signal }

// Collect collects them from now on, so that none is lost while a program is about
// to start.
func Collect() *Signals {
	s := &Signals{came: make(chan os.Signal, 8)}
	signal.Notify(s.came, passed...)
	return s
}

// Stop ends the collection.
func (s *Signals) Stop() { signal.Stop(s.came) }

// Run starts a program, passes on the signals, and returns when it has ended.
// foreground tells that a terminal sends signals of its keys to the program, too,
// since it sends them to everybody in the foreground: those are not passed on, once
// there is a program. Errors: a *StartError, an Exit, those of exec.Cmd.Wait.
func (s *Signals) Run(cmd *exec.Cmd, foreground bool) error {
	if err := cmd.Start(); err != nil {
		return notStarted(cmd.Args[0], err)
	}
	for len(s.came) > 0 { // came before there was a process that the terminal could have told
		_ = cmd.Process.Signal(<-s.came)
	}
	ended := make(chan struct{})
	passing := make(chan struct{})
	go func() {
		defer close(passing)
		for {
			select {
			case one := <-s.came:
				if !foreground || one != syscall.SIGINT && one != syscall.SIGQUIT {
					_ = cmd.Process.Signal(one) // it may have ended just now
				}
			case <-ended:
				return
			}
		}
	}()
	err := cmd.Wait()
	close(ended)
	<-passing
	return exitOf(err)
}

// exitOf is how a program ended: nil, an Exit, or another error.
func exitOf(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return Exit(exitSignal + int(status.Signal()))
	}
	return Exit(exit.ExitCode())
}

// Ended is how a program ended that was run alone.
type Ended struct {
	// Exit is its exit code.
	Exit Exit
	// Hung tells that it was ended since its time was over, and Behind that what it
	// had started and left behind was.
	Hung, Behind bool
}

// errLate says that a program's time is over.
var errLate = errors.New("its time is over")

// behindPoll is how often what a program has left behind is looked for.
const behindPoll = 20 * time.Millisecond

// Alone runs a program in a session of its own, without input and a terminal, and
// waits for all that it has started, for limit from its start on at the longest; then what
// is left is ended. What they print goes to out. Only one program can be run like this at a
// time. Errors: a *StartError, those of the system.
func Alone(ctx context.Context, limit time.Duration, args, env []string, out io.Writer) (e Ended, err error) {
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := exec.CommandContext(limited, args[0], args[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, out, out
	ownSession(cmd)
	cmd.WaitDelay = time.Second // for what it has started and left behind
	started, err := adopt()
	if err != nil {
		return e, err
	}
	if err := cmd.Start(); err != nil {
		return e, notStarted(args[0], err)
	}
	late := time.AfterFunc(limit, func() { cancel(errLate) }) // what it takes to start it is not the program's time
	defer late.Stop()
	err = exitOf(cmd.Wait())
	e.Hung = errors.Is(context.Cause(limited), errLate) && err != nil
	leader := cmd.Process.Pid
	again := time.NewTicker(behindPoll)
	defer again.Stop()
	for started.alive(leader) && limited.Err() == nil {
		select {
		case <-again.C:
		case <-limited.Done():
		}
	}
	if started.alive(leader) {
		e.Behind = !e.Hung && ctx.Err() == nil
		started.end(leader)
	}
	if errors.As(err, &e.Exit) || e.Hung || errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return e, err
}

// With is an environment with a variable set.
func With(env []string, name, value string) []string {
	out := make([]string, 0, len(env)+1)
	for _, v := range env {
		if !strings.HasPrefix(v, name+"=") {
			out = append(out, v)
		}
	}
	return append(out, name+"="+value)
}
