package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// secret gets a PIN or passphrase: from a file, from the environment, or typed
// at a terminal without being shown. The caller wipes it.
func (a *app) secret(what, file, variable string) ([]byte, error) {
	if file != "" {
		data, err := readFile(file)
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
		return nil, hinted{fmt.Errorf("no %s", what), "give it in a file, in $" + variable + " or at a terminal"}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return typed, nil
}

var (
	errNoTerminal = errors.New("there is no terminal")
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
	type answer struct {
		line []byte
		err  error
	}
	answers := make(chan answer, 1) // a read that cannot be interrupted ends with the process
	go func() {
		read := func() ([]byte, error) { return readLine(tty) }
		if hide {
			read = func() ([]byte, error) { return term.ReadPassword(fd) }
		}
		line, err := read()
		answers <- answer{line, err}
	}()
	if hide {
		hidden(fd, before)
	}
	fmt.Fprint(tty, question)
	select {
	case got := <-answers:
		if hide {
			fmt.Fprintln(tty)
		}
		return got.line, errors.Join(got.err, tty.Close())
	case <-a.interrupted:
		fmt.Fprintln(tty)
		return nil, errors.Join(errInterrupted, term.Restore(fd, before))
	}
}

// hidden waits until the terminal has left its state of before, and no longer
// shows what is typed: who asked sooner could show the secret, and one who is
// interrupted sooner would restore too early. A terminal that showed nothing to
// begin with is not waited for.
func hidden(fd int, before *term.State) {
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for range 50 {
		if now, err := term.GetState(fd); err != nil || *now != *before {
			return
		}
		<-look.C
	}
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
