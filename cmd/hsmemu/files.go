package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/statedir"
)

func newCardRemoveCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm NAME",
		Short: "remove a card, everything on it, and its snapshots",
		Long: "Removes a card with everything on it, and its snapshots with it. It asks before, on a terminal; elsewhere it\n" +
			"wants --force.",
		Args: commandline.Exactly(1),
		RunE: a.inFolder(func(_ context.Context, d *statedir.Dir, args []string) error {
			if !force {
				if err := a.agreed(d, args[0]); err != nil {
					return err
				}
			}
			return d.Remove(args[0])
		}),
	}
	cmd.Flags().BoolVar(&force, "force", false, "do not ask")
	return cmd
}

// snapshots is a store of cards that lists their snapshots.
type snapshots interface {
	Snapshots(card string) ([]statedir.Snapshot, error)
}

// agreed asks whether a card may be removed. Whoever is not there does not
// agree.
func (a *app) agreed(d snapshots, name string) error {
	kept, err := d.Snapshots(name)
	if errors.Is(err, statedir.ErrNoCard) || errors.Is(err, statedir.ErrName) {
		return err // a damaged card can be removed, too
	}
	what := ""
	switch len(kept) {
	case 0:
	case 1:
		what = " and its snapshot"
	default:
		what = fmt.Sprintf(" and its %d snapshots", len(kept))
	}
	refused := func(why error, hint string) error {
		return commandline.Hint(&statedir.Error{Op: "remove", Card: name, Err: why}, hint)
	}
	if !isTerminal(a.in) {
		return refused(errors.New("nobody is there to be asked"), fmt.Sprintf("--force removes it%s all the same", what))
	}
	answer, err := a.typed(fmt.Sprintf("remove card %q%s for good? [y/N] ", name, what), false)
	if err != nil {
		return refused(err, "")
	}
	if said := strings.ToLower(strings.TrimSpace(string(answer))); said != "y" && said != "yes" {
		return refused(errors.New("the answer was not yes"), "")
	}
	return nil
}

func newCardRenameCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rename NAME NEW",
		Short: "give a card another name",
		Long:  "Gives a card that is not in use another name; its snapshots go with it. Clients never see the name.",
		Args:  commandline.Exactly(2),
		RunE:  a.inFolder(func(_ context.Context, d *statedir.Dir, args []string) error { return d.Rename(args[0], args[1]) }),
	}
}

func newCardCopyCommand(a *app) *cobra.Command {
	var s sealing
	cmd := &cobra.Command{
		Use:   "copy NAME NEW",
		Short: "make a card with the identity, the keys and the state of another one",
		Long: "Makes a card with the state of another one, which may be in use, as it was saved last. The copy has the same\n" +
			"serial number and the same keys, so clients cannot tell the two apart, which no two real cards can be; it has no\n" +
			"snapshots. Without --seal it is protected as the other one is, by the same passphrase.",
		Args: commandline.Exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, sealers, err := a.making(s)
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("seal") {
				info, err := d.Inspect(args[0])
				if err != nil {
					return err
				}
				s.kind = info.Seal
				if sealers.Sealers, err = a.sealers(s); err != nil {
					return err
				}
			}
			if err := d.Copy(args[0], args[1], sealers); err != nil {
				return err
			}
			fmt.Fprintf(a.err, "hsmemu: card %q has the serial number and the keys of card %q: clients cannot tell them apart\n", args[1], args[0])
			return nil
		},
	}
	s.flags(cmd)
	cmd.Flags().Lookup("seal").DefValue = "as the other card's"
	return cmd
}
