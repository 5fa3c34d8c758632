package account

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"hsmemu/applet/client"
	"hsmemu/emulator/portal"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/ram"
)

// What the person at the card is told.
const (
	textChecking = "Checking the device and its user"
	textLoggedIn = "Logged in as %s"
	textUnknown  = "This token is not registered. Enter your e-mail address on the page that you began with."
	textFailed   = "Log-in failed: "
	// textNotRecorded keeps what fails inside the portal from the person at the card.
	textNotRecorded = "the portal could not record it"
)

// Login is a [ram.Service]: it logs the web session that a card has connected in
// into the account of that card, or, if no account has registered the card, makes
// the session wait for its registration. The card is not changed, and a login that
// was made at it survives. What goes wrong is told at the card by a notice of −1, the
// last one, and returned: *PINError, portal.ErrNotTrusted, ErrNoSession, ErrOccupied,
// ErrOtherKey, ErrSuperseded, *RateError, and status words and transport errors of
// the card.
func (a *Accounts) Login(ctx context.Context, card *ram.Session) error {
	s, err := a.login(ctx, card)
	if err != nil {
		for _, refused := range []error{portal.ErrNotTrusted, ErrOccupied, ErrOtherKey, ErrSuperseded} {
			if errors.Is(err, refused) {
				err = errors.Join(err, a.store.Write(ctx, func(tx *records.Tx) error {
					return tx.Audit(records.Event{Action: "log-in refused", Detail: refused.Error()})
				}))
			}
		}
		// A notice that does not arrive cannot be told of either.
		_ = card.Notify(ctx, ram.Notice{Number: -1, Text: textFailed + plain(err)})
		return fmt.Errorf("log in: %w", err)
	}
	text := textUnknown
	if s.State == LoggedIn {
		text = fmt.Sprintf(textLoggedIn, s.Account.Email)
	}
	_ = card.Notify(ctx, ram.Notice{Text: text})
	return nil
}

// plain is what the person at the card may know of an error.
func plain(err error) string {
	var pin *PINError
	var rate *RateError
	for _, known := range []error{portal.ErrNotTrusted, ErrNoSession, ErrOccupied, ErrOtherKey, ErrSuperseded} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	switch {
	case errors.As(err, &pin):
		return pin.Error()
	case errors.As(err, &rate):
		return rate.Error()
	}
	var failed *cardError
	if errors.As(err, &failed) {
		return failed.Error()
	}
	return textNotRecorded
}

// cardError is a failure of the card.
type cardError struct{ error }

func (e *cardError) Unwrap() error { return e.error }

func (a *Accounts) login(ctx context.Context, card *ram.Session) (Session, error) {
	ramHash := hashed(card.ID())
	err := a.store.Write(ctx, func(tx *records.Tx) error {
		s, err := session(tx, byRAM, ramHash)
		if err == nil && s.State != Anonymous {
			err = ErrOccupied
		}
		if err != nil {
			return err
		}
		return attempt(tx, "log-ins", hex.EncodeToString(ramHash), a.o.Limits.Logins)
	})
	if err != nil {
		return Session{}, err
	}
	if err := card.Notify(ctx, ram.Notice{Text: textChecking}); err != nil {
		return Session{}, &cardError{err}
	}
	proof, err := a.Prove(ctx, card)
	if err != nil {
		return Session{}, err
	}
	var s Session
	err = a.store.Write(ctx, func(tx *records.Tx) error {
		if s, err = session(tx, byRAM, ramHash); err == nil && s.State != Anonymous {
			err = ErrOccupied
		}
		if err != nil {
			return err
		}
		if proof.UserPIN.State != client.Verified {
			// Kept, although nobody is logged in.
			return tx.Audit(records.Event{Token: proof.Path(), Action: "log-in refused", Detail: (&PINError{proof.UserPIN}).Error()})
		}
		return a.enter(tx, &s, proof)
	})
	if err == nil && proof.UserPIN.State != client.Verified {
		err = &PINError{proof.UserPIN}
	}
	return s, err
}

// Prove has a card prove what it is, and asks whether its user is authenticated,
// which is not a condition: Proof.UserPIN tells. Errors: portal.ErrNotTrusted, and
// status words and transport errors of the card.
func (a *Accounts) Prove(ctx context.Context, card client.Card) (Proof, error) {
	p, err := prove(ctx, card, a.o.Roots, a.store.Rand())
	if err != nil && !errors.Is(err, portal.ErrNotTrusted) {
		err = &cardError{err}
	}
	return p, err
}

// enter has a device with an authenticated user enter a session.
func (a *Accounts) enter(tx *records.Tx, s *Session, p Proof) (err error) {
	s.Token, err = a.recognise(tx, p)
	if err != nil {
		return err
	}
	s.State, s.Expires = DeviceAuthenticated, a.until(*s)
	event := records.Event{Token: p.Path(), Action: "device authenticated"}
	if s.Token.Status == Active {
		if s.Account, err = accountBy(tx, "id", s.Token.Account); err != nil {
			return err
		}
		s.State, event.Action, event.Account, event.Object = LoggedIn, "log in", s.Account.ID, s.Account.Email
	}
	_, err = tx.Exec("UPDATE sessions SET state = ?, token = ?, account = NULLIF(?, 0), expires = ? WHERE id_hash = ?",
		string(s.State), s.Token.ID, s.Account.ID, s.Expires.Unix(), s.hash)
	if err != nil {
		return err
	}
	return tx.Audit(event)
}

// recognise finds the token that a device is, or notes it down. Errors: ErrOtherKey,
// ErrSuperseded.
func (a *Accounts) recognise(tx *records.Tx, p Proof) (Token, error) {
	t, err := tokenBy(tx, "path = ? AND status = 'active'", p.Path())
	switch {
	case err == nil && !bytes.Equal(t.Key, p.Key()):
		return Token{}, ErrOtherKey
	case err == nil:
		if t.Firmware == p.Firmware || p.Firmware == "" {
			return t, nil
		}
		t.Firmware = p.Firmware
		_, err = tx.Exec("UPDATE tokens SET firmware = ? WHERE id = ?", t.Firmware, t.ID)
		return t, err
	case !errors.Is(err, ErrNoToken):
		return Token{}, err
	}
	var superseded int
	err = tx.QueryRow(`SELECT (SELECT COUNT(*) FROM tokens WHERE path = ? AND public_key = ? AND status = 'superseded')
		+ (SELECT COUNT(*) FROM devices WHERE path = ? AND (public_key = ? OR public_key IS NULL) AND superseded = 1)`, p.Path(), p.Key(), p.Path(), p.Key()).Scan(&superseded)
	if err != nil {
		return Token{}, err
	}
	if superseded > 0 {
		return Token{}, ErrSuperseded
	}
	t, err = tokenBy(tx, "path = ? AND public_key = ? AND account IS NULL", p.Path(), p.Key())
	if !errors.Is(err, ErrNoToken) {
		return t, err
	}
	t = Token{Path: p.Path(), Name: p.Device.Device.CHR, Key: p.Key(), Firmware: p.Firmware, Status: Removed}
	t.ID, err = tx.Insert("INSERT INTO tokens (path, name, public_key, firmware, status, registered) VALUES (?, ?, ?, ?, 'removed', 0)",
		t.Path, string(t.Name), t.Key, t.Firmware)
	return t, err
}
