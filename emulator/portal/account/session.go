package account

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"hsmemu/emulator/portal/records"
)

// State is how far a session has come.
type State string

// The states of a session.
const (
	Anonymous           State = "anonymous"
	DeviceAuthenticated State = "device-authenticated" // with a token that has no account yet
	LoggedIn            State = "logged-in"
)

// Session is what a web session has come to.
type Session struct {
	State State
	// Created and Expires are its times; use moves Expires.
	Created, Expires time.Time
	// Token is the device that was authenticated in it; zero while Anonymous.
	Token Token
	// Account is who is logged in; zero otherwise.
	Account Account
	// CodeSent is the address that an activation code was sent to, while it can be
	// entered.
	CodeSent string
	// Renewed reports whether the session has got a new cookie since the log-in.
	// Before that, whoever planted its cookie in the browser would be logged in, too.
	Renewed bool
	// Program reports whether a program began the session. Its cookie was told to that
	// program alone, so it needs no renewal, and no browser may present it.
	Program bool

	hash []byte // of the cookie
}

// Actor is who acts in the session, for the methods that ask for it.
func (s Session) Actor() Actor { return Actor{Account: s.Account.ID, Token: s.Token.Path} }

// Actor is who does something with which device; zero for nobody.
type Actor struct {
	Account int64
	// Token is the path of the device that the account is logged in with.
	Token string
}

// event is a line of the audit log of the actor.
func (a Actor) event(action, object, detail string) records.Event {
	return records.Event{Account: a.Account, Token: a.Token, Action: action, Object: object, Detail: detail}
}

// idLen is the length of a session's identifiers, in bytes.
const idLen = 32

