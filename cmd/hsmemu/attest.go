package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unicode"

	"github.com/spf13/cobra"

	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/applet/tlv"
)

// Tags at the top of what attest reads.
const (
	tagCertificate tlv.Tag = 0x7F21
	tagRequest     tlv.Tag = 0x67
	tagKeyFile     tlv.Tag = 0x30
)

func newAttestCommand(a *app) *cobra.Command {
	var card, root string
	var key int
	cmd := &cobra.Command{
		Use:   "attest FILE... | --card NAME --key REF",
		Short: "verify a device certificate chain and the attestation of a key",
		Long: "Verifies the certificates of a device (the content of EF 2F02, device certificate first) and the\n" +
			"request that it gave for a key (the content of EF CExx), and says whose root they end in.\n" +
			"Files may be binary or hexadecimal; several are read one after the other. A file that\n" +
			"`sc-hsm-tool --export-for-pub-key-auth` wrote holds all of it.\n" +
			"The vendor's public roots and the emulator's own are known; --root adds others.\n" +
			"A chain that ends in the emulator's root proves nothing: its private key is public.",
		RunE: func(_ *cobra.Command, args []string) error {
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
			case len(args) > 0 && card != "":
				return usageError{errors.New("name files or a card, not both")}
			case card != "":
				chain, request, err = a.evidenceOf(card, key)
			case len(args) > 0:
				chain, request, err = readEvidence(args)
			default:
				return usageError{errors.New("a file or --card is needed")}
			}
			if err != nil {
				return err
			}
			return a.attest(chain, request, roots)
		},
	}
	cmd.Flags().StringVar(&card, "card", "", "take the certificates from this card")
	cmd.Flags().IntVar(&key, "key", 0, "key reference on the card, 1 to 255; without it the chain alone is verified")
	cmd.Flags().StringVar(&root, "root", "", "trust the root certificates in this `FILE`, too")
	return cmd
}

// attest verifies and prints. The first line says what is proven.
func (a *app) attest(chain, request []byte, roots cvc.Roots) error {
	if request == nil {
		c, err := cvc.ParseChain(chain)
		if err != nil {
			return fmt.Errorf("read the certificates: %w", err)
		}
		v, err := c.Verify(roots)
		if err != nil {
			return fmt.Errorf("verify the chain: %w", err)
		}
		fmt.Fprintf(a.out, "device %s is certified under %s\n%s\n", v.Device.CHR.Holder(), v.Root.CHR, v)
		a.remark(v)
		return nil
	}
	att, err := cvc.Attest(request, chain, roots)
	if err != nil {
		return fmt.Errorf("verify the attestation: %w", err)
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
	if key < 0 || key > 0xFF {
		return nil, nil, usageError{fmt.Errorf("key reference %d: 1 to 255", key)}
	}
	device, _ := d.Applet.File(pkcs15.FileDevice)
	if key == 0 {
		return device.Data, nil, nil
	}
	attested, _ := d.Applet.File(pkcs15.File(pkcs15.PrefixCertificate, byte(key)))
	if n, _, err := tlv.Next(attested.Data); err != nil || n.Tag != tagRequest {
		return nil, nil, hinted{
			fmt.Errorf("attest key %d: card %q holds no request for it", key, name),
			"the request is in EF CExx from generation until a certificate replaces it",
		}
	}
	return device.Data, attested.Data, nil
}

// readEvidence sorts what is in the files: certificates make the chain, a
// request is the attestation.
func readEvidence(paths []string) (chain, request []byte, err error) {
	for _, path := range paths {
		data, err := readBytes(path)
		if err != nil {
			return nil, nil, err
		}
		for len(data) > 0 {
			n, rest, err := tlv.Next(data)
			if err != nil {
				return nil, nil, fmt.Errorf("read %s: %w", path, err)
			}
			switch n.Tag {
			case tagCertificate:
				chain = append(chain, n.Raw...)
			case tagRequest:
				request = n.Raw
			case tagKeyFile:
				f, err := cvc.ParsePKAFile(n.Raw)
				if err != nil {
					return nil, nil, fmt.Errorf("read %s: %w", path, err)
				}
				chain, request = f.Chain.Bytes(), f.Request.Raw
			default:
				return nil, nil, fmt.Errorf("read %s: object %s is neither a certificate nor a request", path, n.Tag)
			}
			data = rest
		}
	}
	return chain, request, nil
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
