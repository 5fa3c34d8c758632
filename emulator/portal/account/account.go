// Package account knows who uses the portal: web sessions, log-in with a card over
// RAM over HTTP, accounts by e-mail address, their tokens, activation codes, roles
// and trust centers, and the mail that goes out to them. It has no page and no HTTP:
// the pages call its methods, and its Login is a [ram.Service].
//
//	a := account.New(store, account.Options{})
//	cookie, s, err := a.Begin(ctx, source)        // the browser keeps the cookie,
//	at := "/rt/paas/" + account.RAMID(cookie)     // the card connects here
//	s, err = a.Session(ctx, cookie)               // and then s.State is LoggedIn
//
// There are no passwords. Whoever logs in has a device that proves its key, and has
// presented the user PIN to that device; no PIN ever comes to the server.
//
// A session has two identifiers. The cookie is the browser's alone and is as good as
// the person. The other one stands in the URL for the client beside the card, and so
// in command lines, process lists and logs: it is made from the cookie by a one-way
// function, and whoever learns it can connect a card of his own to the session, as
// long as none has, and no more. The records have only the SHA-256 of each.
package account

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"hsmemu/applet/cvc"
	"hsmemu/emulator/portal/records"
)

// Rate allows so many attempts in any such time.
type Rate struct {
	N   int
	Per time.Duration
}

// Limits say how often something may be tried. A zero Rate is the one of
// DefaultLimits.
type Limits struct {
	// Sessions may be begun by one source, and Logins tried in one session.
	Sessions, Logins Rate
	// Codes may be asked for with one token, for one e-mail address, and by one
	// source.
	CodesOfToken, CodesOfAddress, CodesOfSource Rate
}

// DefaultLimits are generous for people and tight for programs.
var DefaultLimits = Limits{
	Sessions:       Rate{120, time.Minute},
	Logins:         Rate{10, time.Hour},
	CodesOfToken:   Rate{3, time.Hour},
	CodesOfAddress: Rate{5, time.Hour},
	CodesOfSource:  Rate{30, time.Hour},
}

// Options say how accounts are kept. The zero value has the clock and the limits of
// this package, and accepts devices under the emulator's root.
type Options struct {
	// Roots are what devices have to be certified under; nil for the emulator's
	// alone.
	Roots cvc.Roots
	// Limits are for every kind of attempt.
	Limits Limits
	// Idle is how long a session lasts without use, Whole how long at most, and Code
	// how long an activation code is good for; 0 for 30 minutes, 12 hours and 15
	// minutes.
	Idle, Whole, Code time.Duration
	// NoEnrolment tells that people cannot make accounts by themselves: a trust
	// center enrols them.
	NoEnrolment bool
}

// Accounts are those of one portal. Its methods may be called by several goroutines.
type Accounts struct {
	store *records.Store
	o     Options
}

// Errors of this package.
var (
	// ErrNoSession says that there is no such session: it was never begun, has ended
	// or was ended.
	ErrNoSession = errors.New("there is no such session")
	// ErrOccupied says that a card has logged in to the session already. Another
	// card takes another session, so that nobody can slip his card into it.
	ErrOccupied = errors.New("a card is logged in to this session already")
	// ErrNotLoggedIn says that the session has no account yet.
	ErrNotLoggedIn = errors.New("nobody is logged in")
	// ErrNotRegistering says that the session has no device that waits for its
	// registration.
	ErrNotRegistering = errors.New("no token waits for its registration in this session")
	// ErrEnrolment says that nobody enrols himself at this portal.
	ErrEnrolment = errors.New("accounts are made by a trust center at this portal")
	// ErrCode says that an activation code is wrong.
	ErrCode = errors.New("the activation code is wrong")
	// ErrNoCode says that there is no code to be entered: none was sent, it is too
	// old, or it was entered wrongly three times.
	ErrNoCode = errors.New("there is no activation code to enter; ask for a new one")
	// ErrOtherKey says that a device has the path of a registered token and another
	// key.
	ErrOtherKey = errors.New("a token of this path is registered with another key")
	// ErrSuperseded says that a firmware update gave the device another identity,
	// which has to be registered.
	ErrSuperseded = errors.New("this identity was superseded by a firmware update")
	// ErrNoAccount, ErrNoToken and ErrNoSubject say that there is none, or none that
	// the one who asks may see.
	ErrNoAccount = errors.New("there is no such account")
	ErrNoToken   = errors.New("there is no such token")
	ErrNoSubject = errors.New("there is no such subject")
	// ErrLastToken says that an account would have no token left, and nobody could
	// log in to it until it registers one again.
	ErrLastToken = errors.New("this is the last token of the account")
	// ErrForbidden says that a role is missing.
	ErrForbidden = errors.New("that takes a role")
	// ErrRole says that there is no such role there.
	ErrRole = errors.New("there is no such role")
	// ErrLastRole says that nobody would be left who can grant roles.
	ErrLastRole = errors.New("nobody would be left who can grant roles")
	// ErrName says that a name cannot be one of a subject, and ErrTaken that it is
	// another's.
	ErrName  = errors.New("that is no name for a subject")
	ErrTaken = errors.New("this name is taken")
)

