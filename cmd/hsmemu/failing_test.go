//go:build linux

package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
	"hsmemu/vsmartcard/pcscd"
)

// What a file system says when it is full, when it cannot be written, and when
// it cannot make anything durable.
var failures = []error{syscall.ENOSPC, syscall.EROFS, syscall.EIO, syscall.EDQUOT, fs.ErrPermission}

// Whichever operation of the disk fails, once or from then on, the command
// answers 6581 and the card says nothing more; the file is as before, up to a
// try that was spent; there is one line about it; and after a reset the card
// goes on where it was.
func TestFailing_EveryOperationOfTheDisk(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{seal.KindNone, seal.KindPassphrase, seal.KindTPM} {
		for _, lasting := range []bool{false, true} {
			for n := 1; ; n++ {
				f := newFailing(t, kind)
				if !f.verify(n, lasting) {
					require.Greater(t, n, 2*7, kind) // two saves of seven operations and more
					break
				}
			}
		}
	}
}

// failing is a card that was set up, on a disk that is going to fail.
type failing struct{ *cutting }

func newFailing(t *testing.T, kind string) failing {
	f := failing{newCutting(t, kind, 1)}
	f.disk.before = nil
	for _, one := range []deed{f.driver.initialise(driverSOPIN), f.driver.importShare(), f.driver.generate(1)} {
		r, err := apdu.ParseResponse(f.transmit(one.command))
		require.NoError(t, err)
		require.Equal(t, apdu.OK, r.SW)
		f.before = one.settled(f.before, r)
	}
	f.before = f.look("set up")
	return f
}

// look reads the file, which has to hold a card that may be there.
func (f failing) look(about string) account {
	d, _, err := store.Read[chip.Durable](cardFile, f.disk.sealed(f.kind))
	require.NoError(f.t, err)
	return checkFound(f.t, f.before, f.under, d, about)
}

// verify presents the right PIN while the n-th operation fails, and tells
// whether there is an n-th.
func (f failing) verify(n int, lasting bool) bool {
	t, cause, seen := f.t, failures[n%len(failures)], 0
	f.disk.before = func(operation string) error {
		seen++
		if seen == n || lasting && seen > n {
			return &fs.PathError{Op: operation, Path: cardFile, Err: cause}
		}
		return nil
	}
	right := f.driver.verify(f.before, driverPIN)
	about := fmt.Sprintf("%s, operation %d, lasting %v, %v", f.kind, n, lasting, cause)
	sw := statusOf(t, f.transmit(right.command))
	f.disk.before = nil
	if seen < n {
		require.Equal(t, apdu.OK, sw, about)
		require.Empty(t, f.said.String(), about)
		return false
	}
	require.Equal(t, apdu.MemoryFailure, sw, about)
	_, err := f.card.Transmit(t.Context(), right.command)
	require.ErrorIs(t, err, emulator.ErrMute, about)

	line := f.said.String()
	require.Regexp(t, `^hsmemu: card "alice": state could not be saved, card is mute until its next reset: [^\n]*\n$`, line)
	require.Contains(t, line, cause.Error(), about)
	require.Contains(t, line, cardFile, about)

	f.under = &right
	found := f.look(about)
	// Two exceptions, which the line names, leave the new state: the folder
	// could be written neither forth nor back, and the counter did not answer.
	if !strings.Contains(line, "could not be put back") && !strings.Contains(line, "not counted") {
		if found.number("tries") == 3 {
			require.Equal(t, f.before, found, about)
			require.Less(t, n, 9, about)
		} else {
			require.Equal(t, right.charged(f.before), found, about)
		}
	}

	// The disk is well again.
	require.NoError(t, f.card.Reset())
	f.transmit(wireSelect)
	require.Equal(t, apdu.OK, statusOf(t, f.transmit(right.command)), about)
	f.under = nil
	f.look(about)
	return true
}

// The same by the real program and a real file system: nothing can be written
// where the new state is to go.
func TestFailing_TheRealProgramSaysSoAndGoesOn(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.run("card", "new", "alice")
	p := h.start("alice")
	defer p.kill()
	p.ready(t)
	c := h.client(t.Context())
	c.send(t, wireSelect)
	driver := newDriver(1)
	require.Equal(t, apdu.OK, statusOf(t, c.send(t, driver.initialise(driverSOPIN).command)))
	before, err := os.ReadFile(h.file("alice"))
	require.NoError(t, err)

	obstacle := filepath.Join(h.file("alice")+".tmp", "obstacle")
	require.NoError(t, os.MkdirAll(obstacle, 0o700))
	verify := driver.verify(account{"PIN": driverPIN}, driverPIN).command
	require.Equal(t, apdu.MemoryFailure, statusOf(t, c.send(t, verify)))
	_, err = c.card.Transmit(t.Context(), verify)
	require.Error(t, err, "the card is mute")
	require.Eventually(t, func() bool { return strings.HasSuffix(p.said.String(), "\n") }, patience, interval,
		"what it says comes through a pipe")
	line := p.said.String()
	require.Regexp(t, `^hsmemu: card "alice": state could not be saved, card is mute until its next reset: save: .*alice\.card\.tmp: .*\n$`, line)
	after, err := os.ReadFile(h.file("alice"))
	require.NoError(t, err)
	require.Equal(t, string(before), string(after))

	require.NoError(t, os.RemoveAll(filepath.Dir(obstacle)))
	require.NoError(t, c.card.Reconnect(context.Background(), pcscd.Reset))
	c.send(t, wireSelect)
	require.Equal(t, apdu.OK, statusOf(t, c.send(t, verify)))
	require.Equal(t, line, p.said.String(), "and no more is said")
}
