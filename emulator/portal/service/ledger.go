package service

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"hsmemu/emulator/portal"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
)

// claim takes the chip for this connection. Error: ErrBusy.
func (w *work) claim(chip portal.ChipID) error {
	if w.chip == chip {
		return nil
	}
	for !w.s.take(chip, w.card) {
		if err := w.s.wait(chip); err != nil {
			return err
		}
	}
	w.chip, w.took = chip, append(w.took, chip)
	return nil
}

// Load implements [portal.Ledger]. When it is known which chip the card is, the work
// is for the request that was interrupted on it, if there is one.
func (w *work) Load(chip portal.ChipID) (portal.Books, error) {
	if chip != "" {
		if err := w.claim(chip); err != nil {
			return portal.Books{}, err
		}
		if err := w.s.Records.Write(context.Background(), func(tx *records.Tx) error { return w.adopt(tx, chip) }); err != nil {
			return portal.Books{}, recorded(err)
		}
	}
	b, err := w.s.Records.Ledger().Load(chip)
	return b, recorded(err)
}

// recordError is what fails inside the portal; whoever is at a card hears no more of it
// than that.
type recordError struct{ error }

func (e *recordError) Unwrap() error { return e.error }

// recorded marks an error of the records.
func recorded(err error) error {
	if err == nil || errors.Is(err, ErrOtherCard) || errors.Is(err, ErrBusy) || errors.Is(err, ErrNotAllowed) {
		return err
	}
	return &recordError{err}
}

// plain is what people are told of an error.
func plain(err error) string {
	if inside := new(recordError); errors.As(err, &inside) {
		return "The portal could not record it"
	}
	return err.Error()
}

// adopt finds the request that this chip's work is for. Error: ErrOtherCard.
func (w *work) adopt(tx *records.Tx, chip portal.ChipID) error {
	interrupted, err := scanRequest(tx.QueryRow("SELECT "+requestColumns+" FROM requests WHERE state = 'Running' AND chip = ?", string(chip)).Scan)
	switch {
	case err == nil:
		asked := w.own
		w.own = interrupted
		d := &deed{s: w.s, tx: tx, by: w.by, request: interrupted}
		if asked.ID != 0 && asked.ID != interrupted.ID && asked.Word == Submit {
			// It asks for the same card, and ends with it.
			_, err := tx.Exec("UPDATE requests SET chip = ? WHERE id = ?", string(chip), asked.ID)
			if err != nil {
				return err
			}
			d.detail = fmt.Sprintf("by request %d", asked.ID)
		}
		return d.note("The card is connected again")
	case !errors.Is(err, sql.ErrNoRows):
		return err
	case w.own.Word == Running:
		return ErrOtherCard
	case w.own.ID == 0:
		return nil
	}
	w.own.Chip = chip
	_, err = tx.Exec("UPDATE requests SET chip = ? WHERE id = ?", string(chip), w.own.ID)
	return err
}

// Change implements [portal.Ledger].
func (w *work) Change(chip portal.ChipID, f func(*portal.Books) error) error {
	var told []Progress
	var refused error
	err := w.s.Records.Write(context.Background(), func(tx *records.Tx) error {
		var before, after portal.Record
		err := tx.Books(chip, func(b *portal.Books) error {
			before = b.Chip
			refused = f(b)
			after = b.Chip
			return refused
		})
		switch {
		case err != nil:
			return err
		case after.Running != nil && w.own.ID != 0:
			told, err = w.begin(tx, *after.Running)
		case before.Running != nil && len(after.Devices) > len(before.Devices):
			told, err = w.complete(tx, chip, *before.Running, after.Devices[len(after.Devices)-1])
		}
		return err
	})
	if refused != nil {
		return refused
	}
	if err == nil {
		for _, p := range told {
			w.s.tell(p)
		}
	}
	return recorded(err)
}

