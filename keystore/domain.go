package keystore

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"slices"

	"hsmemu/keystore/curve"
)

// ShareLen is the length in bytes of a DKEK share and of every key
// encryption key.
const ShareLen = 32

// Domain is a key domain: the key encryption key (KEK) under which keys
// leave and enter a card, or what is known of it so far. It is a value; its
// methods return a changed copy. The zero Domain is an empty slot.
//
// The KEK of a DKEK domain is the exclusive or of all custodians' shares;
// that of an XKEK domain results from an agreement with another card.
type Domain struct {
	kind        domainKind
	total       int
	outstanding int
	kek         veil[[ShareLen]byte] // what has been combined so far
	uid         []byte               // XKEK only, then not nil
	bound       []byte               // fingerprint of the only KEK it takes, nil for any
}

type domainKind byte

const (
	domainDKEK domainKind = iota + 1
	domainXKEK
)

// NewDKEK returns a domain that awaits total shares, 1 to 255. A domain for
// any other number never gets ready.
func NewDKEK(total int) Domain {
	if total < 0 || total > 255 {
		total = 0
	}
	return Domain{kind: domainDKEK, total: total, outstanding: total}
}

// RandomDKEK returns a complete domain with one share that nobody knows. It
// returns ErrRandom if rand is nil or fails.
func RandomDKEK(rand io.Reader) (Domain, error) {
	var share [ShareLen]byte
	if err := fill(rand, share[:]); err != nil {
		return Domain{}, err
	}
	return NewDKEK(1).Import(share[:])
}

// NewXKEK returns a domain of the group with the given identifier, without
// a KEK.
func NewXKEK(uid []byte) Domain {
	return Domain{kind: domainXKEK, uid: append([]byte{}, uid...)}
}

// IsZero reports whether d is the zero Domain, an empty slot.
func (d Domain) IsZero() bool { return d.kind == 0 }

// Import adds a share of 32 bytes to a DKEK domain. The order of shares does
// not matter, and a wrong one shows only in the final KCV. Import returns
// ErrDomain if d is no DKEK domain, ErrLength, ErrComplete if no share is
// awaited, or ErrKCV if the last share makes another KEK than the one that
// Cleared bound the domain to; d itself then comes back.
func (d Domain) Import(share []byte) (Domain, error) {
	switch {
	case d.kind != domainDKEK:
		return d, ErrDomain
	case d.outstanding == 0:
		return d, ErrComplete
	case len(share) != ShareLen:
		return d, fmt.Errorf("%w: a share of %d bytes", ErrLength, len(share))
	}
	var sum [ShareLen]byte
	if kek := d.kek.lift(); kek != nil {
		sum = *kek
	}
	for i, b := range share {
		sum[i] ^= b
	}
	next := d
	next.kek = veiled(&sum)
	next.outstanding--
	if next.outstanding == 0 && d.bound != nil {
		if subtle.ConstantTimeCompare(next.fingerprint(), d.bound) != 1 {
			return d, fmt.Errorf("%w: keys belong to another", ErrKCV)
		}
		next.bound = nil
	}
	return next, nil
}

// Agree sets the KEK of an XKEK domain from the secret of an ECDH agreement,
// the x coordinate of the shared point: SHA-256(secret || UID). A KEK agreed
// on before is replaced. Agree returns ErrDomain if d is no XKEK domain and
// ErrLength for an empty secret.
func (d Domain) Agree(secret []byte) (Domain, error) {
	switch {
	case d.kind != domainXKEK:
		return d, ErrDomain
	case len(secret) == 0:
		return d, ErrLength
	}
	kek := sha256.Sum256(slices.Concat(secret, d.uid))
	d.kek = veiled(&kek)
	return d, nil
}

// Cleared returns the domain without its KEK: a DKEK domain awaits all its
// shares again, an XKEK domain keeps its group. Where keys belong to a DKEK
// domain (inUse), no other KEK than theirs completes it again: whoever may
// clear it could wrap them under a share of his own otherwise.
func (d Domain) Cleared(inUse bool) Domain {
	switch {
	case !inUse || d.kind != domainDKEK:
		d.bound = nil
	case d.Ready():
		d.bound = d.fingerprint()
	}
	d.kek = veil[[ShareLen]byte]{}
	d.outstanding = d.total
	return d
}

// fingerprint tells one KEK from another, where the KCV is too short for that
// against whoever may choose shares: SHA-256(KEK || 00000003).
func (d Domain) fingerprint() []byte {
	sum := sha256.Sum256(append(d.kek.lift()[:], 0, 0, 0, 3))
	return sum[:]
}

// Total returns the number of shares of a DKEK domain, zero for XKEK.
func (d Domain) Total() int { return d.total }

// Outstanding returns how many shares a DKEK domain still awaits.
func (d Domain) Outstanding() int { return d.outstanding }

// Ready reports whether the KEK is there and keys can be wrapped.
func (d Domain) Ready() bool { return d.kek.p != nil && d.outstanding == 0 }

// Bound reports whether d takes no other KEK than one it had, because keys
// belonged to it when it was cleared.
func (d Domain) Bound() bool { return d.bound != nil }

// XKEK reports whether d is an XKEK domain.
func (d Domain) XKEK() bool { return d.kind == domainXKEK }

// UID returns the identifier of the group of an XKEK domain, nil for others.
func (d Domain) UID() []byte {
	return slices.Clone(d.uid)
}

// KCV returns the key check value, the first 8 bytes of SHA-256(KEK); zeros
// while the domain is not ready.
func (d Domain) KCV() [8]byte {
	if !d.Ready() {
		return [8]byte{}
	}
	sum := sha256.Sum256(d.kek.lift()[:])
	return [8]byte(sum[:8])
}

// keys returns the AES-256 keys for encryption and authentication of blobs:
// SHA-256(KEK || 00000001) and SHA-256(KEK || 00000002).
func (d Domain) keys() (enc, mac [32]byte) {
	kek := d.kek.lift()[:]
	return sha256.Sum256(append(kek, 0, 0, 0, 1)), sha256.Sum256(append(kek, 0, 0, 0, 2))
}

// Check returns ErrDomain, with words, for a domain that a card never has, though
// it can be written down: a DKEK without shares, or an XKEK whose identifier is
// not the point of a group's signer, x and y.
func (d Domain) Check() error {
	switch {
	case d.kind == domainDKEK && d.total == 0:
		return fmt.Errorf("%w: a DKEK without shares", ErrDomain)
	case d.kind == domainXKEK && !isPoint(append([]byte{4}, d.uid...)):
		return fmt.Errorf("%w: an XKEK whose identifier of %d bytes is no point", ErrDomain, len(d.uid))
	}
	return nil
}

func isPoint(encoded []byte) bool {
	return slices.ContainsFunc(curve.All(), func(c *curve.Curve) bool {
		_, err := c.Public(encoded)
		return err == nil
	})
}