// RateError says that something was tried too often.
type RateError struct {
	// What was tried.
	What string
	// After tells when the next attempt is allowed.
	After time.Time
}

// Error says what was tried too often.
func (e *RateError) Error() string { return "too many attempts: " + e.What }

// New are the accounts in records.
func New(store *records.Store, o Options) *Accounts {
	if o.Roots == nil {
		o.Roots = cvc.EmulatorRoots()
	}
	for _, d := range []struct {
		at      *time.Duration
		ordinal time.Duration
	}{{&o.Idle, 30 * time.Minute}, {&o.Whole, 12 * time.Hour}, {&o.Code, 15 * time.Minute}} {
		if *d.at == 0 {
			*d.at = d.ordinal
		}
	}
	for _, r := range []struct {
		at      *Rate
		ordinal Rate
	}{
		{&o.Limits.Sessions, DefaultLimits.Sessions},
		{&o.Limits.Logins, DefaultLimits.Logins},
		{&o.Limits.CodesOfToken, DefaultLimits.CodesOfToken},
		{&o.Limits.CodesOfAddress, DefaultLimits.CodesOfAddress},
		{&o.Limits.CodesOfSource, DefaultLimits.CodesOfSource},
	} {
		if *r.at == (Rate{}) {
			*r.at = r.ordinal
		}
	}
	return &Accounts{store: store, o: o}
}

// attempt counts an attempt of a kind by somebody, within a transaction. Error:
// *RateError, and then the transaction has to end with it, so that what was refused
// does not count.
func attempt(tx *records.Tx, what, who string, r Rate) error {
	now := tx.Now().Unix()
	since := now - int64(r.Per/time.Second)
	var n int
	var first sql.NullInt64
	err := tx.QueryRow("SELECT COUNT(*), MIN(at) FROM attempts WHERE kind = ? AND who = ? AND at > ? AND at <= ?", what, who, since, now+correction).Scan(&n, &first)
	if err != nil {
		return err
	}
	if n >= r.N {
		return &RateError{What: what, After: time.Unix(first.Int64, 0).Add(r.Per).UTC()}
	}
	_, err = tx.Exec("INSERT INTO attempts (kind, who, at) VALUES (?, ?, ?)", what, who, now)
	return err
}

// mailKept is how long mail is in the outbox, whether it was sent or not.
const mailKept = 30 * 24 * time.Hour

// Sweep removes what has outlived its use: sessions and codes that have ended, the mails
// that brought a code which cannot be entered any more, other mails after thirty days,
// attempts that no longer count, and devices that nobody registered. What a clock wrote down that
// was ahead does not wait for that time. It returns how many sessions went.
func (a *Accounts) Sweep(ctx context.Context) (sessions int64, err error) {
	err = a.store.Write(ctx, func(tx *records.Tx) error {
		now := tx.Now().Unix()
		r, err := tx.Exec("DELETE FROM sessions WHERE NOT ("+lasts+")", now, now+correction)
		if err != nil {
			return err
		}
		if sessions, err = r.RowsAffected(); err != nil {
			return err
		}
		longest := time.Duration(0)
		for _, rate := range []Rate{a.o.Limits.Sessions, a.o.Limits.Logins, a.o.Limits.CodesOfToken, a.o.Limits.CodesOfAddress, a.o.Limits.CodesOfSource} {
			longest = max(longest, rate.Per)
		}
		for _, remove := range []struct {
			query  string
			values []any
		}{
			{"DELETE FROM codes WHERE expires <= ?", []any{now}},
			{"DELETE FROM attempts WHERE at <= ? OR at > ?", []any{now - int64(longest/time.Second), now + correction}},
			{"DELETE FROM mails WHERE code IS NOT NULL AND code NOT IN (SELECT id FROM codes WHERE tries_left > 0)", nil},
			{"DELETE FROM mails WHERE created <= ?", []any{now - int64(mailKept/time.Second)}},
			{"UPDATE mails SET created = ?1, due = ?1 WHERE sent IS NULL AND due IS NOT NULL AND created > ?2", []any{now, now + correction}},
			{`DELETE FROM tokens WHERE account IS NULL AND status = 'removed' AND id NOT IN (SELECT token FROM sessions WHERE token IS NOT NULL)
				AND id NOT IN (SELECT identified FROM sessions WHERE identified IS NOT NULL) AND id NOT IN (SELECT unlocks FROM sessions WHERE unlocks IS NOT NULL)
				AND id NOT IN (SELECT token FROM center_tokens)
				AND id NOT IN (SELECT token FROM requests WHERE token IS NOT NULL)`, nil},
		} {
			if _, err := tx.Exec(remove.query, remove.values...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("sweep: %w", err)
	}
	return sessions, nil
}
