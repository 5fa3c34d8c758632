package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"hsmemu/applet/client"
	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/keystore"
	"hsmemu/keystore/keyfile"
)

// importOrder is what `card import-key` is told.
type importOrder struct {
	card           string
	domain, id     int
	shares         []string
	sharePasswords []string
	password, pin  string // files
	label          string
	file           string

	// open decrypts a share file; keystore.OpenShare, which takes its time.
	open func(file, password []byte) ([]byte, error)
}

func newCardImportKeyCommand(a *app) *cobra.Command {
	o := importOrder{open: keystore.OpenShare}
	cmd := &cobra.Command{
		Use:   "import-key --card NAME --key-domain N --share FILE... FILE",
		Short: "bring a PKCS #12 or PEM key into a card whose DKEK shares you hold",
		Long: "Encrypts a private key under the key encryption key of a card's key domain and has the card take it in.\n" +
			"That key is the combination of all DKEK shares: name each share's file, as `sc-hsm-tool --create-dkek-share`\n" +
			"wrote it, with --share. The description, the certificate and those of its issuers are written as the\n" +
			"Smart Card Shell writes them, so that PKCS #11 programs find the key.\n\n" +
			"Opening a share takes some ten seconds of computing, by design. The key check value of the shares is\n" +
			"printed first; nothing is changed on the card unless it is that of the key domain.\n\n" +
			"Passwords and the user PIN are asked for, or taken from files (the first line) or the environment:\n" +
			"--share-password-file or $HSMEMU_SHARE_PASSWORD, --password-file or $HSMEMU_PASSWORD for PKCS #12,\n" +
			"--pin-file or $HSMEMU_PIN. A share whose password was split (--pwd-shares-total) needs a file with what\n" +
			"sc-hsm-tool showed to enough of its keepers: the lines Prime, Share ID and Share value of each of them.",
		Args: commandline.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.file = args[0]
			if err := o.check(); err != nil {
				return commandline.Usage(err)
			}
			return a.importKey(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.card, "card", defaultCard, "name of the card")
	f.IntVar(&o.domain, "key-domain", 0, "key domain of the card")
	f.StringArrayVar(&o.shares, "share", nil, "file of a DKEK share; may be repeated")
	f.StringArrayVar(&o.sharePasswords, "share-password-file", nil, "file with the password of the shares; repeated: of each share in turn")
	f.StringVar(&o.password, "password-file", "", "file with the password of a PKCS #12 file")
	f.StringVar(&o.pin, "pin-file", "", "file with the user PIN")
	f.StringVar(&o.label, "label", "", "label of the key (default: the name in its certificate, or the name of the file)")
	f.IntVar(&o.id, "id", 0, "key reference on the card, 1 to 255 (default: the first that is free)")
	return cmd
}

func (o importOrder) check() error {
	switch n := len(o.sharePasswords); {
	case len(o.shares) == 0:
		return errors.New("--share is needed")
	case n > 1 && n != len(o.shares):
		return fmt.Errorf("%d password files for %d shares: give one for all, or one for each", n, len(o.shares))
	case o.domain < 0 || o.domain > 0xFF:
		return fmt.Errorf("key domain %d: 0 to 255", o.domain)
	case o.id < 0 || o.id > 0xFF:
		return fmt.Errorf("key reference %d: 1 to 255", o.id)
	}
	return nil
}

// importKey does everything that can fail before the shares are opened, which
// takes long, and everything that can be refused before the card changes.
func (a *app) importKey(ctx context.Context, o importOrder) (err error) {
	m, err := a.readKey(o)
	if err != nil {
		return err
	}
	s, err := a.session(ctx, o.card)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.leave(ctx)) }()
	into, err := s.BeginImport(ctx, byte(o.domain), byte(o.id))
	if err != nil {
		return s.aboutDomain(err)
	}
	shares, passwords, err := a.readShares(o)
	if err != nil {
		return err
	}
	defer wipe(passwords)
	pin, err := a.pin("user PIN of card "+o.card, o.pin, "HSMEMU_PIN")
	if err != nil {
		return err
	}
	defer clear(pin)

	stop := a.progress("opening the shares")
	domain, err := keyfile.Combine(ctx, o.open, shares, passwords)
	stop()
	var its *keyfile.ShareError
	if errors.As(err, &its) {
		return fmt.Errorf("open share %s: %w", o.shares[its.Place], its.Err)
	}
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(a.out, "key check value: %X\n", domain.KCV()); err != nil {
		return err
	}
	blob, err := into.Wrap(a.outside.Rand, domain, len(shares), m.Key)
	if err != nil {
		return s.aboutDomain(err)
	}
	b := o.bundle(into.Ref, blob, m)
	added, err := into.Store(ctx, pin, b)
	if errors.Is(err, client.ErrSize) {
		return fmt.Errorf("%s cannot hold the key %s: %w", s.what, m.Key, client.ErrSize)
	}
	if err != nil {
		return s.about(err)
	}
	return a.reportImport(b, m, added)
}

// readKey reads the file with the key.
func (a *app) readKey(o importOrder) (keyfile.Material, error) {
	data, err := a.readFile(o.file)
	if err == nil {
		defer clear(data)
		var m keyfile.Material
		m, err = keyfile.Read(data, func() ([]byte, error) {
			return a.secret("password of "+o.file, o.password, "HSMEMU_PASSWORD")
		})
		if err == nil {
			return m, nil
		}
	}
	return keyfile.Material{}, &fileError{"read the key in", o.file, err}
}

// aboutDomain says which card an error is about, and which key domain of it.
func (s *session) aboutDomain(err error) error {
	var its *client.DomainError
	if !errors.As(err, &its) {
		return s.about(err)
	}
	colon := ":"
	if errors.As(err, new(*client.KCVError)) {
		colon = "" // it has the predicate
	}
	return fmt.Errorf("key domain %d of %s%s %w", its.Slot, s.what, colon, its.Err)
}

// bundle is the key with what belongs to it.
func (o importOrder) bundle(ref byte, blob []byte, m keyfile.Material) client.Bundle {
	b := client.NewBundle(ref, cmp.Or(o.label, m.Label(o.file)), m.Key, blob)
	if m.Own != nil {
		b.Certificate = m.Own.DER
	}
	for _, c := range m.Issuers {
		b.Issuers = append(b.Issuers, client.Issuer{Label: c.Name, DER: c.DER, PublicKey: c.PublicKeyInfo})
	}
	return b
}

func (a *app) reportImport(b client.Bundle, m keyfile.Material, added []client.Issuer) error {
	_, err := fmt.Fprintf(a.out, "key %d: %s, %q\n", b.Ref, m.Key, b.Description.Label)
	if m.Own != nil && err == nil {
		_, err = fmt.Fprintf(a.out, "certificate: %q\n", m.Own.Name)
	}
	for _, c := range added {
		if err == nil {
			_, err = fmt.Fprintf(a.out, "CA certificate: %q\n", c.Label)
		}
	}
	if known := len(b.Issuers) - len(added); known > 0 && err == nil {
		_, err = fmt.Fprintf(a.out, "CA certificates that were there already: %d\n", known)
	}
	return err
}
