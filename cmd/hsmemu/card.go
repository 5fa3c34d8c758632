package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"hsmemu/applet"
	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/control"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/view"
)

func newCardCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "card",
		Short: "make, show and act on cards",
		Args:  cobra.ArbitraryArgs,
		RunE:  commandline.HelpOrUnknown,
	}
	cmd.AddCommand(
		newCardNewCommand(a), newCardListCommand(a), newCardShowCommand(a), newCardRemoveCommand(a),
		newCardRenameCommand(a), newCardCopyCommand(a),
		newCardAuthenticateCommand(a), newCardImportKeyCommand(a), newCardFaultCommand(a),
		newCardSnapshotCommand(a), newCardRestoreCommand(a), newCardSnapshotsCommand(a),
		newCardExportCommand(a), newCardImportCommand(a), newCardResealCommand(a), newCardAcceptCommand(a),
		newCardActCommand(a, "eject", "take a card out of its reader", (*control.Client).Eject),
		newCardActCommand(a, "insert", "put an ejected card back into its reader", func(c *control.Client, ctx context.Context, _ bool) error { return c.Insert(ctx) }),
		newCardActCommand(a, "reset", "reset a card: its session ends", (*control.Client).Reset),
	)
	return cmd
}

// firmwareList names every profile for help texts and errors.
func firmwareList() string { return strings.Join(applet.Firmwares(), ", ") }

func newCardShowCommand(a *app) *cobra.Command {
	return printing(a, &cobra.Command{
		Use:   "show NAME",
		Short: "show a card: counters, objects, and what the next wrong PIN does",
		Args:  commandline.Exactly(1),
	}, func(ctx context.Context, d *statedir.Dir, args []string) (view.Card, error) {
		return control.Show(ctx, d, args[0])
	}, view.Card.Print)
}

func newCardListCommand(a *app) *cobra.Command {
	return printing(a, &cobra.Command{
		Use:   "list",
		Short: "list the cards of the state folder",
		Args:  commandline.Exactly(0),
	}, func(ctx context.Context, d *statedir.Dir, _ []string) ([]view.Card, error) {
		return control.List(ctx, d, inWords)
	}, view.PrintList)
}

// printing has a command print what get finds in the state folder: as JSON with --json,
// or else in words.
func printing[T any](a *app, cmd *cobra.Command, get func(context.Context, *statedir.Dir, []string) (T, error), words func(T, io.Writer) error) *cobra.Command {
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = a.inFolder(func(ctx context.Context, d *statedir.Dir, args []string) error {
		v, err := get(ctx, d, args)
		switch {
		case err != nil:
			return err
		case *asJSON:
			return a.printJSON(v)
		}
		return words(v, a.out)
	})
	return cmd
}

func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// newCardActCommand is a command that only the process running the card can
// carry out.
func newCardActCommand(a *app, do, short string, act func(*control.Client, context.Context, bool) error) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   do + " NAME",
		Short: short,
		Args:  commandline.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := a.ask(cmd.Context(), do, args[0], func(c *control.Client) error { return act(c, cmd.Context(), force) })
			if do == "reset" && errors.Is(err, control.ErrNobody) {
				return nil // a card without power has nothing to lose
			}
			return err
		},
	}
	if do != "insert" {
		cmd.Flags().BoolVar(&force, "force", false, "do it in the middle of a program's transaction, too")
	}
	return cmd
}
