package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"hsmemu/applet/apdu"
	"hsmemu/applet/cvc"
	"hsmemu/applet/tlv"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
)

func newCardAuthenticateCommand(a *app) *cobra.Command {
	var target string
	var custodians, pinFiles []string
	var key int
	cmd := &cobra.Command{
		Use:   "authenticate --card TARGET --with CUSTODIAN... [--key REF]",
		Short: "open a card with the keys of its custodians' cards (public key authentication)",
		Long: "Answers the challenge of a card that was initialised for public key authentication with a key of each\n" +
			"custodian's card, as their tokens do. One challenge serves all custodians of a login, so name them in\n" +
			"one call. The card stays open until its next reset or selection, so it has to be in a reader, and a\n" +
			"program that will use it has to be connected to it: a reader without programs takes the power away.\n" +
			"The user PIN of each custodian's card is asked for, or taken from --pin-file (one for all, or one for each\n" +
			"in turn) or $HSMEMU_PIN. Their cards are left as they were.",
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(custodians) == 0 {
				return usageError{errors.New("--with is needed")}
			}
			if key < 0 || key > 0xFF {
				return usageError{fmt.Errorf("key reference %d: 1 to 255", key)}
			}
			if n := len(pinFiles); n > 1 && n != len(custodians) {
				return usageError{fmt.Errorf("%d PIN files for %d custodians: give one for all, or one for each", n, len(custodians))}
			}
			var pins [][]byte
			defer func() { wipe(pins) }()
			for i, name := range custodians {
				pin, err := a.secret("user PIN of card "+name, pick(pinFiles, i), "HSMEMU_PIN")
				if err != nil {
					return err
				}
				pins = append(pins, pin)
			}
			return a.authenticate(cmd.Context(), target, custodians, byte(key), pins)
		},
	}
	cmd.Flags().StringVar(&target, "card", defaultCard, "name of the card to open")
	cmd.Flags().StringArrayVar(&custodians, "with", nil, "name of a custodian's card; may be repeated")
	cmd.Flags().IntVar(&key, "key", 0, "reference of the custodian's key (default: the one that is registered)")
	cmd.Flags().StringArrayVar(&pinFiles, "pin-file", nil, "file with the custodians' user PIN in its first line; repeated: of each in turn")
	return cmd
}

// opening is a login by public keys under way.
type opening struct {
	target    *session
	device    cvc.Name
	challenge []byte
}

func (a *app) authenticate(ctx context.Context, name string, custodians []string, key byte, pins [][]byte) (err error) {
	target, err := a.session(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.close()) }()
	if !target.shared {
		return hinted{fmt.Errorf("authenticate to card %q: %w", name, errNobody), "its login would end with this command; start it with `hsmemu run` first"}
	}
	o := &opening{target: target}
	if o.device, err = deviceName(ctx, target); err != nil {
		return err
	}
	if _, err := o.status(ctx); err != nil {
		return err
	}
	r, err := target.send(ctx, apdu.Command{INS: 0x84, Ne: 8})
	if err != nil {
		return fmt.Errorf("get a challenge from card %q: %w", name, err)
	}
	o.challenge = r.Data
	var s keyStatus
	for i, custodian := range custodians {
		if i > 0 && s.authenticated >= s.required { // the challenge has served
			fmt.Fprintf(a.out, "custodian %s: not needed\n", custodian)
			continue
		}
		if err := a.answer(ctx, o, custodian, key, pins[i]); err != nil {
			return fmt.Errorf("answer for custodian %q: %w", custodian, err)
		}
		if s, err = o.status(ctx); err != nil {
			return err
		}
	}
	fmt.Fprintf(a.out, "card %s: %d of %d keys authenticated, %d needed\n", name, s.authenticated, s.total, s.required)
	if s.authenticated < s.required {
		return fmt.Errorf("card %q stays closed: %d more needed", name, s.required-s.authenticated)
	}
	switch r, err := target.send(ctx, apdu.Command{INS: 0x20, P2: 0x81}); {
	case r.SW == apdu.AuthenticationBlocked:
		return fmt.Errorf("card %q stays closed: its user PIN is blocked", name)
	case err != nil:
		fmt.Fprintf(a.out, "card %s: the user PIN is needed, too\n", name)
	}
	return nil
}

// keyStatus is the answer of MANAGE PUBLIC KEY AUTHENTICATION.
type keyStatus struct{ total, missing, required, authenticated int }

