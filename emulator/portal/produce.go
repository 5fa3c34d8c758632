package portal

import (
	"context"
	"errors"
	"fmt"
)

// Errors of Produce.
var (
	// ErrNotBlank says that a card has a device already, which an update would replace
	// and a production does not.
	ErrNotBlank = errors.New("the card is a device already")
	// ErrFirmware says that a firmware is not the newest of a generation, or that it is
	// for another chip.
	ErrFirmware = errors.New("that firmware cannot be loaded into this chip")
)

// Produce makes a device of a chip without one: it loads a firmware, makes the device
// key and certifies it, which costs a licence. Which generation a blank chip is it
// does not tell, so the firmware is the caller's choice, the newest of a generation.
// What was interrupted, a production or an update, is gone on with by the next call; a
// production that the chip refused may go on with another firmware.
//
// Errors: a *Refusal of an issuer that is not ready, ErrNotBlank, and those of Update.
func Produce(ctx context.Context, card Card, to Version, o Order) (Done, error) {
	if newest, known := Newest(to.Major); !known || newest != to {
		return Done{}, fmt.Errorf("%w: %s is not the newest of a generation", ErrFirmware, to)
	}
	u := &update{card: card, order: o}
	books, seen, err := u.look(ctx)
	if err != nil {
		return Done{}, err
	}
	switch running := books.Chip.Running; {
	case running != nil && seen.is(running.Certificate), running != nil && running.Old.Name != "" && seen.Stage != Operational:
		return u.resume(ctx, seen, *running)
	case seen.Stage == Operational:
		return Done{}, ErrNotBlank
	case running != nil && seen.Stage == InProduction && seen.Version() == running.To:
		return u.resume(ctx, seen, *running)
	}
	var running Running
	err = o.Ledger.Change(u.chip, func(b *Books) error {
		if r := b.Chip.Running; r != nil { // it has a name and a licence
			u.resumed = true
			running = *r
			running.To, running.Certificate = to, nil
			b.Chip.Running = &running
			return nil
		}
		target, err := b.target(to)
		if err != nil {
			return err
		}
		if !target.IssuerReady {
			return notReady(target.Issuer)
		}
		name, err := b.name(o.Rand, "")
		if err != nil {
			return err
		}
		if err := b.charge(target.Issuer, 1); err != nil {
			return err
		}
		running = Running{To: to, Issuer: target.Issuer, Name: name}
		b.Chip.Running = &running
		return nil
	})
	if err != nil {
		return Done{}, err
	}
	u.tell(4, TextScheduled)
	return u.load(ctx, running)
}
