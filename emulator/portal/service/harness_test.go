package service_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/portal"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/service"
	"hsmemu/emulator/ram"
	"hsmemu/keystore/curve"
	"hsmemu/pinstate"
)

var (
	userPIN = []byte("648219")
	soPIN   = []byte("57621880")
)

// world is a portal with its records.
type world struct {
	*service.Service
	store    *records.Store
	sessions sessions
	folder   string
}

// sessions are those of RAM: who is logged in, and how often a card came to log in.
type sessions struct {
	mu     sync.Mutex
	users  map[string]service.Actor
	logins int
}

func (s *sessions) User(_ context.Context, session string) (service.Actor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if session == "broken" {
		return service.Actor{}, errors.New("secret of the disk")
	}
	return s.users[session], nil
}

func (s *sessions) Serve(ctx context.Context, card *ram.Session) error {
	s.mu.Lock()
	s.logins++
	s.mu.Unlock()
	return card.Notify(ctx, ram.Notice{Text: "log-in"})
}

func openFolder(folder string) (*world, error) {
	store, err := records.Open(folder, records.Options{Rand: rand.Reader, Now: time.Now})
	if err != nil {
		return nil, err
	}
	w := &world{store: store, folder: folder, sessions: sessions{users: map[string]service.Actor{}}}
	w.Service, err = service.Open(context.Background(), service.Config{
		Records: store, Sessions: &w.sessions, ListURL: func(id int64) string { return fmt.Sprintf("http://localhost/se/crl/%d", id) },
	})
	return w, errors.Join(err)
}

func open(t testing.TB) *world {
	t.Helper()
	w, err := openFolder(filepath.Join(t.TempDir(), "portal"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.store.Close()) })
	return w
}

// write changes the records in a way that is another room's.
func (w *world) write(t testing.TB, f func(*records.Tx) error) {
	t.Helper()
	require.NoError(t, w.store.Write(context.Background(), f))
}

// person makes an account.
func (w *world) person(t testing.TB, email string, roles ...account.Role) service.Actor {
	t.Helper()
	by := service.Actor{Token: "/UTSRCAEM1/UTDICAEM01/DENK9900001"}
	w.write(t, func(tx *records.Tx) (err error) {
		by.Account, err = tx.Insert("INSERT INTO accounts (email, created, notify_requests, notify_security) VALUES (?, 0, 1, 1)", email)
		for _, r := range append(roles, account.Subscriber) {
			if err == nil {
				_, err = tx.Exec("INSERT INTO roles (account, role) VALUES (?, ?)", by.Account, string(r))
			}
		}
		return err
	})
	return by
}

// register registers a card with an account.
func (w *world) register(t testing.TB, by service.Actor, card *chiptest.Card) (id int64) {
	t.Helper()
	seen, err := portal.Inspect(t.Context(), card, chiptest.Seeded("x"))
	require.NoError(t, err)
	w.write(t, func(tx *records.Tx) (err error) {
		id, err = tx.Insert("INSERT INTO tokens (path, name, public_key, firmware, account, status, registered) VALUES (?, ?, ?, ?, ?, 'active', 0)",
			seen.Device.Path(), string(seen.Device.Device.CHR), seen.Key(), seen.Version().String(), by.Account)
		return err
	})
	return id
}

// submitted makes a request and submits it.
func (w *world) submitted(t testing.TB, by service.Actor, kind service.Type, form service.Data) service.Request {
	t.Helper()
	r, err := w.Start(t.Context(), by, kind, form)
	require.NoError(t, err)
	require.Equal(t, service.Edit, r.Word)
	r, err = w.Do(t.Context(), by, r.ID, service.DoSubmit, service.Data{})
	require.NoError(t, err)
	return r
}

// get is a request, which has to be in a state.
func (w *world) get(t testing.TB, by service.Actor, id int64, word service.Word) service.Request {
	t.Helper()
	r, err := w.Get(t.Context(), by, id)
	require.NoError(t, err)
	require.Equal(t, word, r.Word)
	return r
}

// log is the log of a request as users see it.
func (w *world) log(t testing.TB, by service.Actor, id int64) (texts []string) {
	t.Helper()
	lines, err := w.Log(t.Context(), by, id)
	require.NoError(t, err)
	for _, l := range lines {
		require.WithinDuration(t, time.Now(), l.At, time.Hour)
		texts = append(texts, l.String())
	}
	return texts
}

