package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"
)

// Exit codes of exec beside the program's own, as shells have them.
const (
	exitNotStarted = 127
	exitSignal     = 128
)

// program runs a program with our input and output and hands over its exit
// code.
type program struct {
	args []string
	env  []string
}

// run starts the program, passes on the signals that we are sent, and returns
// when it has ended: nil, or an exitError with its code.
func (p program) run(a *app) error {
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Env = p.env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.in, a.out, a.err
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, passedOn...)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			err = errors.New("there is no such program")
		}
		fmt.Fprintf(a.err, "hsmemu: start %s: %v\n", p.args[0], err)
		return exitError(exitNotStarted)
	}
	ended, end := context.WithCancel(context.Background())
	passing := make(chan struct{})
	go func() {
		defer close(passing)
		for {
			select {
			case s := <-signals:
				if !fromKeyboard(a, s) {
					_ = cmd.Process.Signal(s) // it may have ended just now
				}
			case <-ended.Done():
				return
			}
		}
	}()
	err := cmd.Wait()
	end()
	<-passing
	return exitOf(err)
}

// passedOn are the signals that a program should get although it is we who
// were sent them.
var passedOn = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
}

// fromKeyboard tells whether the terminal has sent the signal to the program,
// too, since it sends them to everybody in the foreground.
func fromKeyboard(a *app, s os.Signal) bool {
	in, ok := a.in.(*os.File)
	return ok && (s == syscall.SIGINT || s == syscall.SIGQUIT) && term.IsTerminal(int(in.Fd()))
}

// exitOf is how a program ended, in the way shells report it.
func exitOf(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitError(exitSignal + int(status.Signal()))
	}
	return exitError(exit.ExitCode())
}

// with is an environment with a variable set.
func with(env []string, name, value string) []string {
	out := make([]string, 0, len(env)+1)
	for _, v := range env {
		if !strings.HasPrefix(v, name+"=") {
			out = append(out, v)
		}
	}
	return append(out, name+"="+value)
}
