package account

import (
	"context"
	"errors"
	"fmt"
	"io"

	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/applet/sm"
	"hsmemu/applet/tlv"
	"hsmemu/emulator/portal"
)

// Proof is a device that has proven its key, and what it says of its user through
// the secure channel that came of it.
type Proof struct {
	// Device is its chain, verified up to an accepted root.
	Device cvc.Verified
	// UserPIN is the state of the user PIN.
	UserPIN client.PINStatus
	// Firmware is its version, such as "4.1"; empty where the device does not tell it
	// without ending its user's login.
	Firmware string
}

// Path is that of the device: the holders of root, issuer and device, each behind a
// slash.
func (p Proof) Path() string { return p.Device.Path() }

// Key is the public key of the device, an uncompressed point with its leading 04.
func (p Proof) Key() []byte {
	key, err := p.Device.DeviceKey().EC()
	if err != nil {
		return nil // prove has used it
	}
	return key.Bytes()
}

// PINError says that the user was not authenticated at the device, so that nobody is
// logged in.
type PINError struct {
	// Status is what the device answers, never Verified.
	Status client.PINStatus
}

// pinTexts are what the person at the card is told.
var pinTexts = map[client.PINState]string{
	client.Blocked:     "The user PIN is blocked. This device cannot log in.",
	client.Transport:   "The transport PIN of this device must be changed first.",
	client.Unset:       "This device is not initialised. It cannot log in.",
	client.KeysMissing: "Not enough public keys have been authenticated at this device.",
}

// Error is what the person at the card is told.
func (e *PINError) Error() string {
	if text, ok := pinTexts[e.Status.State]; ok {
		return text
	}
	return fmt.Sprintf("The user PIN was not verified, %d tries left. Verify it and connect again.", e.Status.Left)
}

// suite is the chip authentication that the portal asks for: the vendor's code takes
// the one with triple DES, which is as old as the first cards.
const suite = sm.AES128

// errNoProof is why a firmware without chip authentication is not trusted.
var errNoProof = errors.New("its firmware has no chip authentication, so it cannot prove what it is")

// prove has a card prove what it is and asks it whether its user is authenticated.
// It selects the application only where it is not selected yet, and never resets the
// card: both would end the login that was made at the card. Errors:
// portal.ErrNotTrusted, and status words and transport errors of the card.
func prove(ctx context.Context, card client.Card, roots cvc.Roots, rand io.Reader) (Proof, error) {
	c := client.New(card)
	// An application that is selected answers with the state of the PIN.
	_, err := c.Send(ctx, apdu.Command{INS: apdu.InsVerify, P2: apdu.RefUserPIN})
	var sw apdu.SW
	switch {
	case err == nil:
	case !errors.As(err, &sw):
		return Proof{}, fmt.Errorf("status of the user PIN: %w", err)
	case sw == apdu.ClassNotSupported, sw == apdu.InstructionNotSupported, sw == 0x6900:
		if _, err = c.Select(ctx); errors.Is(err, apdu.NotFound) {
			return Proof{}, untrusted(err)
		}
		if err != nil {
			return Proof{}, err
		}
	}
	ef, err := c.ReadFile(ctx, pkcs15.FileDevice)
	if err != nil {
		return Proof{}, err
	}
	var p Proof
	chain, err := cvc.ParseChain(ef)
	if err == nil {
		p.Device, err = chain.Verify(roots)
	}
	if err != nil {
		return Proof{}, untrusted(err)
	}
	key, err := p.Device.DeviceKey().EC()
	if err != nil {
		return Proof{}, untrusted(err)
	}
	if err := c.OpenChannel(ctx, suite, key, rand); err != nil {
		return Proof{}, judge(err)
	}
	if p.UserPIN, err = c.PINStatus(ctx, client.UserPIN); err != nil {
		return Proof{}, judge(err)
	}
	if p.Firmware, err = firmware(ctx, c); err != nil {
		return Proof{}, judge(err)
	}
	if p.UserPIN.State == client.Verified {
		// The login belongs to the program at the card, which goes on after this.
		// Firmware 2.0 and older do not know the command.
		if err := c.KeepLogin(ctx); err != nil && !errors.As(err, &sw) {
			return Proof{}, judge(err)
		}
	}
	return p, nil
}

// tagAttributes has the version of the firmware in the answer to SELECT, the last two
// of its bytes.
const tagAttributes tlv.Tag = 0x85

// firmware asks for the version by SELECT without a name, which unlike a name ends no
// login. A card that does not answer it has no version.
func firmware(ctx context.Context, c *client.Client) (string, error) {
	r, err := c.Send(ctx, apdu.Command{INS: apdu.InsSelect, Ne: 256})
	if errors.As(err, new(apdu.SW)) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	n, _, err := tlv.Next(r.Data)
	if err != nil {
		return "", nil //nolint:nilerr // it tells no version
	}
	parts, _ := n.Children()
	a, _ := parts.Find(tagAttributes)
	if len(a.Value) < 2 {
		return "", nil
	}
	return portal.Version{Major: a.Value[len(a.Value)-2], Minor: a.Value[len(a.Value)-1]}.String(), nil
}

func untrusted(why error) error { return fmt.Errorf("%w: %w", portal.ErrNotTrusted, why) }

// judge tells lies from failures.
func judge(err error) error {
	for _, lie := range []error{sm.ErrToken, sm.ErrData, sm.ErrMissing, sm.ErrWrong, sm.ErrUnprotected} {
		if errors.Is(err, lie) {
			return untrusted(err)
		}
	}
	for _, sw := range []error{apdu.WrongData, apdu.InstructionNotSupported, apdu.ConditionsNotSatisfied} {
		if errors.Is(err, sw) {
			return untrusted(errors.Join(errNoProof, err))
		}
	}
	return err
}
