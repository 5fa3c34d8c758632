package records_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/cvc"
	"hsmemu/emulator/portal"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

var day = time.Date(2026, time.November, 23, 12, 0, 0, 0, time.UTC)

func open(t testing.TB, folder string) *records.Store {
	s, err := records.Open(folder, records.Options{Now: func() time.Time { return day }})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// What an update writes is there when the folder is opened again, to the last field,
// and every caller sees whole changes.
func TestLedger(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "portal")
	s, err := records.Open(folder, records.Options{Now: func() time.Time { return day }})
	require.NoError(t, err)
	l := s.Ledger()
	device := func(n int, superseded bool) portal.Device {
		return portal.Device{Name: cvc.Name(fmt.Sprintf("DENK99%05d00000", n)), Path: fmt.Sprintf("/ROOT/ISSUER/DENK99%05d", n), Key: []byte{4, byte(n)}, Firmware: portal.Version{Major: 4, Minor: byte(n)}, Superseded: superseded}
	}
	record := portal.Record{
		Blocked: 3, Devices: []portal.Device{device(0, true), device(1, false)},
		Running: &portal.Running{Old: device(1, false), To: portal.Version{Major: 4, Minor: 2}, Blocked: true, Issuer: "UTDICAEM0212345", Name: device(2, false).Name, Certificate: []byte{1, 2}},
	}
	require.NoError(t, l.Change("0011", func(b *portal.Books) error {
		given, err := b.Given(record.Running.Name)
		require.NoError(t, err)
		require.False(t, given)
		b.Chip, b.Authority.Issuers[0].Licences = record, 7
		return b.Authority.AddIssuer(rand.Reader, day)
	}))
	stop := errors.New("stop")
	require.ErrorIs(t, l.Change("0011", func(b *portal.Books) error { b.Chip = portal.Record{}; return stop }), stop)
	before, err := l.Load("0011")
	require.NoError(t, err)
	require.Equal(t, record, before.Chip)
	require.True(t, before.Waiting)
	require.NoError(t, s.Close())

	s = open(t, folder)
	after, err := s.Ledger().Load("0011")
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.Equal(t, 7, after.Authority.Issuers[0].Licences)
	require.Len(t, after.Authority.Issuers, 2)
	other, err := s.Ledger().Load("0012")
	require.NoError(t, err)
	require.Equal(t, portal.Record{}, other.Chip)
	require.Error(t, s.Ledger().Change("0012", func(b *portal.Books) error { b.Chip.Running = record.Running; return nil }), "a name that another chip's update has")
	still, err := s.Ledger().Load("0011")
	require.NoError(t, err)
	require.Equal(t, record, still.Chip)
	// A name stays given when its update is over, and two chips do not get one name.
	require.NoError(t, s.Ledger().Change("0011", func(b *portal.Books) error { b.Chip.Running = nil; return nil }))
	require.NoError(t, s.Ledger().Change("0012", func(b *portal.Books) error {
		given, err := b.Given(record.Running.Name)
		require.NoError(t, err)
		require.True(t, given)
		require.False(t, b.Waiting)
		return nil
	}))
	require.Error(t, s.Ledger().Change("0011", func(b *portal.Books) error { b.Chip.Blocked = 6; return nil }), "S24")
}

