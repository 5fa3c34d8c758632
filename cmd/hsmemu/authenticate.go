package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/emulator/control"
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

func (a *app) authenticate(ctx context.Context, name string, custodians []string, key byte, pins [][]byte) (err error) {
	target, err := a.session(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.close()) }()
	if !target.shared {
		return hinted{fmt.Errorf("authenticate to card %q: %w", name, control.ErrNobody), "its login would end with this command; start it with `hsmemu run` first"}
	}
	o, err := newOpening(ctx, target)
	if err != nil {
		return target.about(err)
	}
	var s client.KeyAuthentication
	for i, custodian := range custodians {
		if i > 0 && s.Authenticated >= s.Required { // the challenge has served
			fmt.Fprintf(a.out, "custodian %s: not needed\n", custodian)
			continue
		}
		if err := a.answer(ctx, o, custodian, key, pins[i]); err != nil {
			return fmt.Errorf("answer for custodian %q: %w", custodian, err)
		}
		if s, err = target.KeyAuthentication(ctx); err != nil {
			return target.about(err)
		}
	}
	fmt.Fprintf(a.out, "card %s: %d of %d keys authenticated, %d needed\n", name, s.Authenticated, s.Total, s.Required)
	if s.Authenticated < s.Required {
		return fmt.Errorf("card %q stays closed: %d more needed", name, s.Required-s.Authenticated)
	}
	switch pin, err := target.PINStatus(ctx, client.UserPIN); {
	case err != nil:
		return target.about(err)
	case pin.State == client.Blocked:
		return fmt.Errorf("card %q stays closed: its user PIN is blocked", name)
	case pin.State != client.Verified:
		fmt.Fprintf(a.out, "card %s: the user PIN is needed, too\n", name)
	}
	return nil
}

// opening is a login by public keys under way.
type opening struct {
	target     *session
	device     cvc.Name
	registered map[cvc.Name]bool
	challenge  []byte
}

func newOpening(ctx context.Context, target *session) (*opening, error) {
	o := &opening{target: target, registered: map[cvc.Name]bool{}}
	device, err := target.Device(ctx)
	if err != nil {
		return nil, err
	}
	o.device = device.Device.CHR
	if _, err := target.KeyAuthentication(ctx); err != nil {
		return nil, err
	}
	keys, err := target.RegisteredKeys(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		o.registered[k.Name] = true
	}
	o.challenge, err = target.Challenge(ctx, 8)
	return o, err
}

// answer lets a custodian's card sign the challenge and shows the signature to
// the target. The key is the one asked for, or the first one that is registered
// on the target; its request, which says its name, must still be on the card.
func (a *app) answer(ctx context.Context, o *opening, name string, key byte, pin []byte) (err error) {
	custodian, err := a.session(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, custodian.leave(ctx)) }()
	first, last := byte(1), byte(0xFF)
	if key != 0 {
		first, last = key, key
	}
	key, request, err := custodian.FindRequest(ctx, first, last, func(r cvc.Request) bool {
		return r.CHR != "" && o.registered[r.CHR] && r.Key.Curve != nil
	})
	switch {
	case err != nil:
		return custodian.about(err)
	case key == 0:
		return fmt.Errorf("no key of card %q is registered on card %q", name, o.target.card)
	}
	if err := custodian.Login(ctx, pin); err != nil {
		return custodian.about(err)
	}
	signature, err := custodian.AnswerChallenge(ctx, key, o.device, o.challenge)
	if err != nil {
		return custodian.about(err)
	}
	if err := o.target.Authenticate(ctx, request.CHR, signature); err != nil {
		return o.target.about(err)
	}
	_, err = fmt.Fprintf(a.out, "custodian %s: key %d, %s, authenticated\n", name, key, request.CHR)
	return err
}
