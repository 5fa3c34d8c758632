package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

// transfer is the protection of a card's file on its way: a passphrase of its
// own, or openly none.
type transfer struct {
	open bool
	file string
}

func (t *transfer) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.file, "file-passphrase-file", "", "file with the passphrase of the exported file in its first line")
}

const (
	filePhrase         = "passphrase of the exported file"
	filePhraseVariable = "HSMEMU_FILE_PASSPHRASE"
)

// out is how an exported file is sealed.
func (t transfer) out(a *app) store.Options {
	if t.open {
		return store.Options{Sealers: []seal.Sealer{seal.Insecure{}}}
	}
	return store.Options{Sealers: []seal.Sealer{seal.Passphrase{Ask: a.choice(filePhrase, t.file, filePhraseVariable)}}}
}

// in is how an exported file may be sealed. Who has a passphrase for it does
// not take an open file that somebody put in its place.
func (t transfer) in(a *app) store.Options {
	ask := func() ([]byte, error) { return a.secret(filePhrase, t.file, filePhraseVariable) }
	all := []seal.Sealer{seal.Passphrase{Ask: ask}}
	if t.file == "" && a.env(filePhraseVariable) == "" {
		all = append(all, seal.Insecure{})
	}
	return store.Options{Sealers: all}
}

func newCardExportCommand(a *app) *cobra.Command {
	var t transfer
	cmd := &cobra.Command{
		Use:   "export NAME FILE",
		Short: "write a whole card into a file, under a passphrase of its own",
		Args:  commandline.Exactly(2),
		RunE: a.inFolder(func(_ context.Context, d *statedir.Dir, args []string) error {
			err := d.Export(args[0], args[1], t.out(a))
			if errors.Is(err, store.ErrExist) {
				return fmt.Errorf("export card %q: %s exists already", args[0], args[1])
			}
			if errors.Is(err, store.ErrNotRegular) {
				return fmt.Errorf("export card %q: %s exists already, and is %w", args[0], args[1], store.ErrNotRegular)
			}
			return err
		}),
	}
	t.flags(cmd)
	cmd.Flags().BoolVar(&t.open, "unprotected", false, "write the file without a passphrase: whoever reads it has the keys")
	return cmd
}

func newCardImportCommand(a *app) *cobra.Command {
	var t transfer
	var s sealing
	cmd := &cobra.Command{
		Use:   "import FILE NAME",
		Short: "make a card from a file that export wrote",
		Long:  "Makes a card from a file that export wrote: the same card with the same identity, as a copy.",
		Args:  commandline.Exactly(2),
		RunE: a.inFolder(func(_ context.Context, d *statedir.Dir, args []string) error {
			_, err := a.copied(d, statedir.Origin{File: args[0]}, a.originSealers(t, ""), args[1], s)
			return err
		}),
	}
	t.flags(cmd)
	s.flags(cmd)
	return cmd
}
