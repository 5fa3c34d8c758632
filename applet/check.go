package applet

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
)

// ErrState reports a state that no card can be in. Its method Impossible tells
// package store that no program of any version wrote it.
var ErrState error = stateError{}

type stateError struct{}

func (stateError) Error() string    { return "not the state of a card" }
func (stateError) Impossible() bool { return true }

// Check returns ErrState, with words that say what is wrong, unless production
// and commands alone can have brought the application into this state. What that
// means is written at each of the parts below. Two things are left out of the
// user's keys, since they take milliseconds for every key and give whoever made
// them up nothing but a key that does not work: that an EC point belongs to its
// scalar, and that RSA primes are prime.
//
// It is for states that come from a file or from elsewhere, takes about half a
// millisecond and never tells a secret.
func (d Durable) Check() error {
	if err := d.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	return nil
}

func (d Durable) check() error {
	if _, known := ProfileOf(d.Firmware); !known {
		return fmt.Errorf("firmware %q is not known", d.Firmware)
	}
	for _, check := range []func() error{
		d.Answers.check, d.PINs.Check, d.checkDevice, d.checkFiles, d.checkKeys, d.checkDomains, d.checkCustodians, d.checkMemory,
		d.checkIssue, // takes longer than all others together
	} {
		if err := check(); err != nil {
			return err
		}
	}
	if !d.PINs.Initialised && (len(d.Files) > 1 || len(d.Keys)+len(d.Domains)+len(d.Custodians) > 0) {
		return errors.New("files or keys before the first initialisation")
	}
	return nil
}

// check: what was chosen is among the choices.
func (a Answers) check() error {
	for _, one := range answers {
		if sw := *one.chosen(&a); sw != 0 && !slices.Contains(one.words, sw) {
			return fmt.Errorf("an answer %s=%s", one.name, sw.String())
		}
	}
	return nil
}

// longest is the most bytes of any command of any firmware, so the longest list
// or name that anybody can have given.
const longest = maxAPDUJCOP2

// DeviceCurve is the curve of every device key.
const DeviceCurve = "brainpoolP256r1"

// checkDevice: EF 2F02 is two certificates and nothing else, and the device's
// names it and its key, which is without attributes.
func (d Durable) checkDevice() error {
	k := d.Device.Key
	if k.Kind() != keystore.EC || k.Curve().Name() != DeviceCurve || k.Uses.Limited || k.Algorithms != nil || k.Domain != 0 {
		return errors.New("no device key")
	}
	if len(d.Files) == 0 || d.Files[0].ID != pkcs15.FileDevice || len(d.Files[0].Data) > longest {
		return errors.New("no device certificate")
	}
	chain, err := cvc.ParseChain(d.Files[0].Data)
	if err != nil {
		return fmt.Errorf("device certificate: %w", err)
	}
	if !bytes.Equal(d.Files[0].Data, chain.Bytes()) {
		return errors.New("device certificate: more than it and its issuer's")
	}
	if d.Device.Name != string(chain.Device.CHR) {
		return fmt.Errorf("a device %s with a certificate for %s", cvc.Name(d.Device.Name), chain.Device.CHR)
	}
	if !bytes.Equal(chain.Device.Key.Point, k.ECPublic().Bytes()) { // its domain parameters are the root's
		return errors.New("a device key with another key's certificate")
	}
	return nil
}

// checkIssue: an issuer below the emulator's root has signed the device's
// certificate, and the device key is the one whose point it names. A card with the
// certificate of a genuine device would pass for one in everything that asks the
// certificate alone.
func (d Durable) checkIssue() error {
	chain, err := cvc.ParseChain(d.Files[0].Data)
	if err != nil {
		return fmt.Errorf("device certificate: %w", err)
	}
	by, root := chain.Issuer, cvc.EmulatorRootCertificate()
	known := bytes.Equal(by.Raw, cvc.EmulatorIssuerCertificate().Raw) // which takes no arithmetic
	if !known && (by.CAR != root.CHR || by.Authorization.Role() != cvc.RoleIssuer || by.Verify(root.Key) != nil) ||
		chain.Device.CAR != by.CHR || chain.Device.Authorization.Role() != cvc.RoleDevice {
		return errors.New("a device certificate that is not of an emulator's issuer")
	}
	if err := chain.Device.Verify(by.Key.Inherit(root.Key)); err != nil {
		return fmt.Errorf("device certificate: %w", err)
	}
	if !d.Device.Key.EC().Consistent() {
		return errors.New("a device key with another key's point")
	}
	return nil
}

