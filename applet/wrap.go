package applet

import (
	"errors"
	"slices"

	"hsmemu/applet/apdu"
	"hsmemu/applet/pkcs15"
	"hsmemu/keystore"
)

// wrapKey is WRAP KEY: the key encrypted under the key encryption key of its
// domain.
func wrapKey(t *tx, c apdu.Command) ([]byte, error) {
	k, err := t.key(c.P1)
	if err != nil {
		return nil, err
	}
	domain := t.domain(k.Domain)
	if !domain.Ready() {
		return nil, apdu.ConditionsNotSatisfied
	}
	if !k.Allows(keystore.Wrap) {
		return nil, apdu.FunctionNotSupported
	}
	return domain.Wrap(t.env.Rand, k)
}

// unwrapKey is UNWRAP KEY: the blob stands in the command or, for readers with
// small buffers, was written to the scratch file before.
func unwrapKey(t *tx, c apdu.Command) ([]byte, error) {
	blob := c.Data
	if len(blob) == 0 {
		f, _ := t.file(pkcs15.FileBlob)
		if len(f.Data) == 0 {
			return nil, apdu.ReferenceNotFound
		}
		blob = f.Data
	}
	k, err := t.openBlob(blob)
	if err != nil {
		return nil, err
	}
	if !t.profile.fits(k) {
		return nil, apdu.FunctionNotSupported
	}
	if old, exists := t.d.Keys[c.P1]; exists && !replaceable(old, k) {
		return nil, apdu.AlreadyExists
	}
	t.dropFile(pkcs15.FileBlob)
	return nil, t.putKey(c.P1, k)
}

// openBlob tries the key domains. The blob names its domain by the key check
// value, so at most one can open it.
func (t *tx) openBlob(blob []byte) (keystore.Key, error) {
	ready := false
	for slot, domain := range t.d.Domains {
		if !domain.Ready() {
			continue
		}
		ready = true
		k, err := domain.Unwrap(blob)
		switch {
		case errors.Is(err, keystore.ErrKCV):
			continue
		case errors.Is(err, keystore.ErrBlob) || errors.Is(err, keystore.ErrMAC) || errors.Is(err, keystore.ErrKey):
			return keystore.Key{}, t.profile.BadBlob
		case err != nil:
			return keystore.Key{}, err
		case len(k.Algorithms) > longest: // no key can have been made with it, though the scratch file has room
			return keystore.Key{}, t.profile.BadBlob
		case k.Algorithms != nil && t.profile.RestrictedUnwrap != apdu.OK:
			return keystore.Key{}, t.profile.RestrictedUnwrap
		}
		k.Domain = byte(slot)
		return k, nil
	}
	if !ready {
		return keystore.Key{}, apdu.ConditionsNotSatisfied
	}
	return keystore.Key{}, t.profile.NoMatchingDomain
}

// fits reports whether this firmware has keys of that size.
func (p Profile) fits(k keystore.Key) bool {
	switch k.Kind() {
	case keystore.RSA:
		return slices.Contains(p.RSA, k.Bits())
	case keystore.EC:
		return k.Curve().Bits() <= p.MaxCurve
	}
	return p.AES
}

// replaceable: a key that lists REPLACE may be unwrapped again over itself. Of
// an AES key there is nothing to compare.
func replaceable(old, k keystore.Key) bool {
	return old.Allows(keystore.Replace) && (old.SamePublic(k) || old.Kind() == keystore.AES && k.Kind() == keystore.AES)
}
