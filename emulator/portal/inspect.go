package portal

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/applet/sm"
	"hsmemu/applet/tlv"
)

// Card is a card in a reader, wherever that is. Every vsmartcard.Card is one.
type Card interface {
	// Transmit has the card execute a command APDU and returns its response
	// APDU. An error means that no response came.
	Transmit(ctx context.Context, command []byte) ([]byte, error)
	// Reset takes the power away and gives it back.
	Reset() error
}

// ErrNotTrusted says that a card is not what it claims to be: its certificates do
// not lead to the root, it does not have the key of its certificate, or another card
// answers half-way. The error that it wraps says which.
var ErrNotTrusted = errors.New("the card is not to be trusted")

// What makes a card untrusted, beside the errors of packages cvc, sm and scp03.
var (
	errOtherChip = errors.New("another chip answers half-way")
	errOtherKeys = errors.New("the keys that it has taken are not those that it was given")
	errNoProof   = errors.New("its firmware has no chip authentication, so it cannot prove what it is")
)

// ChipID is the serial number of a chip, which stays in an update: 12 hexadecimal
// digits.
type ChipID string

// Stage says how far the application of a card has come.
type Stage int

// The stages.
const (
	Operational  Stage = iota // a device
	Absent                    // no application
	InProduction              // an application without a device key, or with one that is not certified yet
)

// Inspection is what a card says of itself and has proven.
type Inspection struct {
	Chip  ChipID
	Stage Stage
	// Info is what the application answers to SELECT; empty while Absent.
	Info client.Info
	// Device is the verified chain of a device that has proven its key; empty
	// unless Operational, as is all that follows.
	Device cvc.Verified
	// UserPIN and SOPIN are the states of its PINs.
	UserPIN, SOPIN client.PINStatus
	// Objects are the identifiers of its files and keys.
	Objects []uint16
}

// Version is that of the firmware.
func (i Inspection) Version() Version { return Version{i.Info.Major, i.Info.Minor} }

// Keys are the references of the keys of the user, 1 to 255. The device key is
// none of them.
func (i Inspection) Keys() []byte {
	var keys []byte
	for _, id := range i.Objects {
		if byte(id>>8) == pkcs15.PrefixKey && byte(id) != 0 {
			keys = append(keys, byte(id))
		}
	}
	return keys
}

// Blocked reports whether the SO-PIN is blocked.
func (i Inspection) Blocked() bool {
	return i.SOPIN.State == client.Blocked || i.SOPIN.State == client.Ready && i.SOPIN.Left == 0
}

// Key is the public key of the device, an uncompressed point with its leading 04; nil
// unless Operational.
func (i Inspection) Key() []byte {
	if i.Stage != Operational {
		return nil
	}
	key, err := i.Device.DeviceKey().EC()
	if err != nil {
		return nil // Inspect has used it
	}
	return key.Bytes()
}

// cardManager is the name of the card manager.
const cardManager = "\xA0\x00\x00\x01\x51\x00\x00\x00"

// selectManager selects the card manager.
var selectManager = apdu.Command{INS: apdu.InsSelect, P1: apdu.SelectByName, Data: []byte(cardManager), Ne: 256}

// readChip selects the card manager and asks it for the chip's serial number,
// bytes 12 to 17 of its production data.
func readChip(ctx context.Context, card Card) (ChipID, error) {
	c := client.New(card)
	if _, err := c.Send(ctx, selectManager); err != nil {
		return "", fmt.Errorf("select the card manager: %w", err)
	}
	r, err := c.Send(ctx, apdu.Command{CLA: apdu.ClassProprietary, INS: apdu.InsGetData, P1: 0x9F, P2: 0x7F, Ne: 256})
	if err != nil {
		return "", fmt.Errorf("read the chip's production data: %w", err)
	}
	list, err := tlv.ParseBER(r.Data)
	if err != nil || len(list) != 1 || list[0].Tag != 0x9F7F || len(list[0].Value) != 42 {
		return "", fmt.Errorf("read the chip's production data: %w", client.ErrAnswer)
	}
	return ChipID(strings.ToUpper(hex.EncodeToString(list[0].Value[12:18]))), nil
}

// suite is the chip authentication that the portal asks for.
const suite = sm.AES128

