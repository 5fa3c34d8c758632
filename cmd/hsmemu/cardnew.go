package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hsmemu/applet"
	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/broken"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/conform"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/start"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
	"hsmemu/emulator/view"
	"hsmemu/keystore/seal"
)

// newCard is what `card new` is told.
type newCard struct {
	start.Words
	seed   string
	portal string // the folder of its records

	pinFile, soPINFile   string
	from, thenPhraseFile string

	transfer transfer
	sealed   sealing
}

func newCardNewCommand(a *app) *cobra.Command {
	var o newCard
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "make a card as shipped, like somebody's, or as a copy",
		Long: "Makes a card as shipped: never initialised, with its own device key and certificate.\n\n" +
			"With --like it is in the situation of somebody's card, for rehearsing what to do with that, as far as it can be\n" +
			"stated: without its keys and files. The words, separated by commas, are those of `card show --json`:\n\n" +
			situationTable() + "\n" +
			"Its PINs are those of the documentation, which are printed: SO-PIN 3537363231383830 and user PIN 648219, or\n" +
			"64821973 with more than 3 tries. Others are taken from --pin-file or $HSMEMU_PIN, and from --so-pin-file or\n" +
			"$HSMEMU_SO_PIN in hexadecimal, as sc-hsm-tool takes it.\n\n" +
			"With --from it is a copy of a card in a file that `hsmemu card export` wrote, or of a snapshot, CARD:TAG, with\n" +
			"the same serial number and keys.",
		Args: commandline.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("like") && len(o.Like) == 0 {
				return commandline.Usage(errors.New("--like takes a situation, as in so=7,user=2"))
			}
			if o.from != "" {
				for _, other := range []string{"like", "firmware", "serial", "seed", "key-pool", "answer", "broken", "blank", "portal"} {
					if cmd.Flags().Changed(other) {
						return commandline.Usage(fmt.Errorf("--from and --%s exclude each other: the copy has what the card has", other))
					}
				}
				return a.newFrom(args[0], o, cmd.Flags().Changed("seal"))
			}
			for _, other := range []string{"blank", "seed"} {
				if cmd.Flags().Changed(other) && cmd.Flags().Changed("portal") {
					return commandline.Usage(fmt.Errorf("--portal and --%s exclude each other: a portal certifies a device of its own choice", other))
				}
			}
			switch {
			case !cmd.Flags().Changed("firmware"):
				o.Firmware = "" // of the situation, or the default
			case o.Firmware == "":
				return commandline.Usage(fmt.Errorf("no firmware %q (there are %s)", "", firmwareList()))
			}
			return a.newCard(cmd.Context(), args[0], o)
		},
	}
	cmd.Flags().StringVar(&o.Firmware, "firmware", applet.DefaultFirmware, "firmware version: "+firmwareList())
	cmd.Flags().StringVar(&o.Serial, "serial", "", "serial number (default: a random one beginning with DENK99)")
	cmd.Flags().StringArrayVar(&o.Answers, "answer", nil, "answer `NAME=SW` where sources disagree, not as the firmware does: "+strings.Join(applet.AnswerWords(), ", ")+"; may be repeated")
	cmd.Flags().StringVar(&o.Broken, "broken", "", "break the card on purpose with a `DEFECT` of docs/conformance.md, to try a judge or a program on it")
	cmd.Flags().StringVar(&o.seed, "seed", "", "derive everything random from this number, for tests only")
	cmd.Flags().BoolVar(&o.Blank, "blank", false, "a chip without an application, of which a portal's production makes a device")
	cmd.Flags().StringVar(&o.portal, "portal", "", "have the device certified by the portal with its records in this `FOLDER`, which does not run")
	o.sealed.flags(cmd)
	cmd.Flags().BoolVar(&o.KeyPool, "key-pool", false, "take RSA keys from a public pool instead of generating them, for tests only")
	cmd.Flags().StringSliceVar(&o.Like, "like", nil, "the `SITUATION` of somebody's card, as in so=7,user=2,options=0001")
	cmd.Flags().StringVar(&o.pinFile, "pin-file", "", "file with the user PIN in its first line, with --like")
	cmd.Flags().StringVar(&o.soPINFile, "so-pin-file", "", "file with the SO-PIN in its first line, in hexadecimal, with --like")
	cmd.Flags().StringVar(&o.from, "from", "", "begin with a copy of this `FILE|SNAPSHOT`, a snapshot as CARD:TAG")
	cmd.Flags().StringVar(&o.thenPhraseFile, "snapshot-passphrase-file", "", "file with the snapshot's passphrase in its first line, with --from")
	o.transfer.flags(cmd)
	return cmd
}

// situationTable lists the words of --like for the help text.
func situationTable() string {
	var b strings.Builder
	for _, line := range view.SituationHelp() {
		fmt.Fprintf(&b, "  %-13s %s\n", line[0], line[1])
	}
	return b.String()
}

