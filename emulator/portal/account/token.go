package account

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"time"

	"hsmemu/applet/cvc"
	"hsmemu/emulator/portal/records"
)

// Status is what a token is to its account.
type Status string

// The states of a token.
const (
	Active     Status = "active"     // its owner logs in with it
	Superseded Status = "superseded" // a firmware update made another device of it
	Removed    Status = "removed"    // it is not registered, or not any more
)

// Token is a device that somebody registered, or logged in with.
type Token struct {
	ID int64
	// Path tells devices apart: the holders of root, issuer and device, each behind a
	// slash.
	Path string
	Name cvc.Name
	// Key is the public key of the device, an uncompressed point with its leading 04.
	Key []byte
	// Firmware is the version that it had at its last log-in, empty if that is not
	// known.
	Firmware string
	// Account is whose it is, 0 for nobody's.
	Account int64
	Status  Status
	// Registered is when it was; zero if it never was.
	Registered time.Time
}

const tokenColumns = "id, path, name, public_key, firmware, COALESCE(account, 0), status, registered"

func scanToken(scan func(...any) error) (t Token, err error) {
	var registered int64
	err = scan(&t.ID, &t.Path, &t.Name, &t.Key, &t.Firmware, &t.Account, &t.Status, &registered)
	if errors.Is(err, sql.ErrNoRows) {
		return Token{}, ErrNoToken
	}
	if registered != 0 {
		t.Registered = time.Unix(registered, 0).UTC()
	}
	return t, err
}

// tokenBy loads the first token for which a condition holds. Error: ErrNoToken.
func tokenBy(tx *records.Tx, condition string, values ...any) (Token, error) {
	return scanToken(tx.QueryRow("SELECT "+tokenColumns+" FROM tokens WHERE "+condition+" ORDER BY id LIMIT 1", values...).Scan)
}

func tokenByID(tx *records.Tx, id int64) (Token, error) { return tokenBy(tx, "id = ?", id) }

// Tokens are those that an account registered and did not remove, the oldest first:
// active ones, and superseded ones, in whose place a new one has to be registered.
func (a *Accounts) Tokens(ctx context.Context, account int64) (list []Token, err error) {
	err = a.store.Read(ctx, func(tx *records.Tx) error {
		list, err = tokens(tx, "account = ? AND status <> 'removed'", account)
		return err
	})
	return list, err
}

func tokens(tx *records.Tx, condition string, values ...any) (list []Token, err error) {
	err = tx.Each(func(scan func(...any) error) error {
		t, err := scanToken(scan)
		list = append(list, t)
		return err
	}, "SELECT "+tokenColumns+" FROM tokens WHERE "+condition+" ORDER BY id", values...)
	return list, err
}

// RemoveToken removes a token from the account of its owner: nobody logs in with it
// any more, and the sessions that did have ended. The last token of an account is
// removed only if last says so. Errors: ErrNoToken for one that is not his,
// ErrLastToken.
func (a *Accounts) RemoveToken(ctx context.Context, by Actor, id int64, last bool) error {
	return a.store.Write(ctx, func(tx *records.Tx) error {
		t, err := tokenBy(tx, "id = ? AND account = ? AND status <> 'removed'", id, by.Account)
		if err != nil {
			return err
		}
		var others int
		err = tx.QueryRow("SELECT COUNT(*) FROM tokens WHERE account = ? AND status = 'active' AND id <> ?", by.Account, id).Scan(&others)
		if err != nil {
			return err
		}
		if t.Status == Active && others == 0 && !last {
			return ErrLastToken
		}
		if _, err := tx.Exec("UPDATE tokens SET status = 'removed' WHERE id = ?", id); err != nil {
			return err
		}
		if err := endSessions(tx, "token", id); err != nil {
			return err
		}
		return tx.Audit(by.event("remove token", t.Path, ""))
	})
}

// Supersede notes, within the transaction that records a firmware update, that the
// device of a path is no more: its token logs in no longer, and the device that came
// of it has to be registered (S22). A session that was begun with it goes on: whoever
// is in it has asked for the update and wants to see what comes of it. That nobody
// registered the device is no error.
func Supersede(tx *records.Tx, path string) error {
	t, err := tokenBy(tx, "path = ? AND status = 'active'", path)
	if errors.Is(err, ErrNoToken) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := tx.Exec("UPDATE tokens SET status = 'superseded' WHERE id = ?", t.ID); err != nil {
		return err
	}
	return tx.Audit(records.Event{Account: t.Account, Token: path, Action: "token superseded", Object: path})
}

// register links a token to an account. Error: ErrOtherKey for one that another
// device of its path got ahead of, ErrTaken for one that another account has.
func register(tx *records.Tx, t *Token, account int64) error {
	other, err := tokenBy(tx, "path = ? AND status = 'active'", t.Path)
	switch {
	case err == nil && !bytes.Equal(other.Key, t.Key):
		return ErrOtherKey
	case err == nil && other.Account != account:
		return ErrTaken
	case err == nil:
		*t = other
		return nil
	case !errors.Is(err, ErrNoToken):
		return err
	}
	now := tx.Now()
	if _, err := tx.Exec("UPDATE tokens SET account = ?, status = 'active', registered = ? WHERE id = ?", account, now.Unix(), t.ID); err != nil {
		return err
	}
	t.Account, t.Status, t.Registered = account, Active, now
	return nil
}
