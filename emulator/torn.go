package emulator

import (
	"context"
	"fmt"

	"hsmemu/emulator/chip"
	"hsmemu/vsmartcard"
)

// Torn is a card kept in memory that remembers the states which its last command
// saved, so that one can look at the card as it would be found had its power failed
// among them. It is used by one goroutine.
type Torn struct {
	*Card
	world World
	kept  *kept
}

// kept is a store that remembers the states since the last command began, behind
// the one before it.
type kept struct{ states []chip.Durable }

func (k *kept) Save(d chip.Durable) error {
	k.states = append(k.states, d)
	return nil
}

func (k *kept) Counts() bool { return false }

// NewTorn powers on a card in memory that begins with a state. What happens to it
// does not change the state for others. Error: that of [New].
func NewTorn(d chip.Durable, w World) (*Torn, error) {
	k := &kept{states: []chip.Durable{d}}
	c, err := New(d, k, w)
	if err != nil {
		return nil, err
	}
	return &Torn{Card: c, world: w, kept: k}, nil
}

// Transmit is that of [Card.Transmit].
func (t *Torn) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	t.kept.states = t.kept.states[len(t.kept.states)-1:]
	return t.Card.Transmit(ctx, command)
}

// Reset is that of [Card.Reset]. Whatever a card does when its power comes shows in
// [Torn.CutAfter] alone, and what it does at a reset here.
func (t *Torn) Reset() error {
	t.kept.states = t.kept.states[len(t.kept.states)-1:]
	return t.Card.Reset()
}

// Saves is the number of states that the last command has saved.
func (t *Torn) Saves() int { return len(t.kept.states) - 1 }

// CutAfter is the card as it is found when its power failed after so many saves of
// the last command, 0 to Saves: another card in memory.
func (t *Torn) CutAfter(saves int) (vsmartcard.Card, error) {
	if saves < 0 || saves >= len(t.kept.states) {
		return nil, fmt.Errorf("the command has saved %d states, not %d", t.Saves(), saves)
	}
	found, err := NewTorn(t.kept.states[saves], t.world)
	if err != nil {
		return nil, err
	}
	return found, nil
}
