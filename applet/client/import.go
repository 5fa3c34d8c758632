package client

import (
	"context"
	"errors"
	"fmt"
	"io"

	"hsmemu/applet/apdu"
	"hsmemu/keystore"
)

// ErrSize says that a card's firmware has no keys of a size or on a curve (6A81).
var ErrSize = errors.New("its firmware does not have that size")

// DomainError says why a key domain does not take in a key: ErrEmptyDomain, ErrXKEK,
// ErrIncomplete or a *KCVError.
type DomainError struct {
	Slot byte
	Err  error
}

// Error names the slot.
func (e *DomainError) Error() string { return fmt.Sprintf("key domain %d: %v", e.Slot, e.Err) }

// Unwrap is why.
func (e *DomainError) Unwrap() error { return e.Err }

// Import is a key on its way from outside into a key domain of a card. Between its
// steps are those that take long or ask people: opening the shares of the DKEK, and the
// user PIN.
//
//	i, err := c.BeginImport(ctx, 0, 0)     // all that the card can refuse by itself
//	blob, err := i.Wrap(rand.Reader, dkek, len(shares), key)
//	_, err = i.Store(ctx, pin, client.NewBundle(i.Ref, "key", key, blob))
type Import struct {
	// Ref is the key reference that the key gets, 1 to 255.
	Ref byte

	client *Client
	slot   byte
	domain KeyDomain
}

// BeginImport finds out, before anybody is asked for anything, whether a key domain
// takes in keys that were wrapped outside, and which reference a key gets: the one that
// is wanted, or the lowest that is free if that is 0. It selects the application where
// it is not selected; nothing changes on the card. Errors: *DomainError, and those of
// Enter, KeyDomain and KeyReference.
func (c *Client) BeginImport(ctx context.Context, slot, wanted byte) (*Import, error) {
	if err := c.Enter(ctx); err != nil {
		return nil, err
	}
	d, err := c.KeyDomain(ctx, slot)
	if err != nil {
		return nil, err
	}
	if err := d.TakesKeys(); err != nil {
		return nil, &DomainError{slot, err}
	}
	ref, err := c.KeyReference(ctx, wanted)
	if err != nil {
		return nil, err
	}
	return &Import{Ref: ref, client: c, slot: slot, domain: d}, nil
}

// Wrap encrypts a key under a DKEK that is the combination of so many shares, if it is
// that of the key domain: the card would refuse another one only when it is logged in.
// Errors: *DomainError, and those of keystore.Domain.Wrap.
func (i *Import) Wrap(random io.Reader, dkek keystore.Domain, shares int, k keystore.Key) ([]byte, error) {
	if err := i.domain.MadeOf(shares, dkek.KCV()); err != nil {
		return nil, &DomainError{i.slot, err}
	}
	blob, err := dkek.Wrap(random, k)
	if err != nil {
		return nil, fmt.Errorf("wrap the key: %w", err)
	}
	return blob, nil
}

// Store logs in and has the card take in the key, with what belongs to it, as
// [Client.Store] does. Errors: ErrSize, and those of Login and Client.Store.
func (i *Import) Store(ctx context.Context, pin []byte, b Bundle) (added []Issuer, err error) {
	if err := i.client.Login(ctx, pin); err != nil {
		return nil, err
	}
	added, err = i.client.Store(ctx, b)
	if errors.Is(err, apdu.FunctionNotSupported) {
		err = fmt.Errorf("%w: %w", ErrSize, err)
	}
	return added, err
}
