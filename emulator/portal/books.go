package portal

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"hsmemu/applet/cvc"
)

// Books are what a portal keeps, as far as it concerns one chip. They are a value
// that the caller stores; the JSON form has private keys in it.
type Books struct {
	Authority Authority `json:"authority"`
	// Chip is what is known of the chip.
	Chip Record `json:"chip"`
	// Waiting reports whether any chip has an update that has begun and not ended.
	Waiting bool `json:"-"`
	// Given reports whether a device name was given before, to whatever chip; nil
	// if none was.
	Given func(cvc.Name) (bool, error) `json:"-"`
}

// Record is what is known of one chip.
type Record struct {
	// Blocked is how many updates began that only a blocked SO-PIN allowed.
	Blocked int `json:"blocked_updates,omitempty"`
	// Devices are the devices that were made on this chip and the one before
	// them, in their order. All but the last are superseded.
	Devices []Device `json:"devices,omitempty"`
	// Running is an update that has begun and not ended.
	Running *Running `json:"running,omitempty"`
}

// Device is one identity of a chip.
type Device struct {
	Name cvc.Name `json:"name"`
	// Path is the holders of root, issuer and device, each behind a slash.
	Path string `json:"path"`
	// Key is its public key, an uncompressed point with its leading 04; empty where it
	// was not kept.
	Key      []byte  `json:"key,omitempty"`
	Firmware Version `json:"firmware"`
	// Superseded tells that a later device took its place. Whoever registered it
	// has to register that one.
	Superseded bool `json:"superseded,omitempty"`
}

// Running is an update under way.
type Running struct {
	// Old is empty where a device is made of a blank chip.
	Old Device  `json:"old"`
	To  Version `json:"to"`
	// Blocked tells that only the blocked SO-PIN allowed it; it is counted.
	Blocked bool `json:"blocked,omitempty"`
	// Issuer certifies the new device, which costs it a licence that is already
	// taken, and Name is the new device's.
	Issuer cvc.Name `json:"issuer"`
	Name   cvc.Name `json:"name"`
	// Certificate is EF 2F02 of the new device, nil until it was issued.
	Certificate []byte `json:"certificate,omitempty"`
}

// Ledger makes books durable. What it has not saved is not said to any card.
type Ledger interface {
	// Load returns the books as they were saved last; those of no chip if it is
	// empty.
	Load(chip ChipID) (Books, error)
	// Change has f change the books of a chip, one caller after the other, and
	// returns when they are saved. With an error, f's or its own, nothing is
	// changed. A name that f gave to an update counts as given from then on.
	Change(chip ChipID, f func(*Books) error) error
}

// target is what there is for a card with a version.
func (b Books) target(v Version) (Target, error) {
	issuer, err := b.Authority.Current()
	if err != nil {
		return Target{}, err
	}
	last := b.Authority.Issuers[len(b.Authority.Issuers)-1]
	to, _ := Newest(v.Major)
	return Target{Version: to, Issuer: issuer.CHR, IssuerReady: last.Ready && last.Licences > 0}, nil
}

// charge moves licences of an issuer.
func (b *Books) charge(issuer cvc.Name, n int) error {
	i, _, err := b.Authority.find(issuer)
	if err != nil {
		return err
	}
	b.Authority.Issuers = slices.Clone(b.Authority.Issuers)
	b.Authority.Issuers[i].Licences -= n
	return nil
}

// ErrNameGiven says that a device was given that name before.
var ErrNameGiven = errors.New("a device has that serial number already")

// Appoint takes a licence of the issuer of new updates for a device that is made
// elsewhere, and returns that issuer with the name of the device: that of a serial
// number of 11 characters, or a random one if it is empty. Errors: a *Refusal of an
// issuer that is not ready, ErrNameGiven, ErrAuthority and those of rand.
func (b *Books) Appoint(rand io.Reader, serial string) (cvc.Issuer, cvc.Name, error) {
	current, err := b.Authority.Current()
	if err != nil {
		return cvc.Issuer{}, "", err
	}
	i, issuer, err := b.Authority.find(current.CHR)
	if err != nil {
		return cvc.Issuer{}, "", err
	}
	if own := b.Authority.Issuers[i]; !own.Ready || own.Licences <= 0 {
		return cvc.Issuer{}, "", notReady(current.CHR)
	}
	name := cvc.Name(serial + firstSequence)
	if serial == "" {
		name, err = b.name(rand, "")
	} else if b.Given != nil {
		var given bool
		if given, err = b.Given(name); given {
			err = ErrNameGiven
		}
	}
	if err != nil {
		return cvc.Issuer{}, "", err
	}
	return issuer, name, b.charge(current.CHR, 1)
}

// firstSequence ends the name of the first key of every device.
const firstSequence = "00000"

// release ends an update of a chip whose card is a device with that name. If it is still the
// old one then nothing on it was changed, and what the update took is given back.
func (b *Books) release(name cvc.Name) error {
	r := &b.Chip
	if r.Running == nil {
		return nil
	}
	if name == r.Running.Old.Name {
		if err := b.charge(r.Running.Issuer, -1); err != nil {
			return err
		}
		if r.Running.Blocked {
			r.Blocked--
		}
	}
	r.Running = nil
	return nil
}

// complete ends an update: the old device is superseded.
func (b *Books) complete(device Device) error {
	r := &b.Chip
	if r.Running == nil || r.Running.Name != device.Name {
		return fmt.Errorf("no update to %s is open", device.Name)
	}
	if n := len(r.Devices); r.Running.Old.Name != "" && (n == 0 || r.Devices[n-1].Name != r.Running.Old.Name) {
		r.Devices = append(slices.Clip(r.Devices), r.Running.Old)
	}
	r.Devices = slices.Clone(r.Devices)
	for i := range r.Devices {
		r.Devices[i].Superseded = true
	}
	r.Devices, r.Running = append(r.Devices, device), nil
	return nil
}

// name draws a device name of the shape of the Nitrokey HSM's, in a range that no
// issuer is known to use, that was never given.
func (b Books) name(rand io.Reader, not cvc.Name) (cvc.Name, error) {
	for range 1000 {
		digits, err := draw(rand, "0123456789", 5)
		if err != nil {
			return "", err
		}
		n, given := cvc.Name("DENK99"+digits+firstSequence), false
		if b.Given != nil {
			if given, err = b.Given(n); err != nil {
				return "", err
			}
		}
		if !given && n != not {
			return n, nil
		}
	}
	return "", errors.New("no device names are left")
}