// newCookie draws the identifier that a browser keeps.
func (a *Accounts) newCookie() (string, error) {
	id := make([]byte, idLen)
	if _, err := io.ReadFull(a.store.Rand(), id); err != nil {
		return "", fmt.Errorf("begin a session: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(id), nil
}

// RAMID is the identifier of a session in the URL /rt/<service>/<identifier> and in
// the cookie of Java clients: 64 hexadecimal digits. It is made from the cookie, so
// that it need not be stored, and the cookie cannot be made from it.
func RAMID(cookie string) string {
	m := hmac.New(sha256.New, []byte(cookie))
	m.Write([]byte("identifier for a card"))
	return hex.EncodeToString(m.Sum(nil))
}

// hashed is how an identifier is stored.
func hashed(id string) []byte {
	h := sha256.Sum256([]byte(id))
	return h[:]
}

// Begin begins a session for a browser at a source, which is its IP address or
// whatever tells it from others. The cookie is what the browser has to present.
// Error: *RateError.
func (a *Accounts) Begin(ctx context.Context, source string) (cookie string, s Session, err error) {
	return a.begin(ctx, source, false)
}

// BeginProgram does the same for a program, whose session is of no use in a browser.
func (a *Accounts) BeginProgram(ctx context.Context, source string) (cookie string, s Session, err error) {
	return a.begin(ctx, source, true)
}

func (a *Accounts) begin(ctx context.Context, source string, program bool) (cookie string, s Session, err error) {
	if cookie, err = a.newCookie(); err != nil {
		return "", Session{}, err
	}
	err = a.store.Write(ctx, func(tx *records.Tx) error {
		if err := attempt(tx, "sessions", source, a.o.Limits.Sessions); err != nil {
			return err
		}
		now := tx.Now()
		s = Session{State: Anonymous, Program: program, Created: now, Expires: now.Add(min(a.o.Idle, a.o.Whole)), hash: hashed(cookie)}
		_, err := tx.Exec("INSERT INTO sessions (id_hash, ram_hash, state, created, expires, program) VALUES (?, ?, ?, ?, ?, ?)",
			s.hash, hashed(RAMID(cookie)), string(s.State), s.Created.Unix(), s.Expires.Unix(), s.Program)
		return err
	})
	if err != nil {
		return "", Session{}, fmt.Errorf("begin a session: %w", err)
	}
	return cookie, s, nil
}

// The columns by which a session is found.
const (
	byCookie = "id_hash"
	byRAM    = "ram_hash"
)

// correction is how far a clock may be set back without anything being taken for what
// was written down by a wrong clock, in seconds.
const correction = 60

// lasts is the condition of a session that has not ended. One that was begun in the
// future was begun by a clock that was wrong. Its values are the time, and the time
// with correction.
const lasts = "expires > ? AND created <= ?"

// session loads a session that has not ended.
func session(tx *records.Tx, by string, hash []byte) (s Session, err error) {
	var created, expires int64
	var token, account sql.NullInt64
	err = tx.QueryRow("SELECT id_hash, state, created, expires, token, account, renewed, program FROM sessions WHERE "+by+" = ? AND "+lasts, hash, tx.Now().Unix(), tx.Now().Unix()+correction).
		Scan(&s.hash, &s.State, &created, &expires, &token, &account, &s.Renewed, &s.Program)
	if errors.Is(err, sql.ErrNoRows) {
		return Session{}, ErrNoSession
	}
	if err != nil {
		return Session{}, err
	}
	s.Created, s.Expires = time.Unix(created, 0).UTC(), time.Unix(expires, 0).UTC()
	if token.Valid {
		if s.Token, err = tokenByID(tx, token.Int64); err != nil {
			return Session{}, err
		}
	}
	if account.Valid {
		if s.Account, err = accountBy(tx, "id", account.Int64); err != nil {
			return Session{}, err
		}
	}
	if s.State == DeviceAuthenticated {
		c, err := pending(tx, s)
		if err != nil && !errors.Is(err, ErrNoCode) {
			return Session{}, err
		}
		s.CodeSent = c.email
	}
	return s, nil
}

// Look is the session of a browser, which does not last longer by it: for what asks by
// itself, such as a stream that goes on while nobody does anything. Error: ErrNoSession.
func (a *Accounts) Look(ctx context.Context, cookie string) (s Session, err error) {
	err = a.store.Read(ctx, func(tx *records.Tx) error {
		s, err = session(tx, byCookie, hashed(cookie))
		return err
	})
	return s, err
}

// Session is the session of a browser. Use makes it last longer, up to its end.
// Error: ErrNoSession.
func (a *Accounts) Session(ctx context.Context, cookie string) (s Session, err error) {
	if s, err = a.Look(ctx, cookie); err != nil {
		return Session{}, err
	}
	// Each page would be a write if every use counted. A session that lasts longer than
	// it can has outlived a clock that was set back.
	if late := a.until(s).Sub(s.Expires); late >= 0 && late < min(time.Minute, a.o.Idle/10) {
		return s, nil
	}
	err = a.store.Write(ctx, func(tx *records.Tx) error {
		if s, err = session(tx, byCookie, hashed(cookie)); err != nil {
			return err
		}
		s.Expires = a.until(s)
		_, err := tx.Exec("UPDATE sessions SET expires = ? WHERE id_hash = ?", s.Expires.Unix(), s.hash)
		return err
	})
	return s, err
}

// until is how long a session that is used now lasts.
func (a *Accounts) until(s Session) time.Time {
	now := a.store.Now().Truncate(time.Second)
	if end := s.Created.Add(a.o.Whole); end.Before(now.Add(a.o.Idle)) {
		return end
	}
	return now.Add(a.o.Idle)
}

// SessionOf is the session that a card has connected in, by the identifier in its URL
// or cookie ([RAMID]). Error: ErrNoSession.
func (a *Accounts) SessionOf(ctx context.Context, ramID string) (s Session, err error) {
	err = a.store.Read(ctx, func(tx *records.Tx) error {
		s, err = session(tx, byRAM, hashed(ramID))
		return err
	})
	return s, err
}

// Known reports whether a card can connect in the session with an identifier in its
// URL or cookie. It is the field of that name of a ram.Server.
func (a *Accounts) Known(ramID string) bool {
	var n int
	err := a.store.Read(context.Background(), func(tx *records.Tx) error {
		return tx.QueryRow("SELECT COUNT(*) FROM sessions WHERE ram_hash = ? AND "+lasts, hashed(ramID), tx.Now().Unix(), tx.Now().Unix()+correction).Scan(&n)
	})
	return err == nil && n == 1
}

// Renew gives a session a new cookie, and with it a new identifier for cards; the old
// ones are of no use any more. The pages do so at the first request after the log-in:
// whoever planted or saw the cookie before has nothing. Error: ErrNoSession.
func (a *Accounts) Renew(ctx context.Context, cookie string) (next string, s Session, err error) {
	if next, err = a.newCookie(); err != nil {
		return "", Session{}, err
	}
	err = a.store.Write(ctx, func(tx *records.Tx) error {
		if s, err = session(tx, byCookie, hashed(cookie)); err != nil {
			return err
		}
		old := s.hash
		s.hash, s.Renewed = hashed(next), s.State == LoggedIn
		if _, err := tx.Exec("UPDATE sessions SET id_hash = ?, ram_hash = ?, renewed = ? WHERE id_hash = ?", s.hash, hashed(RAMID(next)), s.Renewed, old); err != nil {
			return err
		}
		_, err := tx.Exec("UPDATE codes SET subject = ? WHERE purpose = ? AND subject = ?", hex.EncodeToString(s.hash), purposeRegister, hex.EncodeToString(old))
		return err
	})
	if err != nil {
		return "", Session{}, err
	}
	return next, s, nil
}

// Logout ends the session of a browser. That there is none is no error.
func (a *Accounts) Logout(ctx context.Context, cookie string) error {
	return a.store.Write(ctx, func(tx *records.Tx) error {
		s, err := session(tx, byCookie, hashed(cookie))
		if errors.Is(err, ErrNoSession) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := endSessions(tx, "id_hash", s.hash); err != nil {
			return err
		}
		if s.State == Anonymous {
			return nil
		}
		return tx.Audit(s.Actor().event("log out", s.Account.Email, ""))
	})
}

// endSessions ends the sessions with a value in a column.
func endSessions(tx *records.Tx, column string, value any) error {
	_, err := tx.Exec("DELETE FROM codes WHERE purpose = ? AND subject IN (SELECT lower(hex(id_hash)) FROM sessions WHERE "+column+" = ?)", purposeRegister, value)
	if err != nil {
		return err
	}
	_, err = tx.Exec("DELETE FROM sessions WHERE "+column+" = ?", value)
	return err
}