// mails are those in the outbox, opened as whoever sends them does.
func (w *world) mails(t testing.TB, to string) (subjects []string) {
	t.Helper()
	require.NoError(t, w.store.Read(context.Background(), func(tx *records.Tx) error {
		return tx.Each(func(scan func(...any) error) error {
			var s string
			err := scan(&s)
			subjects = append(subjects, s)
			return err
		}, "SELECT subject FROM mails WHERE recipient = ? ORDER BY id", to)
	}))
	return subjects
}

// count is a number from the records.
func (w *world) count(t testing.TB, query string, values ...any) (n int) {
	t.Helper()
	require.NoError(t, w.store.Read(context.Background(), func(tx *records.Tx) error { return tx.QueryRow(query, values...).Scan(&n) }))
	return n
}

var errPulled = errors.New("the card was pulled")

// reader has a card in it and shows what is told to the person before it.
type reader struct {
	*chiptest.Card
	notices []ram.Notice
	sent    int
	// at is the number of the command, from 1 on, that gets no answer: before tells
	// whether the card does not get it either. Nothing is answered from there on.
	at     int
	before bool
	gone   bool
	// each, if it is there, is called before each command.
	each func()
}

func (r *reader) Reset() error {
	if r.gone {
		return errPulled
	}
	return r.Card.Reset()
}

func (r *reader) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if r.each != nil {
		r.each()
	}
	if r.gone {
		return nil, errPulled
	}
	if r.sent++; r.sent == r.at {
		r.gone = true
		if !r.before {
			_, err := r.Card.Transmit(ctx, command)
			return nil, errors.Join(err, errPulled)
		}
		return nil, errPulled
	}
	return r.Card.Transmit(ctx, command)
}

func (r *reader) Notify(_ context.Context, n ram.Notice) error {
	if r.gone {
		return errPulled
	}
	r.notices = append(r.notices, n)
	return nil
}

// last is the last thing that the person hears.
func (r *reader) last() ram.Notice { return r.notices[len(r.notices)-1] }

// situation is what a card is in before an update.
type situation struct {
	firmware string
	keys     bool
	so, user int // wrong tries
	unused   bool
}

func (s situation) card(t testing.TB, name string) *chiptest.Card {
	t.Helper()
	card, err := chiptest.Manufacture(s.firmware, name)
	require.NoError(t, err)
	if s.unused {
		return card
	}
	initialise(t, card, s.keys, s.so, s.user)
	return card
}

// initialise takes a card into use.
func initialise(t testing.TB, card *chiptest.Card, keys bool, so, user int) {
	t.Helper()
	ctx := t.Context()
	c := client.New(card)
	_, err := c.Select(ctx)
	require.NoError(t, err)
	require.NoError(t, c.Initialise(ctx, client.Setup{Options: pinstate.OptionResetEnabled, SOPIN: soPIN, PIN: userPIN, Tries: 3}))
	if keys {
		p256, _ := curve.ByName("secp256r1")
		require.NoError(t, c.Login(ctx, userPIN))
		_, err := c.GenerateEC(ctx, 1, p256, client.KeySpec{Holder: "DENK990000000001"})
		require.NoError(t, err)
	}
	for range so {
		require.Error(t, c.VerifyPIN(ctx, client.SOPIN, []byte("00000000")))
	}
	for range user {
		require.Error(t, c.VerifyPIN(ctx, client.UserPIN, []byte("000000")))
	}
}

// blank is a chip without an application.
func blank(t testing.TB, firmware, name string) *chiptest.Card {
	t.Helper()
	d, err := chip.Manufacture(chiptest.World(name), chip.Order{Firmware: firmware, Blank: true})
	require.NoError(t, err)
	return &chiptest.Card{Name: name, Env: chiptest.World("card " + name), State: chip.Boot(d)}
}

// chipOf is the serial number of a card's chip.
func chipOf(t testing.TB, card *chiptest.Card) portal.ChipID {
	t.Helper()
	seen, err := portal.Inspect(t.Context(), card, chiptest.Seeded("x"))
	require.NoError(t, err)
	return seen.Chip
}
