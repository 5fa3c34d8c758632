package service_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/service"
)

// BenchmarkList is a person's first page where ten thousand others have requests, and
// beside it that of an officer of one trust center and of an administrator.
func BenchmarkList(b *testing.B) {
	w := open(b)
	root := w.person(b, "root@example.org", account.Administrator)
	person, officer := w.person(b, "first@example.org"), w.person(b, "officer@example.org")
	center, err := account.New(w.store, account.Options{}).CreateTrustCenter(context.Background(), officer, "Acme", false)
	require.NoError(b, err)
	w.write(b, func(tx *records.Tx) error {
		for _, query := range []string{
			"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) INSERT INTO accounts (email, created) SELECT 'a' || i || '@example.org', 0 FROM n",
			"INSERT INTO roles (account, role) SELECT id, 'Subscriber' FROM accounts WHERE email LIKE 'a%@example.org'",
			"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4) INSERT INTO requests (type, state, account, created, changed) SELECT 'FirmwareUpdate', 'Submit', id, 0, 0 FROM accounts, n",
		} {
			if _, err := tx.Exec(query); err != nil {
				return err
			}
		}
		_, err := tx.Exec("UPDATE requests SET subject = ? WHERE id % 100 = 0", center.ID)
		return err
	})
	for _, c := range []struct {
		name string
		by   service.Actor
	}{{"person", person}, {"officer", officer}, {"administrator", root}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				list, err := w.List(b.Context(), c.by, service.Page{Open: true, Most: 20})
				require.NoError(b, err)
				require.NotEmpty(b, list)
			}
		})
	}
}
