package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"hsmemu/applet/apdu"
	"hsmemu/applet/tlv"
	"hsmemu/pinstate"
)

// PIN is one of the card's two PINs, by its reference in P2.
type PIN byte

// The PINs.
const (
	UserPIN PIN = PIN(apdu.RefUserPIN)
	SOPIN   PIN = PIN(apdu.RefSOPIN)
)

// String names the PIN.
func (p PIN) String() string {
	switch p {
	case UserPIN:
		return "user PIN"
	case SOPIN:
		return "SO-PIN"
	}
	return fmt.Sprintf("PIN %02X", byte(p))
}

// PINState is what the card answers when it is asked for a PIN's state.
type PINState int

// The states of a PIN.
const (
	// Verified: the user is logged in, which VERIFY without data answers 9000.
	Verified PINState = iota
	// Ready: the PIN can be presented; the tries left are known (63Cx).
	Ready
	// Blocked: no tries are left (6983).
	Blocked
	// Transport: the user PIN is a transport PIN and has to be changed (6984).
	// Firmware 1 also answers so before it was ever initialised.
	Transport
	// Unset: there is no such PIN (6A88).
	Unset
	// KeysMissing: the user logs in with public keys, and too few have
	// authenticated (6300 or 6982).
	KeysMissing
)

// PINStatus is the state of a PIN.
type PINStatus struct {
	State PINState
	// Left is the number of tries left, for Ready.
	Left int
}

// PINStatus asks for the state of a PIN. It costs no try.
func (c *Client) PINStatus(ctx context.Context, p PIN) (PINStatus, error) {
	_, err := c.send(ctx, apdu.Command{INS: apdu.InsVerify, P2: byte(p)})
	var sw apdu.SW
	switch {
	case err == nil:
		return PINStatus{State: Verified}, nil
	case !errors.As(err, &sw):
		return PINStatus{}, fmt.Errorf("status of the %v: %w", p, err)
	}
	if n, ok := sw.Tries(); ok {
		return PINStatus{State: Ready, Left: n}, nil
	}
	switch sw {
	case apdu.AuthenticationBlocked:
		return PINStatus{State: Blocked}, nil
	case apdu.ReferenceDataNotUsable:
		return PINStatus{State: Transport}, nil
	case apdu.ReferenceNotFound:
		return PINStatus{State: Unset}, nil
	case apdu.VerificationFailed, apdu.SecurityStatus:
		return PINStatus{State: KeysMissing}, nil
	}
	return PINStatus{}, fmt.Errorf("status of the %v: %w", p, sw)
}

// ErrNoPIN says that a card does not have the PIN: it was not initialised, or without it.
var ErrNoPIN = errors.New("there is none")

// VerifyPIN presents a PIN once. A wrong one costs a try, see [TriesLeft]. Error:
// ErrNoPIN.
func (c *Client) VerifyPIN(ctx context.Context, p PIN, value []byte) error {
	if len(value) == 0 {
		return fmt.Errorf("verify the %v: %w", p, ErrNothing)
	}
	_, err := c.send(ctx, apdu.Command{INS: apdu.InsVerify, P2: byte(p), Data: value})
	if is(err, apdu.ReferenceNotFound) {
		err = fmt.Errorf("%w: %w", ErrNoPIN, err)
	}
	if err != nil {
		return fmt.Errorf("verify the %v: %w", p, err)
	}
	return nil
}

// ErrNoApplication says that a card does not have the application: it is no
// SmartCard-HSM.
var ErrNoApplication = errors.New("not a SmartCard-HSM")

// Unlock selects the application, which ends a login, and presents the user PIN for
// whoever uses the card after this client. No other application sees the PIN. Errors:
// ErrNoApplication, and those of VerifyPIN.
func (c *Client) Unlock(ctx context.Context, pin []byte) error {
	if _, err := c.Select(ctx); errors.As(err, new(apdu.SW)) {
		return fmt.Errorf("%w: %w", ErrNoApplication, err)
	} else if err != nil {
		return err
	}
	return c.VerifyPIN(ctx, UserPIN, pin)
}

