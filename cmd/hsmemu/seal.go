package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"hsmemu/emulator/chip"
	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

// sealing is how a card's file is to be protected, as flags say it.
type sealing struct {
	kind string
	pcrs []int
}

func (s *sealing) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.kind, "seal", seal.KindNone, "how the card's file is protected: none, passphrase or tpm")
	cmd.Flags().IntSliceVar(&s.pcrs, "pcr", nil, "with --seal tpm: bind to these platform configuration registers")
}

// sealers are the ways in which files may be sealed, the chosen one first.
func (a *app) sealers(s sealing) ([]seal.Sealer, error) {
	all := []seal.Sealer{
		seal.Insecure{},
		seal.Passphrase{Ask: a.passphrase},
		seal.TPM{Address: a.tpmAddress(), PCRs: s.pcrs},
	}
	if s.kind == "" {
		return all, nil
	}
	i := slices.IndexFunc(all, func(one seal.Sealer) bool { return one.Kind() == s.kind })
	switch {
	case i < 0:
		return nil, usageError{fmt.Errorf("seal %q: none, passphrase or tpm", s.kind)}
	case len(s.pcrs) > 0 && s.kind != seal.KindTPM:
		return nil, usageError{errors.New("--pcr goes with --seal tpm")}
	}
	all[0], all[i] = all[i], all[0]
	return all, nil
}

// options is how card files are opened, whatever seals them.
func (a *app) options() store.Options {
	all, _ := a.sealers(sealing{}) // cannot fail: nothing was chosen
	return store.Options{Sealers: all}
}

func (a *app) tpmAddress() string {
	if a.tpm != "" {
		return a.tpm
	}
	return a.env("HSMEMU_TPM")
}

// passphrase is the one for the card's file. It is asked for once in a process.
func (a *app) passphrase() ([]byte, error) {
	if a.phrase == nil {
		phrase, err := a.secret("passphrase of the card", a.phraseFile, "HSMEMU_PASSPHRASE")
		if err != nil {
			return nil, err
		}
		a.phrase = phrase
	}
	return bytes.Clone(a.phrase), nil
}

// newPassphrase asks twice where it is typed, since a mistake would lock the
// card up.
func (a *app) newPassphrase() error {
	first, err := a.passphrase()
	defer clear(first)
	if err != nil || a.phraseFile != "" || a.env("HSMEMU_PASSPHRASE") != "" || !a.typed() {
		return err
	}
	again, err := a.secret("the same passphrase again", "", "")
	defer clear(again)
	if err == nil && !bytes.Equal(first, again) {
		err = errors.New("the two passphrases differ")
	}
	return err
}

func newCardResealCommand(a *app) *cobra.Command {
	var s sealing
	cmd := &cobra.Command{
		Use:   "reseal NAME --seal none|passphrase|tpm",
		Short: "change how a card's file is protected",
		Long: "Changes how a card's file is protected. Snapshots and copies made before stay under the old seal.\n" +
			"A new passphrase is asked for; where the file has one already, the old one is taken from\n" +
			"--passphrase-file or $HSMEMU_PASSPHRASE or asked for first, and the new one from --new-passphrase-file.",
		Args: exactly(1),
	}
	var newFile string
	s.flags(cmd)
	cmd.Flags().StringVar(&newFile, "new-passphrase-file", "", "file with the new passphrase in its first line")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if !cmd.Flags().Changed("seal") {
			return usageError{errors.New("--seal is needed")}
		}
		all, err := a.sealers(s)
		if err != nil {
			return err
		}
		path, err := a.path(args[0])
		if err != nil {
			return err
		}
		file, err := store.Open[chip.Durable](path, a.options())
		if err != nil {
			return a.explain(args[0], err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		if s.kind == seal.KindPassphrase {
			all[0] = seal.Passphrase{Ask: func() ([]byte, error) {
				return a.secret("new passphrase of the card", newFile, "HSMEMU_NEW_PASSPHRASE")
			}}
		}
		if err := file.Reseal(all[0]); err != nil {
			return fmt.Errorf("reseal card %q: %w", args[0], err)
		}
		return nil
	}
	return cmd
}

// newCardAcceptCommand opens a file that the TPM's counter says is old.
func newCardAcceptCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "accept NAME",
		Short: "take a restored old file of a card as its present state, on purpose",
		Long: "A card sealed by a TPM refuses a file that is older than the TPM's counter, because old files bring back\n" +
			"spent PIN tries and deleted keys. This takes it all the same and moves the counter on.",
		Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := a.path(args[0])
			if err != nil {
				return err
			}
			file, err := store.Accept[chip.Durable](path, a.options())
			if err != nil {
				return a.explain(args[0], err)
			}
			fmt.Fprintf(a.err, "hsmemu: card %q goes on from a file whose age only you know\n", args[0])
			return file.Close()
		},
	}
}
