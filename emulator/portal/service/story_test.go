package service_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/service"
	"hsmemu/emulator/ram"
)

// The thread's story, with a real log-in over RAM: a card has keys and its SO-PIN is
// blocked. Its owner logs in with another one for the first time, asks for an update of
// the "Current token in reader", plugs the first one and takes it into use again. Then
// the first one is registered, and updated when it connects next.
func TestStory(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store, err := records.Open(filepath.Join(t.TempDir(), "portal"), records.Options{Now: time.Now})
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	accounts := account.New(store, account.Options{})
	s, err := service.Open(ctx, service.Config{Records: store, Sessions: service.Accounts(accounts)})
	require.NoError(t, err)
	server := &ram.Server{Services: map[string]ram.Service{"paas": s.Serve}, Known: accounts.Known}
	h := httptest.NewServer(server)
	defer h.Close()
	defer func() { require.NoError(t, server.Close()) }()
	connect := func(card *chiptest.Card, cookie string) (last ram.Notice) {
		t.Helper()
		at := h.URL + "/rt/paas"
		if cookie != "" {
			at += "/" + account.RAMID(cookie)
		}
		require.NoError(t, (&ram.Agent{Card: card, Notice: func(n ram.Notice) { last = n }}).Run(ctx, at))
		return last
	}
	login := func(card *chiptest.Card) { // as ram-client -p does
		c, _ := selected(t, card)
		require.NoError(t, c.VerifyPIN(ctx, client.UserPIN, userPIN))
	}
	blocked, other := situation{firmware: "4.1", keys: true, so: 15}.card(t, "blocked"), situation{firmware: "4.0", keys: true}.card(t, "other")

	cookie, _, err := accounts.Begin(ctx, "127.0.0.1")
	require.NoError(t, err)
	login(other)
	connect(other, cookie)
	require.NoError(t, accounts.Enrol(ctx, cookie, "alice@example.org", "127.0.0.1"))
	box, err := accounts.LocalOutbox(ctx, 1)
	require.NoError(t, err)
	session, err := accounts.Activate(ctx, cookie, regexp.MustCompile(`\b\d{6}\b`).FindString(box[0].Body))
	require.NoError(t, err)
	alice := session.Actor()
	require.NoError(t, accounts.SetPreferences(ctx, alice, account.Preferences{Requests: true, Security: true}))

	r, err := s.Start(ctx, alice, service.FirmwareUpdate, service.Data{})
	require.NoError(t, err)
	_, err = s.Do(ctx, alice, r.ID, service.DoSubmit, service.Data{})
	require.NoError(t, err)
	require.Equal(t, 100, connect(blocked, cookie).Number)
	r, err = s.Get(ctx, alice, r.ID)
	require.NoError(t, err)
	require.Equal(t, service.Completed, r.Word)

	initialise(t, blocked, false, 0, 0)
	second, _, err := accounts.Begin(ctx, "127.0.0.1")
	require.NoError(t, err)
	login(blocked)
	connect(blocked, second)
	require.NoError(t, accounts.Enrol(ctx, second, "alice@example.org", "127.0.0.1"))
	box, err = accounts.LocalOutbox(ctx, 1)
	require.NoError(t, err)
	_, err = accounts.Activate(ctx, second, regexp.MustCompile(`\b\d{6}\b`).FindString(box[0].Body))
	require.NoError(t, err)
	tokens, err := accounts.Tokens(ctx, alice.Account)
	require.NoError(t, err)
	require.Len(t, tokens, 2)
	// Keys of the other one are removed, so that it can be updated without a blocked SO-PIN.
	initialise(t, other, false, 0, 0)
	for _, token := range tokens {
		if token.Firmware == "4.0" {
			r, err = s.Start(ctx, alice, service.FirmwareUpdate, service.Data{Token: token.ID})
			require.NoError(t, err)
		}
	}
	require.NotZero(t, r.Data.Token)
	_, err = s.Do(ctx, alice, r.ID, service.DoSubmit, service.Data{})
	require.NoError(t, err)
	require.Equal(t, ram.Notice{Text: "Nothing to do"}, connect(blocked, ""))
	require.Equal(t, 100, connect(other, "").Number)
	tokens, err = accounts.Tokens(ctx, alice.Account)
	require.NoError(t, err)
	status := map[account.Status]int{}
	for _, token := range tokens {
		status[token.Status]++
	}
	require.Equal(t, map[account.Status]int{"active": 1, "superseded": 1}, status)
	box, err = accounts.LocalOutbox(ctx, 1)
	require.NoError(t, err)
	require.Equal(t, "Token superseded", box[0].Subject)
	require.Contains(t, box[0].Body, "It has a new identity, which has to be registered.")
	last, _, err := accounts.Begin(ctx, "127.0.0.1")
	require.NoError(t, err)
	initialise(t, other, false, 0, 0)
	login(other)
	connect(other, last)
	session, err = accounts.Session(ctx, last)
	require.NoError(t, err)
	require.Equal(t, account.DeviceAuthenticated, session.State, "nobody knows it")
}

