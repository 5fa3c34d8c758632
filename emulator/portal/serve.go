package portal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"hsmemu/emulator/ram"
	"hsmemu/emulator/store"
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

// File keeps books in a file for its owner alone, which holds whole books at every
// moment. One process has it at a time.
type File struct {
	mu   sync.Mutex
	file *store.File[Books]
}

// OpenFile opens the books in a file, or begins new ones on a day, with an authority
// of their own. Errors: those of package store and of rand, and ErrAuthority.
func OpenFile(path string, rand io.Reader, day time.Time) (*File, error) {
	f, err := store.Open[Books](path, store.Options{})
	if errors.Is(err, store.ErrNotExist) {
		var b Books
		if b.Authority, err = NewAuthority(rand, day); err != nil {
			return nil, err
		}
		f, err = store.Create(path, b, store.Options{})
	}
	if err != nil {
		return nil, fmt.Errorf("open the portal's books: %w", err)
	}
	kept := &File{file: f}
	b, err := kept.Load()
	if err == nil {
		err = b.Authority.Check()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the portal's books: %w", err), f.Close())
	}
	return kept, nil
}

// Load returns the books as they were saved last.
func (f *File) Load() (Books, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.file.Load()
}

// Change has change change the books, and returns when they are on disk.
func (f *File) Change(change func(*Books) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	b, err := f.file.Load()
	if err != nil {
		return err
	}
	if err := change(&b); err != nil {
		return err
	}
	return f.file.Save(b)
}

// Close lets other processes have the file.
func (f *File) Close() error { return f.file.Close() }
