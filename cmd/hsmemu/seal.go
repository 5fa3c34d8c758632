package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

// sealing is how a file is to be protected, as flags say it.
type sealing struct {
	kind string
	pcrs []int
	of   string // what is sealed, in messages; the card if it is empty
}

// ofCard is what is sealed where nothing else is said.
const ofCard = "card"

// phrase is what the passphrase is called where it is asked for.
func (s sealing) phrase() string { return "passphrase of the " + cmp.Or(s.of, ofCard) }

func (s *sealing) flags(cmd *cobra.Command) {
	what := "card's file is"
	if s.of != "" {
		what = s.of + " are"
	}
	cmd.Flags().StringVar(&s.kind, "seal", seal.KindNone, "how the "+what+" protected: none, passphrase or tpm")
	cmd.Flags().IntSliceVar(&s.pcrs, "pcr", nil, "with --seal tpm: bind to these platform configuration registers")
}

// sealers are the ways in which files may be sealed, the chosen one first.
func (a *app) sealers(s sealing) ([]seal.Sealer, error) {
	all := []seal.Sealer{
		seal.Insecure{},
		seal.Passphrase{Ask: func() ([]byte, error) { return a.passphrase(s.phrase()) }},
		seal.TPM{Address: a.tpmAddress(), PCRs: s.pcrs},
	}
	if s.kind == "" {
		return all, nil
	}
	switch {
	case !seal.First(s.kind, all):
		return nil, commandline.Usage(fmt.Errorf("seal %q: none, passphrase or tpm", s.kind))
	case len(s.pcrs) > 0 && s.kind != seal.KindTPM:
		return nil, commandline.Usage(errors.New("--pcr goes with --seal tpm"))
	case slices.ContainsFunc(s.pcrs, func(pcr int) bool { return pcr < 0 || pcr > seal.LastPCR }):
		return nil, commandline.Usage(fmt.Errorf("--pcr takes registers from 0 to %d", seal.LastPCR))
	}
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

// passphrase is the one for the files of this process, called what it is of. It is asked
// for once.
func (a *app) passphrase(what string) ([]byte, error) {
	if a.phrase == nil {
		phrase, err := a.secret(what, a.phraseFile, "HSMEMU_PASSPHRASE")
		if err != nil {
			return nil, err
		}
		a.phrase = phrase
	}
	return bytes.Clone(a.phrase), nil
}

// forget wipes the passphrase when every card of a process that is going to run
// for long is open.
func (a *app) forget() {
	clear(a.phrase)
	a.phrase = nil
}

// newSealers are those for a new file.
func (a *app) newSealers(s sealing) (store.Options, error) {
	all, err := a.sealers(s)
	if err == nil && s.kind == seal.KindPassphrase {
		all[0] = seal.Passphrase{Ask: a.choice(s.phrase(), a.phraseFile, "HSMEMU_PASSPHRASE")}
	}
	return store.Options{Sealers: all}, err
}

// making is the state folder, and the sealers for the file of a card that is made in
// it.
func (a *app) making(s sealing) (*statedir.Dir, store.Options, error) {
	d, err := a.cards()
	if err != nil {
		return nil, store.Options{}, err
	}
	sealers, err := a.newSealers(s)
	return d, sealers, err
}

// choice gets a secret that nothing can be compared with yet. It asks twice
// where it is typed, since a mistake would lock up what it is for.
func (a *app) choice(what, file, variable string) func() ([]byte, error) {
	return func() ([]byte, error) {
		first, err := a.secret(what, file, variable)
		if err != nil || file != "" || a.env(variable) != "" {
			return first, err
		}
		again, err := a.secret("the same again", "", "")
		defer clear(again)
		if err == nil && !bytes.Equal(first, again) {
			err = errors.New("the two differ")
		}
		if err != nil {
			clear(first)
			return nil, err
		}
		return first, nil
	}
}

func newCardResealCommand(a *app) *cobra.Command {
	var s sealing
	var newFile string
	cmd := &cobra.Command{
		Use:   "reseal NAME --seal none|passphrase|tpm",
		Short: "change how a card's file is protected",
		Long: "Changes how a card's file is protected. Snapshots and copies made before stay under the old seal.\n" +
			"A new passphrase is taken from --new-passphrase-file or $HSMEMU_NEW_PASSPHRASE or asked for; where the file\n" +
			"has one already, that is taken from --passphrase-file or $HSMEMU_PASSPHRASE or asked for first.",
		Args: commandline.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("seal") {
				return commandline.Usage(errors.New("--seal is needed"))
			}
			return a.reseal(args[0], s, newFile)
		},
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&newFile, "new-passphrase-file", "", "file with the new passphrase in its first line")
	return cmd
}

func (a *app) reseal(name string, s sealing, newFile string) error {
	all, err := a.sealers(s)
	if err != nil {
		return err
	}
	if s.kind == seal.KindPassphrase {
		all[0] = seal.Passphrase{Ask: a.choice("new passphrase of the card", newFile, "HSMEMU_NEW_PASSPHRASE")}
	}
	d, err := a.cards()
	if err != nil {
		return err
	}
	if err := d.Reseal(name, all[0]); err != nil {
		return err
	}
	kept, err := d.Snapshots(name)
	if len(kept) > 0 {
		fmt.Fprintf(a.err, "hsmemu: card %q: %d of its snapshots stay under the seal they had\n", name, len(kept))
	}
	return err
}

// newCardAcceptCommand opens a file that the TPM's counter says is old.
func newCardAcceptCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "accept NAME",
		Short: "take a restored old file of a card as its present state, on purpose",
		Long: "A card sealed by a TPM refuses a file that is older than the TPM's counter, because old files bring back\n" +
			"spent PIN tries and deleted keys. This takes it all the same and moves the counter on.",
		Args: commandline.Exactly(1),
		RunE: a.inFolder(func(_ context.Context, d *statedir.Dir, args []string) error {
			needed, err := d.Accept(args[0])
			if err != nil {
				return err
			}
			did := "file accepted without rollback protection"
			if !needed {
				did = "nothing to accept: its file is not refused"
			}
			fmt.Fprintf(a.err, "hsmemu: card %q: %s\n", args[0], did)
			return nil
		}),
	}
}