// A folder is private, of one process, and its secrets are readable with its key
// alone.
func TestOpen(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "portal")
	word := func() ([]byte, error) { return []byte("a word"), nil }
	sealed := records.Options{Now: func() time.Time { return day }, Key: store.Options{Sealers: []seal.Sealer{seal.Passphrase{Ask: word}}}}
	s, err := records.Open(folder, sealed)
	require.NoError(t, err)
	books, err := s.Ledger().Load("")
	require.NoError(t, err)
	secret := books.Authority.Issuers[0].Key
	_, err = records.Open(folder, sealed)
	require.ErrorAs(t, err, new(*store.LockedError))
	for _, name := range []string{"records.db", "records.db-wal", "key"} {
		path := filepath.Join(folder, name)
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NotContains(t, string(content), string(secret))
		if info, err := os.Stat(path); runtime.GOOS != "windows" {
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), name)
		}
	}
	require.NoError(t, s.Write(t.Context(), func(tx *records.Tx) error {
		hidden, err := tx.Seal("table.column 1", []byte("hidden"))
		require.NoError(t, err)
		_, err = tx.Open("table.column 2", hidden)
		require.ErrorIs(t, err, records.ErrDamaged)
		plain, err := tx.Open("table.column 1", hidden)
		require.NoError(t, err)
		require.Equal(t, "hidden", string(plain))
		_, err = tx.Open("table.column 1", hidden[:5])
		require.ErrorIs(t, err, records.ErrDamaged)
		return nil
	}))
	require.NoError(t, s.Close())
	_, err = records.Open(folder, records.Options{Now: sealed.Now})
	require.ErrorIs(t, err, store.ErrSealed)
	_, err = records.Open(folder, records.Options{Now: sealed.Now, Key: sealed.Key, Seal: seal.KindNone})
	require.ErrorIs(t, err, records.ErrSealed)
	sealed.Key.Sealers = []seal.Sealer{seal.Passphrase{Ask: func() ([]byte, error) { return []byte("another"), nil }}}
	_, err = records.Open(folder, sealed)
	require.ErrorIs(t, err, seal.ErrPassphrase)

	// The key of another folder, and none.
	open(t, filepath.Join(folder, "2"))
	for _, name := range []string{"key"} {
		content, err := os.ReadFile(filepath.Join(folder, "2", name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), content, 0o600))
	}
	_, err = records.Open(folder, records.Options{Now: sealed.Now})
	require.ErrorIs(t, err, records.ErrDamaged)
	require.NoError(t, os.Remove(filepath.Join(folder, "key")))
	_, err = records.Open(folder, records.Options{Now: sealed.Now})
	require.ErrorIs(t, err, records.ErrDamaged)
	require.NoFileExists(t, filepath.Join(folder, "key"))
}

// Records of a newer program and bytes that are no records are refused, and stay.
func TestOpen_Refuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(db *sql.DB, path string) error
		want  error
	}{
		{"newer", func(db *sql.DB, _ string) error { _, err := db.Exec("PRAGMA user_version = 1000"); return err }, records.ErrVersion},
		{"not SQLite", func(_ *sql.DB, path string) error { return os.WriteFile(path, []byte("{}"), 0o600) }, records.ErrDamaged},
		{"cut", func(_ *sql.DB, path string) error { return os.Truncate(path, 30000) }, records.ErrDamaged},
		{"a licence too few", func(db *sql.DB, _ string) error {
			_, err := db.Exec("PRAGMA ignore_check_constraints = 1; UPDATE issuers SET licences = -1")
			return err
		}, records.ErrDamaged},
		{"an issuer with another's key", func(db *sql.DB, _ string) error {
			_, err := db.Exec("UPDATE issuers SET key_sealed = x'00'")
			return err
		}, records.ErrDamaged},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			s, err := records.Open(folder, records.Options{Now: func() time.Time { return day }})
			require.NoError(t, err)
			require.NoError(t, s.Close())
			path := filepath.Join(folder, "records.db")
			db, err := sql.Open("sqlite", path)
			require.NoError(t, err)
			require.NoError(t, c.spoil(db, path))
			require.NoError(t, db.Close())
			before, err := os.ReadFile(path)
			require.NoError(t, err)
			_, err = records.Open(folder, records.Options{Now: func() time.Time { return day }})
			require.ErrorIs(t, err, c.want)
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, before, after)
		})
	}
}

