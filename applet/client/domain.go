package client

import (
	"context"
	"errors"
	"fmt"

	"hsmemu/applet/apdu"
)

// Errors of key domains. An error that is one of them is also the status word.
var (
	// ErrNoKeyDomains says that the card was initialised without any (6D00).
	ErrNoKeyDomains = errors.New("the card was initialised without key domains")
	// ErrNoSlot says that the card has fewer key domains (6A86).
	ErrNoSlot = errors.New("the card has no such key domain")
)

// KeyDomain is the state of a slot for a key domain.
type KeyDomain struct {
	// Empty: nothing is in the slot, and the rest is zero.
	Empty bool
	// Shares is the number of shares of a DKEK, and Missing how many of them
	// the card still waits for.
	Shares, Missing int
	// KCV is the key check value of the key encryption key, zero without one.
	KCV [8]byte
	// UID identifies the group of an XKEK domain; nil for a DKEK.
	UID []byte
}

// Why no key that was wrapped outside of the card comes into a key domain.
var (
	// ErrEmptyDomain says that nothing is in the slot.
	ErrEmptyDomain = errors.New("it is empty")
	// ErrXKEK says that its key encryption key has no shares.
	ErrXKEK = errors.New("it is an XKEK domain: it has no shares")
	// ErrIncomplete says that shares are missing.
	ErrIncomplete = errors.New("it is not complete")
)

// TakesKeys returns nil if keys that were wrapped under the combination of all
// shares can come into the domain, or else ErrEmptyDomain, ErrXKEK or ErrIncomplete.
func (d KeyDomain) TakesKeys() error {
	switch {
	case d.Empty:
		return ErrEmptyDomain
	case d.UID != nil:
		return ErrXKEK
	case d.Missing > 0:
		return fmt.Errorf("%w: %d of %d shares are missing", ErrIncomplete, d.Missing, d.Shares)
	}
	return nil
}

// KCVError says that shares are not those of a key domain.
type KCVError struct {
	// Has is the key check value of the key domain, and Given that of the shares.
	Has, Given [8]byte
	// Of is how many shares the key domain was made of, and Shares how many these are.
	Of, Shares int
}

// Error names both values.
func (e *KCVError) Error() string {
	return fmt.Sprintf("has key check value %X, these shares have %X", e.Has, e.Given)
}

// MadeOf returns nil if the key encryption key is the combination of so many shares,
// which has some key check value, or else a *KCVError.
func (d KeyDomain) MadeOf(shares int, kcv [8]byte) error {
	if d.KCV == kcv {
		return nil
	}
	return &KCVError{Has: d.KCV, Given: kcv, Of: d.Shares, Shares: shares}
}

// The operations of MANAGE KEY DOMAIN, its P1.
const (
	domainStatus    = 0x00
	domainCreate    = 0x01
	domainAssociate = 0x02
	domainDelete    = 0x03
	domainClear     = 0x04
)

// KeyDomain asks for the state of a slot. Errors: ErrNoKeyDomains, ErrNoSlot.
func (c *Client) KeyDomain(ctx context.Context, slot byte) (KeyDomain, error) {
	return c.manageDomain(ctx, "status", domainStatus, slot, nil)
}

// ImportShare gives the card the next share of a DKEK in the clear, 32 bytes.
func (c *Client) ImportShare(ctx context.Context, slot byte, share []byte) (KeyDomain, error) {
	if len(share) == 0 {
		return KeyDomain{}, fmt.Errorf("key domain %d: import a share: %w", slot, ErrNothing)
	}
	return c.manageDomain(ctx, "import a share", domainStatus, slot, share)
}

// CreateKeyDomain makes a DKEK of a number of shares in an empty slot; 0 lets
// the card choose a random DKEK.
func (c *Client) CreateKeyDomain(ctx context.Context, slot, shares byte) (KeyDomain, error) {
	return c.manageDomain(ctx, "create", domainCreate, slot, []byte{shares})
}

// JoinKeyDomain makes an empty slot an XKEK domain of the group whose signer
// has let this device in. The session has to trust the signer's device first;
// membership is the signer's attested request and its signature in object 54.
func (c *Client) JoinKeyDomain(ctx context.Context, slot byte, membership []byte) (KeyDomain, error) {
	return c.manageDomain(ctx, "join a group", domainAssociate, slot, membership)
}

// DeleteKeyDomain empties a slot that no key belongs to.
func (c *Client) DeleteKeyDomain(ctx context.Context, slot byte) error {
	d, err := c.manageDomain(ctx, "delete", domainDelete, slot, nil)
	if err == nil && !d.Empty {
		err = fmt.Errorf("key domain %d: delete: %w", slot, ErrAnswer)
	}
	return err
}

// DeleteKEK deletes the key encryption key of a domain and keeps the domain.
func (c *Client) DeleteKEK(ctx context.Context, slot byte) (KeyDomain, error) {
	return c.manageDomain(ctx, "delete the key encryption key", domainClear, slot, nil)
}

func (c *Client) manageDomain(ctx context.Context, doing string, p1, slot byte, data []byte) (KeyDomain, error) {
	manage := apdu.Command{CLA: apdu.ClassProprietary, INS: apdu.InsManageKeyDomain, P1: p1, P2: slot, Data: data, Ne: 256}
	if len(data) > 255 {
		manage.Extended, manage.Ne = true, 65536
	}
	r, err := c.ask(ctx, manage)
	failed := func(err error) (KeyDomain, error) {
		return KeyDomain{}, fmt.Errorf("key domain %d: %s: %w", slot, doing, err)
	}
	switch {
	case is(err, apdu.InstructionNotSupported):
		return failed(fmt.Errorf("%w: %w", ErrNoKeyDomains, err))
	case is(err, apdu.IncorrectP1P2):
		return failed(fmt.Errorf("%w: %w", ErrNoSlot, err))
	case is(err, apdu.ReferenceNotFound) && (p1 == domainStatus && data == nil || p1 == domainDelete),
		err == nil && p1 == domainDelete && len(r.Data) == 0:
		return KeyDomain{Empty: true}, nil
	case err != nil:
		return failed(err)
	case len(r.Data) < 10:
		return failed(ErrAnswer)
	}
	d := KeyDomain{Shares: int(r.Data[0]), Missing: int(r.Data[1]), KCV: [8]byte(r.Data[2:])}
	if len(r.Data) > 10 {
		d.UID = r.Data[10:]
	}
	return d, nil
}
