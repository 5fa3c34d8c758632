package control

import (
	"context"
	"errors"
	"os"
	"time"

	"hsmemu/emulator/statedir"
)

// laterInterval is how often Later looks for the card's process. A program that the
// process starts hardly takes less time from then until its first command.
const laterInterval = 5 * time.Millisecond

// Later waits for the process that runs a card.
type Later struct {
	// Unmade has it wait for a card that does not exist, too.
	Unmade bool
	// Waiting is called before a wait.
	Waiting func()
}

// Do asks something of the process that runs a card of a folder, as soon as there is
// one: again while the answer is ErrNobody, ErrEnded or, with Unmade,
// statedir.ErrNoCard. The end of the context ends a wait without an error.
func (l Later) Do(ctx context.Context, d *statedir.Dir, card string, ask func() error) error {
	absent := func(err error) bool {
		return errors.Is(err, ErrNobody) || errors.Is(err, ErrEnded) || l.Unmade && errors.Is(err, statedir.ErrNoCard)
	}
	err := ask()
	if !absent(err) {
		return err
	}
	l.Waiting()
	socket, err := d.Socket(card)
	if err != nil {
		return err
	}
	again := time.NewTicker(laterInterval)
	defer again.Stop()
	for err = ErrNobody; absent(err); {
		select {
		case <-again.C:
			if _, none := os.Lstat(socket); none == nil { // not so much to do as to look for the card
				err = ask()
			}
		case <-ctx.Done():
			return nil
		}
	}
	return err
}
