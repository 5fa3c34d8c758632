package portal

import (
	"context"
	"errors"
	"io"
	"time"

	"hsmemu/emulator/ram"
)

// TextRecovery is what follows TextFailed.
const TextRecovery = "Please connect the card again: an update that has begun goes on."

// Updater updates every card that connects to it by RAM over HTTP, and tells the
// person at the card how far it is.
type Updater struct {
	Ledger Ledger
	// Rand is where challenges, names and nonces come from, and Now the clock.
	Rand io.Reader
	Now  func() time.Time
	// Updated is told of every update that has come to its end; nil for nobody.
	Updated func(Done)
}

// Serve is a [ram.Service]. A card whose firmware is the newest already is told so,
// which is no failure; any other refusal and any error ends with a notice of −1.
func (u *Updater) Serve(ctx context.Context, card *ram.Session) error {
	// A notice that does not arrive means that the next command will not either.
	tell := func(number int, text string) { _ = card.Notify(ctx, ram.Notice{Number: number, Text: text}) }
	done, err := Update(ctx, card, Order{
		Ledger: u.Ledger, Rand: u.Rand, Now: u.Now(),
		Progress: func(percent int, text string) { tell(percent, text) },
	})
	var refusal *Refusal
	switch {
	case err == nil:
		if u.Updated != nil {
			u.Updated(done)
		}
		return nil
	case errors.As(err, &refusal) && refusal.Reason == Latest:
		tell(0, refusal.Text)
		return nil
	}
	tell(0, err.Error())
	tell(-1, TextFailed+"\n"+TextRecovery)
	return err
}