// KeepLogin unbinds the login from the secure channel that it was made in:
// VERIFY without data and with P1 = 01, from firmware 2 on.
func (c *Client) KeepLogin(ctx context.Context) error {
	if _, err := c.Send(ctx, apdu.Command{INS: apdu.InsVerify, P1: 0x01, P2: byte(UserPIN)}); err != nil {
		return fmt.Errorf("unbind the login from the channel: %w", err)
	}
	return nil
}

// ChangePIN replaces a PIN. A wrong old one costs a try, see [TriesLeft].
func (c *Client) ChangePIN(ctx context.Context, p PIN, old, next []byte) error {
	data := append(append([]byte{}, old...), next...)
	defer clear(data)
	if _, err := c.send(ctx, apdu.Command{INS: apdu.InsChangeReferenceData, P2: byte(p), Data: data}); err != nil {
		return fmt.Errorf("change the %v: %w", p, err)
	}
	if p == UserPIN && c.pin != nil {
		c.forget()
		c.pin = bytes.Clone(next)
	}
	return nil
}

// ResetUserPIN has the SO-PIN, 8 bytes, restore the tries of the user PIN and
// set a new one; nil keeps the PIN. The card allows it only if it was
// initialised with the options for it (6985 otherwise, which costs no try).
func (c *Client) ResetUserPIN(ctx context.Context, so, next []byte) error {
	reset := apdu.Command{INS: apdu.InsResetRetryCounter, P2: byte(UserPIN), Data: append(append([]byte{}, so...), next...)}
	defer clear(reset.Data)
	if next == nil {
		reset.P1 = 0x01
	}
	if _, err := c.send(ctx, reset); err != nil {
		return fmt.Errorf("reset the user PIN: %w", err)
	}
	if next != nil {
		c.forget()
	}
	return nil
}

// Setup is what INITIALIZE DEVICE is told.
type Setup struct {
	Options pinstate.Options
	// SOPIN is the initialisation code, 8 bytes.
	SOPIN []byte
	// PIN is the user PIN, 6 to 16 bytes; nil for a login by public keys alone.
	PIN []byte
	// Tries is the retry counter of the user PIN: at most 3 for 6 bytes, 5 for
	// 7, and 10 for longer ones.
	Tries byte
	// DKEKShares makes one key domain with a DKEK of that many shares; 0 lets
	// the card choose a random DKEK. nil makes none.
	DKEKShares *byte
	// KeyDomains makes that many empty key domains, from firmware 3 on.
	KeyDomains byte
	// Custodians and Required make the login ask for Required of that many
	// public keys.
	Custodians, Required byte
}

// Initialise erases the card and sets it up: all keys, certificates and files
// are lost, the device key and its certificate stay. A wrong SO-PIN costs a
// try and erases nothing, see [TriesLeft]; no command unblocks the SO-PIN.
// The user is logged in afterwards.
func (c *Client) Initialise(ctx context.Context, s Setup) error {
	data := tlv.Append(nil, apdu.InitOptions, binary.BigEndian.AppendUint16(nil, uint16(s.Options)))
	if s.PIN != nil {
		data = tlv.Append(data, apdu.InitUserPIN, s.PIN)
	}
	data = tlv.Append(data, apdu.InitSOPIN, s.SOPIN)
	if s.PIN != nil {
		data = tlv.Append(data, apdu.InitTries, []byte{s.Tries})
	}
	if s.DKEKShares != nil {
		data = tlv.Append(data, apdu.InitShares, []byte{*s.DKEKShares})
	}
	if s.KeyDomains > 0 {
		data = tlv.Append(data, apdu.InitDomains, []byte{s.KeyDomains})
	}
	if s.Custodians > 0 {
		data = tlv.Append(data, apdu.InitCustodians, []byte{s.Custodians, s.Required})
	}
	defer clear(data)
	if _, err := c.send(ctx, apdu.Command{CLA: apdu.ClassProprietary, INS: apdu.InsInitializeDevice, Data: data}); err != nil {
		return fmt.Errorf("initialise: %w", err)
	}
	c.forget()
	return nil
}
