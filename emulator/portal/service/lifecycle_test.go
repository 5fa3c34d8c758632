package service_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/service"
)

var (
	types   = []service.Type{service.FirmwareUpdate, service.Certificate, service.DevNet, service.TrustCenter, service.Production, service.RevocationList}
	words   = []service.Word{service.Edit, service.Submit, service.Approve, service.Produce, service.Accept, service.Running, service.Completed, service.Rejected, service.Cancelled, service.Revoked}
	actions = []service.Action{service.DoSave, service.DoSubmit, service.DoCancel, service.DoApprove, service.DoReject, service.DoIssue, service.DoAccept, service.DoRevoke, service.DoStartOver}
)

// Every state of every type can be reached, and but for the ends something can be done
// in it; every type has a name for the menu.
func TestSteps(t *testing.T) {
	t.Parallel()
	for _, kind := range types {
		require.NotEmpty(t, kind.Title())
		reached := map[service.Word]bool{service.Edit: true}
		for range words {
			for _, s := range service.Steps() {
				if s.Type == kind && reached[s.From] {
					reached[s.To] = true
				}
			}
			if reached[service.Submit] { // the portal's own steps
				reached[service.Running], reached[service.Completed] = true, true
			}
		}
		for _, s := range service.Steps() {
			if s.Type == kind {
				require.True(t, reached[s.From], "%s: %s in %s", kind, s.Action, s.From)
				require.NotEmpty(t, s.Text)
			}
		}
	}
	require.Equal(t, "Update firmware", service.FirmwareUpdate.Title())
}

// Nobody can do anything that the table does not have for them: every action in every
// state by everybody, at the portal and in a trust center of somebody else.
func TestDo_EveryActionByEverybody(t *testing.T) {
	t.Parallel()
	w := open(t)
	owner := w.person(t, "owner@example.org")
	people := map[account.Role]service.Actor{account.Subscriber: owner}
	for _, r := range account.TrustCenterRoles() {
		people[r] = w.person(t, string(r[:2])+"@example.org")
	}
	stranger := w.person(t, "stranger@example.org")
	elsewhere := w.person(t, "elsewhere@example.org")
	made := w.submitted(t, stranger, service.TrustCenter, service.Data{Name: "Acme"})
	other := w.submitted(t, stranger, service.TrustCenter, service.Data{Name: "Other"})
	w.write(t, func(tx *records.Tx) error {
		for r, who := range people {
			if r != account.Subscriber {
				if _, err := tx.Exec("INSERT INTO roles (account, role, subject) VALUES (?, ?, ?)", who.Account, string(r), made.Data.Center); err != nil {
					return err
				}
			}
			if _, err := tx.Exec("INSERT OR IGNORE INTO roles (account, role, subject) VALUES (?, ?, ?)", elsewhere.Account, string(r), other.Data.Center); err != nil {
				return err
			}
		}
		_, err := tx.Exec("DELETE FROM roles WHERE account = ? AND subject IS NOT NULL", stranger.Account)
		return err
	})
	tried, allowed := 0, 0
	for _, kind := range types {
		for _, word := range words {
			var id int64
			w.write(t, func(tx *records.Tx) (err error) {
				id, err = tx.Insert("INSERT INTO requests (type, state, account, subject, created, changed) VALUES (?, ?, ?, ?, 0, 0)",
					string(kind), string(word), owner.Account, made.Data.Center)
				return err
			})
			for role, who := range people {
				r, err := w.Get(t.Context(), who, id)
				require.NoError(t, err)
				var may []service.Action
				for _, s := range service.Steps() {
					if s.Type == kind && s.From == word && s.Who == role && !slices.Contains(may, s.Action) {
						may = append(may, s.Action)
					}
				}
				require.Equal(t, may, r.Actions, "%s in %s by %s", kind, word, role)
				for _, a := range actions {
					tried++
					if slices.Contains(may, a) {
						allowed++
						continue
					}
					_, err := w.Do(t.Context(), who, id, a, service.Data{})
					require.ErrorIs(t, err, service.ErrNotAllowed, "%s of %s in %s by %s", a, kind, word, role)
				}
			}
			for _, who := range []service.Actor{stranger, elsewhere, {}} {
				_, err := w.Get(t.Context(), who, id)
				require.ErrorIs(t, err, service.ErrUnknown)
				_, err = w.Log(t.Context(), who, id)
				require.ErrorIs(t, err, service.ErrUnknown)
				for _, a := range actions {
					_, err := w.Do(t.Context(), who, id, a, service.Data{})
					require.ErrorIs(t, err, service.ErrUnknown)
				}
			}
			require.Equal(t, 1, w.count(t, "SELECT COUNT(*) FROM requests WHERE id = ? AND state = ?", id, string(word)))
		}
	}
	require.Equal(t, 6*10*5*9, tried)
	require.Greater(t, allowed, 30)
	list, err := w.List(t.Context(), stranger, service.Page{})
	require.NoError(t, err)
	require.Len(t, list, 2)
	list, err = w.List(t.Context(), people[account.Operator], service.Page{})
	require.NoError(t, err)
	require.Len(t, list, 61, "those of the trust center, and how it was made")
	list, err = w.List(t.Context(), owner, service.Page{Open: true, Most: 5})
	require.NoError(t, err)
	require.Len(t, list, 5)
	next, err := w.List(t.Context(), owner, service.Page{Open: true, Before: list[4].ID})
	require.NoError(t, err)
	require.Len(t, next, 6*6-5)
	require.Less(t, next[0].ID, list[4].ID)
}

