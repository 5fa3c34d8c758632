package records

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"time"
)

// Tx is a transaction. It is for the function that it was given to, and for no
// goroutine beside that.
type Tx struct {
	ctx   context.Context // of the one call that a transaction lives in
	tx    *sql.Tx
	store *Store
}

// Read has f read one state of the records. What f changes is an error.
func (s *Store) Read(ctx context.Context, f func(*Tx) error) error {
	return s.within(ctx, s.read, s.reading, f, (*sql.Tx).Rollback)
}

// Write has f change the records, one caller after the other, and returns nil when
// the change is on disk. With an error, f's or its own, nothing is changed.
func (s *Store) Write(ctx context.Context, f func(*Tx) error) error {
	return s.within(ctx, s.write, s.writing, f, (*sql.Tx).Commit)
}

// within runs f in a transaction that end ends if f returns nil, when it is its turn.
func (s *Store) within(ctx context.Context, db *sql.DB, turn chan struct{}, f func(*Tx) error, end func(*sql.Tx) error) error {
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: db == s.read})
	if err != nil {
		return err
	}
	// Also where f panics; after a commit it does nothing.
	defer func() { _ = tx.Rollback() }()
	if err := f(&Tx{ctx: ctx, tx: tx, store: s}); err != nil {
		return err
	}
	return end(tx)
}

// Exec executes a statement. Values stand for the question marks in it.
func (t *Tx) Exec(query string, values ...any) (sql.Result, error) {
	return t.tx.ExecContext(t.ctx, query, values...)
}

// Insert executes an INSERT and returns the identifier of the new row.
func (t *Tx) Insert(query string, values ...any) (int64, error) {
	r, err := t.Exec(query, values...)
	if err != nil {
		return 0, err
	}
	return r.LastInsertId()
}

// QueryRow queries one row. Its Scan returns [sql.ErrNoRows] if there is none.
func (t *Tx) QueryRow(query string, values ...any) *sql.Row {
	return t.tx.QueryRowContext(t.ctx, query, values...)
}

// Each calls f for every row of a query; f scans it.
func (t *Tx) Each(f func(scan func(...any) error) error, query string, values ...any) (err error) {
	rows, err := t.tx.QueryContext(t.ctx, query, values...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Now is the clock of the records, in whole seconds as columns have it.
func (t *Tx) Now() time.Time { return t.store.Now().Truncate(time.Second) }

// Seal encrypts a secret for a column. The place says which table, column and row it
// is for, and has to be said again to open it.
func (t *Tx) Seal(place string, secret []byte) ([]byte, error) {
	nonce := make([]byte, t.store.aead.NonceSize(), t.store.aead.NonceSize()+len(secret)+t.store.aead.Overhead())
	if _, err := io.ReadFull(t.store.options.Rand, nonce); err != nil {
		return nil, err
	}
	return t.store.aead.Seal(nonce, nonce, secret, []byte(place)), nil
}

// Open decrypts what Seal made for the same place. Error: ErrDamaged.
func (t *Tx) Open(place string, sealed []byte) ([]byte, error) {
	n := t.store.aead.NonceSize()
	if len(sealed) < n {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrDamaged, place, len(sealed))
	}
	secret, err := t.store.aead.Open(nil, sealed[:n], sealed[n:], []byte(place))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, place, err)
	}
	return secret, nil
}

// Event is a line of the audit log: who did what with which card.
type Event struct {
	// At is set by the log.
	At time.Time
	// Account is 0 for nobody who is logged in, and Token the path of the card, if
	// there is one.
	Account int64
	Token   string
	// Action is what was done, to Object, with words for people in Detail. No secret
	// may be in them.
	Action, Object, Detail string
}

// Audit adds a line to the audit log, which is never changed.
func (t *Tx) Audit(e Event) error {
	var account any
	if e.Account != 0 {
		account = e.Account
	}
	_, err := t.Exec("INSERT INTO audit (at, account, token, action, object, detail) VALUES (?, ?, NULLIF(?, ''), ?, ?, ?)",
		t.Now().Unix(), account, e.Token, e.Action, e.Object, e.Detail)
	return err
}

// Events are the last lines of the audit log, at most n, the newest first.
func (t *Tx) Events(n int) (list []Event, err error) {
	err = t.Each(func(scan func(...any) error) error {
		var e Event
		var at int64
		if err := scan(&at, &e.Account, &e.Token, &e.Action, &e.Object, &e.Detail); err != nil {
			return err
		}
		e.At = time.Unix(at, 0).UTC()
		list = append(list, e)
		return nil
	}, "SELECT at, COALESCE(account, 0), COALESCE(token, ''), action, object, detail FROM audit ORDER BY id DESC LIMIT ?", n)
	return list, err
}