// newCard makes a card as shipped, or one in a situation.
func (a *app) newCard(ctx context.Context, name string, o newCard) error {
	if o.seed != "" {
		n, err := strconv.ParseUint(o.seed, 0, 64)
		if err != nil {
			return commandline.Usage(fmt.Errorf("seed %q: a number from 0 to %d", o.seed, uint64(math.MaxUint64)))
		}
		o.Seed = &n
	}
	order, err := o.Order()
	if err != nil {
		return commandline.Usage(o.wrong(err))
	}
	known, err := a.pins(order.Like, o) // by the situation
	if err != nil {
		return err
	}
	d, sealers, err := a.making(o.sealed)
	if err != nil {
		return err
	}
	if err := d.Vacant(name); err != nil { // before it costs a licence
		return err
	}
	if o.portal != "" {
		if err := certifiedBy(ctx, o.portal, sealers, &order.Order); err != nil {
			return fmt.Errorf("make card %q: %w", name, err)
		}
	}
	err = d.Make(name, order, sealers, a.outside)
	if errors.Is(err, chip.ErrSituation) {
		return commandline.Usage(err)
	}
	if err == nil && known != "" {
		fmt.Fprintf(a.err, "hsmemu: card %q has %s\n", name, known)
	}
	return err
}

// certifiedBy has the portal with records in a folder certify what is ordered.
func certifiedBy(ctx context.Context, folder string, key store.Options, o *chip.Order) error {
	issuer, serial, err := records.Certify(ctx, folder, records.Options{Now: time.Now, Key: key}, o.Serial)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return commandline.Hint(fmt.Errorf("no portal has its records in %s", folder), "hsmemu portal serve --data "+folder+" begins them")
	case errors.Is(err, store.ErrLocked):
		return commandline.Hint(err, "end the portal, or make a chip with --blank and have it produce the device")
	}
	o.Issuer, o.Serial = &issuer, serial
	return err
}

// wrong says by its flags what is wrong with the words of a new card.
func (o newCard) wrong(err error) error {
	var its *start.WordError
	var two *start.ContradictionError
	var unknown *start.FirmwareError
	switch {
	case errors.As(err, &two):
		return fmt.Errorf("--firmware %s and --like firmware=%s contradict each other", two.Firmware, two.Like)
	case errors.As(err, &unknown):
		return fmt.Errorf("no firmware %q, the nearest is %s (there are %s)", unknown.Firmware, unknown.Nearest, firmwareList())
	case !errors.As(err, &its):
		return err
	case its.Word == "like":
		return fmt.Errorf("--like: %w", its.Err)
	case its.Word == "broken":
		hint := "docs/conformance.md lists them"
		if near := view.Nearest(o.Broken, broken.Names()); near != "" {
			hint = "did you mean " + near + "?"
		}
		return commandline.Hint(fmt.Errorf("--broken %s: %w", o.Broken, broken.ErrUnknown), hint)
	}
	return its.Err
}

// pins puts the PINs of the user in the place of those of the documentation, and says
// which of the latter the card has.
func (a *app) pins(s *chip.Situation, o newCard) (known string, err error) {
	known, err = start.ChoosePINs(s,
		func() ([]byte, error) { return a.chosenSecret("SO-PIN", o.soPINFile, "HSMEMU_SO_PIN") },
		func() ([]byte, error) { return a.chosenSecret("user PIN", o.pinFile, "HSMEMU_PIN") })
	switch {
	case errors.Is(err, conform.ErrSOPIN):
		err = fmt.Errorf("the SO-PIN: %w", err)
	case errors.Is(err, start.ErrPIN):
		err = fmt.Errorf("the user PIN: %w", err)
	}
	return known, err
}

// chosenSecret is a secret from a file or the environment; nil is none.
func (a *app) chosenSecret(what, file, variable string) ([]byte, error) {
	if file == "" && a.env(variable) == "" {
		return nil, nil
	}
	return a.pin(what, file, variable)
}

// newFrom makes a copy of a card in a file, or of a snapshot. It is protected as it
// is told, or else as the snapshot is.
func (a *app) newFrom(name string, o newCard, sealed bool) error {
	d, err := a.cards()
	if err != nil {
		return err
	}
	from, err := d.Origin(o.from, "")
	if err != nil {
		return commandline.Hint(&statedir.Error{Op: "make", Card: name, Err: err}, "a snapshot is named CARD:TAG")
	}
	if !sealed {
		o.sealed.kind = d.Seal(from)
	}
	of, err := a.copied(d, from, a.originSealers(o.transfer, o.thenPhraseFile), name, o.sealed)
	if err == nil {
		fmt.Fprintf(a.err, "hsmemu: card %q has the serial number and the keys of %s: clients cannot tell them apart\n", name, of)
	}
	return err
}

// originSealers are those of what a copy begins with.
func (a *app) originSealers(t transfer, thenPhraseFile string) statedir.Sealers {
	return statedir.Sealers{Snapshot: a.then(thenPhraseFile), File: t.in(a)}
}

// copied makes a copy, and says of what.
func (a *app) copied(d *statedir.Dir, from statedir.Origin, in statedir.Sealers, name string, s sealing) (of string, err error) {
	sealers, err := a.newSealers(s)
	if err != nil {
		return "", err
	}
	err = d.MakeFrom(from, in, name, sealers)
	if from.File == "" {
		return fmt.Sprintf("the snapshot %s of card %q", from.Tag, from.Card), err
	}
	if errors.Is(err, seal.ErrPassphrase) {
		err = fmt.Errorf("import card %q: wrong passphrase for %s", name, from.File)
	}
	return "the card in " + from.File, err
}
