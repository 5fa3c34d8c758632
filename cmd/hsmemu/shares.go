package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/term"

	"hsmemu/keystore"
	"hsmemu/keystore/keyfile"
)

// readShares reads the share files and gets their passwords.
func (a *app) readShares(o importOrder) (shares, passwords [][]byte, err error) {
	for i, path := range o.shares {
		share, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, fmt.Errorf("read the share: %w", err)
		}
		password, err := a.sharePassword(path, pick(o.sharePasswords, i))
		if err != nil {
			wipe(passwords)
			return nil, nil, err
		}
		shares, passwords = append(shares, share), append(passwords, password)
	}
	return shares, passwords, nil
}

// sharePassword gets the password of a share, which may have been split.
func (a *app) sharePassword(share, file string) ([]byte, error) {
	what := "password of " + share
	if file == "" {
		return a.secret(what, file, "HSMEMU_SHARE_PASSWORD")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the %s: %w", what, err)
	}
	defer clear(data)
	parts, err := keyfile.PasswordParts(data)
	if err != nil {
		return nil, fmt.Errorf("read the %s in %s: %w", what, file, err)
	}
	if len(parts) == 0 {
		return a.secret(what, file, "HSMEMU_SHARE_PASSWORD")
	}
	password, err := keystore.JoinPassword(parts)
	if err != nil {
		return nil, fmt.Errorf("join the %s: %w", what, err)
	}
	return password, nil
}

// combine opens the shares, at the same time where there are processors for
// it, and puts them together.
func (a *app) combine(ctx context.Context, o importOrder, files, passwords [][]byte) (keystore.Domain, error) {
	type opened struct {
		i     int
		share []byte
		err   error
	}
	// Room for all: what cannot be interrupted ends with the process.
	results := make(chan opened, len(files))
	for i := range files {
		password := bytes.Clone(passwords[i]) // the caller wipes its own when the context ends
		go func() {
			defer clear(password)
			share, err := o.open(files[i], password)
			results <- opened{i, share, err}
		}()
	}
	defer a.progress("opening the shares")()
	domain := keystore.NewDKEK(len(files))
	for range files {
		select {
		case r := <-results:
			if r.err != nil {
				return keystore.Domain{}, fmt.Errorf("open share %s: %w", o.shares[r.i], r.err)
			}
			var err error
			if domain, err = domain.Import(r.share); err != nil {
				return keystore.Domain{}, fmt.Errorf("combine the shares: %w", err)
			}
			clear(r.share)
		case <-ctx.Done():
			return keystore.Domain{}, fmt.Errorf("open the shares: %w", context.Cause(ctx))
		}
	}
	return domain, nil
}

// progress shows on a terminal that something takes its time, until stop.
func (a *app) progress(what string) (stop func()) {
	out, ok := a.err.(*os.File)
	if !ok || !term.IsTerminal(int(out.Fd())) {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		second := time.NewTicker(time.Second)
		defer second.Stop()
		for n := 0; ; n++ {
			fmt.Fprintf(out, "\r%s: %d s ", what, n)
			select {
			case <-second.C:
			case <-done:
				fmt.Fprint(out, "\r\x1b[K")
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}
