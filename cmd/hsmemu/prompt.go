package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// noSecretError says that a secret is not given, and cannot be asked for.
type noSecretError struct{ what, variable string }

func (e *noSecretError) Error() string { return "no " + e.what }

// hint says how to give it to a command: not all that may want it have a flag for it.
func (e *noSecretError) hint(cmd *cobra.Command) string {
	flag := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(e.variable, variables.Prefix), "_", "-")) + "-file"
	if cmd.Flag(flag) == nil {
		return "give it in $" + e.variable + " or at a terminal"
	}
	return "give it with --" + flag + ", in $" + e.variable + " or at a terminal"
}

// secret gets a PIN or passphrase: from a file, from the environment, or typed
// at a terminal without being shown. The caller wipes it.
func (a *app) secret(what, file, variable string) ([]byte, error) {
	if file != "" {
		data, err := a.readFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the %s in %s: %w", what, file, err)
		}
		line, _, _ := bytes.Cut(data, []byte("\n"))
		return bytes.TrimSuffix(line, []byte("\r")), nil
	}
	if v := a.env(variable); v != "" {
		return []byte(v), nil
	}
	typed, err := a.typed(what+": ", true)
	if errors.Is(err, errNoTerminal) {
		return nil, &noSecretError{what, variable}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return typed, nil
}

// pin is a secret that a card compares: an empty one would cost a try, or be refused as
// something else.
func (a *app) pin(what, file, variable string) ([]byte, error) {
	value, err := a.secret(what, file, variable)
	if err == nil && len(value) == 0 {
		err = fmt.Errorf("the %s is empty", what)
	}
	return value, err
}

var (
	errNoTerminal = errors.New("there is no terminal")
	// errNothing says that the input ended where an answer was asked for.
	errNothing = errors.New("nothing was typed")
	// errInterrupted says that a signal ended what would have gone on waiting.
	errInterrupted = errors.New("interrupted")
)

// typed asks at the terminal that the program was started from. Its standard
// input is not touched: that may be meant for the program that exec runs.
func (a *app) typed(question string, hide bool) ([]byte, error) {
	tty, err := os.OpenFile(a.terminal, os.O_RDWR, 0)
	if err != nil {
		return nil, errNoTerminal
	}
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, errors.Join(err, tty.Close())
	}
	if hide {
		// Not by term.ReadPassword, which never returns after a Ctrl-D.
		if err := silence(fd); err != nil {
			return nil, errors.Join(err, tty.Close())
		}
	}
	fmt.Fprint(tty, question)
	line, err := unlessInterrupted(a, func() ([]byte, error) { return readLine(tty) })
	if hide || err != nil {
		fmt.Fprintln(tty)
	}
	if errors.Is(err, io.EOF) {
		err = errNothing
	}
	err = errors.Join(err, term.Restore(fd, before))
	if !errors.Is(err, errInterrupted) { // or else somebody is still reading
		err = errors.Join(err, tty.Close())
	}
	return line, err
}

// unlessInterrupted does what may wait for ever, as opening a named pipe does. One
// that is interrupted goes on until the process ends, which nothing can prevent.
func unlessInterrupted[T any](a *app, do func() (T, error)) (result T, err error) {
	done := make(chan struct{})
	var got T
	var failed error
	go func() {
		defer close(done)
		got, failed = do()
	}()
	select {
	case <-done:
		return got, failed
	case <-a.interrupted:
		return result, errInterrupted
	}
}

// writeFile makes a file, or empties it. A named pipe is waited for, until somebody
// reads from it or the user has enough.
func (a *app) writeFile(path string) (*os.File, error) {
	file, err := unlessInterrupted(a, func() (*os.File, error) {
		return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	})
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", path, plain(err))
	}
	return file, nil
}

// pick is the file for the i-th of several things: files are one for each of
// them, one for all, or none.
func pick(files []string, i int) string {
	switch len(files) {
	case 0:
		return ""
	case 1:
		return files[0]
	}
	return files[i]
}

// wipe overwrites secrets.
func wipe(secrets [][]byte) {
	for _, s := range secrets {
		clear(s)
	}
}

// readLine reads a line and nothing behind it: the next one may be for another
// reader.
func readLine(r io.Reader) ([]byte, error) {
	line := make([]byte, 0, 1024) // growing would leave copies
	for b := make([]byte, 1); ; {
		n, err := r.Read(b)
		if n > 0 && b[0] == '\n' || err != nil {
			return bytes.TrimSuffix(line, []byte("\r")), err
		}
		line = append(line, b[:n]...)
	}
}