func (o *opening) status(ctx context.Context) (keyStatus, error) {
	r, err := o.target.ask(ctx, apdu.Command{CLA: 0x80, INS: 0x54, Ne: 4})
	switch {
	case r.SW == apdu.InstructionNotSupported:
		return keyStatus{}, fmt.Errorf("card %q is not initialised for public key authentication", o.target.card)
	case err != nil:
		return keyStatus{}, fmt.Errorf("public key authentication of card %q: %w", o.target.card, err)
	case len(r.Data) != 4:
		return keyStatus{}, fmt.Errorf("public key authentication of card %q: answer of %d bytes", o.target.card, len(r.Data))
	}
	return keyStatus{int(r.Data[0]), int(r.Data[1]), int(r.Data[2]), int(r.Data[3])}, nil
}

func deviceName(ctx context.Context, s *session) (cvc.Name, error) {
	ef, err := s.file(ctx, 0x2F02)
	if err != nil {
		return "", err
	}
	chain, err := cvc.ParseChain(ef)
	if err != nil {
		return "", fmt.Errorf("certificates of card %q: %w", s.card, err)
	}
	return chain.Device.CHR, nil
}

// answer lets a custodian's card sign the challenge and shows the signature to
// the target.
func (a *app) answer(ctx context.Context, o *opening, name string, key byte, pin []byte) (err error) {
	custodian, err := a.session(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, custodian.leave(ctx)) }()
	request, key, err := o.choose(ctx, custodian, key)
	if err != nil {
		return err
	}
	if err := custodian.login(ctx, pin); err != nil {
		return err
	}
	holder := tlv.Append(nil, 0x83, []byte(request.CHR))
	if r, err := o.target.send(ctx, apdu.Command{INS: 0x22, P1: 0x81, P2: 0xA4, Data: holder}); err != nil {
		if deselected(r.SW) {
			return hinted{fmt.Errorf("card %q lost its power meanwhile", o.target.card), "a program has to be connected to its reader all the time"}
		}
		return fmt.Errorf("select key %s on card %q: %w", request.CHR, o.target.card, err)
	}
	r, err := custodian.ask(ctx, apdu.Command{
		CLA: 0x80, INS: 0x68, P1: key, P2: byte(keystore.ECDSASHA256),
		Data: append([]byte(o.device), o.challenge...), Ne: 256,
	})
	if err != nil {
		return fmt.Errorf("sign the challenge with key %d: %w", key, err)
	}
	signature, err := rawSignature(request.Key.Curve, r.Data)
	if err != nil {
		return err
	}
	if _, err := o.target.send(ctx, apdu.Command{INS: 0x82, Data: signature}); err != nil {
		return fmt.Errorf("authenticate key %s: %w", request.CHR, err)
	}
	_, err = fmt.Fprintf(a.out, "custodian %s: key %d, %s, authenticated\n", name, key, request.CHR)
	return err
}

// rawSignature is r || s, which the command takes.
func rawSignature(c *curve.Curve, der []byte) ([]byte, error) {
	signature, err := c.ParseDER(der)
	if err != nil {
		return nil, fmt.Errorf("signature of the custodian: %w", err)
	}
	return signature.Plain(), nil
}

// choose finds the custodian's key: the one asked for, or the first one that
// is registered on the target. Its request, which says its name, must still be
// on the card.
func (o *opening) choose(ctx context.Context, custodian *session, key byte) (cvc.Request, byte, error) {
	first, last := 1, 0xFF
	if key != 0 {
		first, last = int(key), int(key)
	}
	registered, err := o.registered(ctx)
	if err != nil {
		return cvc.Request{}, 0, err
	}
	for id := first; id <= last; id++ {
		ef, err := custodian.file(ctx, 0xCE00|uint16(id))
		if err != nil {
			return cvc.Request{}, 0, err
		}
		a, err := cvc.ParseAuthenticated(ef)
		if err == nil && registered[a.Request.CHR] && a.Request.Key.Curve != nil {
			return a.Request, byte(id), nil
		}
	}
	return cvc.Request{}, 0, fmt.Errorf("no key of card %q is registered on card %q", custodian.card, o.target.card)
}

// registered lists the names of the keys that may open the target.
func (o *opening) registered(ctx context.Context) (map[cvc.Name]bool, error) {
	names := map[cvc.Name]bool{}
	for i := 0; i <= 0xFF; i++ {
		r, err := o.target.send(ctx, apdu.Command{CLA: 0x80, INS: 0x54, P1: 0x02, P2: byte(i), Ne: 256},
			apdu.KeyAuthenticated, apdu.ReferenceNotFound, apdu.IncorrectP1P2)
		switch {
		case err != nil:
			return nil, fmt.Errorf("list the keys of card %q: %w", o.target.card, err)
		case r.SW == apdu.IncorrectP1P2:
			return names, nil
		case r.SW != apdu.ReferenceNotFound:
			names[cvc.Name(r.Data)] = true
		}
	}
	return names, nil
}
