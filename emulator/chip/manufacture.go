package chip

import (
	"errors"
	"fmt"
	"io"
	"regexp"

	"hsmemu/applet"
	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/emulator/scp03"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
)

// Order says what card is wanted.
type Order struct {
	// Firmware names a profile; empty is applet.DefaultFirmware.
	Firmware string
	// Serial is the serial number, 11 characters; empty is a random one.
	Serial string
	// Answers are those that the card is to give in place of its firmware's.
	Answers applet.Answers
	// Like is what the card is to be in; nil is a card as shipped.
	Like *Situation
	// Broken names what the card is to do wrong on purpose, see package broken;
	// empty is nothing.
	Broken string
	// Blank is a chip as its maker delivers it, with transport keys of the card manager
	// and no application: a portal's production makes a device of it. It can be like
	// nothing else.
	Blank bool
	// Issuer certifies the device; nil is cvc.EmulatorIssuer. It is below the
	// emulator's root.
	Issuer *cvc.Issuer
}

// ErrSerial says that no device has a serial number like that.
var ErrSerial = errors.New("two capital letters and nine capital letters or digits, as in DENK0404144")

// serialShape is what serial numbers look like on hardware: a country code and
// nine more characters, so that the device name has sixteen.
var serialShape = regexp.MustCompile(`^[A-Z]{2}[A-Z0-9]{9}$`)

// CheckSerial returns nil for a serial number that hardware can have, or for none, or
// else ErrSerial. Manufacture takes others of that length, too, for cards that have to
// be told apart.
func (o Order) CheckSerial() error {
	if o.Serial == "" || serialShape.MatchString(o.Serial) {
		return nil
	}
	return fmt.Errorf("serial %q: %w", o.Serial, ErrSerial)
}

// firstSequence ends the name of the device authentication key of every
// device.
const firstSequence = "00000"

// Manufacture makes a card as shipped: never initialised, with a device key of
// its own and its certificate from the issuer, dated env.Now. Then it
// brings the card into the situation that is ordered, by commands alone.
// Errors: an unknown firmware, ErrSituation, or env.Rand's.
func Manufacture(env applet.Env, o Order) (Durable, error) {
	if o.Firmware == "" {
		o.Firmware = applet.DefaultFirmware
	}
	if _, known := applet.ProfileOf(o.Firmware); !known {
		return Durable{}, fmt.Errorf("manufacture: no firmware %q", o.Firmware)
	}
	if o.Serial == "" {
		var err error
		if o.Serial, err = randomSerial(env.Rand); err != nil {
			return Durable{}, fmt.Errorf("manufacture: %w", err)
		}
	}
	known, _ := curve.ByName(applet.DeviceCurve)
	key, err := keystore.GenerateEC(env.Rand, known)
	if err != nil {
		return Durable{}, fmt.Errorf("manufacture: %w", err)
	}
	name := cvc.Name(o.Serial + firstSequence)
	nonce := env.Rand
	if env.Deterministic {
		nonce = nil
	}
	issuer := cvc.EmulatorIssuer()
	if o.Issuer != nil {
		issuer = *o.Issuer
	}
	ef, err := issuer.IssueDevice(key.ECPublic(), name, env.Now, nonce)
	if err != nil {
		return Durable{}, fmt.Errorf("manufacture: %w", err)
	}
	made := Durable{Broken: o.Broken, Applet: applet.Durable{
		Firmware: o.Firmware, Answers: o.Answers,
		Device: applet.Device{Key: key, Name: string(name)},
		Files:  []applet.File{{ID: pkcs15.FileDevice, Data: ef}},
	}}
	switch {
	case o.Blank && o.Like != nil:
		return Durable{}, fmt.Errorf("%w: a blank chip has no application", ErrSituation)
	case o.Blank:
		made = made.remove(1) // its keys came over one secure channel
		made.Manager.KeySets = []KeySet{{TransportVersion, scp03.NewKeys(MasterKey, MasterKey, MasterKey)}}
		return made, nil
	case o.Like == nil:
		return made, nil
	}
	return o.Like.reach(env, made)
}

// randomSerial is a serial number of the shape of the Nitrokey HSM's, in a
// range that no issuer is known to use.
func randomSerial(rand io.Reader) (string, error) {
	digits := []byte("DENK99")
	for len(digits) < 11 {
		var b [1]byte
		if _, err := io.ReadFull(rand, b[:]); err != nil {
			return "", err
		}
		if b[0] < 250 {
			digits = append(digits, '0'+b[0]%10)
		}
	}
	return string(digits), nil
}
