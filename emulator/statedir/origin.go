package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

// ErrNoOrigin says that what a copy is to begin with is not there: no file, and no
// name of a snapshot.
var ErrNoOrigin = errors.New("there is no file")

// Origin is what a copy of a card begins with: a snapshot, or a file that Export
// wrote.
type Origin struct {
	// Card and Tag name a snapshot; they are empty for a file.
	Card, Tag string
	// File is the path of a file.
	File string
}

// Sealers say how the files of an origin may be sealed.
type Sealers struct{ Snapshot, File store.Options }

// Origin reads CARD:TAG, or TAG alone where card is not empty, for a snapshot, or
// else the path of a file. A snapshot of card that is there comes before a file of
// the same name. Errors: ErrNoOrigin, and where only a snapshot of card can have been
// meant those of ReadSnapshot.
func (d *Dir) Origin(text, card string) (Origin, error) {
	of, tag, colon := strings.Cut(text, ":")
	path := strings.ContainsRune(text, os.PathSeparator)
	if colon && !strings.ContainsRune(of, os.PathSeparator) {
		return Origin{Card: of, Tag: tag}, nil
	}
	var missing error
	if card != "" {
		if missing = d.hasSnapshot(card, text); missing == nil {
			return Origin{Card: card, Tag: text}, nil
		}
	}
	_, err := os.Stat(text)
	switch {
	case err == nil || path:
		return Origin{File: text}, nil
	case card == "":
		return Origin{}, fmt.Errorf("%w %s", ErrNoOrigin, text)
	case errors.Is(missing, ErrName): // it can only have been a file
		return Origin{}, failed("open", card, err)
	}
	return Origin{}, missing
}

// hasSnapshot returns nil if something is kept of a card under a tag.
func (d *Dir) hasSnapshot(card, tag string) error {
	path, err := d.snapshotFile(card, tag)
	if err != nil {
		return err
	}
	if _, err := d.Inspect(card); err != nil {
		return err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return failed("restore", card, fmt.Errorf("%w %q", ErrNoSnapshot, tag))
	}
	return nil
}

// ReadOrigin gives the state that an origin holds. Errors: those of ReadSnapshot, and
// of store.Read for a file.
func (d *Dir) ReadOrigin(o Origin, in Sealers) (chip.Durable, error) {
	if o.File == "" {
		return d.ReadSnapshot(o.Card, o.Tag, in.Snapshot)
	}
	state, _, err := store.Read[chip.Durable](o.File, in.File)
	return state, err
}

// Borrow powers on a throw-away card in the state of an origin, given as [Dir.Origin]
// reads it: nothing of what happens to it is kept. Errors: those of Origin and
// ReadOrigin, ErrName.
func (d *Dir) Borrow(card, from string, in Sealers, w emulator.World) (*Card, error) {
	of, err := d.Origin(from, card)
	if err != nil {
		return nil, err
	}
	state, err := d.ReadOrigin(of, in)
	if of.File != "" && errors.Is(err, fs.ErrNotExist) {
		err = failed("open", card, err)
	}
	if err != nil {
		return nil, err
	}
	return Unkept(card, state, w)
}

// Seal is the kind of what protects a snapshot: [seal.KindNone] for a file, and for a
// snapshot that cannot be read.
func (d *Dir) Seal(o Origin) string {
	if path, err := d.snapshotFile(o.Card, o.Tag); err == nil {
		if info, err := store.Inspect(path, d.opt); err == nil {
			return info.Seal
		}
	}
	return seal.KindNone
}

// MakeFrom makes a card in the state of an origin: with the same serial number and
// the same keys, so that clients cannot tell the two apart. opt is how it is to be
// sealed. Errors: ErrName, ErrCardExists, and those of ReadOrigin.
func (d *Dir) MakeFrom(o Origin, in Sealers, card string, opt store.Options) error {
	op := "make"
	if o.File != "" {
		op = "import"
	}
	if err := d.vacant(op, card); err != nil { // before anybody is asked for a passphrase
		return err
	}
	state, err := d.ReadOrigin(o, in)
	if o.File != "" {
		err = failed(op, card, err)
	}
	if err != nil {
		return err
	}
	return d.create(op, card, state, opt)
}