// What is wrong with the disk is no damage of the records.
func TestOpen_TheDiskFails(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	o := records.Options{Now: func() time.Time { return day }}
	s, err := records.Open(folder, o)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	journal := filepath.Join(folder, "records.db-wal")
	require.NoError(t, os.Mkdir(journal, 0o700))
	_, err = records.Open(folder, o)
	require.ErrorContains(t, err, "read the records: unable to open database file")
	require.NotErrorIs(t, err, records.ErrDamaged)
	require.NoError(t, os.Remove(journal))
	s, err = records.Open(folder, o)
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

// Writers come one after the other, readers see what was committed, and a reader
// cannot write.
func TestWrite_Concurrent(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	count := func(tx *records.Tx) (n int) {
		require.NoError(t, tx.QueryRow("SELECT COUNT(*) FROM audit").Scan(&n))
		return n
	}
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for range 25 {
				if n%2 == 0 {
					_ = s.Read(t.Context(), func(tx *records.Tx) error {
						if before := count(tx); count(tx) != before {
							t.Error("a reader saw two states")
						}
						return nil
					})
				}
				if err := s.Write(t.Context(), func(tx *records.Tx) error {
					before := count(tx)
					if err := tx.Audit(records.Event{Action: "write", Detail: strings.Repeat("x", before)}); err != nil {
						return err
					}
					if count(tx) != before+1 {
						return errors.New("another wrote in between")
					}
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	require.Error(t, s.Read(t.Context(), func(tx *records.Tx) error { return tx.Audit(records.Event{Action: "read"}) }))
	require.Panics(t, func() {
		_ = s.Write(t.Context(), func(tx *records.Tx) error {
			require.NoError(t, tx.Audit(records.Event{Action: "panic"}))
			panic("at once")
		})
	})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Write(gone, func(*records.Tx) error { return nil }), context.Canceled)
	require.NoError(t, s.Write(t.Context(), func(tx *records.Tx) error {
		require.Equal(t, 200, count(tx))
		list, err := tx.Events(1)
		require.NoError(t, err)
		require.Equal(t, []records.Event{{At: day, Action: "write", Detail: strings.Repeat("x", 199)}}, list)
		for _, change := range []string{"UPDATE audit SET action = ''", "DELETE FROM audit"} {
			_, err := tx.Exec(change)
			require.ErrorContains(t, err, "the audit log is not changed")
		}
		return nil
	}))
}

// What is asked at every page, log-in and step goes through no whole table that grows
// with the accounts.
func TestOpen_Indexes(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	for _, query := range []string{
		"SELECT * FROM requests WHERE account = 1",
		"SELECT * FROM requests WHERE subject IN (1, 2)",
		"SELECT * FROM requests WHERE state = 'Running' AND chip = 'x'",
		"SELECT * FROM requests WHERE state = 'Submit' AND token IN (SELECT id FROM tokens WHERE path = 'x' AND status = 'active')",
		"SELECT * FROM request_log WHERE request = 1",
		"SELECT * FROM certificates WHERE request = 1",
		"SELECT * FROM certificates WHERE serial = x'01' AND certificate = x'30' AND revoked IS NOT NULL",
		"SELECT * FROM subjects WHERE kind = 'person' AND account = 1 ORDER BY name COLLATE NOCASE",
		"SELECT * FROM certificates WHERE authority = 1 AND revoked IS NOT NULL",
		"SELECT * FROM authorities WHERE COALESCE(subject, 0) = 1",
		"SELECT * FROM tokens WHERE path = 'x' AND public_key = x'04' AND status = 'superseded'",
		"SELECT * FROM tokens WHERE account = 1 AND status <> 'removed'",
		"SELECT * FROM devices WHERE path = 'x' AND superseded = 1",
		"SELECT * FROM accounts WHERE email = 'x'",
		"SELECT * FROM subjects WHERE kind = 'person' AND name = 'x' COLLATE NOCASE",
		"SELECT * FROM roles WHERE account = 1",
		"SELECT * FROM roles WHERE COALESCE(subject, 0) = 1",
		"SELECT * FROM sessions WHERE ram_hash = x'00' AND expires > 1",
		"DELETE FROM sessions WHERE expires <= 1",
		"DELETE FROM attempts WHERE at <= 1",
		"SELECT * FROM codes WHERE purpose = 'x' AND subject = 'x'",
		"SELECT * FROM mails WHERE sent IS NULL AND due <= 1 ORDER BY due",
		"SELECT * FROM names WHERE name = 'x'",
	} {
		require.NoError(t, s.Write(t.Context(), func(tx *records.Tx) error {
			return tx.Each(func(scan func(...any) error) error {
				var id, parent, unused int
				var detail string
				err := scan(&id, &parent, &unused, &detail)
				require.NotContains(t, detail, "SCAN", query)
				return err
			}, "EXPLAIN QUERY PLAN "+query)
		}))
	}
}