// Several cards of one person are updated at once, each by a request of its own.
func TestInReader_AtOnce(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice := w.person(t, "alice@example.org")
	const n = 5
	var group sync.WaitGroup
	for i := range n {
		w.submitted(t, alice, service.FirmwareUpdate, service.Data{})
		r := &reader{Card: situation{firmware: "4.0"}.card(t, string(rune('a'+i)))}
		group.Go(func() {
			done, err := w.InReader(context.Background(), r, alice)
			if !done || err != nil || r.Durable().Firmware != "4.1" {
				t.Errorf("card %d: done %t: %v", i, done, err)
			}
		})
	}
	group.Wait()
	require.Equal(t, n, w.count(t, "SELECT COUNT(DISTINCT chip) FROM requests WHERE state = 'Completed'"))
	require.Equal(t, n, w.count(t, "SELECT COUNT(*) FROM updates")+w.count(t, "SELECT COUNT(*) FROM chips"))
}

// A client that comes back in the same session finds no connection of its own in the
// way.
func TestServe_ComesBackAtOnce(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice := w.person(t, "alice@example.org")
	w.sessions.users["alice"] = alice
	s := &ram.Server{Services: map[string]ram.Service{"paas": w.Serve}, Known: func(session string) bool { return session == "alice" }}
	h := httptest.NewServer(s)
	defer h.Close()
	defer func() { require.NoError(t, s.Close()) }()
	request := w.submitted(t, alice, service.FirmwareUpdate, service.Data{})
	r := &reader{Card: situation{firmware: "4.0"}.card(t, "back")}
	for _, at := range []int{20, 60, 100} {
		ctx, cut := context.WithCancelCause(t.Context())
		r.each = func() {
			if r.sent == at {
				cut(errPulled) // of the network
			}
		}
		err := (&ram.Agent{Card: r}).Run(ctx, h.URL+"/rt/paas/alice")
		require.True(t, errors.Is(err, context.Canceled), err)
		r.sent = 0
	}
	r.each = nil
	require.NoError(t, (&ram.Agent{Card: r}).Run(t.Context(), h.URL+"/rt/paas/alice"))
	w.get(t, alice, request.ID, service.Completed)
}

// What fails inside the portal stays there: a person at a card, and whoever reads the
// log, hears no more of it than that.
func TestInside(t *testing.T) {
	t.Parallel()
	w, err := openFolder(filepath.Join(t.TempDir(), "portal"))
	require.NoError(t, err)
	alice := w.person(t, "alice@example.org")
	w.submitted(t, alice, service.FirmwareUpdate, service.Data{})
	r := &reader{Card: situation{firmware: "4.0"}.card(t, "inside")}
	r.each = func() {
		if r.sent == 100 {
			require.NoError(t, w.store.Close())
		}
	}
	_, err = w.InReader(context.Background(), r, alice)
	require.Error(t, err)
	require.Equal(t, "The portal could not record it", r.notices[len(r.notices)-2].Text)
	require.Equal(t, -1, r.last().Number)
}

// Nobody fills the records with requests that wait.
func TestStart_TooMany(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice := w.person(t, "alice@example.org")
	var last service.Request
	for range 100 {
		r, err := w.Start(t.Context(), alice, service.FirmwareUpdate, service.Data{})
		require.NoError(t, err)
		last = r
	}
	_, err := w.Start(t.Context(), alice, service.FirmwareUpdate, service.Data{})
	require.ErrorIs(t, err, service.ErrTooMany)
	_, err = w.Do(t.Context(), alice, last.ID, service.DoCancel, service.Data{})
	require.NoError(t, err)
	_, err = w.Do(t.Context(), alice, last.ID, service.DoStartOver, service.Data{})
	require.NoError(t, err)
	_, err = w.Do(t.Context(), alice, last.ID, service.DoStartOver, service.Data{})
	require.ErrorIs(t, err, service.ErrTooMany)
}