// A form is saved as it is, found again, and kept out of other people's hands.
func TestStart(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice := w.person(t, "alice@example.org")
	r, err := w.Start(t.Context(), alice, service.Certificate, service.Data{CommonName: "first"})
	require.NoError(t, err)
	require.Equal(t, []service.Action{service.DoSave, service.DoSubmit, service.DoCancel}, r.Actions)
	r, err = w.Do(t.Context(), alice, r.ID, service.DoSave, service.Data{CommonName: "second", Hosts: []string{"a", "b"}})
	require.NoError(t, err)
	require.Equal(t, service.Data{CommonName: "second", Hosts: []string{"a", "b"}}, r.Data)
	_, err = w.Do(t.Context(), alice, r.ID, service.DoSave, service.Data{CommonName: string(make([]byte, 70000))})
	require.ErrorIs(t, err, service.ErrData)
	for want, f := range map[error]func() error{
		service.ErrNotAllowed: func() error {
			_, err := w.Start(t.Context(), service.Actor{}, service.DevNet, service.Data{})
			return err
		},
		service.ErrUnknown: func() error { _, err := w.Start(t.Context(), alice, "Fly", service.Data{}); return err },
	} {
		require.ErrorIs(t, f(), want)
	}
	_, err = w.Start(t.Context(), alice, service.Certificate, service.Data{Center: 99})
	require.ErrorIs(t, err, service.ErrUnknown)
	_, err = w.Start(t.Context(), alice, service.FirmwareUpdate, service.Data{Token: 99})
	require.ErrorIs(t, err, service.ErrUnknown)
	require.Equal(t, 1, w.count(t, "SELECT COUNT(*) FROM requests"))
	require.Equal(t, []string{"Request started (Edit)", "Request saved (Edit)"}, w.log(t, alice, r.ID))
	require.Equal(t, 2, w.count(t, "SELECT COUNT(*) FROM audit WHERE action = 'service request' AND account = ? AND token = ?", alice.Account, alice.Token))
}

// A listener hears everything in its order, and one that does not listen is dropped
// without holding up anybody.
func TestWatch(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice := w.person(t, "alice@example.org")
	r := w.submitted(t, alice, service.FirmwareUpdate, service.Data{})
	quick, stop := w.Watch(r.ID)
	slow, stopSlow := w.Watch(r.ID)
	other, stopOther := w.Watch(r.ID + 1)
	var heard []service.Progress
	listen := func() {
		for len(quick) > 0 {
			heard = append(heard, <-quick)
		}
	}
	_, err := w.InReader(context.Background(), &reader{Card: situation{firmware: "4.0"}.card(t, "watched"), each: listen}, alice)
	require.NoError(t, err)
	listen()
	stop()
	stop()
	percent := -1
	for _, p := range heard {
		require.Equal(t, r.ID, p.Request)
		require.GreaterOrEqual(t, p.Percent, percent)
		percent = p.Percent
	}
	require.Equal(t, 100, percent)
	require.Equal(t, service.Completed, heard[len(heard)-1].Word)
	require.Greater(t, len(heard), service.Room)
	n := 0
	for range slow { // closed
		n++
	}
	require.Equal(t, service.Room, n)
	stopSlow()
	select {
	case p, open := <-other:
		require.False(t, open, p)
		t.Fatal("nobody closes it")
	default:
	}
	stopOther()
	_, open := <-other
	require.False(t, open)
}
