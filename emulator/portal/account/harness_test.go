package account_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/ram"
	"hsmemu/pinstate"
)

var day = time.Date(2026, time.November, 23, 12, 0, 0, 0, time.UTC)

var (
	userPIN = []byte("648219")
	soPIN   = []byte("57621880")
)

// clock is the time at a portal.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) wait(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// site is a portal that serves cards on loopback.
type site struct {
	*account.Accounts
	*clock
	store  *records.Store
	folder string
	url    string
	ram    *ram.Server
	ended  chan error // what Login returned
}

// everySource is where browsers are in tests that are not about that.
const everySource = "192.0.2.1"

func open(t testing.TB, o account.Options) *site {
	t.Helper()
	s := &site{clock: &clock{now: day}, folder: t.TempDir(), ended: make(chan error, 1<<16)}
	var err error
	s.store, err = records.Open(s.folder, records.Options{Now: s.Now})
	require.NoError(t, err)
	s.Accounts = account.New(s.store, o)
	s.ram = &ram.Server{
		Services: map[string]ram.Service{"paas": s.Login}, Known: s.Known, Limit: 1 << 16, LimitOfSource: 1 << 16,
		Ended: func(_ string, _ *ram.Session, err error) { s.ended <- err },
	}
	h := httptest.NewServer(s.ram)
	s.url = h.URL
	t.Cleanup(func() {
		require.NoError(t, s.ram.Close())
		h.Close()
		require.NoError(t, s.store.Close())
	})
	return s
}

func (s *site) begin(t testing.TB) string {
	t.Helper()
	cookie, got, err := s.Begin(t.Context(), everySource)
	require.NoError(t, err)
	require.Equal(t, account.Anonymous, got.State)
	return cookie
}

func (s *site) session(t testing.TB, cookie string) account.Session {
	t.Helper()
	got, err := s.Session(t.Context(), cookie)
	require.NoError(t, err)
	return got
}

// card is what a client beside a card connects.
type card interface {
	ATR() []byte
	Reset() error
	Transmit(ctx context.Context, command []byte) ([]byte, error)
}

// connect has a card connect at the URL of a session. It returns what was said at the
// card, how the client ended, and what Login returned.
func (s *site) connect(t testing.TB, c card, id string) (said []ram.Notice, ended, served error) {
	t.Helper()
	ended = (&ram.Agent{Card: c, Notice: func(n ram.Notice) { said = append(said, n) }}).Run(t.Context(), s.url+"/rt/paas/"+id)
	return said, ended, <-s.ended
}

// loggedIn begins a session and has a card log in to it.
func (s *site) loggedIn(t testing.TB, c card) (string, account.Session) {
	t.Helper()
	cookie := s.begin(t)
	_, ended, served := s.connect(t, c, account.RAMID(cookie))
	require.NoError(t, served)
	require.NoError(t, ended)
	return cookie, s.session(t, cookie)
}

// registered registers a card for an address, and returns its session.
func (s *site) registered(t testing.TB, c card, email string) (string, account.Session) {
	t.Helper()
	cookie, got := s.loggedIn(t, c)
	require.Equal(t, account.DeviceAuthenticated, got.State)
	require.NoError(t, s.Enrol(t.Context(), cookie, email, everySource))
	got, err := s.Activate(t.Context(), cookie, s.code(t))
	require.NoError(t, err)
	require.Equal(t, account.LoggedIn, got.State)
	return cookie, got
}

var codeLine = regexp.MustCompile(`ACTIVATION CODE (\d{6})\n`)

// code is the one in the last mail.
func (s *site) code(t testing.TB) string {
	t.Helper()
	box, err := s.LocalOutbox(t.Context(), 1)
	require.NoError(t, err)
	require.Len(t, box, 1)
	found := codeLine.FindStringSubmatch(box[0].Body)
	require.NotNil(t, found, box[0].Body)
	return found[1]
}

// notCode is a code that is wrong.
func (s *site) notCode(t testing.TB) string {
	return map[bool]string{true: "000001", false: "000000"}[s.code(t) == "000000"]
}

func (s *site) events(t testing.TB, n int) []records.Event {
	t.Helper()
	var list []records.Event
	require.NoError(t, s.store.Read(t.Context(), func(tx *records.Tx) (err error) {
		list, err = tx.Events(n)
		return err
	}))
	return list
}

// requireNowhere fails if bytes are in a file of the records.
func (s *site) requireNowhere(t testing.TB, secret []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.folder, "*"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, name := range files {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		require.False(t, bytes.Contains(content, secret), name)
	}
}

// make makes a card with a serial number, initialised, whose user is logged in.
func manufacture(t testing.TB, firmware string, serial int) *chiptest.Card {
	t.Helper()
	env := chiptest.World(fmt.Sprint("login ", firmware, " ", serial))
	d, err := chip.Manufacture(env, chip.Order{Firmware: firmware, Serial: fmt.Sprintf("DENK97%05d", serial)})
	require.NoError(t, err)
	c := &chiptest.Card{Name: fmt.Sprint(serial), Env: env, State: chip.Boot(d)}
	host := client.New(c)
	_, err = host.Select(t.Context())
	require.NoError(t, err)
	require.NoError(t, host.Initialise(t.Context(), client.Setup{Options: pinstate.OptionResetEnabled, SOPIN: soPIN, PIN: userPIN, Tries: 3}))
	return c
}

// login presents the user PIN at the card, as ram-client -p does.
func login(t testing.TB, c *chiptest.Card) {
	t.Helper()
	require.NoError(t, client.New(c).Login(t.Context(), userPIN))
}

var errPulled = errors.New("the card was pulled")

// reader has a card in it, and counts what is sent to it.
type reader struct {
	*chiptest.Card
	sent [][]byte
	// at is the number of the command, from 1 on, that gets no answer, or from which
	// on swap is in the reader.
	at   int
	swap *chiptest.Card
	// lie, if it is there, changes answers.
	lie func(n int, command apdu.Command, answer []byte) []byte
}

func (r *reader) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	r.sent = append(r.sent, bytes.Clone(command))
	switch {
	case len(r.sent) != r.at:
	case r.swap != nil:
		r.Card = r.swap
	default:
		return nil, errPulled
	}
	answer, err := r.Card.Transmit(ctx, command)
	if err == nil && r.lie != nil {
		c, _ := apdu.Parse(command)
		answer = r.lie(len(r.sent), c, answer)
	}
	return answer, err
}
