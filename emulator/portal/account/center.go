package account

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/ram"
)

// Purpose is what the next card that connects in a session is for, other than a
// log-in or a service request.
type Purpose string

// The purposes. A session that awaits no card has none.
const (
	// Identify finds out which card it is, so that it can be added to a trust center.
	Identify Purpose = "identify"
	// Authenticate has the card of a custodian answer for a key that is registered on
	// a token of a trust center.
	Authenticate Purpose = "authenticate"
)

// Awaited is what a session awaits a card for.
type Awaited struct {
	Purpose Purpose
	// Center is the trust center.
	Center int64
	// Token is the one that a custodian's card unlocks; zero for another purpose.
	Token Token
	// Identified is the card that was identified last for the trust center, as long as
	// it was not added; zero if there is none.
	Identified Token
}

// awaited loads what the session of a hash awaits.
func awaited(tx *records.Tx, hash []byte) (w Awaited, err error) {
	var unlocks, identified int64
	err = tx.QueryRow("SELECT awaits, COALESCE(center, 0), COALESCE(unlocks, 0), COALESCE(identified, 0) FROM sessions WHERE id_hash = ?", hash).
		Scan(&w.Purpose, &w.Center, &unlocks, &identified)
	for _, t := range []struct {
		id int64
		to *Token
	}{{unlocks, &w.Token}, {identified, &w.Identified}} {
		if err == nil && t.id != 0 {
			*t.to, err = tokenByID(tx, t.id)
		}
	}
	return w, err
}

// Awaited is what the session of a browser awaits a card for. Error: ErrNoSession.
func (a *Accounts) Awaited(ctx context.Context, cookie string) (w Awaited, err error) {
	err = a.store.Read(ctx, func(tx *records.Tx) error {
		s, err := session(tx, byCookie, hashed(cookie))
		if err == nil {
			w, err = awaited(tx, s.hash)
		}
		return err
	})
	return w, err
}

// AwaitedBy is what the session that a card has connected in awaits it for, and who is
// logged in there. Nobody awaits a card without a session.
func (a *Accounts) AwaitedBy(ctx context.Context, ramID string) (w Awaited, by Actor, err error) {
	err = a.store.Read(ctx, func(tx *records.Tx) error {
		s, err := session(tx, byRAM, hashed(ramID))
		if errors.Is(err, ErrNoSession) {
			return nil
		}
		if err == nil {
			by = s.Actor()
			w, err = awaited(tx, s.hash)
		}
		return err
	})
	return w, by, err
}

// AwaitToIdentify has the session of a browser await a card, to be identified for a
// trust center. Errors: ErrNoSession, ErrForbidden, ErrNoSubject.
func (a *Accounts) AwaitToIdentify(ctx context.Context, cookie string, center int64) error {
	return a.await(ctx, cookie, Identify, AssignToken, center, 0)
}

// AwaitToAuthenticate has the session of a browser await the card of a custodian, for a
// token of a trust center. Errors: as of AwaitToIdentify, and ErrNoToken.
func (a *Accounts) AwaitToAuthenticate(ctx context.Context, cookie string, center, token int64) error {
	return a.await(ctx, cookie, Authenticate, AuthenticateToken, center, token)
}

