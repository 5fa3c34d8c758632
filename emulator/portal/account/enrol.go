package account

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"hsmemu/emulator/portal/records"
)

// Account is a person at the portal.
type Account struct {
	ID int64
	// Email is the address by which the account is known, in small letters.
	Email       string
	Created     time.Time
	Preferences Preferences
	// Grants are the roles of the account.
	Grants []Grant
}

// Preferences say what mail an account wants, besides activation codes.
type Preferences struct {
	// Requests tells of service requests that wait for the account or have ended,
	// Security of weaknesses in the firmware of its tokens.
	Requests, Security bool
}

// accountBy loads the account with a value in a column. Error: ErrNoAccount.
func accountBy(tx *records.Tx, column string, value any) (a Account, err error) {
	var created int64
	err = tx.QueryRow("SELECT id, email, created, notify_requests, notify_security FROM accounts WHERE "+column+" = ?", value).
		Scan(&a.ID, &a.Email, &created, &a.Preferences.Requests, &a.Preferences.Security)
	if errors.Is(err, sql.ErrNoRows) {
		return Account{}, ErrNoAccount
	}
	if err != nil {
		return Account{}, err
	}
	a.Created = time.Unix(created, 0).UTC()
	a.Grants, err = grants(tx, "account = ?", a.ID)
	return a, err
}

// Account is the account with an identifier. Error: ErrNoAccount.
func (a *Accounts) Account(ctx context.Context, id int64) (found Account, err error) {
	err = a.store.Read(ctx, func(tx *records.Tx) error {
		found, err = accountBy(tx, "id", id)
		return err
	})
	return found, err
}

// AccountByEmail is the account of an e-mail address. Errors: ErrAddress,
// ErrNoAccount.
func (a *Accounts) AccountByEmail(ctx context.Context, email string) (found Account, err error) {
	address, err := ParseAddress(email)
	if err != nil {
		return Account{}, err
	}
	err = a.store.Read(ctx, func(tx *records.Tx) error {
		found, err = accountBy(tx, "email", address)
		return err
	})
	return found, err
}

// makeAccount makes the account of an address, with the person as a subject and the
// role of a subscriber. The first account of a portal gets every role.
func makeAccount(tx *records.Tx, email string) (int64, error) {
	var others int
	if err := tx.QueryRow("SELECT COUNT(*) FROM accounts").Scan(&others); err != nil {
		return 0, err
	}
	now := tx.Now().Unix()
	id, err := tx.Insert("INSERT INTO accounts (email, created, notify_security) VALUES (?, ?, 1)", email, now)
	if err != nil {
		return 0, err
	}
	if _, err := tx.Insert("INSERT INTO subjects (kind, name, account, created) VALUES (?, ?, ?, ?)", string(Person), email, id, now); err != nil {
		return 0, err
	}
	given := []Role{Subscriber}
	if others == 0 {
		given = everyRole()
	}
	for _, r := range given {
		if _, err := tx.Exec("INSERT INTO roles (account, role) VALUES (?, ?)", id, string(r)); err != nil {
			return 0, err
		}
	}
	return id, nil
}

const (
	// purposeRegister is what a code is for.
	purposeRegister = "register token"
	// codeLen is the number of digits of an activation code.
	codeLen = 6
	// codeTries is how often a code can be entered.
	codeTries = 3
)

// newCode draws six digits, each code as likely as any other.
func newCode(rand io.Reader) (string, error) {
	const codes = 1_000_000
	for {
		var b [4]byte
		if _, err := io.ReadFull(rand, b[:]); err != nil {
			return "", err
		}
		n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
		if fair := uint32((1 << 32) / codes * codes); n < fair {
			return fmt.Sprintf("%0*d", codeLen, n%codes), nil
		}
	}
}

// parseCode reads a code as a person enters it, perhaps with spaces. Error: ErrCode.
func parseCode(text string) (string, error) {
	code := strings.Join(strings.Fields(text), "")
	if len(code) != codeLen {
		return "", ErrCode
	}
	for i := range len(code) {
		if code[i] < '0' || code[i] > '9' {
			return "", ErrCode
		}
	}
	return code, nil
}

// hashCode is what is kept of a code, sealed besides: of a million codes each can be
// tried on a hash alone.
func hashCode(session []byte, email, code string) []byte {
	m := hmac.New(sha256.New, session)
	m.Write([]byte(code + email))
	return m.Sum(nil)
}

// code is one that can be entered.
type code struct {
	id    int64
	email string
	left  int
	hash  []byte // sealed
}

// waiting is the code that was sent for a purpose. Error: ErrNoCode.
func waiting(tx *records.Tx, purpose, subject string) (c code, err error) {
	err = tx.QueryRow("SELECT id, email, tries_left, code_hash FROM codes WHERE purpose = ? AND subject = ? AND expires > ? AND tries_left > 0",
		purpose, subject, tx.Now().Unix()).Scan(&c.id, &c.email, &c.left, &c.hash)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoCode
	}
	return c, err
}

// pending is the code that was sent for a session. Error: ErrNoCode.
func pending(tx *records.Tx, s Session) (code, error) {
	return waiting(tx, purposeRegister, hex.EncodeToString(s.hash))
}

// enter takes a try away and reports whether what was entered is the code. The
// transaction has to be committed in either case: the try is charged before anybody is
// told.
func (c code) enter(tx *records.Tx, salt []byte, entered string) (right bool, err error) {
	if _, err := tx.Exec("UPDATE codes SET tries_left = tries_left - 1 WHERE id = ?", c.id); err != nil {
		return false, err
	}
	want, err := tx.Open(codePlace(c.id), c.hash)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(want, hashCode(salt, c.email, entered)) == 1, nil
}

