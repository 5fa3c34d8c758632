package account

import (
	"context"
	"errors"
	"fmt"
	"io"

	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
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

// prove has a card prove what it is and asks it whether its user is authenticated.
// It selects the application only where it is not selected yet, and never resets the
// card: both would end the login that was made at the card. Errors:
// portal.ErrNotTrusted, and status words and transport errors of the card.
func prove(ctx context.Context, card client.Card, roots cvc.Roots, rand io.Reader) (p Proof, err error) {
	c := client.New(card)
	if err := c.Enter(ctx); errors.Is(err, apdu.NotFound) {
		return Proof{}, fmt.Errorf("%w: %w", portal.ErrNotTrusted, err)
	} else if err != nil {
		return Proof{}, err
	}
	if p.Device, err = portal.Prove(ctx, c, roots, rand); err != nil {
		return Proof{}, err
	}
	if err := p.ask(ctx, c); err != nil {
		return Proof{}, portal.Judge(err)
	}
	return p, nil
}

// ask asks a device that has proven its key for its user and its version.
func (p *Proof) ask(ctx context.Context, c *client.Client) (err error) {
	if p.UserPIN, err = c.PINStatus(ctx, client.UserPIN); err != nil {
		return err
	}
	if p.Firmware, err = firmware(ctx, c); err != nil || p.UserPIN.State != client.Verified {
		return err
	}
	// The login belongs to the program at the card, which goes on after this. Firmware
	// 2.0 and older do not know the command.
	if err := c.KeepLogin(ctx); err != nil && !errors.As(err, new(apdu.SW)) {
		return err
	}
	return nil
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
