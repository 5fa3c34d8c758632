package main

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hsmemu/applet/apdu"
	"hsmemu/applet/pkcs15"
	"hsmemu/keystore"
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
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.file = args[0]
			if err := o.check(); err != nil {
				return usageError{err}
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
	m, err := readMaterial(o.file, func() ([]byte, error) {
		return a.secret("password of "+o.file, o.password, "HSMEMU_PASSWORD")
	})
	if err != nil {
		return err
	}
	s, err := a.session(ctx, o.card)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.leave(ctx)) }()
	total, kcv, err := s.keyDomain(ctx, byte(o.domain))
	if err != nil {
		return err
	}
	in := &importing{session: s, material: m}
	if in.id, err = s.freeReference(ctx, byte(o.id)); err != nil {
		return err
	}
	in.label = o.labelOf(m)
	shares, passwords, err := a.readShares(o)
	if err != nil {
		return err
	}
	defer wipe(passwords)
	pin, err := a.secret("user PIN of card "+o.card, o.pin, "HSMEMU_PIN")
	if err != nil {
		return err
	}
	defer clear(pin)

	domain, err := a.combine(ctx, o, shares, passwords)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(a.out, "key check value: %X\n", domain.KCV()); err != nil {
		return err
	}
	if domain.KCV() != kcv {
		return o.foreign(domain, total, kcv)
	}
	if in.blob, err = domain.Wrap(a.outside.Rand, m.key); err != nil {
		return fmt.Errorf("wrap the key: %w", err)
	}
	if err := s.login(ctx, pin); err != nil {
		return err
	}
	if err := in.write(ctx); err != nil {
		return errors.Join(err, in.undo(context.WithoutCancel(ctx)))
	}
	return in.report(a)
}

// foreign says that the shares are not those of the card's key domain.
func (o importOrder) foreign(domain keystore.Domain, total int, kcv [8]byte) error {
	err := fmt.Errorf("key domain %d of card %q has key check value %X, these shares have %X", o.domain, o.card, kcv, domain.KCV())
	if total != len(o.shares) {
		return hinted{err, fmt.Sprintf("it was made of %d shares, not %d", total, len(o.shares))}
	}
	return err
}