// begin makes the request Running, in the transaction in which the update begins.
func (w *work) begin(tx *records.Tx, running portal.Running) ([]Progress, error) {
	d, err := w.deed(tx, w.own.ID)
	if err != nil || d.request.Word == Running {
		return nil, err
	}
	if err := d.mayStill(); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("Updating %s from firmware %s to %s", running.Old.Path, running.Old.Firmware, running.To)
	if running.Old.Name == "" {
		text = "Loading firmware " + running.To.String()
	}
	if d.detail = "chip " + string(w.chip); running.Blocked {
		d.detail += ", allowed by the blocked SO-PIN"
	}
	if err := d.step(begin, text); err != nil {
		return nil, err
	}
	w.own = d.request
	return []Progress{{Request: d.request.ID, Percent: 4, Word: Running, Text: said(text, Running)}}, nil
}

// mayStill returns nil if whoever submitted a request could do so now: roles may have
// been taken away since. Error: ErrNotAllowed.
func (d *deed) mayStill() error {
	for _, s := range find(d.request.Type, Edit, DoSubmit) {
		if holds, err := d.holds(s.Who); err != nil || holds {
			return err
		}
	}
	return fmt.Errorf("%w: the role for it is gone", ErrNotAllowed)
}

// complete ends all requests that were for the card, in the transaction in which its
// update ends, and the registration of the device that it was.
func (w *work) complete(tx *records.Tx, chip portal.ChipID, was portal.Running, now portal.Device) (told []Progress, err error) {
	text := portal.Done{Old: was.Old, New: now}.Text()
	var list []Request
	err = tx.Each(func(scan func(...any) error) error {
		r, err := scanRequest(scan)
		list = append(list, r)
		return err
	}, "SELECT "+requestColumns+" FROM requests WHERE chip = ? AND state IN ('Submit', 'Running')", string(chip))
	if err != nil {
		return nil, err
	}
	for _, r := range list {
		d := &deed{s: w.s, tx: tx, by: w.by, request: r, detail: "chip " + string(chip)}
		if err := d.step(complete, text); err != nil {
			return nil, err
		}
		told = append(told, Progress{Request: r.ID, Percent: 100, Word: Completed, Text: said(text, Completed)})
	}
	if len(list) == 0 { // of a portal that had no requests yet
		err = tx.Audit(records.Event{Account: w.by.Account, Token: w.by.Token, Action: "firmware update", Object: string(chip), Detail: text})
	}
	return told, errors.Join(err, w.supersede(tx, was))
}

// supersede ends the registration of a device that an update has replaced, tells its
// owner, and takes back what else was to be done with it: S22.
func (w *work) supersede(tx *records.Tx, was portal.Running) error {
	old := was.Old
	if old.Name == "" {
		return nil
	}
	if err := account.Emptied(tx, old.Path, old.Key); err != nil {
		return err
	}
	var id, owner int64
	// A token of the same path with another key is another device. Updates that began
	// before keys were kept have none.
	err := tx.QueryRow("SELECT id, COALESCE(account, 0) FROM tokens WHERE path = ?1 AND status = 'active' AND (public_key = ?2 OR length(?2) = 0)", old.Path, append([]byte{}, old.Key...)).
		Scan(&id, &owner)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := account.Supersede(tx, old.Path); err != nil {
		return err
	}
	err = mail(tx, owner, "Token superseded", "The firmware of "+old.Path+" was updated. It has a new identity, which has to be registered.\n")
	if err != nil {
		return err
	}
	var list []Request
	err = tx.Each(func(scan func(...any) error) error {
		r, err := scanRequest(scan)
		list = append(list, r)
		return err
	}, "SELECT "+requestColumns+" FROM requests WHERE token = ? AND state = 'Submit'", id)
	for _, r := range list {
		d := &deed{s: w.s, tx: tx, by: w.by, request: r}
		err = errors.Join(err, d.step(refuse, "The token was superseded"))
	}
	return err
}
