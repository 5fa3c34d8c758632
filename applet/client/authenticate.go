package client

import (
	"context"
	"errors"
	"fmt"

	"hsmemu/applet/apdu"
	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/applet/tlv"
	"hsmemu/keystore"
)

// Errors of public key authentication.
var (
	// ErrNoKeyAuthentication says that the card was not initialised for it
	// (6D00).
	ErrNoKeyAuthentication = errors.New("the card is not initialised for public key authentication")
	// ErrPowerLost says that the card lost its selection during the login,
	// which has to begin anew.
	ErrPowerLost = errors.New("the card lost its power meanwhile")
)

// The operations of MANAGE PUBLIC KEY AUTHENTICATION, its P1.
const (
	keysRegister = 0x00
	keysReplace  = 0x01
	keysQuery    = 0x02
)

// KeyAuthentication says how far public key authentication has come: of Total
// public keys Missing are not registered yet, Required have to authenticate,
// and Authenticated have.
type KeyAuthentication struct{ Total, Missing, Required, Authenticated int }

// KeyAuthentication asks for the state of public key authentication. Error:
// ErrNoKeyAuthentication.
func (c *Client) KeyAuthentication(ctx context.Context) (KeyAuthentication, error) {
	return c.manageKeys(ctx, keysRegister, 0, nil)
}

// RegisterKey registers the next public key, by the request that its device
// attested; the session has to trust that device, see [Client.Trust].
func (c *Client) RegisterKey(ctx context.Context, request cvc.Authenticated) (KeyAuthentication, error) {
	if len(request.Raw) == 0 { // without data the command is a question
		return KeyAuthentication{}, fmt.Errorf("public key authentication: %w", ErrNothing)
	}
	return c.manageKeys(ctx, keysRegister, 0, request.Raw)
}

// ReplaceKey puts another public key into a slot, if the options allow it.
func (c *Client) ReplaceKey(ctx context.Context, slot byte, request cvc.Authenticated) (KeyAuthentication, error) {
	return c.manageKeys(ctx, keysReplace, slot, request.Raw)
}

func (c *Client) manageKeys(ctx context.Context, p1, p2 byte, request []byte) (KeyAuthentication, error) {
	manage := apdu.Command{CLA: apdu.ClassProprietary, INS: apdu.InsManagePublicKeyAuthentication, P1: p1, P2: p2, Ne: 256}
	if request != nil || p1 == keysReplace {
		n, _, err := tlv.Next(request)
		if err != nil {
			return KeyAuthentication{}, fmt.Errorf("public key authentication: %w", err)
		}
		manage.Data, manage.Extended, manage.Ne = n.Value, true, 65536 // without the header 67, as clients send it
	}
	r, err := c.ask(ctx, manage)
	switch {
	case is(err, apdu.InstructionNotSupported):
		return KeyAuthentication{}, fmt.Errorf("%w: %w", ErrNoKeyAuthentication, err)
	case err == nil && len(r.Data) != 4:
		err = ErrAnswer
	}
	if err != nil {
		return KeyAuthentication{}, fmt.Errorf("public key authentication: %w", err)
	}
	return KeyAuthentication{int(r.Data[0]), int(r.Data[1]), int(r.Data[2]), int(r.Data[3])}, nil
}

// RegisteredKey is a slot for a public key.
type RegisteredKey struct {
	// Name is the certificate holder reference of the key, empty for a slot
	// that waits for one.
	Name cvc.Name
	// Authenticated reports whether the key has answered the challenge.
	Authenticated bool
}

// RegisteredKeys lists the slots for public keys in their order.
func (c *Client) RegisteredKeys(ctx context.Context) ([]RegisteredKey, error) {
	var keys []RegisteredKey
	for slot := 0; slot <= 0xFF; slot++ {
		r, err := c.send(ctx, apdu.Command{
			CLA: apdu.ClassProprietary, INS: apdu.InsManagePublicKeyAuthentication, P1: keysQuery, P2: byte(slot), Ne: 256,
		}, apdu.KeyAuthenticated, apdu.ReferenceNotFound)
		switch {
		case is(err, apdu.IncorrectP1P2):
			return keys, nil
		case err != nil:
			return nil, fmt.Errorf("list the registered public keys: %w", err)
		}
		keys = append(keys, RegisteredKey{Name: cvc.Name(r.Data), Authenticated: r.SW == apdu.KeyAuthenticated})
	}
	return keys, nil
}

