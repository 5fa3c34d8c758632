package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/control"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
	"hsmemu/emulator/view"
	"hsmemu/keystore/seal"
)

func newCardSnapshotCommand(a *app) *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use:   "snapshot NAME TAG",
		Short: "keep the present state of a card under a tag",
		Long: "Keeps the present state of a card under a tag; the card may be in use. The copy is protected as the\n" +
			"card's own file is. --rm removes what was kept under the tag.",
		Args: commandline.Exactly(2),
		RunE: a.inFolder(func(_ context.Context, d *statedir.Dir, args []string) error {
			if remove {
				return d.RemoveSnapshot(args[0], args[1])
			}
			return d.Snapshot(args[0], args[1])
		}),
	}
	cmd.Flags().BoolVar(&remove, "rm", false, "remove the snapshot instead")
	return cmd
}

func newCardSnapshotsCommand(a *app) *cobra.Command {
	return printing(a, &cobra.Command{
		Use:   "snapshots NAME",
		Short: "list the snapshots of a card",
		Args:  commandline.Exactly(1),
	}, func(_ context.Context, d *statedir.Dir, args []string) ([]view.Snapshot, error) {
		return control.Snapshots(d, args[0], inWords)
	}, view.PrintSnapshots)
}

func newCardRestoreCommand(a *app) *cobra.Command {
	var force bool
	var phraseFile string
	cmd := &cobra.Command{
		Use:   "restore NAME TAG",
		Short: "put a card back into the state of a snapshot",
		Long: "Puts a card back into the state of a snapshot. Clients of a running card see a removal and an insertion.\n" +
			"That can undo a lockout, which no real card allows: a card sealed by a TPM refuses without --force,\n" +
			"and so does any card the state of another device.\n" +
			"A snapshot has the passphrase that the card had then; if it has another one now, say the old one with\n" +
			"--snapshot-passphrase-file or in $HSMEMU_SNAPSHOT_PASSPHRASE.",
		Args: commandline.Exactly(2),
		RunE: a.inFolder(func(ctx context.Context, d *statedir.Dir, args []string) error {
			state, err := d.ReadSnapshot(args[0], args[1], a.then(phraseFile))
			if err != nil {
				return err
			}
			undone, err := control.Restore(ctx, d, args[0], state, force, a.world(args[0]))
			for _, what := range undone {
				fmt.Fprintf(a.err, "hsmemu: card %q: %s, which no real card can do\n", args[0], view.Printable(what))
			}
			return err
		}),
	}
	cmd.Flags().BoolVar(&force, "force", false, "restore a card with a counter, or another device, too")
	cmd.Flags().StringVar(&phraseFile, "snapshot-passphrase-file", "", "file with the snapshot's passphrase in its first line")
	return cmd
}

// then is how the files of a card were sealed once: as they are now, unless a
// passphrase of then was given.
func (a *app) then(phraseFile string) store.Options {
	const variable = "HSMEMU_SNAPSHOT_PASSPHRASE"
	if phraseFile == "" && a.env(variable) == "" {
		return a.options()
	}
	old := seal.Passphrase{Ask: func() ([]byte, error) { return a.secret("passphrase of the snapshot", phraseFile, variable) }}
	return store.Options{Sealers: append([]seal.Sealer{old}, a.options().Sealers...)}
}
