// Package records keeps what a portal knows in one folder: an SQLite database of
// relations, and beside it a file with the key that encrypts the secret columns,
// which can be sealed as cards are. One process has a folder at a time.
//
//	s, err := records.Open("portal", records.Options{Now: time.Now})
//	defer s.Close()
//	err = s.Write(ctx, func(tx *records.Tx) error {
//		if _, err := tx.Exec("UPDATE issuers SET ready = 0 WHERE position = ?", 1); err != nil {
//			return err
//		}
//		return tx.Audit(records.Event{Action: "issuer off", Object: "1"})
//	})
//
// A Write is on disk when it returns nil, and has not happened if it returns an
// error. What the columns mean stands in the migrations.
package records

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"hsmemu/emulator/portal"
	"hsmemu/emulator/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Names of the files in a folder. SQLite makes two more beside the database while it
// is open.
const (
	fileDatabase = "records.db"
	fileKey      = "key"
)

// Errors of this package. Others are those of package store and of SQLite.
var (
	// ErrVersion says that a newer program wrote the database.
	ErrVersion = errors.New("records of a newer version")
	// ErrSealed says that the folder is sealed in another way than was asked for.
	ErrSealed = errors.New("the records are sealed already")
	// ErrDamaged says that the database does not hold what was written into it, or
	// lies beside the key of another one.
	ErrDamaged = errors.New("damaged records")
)

// Options say how records are kept. Without others, the key is unsealed and the
// randomness that of the system. A clock is needed.
type Options struct {
	// Key says how the file with the key is sealed.
	Key store.Options
	// Seal is the kind of seal that the file has to have, also if it is there already;
	// empty for any.
	Seal string
	// Rand is where the key, nonces and names come from.
	Rand io.Reader
	// Now is the clock.
	Now func() time.Time
	// Existing refuses, with fs.ErrNotExist, a folder in which no records were begun.
	Existing bool
}

// Store is a folder of records that this process has.
type Store struct {
	options Options
	key     *store.File[columnKey]
	aead    cipher.AEAD
	// read has several connections, and write one, so that writers queue here and
	// not in SQLite, which would give up after a while.
	read, write *sql.DB
	// reading and writing are taken by whoever has one of the connections, in the order
	// of their coming: package sql would give the next one to anybody who waits.
	reading, writing chan struct{}
}

// columnKey is the content of the key file.
type columnKey struct {
	// Key is for XChaCha20-Poly1305, 32 bytes.
	Key []byte `json:"key"`
}

// Open opens the records in a folder, or begins new ones there with an authority of
// one device issuer. Errors: those of package store for the key file
// (*store.LockedError while another process has the folder), ErrVersion, ErrDamaged,
// and those of SQLite.
func Open(folder string, o Options) (*Store, error) {
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	s := &Store{options: o, reading: make(chan struct{}, readers), writing: make(chan struct{}, 1)}
	if err := s.open(folder); err != nil {
		return nil, fmt.Errorf("open the portal's records: %w", errors.Join(err, s.Close()))
	}
	return s, nil
}

func (s *Store) open(folder string) error {
	database := filepath.Join(folder, fileDatabase)
	if s.options.Existing {
		if _, err := os.Stat(database); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	var err error
	if s.key, err = openKey(filepath.Join(folder, fileKey), database, s.options); err != nil {
		return err
	}
	held, err := s.key.Load()
	if err != nil {
		return err
	}
	if s.aead, err = chacha20poly1305.NewX(held.Key); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	// SQLite makes its other files with the permissions of this one.
	f, err := os.OpenFile(database, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if s.write, err = connect(database, true); err != nil {
		return err
	}
	if err := s.migrate(); err != nil {
		return err
	}
	if s.read, err = connect(database, false); err != nil {
		return err
	}
	return s.begin()
}

// openKey takes the key file, or makes one where there is no database either.
func openKey(path, database string, o Options) (*store.File[columnKey], error) {
	if info, err := store.Inspect(path, o.Key); err == nil && o.Seal != "" && info.Seal != o.Seal {
		return nil, fmt.Errorf("%w: by %s, and not by %s", ErrSealed, info.Seal, o.Seal)
	}
	f, err := store.Open[columnKey](path, o.Key)
	if !errors.Is(err, store.ErrNotExist) {
		return f, err
	}
	if _, there := os.Lstat(database); !errors.Is(there, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w, which the records need", ErrDamaged, err)
	}
	k := columnKey{Key: make([]byte, chacha20poly1305.KeySize)}
	if _, err := io.ReadFull(o.Rand, k.Key); err != nil {
		return nil, err
	}
	return store.Create(path, k, o.Key)
}

// readers is how many transactions read at a time.
const readers = 8

// connect opens the database for one writer, or for several readers.
func connect(database string, write bool) (*sql.DB, error) {
	absolute, err := filepath.Abs(database)
	if err != nil {
		return nil, err
	}
	q := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "trusted_schema(0)"}}
	if write {
		q.Set("_txlock", "immediate")
	} else {
		q.Add("_pragma", "query_only(1)")
	}
	name := url.URL{Scheme: "file", Path: filepath.ToSlash(absolute), RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, err
	}
	n := readers
	if write {
		n = 1
	}
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db, nil
}

// unread is why the database cannot be read: it is damaged, or all is well with it, and
// there is no room on the disk, say.
func unread(err error) error {
	var failed *sqlite.Error
	if errors.As(err, &failed) {
		switch failed.Code() & 0xFF { // without what is special about it
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		default:
			return fmt.Errorf("read the records: %w", err)
		}
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// migrate brings the database to the newest schema, one migration after the other.
func (s *Store) migrate() error {
	var damage string
	switch err := s.write.QueryRow("PRAGMA quick_check(1)").Scan(&damage); {
	case err != nil:
		return unread(err)
	case damage != "ok":
		return fmt.Errorf("%w: %s", ErrDamaged, damage)
	}
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	var version int
	if err := s.write.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return unread(err)
	}
	if version > len(files) {
		return fmt.Errorf("%w: %d, where %d is known", ErrVersion, version, len(files))
	}
	for n := version; n < len(files); n++ {
		text, err := migrations.ReadFile(files[n])
		if err != nil {
			return err
		}
		err = s.Write(context.Background(), func(tx *Tx) error {
			_, err := tx.Exec(string(text) + fmt.Sprintf("\nPRAGMA user_version = %d;", n+1))
			return err
		})
		if err != nil {
			return fmt.Errorf("migration %d: %w", n+1, err)
		}
	}
	return nil
}

// begin makes the authority of new records, and checks that of old ones.
func (s *Store) begin() error {
	l := s.Ledger()
	books, err := l.Load("")
	if err == nil && len(books.Authority.Issuers) == 0 {
		return l.Change("", func(b *portal.Books) (err error) {
			b.Authority, err = portal.NewAuthority(s.options.Rand, s.options.Now())
			return err
		})
	}
	if err == nil {
		err = books.Authority.Check()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// Now is the clock of the records.
func (s *Store) Now() time.Time { return s.options.Now() }

// Rand is the randomness of the records.
func (s *Store) Rand() io.Reader { return s.options.Rand }

// Close ends the use of the folder, and lets other processes have it.
func (s *Store) Close() error {
	var failed []error
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			failed = append(failed, db.Close())
		}
	}
	if s.key != nil {
		failed = append(failed, s.key.Close())
	}
	return errors.Join(failed...)
}
