package records

import (
	"context"
	"errors"

	"hsmemu/applet/cvc"
	"hsmemu/emulator/portal"
)

// Appoint says who certifies a device that is made elsewhere, and under which name,
// for a serial number of 11 characters; empty is a random one that was never given. The
// licence and the name are gone then, whether the device is made or not. Errors: a
// *portal.Refusal of an issuer that is not ready, portal.ErrNameGiven, and those of
// Write.
func (s *Store) Appoint(ctx context.Context, serial string) (issuer cvc.Issuer, name cvc.Name, err error) {
	err = s.Write(ctx, func(tx *Tx) error {
		err := tx.Books("", func(b *portal.Books) (err error) {
			issuer, name, err = b.Appoint(s.Rand(), serial)
			return err
		})
		if err != nil {
			return err
		}
		if _, err := tx.Exec("INSERT INTO names VALUES (?)", string(name)); err != nil {
			return err
		}
		return tx.Audit(Event{Action: "certify new card", Object: name.Holder(), Detail: "by " + issuer.Certificate.CHR.Holder()})
	})
	return issuer, name, err
}

// Certify is Appoint by the records in a folder, which nobody has open: who certifies the
// device, and its serial number. Errors: fs.ErrNotExist where no records were begun, those
// of Open and of Appoint.
func Certify(ctx context.Context, folder string, o Options, serial string) (issuer cvc.Issuer, given string, err error) {
	o.Existing = true
	s, err := Open(folder, o)
	if err != nil {
		return issuer, "", err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	issuer, name, err := s.Appoint(ctx, serial)
	return issuer, name.Holder(), err
}
