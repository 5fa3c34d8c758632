package statedir

import (
	"errors"

	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/keystore/seal"
)

// Card is a card that this process runs and nobody else.
type Card struct {
	*emulator.Card
	// Name is the card's name.
	Name string
	// Start are the files of the start state that the card was made with just now;
	// empty for others.
	Start []string
	file  keeper
}

// keeper is what keeps a card's states.
type keeper interface {
	emulator.Store
	Generation() uint64
	Seal() string
	Close() error
}

// Generation counts the saves of the card's file.
func (c *Card) Generation() uint64 { return c.file.Generation() }

// Seal names what protects the card's file.
func (c *Card) Seal() string { return c.file.Seal() }

// Close gives the card back.
func (c *Card) Close() error { return c.file.Close() }

// Run opens a card for this process and powers it on. Errors: ErrName,
// ErrNoCard, *store.LockedError, and those of store.Open and emulator.New.
func (d *Dir) Run(card string, w emulator.World) (*Card, error) {
	file, err := d.open("open", card)
	if err != nil {
		return nil, err
	}
	state, err := file.Load()
	if err != nil {
		return nil, errors.Join(d.failed("open", card, err), file.Close())
	}
	c, err := emulator.New(state, file, w.For(state))
	if err != nil {
		return nil, errors.Join(d.failed("open", card, err), file.Close())
	}
	return &Card{Card: c, Name: card, file: file}, nil
}

// Unkept powers on a card that begins with a state and ends with the process.
// Nothing of what happens to it is kept.
func Unkept(card string, state chip.Durable, w emulator.World) (*Card, error) {
	if err := CheckName(card); err != nil {
		return nil, err
	}
	c, err := emulator.New(state, nowhere{}, w.For(state))
	if err != nil {
		return nil, failed("open", card, err)
	}
	return &Card{Card: c, Name: card, file: nowhere{}}, nil
}

// nowhere keeps nothing: the card itself holds its last state.
type nowhere struct{}

func (nowhere) Save(chip.Durable) error { return nil }

func (nowhere) Counts() bool { return false }

func (nowhere) Generation() uint64 { return 0 }

func (nowhere) Seal() string { return seal.KindNone }

func (nowhere) Close() error { return nil }