// checkFiles: each identifier is one that files can have, and is there once.
// Keys are no files, whatever commands call them.
func (d Durable) checkFiles() error {
	seen := map[uint16]bool{}
	for _, f := range d.Files {
		if _, known := ruleFor(f.ID); !known || byte(f.ID>>8) == pkcs15.PrefixKey {
			return fmt.Errorf("a file %04X", f.ID)
		}
		if seen[f.ID] {
			return fmt.Errorf("two files %04X", f.ID)
		}
		seen[f.ID] = true
	}
	return nil
}

// checkKeys: each key is one that the firmware has, and in a key domain that
// exists; a key that named none is in slot 0 all the same.
func (d Durable) checkKeys() error {
	p := d.Profile()
	for id, k := range d.Keys {
		switch {
		case id == 0 || k.IsZero():
			return fmt.Errorf("key %d without a key", id)
		case !p.fits(k):
			return fmt.Errorf("key %d, %s, on firmware %s", id, k, d.Firmware)
		case len(k.Algorithms) > longest:
			return fmt.Errorf("key %d with %d algorithms", id, len(k.Algorithms))
		case k.Domain != 0 && (int(k.Domain) >= len(d.Domains) || d.Domains[k.Domain].IsZero()):
			return fmt.Errorf("key %d in key domain %d, which is not there", id, k.Domain)
		case !d.coveredBy(k.Domain):
			return fmt.Errorf("key %d in key domain %d, which takes any shares", id, k.Domain)
		}
	}
	return nil
}

// coveredBy reports whether a key can be in a key domain: one that awaits shares
// takes no key in, and is bound to those of its keys when it is cleared. Slot 0
// can be empty when a key comes to it, and become a domain later.
func (d Durable) coveredBy(slot byte) bool {
	if int(slot) >= len(d.Domains) || slot == 0 && d.Profile().KeyDomains {
		return true
	}
	domain := d.Domains[slot]
	return domain.Outstanding() == 0 || domain.Bound()
}

// checkDomains: without key domains in the firmware there is one DKEK or none.
func (d Durable) checkDomains() error {
	if len(d.Domains) > 255 || !d.Profile().KeyDomains && len(d.Domains) > 1 {
		return fmt.Errorf("%d key domains on firmware %s", len(d.Domains), d.Firmware)
	}
	for slot, domain := range d.Domains {
		if err := domain.Check(); err != nil {
			return fmt.Errorf("key domain %d: %w", slot, err)
		}
		if !d.Profile().KeyDomains && (domain.IsZero() || domain.XKEK()) {
			return fmt.Errorf("key domain %d is not a DKEK on firmware %s", slot, d.Firmware)
		}
	}
	return nil
}

// checkCustodians: as many slots as the policy has keys; those that are
// registered have names of their own and a point of a curve for them.
func (d Durable) checkCustodians() error {
	if len(d.Custodians) != int(d.PINs.Keys.Total) {
		return fmt.Errorf("%d slots for %d public keys", len(d.Custodians), d.PINs.Keys.Total)
	}
	seen := map[string]bool{}
	for i, c := range d.Custodians {
		if c.Name == "" {
			if c.Curve != "" || c.Point != nil {
				return fmt.Errorf("public key %d without a name", i)
			}
			continue
		}
		known, ok := curve.ByName(c.Curve)
		if !ok || !custodianCurve(known) || seen[c.Name] || len(c.Name) > longest {
			return fmt.Errorf("public key %d", i)
		}
		seen[c.Name] = true
		if _, err := known.Public(c.Point); err != nil {
			return fmt.Errorf("public key %d: %w", i, err)
		}
	}
	return nil
}

// checkMemory: what is kept was small enough when it came. What a file takes
// besides its content is left out, since an empty one is let in wherever it is.
func (d Durable) checkMemory() error {
	used := 0
	for _, f := range d.Files[1:] { // EF 2F02 is the first
		used += len(f.Data)
	}
	for _, k := range d.Keys {
		used += keyMemory(k)
	}
	if most := d.Profile().Memory; used > most {
		return fmt.Errorf("%d bytes in a memory of %d", used, most)
	}
	return nil
}
