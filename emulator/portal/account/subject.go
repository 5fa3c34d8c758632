package account

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"hsmemu/emulator/portal/records"
)

// Kind is what a subject is.
type Kind string

// The kinds of subjects.
const (
	Person      Kind = "person"
	System      Kind = "system"
	TrustCenter Kind = "trust center"
)

// Subject is whom certificates are about, and who holds keys.
type Subject struct {
	ID   int64
	Kind Kind
	// Name is unique among its kind; that of a person is the e-mail address.
	Name string
	// Private tells of a trust center that nobody sees but who has a role in it, and
	// Administrators.
	Private bool
	// Account is the person's account, or that of who made the system or the trust
	// center.
	Account int64
	Created time.Time
}

// nameMax is the longest name of a subject, in characters.
const nameMax = 64

// ParseName reads the name of a trust center or a system as a person types it: up to
// 64 printable characters, with single spaces between words. Error: ErrName.
func ParseName(text string) (string, error) {
	name := strings.Join(strings.Fields(text), " ")
	if name == "" || !utf8.ValidString(name) || utf8.RuneCountInString(name) > nameMax {
		return "", ErrName
	}
	for _, c := range name {
		if !unicode.IsPrint(c) {
			return "", ErrName
		}
	}
	return name, nil
}

const subjectColumns = "id, kind, name, private, COALESCE(account, 0), created"

func scanSubject(scan func(...any) error) (s Subject, err error) {
	var created int64
	err = scan(&s.ID, &s.Kind, &s.Name, &s.Private, &s.Account, &created)
	if errors.Is(err, sql.ErrNoRows) {
		return Subject{}, ErrNoSubject
	}
	s.Created = time.Unix(created, 0).UTC()
	return s, err
}

func subjectByID(tx *records.Tx, id int64) (Subject, error) {
	return scanSubject(tx.QueryRow("SELECT "+subjectColumns+" FROM subjects WHERE id = ?", id).Scan)
}

// Part is a part of a list of subjects.
type Part struct {
	// Kind is that of all of them; empty for every kind.
	Kind Kind
	// Skip leaves out the first ones, and Most is how many there are at most; 0 for all.
	Skip, Most int
}

// errEnough ends the reading of rows.
var errEnough = errors.New("enough")

