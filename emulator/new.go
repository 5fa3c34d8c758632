package emulator

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"hsmemu/applet"
	"hsmemu/emulator/chip"
	"hsmemu/keystore"
)

// System is the real world: the system's randomness and clock, and RSA keys
// made by crypto/rsa.
func System() World {
	return World{
		Rand: rand.Reader, RSA: keystore.SystemGenerator{Rand: rand.Reader},
		Clock: time.Now, //nolint:forbidigo // the one place that hands out the real clock
	}
}

// NewCard makes a card as shipped that is kept in memory alone, for the length
// of a test say. The zero Order is a card of the newest firmware with a random
// serial number.
func NewCard(o chip.Order, w World) (*Card, error) {
	d, err := w.Manufacture(o)
	if err != nil {
		return nil, err
	}
	return New(d, memory{}, w)
}

// Manufacture makes a card as shipped, see chip.Manufacture. Errors: also
// broken.ErrUnknown.
func (w World) Manufacture(o chip.Order) (chip.Durable, error) {
	d, err := chip.Manufacture(w.env(w.Clock()), o)
	if err == nil {
		_, err = coreOf(d)
	}
	if err != nil {
		return chip.Durable{}, fmt.Errorf("new card: %w", err)
	}
	return d, nil
}

// For is the world of a card: this one, or for a card made from a seed one whose
// randomness depends on the seed and on the card's state alone, so that the same
// commands give the same answers again.
func (w World) For(d chip.Durable) World {
	if d.Seed != nil {
		state, _ := json.Marshal(d) // of a state that was just read or made, which cannot fail
		w.Rand, w.Deterministic = Seeded(*d.Seed, sha256.Sum256(state)), true
	}
	if d.KeyPool || d.Seed != nil {
		w.RSA = keystore.PoolGenerator{Rand: w.Rand}
	}
	return w
}

func (w World) env(now time.Time) applet.Env {
	return applet.Env{Rand: w.Rand, Deterministic: w.Deterministic, Now: now, RSA: w.RSA}
}

// memory is the store of a card that ends with its process.
type memory struct{}

// Save keeps nothing: the card itself holds its last state.
func (memory) Save(chip.Durable) error { return nil }

// Counts reports that nobody does: there is no old state to bring back.
func (memory) Counts() bool { return false }