// Inspect resets a card and looks at it, which changes nothing on it. What it says
// of its PINs and objects comes through the secure channel in which it has proven
// its key. Errors: ErrNotTrusted, and status words and transport errors of the
// card.
func Inspect(ctx context.Context, card Card, rand io.Reader) (Inspection, error) {
	if err := card.Reset(); err != nil {
		return Inspection{}, fmt.Errorf("reset the card: %w", err)
	}
	var i Inspection
	var err error
	if i.Chip, err = readChip(ctx, card); err != nil {
		return Inspection{}, err
	}
	if err := i.application(ctx, client.New(card), rand); err != nil {
		return Inspection{}, err
	}
	again, err := readChip(ctx, card)
	if err == nil && again != i.Chip {
		err = untrusted(errOtherChip)
	}
	if err != nil {
		return Inspection{}, err
	}
	return i, nil
}

func untrusted(why error) error { return fmt.Errorf("%w: %w", ErrNotTrusted, why) }

// application looks at the application.
func (i *Inspection) application(ctx context.Context, c *client.Client, rand io.Reader) (err error) {
	i.Info, err = c.Select(ctx)
	if errors.Is(err, apdu.NotFound) {
		i.Stage = Absent
		return nil
	}
	if err != nil {
		return err
	}
	_, err = c.Send(ctx, suite.Select())
	switch {
	case errors.Is(err, apdu.ConditionsNotSatisfied):
		i.Stage = InProduction
		return nil
	case errors.Is(err, apdu.WrongData), errors.Is(err, apdu.InstructionNotSupported):
		return untrusted(errNoProof)
	case err != nil:
		return fmt.Errorf("ask for chip authentication: %w", err)
	}
	if i.Device, err = Prove(ctx, c, cvc.EmulatorRoots(), rand); err != nil {
		return err
	}
	return Judge(i.ask(ctx, c))
}

// ask asks a device that has proven its key what else there is to know, in the channel
// that came of it.
func (i *Inspection) ask(ctx context.Context, c *client.Client) (err error) {
	if i.SOPIN, err = c.PINStatus(ctx, client.SOPIN); err != nil {
		return err
	}
	if i.UserPIN, err = c.PINStatus(ctx, client.UserPIN); err != nil {
		return err
	}
	i.Objects, err = c.Objects(ctx)
	return err
}

// Prove has the application that is selected prove that it is a device below one of the
// roots, with the key of its certificate. It leaves the client in the secure channel
// that comes of the proof, and changes nothing on the card. Errors: ErrNotTrusted, and
// status words and transport errors of the card.
func Prove(ctx context.Context, c *client.Client, roots cvc.Roots, rand io.Reader) (cvc.Verified, error) {
	ef, err := c.ReadFile(ctx, pkcs15.FileDevice)
	if err != nil {
		return cvc.Verified{}, err
	}
	chain, err := cvc.ParseChain(ef)
	if err != nil {
		return cvc.Verified{}, untrusted(err)
	}
	device, err := chain.Verify(roots)
	if err != nil {
		return cvc.Verified{}, untrusted(err)
	}
	key, err := device.DeviceKey().EC()
	if err != nil {
		return cvc.Verified{}, untrusted(err)
	}
	err = c.OpenChannel(ctx, suite, key, rand)
	for _, no := range []error{apdu.WrongData, apdu.InstructionNotSupported, apdu.ConditionsNotSatisfied} {
		if errors.Is(err, no) {
			return cvc.Verified{}, untrusted(errors.Join(errNoProof, err))
		}
	}
	if err != nil {
		return cvc.Verified{}, Judge(err)
	}
	return device, nil
}

// Judge tells lies from failures: what breaks a secure channel is ErrNotTrusted, beside
// what it was, and any other error stays as it is.
func Judge(err error) error {
	for _, lie := range []error{sm.ErrToken, sm.ErrData, sm.ErrMissing, sm.ErrWrong, sm.ErrUnprotected} {
		if errors.Is(err, lie) {
			return untrusted(err)
		}
	}
	return err
}

// is reports whether the card is a device with exactly these certificates.
func (i Inspection) is(ef []byte) bool {
	return i.Stage == Operational && len(ef) > 0 && bytes.Equal(i.Device.Bytes(), ef)
}
