package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"hsmemu/applet"
	"hsmemu/emulator/store"
	"hsmemu/emulator/view"
	"hsmemu/keystore/seal"
)

func newCardCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "card",
		Short: "make, show and act on cards",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q", "card "+args[0])}
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(
		newCardNewCommand(a), newCardListCommand(a), newCardShowCommand(a), newCardRemoveCommand(a),
		newCardAuthenticateCommand(a), newCardImportKeyCommand(a), newCardFaultCommand(a),
		newCardSnapshotCommand(a), newCardRestoreCommand(a), newCardSnapshotsCommand(a),
		newCardExportCommand(a), newCardImportCommand(a), newCardResealCommand(a), newCardAcceptCommand(a),
		newCardActCommand(a, doEject, "take a card out of its reader"),
		newCardActCommand(a, doInsert, "put an ejected card back into its reader"),
		newCardActCommand(a, doReset, "reset a card: its session ends"),
	)
	return cmd
}

// serialShape is what serial numbers look like on hardware: a country code and
// nine more characters, so that the device name has sixteen.
var serialShape = regexp.MustCompile(`^[A-Z]{2}[A-Z0-9]{9}$`)

func newCardNewCommand(a *app) *cobra.Command {
	var o order
	var seed string
	var answers []string
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "make a card as shipped: never initialised, with its own device key and certificate",
		Args:  exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if _, known := applet.ProfileOf(o.firmware); !known {
				return usageError{fmt.Errorf("no firmware %q, the nearest is %s (there are %s)", o.firmware, nearestFirmware(o.firmware), firmwareList())}
			}
			if o.serial != "" && !serialShape.MatchString(o.serial) {
				return usageError{fmt.Errorf("serial %q: two capital letters and nine capital letters or digits, as in DENK0404144", o.serial)}
			}
			if seed != "" {
				n, err := strconv.ParseUint(seed, 0, 64)
				if err != nil {
					return usageError{fmt.Errorf("seed %q: a number from 0 to %d", seed, uint64(math.MaxUint64))}
				}
				o.seed = &n
			}
			var err error
			if o.answers, err = chosenAnswers(answers); err != nil {
				return err
			}
			file, err := a.makeCard(args[0], o)
			if err != nil {
				return err
			}
			return file.Close()
		},
	}
	cmd.Flags().StringVar(&o.firmware, "firmware", applet.DefaultFirmware, "firmware version: "+firmwareList())
	cmd.Flags().StringVar(&o.serial, "serial", "", "serial number (default: a random one beginning with DENK99)")
	cmd.Flags().StringArrayVar(&answers, "answer", nil, "answer `NAME=SW` where sources disagree, not as the firmware does: "+answerList()+"; may be repeated")
	cmd.Flags().StringVar(&seed, "seed", "", "derive everything random from this number, for tests only")
	o.sealing.flags(cmd)
	cmd.Flags().BoolVar(&o.keyPool, "key-pool", false, "take RSA keys from a public pool instead of generating them, for tests only")
	return cmd
}

// firmwareList names every profile for help texts and errors.
func firmwareList() string {
	var names []string
	for _, p := range applet.Profiles() {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}

// nearestFirmware is the profile closest in number to what was asked.
func nearestFirmware(asked string) string {
	want, err := strconv.ParseFloat(asked, 64)
	if err != nil {
		return applet.DefaultFirmware
	}
	far := func(p applet.Profile) float64 {
		v, _ := strconv.ParseFloat(p.Name, 64)
		return math.Abs(v - want)
	}
	return slices.MinFunc(applet.Profiles(), func(x, y applet.Profile) int {
		return int(math.Copysign(1, far(x)-far(y)))
	}).Name
}

// view is what can be told of a card, asked from the process that runs it or
// read from its file.
func (a *app) view(ctx context.Context, name string) (view.Card, error) {
	r, err := a.ask(ctx, name, request{Do: doShow})
	switch {
	case err == nil && r.View != nil:
		return *r.View, nil
	case err != nil && !errors.Is(err, errNobody):
		return view.Card{}, fmt.Errorf("show card %q: %w", name, err)
	}
	d, info, err := a.read(name)
	if err != nil {
		return view.Card{}, err
	}
	v := view.Of(name, d, info.Seal, info.Generation)
	if info.Refusal != nil {
		v.Refused = new(refusal(info.Refusal))
	}
	return v, nil
}

func newCardShowCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "show a card: counters, objects, and what the next wrong PIN does",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := a.view(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(v)
			}
			return v.Print(a.out)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// summary is a view for lists: it asks for no passphrase and no TPM, and a
// damaged card does not hide the others.
func (a *app) summary(ctx context.Context, name string) view.Card {
	if r, err := a.ask(ctx, name, request{Do: doShow}); err == nil && r.View != nil {
		return *r.View
	}
	info, err := a.inspect(name)
	v := view.Closed(name, info.Seal, info.Generation)
	if err == nil && info.Seal == seal.KindNone {
		v, err = a.view(ctx, name)
	}
	if err != nil {
		v = view.Broken(name, spoken(err.Error()))
	}
	return v
}

func newCardListCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list the cards of the state folder",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			names, err := a.names()
			if err != nil {
				return err
			}
			views := []view.Card{}
			for _, name := range names {
				views = append(views, a.summary(cmd.Context(), name))
			}
			if asJSON {
				return a.printJSON(views)
			}
			return view.PrintList(a.out, views)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newCardRemoveCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME",
		Short: "remove a card and everything on it",
		Args:  exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := a.path(args[0])
			if err != nil {
				return err
			}
			if err := store.Remove(path, a.options()); err != nil {
				return a.explain(args[0], err)
			}
			if err := a.dropSnapshots(args[0]); err != nil {
				return err
			}
			control, err := a.controlPath(args[0])
			if err != nil {
				return err
			}
			if err := os.Remove(control); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("remove the control socket: %w", err)
			}
			return nil
		},
	}
}

// newCardActCommand is a command that only the process running the card can
// carry out.
func newCardActCommand(a *app, do, short string) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   do + " NAME",
		Short: short,
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := a.ask(cmd.Context(), args[0], request{Do: do, Force: force})
			if errors.Is(err, errNobody) {
				if _, _, err := a.read(args[0]); err != nil {
					return err
				}
				if do == doReset {
					return nil // a card without power has nothing to lose
				}
				err = hinted{fmt.Errorf("%s card %q: %w", do, args[0], errNobody), "it is in a reader while `hsmemu run` or `hsmemu exec` runs it"}
				return err
			}
			if err != nil {
				return fmt.Errorf("%s card %q: %w", do, args[0], err)
			}
			return nil
		},
	}
	if do != doInsert {
		cmd.Flags().BoolVar(&force, "force", false, "do it in the middle of a program's transaction, too")
	}
	return cmd
}