// Trust makes the card verify the certificates of another device and believe
// what that device attests, until the end of the session. The issuer's
// certificate has to be signed by a root that the card knows.
func (c *Client) Trust(ctx context.Context, other cvc.Chain) error {
	issuer, device := other.Issuer, other.Device
	// An issuer that the card knows already needs no certificate.
	if c.verifyWith(ctx, issuer.CHR) != nil {
		if err := c.present(ctx, issuer); err != nil {
			return fmt.Errorf("trust issuer %s: %w", issuer.CHR, err)
		}
	}
	if err := c.present(ctx, device); err != nil {
		return fmt.Errorf("trust device %s: %w", device.CHR, err)
	}
	if err := c.verifyWith(ctx, device.CHR); err != nil {
		return fmt.Errorf("trust device %s: %w", device.CHR, err)
	}
	return nil
}

// present has the card verify a certificate (ISO 7816-8, PERFORM SECURITY
// OPERATION: VERIFY CERTIFICATE).
func (c *Client) present(ctx context.Context, certificate cvc.Certificate) error {
	if err := c.verifyWith(ctx, certificate.CAR); err != nil {
		return err
	}
	n, _, err := tlv.Next(certificate.Raw)
	if err != nil {
		return err
	}
	_, err = c.Send(ctx, apdu.Command{INS: apdu.InsPerformSecurityOperation, P2: 0xBE, Data: n.Value})
	return err
}

// tagKeyName names a key in MANAGE SECURITY ENVIRONMENT.
const tagKeyName tlv.Tag = 0x83

// verifyWith chooses the key that verifies the next certificate or attestation.
func (c *Client) verifyWith(ctx context.Context, name cvc.Name) error {
	_, err := c.Send(ctx, apdu.Command{INS: apdu.InsManageSecurityEnvironment, P1: 0x81, P2: 0xB6, Data: tlv.Append(nil, tagKeyName, []byte(name))})
	return err
}

// Challenge draws random bytes, at most 256, that public keys have to sign. It
// starts public key authentication anew.
func (c *Client) Challenge(ctx context.Context, n int) ([]byte, error) {
	r, err := c.send(ctx, apdu.Command{INS: apdu.InsGetChallenge, Ne: n})
	if err != nil {
		return nil, fmt.Errorf("get a challenge: %w", err)
	}
	return r.Data, nil
}

// Authenticate shows the card what a registered key made of the challenge: the
// ECDSA signature r || s with SHA-256 over the name of the device and the
// challenge. Error: ErrPowerLost where no application is selected any more.
func (c *Client) Authenticate(ctx context.Context, key cvc.Name, signature []byte) error {
	_, err := c.Send(ctx, apdu.Command{INS: apdu.InsManageSecurityEnvironment, P1: 0x81, P2: 0xA4, Data: tlv.Append(nil, tagKeyName, []byte(key))})
	switch {
	case deselected(err):
		return fmt.Errorf("%w: %w", ErrPowerLost, err)
	case err != nil:
		return fmt.Errorf("select key %s: %w", key, err)
	}
	if _, err := c.Send(ctx, apdu.Command{INS: apdu.InsExternalAuthenticate, Data: signature}); err != nil {
		return fmt.Errorf("authenticate key %s: %w", key, err)
	}
	return nil
}

// Opening is a login by public keys under way. One challenge serves all
// custodians of a login.
type Opening struct {
	target     *Client
	device     cvc.Name
	registered map[cvc.Name]bool
	challenge  []byte
	state      KeyAuthentication
}

// State is that of the public key authentication after the last answer.
func (o *Opening) State() KeyAuthentication { return o.state }

// Served reports whether as many keys have authenticated as have to: the challenge is
// used up, and no other answer is needed.
func (o *Opening) Served() bool { return o.state.Authenticated >= o.state.Required }

// ClosedError says why a card stays closed although custodians have answered: some are
// missing, or else its user PIN is blocked.
type ClosedError struct{ Missing int }

// Error is the reason.
func (e *ClosedError) Error() string {
	if e.Missing > 0 {
		return fmt.Sprintf("%d more needed", e.Missing)
	}
	return "its user PIN is blocked"
}

// Conclude tells what has come of the answers: whether the user PIN has to be presented
// before the card is open. Error: a *ClosedError.
func (o *Opening) Conclude(ctx context.Context) (needsPIN bool, err error) {
	if !o.Served() {
		return false, &ClosedError{o.state.Required - o.state.Authenticated}
	}
	pin, err := o.target.PINStatus(ctx, UserPIN)
	if err == nil && pin.State == Blocked {
		err = &ClosedError{}
	}
	return err == nil && pin.State != Verified, err
}

