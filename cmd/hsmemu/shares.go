package main

import (
	"fmt"
	"time"

	"hsmemu/keystore/keyfile"
)

// readShares reads the share files and gets their passwords.
func (a *app) readShares(o importOrder) (shares, passwords [][]byte, err error) {
	for i, path := range o.shares {
		share, err := a.readFile(path)
		if err != nil {
			return nil, nil, fmt.Errorf("read the share in %s: %w", path, err)
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
	data, err := a.readFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the %s in %s: %w", what, file, err)
	}
	defer clear(data)
	password, err := keyfile.SharePassword(data)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the %s in %s: %w", what, file, err)
	case password == nil:
		return a.secret(what, file, "HSMEMU_SHARE_PASSWORD")
	}
	return password, nil
}

// showProgress replaces what a terminal shows of something under way; empty takes it
// away.
func (a *app) showProgress(text string) { fmt.Fprint(a.err, "\r"+text+"\x1b[K") }

// progress shows on a terminal that something takes its time, until stop.
func (a *app) progress(what string) (stop func()) {
	if !isTerminal(a.err) {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		second := time.NewTicker(time.Second)
		defer second.Stop()
		for n := 0; ; n++ {
			a.showProgress(fmt.Sprintf("%s: %d s ", what, n))
			select {
			case <-second.C:
			case <-done:
				a.showProgress("")
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}
