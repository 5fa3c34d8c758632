package client

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"slices"

	"hsmemu/applet/apdu"
	"hsmemu/applet/pkcs15"
	"hsmemu/keystore"
)

// Bundle is a wrapped key with what belongs to it, on its way into a card.
type Bundle struct {
	// Ref is the key reference, 1 to 255, and Blob the wrapped key.
	Ref  byte
	Blob []byte
	// Description goes into EF C4xx.
	Description pkcs15.Key
	// Certificate, DER, goes into EF CExx; nil for none.
	Certificate []byte
	// Issuers are the certificates of the certificate's issuers.
	Issuers []Issuer
}

// NewBundle is a wrapped key without certificates. Its description gives the size
// of an EC key in whole bytes, as the Smart Card Shell does.
func NewBundle(ref byte, label string, k keystore.Key, blob []byte) Bundle {
	b := Bundle{
		Ref: ref, Blob: blob,
		Description: pkcs15.Key{Kind: pkcs15.RSA, Label: label, ID: []byte{ref}, Usage: pkcs15.UsageRSA, Bits: k.Bits()},
	}
	if c := k.Curve(); c != nil {
		b.Description.Kind, b.Description.Usage, b.Description.Bits = pkcs15.EC, pkcs15.UsageEC, 8*c.FieldLen()
	}
	return b
}

// Issuer is the certificate of an issuer.
type Issuer struct {
	// Label is what clients call it.
	Label string
	// DER is the certificate, and PublicKey its SubjectPublicKeyInfo, from
	// which its identifier is made.
	DER, PublicKey []byte
}

// ErrFull says that all numbers for CA certificates are taken.
var ErrFull = errors.New("no number is left for a further CA certificate")

// Store unwraps a key and writes what belongs to it, as the Smart Card Shell
// does, so that PKCS #11 programs find it. It returns the issuers whose
// certificates were not on the card yet. When something fails it takes back
// what it has written.
func (c *Client) Store(ctx context.Context, b Bundle) (added []Issuer, err error) {
	if taken, err := c.KeyTaken(ctx, b.Ref); taken || err != nil {
		if err == nil {
			err = fmt.Errorf("key %d: %w", b.Ref, apdu.AlreadyExists)
		}
		return nil, err
	}
	s := &storing{Client: c}
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leavePatience)
			defer cancel()
			added, err = nil, errors.Join(err, s.undo(ctx))
		}
	}()
	if err := c.UnwrapKey(ctx, b.Ref, b.Blob); err != nil {
		return nil, err
	}
	s.made = append(s.made, pkcs15.File(pkcs15.PrefixKey, b.Ref))
	if err := s.write(ctx, pkcs15.File(pkcs15.PrefixKeyDescription, b.Ref), b.Description.Bytes()); err != nil {
		return nil, err
	}
	if b.Certificate == nil {
		return nil, nil
	}
	if err := s.write(ctx, pkcs15.File(pkcs15.PrefixCertificate, b.Ref), b.Certificate); err != nil {
		return nil, err
	}
	return s.issuers(ctx, b.Issuers)
}

// storing remembers what may be on the card now and was not before.
type storing struct {
	*Client
	made []uint16
}

func (s *storing) write(ctx context.Context, id uint16, content []byte) error {
	s.made = append(s.made, id)
	return s.WriteFile(ctx, id, content)
}

// issuers writes the certificates that the card does not have yet.
func (s *storing) issuers(ctx context.Context, all []Issuer) (added []Issuer, err error) {
	found, err := s.Objects(ctx)
	if err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for _, id := range found {
		if byte(id>>8) == pkcs15.PrefixCACertificate {
			content, err := s.ReadFile(ctx, id)
			if err != nil {
				return nil, err
			}
			have[string(content)] = true
		}
	}
	n := 0
	for _, issuer := range all {
		if have[string(issuer.DER)] {
			continue
		}
		for ; slices.Contains(found, pkcs15.File(pkcs15.PrefixCACertificate, byte(n))) ||
			slices.Contains(found, pkcs15.File(pkcs15.PrefixCertificateDescription, byte(n))); n++ {
			if n == 0xFF {
				return nil, ErrFull
			}
		}
		file := pkcs15.File(pkcs15.PrefixCACertificate, byte(n))
		id := sha1.Sum(issuer.PublicKey)
		description := pkcs15.Certificate{Label: issuer.Label, ID: id[:], File: file}
		if err := s.write(ctx, file, issuer.DER); err != nil {
			return nil, err
		}
		if err := s.write(ctx, pkcs15.File(pkcs15.PrefixCertificateDescription, byte(n)), description.Bytes()); err != nil {
			return nil, err
		}
		found, have[string(issuer.DER)] = append(found, file), true
		added = append(added, issuer)
	}
	return added, nil
}

// undo removes what was written, the last first, and as much of it as can be.
func (s *storing) undo(ctx context.Context) (err error) {
	for _, id := range slices.Backward(s.made) {
		err = errors.Join(err, s.Delete(ctx, id))
	}
	return err
}
