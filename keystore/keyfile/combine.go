package keyfile

import (
	"bytes"
	"context"
	"fmt"

	"hsmemu/keystore"
)

// ShareError says which share does not open, by its place among all.
type ShareError struct {
	Place int
	Err   error
}

// Error names the share by its number, from 1 on.
func (e *ShareError) Error() string { return fmt.Sprintf("share %d: %v", e.Place+1, e.Err) }

// Unwrap is why it does not open.
func (e *ShareError) Unwrap() error { return e.Err }

// Combine opens the files of all shares of a DKEK with their passwords, at the
// same time where there are processors for it, and puts the shares together. open
// is keystore.OpenShare, which takes some seconds and cannot be interrupted: when
// the context ends, Combine leaves it to itself. Errors: *ShareError, and those of
// keystore.Domain.Import.
func Combine(ctx context.Context, open func(file, password []byte) ([]byte, error), files, passwords [][]byte) (keystore.Domain, error) {
	type opened struct {
		place int
		share []byte
		err   error
	}
	results := make(chan opened)
	over := make(chan struct{}) // nobody waits for a share any more
	defer close(over)
	for i := range files {
		password := bytes.Clone(passwords[i]) // the caller wipes its own when the context ends
		go func() {
			defer clear(password)
			share, err := open(files[i], password)
			select {
			case results <- opened{i, share, err}:
			case <-over:
				clear(share)
			}
		}()
	}
	domain := keystore.NewDKEK(len(files))
	for range files {
		select {
		case r := <-results:
			if r.err != nil {
				return keystore.Domain{}, &ShareError{r.place, r.err}
			}
			var err error
			domain, err = domain.Import(r.share)
			clear(r.share)
			if err != nil {
				return keystore.Domain{}, fmt.Errorf("combine the shares: %w", err)
			}
		case <-ctx.Done():
			return keystore.Domain{}, fmt.Errorf("open the shares: %w", context.Cause(ctx))
		}
	}
	return domain, nil
}
