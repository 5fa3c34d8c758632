package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Exit codes of exec beside the program's own, as env and shells have them.
const (
	exitExec   = 125 // exec itself failed
	exitCannot = 126 // the program cannot be run
	exitAbsent = 127 // there is no such program
	exitSignal = 128 // and the number of the signal that ended it
)

// execError is a failure of exec itself.
type execError struct{ error }

func (e execError) Unwrap() error { return e.error }

// packages are those of Debian and its kin that have the tools that people use
// cards with.
var packages = map[string]string{
	"eidenv": "opensc", "opensc-explorer": "opensc", "opensc-tool": "opensc", "pkcs11-tool": "opensc", "pkcs15-crypt": "opensc",
	"pkcs15-init": "opensc", "pkcs15-tool": "opensc", "sc-hsm-tool": "opensc",
	"gpg": "gnupg", "openssl": "openssl", "p11-kit": "p11-kit", "p11tool": "gnutls-bin", "certtool": "gnutls-bin", "pcsc_scan": "pcsc-tools",
	"scriptor": "pcsc-tools", "ssh": "openssh-client", "ssh-add": "openssh-client", "ssh-keygen": "openssh-client", "pesign": "pesign",
	"osslsigncode": "osslsigncode", "certutil": "libnss3-tools", "modutil": "libnss3-tools",
}

// program runs a program with our input and output and hands over its exit
// code.
type program struct {
	args    []string
	traced  bool // by --trace without a file
	env     []string
	signals *signals
}

// run starts the program, passes on the signals that we are sent, and returns
// when it has ended: nil, or an exitError with its code.
func (p program) run(a *app) error {
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Env = p.env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.in, a.out, a.err
	if err := cmd.Start(); err != nil {
		if !p.traced || len(p.args) < 2 || p.args[1] != "--" {
			return a.notStarted(p.args[0], err, p.absent(a))
		}
		err = a.notStarted(p.args[0], err, "") // it may be there, and be no program
		fmt.Fprintf(a.err, "hint: a file for the trace stands behind an equals sign: --trace=%s\n", oneLine(p.args[0]))
		return err
	}
	passed := p.signals.to(a, cmd.Process)
	err := cmd.Wait()
	passed()
	return exitOf(err)
}

// notStarted says why a program could not be started, and what to do if there is no
// such program: the advice, or where the program is to be had. The error is the exit
// code alone.
func (a *app) notStarted(name string, err error, advice string) error {
	code := exitError(exitCannot)
	if name == "" || errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		err, code = errors.New("there is no such program"), exitAbsent
	}
	fmt.Fprintf(a.err, "hsmemu: start %s: %s\n", cmp.Or(oneLine(name), `""`), oneLine(cause(err).Error()))
	if code != exitAbsent {
		return code
	}
	here, absent := os.Stat(name)
	switch in := packages[name]; {
	case in != "":
		advice = "it is in the package " + in
	case advice == "" && filepath.Base(name) == name && absent == nil && here.Mode().IsRegular():
		advice = "the one in this folder is ./" + oneLine(name)
	}
	if advice != "" {
		fmt.Fprintf(a.err, "hint: %s\n", advice)
	}
	return code
}

// absent is advice about a program that is not there: to name the card by its flag,
// as in other programs of this kind it is an argument.
func (p program) absent(a *app) string {
	name := p.args[0]
	if len(p.args) > 1 && p.args[1] == "--" || slices.Contains(cardNames(a, nil), name) {
		return fmt.Sprintf("a card is named by a flag: hsmemu exec --card %s -- PROGRAM", oneLine(name))
	}
	return ""
}

// cause is why a program could not be started, without what has been said.
func cause(err error) error {
	var path *fs.PathError
	var name *exec.Error
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &name):
		return name.Err
	}
	return err
}

// signals are those that we are sent and a program should get.
type signals struct{ came chan os.Signal }

// passSignals collects them from now on, so that none is lost while a program
// is about to start.
func passSignals() *signals {
	s := &signals{came: make(chan os.Signal, 8)}
	signal.Notify(s.came, passed...)
	return s
}

func (s *signals) stop() { signal.Stop(s.came) }

// to passes them to a process until done is called, which returns when that
// has ended.
func (s *signals) to(a *app, process *os.Process) (done func()) {
	for len(s.came) > 0 { // came before there was a process that the terminal could have told
		_ = process.Signal(<-s.came)
	}
	ended, end := context.WithCancel(context.Background())
	passing := make(chan struct{})
	go func() {
		defer close(passing)
		for {
			select {
			case one := <-s.came:
				if !fromKeyboard(a, one) {
					_ = process.Signal(one) // it may have ended just now
				}
			case <-ended.Done():
				return
			}
		}
	}()
	return func() { end(); <-passing }
}

// fromKeyboard reports whether the terminal has sent the signal to the program,
// too, since it sends them to everybody in the foreground.
func fromKeyboard(a *app, s os.Signal) bool {
	return (s == syscall.SIGINT || s == syscall.SIGQUIT) && isTerminal(a.in)
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
