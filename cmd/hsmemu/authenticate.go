package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"hsmemu/applet/client"
	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/control"
)

func newCardAuthenticateCommand(a *app) *cobra.Command {
	var target, reader string
	var with, withReader, pinFiles []string
	var key int
	cmd := &cobra.Command{
		Use:   "authenticate --card TARGET|--reader NAME --with CUSTODIAN... [--key REF]",
		Short: "open a card with the keys of its custodians' cards (public key authentication)",
		Long: "Answers the challenge of a card that was initialised for public key authentication with a key of each\n" +
			"custodian's card, as their tokens do. One challenge serves all custodians of a login, so name them in\n" +
			"one call. The card stays open until its next reset or selection, so it has to be in a reader, and a\n" +
			"program that will use it has to be connected to it: a reader without programs takes the power away.\n" +
			"The user PIN of each custodian's card is asked for, or taken from --pin-file (one for all, or one for each\n" +
			"in turn) or $HSMEMU_PIN. Their cards are left as they were.",
		Args: commandline.Exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			opened := custodian{name: target}
			if cmd.Flags().Changed("reader") {
				if reader == "" {
					return commandline.Usage(errors.New("--reader names a reader"))
				}
				if cmd.Flags().Changed("card") {
					return commandline.Usage(errors.New("--card and --reader exclude each other"))
				}
				opened = custodian{name: reader, reader: true}
			}
			var custodians []custodian
			for _, name := range with {
				custodians = append(custodians, custodian{name: name})
			}
			for _, name := range withReader {
				custodians = append(custodians, custodian{name: name, reader: true})
			}
			if len(custodians) == 0 {
				return commandline.Usage(errors.New("--with is needed"))
			}
			for i, one := range custodians {
				if slices.Contains(custodians[:i], one) {
					return commandline.Usage(fmt.Errorf("%s %s is there twice: a card counts once", one.flag(), one.name))
				}
			}
			if cmd.Flags().Changed("key") && key < 1 || key > 0xFF {
				return commandline.Usage(fmt.Errorf("key reference %d: 1 to 255", key))
			}
			if n := len(pinFiles); n > 1 && n != len(custodians) {
				return commandline.Usage(fmt.Errorf("%d PIN files for %d custodians: give one for all, or one for each", n, len(custodians)))
			}
			var pins [][]byte
			defer func() { wipe(pins) }()
			for i, one := range custodians {
				pin, err := a.pin("user PIN of card "+one.name, pick(pinFiles, i), "HSMEMU_PIN")
				if err != nil {
					return err
				}
				pins = append(pins, pin)
			}
			return a.authenticate(cmd.Context(), opened, custodians, byte(key), pins)
		},
	}
	cmd.Flags().StringVar(&target, "card", defaultCard, "name of the card to open")
	cmd.Flags().StringVar(&reader, "reader", "", "open the SmartCard-HSM in the PC/SC reader whose `NAME` contains this")
	cmd.Flags().StringArrayVar(&with, "with", nil, "name of a custodian's card; may be repeated")
	cmd.Flags().StringArrayVar(&withReader, "with-reader", nil, "a custodian's card is in the PC/SC reader whose `NAME` contains this; may be repeated, after those of --with")
	cmd.Flags().IntVar(&key, "key", 0, "reference of the custodian's key (default: the one that is registered)")
	cmd.Flags().StringArrayVar(&pinFiles, "pin-file", nil, "file with the custodians' user PIN in its first line; repeated: of each in turn")
	return cmd
}

func (a *app) authenticate(ctx context.Context, opened custodian, custodians []custodian, key byte, pins [][]byte) (err error) {
	name := opened.name
	target, err := opened.open(ctx, a)
	if err != nil {
		return err
	}
	defer func() { err = withEnd(err, target.close()) }()
	if !target.shared {
		return commandline.Hint(fmt.Errorf("authenticate to card %q: %w", name, control.ErrNobody), "its login would end with this command; start it with `hsmemu run` first")
	}
	o, err := target.BeginOpening(ctx)
	if err != nil {
		return target.about(err)
	}
	for i, one := range custodians {
		if i > 0 && o.Served() {
			fmt.Fprintf(a.out, "custodian %s: not needed\n", one.name)
			continue
		}
		if err := a.answer(ctx, target, o, one, key, pins[i]); err != nil {
			return fmt.Errorf("answer for custodian %q: %w", one.name, err)
		}
	}
	s := o.State()
	fmt.Fprintf(a.out, "card %s: %d of %d keys authenticated, %d needed\n", name, s.Authenticated, s.Total, s.Required)
	needsPIN, err := o.Conclude(ctx)
	switch {
	case errors.As(err, new(*client.ClosedError)):
		return fmt.Errorf("card %q stays closed: %w", name, err)
	case needsPIN:
		fmt.Fprintf(a.out, "card %s: the user PIN is needed, too\n", name)
	}
	return target.about(err)
}

// answer lets a custodian's card sign the challenge and shows the signature to
// the target.
func (a *app) answer(ctx context.Context, target *session, o *client.Opening, c custodian, key byte, pin []byte) (err error) {
	card, err := c.open(ctx, a)
	if err != nil {
		return err
	}
	defer func() { err = withEnd(err, card.leave(ctx)) }()
	key, name, err := o.Answer(ctx, card.Client, key, pin)
	var its *client.CustodianError
	switch {
	case errors.Is(err, client.ErrNotRegistered):
		return fmt.Errorf("no key of %s is registered on %s", card.what, target.what)
	case errors.As(err, &its):
		return card.about(err)
	case err != nil:
		return target.about(err)
	}
	_, err = fmt.Fprintf(a.out, "custodian %s: key %d, %s, authenticated\n", c.name, key, name)
	return err
}

// custodian is a custodian's card: an emulated one by its name, or the one in a
// reader.
type custodian struct {
	name   string
	reader bool
}

// flag is the one that names a custodian's card.
func (c custodian) flag() string {
	if c.reader {
		return "--with-reader"
	}
	return "--with"
}

func (c custodian) open(ctx context.Context, a *app) (*session, error) {
	if !c.reader {
		return a.session(ctx, c.name)
	}
	s, err := a.inReader(ctx, c.name)
	if err != nil {
		return nil, err
	}
	if err := s.Enter(ctx); err != nil {
		return nil, withEnd(s.about(err), s.close())
	}
	return s, nil
}
