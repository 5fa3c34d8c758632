package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"hsmemu/emulator/chip"
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

// sealers are those of exported files, the chosen one first.
func (t transfer) sealers(a *app) store.Options {
	phrase := seal.Passphrase{Ask: func() ([]byte, error) {
		return a.secret("passphrase of the exported file", t.file, "HSMEMU_FILE_PASSPHRASE")
	}}
	if t.open {
		return store.Options{Sealers: []seal.Sealer{seal.Insecure{}, phrase}}
	}
	return store.Options{Sealers: []seal.Sealer{phrase, seal.Insecure{}}}
}

func newCardExportCommand(a *app) *cobra.Command {
	var t transfer
	cmd := &cobra.Command{
		Use:   "export NAME FILE",
		Short: "write a whole card into a file, under a passphrase of its own",
		Args:  exactly(2),
		RunE: func(_ *cobra.Command, args []string) error {
			d, _, err := a.read(args[0])
			if err != nil {
				return err
			}
			err = store.Write(args[1], d, t.sealers(a))
			if errors.Is(err, store.ErrExist) {
				return fmt.Errorf("export card %q: %s exists already", args[0], args[1])
			}
			if err != nil {
				return fmt.Errorf("export card %q: %w", args[0], err)
			}
			return nil
		},
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
		Args:  exactly(2),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := a.path(args[1])
			if err != nil {
				return err
			}
			all, err := a.sealers(s)
			if err != nil {
				return err
			}
			d, _, err := store.Read[chip.Durable](args[0], t.sealers(a))
			if err != nil {
				return fmt.Errorf("import card %q: %w", args[1], err)
			}
			file, err := store.Create(path, d, store.Options{Sealers: all})
			if errors.Is(err, store.ErrExist) {
				return fmt.Errorf("import card %q: it exists already", args[1])
			}
			if err != nil {
				return a.explainMade(args[1], err)
			}
			return file.Close()
		},
	}
	t.flags(cmd)
	s.flags(cmd)
	return cmd
}
