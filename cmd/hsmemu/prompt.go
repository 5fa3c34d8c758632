package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// secret gets a PIN or passphrase: from a file, from the environment, or typed
// at a terminal. The caller wipes it.
func (a *app) secret(what, file, variable string) ([]byte, error) {
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", what, err)
		}
		line, _, _ := bytes.Cut(data, []byte("\n"))
		return bytes.TrimSuffix(line, []byte("\r")), nil
	}
	if v := a.env(variable); v != "" {
		return []byte(v), nil
	}
	in, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		line, err := readLine(a.in)
		if len(line) > 0 {
			return line, nil
		}
		return nil, hinted{errors.Join(fmt.Errorf("no %s", what), err), "give it in a file, in $" + variable + " or at a terminal"}
	}
	fmt.Fprintf(a.err, "%s: ", what)
	typed, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(a.err)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return typed, nil
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

// readLine reads a line and nothing behind it: the next one may be another
// secret.
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

// typed reports whether secrets are typed at a terminal.
func (a *app) typed() bool {
	in, ok := a.in.(*os.File)
	return ok && term.IsTerminal(int(in.Fd()))
}