// Subjects are a part of those that the actor may see, trust centers before systems and
// persons, by name: public trust centers, those in which he has a role, his own
// systems, himself, and for an Administrator all.
func (a *Accounts) Subjects(ctx context.Context, by Actor, part Part) (list []Subject, err error) {
	err = a.store.Read(ctx, func(tx *records.Tx) error {
		who, err := accountBy(tx, "id", by.Account)
		if err != nil {
			return err
		}
		for _, kind := range []Kind{TrustCenter, System, Person} {
			if part.Kind != "" && part.Kind != kind {
				continue
			}
			query, values := "SELECT "+subjectColumns+" FROM subjects WHERE kind = ?", []any{string(kind)}
			if kind != TrustCenter && !who.May(SeeAll, 0) {
				query, values = query+" AND account = ?", append(values, who.ID)
			}
			err := tx.Each(func(scan func(...any) error) error {
				s, err := scanSubject(scan)
				switch {
				case err != nil || !s.seenBy(who):
					return err
				case part.Skip > 0:
					part.Skip--
					return nil
				}
				if list = append(list, s); len(list) == part.Most {
					return errEnough
				}
				return nil
			}, query+" ORDER BY name COLLATE NOCASE", values...)
			if errors.Is(err, errEnough) {
				return nil
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return list, err
}

// seenBy reports whether an account may see the subject.
func (s Subject) seenBy(who Account) bool {
	if s.Kind == TrustCenter {
		return !s.Private || who.May(SeePrivate, s.ID)
	}
	return s.Account == who.ID || who.May(SeeAll, 0)
}

// Subject is one that the actor may see. Error: ErrNoSubject.
func (a *Accounts) Subject(ctx context.Context, by Actor, id int64) (s Subject, err error) {
	err = a.store.Read(ctx, func(tx *records.Tx) error {
		who, err := accountBy(tx, "id", by.Account)
		if err != nil {
			return err
		}
		if s, err = subjectByID(tx, id); err == nil && !s.seenBy(who) {
			err = ErrNoSubject
		}
		return err
	})
	if err != nil {
		return Subject{}, err
	}
	return s, nil
}

// make makes a subject.
func (s *Subject) make(tx *records.Tx, by Actor) error {
	var taken int
	// Names that differ in their case alone are taken for each other.
	if err := tx.QueryRow("SELECT COUNT(*) FROM subjects WHERE kind = ? AND name = ? COLLATE NOCASE", string(s.Kind), s.Name).Scan(&taken); err != nil {
		return err
	}
	if taken > 0 {
		return ErrTaken
	}
	s.Account, s.Created = by.Account, tx.Now()
	var err error
	s.ID, err = tx.Insert("INSERT INTO subjects (kind, name, private, account, created) VALUES (?, ?, ?, ?, ?)",
		string(s.Kind), s.Name, s.Private, s.Account, s.Created.Unix())
	if err != nil {
		return err
	}
	return tx.Audit(by.event("create "+string(s.Kind), s.Name, map[bool]string{true: "private"}[s.Private]))
}

// CreateTrustCenter makes a trust center, whose Manager the actor is: every
// Subscriber may. Errors: ErrForbidden, ErrName, ErrTaken.
func (a *Accounts) CreateTrustCenter(ctx context.Context, by Actor, name string, private bool) (s Subject, err error) {
	err = a.store.Write(ctx, func(tx *records.Tx) error {
		s, err = NewTrustCenter(tx, by, name, private)
		return err
	})
	if err != nil {
		return Subject{}, err
	}
	return s, nil
}

// NewTrustCenter is CreateTrustCenter within a transaction that changes more.
func NewTrustCenter(tx *records.Tx, by Actor, name string, private bool) (Subject, error) {
	if err := Allow(tx, by, CreateTrustCenter, 0); err != nil {
		return Subject{}, err
	}
	parsed, err := ParseName(name)
	if err != nil {
		return Subject{}, err
	}
	s := Subject{Kind: TrustCenter, Name: parsed, Private: private}
	if err := s.make(tx, by); err != nil {
		return Subject{}, err
	}
	if _, err := tx.Exec("INSERT INTO roles (account, role, subject) VALUES (?, ?, ?)", by.Account, string(Manager), s.ID); err != nil {
		return Subject{}, err
	}
	return s, nil
}

// EnrolSystem makes a system, such as a server that wants certificates, for a
// Registration Officer of a trust center. Errors: ErrForbidden, ErrNoSubject,
// ErrName, ErrTaken.
func (a *Accounts) EnrolSystem(ctx context.Context, by Actor, trustCenter int64, name string) (s Subject, err error) {
	err = a.store.Write(ctx, func(tx *records.Tx) error {
		if err := inTrustCenter(tx, by, EnrolSystem, trustCenter); err != nil {
			return err
		}
		parsed, err := ParseName(name)
		if err != nil {
			return err
		}
		s = Subject{Kind: System, Name: parsed}
		return s.make(tx, by)
	})
	if err != nil {
		return Subject{}, err
	}
	return s, nil
}

// EnrolPerson makes the account of a person, for a Registration Officer of a trust
// center; the person registers a token by an activation code as everybody does. That
// there is the account is no error. Errors: ErrForbidden, ErrNoSubject, ErrAddress.
func (a *Accounts) EnrolPerson(ctx context.Context, by Actor, trustCenter int64, email string) (s Subject, err error) {
	address, err := ParseAddress(email)
	if err != nil {
		return Subject{}, err
	}
	err = a.store.Write(ctx, func(tx *records.Tx) error {
		if err := inTrustCenter(tx, by, EnrolPerson, trustCenter); err != nil {
			return err
		}
		_, err := accountBy(tx, "email", address)
		if errors.Is(err, ErrNoAccount) {
			if _, err = makeAccount(tx, address); err == nil {
				err = tx.Audit(by.event("enroll person", address, ""))
			}
		}
		if err != nil {
			return err
		}
		s, err = scanSubject(tx.QueryRow("SELECT "+subjectColumns+" FROM subjects WHERE kind = 'person' AND name = ?", address).Scan)
		return err
	})
	if err != nil {
		return Subject{}, err
	}
	return s, nil
}

// inTrustCenter is Allow for what is done in a trust center alone.
func inTrustCenter(tx *records.Tx, by Actor, do Action, id int64) error {
	s, err := subjectByID(tx, id)
	if err == nil && s.Kind != TrustCenter {
		err = fmt.Errorf("%w: %s is no trust center", ErrNoSubject, s.Name)
	}
	if err != nil {
		return err
	}
	return Allow(tx, by, do, id)
}