// labelOf is what the key will be called.
func (o importOrder) labelOf(m material) string {
	switch {
	case o.label != "":
		return o.label
	case m.own != nil && m.own.name != "":
		return m.own.name
	}
	base := filepath.Base(o.file)
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// keyDomain asks for a key domain that is ready to take keys in.
func (s *session) keyDomain(ctx context.Context, slot byte) (total int, kcv [8]byte, err error) {
	r, err := s.ask(ctx, apdu.Command{CLA: 0x80, INS: 0x52, P2: slot, Ne: 256})
	name := fmt.Sprintf("key domain %d of card %q", slot, s.card)
	switch {
	case r.SW == apdu.InstructionNotSupported:
		err = hinted{fmt.Errorf("card %q has no DKEK: it was initialised without", s.card), "sc-hsm-tool --initialize --dkek-shares N, which erases it"}
	case r.SW == apdu.IncorrectP1P2:
		err = fmt.Errorf("card %q has no key domain %d", s.card, slot)
	case r.SW == apdu.ReferenceNotFound:
		err = fmt.Errorf("%s is empty", name)
	case err != nil:
		err = fmt.Errorf("status of %s: %w", name, err)
	case len(r.Data) < 10:
		err = fmt.Errorf("status of %s: answer of %d bytes", name, len(r.Data))
	case len(r.Data) > 10:
		err = fmt.Errorf("%s is an XKEK domain: it has no shares", name)
	case r.Data[1] > 0:
		err = hinted{fmt.Errorf("%s is not complete: %d of %d shares are missing", name, r.Data[1], r.Data[0]), "sc-hsm-tool --import-dkek-share FILE"}
	default:
		return int(r.Data[0]), [8]byte(r.Data[2:]), nil
	}
	return 0, kcv, err
}

// The files that belong to key reference kk and to CA certificate nn
// (spec 02 §1).
const (
	fileKey            = 0xCC00
	fileKeyDescription = 0xC400
	fileCertificate    = 0xCE00
	fileCA             = 0xCA00
	fileCADescription  = 0xC800
)

// objects lists the files and keys of the card.
func (s *session) objects(ctx context.Context) (map[uint16]bool, error) {
	r, err := s.ask(ctx, apdu.Command{CLA: 0x80, INS: 0x58, Ne: 65536, Extended: true})
	if err != nil {
		return nil, fmt.Errorf("list the objects of card %q: %w", s.card, err)
	}
	found := map[uint16]bool{}
	for d := r.Data; len(d) >= 2; d = d[2:] {
		found[uint16(d[0])<<8|uint16(d[1])] = true
	}
	return found, nil
}

// freeReference is the wanted key reference if nothing is there, or the first
// free one if none is wanted.
func (s *session) freeReference(ctx context.Context, wanted byte) (byte, error) {
	found, err := s.objects(ctx)
	if err != nil {
		return 0, err
	}
	taken := func(id byte) bool {
		return found[fileKey|uint16(id)] || found[fileKeyDescription|uint16(id)] || found[fileCertificate|uint16(id)]
	}
	if wanted != 0 {
		if taken(wanted) {
			return 0, fmt.Errorf("key reference %d of card %q is taken", wanted, s.card)
		}
		return wanted, nil
	}
	for id := 1; id <= 0xFF; id++ {
		if !taken(byte(id)) {
			return byte(id), nil
		}
	}
	return 0, fmt.Errorf("card %q has no free key reference", s.card)
}

// importing is a key on its way into a card.
type importing struct {
	*session
	material material
	id       byte
	label    string
	blob     []byte

	made    []uint16 // what may be there now and was not before, in this order
	issuers []certificate
	known   int // issuers whose certificates were there already
}

// write unwraps the key and writes what belongs to it.
func (in *importing) write(ctx context.Context) error {
	r, err := in.ask(ctx, apdu.Command{CLA: 0x80, INS: 0x74, P1: in.id, P2: byte(keystore.Unwrap), Data: in.blob, Extended: true})
	switch {
	case r.SW == apdu.FunctionNotSupported:
		return fmt.Errorf("card %q cannot hold the key %s: its firmware does not have that size", in.card, in.material.key)
	case r.SW == apdu.AlreadyExists:
		return fmt.Errorf("key reference %d of card %q is taken", in.id, in.card)
	case err != nil:
		return fmt.Errorf("unwrap the key on card %q: %w", in.card, err)
	}
	in.made = append(in.made, fileKey|uint16(in.id))
	if err := in.store(ctx, fileKeyDescription|uint16(in.id), in.description().Bytes()); err != nil {
		return err
	}
	if in.material.own == nil {
		return nil
	}
	if err := in.store(ctx, fileCertificate|uint16(in.id), in.material.own.raw); err != nil {
		return err
	}
	return in.writeChain(ctx)
}

// description is that of the key; it gives the size of an EC key in whole
// bytes, as the Smart Card Shell does.
func (in *importing) description() pkcs15.Key {
	d := pkcs15.Key{Kind: pkcs15.RSA, Label: in.label, ID: []byte{in.id}, Usage: pkcs15.UsageRSA, Bits: in.material.key.Bits()}
	if c := in.material.key.Curve(); c != nil {
		d.Kind, d.Usage, d.Bits = pkcs15.EC, pkcs15.UsageEC, 8*c.FieldLen()
	}
	return d
}

// writeChain writes the certificates of the issuers that the card does not
// have yet.
func (in *importing) writeChain(ctx context.Context) error {
	found, err := in.objects(ctx)
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for id := range found {
		if id&0xFF00 == fileCA {
			content, err := in.file(ctx, id)
			if err != nil {
				return err
			}
			have[string(content)] = true
		}
	}
	n := uint16(0)
	for _, c := range in.material.chain {
		if have[string(c.raw)] {
			in.known++
			continue
		}
		for found[fileCA|n] || found[fileCADescription|n] {
			if n++; n > 0xFF {
				return fmt.Errorf("card %q has no room for a further CA certificate", in.card)
			}
		}
		id := sha1.Sum(c.subject)
		d := pkcs15.Certificate{Label: c.name, ID: id[:], File: fileCA | n}
		if err := in.store(ctx, fileCA|n, c.raw); err != nil {
			return err
		}
		if err := in.store(ctx, fileCADescription|n, d.Bytes()); err != nil {
			return err
		}
		found[fileCA|n], have[string(c.raw)] = true, true
		in.issuers = append(in.issuers, c)
	}
	return nil
}

// store writes a new file.
func (in *importing) store(ctx context.Context, id uint16, content []byte) error {
	in.made = append(in.made, id)
	return in.update(ctx, id, content)
}

// undo takes back what was written before something failed.
func (in *importing) undo(ctx context.Context) error {
	for _, id := range slices.Backward(in.made) {
		remove := apdu.Command{INS: 0xE4, P1: 0x02, Data: []byte{byte(id >> 8), byte(id)}}
		if _, err := in.ask(ctx, remove, apdu.NotFound); err != nil {
			return fmt.Errorf("remove EF %04X of card %q again: %w", id, in.card, err)
		}
	}
	return nil
}

func (in *importing) report(a *app) error {
	_, err := fmt.Fprintf(a.out, "key %d: %s, %q\n", in.id, in.material.key, in.label)
	if in.material.own != nil && err == nil {
		_, err = fmt.Fprintf(a.out, "certificate: %q\n", in.material.own.name)
	}
	for _, c := range in.issuers {
		if err == nil {
			_, err = fmt.Fprintf(a.out, "CA certificate: %q\n", c.name)
		}
	}
	if in.known > 0 && err == nil {
		_, err = fmt.Fprintf(a.out, "CA certificates that were there already: %d\n", in.known)
	}
	return err
}
