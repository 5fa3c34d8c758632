package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unicode"

	"github.com/spf13/cobra"

	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/emulator/view"
	"hsmemu/keystore"
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
				added, err := readRoots(root)
				if err != nil {
					return err
				}
				roots = append(roots, added...)
			}
			var chain, request []byte
			var err error
			switch {
			case len(args) > 0 && card+reader != "" || card != "" && reader != "":
				return usageError{errors.New("name files, a card, or a reader: one of them")}
			case root != "" && card != "":
				return usageError{errors.New("--root is for files and readers: an emulated card has the emulator's root")}
			case key < 0 || key > 0xFF:
				return usageError{fmt.Errorf("key reference %d: 1 to 255", key)}
			case card != "":
				roots = cvc.Roots{cvc.EmulatorRoot().Certificate} // we have its device key: it is nobody's hardware
				chain, request, err = a.evidenceOf(card, key)
			case reader != "":
				chain, request, err = a.evidenceIn(cmd.Context(), reader, byte(key))
			case len(args) > 0:
				var e cvc.Evidence
				e, err = readEvidence(args)
				chain, request = e.Chain, e.Request
			default:
				return usageError{errors.New("a file, --card or --reader is needed")}
			}
			if err != nil {
				return err
			}
			return a.attest(chain, request, roots, asJSON)
		},
	}
	cmd.Flags().StringVar(&card, "card", "", "take the certificates from this card")
	cmd.Flags().StringVar(&reader, "reader", "", "take the certificates from the SmartCard-HSM in the PC/SC reader whose `NAME` contains this")
	cmd.Flags().IntVar(&key, "key", 0, "key reference on the card, 1 to 255; without it the chain alone is verified")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&root, "root", "", "trust the root certificates in this `FILE`, too")
	return cmd
}

// attest verifies and prints. The first line says what is proven.
func (a *app) attest(chain, request []byte, roots cvc.Roots, asJSON bool) error {
	if request == nil {
		c, err := cvc.ParseChain(chain)
		if err != nil {
			return fmt.Errorf("read the certificates: %w", err)
		}
		v, err := c.Verify(roots)
		if err != nil {
			return fmt.Errorf("verify the chain: %w", err)
		}
		if asJSON {
			return a.printJSON(view.AttestationOf(v, nil, a.outside.Clock()))
		}
		fmt.Fprintf(a.out, "device %s is certified under %s\n%s\n", v.Device.CHR.Holder(), v.Root.CHR, v)
		a.remark(v)
		return nil
	}
	att, err := cvc.Attest(request, chain, roots)
	if err != nil {
		return fmt.Errorf("verify the attestation: %w", err)
	}
	if asJSON {
		return a.printJSON(view.AttestationOf(att.Verified, &att.Request, a.outside.Clock()))
	}
	fmt.Fprintf(a.out, "key %s was generated in device %s, certified under %s\n%s\n",
		att.Request.Request.CHR, att.Device.CHR.Holder(), att.Root.CHR, att)
	a.remark(att.Verified)
	return nil
}

// remark tells of certificates out of their dates, which no client of the
// device refuses.
func (a *app) remark(v cvc.Verified) {
	for _, c := range v.Outside(a.outside.Clock()) {
		fmt.Fprintf(a.out, "note: certificate %s is not valid today\n", c.CHR)
	}
}

// evidenceOf takes the certificates, and the request of a key, from a card.
func (a *app) evidenceOf(name string, key int) (chain, request []byte, err error) {
	cards, err := a.cards()
	if err != nil {
		return nil, nil, err
	}
	d, _, err := cards.Read(name)
	if err != nil {
		return nil, nil, err
	}
	device, _ := d.Applet.File(pkcs15.FileDevice)
	if key == 0 {
		return device.Data, nil, nil
	}
	k, exists := d.Applet.Keys[byte(key)]
	if !exists {
		return nil, nil, fmt.Errorf("attest key %d: card %q has no such key", key, name)
	}
	attested, _ := d.Applet.File(pkcs15.File(pkcs15.PrefixCertificate, byte(key)))
	if !cvc.HoldsRequest(attested.Data) {
		return nil, nil, noRequest(byte(key), fmt.Sprintf("card %q", name))
	}
	about, err := cvc.ParseAuthenticated(attested.Data)
	if err != nil {
		return nil, nil, fmt.Errorf("attest key %d: request: %w", key, err)
	}
	if !speaksOf(about.Request.Key, k) {
		return nil, nil, fmt.Errorf("attest key %d: the request on card %q is for another key than this one", key, name)
	}
	return device.Data, attested.Data, nil
}

// evidenceIn takes the certificates, and the request of a key, from the card in a
// reader, be it hardware or not.
func (a *app) evidenceIn(ctx context.Context, reader string, key byte) (chain, request []byte, err error) {
	s, err := a.inReader(ctx, reader)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, s.leave(ctx)) }()
	if err := s.Enter(ctx); err != nil {
		return nil, nil, s.about(err)
	}
	device, err := s.Device(ctx)
	if err != nil || key == 0 {
		return device.Bytes(), nil, s.about(err)
	}
	request, err = s.Attestation(ctx, key)
	if err == nil && request == nil {
		return nil, nil, noRequest(key, s.what)
	}
	return device.Bytes(), request, s.about(err)
}

// noRequest says that there is nothing to judge about a key.
func noRequest(key byte, what string) error {
	return hinted{
		fmt.Errorf("attest key %d: %s holds no request for it", key, what),
		"the request is in EF CExx from generation until a certificate replaces it",
	}
}

// speaksOf reports whether a certified public key is that of a key.
func speaksOf(public cvc.PublicKey, k keystore.Key) bool {
	switch k.Kind() {
	case keystore.EC:
		return public.Curve == k.Curve() && bytes.Equal(public.Point, k.ECPublic().Bytes())
	case keystore.RSA:
		n, e := k.RSAPublic()
		return bytes.Equal(public.Modulus, n) && bytes.Equal(public.Exponent, e)
	}
	return false
}

// readEvidence takes the certificates and the request from files.
func readEvidence(paths []string) (e cvc.Evidence, err error) {
	for _, path := range paths {
		data, err := readBytes(path)
		if err != nil {
			return e, err
		}
		if err := e.Add(data); err != nil {
			return e, fmt.Errorf("read %s: %w", path, err)
		}
	}
	return e, nil
}

func readRoots(path string) (cvc.Roots, error) {
	data, err := readBytes(path)
	if err != nil {
		return nil, err
	}
	roots, err := cvc.ParseRoots(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return roots, nil
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

// readBytes reads a file that holds bytes, or hexadecimal digits with white
// space between them.
func readBytes(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, plain(err))
	}
	digits := bytes.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, data)
	if decoded, err := hex.DecodeString(string(digits)); err == nil && len(decoded) > 0 {
		return decoded, nil
	}
	return data, nil
}