// registering loads a session that waits for a registration.
func registering(tx *records.Tx, cookie string) (Session, error) {
	s, err := session(tx, byCookie, hashed(cookie))
	if err == nil && s.State != DeviceAuthenticated {
		err = ErrNotRegistering
	}
	return s, err
}

// Enrol begins the registration of the device that a session was authenticated with:
// an activation code goes to an e-mail address. Whether there is an account of that
// address is told to nobody. A code that was sent before is good no longer. Errors:
// ErrNoSession, ErrNotRegistering, ErrAddress, *RateError.
func (a *Accounts) Enrol(ctx context.Context, cookie, email, source string) error {
	address, err := ParseAddress(email)
	if err != nil {
		return err
	}
	return a.store.Write(ctx, func(tx *records.Tx) error {
		s, err := registering(tx, cookie)
		if err != nil {
			return err
		}
		// By the token, which outlives the session.
		if err := attempt(tx, "activation codes for this token", s.Token.Path, a.o.Limits.CodesOfToken); err != nil {
			return err
		}
		mail := func(secret string) Mail { return activationMail(address, secret, s.Token.Path, a.o.Code) }
		if err := a.sendCode(tx, source, purposeRegister, hex.EncodeToString(s.hash), address, []byte(s.Token.Path), mail); err != nil {
			return err
		}
		return tx.Audit(records.Event{Token: s.Token.Path, Action: "activation code sent", Object: address})
	})
}

func codePlace(id int64) string { return fmt.Sprintf("codes.code_hash %d", id) }

// activationMail is what brings a code.
func activationMail(to, secret, path string, good time.Duration) Mail {
	return Mail{To: to, Subject: "Activation code", Body: fmt.Sprintf(`Somebody who has the token

    %s

wants to register it for this e-mail address. If that is you, enter this
activation code on the page:

    ACTIVATION CODE %s

It is good for %d minutes and three tries. If it is not you, do nothing:
without the code nothing happens.
`, path, secret, int(good.Minutes()))}
}

// Activate ends a registration by the code that was mailed: the account is made if
// there is none of that address, the token is linked to it, and the session is logged
// in. A wrong code costs one of three tries, which are counted before anything is
// said. Errors: ErrNoSession, ErrNotRegistering, ErrCode, ErrNoCode, ErrEnrolment for
// an address without account where nobody enrols himself, and ErrOtherKey and
// ErrTaken for a token that was registered by another meanwhile.
func (a *Accounts) Activate(ctx context.Context, cookie, entered string) (s Session, err error) {
	secret, wrong := parseCode(entered)
	err = a.store.Write(ctx, func(tx *records.Tx) error {
		if s, err = registering(tx, cookie); err != nil {
			return err
		}
		c, err := pending(tx, s)
		if err != nil {
			return err
		}
		if wrong != nil {
			return wrong // it cannot be the code, so it is no guess
		}
		right, err := c.enter(tx, []byte(s.Token.Path), secret)
		if err != nil {
			return err
		}
		if !right {
			wrong = ErrCode
			return tx.Audit(records.Event{Token: s.Token.Path, Action: "activation code wrong", Object: c.email, Detail: fmt.Sprintf("%d tries left", c.left-1)})
		}
		return a.activate(tx, &s, c)
	})
	if err == nil {
		err = wrong
	}
	if err != nil {
		return Session{}, err
	}
	return s, nil
}

// activate registers the token of a session whose code was entered.
func (a *Accounts) activate(tx *records.Tx, s *Session, c code) error {
	found, err := accountBy(tx, "email", c.email)
	id, made := found.ID, false
	if errors.Is(err, ErrNoAccount) {
		if a.o.NoEnrolment {
			return ErrEnrolment
		}
		made = true
		id, err = makeAccount(tx, c.email)
	}
	if err != nil {
		return err
	}
	if err := register(tx, &s.Token, id); err != nil {
		return err
	}
	if s.Account, err = accountBy(tx, "id", id); err != nil {
		return err
	}
	if _, err := tx.Exec("DELETE FROM codes WHERE id = ?", c.id); err != nil {
		return err
	}
	s.State, s.CodeSent, s.Expires = LoggedIn, "", a.until(*s)
	_, err = tx.Exec("UPDATE sessions SET state = ?, account = ?, token = ?, expires = ? WHERE id_hash = ?", string(s.State), id, s.Token.ID, s.Expires.Unix(), s.hash)
	if err != nil {
		return err
	}
	if made {
		if err := tx.Audit(s.Actor().event("account made", c.email, "")); err != nil {
			return err
		}
	}
	return tx.Audit(s.Actor().event("register token", s.Token.Path, ""))
}

// SetPreferences sets what mail an account wants.
func (a *Accounts) SetPreferences(ctx context.Context, by Actor, p Preferences) error {
	return a.store.Write(ctx, func(tx *records.Tx) error {
		if _, err := accountBy(tx, "id", by.Account); err != nil {
			return err
		}
		if _, err := tx.Exec("UPDATE accounts SET notify_requests = ?, notify_security = ? WHERE id = ?", p.Requests, p.Security, by.Account); err != nil {
			return err
		}
		return tx.Audit(by.event("notification preferences", "", fmt.Sprintf("requests %t, security %t", p.Requests, p.Security)))
	})
}
