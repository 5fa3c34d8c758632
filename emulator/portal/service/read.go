package service

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
)

const requestColumns = "id, type, state, COALESCE(account, 0), COALESCE(subject, 0), COALESCE(token, 0), COALESCE(chip, ''), data, created, changed"

// scan reads the columns.
func scanRequest(scan func(...any) error) (r Request, err error) {
	var data string
	var created, changed, subject, token int64
	if err := scan(&r.ID, &r.Type, &r.Word, &r.Account, &subject, &token, &r.Chip, &data, &created, &changed); err != nil {
		return r, err
	}
	err = json.Unmarshal([]byte(data), &r.Data)
	r.Data.Center, r.Data.Token = subject, token
	r.Created, r.Changed = time.Unix(created, 0).UTC(), time.Unix(changed, 0).UTC()
	return r, err
}

// load is a request by its row. Error: ErrUnknown.
func load(tx *records.Tx, id int64) (Request, error) {
	r, err := scanRequest(tx.QueryRow("SELECT "+requestColumns+" FROM requests WHERE id = ?", id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return r, fmt.Errorf("%w: request %d", ErrUnknown, id)
	}
	return r, err
}

// visible is a request that an actor may see: theirs, or one that they have a role
// for. Error: ErrUnknown.
func (s *Service) visible(tx *records.Tx, by Actor, id int64) (*deed, error) {
	r, err := load(tx, id)
	if err != nil {
		return nil, err
	}
	d := &deed{s: s, tx: tx, by: by, request: r}
	for _, role := range append([]account.Role{account.Subscriber}, officers()...) {
		holds, err := d.holds(role)
		if err != nil {
			return nil, err
		}
		if holds {
			return d, nil
		}
	}
	return nil, fmt.Errorf("%w: request %d", ErrUnknown, id)
}

// actions are what the actor may do now, in the order of the table.
func (d *deed) actions() ([]Action, error) {
	var list []Action
	for _, s := range Steps() {
		if s.Type != d.request.Type || s.From != d.request.Word || slices.Contains(list, s.Action) {
			continue
		}
		holds, err := d.holds(s.Who)
		if err != nil {
			return nil, err
		}
		if holds {
			list = append(list, s.Action)
		}
	}
	return list, nil
}

// Get is a request. Error: ErrUnknown, also for one that is not the actor's to see.
func (s *Service) Get(ctx context.Context, by Actor, id int64) (r Request, err error) {
	err = s.Records.Read(ctx, func(tx *records.Tx) error {
		d, err := s.visible(tx, by, id)
		if err != nil {
			return err
		}
		r = d.request
		r.Actions, err = d.actions()
		return err
	})
	return r, err
}

// Log is the log of a request, the oldest line first. Error: ErrUnknown.
func (s *Service) Log(ctx context.Context, by Actor, id int64) (list []Line, err error) {
	err = s.Records.Read(ctx, func(tx *records.Tx) error {
		if _, err := s.visible(tx, by, id); err != nil {
			return err
		}
		return tx.Each(func(scan func(...any) error) error {
			var l Line
			var at int64
			err := scan(&at, &l.Account, &l.Word, &l.Text)
			l.At = time.Unix(at, 0).UTC()
			list = append(list, l)
			return err
		}, "SELECT at, COALESCE(account, 0), state, text FROM request_log WHERE request = ? ORDER BY id", id)
	})
	return list, err
}

// openWords are the states in which a request waits for somebody.
const openWords = "('Edit', 'Submit', 'Approve', 'Produce', 'Accept', 'Running')"

// Page is what part of the requests is wanted, the newest first.
type Page struct {
	// Open leaves out those in which nobody can do anything but start over or revoke.
	Open bool
	// Before is the row that the page ends before, 0 for the newest.
	Before int64
	// Most is how many there are at most; 0 for 100.
	Most int
}

// List are the requests that an actor may see: their own, and those that they have a
// role for.
func (s *Service) List(ctx context.Context, by Actor, p Page) (list []Request, err error) {
	if p.Most <= 0 || p.Most > 1000 {
		p.Most = 100
	}
	if p.Before == 0 {
		p.Before = 1<<63 - 1
	}
	err = s.Records.Read(ctx, func(tx *records.Tx) error {
		roles, err := rolesOf(tx, by)
		if err != nil {
			return err
		}
		query, values := "SELECT "+requestColumns+" FROM requests WHERE id < ?1", []any{p.Before}
		if !slices.ContainsFunc(officers(), func(o account.Role) bool { return roles.in(o, 0) }) {
			// Each part has an index; an OR would go through all requests.
			query += ` AND id IN (SELECT id FROM requests WHERE account = ?2 UNION ALL
				SELECT id FROM requests WHERE subject IN (SELECT subject FROM roles WHERE account = ?2 AND role <> ?3))`
			values = append(values, by.Account, string(account.Subscriber))
		}
		if p.Open {
			query += " AND state IN " + openWords
		}
		err = tx.Each(func(scan func(...any) error) error {
			r, err := scanRequest(scan)
			list = append(list, r)
			return err
		}, query+fmt.Sprintf(" ORDER BY id DESC LIMIT %d", p.Most), values...)
		for i := range list {
			if err == nil {
				d := &deed{s: s, tx: tx, by: by, request: list[i], roles: roles}
				list[i].Actions, err = d.actions()
			}
		}
		return err
	})
	return list, err
}
