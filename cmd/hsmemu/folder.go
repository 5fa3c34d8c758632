package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"hsmemu/applet"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/store"
	"hsmemu/emulator/view"
	"hsmemu/keystore"
	"hsmemu/keystore/seal"
)

// defaultCard is the card of a command that names none.
const defaultCard = "default"

// cardSuffix ends the name of a card's file in the state folder.
const cardSuffix = ".card"

// folder is the state folder, made on first use.
func (a *app) folder() (string, error) {
	dir := a.state
	if dir == "" {
		dir = a.env("HSMEMU_STATE")
	}
	if base := a.env("XDG_STATE_HOME"); dir == "" && base != "" {
		dir = filepath.Join(base, "hsmemu")
	}
	if dir == "" {
		home := a.env("HOME")
		if home == "" {
			return "", hinted{errors.New("find the state folder: no home folder"), "name one with --state or $HSMEMU_STATE"}
		}
		dir = filepath.Join(home, ".local", "state", "hsmemu")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the state folder: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return "", fmt.Errorf("look at the state folder: %w", err)
	}
	// Whoever can write into it can put a card there that is not the user's, or
	// the socket of a process that is not his. A group may be the user's own.
	if info.Mode().Perm()&0o002 != 0 {
		return "", hinted{fmt.Errorf("state folder %s: everybody can write into it, and could put cards there", dir), "chmod o-w " + dir}
	}
	return dir, nil
}

// cardName is what a card may be called: it becomes a file name and nothing
// else.
var cardName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// path is the file of a card.
func (a *app) path(name string) (string, error) {
	if !cardName.MatchString(name) {
		return "", usageError{fmt.Errorf("card name %q: letters, digits, dot, dash and underscore, 64 at most", name)}
	}
	dir, err := a.folder()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, name+cardSuffix), nil
}

