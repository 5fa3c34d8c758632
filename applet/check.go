package applet

import (
	"errors"
	"fmt"

	"hsmemu/keystore"
	"hsmemu/keystore/curve"
)

// ErrState says that what was read is not the state of a card.
var ErrState = errors.New("applet: not the state of a card")

// Check says what the commands rely on and a state that was read has not: a
// firmware that is known, a device with a name and a key on a curve, keys behind
// their ids, as many custodians as a session can count, with points on their
// curves. What a step returns always has it. Error: ErrState, wrapped.
func (d Durable) Check() error {
	if _, known := ProfileOf(d.Firmware); !known {
		return fmt.Errorf("%w: unknown firmware", ErrState)
	}
	if d.Device.Name == "" || d.Device.Key.Kind() != keystore.EC {
		return fmt.Errorf("%w: no device name or key", ErrState)
	}
	for id, k := range d.Keys {
		if id == 0 || k.Kind() == 0 {
			return fmt.Errorf("%w: nothing behind key id %d", ErrState, id)
		}
	}
	if len(d.Custodians) > mostCustodians {
		return fmt.Errorf("%w: %d custodians", ErrState, len(d.Custodians))
	}
	for i, c := range d.Custodians {
		if c.Name == "" {
			continue
		}
		known, exists := curve.ByName(c.Curve)
		if !exists {
			return fmt.Errorf("%w: custodian %d on an unknown curve", ErrState, i)
		}
		if _, err := known.Public(c.Point); err != nil {
			return fmt.Errorf("%w: custodian %d: %w", ErrState, i, err)
		}
	}
	return nil
}