// BeginOpening draws a challenge for the public keys that are registered on the
// card. Error: ErrNoKeyAuthentication.
func (c *Client) BeginOpening(ctx context.Context) (*Opening, error) {
	o := &Opening{target: c, registered: map[cvc.Name]bool{}}
	device, err := c.Device(ctx)
	if err != nil {
		return nil, err
	}
	o.device = device.Device.CHR
	if o.state, err = c.KeyAuthentication(ctx); err != nil {
		return nil, err
	}
	keys, err := c.RegisteredKeys(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if k.Name != "" {
			o.registered[k.Name] = true
		}
	}
	o.challenge, err = c.Challenge(ctx, 8)
	return o, err
}

// ErrNotRegistered says that no key of a custodian's card is registered on the
// card to be opened, as far as the requests on the custodian's card tell.
var ErrNotRegistered = errors.New("no key of it is registered on the card to be opened")

// Answer has a custodian's card sign the challenge, after a login with its user
// PIN, and shows the signature to the card to be opened. ref is the reference of
// the key on the custodian's card, 0 for the one that is registered; its request,
// which says its name, must still be on the card. Clients give several keys one
// name, so Answer goes on to the next where a signature is not the registered
// key's, which costs nothing. It returns the key that it used. Errors: ErrPowerLost
// where the card to be opened lost its selection, and with it the challenge; those of
// the custodian's card come inside a *CustodianError.
func (o *Opening) Answer(ctx context.Context, custodian *Client, ref byte, pin []byte) (byte, cvc.Name, error) {
	first, last := 1, 0xFF
	if ref != 0 {
		first, last = int(ref), int(ref)
	}
	failed := error(&CustodianError{ErrNotRegistered})
	for ; first <= last; first++ {
		ref, request, err := custodian.FindRequest(ctx, byte(first), byte(last), func(r cvc.Request) bool {
			return o.registered[r.CHR] && r.Key.Curve != nil
		})
		if err != nil {
			return 0, "", &CustodianError{err}
		}
		if ref == 0 {
			break
		}
		if custodian.pin == nil {
			err = custodian.Login(ctx, pin)
		}
		var signature []byte
		if err == nil {
			signature, err = custodian.AnswerChallenge(ctx, ref, o.device, o.challenge)
		}
		if err != nil {
			return 0, "", &CustodianError{err}
		}
		if failed = o.target.Authenticate(ctx, request.CHR, signature); !is(failed, apdu.VerificationFailed) {
			if failed == nil {
				o.state, failed = o.target.KeyAuthentication(ctx)
			}
			if failed == nil && o.state.Authenticated == 0 { // the question selected the application anew
				failed = ErrPowerLost
			}
			return ref, request.CHR, failed
		}
		first = int(ref)
	}
	return 0, "", failed
}

// CustodianError is an error of a custodian's card, and not of the one to be
// opened.
type CustodianError struct{ Err error }

// Error is the error of the card.
func (e *CustodianError) Error() string { return e.Err.Error() }

// Unwrap is the error of the card.
func (e *CustodianError) Unwrap() error { return e.Err }

// AnswerChallenge is the custodian's part: key ref of this card, which takes a
// login, signs the name of the device to be opened and its challenge. The
// answer is what [Client.Authenticate] takes.
func (c *Client) AnswerChallenge(ctx context.Context, ref byte, device cvc.Name, challenge []byte) ([]byte, error) {
	request, err := c.Attestation(ctx, ref)
	if err != nil {
		return nil, err
	}
	a, err := cvc.ParseAuthenticated(request)
	if err != nil || a.Request.Key.Curve == nil {
		return nil, fmt.Errorf("key %d has no request that tells its curve", ref)
	}
	der, err := c.Sign(ctx, ref, keystore.ECDSASHA256, append([]byte(device), challenge...))
	if err != nil {
		return nil, err
	}
	signature, err := a.Request.Key.Curve.ParseDER(der)
	if err != nil {
		return nil, fmt.Errorf("sign with key %d: %w: %w", ref, ErrAnswer, err)
	}
	return signature.Plain(), nil
}

// FindRequest finds a key by what the request in the place of its certificate
// says; 0 if there is none. It looks at keys from first to last.
func (c *Client) FindRequest(ctx context.Context, first, last byte, wanted func(cvc.Request) bool) (byte, cvc.Request, error) {
	for ref := int(first); ref <= int(last); ref++ {
		content, err := c.ReadFile(ctx, pkcs15.File(pkcs15.PrefixCertificate, byte(ref)))
		if err != nil {
			return 0, cvc.Request{}, err
		}
		if a, err := cvc.ParseAuthenticated(content); err == nil && wanted(a.Request) {
			return byte(ref), a.Request, nil
		}
	}
	return 0, cvc.Request{}, nil
}