// names lists the cards of the state folder.
func (a *app) names() ([]string, error) {
	dir, err := a.folder()
	if err != nil {
		return nil, err
	}
	found, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list cards: %w", err)
	}
	var names []string
	for _, entry := range found { // sorted
		name, isCard := strings.CutSuffix(entry.Name(), cardSuffix)
		if isCard && cardName.MatchString(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// order is what `card new` is told.
type order struct {
	firmware, serial string
	answers          applet.Answers
	seed             *uint64
	keyPool          bool
	sealing          sealing
}

// makeCard makes a card as shipped and leaves its file open for this process.
func (a *app) makeCard(name string, o order) (*store.File[chip.Durable], error) {
	path, err := a.path(name)
	if err != nil {
		return nil, err
	}
	w := a.world(chip.Durable{Seed: o.seed, KeyPool: o.keyPool})
	d, err := w.Manufacture(chip.Order{Firmware: o.firmware, Serial: o.serial, Answers: o.answers})
	if err != nil {
		return nil, fmt.Errorf("make card %q: %w", name, err)
	}
	d.Seed, d.KeyPool = o.seed, o.keyPool
	all, err := a.newSealers(o.sealing)
	if err != nil {
		return nil, err
	}
	file, err := store.Create(path, d, store.Options{Sealers: all})
	if errors.Is(err, store.ErrExist) {
		return nil, hinted{fmt.Errorf("make card %q: it exists already", name), "hsmemu card rm " + name}
	}
	if err != nil {
		return nil, explain("make", name, err)
	}
	return file, nil
}

// held is a card that this process runs.
type held struct {
	name string
	file *store.File[chip.Durable]
	card *emulator.Card
	// faults is the card as its reader gets it.
	faults *emulator.Faults
}

// Close gives the card's file back.
func (h *held) Close() error { return h.file.Close() }

// absent is what a command does about a card that does not exist.
type absent int

const (
	refuseAbsent absent = iota
	// makeDefault makes the default card on its first use, and says so.
	makeDefault
)

// hold opens a card for running it.
func (a *app) hold(name string, missing absent) (*held, error) {
	path, err := a.path(name)
	if err != nil {
		return nil, err
	}
	file, err := store.Open[chip.Durable](path, a.options())
	if errors.Is(err, store.ErrNotExist) && missing == makeDefault && name == defaultCard {
		if file, err = a.makeCard(name, order{}); err != nil {
			return nil, err
		}
		fmt.Fprintf(a.err, "hsmemu: made card %q in %s\n", name, filepath.Dir(path))
	}
	if err != nil {
		return nil, a.explain(name, err)
	}
	d, err := file.Load()
	if err != nil {
		return nil, errors.Join(a.explain(name, err), file.Close())
	}
	w := a.world(d)
	w.Log = slog.New(voice{out: a.err, about: fmt.Sprintf("card %q: ", name)})
	card, err := emulator.New(d, file, w)
	if err != nil {
		return nil, errors.Join(a.explain(name, err), file.Close())
	}
	return &held{name: name, file: file, card: card, faults: emulator.NewFaults(card)}, nil
}

// read gives the last saved state of a card, which another process may run.
func (a *app) read(name string) (chip.Durable, store.Info, error) {
	path, err := a.path(name)
	if err != nil {
		return chip.Durable{}, store.Info{}, err
	}
	d, info, err := store.Read[chip.Durable](path, a.options())
	if err != nil {
		return chip.Durable{}, store.Info{}, a.explain(name, err)
	}
	return d, info, nil
}

// explain says why a card could not be opened.
func (a *app) explain(name string, err error) error {
	if errors.Is(err, store.ErrNotExist) && !a.exists(name) { // a passphrase's file may be missing, too
		return hinted{fmt.Errorf("open card %q: there is no such card", name), "hsmemu card new " + name}
	}
	return explain("open", name, err)
}

// exists reports whether there is a card of that name.
func (a *app) exists(name string) bool {
	path, err := a.path(name)
	if err == nil {
		_, err = os.Stat(path)
	}
	return err == nil
}

// explain puts the errors of the store and of the seals into the words of the
// command line.
func explain(what, name string, err error) error {
	var locked *store.LockedError
	failed := fmt.Sprintf("%s card %q", what, name)
	switch {
	case errors.As(err, &locked) && locked.PID > 0:
		return fmt.Errorf("card %q is in use by process %d", name, locked.PID)
	case errors.As(err, &locked):
		return fmt.Errorf("card %q is in use by another process", name)
	case errors.Is(err, store.ErrRolledBack), errors.Is(err, store.ErrAhead), errors.Is(err, seal.ErrNoCounter):
		return hinted{fmt.Errorf("%s: refused: %s", failed, refusal(err).Text), onPurpose(name)}
	case errors.Is(err, seal.ErrPassphrase):
		return fmt.Errorf("%s: wrong passphrase", failed)
	case errors.Is(err, seal.ErrNoTPM):
		return hinted{fmt.Errorf("%s: %w", failed, err), "name the TPM with --tpm or $HSMEMU_TPM"}
	}
	return fmt.Errorf("%s: %w", failed, err)
}

// refusal says why a file does not fit its counter.
func refusal(err error) view.Refusal {
	switch {
	case errors.Is(err, store.ErrRolledBack):
		return view.Refusal{Reason: view.OlderThanCounter, Text: "this file is older than the card's counter"}
	case errors.Is(err, store.ErrAhead):
		return view.Refusal{Reason: view.NewerThanCounter, Text: "this file is newer than the card's counter, which was turned back"}
	case errors.Is(err, seal.ErrNoCounter):
		return view.Refusal{Reason: view.CounterGone, Text: "the card's counter is gone from the TPM"}
	}
	return view.Refusal{Reason: view.CounterFailed, Text: spoken(err.Error())}
}

func onPurpose(name string) string { return "hsmemu card accept " + name + " takes it on purpose" }

// world is what a card has around it: the system's randomness, or for a card
// made from a seed a stream that only depends on the seed and on the card's
// state, so that the same commands give the same answers again.
func (a *app) world(d chip.Durable) emulator.World {
	w := a.outside
	if d.Seed != nil {
		// Encoding a state that was just decoded or made cannot fail.
		state, _ := json.Marshal(d)
		w.Rand, w.Deterministic = emulator.Seeded(*d.Seed, sha256.Sum256(state)), true
	}
	if d.KeyPool || d.Seed != nil {
		w.RSA = keystore.PoolGenerator{Rand: w.Rand}
	}
	return w
}
