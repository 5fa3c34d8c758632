// Package service is the portal's service requests: what people ask for, who may do
// what with it in which state, a log that each of them keeps, and what carries them
// out over the cards that connect.
//
//	s, err := service.Open(ctx, service.Config{Records: folder, Sessions: accounts})
//	ram := &ram.Server{Services: map[string]ram.Service{"paas": s.Serve}}
//	r, err := s.Start(ctx, actor, service.FirmwareUpdate, service.Data{})
//	r, err = s.Do(ctx, actor, r.ID, service.Submit, service.Data{})
//
// What may be done stands in one table, see [Steps]. Every step is one transaction
// with a line in the request's log and one in the audit log. Words and texts are those
// that users have seen of the vendor's portal, as far as they are known.
//
// There is no page, no login and no mail server in here.
package service

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"hsmemu/emulator/portal"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/pki"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/ram"
)

// Errors of this package. Each is told to the person who caused it.
var (
	// ErrUnknown says that there is no such thing, or none that the caller may see.
	ErrUnknown = errors.New("there is no such thing")
	// ErrNotAllowed says that the state of a request has no such step, or not for the
	// caller.
	ErrNotAllowed = errors.New("that is not possible now, or not for you")
	// ErrData says that a form is filled in wrongly.
	ErrData = errors.New("the form is not complete")
	// ErrBusy says that another connection commands the card already.
	ErrBusy = errors.New("another update of this SmartCard-HSM is running")
	// ErrOtherCard says that the card is not the one whose update is to go on.
	ErrOtherCard = errors.New("another SmartCard-HSM began this request")
	// ErrTooMany says that an account has as many open requests as it can have.
	ErrTooMany = errors.New("there are too many open requests; finish or cancel some")
)

// Actor is who does something; the zero Actor is nobody, who may do nothing.
type Actor = account.Actor

// Sessions tells who is behind a connection by RAM.
type Sessions interface {
	// User is who is logged in in the session that a URL or a cookie named; the zero
	// Actor for nobody.
	User(ctx context.Context, session string) (Actor, error)
	// Serve logs a card in: what connects in a session in which nothing waits.
	Serve(ctx context.Context, card *ram.Session) error
}

// Accounts are sessions of package account.
func Accounts(a *account.Accounts) Sessions { return accounts{a} }

type accounts struct{ *account.Accounts }

func (a accounts) User(ctx context.Context, session string) (Actor, error) {
	s, err := a.SessionOf(ctx, session)
	if errors.Is(err, account.ErrNoSession) { // it has just ended; the log-in says so
		return Actor{}, nil
	}
	return s.Actor(), err
}

func (a accounts) Serve(ctx context.Context, card *ram.Session) error { return a.Login(ctx, card) }

// Config is what a Service is made of.
type Config struct {
	Records  *records.Store
	Sessions Sessions
	// ListURL is the URL of an authority's revocation list, for the certificates of it; nil
	// for none.
	ListURL func(authority int64) string
	// UpdateAny tells that a card that connects without a session, and for which
	// nothing waits, is updated all the same, if the rules allow it.
	UpdateAny bool
	// Updated is told of every update and production that has come to its end; nil for
	// nobody.
	Updated func(portal.Done)
}

// Service is safe for several goroutines.
type Service struct {
	Config

	mu sync.Mutex
	// busy are the chips and the requests that a connection works on.
	busy     map[any]*holder
	watching map[int64]map[*watcher]bool
}

// Open makes a service over records, and the developer network's authority if there
// is none yet.
func Open(ctx context.Context, c Config) (*Service, error) {
	s := &Service{Config: c, busy: map[any]*holder{}, watching: map[int64]map[*watcher]bool{}}
	var there bool
	err := c.Records.Read(ctx, func(tx *records.Tx) error {
		return tx.QueryRow("SELECT EXISTS (SELECT 1 FROM authorities WHERE subject IS NULL)").Scan(&there)
	})
	if err != nil || there {
		return s, err
	}
	network, err := pki.NewDevNet(c.Records.Rand(), c.Records.Now())
	if err != nil {
		return nil, fmt.Errorf("make the developer network's authority: %w", err)
	}
	err = c.Records.Write(ctx, func(tx *records.Tx) error {
		if err := addAuthority(tx, c.Records, nil, pki.DevNet, network); err != nil {
			return err
		}
		return tx.Audit(records.Event{Action: "authority made", Object: pki.DevNet})
	})
	return s, err
}

// nullable is a column's value, with NULL for 0.
func nullable(id int64) any {
	if id == 0 {
		return nil
	}
	return id
}
