package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"hsmemu/applet/cvc"
	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/view"
)

func newAttestCommand(a *app) *cobra.Command {
	var card, reader, root string
	var key int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "attest FILE... | --card NAME --key REF | --reader NAME --key REF",
		Short: "verify a device certificate chain and the attestation of a key",
		Long: "Verifies the certificates of a device (the content of EF 2F02, device certificate first) and the\n" +
			"request that it gave for a key (the content of EF CExx), and says whose root they end in.\n" +
			"Files may be binary or hexadecimal; several are read one after the other. A file that\n" +
			"`sc-hsm-tool --export-for-pub-key-auth` wrote holds all of it.\n" +
			"The vendor's public roots and the emulator's own are known; --root adds others.\n" +
			"A chain that ends in the emulator's root proves nothing: its private key is public.\n" +
			"A request tells of a key, not of a place. Of a card of this program (--card) the key in that place is\n" +
			"compared with it, and no root is believed but the emulator's. Of files and of a card in a reader the\n" +
			"request alone is judged: the key may have been deleted since, and another put in its place.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("card") && (len(args) > 0 || reader != "") {
				card = "" // that of the environment
			}
			roots := cvc.KnownRoots()
			if root != "" {
				err := a.readEach([]string{root}, func(data []byte) error {
					added, err := cvc.ParseRoots(data)
					roots = append(roots, added...)
					return err
				})
				if err != nil {
					return err
				}
			}
			var e cvc.Evidence
			var err error
			switch {
			case len(args) > 0 && card+reader != "" || card != "" && reader != "":
				return commandline.Usage(errors.New("name files, a card, or a reader: one of them"))
			case root != "" && card != "":
				return commandline.Usage(errors.New("--root is for files and readers: an emulated card has the emulator's root"))
			case cmd.Flags().Changed("key") && key < 1 || key > 0xFF:
				return commandline.Usage(fmt.Errorf("key reference %d: 1 to 255", key))
			case card != "":
				roots = cvc.EmulatorRoots() // we have its device key
				e, err = a.evidenceOf(card, byte(key))
			case reader != "":
				e, err = a.evidenceIn(cmd.Context(), reader, byte(key))
			case len(args) > 0:
				err = a.readEach(args, e.Add)
			default:
				return commandline.Usage(errors.New("a file, --card or --reader is needed"))
			}
			if err != nil {
				return err
			}
			return a.attest(e, roots, asJSON)
		},
	}
	cmd.Flags().StringVar(&card, "card", "", "take the certificates from this card")
	cmd.Flags().StringVar(&reader, "reader", "", "take the certificates from the SmartCard-HSM in the PC/SC reader whose `NAME` contains this")
	cmd.Flags().IntVar(&key, "key", 0, "key reference on the card, 1 to 255; without it the chain alone is verified")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&root, "root", "", "trust the root certificates in this `FILE`, too")
	return cmd
}

// attest verifies and prints. The first line says what is proven; a note follows for each
// certificate that is out of date, which no client of the device refuses.
func (a *app) attest(e cvc.Evidence, roots cvc.Roots, asJSON bool) error {
	v, err := e.Judge(roots)
	if err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(view.AttestationOf(v.Verified, v.Request, a.outside.Clock()))
	}
	text := fmt.Sprintf("%s\n%s\n", v.Proven(), v)
	for _, c := range v.Outside(a.outside.Clock()) {
		text += fmt.Sprintf("note: certificate %s is not valid today\n", c.CHR)
	}
	_, err = io.WriteString(a.out, text)
	return err
}

// evidenceOf takes the certificates, and the request of a key, from a card.
func (a *app) evidenceOf(name string, key byte) (cvc.Evidence, error) {
	cards, err := a.cards()
	if err != nil {
		return cvc.Evidence{}, err
	}
	d, _, err := cards.Read(name)
	if err != nil {
		return cvc.Evidence{}, err
	}
	e, err := d.Applet.Evidence(key)
	return e, aboutKey(key, fmt.Sprintf("card %q", name), err)
}

// evidenceIn takes the certificates, and the request of a key, from the card in a
// reader, be it hardware or not.
func (a *app) evidenceIn(ctx context.Context, reader string, key byte) (e cvc.Evidence, err error) {
	s, err := a.inReader(ctx, reader)
	if err != nil {
		return e, err
	}
	defer func() { err = withEnd(err, s.leave(ctx)) }()
	e, err = s.Evidence(ctx, key)
	return e, aboutKey(key, s.what, err)
}

// aboutKey says which key of which card an error is about.
func aboutKey(key byte, what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("attest key %d of %s: %w", key, what, err)
}

// readEach reads files and hands over the content of each.
func (a *app) readEach(paths []string, take func([]byte) error) error {
	for _, path := range paths {
		data, err := a.readFile(path)
		if err == nil {
			err = take(data)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
	}
	return nil
}

// plain is the reason in an error of package os, without the operation and the
// path.
func plain(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// longest is more than any file with a key, a share, certificates or a PIN has.
const longest = 1 << 20

// readFile reads a file that somebody has named: one that never ends is refused.
// A named pipe is waited for until the user has enough.
func (a *app) readFile(path string) ([]byte, error) {
	return unlessInterrupted(a, func() ([]byte, error) { return read(path) })
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, plain(err)
	}
	data, err := io.ReadAll(io.LimitReader(f, longest+1))
	if err == nil && len(data) > longest {
		err = fmt.Errorf("longer than %d bytes", longest)
	}
	if err = errors.Join(plain(err), f.Close()); err != nil {
		clear(data)
		return nil, err
	}
	return data, nil
}
