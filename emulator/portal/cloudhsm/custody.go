package cloudhsm

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/emulator/portal"
)

// Errors of custodians.
var (
	// ErrServed says that as many keys have authenticated as have to: another answer
	// would begin anew.
	ErrServed = errors.New("enough keys have been authenticated")
	// ErrAnew says that the HSM was logged out, or connected anew, while the custodian's
	// card was answering.
	ErrAnew = errors.New("the login began anew meanwhile")
	// ErrLocked says that the user of a custodian's card did not present the PIN.
	ErrLocked = errors.New("the user PIN of the custodian's card was not verified")
)

// Plain is what the person at a custodian's card may know of an error of Authenticate.
func Plain(err error) string {
	for _, known := range []error{
		ErrNotAdmitted, ErrServed, ErrAnew, ErrLocked, ErrUnknown, ErrGone, client.ErrNotRegistered, client.ErrNoKeyAuthentication, portal.ErrNotTrusted,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "the portal could not do that"
}

// custody is how far the public key authentication of a card has come.
type custody struct {
	state client.KeyAuthentication
	keys  []client.RegisteredKey
}

// count asks a card how far its public key authentication has come. A card that was not
// initialised for it has none.
func (h *hsm) count(ctx context.Context, c *client.Client) error {
	var now custody
	var err error
	if now.state, err = c.KeyAuthentication(ctx); err == nil {
		now.keys, err = c.RegisteredKeys(ctx)
	}
	if err != nil && !errors.As(err, new(apdu.SW)) {
		return err
	}
	h.mu.Lock()
	h.custody = now
	h.mu.Unlock()
	return nil
}

// challenged draws a challenge for the custodians of a card, or tells the one that was
// drawn: one serves all of a login.
func (h *hsm) challenged(ctx context.Context) (challenge []byte, keys []client.RegisteredKey, err error) {
	var refused error // which is no failure of the connection
	err = h.do(ctx, func(ctx context.Context, c *client.Client) error {
		if err := h.count(ctx, c); err != nil {
			return err
		}
		h.mu.Lock()
		now := h.custody
		h.mu.Unlock()
		switch {
		case now.state.Total == 0:
			refused = client.ErrNoKeyAuthentication
			return nil
		case now.state.Authenticated >= now.state.Required:
			refused = ErrServed
			return nil
		}
		if h.challenge == nil {
			if h.challenge, err = c.Challenge(ctx, 8); err != nil {
				return err
			}
		}
		challenge, keys = h.challenge, now.keys
		return nil
	})
	return challenge, keys, cmp.Or(err, refused)
}

// Authenticate has the card of a custodian answer for a key that is registered on an HSM
// (PORTAL-19): the custodian's card proves that it is a device, its user PIN has to be
// verified there already, and it signs the challenge of the HSM. before is told which key
// of which device answers, before the HSM is shown the answer; its error ends the attempt.
// No PIN is asked for or passed on. When enough custodians have answered, the HSM is
// logged in. Errors: ErrUnknown, ErrGone, ErrServed, ErrLocked, ErrAnew,
// client.ErrNoKeyAuthentication, client.ErrNotRegistered, portal.ErrNotTrusted, before's,
// and status words and transport errors of the cards.
func (s *Service) Authenticate(ctx context.Context, id string, card client.Card, before func(device string, key cvc.Name) error) (client.KeyAuthentication, error) {
	h, err := s.hsm(id)
	if err != nil {
		return client.KeyAuthentication{}, err
	}
	custodian := client.New(card)
	if err := custodian.Enter(ctx); err != nil {
		return client.KeyAuthentication{}, err
	}
	device, err := portal.Prove(ctx, custodian, s.Roots, s.Rand)
	if err != nil {
		return client.KeyAuthentication{}, err
	}
	switch status, err := custodian.PINStatus(ctx, client.UserPIN); {
	case err != nil:
		return client.KeyAuthentication{}, err
	case status.State != client.Verified:
		return client.KeyAuthentication{}, ErrLocked
	}
	challenge, keys, err := h.challenged(ctx)
	if err != nil {
		return client.KeyAuthentication{}, err
	}
	ref, name, err := registered(ctx, custodian, keys)
	if err != nil {
		return client.KeyAuthentication{}, err
	}
	answer, err := custodian.AnswerChallenge(ctx, ref, h.device, challenge)
	if err != nil {
		return client.KeyAuthentication{}, err
	}
	// As after a log-in: who is at the custodian's card may go on with it. Firmware 2.0 and
	// older do not know the command.
	if err := custodian.KeepLogin(ctx); err != nil && !errors.As(err, new(apdu.SW)) {
		return client.KeyAuthentication{}, err
	}
	if err := before(device.Path(), name); err != nil {
		return client.KeyAuthentication{}, err
	}
	var now client.KeyAuthentication
	var refused error
	err = h.do(ctx, func(ctx context.Context, c *client.Client) error {
		if !slices.Equal(h.challenge, challenge) { // it was logged out meanwhile
			refused = ErrAnew
			return nil
		}
		if err := c.Authenticate(ctx, name, answer); err != nil {
			return err
		}
		if err := h.look(ctx, c); err != nil {
			return err
		}
		h.mu.Lock()
		now = h.custody.state
		h.mu.Unlock()
		if now.Authenticated >= now.Required {
			h.challenge = nil
		}
		return nil
	})
	return now, cmp.Or(err, refused)
}

// registered finds the key of a custodian's card that is registered on an HSM and has not
// answered, by the request that the custodian's card has kept. Error:
// client.ErrNotRegistered.
func registered(ctx context.Context, custodian *client.Client, keys []client.RegisteredKey) (ref byte, name cvc.Name, err error) {
	objects, err := custodian.Objects(ctx)
	if err != nil {
		return 0, "", err
	}
	for _, id := range objects {
		if byte(id>>8) != pkcs15.PrefixKey || byte(id) == 0 {
			continue
		}
		ref, request, err := custodian.FindRequest(ctx, byte(id), byte(id), func(r cvc.Request) bool {
			return r.Key.Curve != nil && slices.ContainsFunc(keys, func(k client.RegisteredKey) bool { return k.Name == r.CHR && !k.Authenticated })
		})
		if err != nil || ref != 0 {
			return ref, request.CHR, err
		}
	}
	return 0, "", client.ErrNotRegistered
}

// Logout ends the login of an HSM, whether it was made by a PIN or by public keys, and
// connects it anew. Errors: ErrUnknown, ErrGone, ErrOtherDevice, and those of the card.
func (s *Service) Logout(ctx context.Context, id string) error {
	h, err := s.hsm(id)
	if err != nil {
		return err
	}
	return h.do(ctx, func(ctx context.Context, c *client.Client) error {
		h.challenge = nil
		h.set(false, nil, nil)
		if _, err := c.Select(ctx); err != nil {
			return err
		}
		device, err := portal.Prove(ctx, c, s.Roots, s.Rand)
		if err != nil {
			return err
		}
		if device.Path() != h.path {
			return ErrOtherDevice
		}
		return h.look(ctx, c)
	})
}