func (a *Accounts) await(ctx context.Context, cookie string, what Purpose, do Action, center, token int64) error {
	return a.store.Write(ctx, func(tx *records.Tx) error {
		s, err := session(tx, byCookie, hashed(cookie))
		if err == nil {
			err = inTrustCenter(tx, s.Actor(), do, center)
		}
		if err == nil && what == Authenticate {
			_, err = centerToken(tx, center, token)
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec("UPDATE sessions SET awaits = ?, center = ?, unlocks = NULLIF(?, 0), identified = NULL WHERE id_hash = ?", string(what), center, token, s.hash)
		return err
	})
}

// AwaitNothing has the session of a browser await no card any more, and forget which one
// was identified. Error: ErrNoSession.
func (a *Accounts) AwaitNothing(ctx context.Context, cookie string) error {
	return a.store.Write(ctx, func(tx *records.Tx) error {
		s, err := session(tx, byCookie, hashed(cookie))
		if err == nil {
			_, err = tx.Exec("UPDATE sessions SET awaits = '', center = NULL, unlocks = NULL, identified = NULL WHERE id_hash = ?", s.hash)
		}
		return err
	})
}

// TextIdentified is what the person at a card is told that was identified.
const TextIdentified = "Identified as %s"

// Identify is a [ram.Service] for a session that awaits a card to identify: it has the
// card prove its key, and keeps which one it is for [Accounts.AddToken]. Nobody is
// logged in, and neither a PIN nor public keys are asked for. What goes wrong is told at
// the card. Errors: portal.ErrNotTrusted, ErrNoSession, ErrForbidden, ErrOtherKey,
// ErrSuperseded, and status words and transport errors of the card.
func (a *Accounts) Identify(ctx context.Context, card *ram.Session) error {
	t, err := a.identify(ctx, card)
	if err != nil {
		_ = card.Notify(ctx, ram.Notice{Number: -1, Text: "The token was not identified: " + plain(err)}) // the client may have gone
		return fmt.Errorf("identify a token: %w", err)
	}
	return card.Notify(ctx, ram.Notice{Text: fmt.Sprintf(TextIdentified, t.Path)})
}

func (a *Accounts) identify(ctx context.Context, card *ram.Session) (t Token, err error) {
	if err := card.Notify(ctx, ram.Notice{Text: textChecking}); err != nil {
		return Token{}, &cardError{err}
	}
	proof, err := a.Prove(ctx, card)
	if err != nil {
		return Token{}, err
	}
	err = a.store.Write(ctx, func(tx *records.Tx) error {
		s, err := session(tx, byRAM, hashed(card.ID()))
		if err != nil {
			return err
		}
		w, err := awaited(tx, s.hash)
		if err == nil && w.Purpose != Identify { // it was cancelled meanwhile
			err = ErrForbidden
		}
		if err == nil {
			err = inTrustCenter(tx, s.Actor(), AssignToken, w.Center)
		}
		if err == nil {
			t, err = a.recognise(tx, proof)
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec("UPDATE sessions SET awaits = '', identified = ? WHERE id_hash = ?", t.ID, s.hash); err != nil {
			return err
		}
		return tx.Audit(s.Actor().event("identify token", t.Path, ""))
	})
	return t, err
}

// AddToken adds the card that was identified in the session of a browser to the trust
// center that it was identified for. That it is there already is no error. Errors:
// ErrNoSession, ErrForbidden, ErrNoSubject, ErrNoToken where no card was identified for
// it, ErrTaken for one of another trust center.
func (a *Accounts) AddToken(ctx context.Context, cookie string, center int64) (t Token, err error) {
	err = a.store.Write(ctx, func(tx *records.Tx) error {
		s, err := session(tx, byCookie, hashed(cookie))
		if err != nil {
			return err
		}
		made, err := authorised(tx, s.Actor(), AssignToken, center)
		if err != nil {
			return err
		}
		w, err := awaited(tx, s.hash)
		if err == nil && (w.Center != center || w.Identified.ID == 0) {
			err = ErrNoToken
		}
		if err != nil {
			return err
		}
		t = w.Identified
		if t.Status == Superseded { // since it was identified
			return ErrSuperseded
		}
		if _, err := tx.Exec("UPDATE sessions SET center = NULL, identified = NULL WHERE id_hash = ?", s.hash); err != nil {
			return err
		}
		switch other, err := centerOf(tx, t.ID); {
		case err != nil:
			return err
		case other == center:
			return nil
		case other != 0:
			return ErrTaken
		}
		if _, err := tx.Exec("INSERT INTO center_tokens (token, subject, added) VALUES (?, ?, ?)", t.ID, center, tx.Now().Unix()); err != nil {
			return err
		}
		return tx.Audit(s.Actor().event("add token", t.Path, "of "+made.Name))
	})
	if err != nil {
		return Token{}, err
	}
	return t, nil
}

// authorised is the trust center in which an actor may do something.
func authorised(tx *records.Tx, by Actor, do Action, center int64) (Subject, error) {
	if err := inTrustCenter(tx, by, do, center); err != nil {
		return Subject{}, err
	}
	return subjectByID(tx, center)
}

// RemoveCenterToken takes a token from a trust center. Whose card it is, and who logs in
// with it, stays as it was. Errors: ErrForbidden, ErrNoSubject, ErrNoToken.
func (a *Accounts) RemoveCenterToken(ctx context.Context, by Actor, center, token int64) error {
	return a.store.Write(ctx, func(tx *records.Tx) error {
		made, err := authorised(tx, by, AssignToken, center)
		if err != nil {
			return err
		}
		t, err := centerToken(tx, center, token)
		if err != nil {
			return err
		}
		if _, err := tx.Exec("DELETE FROM center_tokens WHERE token = ?", token); err != nil {
			return err
		}
		// Nobody goes on unlocking it.
		if _, err := tx.Exec("UPDATE sessions SET awaits = '', center = NULL, unlocks = NULL WHERE unlocks = ?", token); err != nil {
			return err
		}
		return tx.Audit(by.event("remove token", t.Path, "of "+made.Name))
	})
}

// CenterTokens are the tokens of a trust center, the first added first, for whoever has
// a role in it. Errors: ErrForbidden, ErrNoSubject.
func (a *Accounts) CenterTokens(ctx context.Context, by Actor, center int64) (list []Token, err error) {
	err = a.store.Read(ctx, func(tx *records.Tx) error {
		if err := inTrustCenter(tx, by, SeePrivate, center); err != nil {
			return err
		}
		list, err = tokens(tx, "id IN (SELECT token FROM center_tokens WHERE subject = ?)", center)
		return err
	})
	return list, err
}

// centerToken is a token of a trust center. Error: ErrNoToken.
func centerToken(tx *records.Tx, center, id int64) (Token, error) {
	return tokenBy(tx, "id = ? AND id IN (SELECT token FROM center_tokens WHERE subject = ?)", id, center)
}

// centerOf is the trust center of a token, 0 for none.
func centerOf(tx *records.Tx, token int64) (center int64, err error) {
	err = tx.QueryRow("SELECT subject FROM center_tokens WHERE token = ?", token).Scan(&center)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return center, err
}

// KnownToken is the device of a path that somebody has registered, or that a trust
// center has, with that center, 0 for none. Errors: ErrNoToken, ErrOtherKey for one that
// has the path and not the key.
func (a *Accounts) KnownToken(ctx context.Context, path string, key []byte) (known Token, center int64, err error) {
	err = a.store.Read(ctx, func(tx *records.Tx) error {
		list, err := tokens(tx, "path = ? AND (status = 'active' OR id IN (SELECT token FROM center_tokens))", path)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return ErrNoToken
		}
		for _, t := range list {
			if bytes.Equal(t.Key, key) {
				known = t
				center, err = centerOf(tx, t.ID)
				return err
			}
		}
		return ErrOtherKey
	})
	return known, center, err
}

// Unlocking writes into the audit log that the card of a custodian, which has proven
// that it is a device, answers for a key that is registered on a token of a trust center,
// and ends the waiting of the session that it connected in. It is called before the
// answer is shown to the token. Errors: ErrNoSession, ErrNoToken for one that was removed
// meanwhile, ErrForbidden, also where the session has begun to await something else.
func (a *Accounts) Unlocking(ctx context.Context, ramID string, token Token, custodian, key string) error {
	return a.store.Write(ctx, func(tx *records.Tx) error {
		s, err := session(tx, byRAM, hashed(ramID))
		if err != nil {
			return err
		}
		center, err := centerOf(tx, token.ID)
		if err == nil && center == 0 { // which has ended the waiting, too
			err = ErrNoToken
		}
		var w Awaited
		if err == nil {
			w, err = awaited(tx, s.hash)
		}
		if err == nil && (w.Purpose != Authenticate || w.Token.ID != token.ID || w.Center != center) {
			err = ErrForbidden
		}
		if err == nil {
			err = inTrustCenter(tx, s.Actor(), AuthenticateToken, center)
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec("UPDATE sessions SET awaits = '', center = NULL, unlocks = NULL WHERE id_hash = ?", s.hash); err != nil {
			return err
		}
		return tx.Audit(s.Actor().event("authenticate", token.Path, fmt.Sprintf("key %s of %s", key, custodian)))
	})
}

// Locking writes into the audit log that a token of a trust center is logged out, before
// it is. Errors: ErrForbidden, ErrNoSubject, ErrNoToken.
func (a *Accounts) Locking(ctx context.Context, by Actor, center, token int64) (t Token, err error) {
	err = a.store.Write(ctx, func(tx *records.Tx) error {
		if err := inTrustCenter(tx, by, AuthenticateToken, center); err != nil {
			return err
		}
		if t, err = centerToken(tx, center, token); err != nil {
			return err
		}
		return tx.Audit(by.event("log out token", t.Path, ""))
	})
	return t, err
}

// Emptied takes the device of a path and a key from the trust center that has it, within
// the transaction that records a firmware update: its keys are gone. Without a key, which
// old updates have not kept, the path alone counts. That no trust center has it is no
// error.
func Emptied(tx *records.Tx, path string, key []byte) error {
	const device = "SELECT id FROM tokens WHERE path = ?1 AND (public_key = ?2 OR length(?2) = 0)"
	r, err := tx.Exec("DELETE FROM center_tokens WHERE token IN ("+device+")", path, append([]byte{}, key...))
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return err
	}
	return tx.Audit(records.Event{Token: path, Action: "remove token", Object: path, Detail: "a firmware update made another device of it"})
}
