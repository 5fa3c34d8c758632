package records

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"hsmemu/applet/cvc"
	"hsmemu/emulator/portal"
)

// ledger is the part of the records that an update changes.
type ledger struct{ store *Store }

// Ledger is what portal.Update writes into. Its callers may be several.
func (s *Store) Ledger() portal.Ledger { return ledger{s} }

// Load implements [portal.Ledger].
func (l ledger) Load(chip portal.ChipID) (b portal.Books, err error) {
	err = l.store.Read(context.Background(), func(tx *Tx) error {
		b, err = tx.books(chip)
		return err
	})
	b.Given = nil // the transaction that could answer is over
	return b, err
}

// Change implements [portal.Ledger].
func (l ledger) Change(chip portal.ChipID, f func(*portal.Books) error) error {
	return l.store.Write(context.Background(), func(tx *Tx) error { return tx.Books(chip, f) })
}

// Books has f change the books of a chip, or those of no chip, within a transaction
// that changes more.
func (t *Tx) Books(chip portal.ChipID, f func(*portal.Books) error) error {
	b, err := t.books(chip)
	if err != nil {
		return err
	}
	if err := f(&b); err != nil {
		return err
	}
	if err := t.saveIssuers(b.Authority.Issuers); err != nil || chip == "" {
		return err
	}
	return t.saveChip(chip, b.Chip)
}

// books loads the books of a chip.
func (t *Tx) books(chip portal.ChipID) (portal.Books, error) {
	b := portal.Books{Given: func(name cvc.Name) (bool, error) {
		var n int
		err := t.QueryRow("SELECT COUNT(*) FROM names WHERE name = ?", string(name)).Scan(&n)
		return n > 0, err
	}}
	err := t.Each(func(scan func(...any) error) error {
		var i portal.Issuer
		var position int
		var sealed []byte
		if err := scan(&position, &i.Certificate, &sealed, &i.Ready, &i.Licences); err != nil {
			return err
		}
		key, err := t.Open(issuerPlace(position), sealed)
		i.Key = key
		b.Authority.Issuers = append(b.Authority.Issuers, i)
		return err
	}, "SELECT position, certificate, key_sealed, ready, licences FROM issuers ORDER BY position")
	if err != nil {
		return b, err
	}
	if err := t.QueryRow("SELECT EXISTS (SELECT 1 FROM updates)").Scan(&b.Waiting); err != nil || chip == "" {
		return b, err
	}
	b.Chip, err = t.chip(chip)
	return b, err
}

// issuerPlace is where the key of an issuer is sealed for.
func issuerPlace(position int) string { return fmt.Sprintf("issuers.key %d", position) }

// version scans a column with the version of a firmware.
type version struct{ *portal.Version }

// Scan implements [sql.Scanner].
func (v version) Scan(value any) error {
	text, _ := value.(string)
	return v.UnmarshalText([]byte(text))
}

// chip loads the record of a chip.
func (t *Tx) chip(chip portal.ChipID) (r portal.Record, err error) {
	err = t.QueryRow("SELECT blocked_updates FROM chips WHERE id = ?", string(chip)).Scan(&r.Blocked)
	if errors.Is(err, sql.ErrNoRows) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	err = t.Each(func(scan func(...any) error) error {
		var d portal.Device
		err := scan(&d.Name, &d.Path, &d.Key, version{&d.Firmware}, &d.Superseded)
		r.Devices = append(r.Devices, d)
		return err
	}, "SELECT name, path, public_key, firmware, superseded FROM devices WHERE chip = ? ORDER BY position", string(chip))
	if err != nil {
		return r, err
	}
	var u portal.Running
	err = t.QueryRow("SELECT old_name, old_path, old_firmware, old_key, firmware, blocked, issuer, name, certificate FROM updates WHERE chip = ?", string(chip)).
		Scan(&u.Old.Name, &u.Old.Path, version{&u.Old.Firmware}, &u.Old.Key, version{&u.To}, &u.Blocked, &u.Issuer, &u.Name, &u.Certificate)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return r, nil
	case err != nil:
		return r, err
	}
	r.Running = &u
	return r, nil
}

// saveIssuers writes the issuers, of whom none ever goes away.
func (t *Tx) saveIssuers(list []portal.Issuer) error {
	for n, i := range list {
		r, err := t.Exec("UPDATE issuers SET ready = ?, licences = ? WHERE position = ?", i.Ready, i.Licences, n+1)
		if err != nil {
			return err
		}
		if changed, err := r.RowsAffected(); err != nil || changed > 0 {
			if err != nil {
				return err
			}
			continue
		}
		sealed, err := t.Seal(issuerPlace(n+1), i.Key)
		if err != nil {
			return err
		}
		if _, err := t.Exec("INSERT INTO issuers VALUES (?, ?, ?, ?, ?)", n+1, i.Certificate, sealed, i.Ready, i.Licences); err != nil {
			return err
		}
	}
	return nil
}

// saveChip writes the record of a chip.
func (t *Tx) saveChip(chip portal.ChipID, r portal.Record) error {
	id := string(chip)
	_, err := t.Exec("INSERT INTO chips VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET blocked_updates = excluded.blocked_updates", id, r.Blocked)
	if err != nil {
		return err
	}
	for n, d := range r.Devices {
		_, err := t.Exec(`INSERT INTO devices (chip, position, name, path, public_key, firmware, superseded) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (chip, position) DO UPDATE SET superseded = excluded.superseded`,
			id, n+1, string(d.Name), d.Path, d.Key, d.Firmware.String(), d.Superseded)
		if err != nil {
			return err
		}
	}
	// Not REPLACE, which would drop another chip's update that has the same name.
	if _, err := t.Exec("DELETE FROM updates WHERE chip = ?", id); err != nil || r.Running == nil {
		return err
	}
	u := r.Running
	if _, err := t.Exec("INSERT OR IGNORE INTO names VALUES (?)", string(u.Name)); err != nil {
		return err
	}
	_, err = t.Exec(`INSERT INTO updates (chip, old_name, old_path, old_firmware, old_key, firmware, blocked, issuer, name, certificate)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, id,
		string(u.Old.Name), u.Old.Path, u.Old.Firmware.String(), u.Old.Key, u.To.String(), u.Blocked, string(u.Issuer), string(u.Name), u.Certificate)
	return err
}
