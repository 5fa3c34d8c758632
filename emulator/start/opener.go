package start

import (
	"context"
	"errors"
	"path/filepath"

	"hsmemu/emulator"
	"hsmemu/emulator/control"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
)

// Wanted is a card that is to be in a reader.
type Wanted struct {
	Card string
	// Reader is what the reader is called; empty for what hardware with the card is
	// called.
	Reader string
	// From is what a throw-away card begins with, as [statedir.Dir.Borrow] reads it;
	// empty for the card itself.
	From string
	// State is what the card is made in if there is none; nil for none.
	State *State
}

// Want pairs cards with the names of their readers, of which there may be fewer, and
// with their start states in a folder, unless that is empty. Those are read before any card
// is made, also of cards that are there: a mistake is to be seen every time. Errors: those
// of [Read].
func Want(cards, readers []string, folder string) (_ []Wanted, err error) {
	all := make([]Wanted, len(cards))
	for i, card := range cards {
		all[i].Card = card
		if folder != "" {
			if all[i].State, err = Read(folder, card); err != nil {
				return nil, err
			}
		}
		if i < len(readers) {
			all[i].Reader = readers[i]
		}
	}
	return all, nil
}

// Opener opens cards of a folder for this process.
type Opener struct {
	Dir   *statedir.Dir
	World func(card string) emulator.World
	// Default is the card that is made as shipped where it is wanted and absent.
	Default string
	// New says how the file of a card that is made is to be sealed, and In how the file
	// may be that a throw-away card begins with.
	New func() (store.Options, error)
	In  statedir.Sealers
	// Made is told of a card that was made, and of the files of its start state; Left of
	// one that was there, so that its start state does not count.
	Made func(card string, files []string)
	Left func(card string)
}

// Places opens cards for readers, in their order. socket is that of a daemon for one
// program, which may have a throw-away card beside the running one of that name. Errors: why
// a card cannot be had, with the others given back; unless missing is nil it goes there, and
// is an error where it is so with all of them.
func (o Opener) Places(ctx context.Context, cards []Wanted, socket string, missing *[]error) (all control.Places, err error) {
	for _, w := range cards {
		c, err := o.open(ctx, w)
		if err == nil {
			place := control.Placement{Name: c.Name, Card: c.Card, Kept: c, Reader: w.Reader, Start: c.Start, Release: c.Close}
			place.Socket, err = o.Dir.Socket(c.Name)
			if w.From != "" {
				place.Socket = filepath.Join(filepath.Dir(socket), filepath.Base(place.Socket))
			}
			all = append(all, place)
		} else if missing != nil {
			if *missing = append(*missing, err); len(*missing) < len(cards) {
				continue
			}
			err = errors.Join(*missing...)
		}
		if err != nil {
			return nil, errors.Join(err, all.Release())
		}
	}
	return all, nil
}

// open powers on a card. Errors: those of [statedir.Dir.Borrow], [State.Make] and
// [statedir.Dir.Run]; the context's in a *statedir.Error, where it ended first.
func (o Opener) open(ctx context.Context, w Wanted) (*statedir.Card, error) {
	var files []string
	switch {
	case w.From != "":
		return o.Dir.Borrow(w.Card, w.From, o.In, o.World(w.Card))
	case w.State == nil:
		return FirstUse(o, w.Card, func() (*statedir.Card, error) { return o.Dir.Run(w.Card, o.World(w.Card)) })
	}
	opt, err := o.New()
	if err == nil {
		err = w.State.Make(ctx, o.Dir, w.Card, opt, o.World(w.Card))
	}
	switch {
	case err == nil:
		files = w.State.Files
	case errors.Is(err, statedir.ErrCardExists):
		o.Left(w.Card)
	case ctx.Err() != nil:
		return nil, &statedir.Error{Op: "make", Card: w.Card, Err: ctx.Err()}
	default:
		return nil, err
	}
	c, err := o.Dir.Run(w.Card, o.World(w.Card))
	if err == nil && files != nil {
		c.Start = files
		o.Made(w.Card, files)
	}
	return c, err
}

// FirstUse opens a card in some way, and makes it before that where it is the default one
// and there is none. Errors: those of open and [statedir.Dir.Make].
func FirstUse[T any](o Opener, card string, open func() (T, error)) (T, error) {
	c, err := open()
	if card != o.Default || !errors.Is(err, statedir.ErrNoCard) {
		return c, err
	}
	opt, err := o.New()
	if err == nil {
		err = o.Dir.Make(card, statedir.Order{}, opt, o.World(card))
	}
	if err != nil {
		return c, err
	}
	o.Made(card, nil)
	return open()
}
