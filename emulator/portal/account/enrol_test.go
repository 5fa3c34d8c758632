package account_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
)

// waiting begins a session with a device that waits for its registration.
func (s *site) waiting(t testing.TB, serial int) string {
	t.Helper()
	cookie, got := s.loggedIn(t, manufacture(t, "4.1", serial))
	require.Equal(t, account.DeviceAuthenticated, got.State)
	return cookie
}

// Of the identifiers of a session only hashes are kept, and the code only in a form
// that nobody reads without the key of the records.
func TestSession_NothingToStealFromTheRecords(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	cookie := s.waiting(t, 50)
	raw, err := base64.RawURLEncoding.DecodeString(cookie)
	require.NoError(t, err)
	require.Len(t, raw, 32)
	require.Len(t, account.RAMID(cookie), 64)
	require.NoError(t, s.Enrol(t.Context(), cookie, "a@example.org", everySource))
	code := s.code(t)
	for _, secret := range []string{cookie, string(raw), account.RAMID(cookie), "CODE " + code} {
		s.requireNowhere(t, []byte(secret))
	}
	require.NoError(t, s.store.Read(t.Context(), func(tx *records.Tx) error {
		var n int
		require.NoError(t, tx.QueryRow("SELECT COUNT(*) FROM codes WHERE instr(hex(code_hash), hex(?)) > 0", code).Scan(&n))
		require.Zero(t, n)
		return nil
	}))
	other, _, err := s.Begin(t.Context(), everySource)
	require.NoError(t, err)
	require.NotEqual(t, cookie, other)
}

// A session ends when it is not used for a while, and at its end however much it is.
func TestSession_Ends(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{Idle: time.Hour, Whole: 150 * time.Minute})
	cookie := s.begin(t)
	ends := day.Add(time.Hour)
	require.Equal(t, ends, s.session(t, cookie).Expires)
	s.wait(30 * time.Second)
	require.Equal(t, ends, s.session(t, cookie).Expires, "not every page is a write")
	s.wait(59 * time.Minute)
	require.Equal(t, day.Add(119*time.Minute+30*time.Second), s.session(t, cookie).Expires)
	require.True(t, s.Known(account.RAMID(cookie)))
	s.wait(59 * time.Minute)
	require.Equal(t, day.Add(150*time.Minute), s.session(t, cookie).Expires)
	s.wait(31*time.Minute + 30*time.Second)
	_, err := s.Session(t.Context(), cookie)
	require.ErrorIs(t, err, account.ErrNoSession)
	require.False(t, s.Known(account.RAMID(cookie)))

	idle := s.begin(t)
	s.wait(time.Hour)
	_, err = s.Session(t.Context(), idle)
	require.ErrorIs(t, err, account.ErrNoSession)
	n, err := s.Sweep(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
}

func TestSession_ManyFromOneSource(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{Limits: account.Limits{Sessions: account.Rate{N: 3, Per: time.Minute}}})
	for range 3 {
		s.begin(t)
	}
	_, _, err := s.Begin(t.Context(), everySource)
	require.EqualError(t, err, "begin a session: too many attempts: sessions")
	_, _, err = s.Begin(t.Context(), "192.0.2.2")
	require.NoError(t, err)
	s.wait(time.Minute)
	s.begin(t)
}

// What nobody needs any more goes: a device that nobody registered, too.
func TestSweep(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	cookie := s.waiting(t, 51)
	require.NoError(t, s.Enrol(t.Context(), cookie, "a@example.org", everySource))
	count := func(table string) (n int) {
		require.NoError(t, s.store.Read(t.Context(), func(tx *records.Tx) error {
			return tx.QueryRow("SELECT COUNT(*) FROM " + table).Scan(&n)
		}))
		return n
	}
	_, err := s.Sweep(t.Context())
	require.NoError(t, err)
	require.Equal(t, []int{1, 1, 1}, []int{count("sessions"), count("codes"), count("tokens")})
	require.NotZero(t, count("attempts"))
	s.registered(t, manufacture(t, "4.1", 52), "b@example.org")
	s.wait(24 * time.Hour)
	_, err = s.Sweep(t.Context())
	require.NoError(t, err)
	require.Equal(t, []int{0, 0, 1, 0}, []int{count("sessions"), count("codes"), count("tokens"), count("attempts")})
}

// Three wrong codes, and the registration has failed; a new code begins another.
func TestActivate_ThreeTries(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	cookie := s.waiting(t, 53)
	try := func(code string, want error) {
		t.Helper()
		_, err := s.Activate(t.Context(), cookie, code)
		require.ErrorIs(t, err, want)
	}
	try("123456", account.ErrNoCode)
	require.NoError(t, s.Enrol(t.Context(), cookie, "a@example.org", everySource))
	right, wrong := s.code(t), s.notCode(t)
	for _, none := range []string{"", "12345", "1234567", "12345a", "-12345", "１２３４５６"} {
		try(none, account.ErrCode) // cannot be a code, and costs nothing
	}
	for range 3 {
		require.Equal(t, "a@example.org", s.session(t, cookie).CodeSent)
		try(wrong, account.ErrCode)
	}
	try(right, account.ErrNoCode)
	require.Empty(t, s.session(t, cookie).CodeSent)
	require.Equal(t, account.DeviceAuthenticated, s.session(t, cookie).State)
	require.Equal(t, "0 tries left", s.events(t, 1)[0].Detail)
	_, err := s.AccountByEmail(t.Context(), "a@example.org")
	require.ErrorIs(t, err, account.ErrNoAccount)

	require.NoError(t, s.Enrol(t.Context(), cookie, "a@example.org", everySource))
	try(s.notCode(t), account.ErrCode)
	got, err := s.Activate(t.Context(), cookie, " "+s.code(t)[:3]+" "+s.code(t)[3:]+"\n")
	require.NoError(t, err)
	require.Equal(t, account.LoggedIn, got.State)
	try(s.code(t), account.ErrNotRegistering)
}

// A hundred who try codes at the same time have three tries together.
func TestActivate_AtTheSameTime(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	cookie := s.waiting(t, 54)
	require.NoError(t, s.Enrol(t.Context(), cookie, "a@example.org", everySource))
	wrong := s.notCode(t)
	errs := make(chan error, 100)
	for range cap(errs) {
		go func() {
			_, err := s.Activate(context.WithoutCancel(t.Context()), cookie, wrong)
			errs <- err
		}()
	}
	got := map[error]int{}
	for range cap(errs) {
		got[<-errs]++
	}
	require.Equal(t, map[error]int{account.ErrCode: 3, account.ErrNoCode: 97}, got)
}

// A code is for one session, one token and one address, and for a quarter of an hour.
func TestActivate_OtherCodes(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	one, other := s.waiting(t, 55), s.waiting(t, 56)
	require.NoError(t, s.Enrol(t.Context(), one, "a@example.org", everySource))
	first := s.code(t)
	_, err := s.Activate(t.Context(), other, first)
	require.ErrorIs(t, err, account.ErrNoCode)
	require.NoError(t, s.Enrol(t.Context(), one, "b@example.org", everySource))
	if first != s.code(t) {
		_, err = s.Activate(t.Context(), one, first)
		require.ErrorIs(t, err, account.ErrCode, "a new code ends the one before")
	}
	second := s.code(t)
	s.wait(15 * time.Minute)
	_, err = s.Activate(t.Context(), one, second)
	require.ErrorIs(t, err, account.ErrNoCode)
	require.NoError(t, s.Enrol(t.Context(), one, "b@example.org", everySource))
	third := s.code(t)
	next, got, err := s.Renew(t.Context(), one)
	require.NoError(t, err)
	require.Equal(t, "b@example.org", got.CodeSent)
	require.False(t, got.Renewed, "before the log-in a new cookie is worth nothing")
	_, err = s.Activate(t.Context(), next, third)
	require.NoError(t, err)

	// Logging out ends it.
	require.NoError(t, s.Enrol(t.Context(), other, "c@example.org", everySource))
	require.NoError(t, s.Logout(t.Context(), other))
	_, err = s.Activate(t.Context(), other, s.code(t))
	require.ErrorIs(t, err, account.ErrNoSession)
	// And who is anonymous registers nothing.
	require.ErrorIs(t, s.Enrol(t.Context(), s.begin(t), "d@example.org", everySource), account.ErrNotRegistering)
}

// Codes are digits of which none is rarer than another.
func TestEnrol_CodesAreRandom(t *testing.T) {
	t.Parallel()
	many := account.Rate{N: 10_000, Per: time.Hour}
	s := open(t, account.Options{Limits: account.Limits{CodesOfToken: many, CodesOfAddress: many, CodesOfSource: many}})
	cookie := s.waiting(t, 57)
	digits := map[rune]int{}
	seen := map[string]bool{}
	for range 200 {
		require.NoError(t, s.Enrol(t.Context(), cookie, "a@example.org", everySource))
		code := s.code(t)
		require.Regexp(t, regexp.MustCompile(`^\d{6}$`), code)
		seen[code] = true
		for _, d := range code {
			digits[d]++
		}
	}
	require.Greater(t, len(seen), 195)
	for d, n := range digits {
		require.InDelta(t, 120, n, 70, string(d)) // more than six standard deviations
	}
}

// The limits for codes: for a token, for an address, and for a source.
func TestEnrol_Limits(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{Limits: account.Limits{
		CodesOfToken: account.Rate{N: 2, Per: time.Hour}, CodesOfAddress: account.Rate{N: 3, Per: time.Hour}, CodesOfSource: account.Rate{N: 5, Per: time.Hour},
	}})
	enrol := func(cookie, email, source, want string) {
		t.Helper()
		err := s.Enrol(t.Context(), cookie, email, source)
		if want == "" {
			require.NoError(t, err)
			return
		}
		require.ErrorAs(t, err, new(*account.RateError))
		require.EqualError(t, err, "too many attempts: activation codes "+want)
	}
	one, two, three := s.waiting(t, 58), s.waiting(t, 59), s.waiting(t, 60)
	enrol(one, "a@example.org", "192.0.2.1", "")
	enrol(one, "a@example.org", "192.0.2.1", "")
	enrol(one, "b@example.org", "192.0.2.9", "for this token")
	enrol(two, "A@example.org", "192.0.2.1", "")
	enrol(two, "a@EXAMPLE.org", "192.0.2.9", "for this address")
	enrol(two, "b@example.org", "192.0.2.1", "")
	enrol(three, "c@example.org", "192.0.2.1", "")
	enrol(three, "d@example.org", "192.0.2.1", "from there")
	enrol(three, "d@example.org", "192.0.2.9", "")
	box, err := s.LocalOutbox(t.Context(), 100)
	require.NoError(t, err)
	require.Len(t, box, 6, "what is refused is not mailed")
	s.wait(29 * time.Minute)
	enrol(one, "e@example.org", "192.0.2.8", "for this token")

	// Whoever logs in again with the token does not begin from nothing.
	again := s.waiting(t, 58)
	enrol(again, "e@example.org", "192.0.2.8", "for this token")
	s.wait(31 * time.Minute)
	again = s.waiting(t, 58)
	enrol(again, "e@example.org", "192.0.2.8", "")
}

// The first account has every role, and the others are subscribers: also if several
// come first.
func TestEnrol_TheFirstAccount(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	const n = 4
	var wg sync.WaitGroup
	var mu sync.Mutex
	roles := map[int]int{}
	for i := range n {
		cookie := s.waiting(t, 61+i)
		require.NoError(t, s.Enrol(t.Context(), cookie, fmt.Sprintf("u%d@example.org", i), everySource))
		code := s.code(t)
		wg.Go(func() {
			got, err := s.Activate(context.WithoutCancel(t.Context()), cookie, code)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			roles[len(got.Account.Grants)]++
			if len(got.Account.Grants) == 1 && !got.Account.Has(account.Subscriber, 0) {
				t.Error("no subscriber")
			}
		})
	}
	wg.Wait()
	require.Equal(t, map[int]int{6: 1, 1: n - 1}, roles)
}

// Several tokens for one account, and nobody learns who has one: PORTAL-13.
func TestEnrol_AFurtherToken(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	_, owner := s.registered(t, manufacture(t, "4.1", 66), "a@example.org")
	known, unknown := s.waiting(t, 67), s.waiting(t, 68)
	require.NoError(t, s.Enrol(t.Context(), known, "a@example.org", everySource))
	ofKnown := s.code(t)
	require.NoError(t, s.Enrol(t.Context(), unknown, "b@example.org", everySource))
	box, err := s.LocalOutbox(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, box[0].Subject, box[1].Subject)
	strip := func(m account.Mail) string {
		return codeLine.ReplaceAllString(strings.ReplaceAll(m.Body, "DENK9700068", "DENK9700067"), "")
	}
	require.Equal(t, strip(box[0]), strip(box[1]))
	got, err := s.Activate(t.Context(), known, ofKnown)
	require.NoError(t, err)
	require.Equal(t, owner.Account.ID, got.Account.ID)
	require.NotEqual(t, owner.Token.ID, got.Token.ID)
	list, err := s.Tokens(t.Context(), got.Account.ID)
	require.NoError(t, err)
	require.Contains(t, list, got.Token)
}

// Where nobody enrols himself, a trust center does, and the person registers a token
// for the account that there is.
func TestEnrol_ByATrustCenter(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	_, admin := s.registered(t, manufacture(t, "4.1", 70), "admin@example.org")
	center, err := s.CreateTrustCenter(t.Context(), admin.Actor(), "Trust center", false)
	require.NoError(t, err)
	closed := account.New(s.store, account.Options{NoEnrolment: true})

	cookie := s.waiting(t, 71)
	require.NoError(t, closed.Enrol(t.Context(), cookie, "p@example.org", everySource))
	code := s.code(t)
	_, err = closed.Activate(t.Context(), cookie, code)
	require.ErrorIs(t, err, account.ErrEnrolment)
	person, err := closed.EnrolPerson(t.Context(), admin.Actor(), center.ID, "P@example.org")
	require.NoError(t, err)
	require.Equal(t, account.Person, person.Kind)
	again, err := closed.EnrolPerson(t.Context(), admin.Actor(), center.ID, "p@example.org")
	require.NoError(t, err)
	require.Equal(t, person, again)
	got, err := closed.Activate(t.Context(), cookie, code)
	require.NoError(t, err)
	require.Equal(t, person.Account, got.Account.ID)
	require.Len(t, got.Account.Grants, 1)

	_, err = closed.EnrolPerson(t.Context(), got.Actor(), center.ID, "q@example.org")
	require.ErrorIs(t, err, account.ErrForbidden)
	_, err = closed.EnrolPerson(t.Context(), admin.Actor(), person.ID, "q@example.org")
	require.ErrorIs(t, err, account.ErrNoSubject)
	_, err = closed.EnrolPerson(t.Context(), admin.Actor(), center.ID, "nobody")
	require.ErrorIs(t, err, account.ErrAddress)
}

// Tokens of an account: listed, removed by their owner alone, and the last one not
// by chance. Whoever is logged in with one that goes is logged in no more.
func TestToken_Remove(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	lost, kept, others := manufacture(t, "4.1", 72), manufacture(t, "4.1", 73), manufacture(t, "4.1", 74)
	first, one := s.registered(t, lost, "a@example.org")
	second, two := s.registered(t, kept, "a@example.org")
	_, three := s.registered(t, others, "b@example.org")
	remove := func(by account.Session, token account.Token, last bool) error {
		return s.RemoveToken(t.Context(), by.Actor(), token.ID, last)
	}
	require.ErrorIs(t, remove(three, one.Token, true), account.ErrNoToken)
	require.ErrorIs(t, remove(account.Session{}, one.Token, true), account.ErrNoToken)
	require.NoError(t, remove(two, one.Token, false))
	require.ErrorIs(t, remove(two, one.Token, false), account.ErrNoToken)
	_, err := s.Session(t.Context(), first)
	require.ErrorIs(t, err, account.ErrNoSession)
	require.Equal(t, account.LoggedIn, s.session(t, second).State)
	require.ErrorIs(t, remove(two, two.Token, false), account.ErrLastToken)
	list, err := s.Tokens(t.Context(), one.Account.ID)
	require.NoError(t, err)
	require.Equal(t, []account.Token{two.Token}, list)

	// A token that was removed is registered like a new one, for whomever.
	_, again := s.registered(t, lost, "c@example.org")
	require.NotEqual(t, one.Account.ID, again.Account.ID)
	require.NotEqual(t, one.Token.ID, again.Token.ID)
	require.NoError(t, remove(two, two.Token, true))
	_, got := s.loggedIn(t, kept)
	require.Equal(t, account.DeviceAuthenticated, got.State)
}

// Two sessions that register one token for two accounts: the first has it.
func TestToken_TwoAccountsAtOnce(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	c := manufacture(t, "4.1", 75)
	one, _ := s.loggedIn(t, c)
	two, _ := s.loggedIn(t, c)
	three, _ := s.loggedIn(t, c)
	require.NoError(t, s.Enrol(t.Context(), one, "a@example.org", everySource))
	_, err := s.Activate(t.Context(), one, s.code(t))
	require.NoError(t, err)
	require.NoError(t, s.Enrol(t.Context(), two, "b@example.org", everySource))
	_, err = s.Activate(t.Context(), two, s.code(t))
	require.ErrorIs(t, err, account.ErrTaken)
	_, err = s.AccountByEmail(t.Context(), "b@example.org")
	require.ErrorIs(t, err, account.ErrNoAccount, "nothing of it stays")
	require.NoError(t, s.Enrol(t.Context(), three, "a@example.org", everySource))
	got, err := s.Activate(t.Context(), three, s.code(t))
	require.NoError(t, err)
	require.Equal(t, s.session(t, one).Account, got.Account)
}

// Every change stands in the audit log, with who made it and with which card.
func TestAudit(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	cookie, got := s.registered(t, manufacture(t, "4.1", 76), "a@example.org")
	center, err := s.CreateTrustCenter(t.Context(), got.Actor(), "Trust center", true)
	require.NoError(t, err)
	officer := account.Grant{Account: got.Account.ID, Role: account.RegistrationOfficer, Subject: center.ID}
	require.NoError(t, s.Grant(t.Context(), got.Actor(), officer))
	require.NoError(t, s.Grant(t.Context(), got.Actor(), officer)) // changes nothing
	require.NoError(t, s.Revoke(t.Context(), got.Actor(), officer))
	require.NoError(t, s.SetPreferences(t.Context(), got.Actor(), account.Preferences{Security: true}))
	require.NoError(t, s.RemoveToken(t.Context(), got.Actor(), got.Token.ID, true))
	_, err = s.Session(t.Context(), cookie)
	require.ErrorIs(t, err, account.ErrNoSession)
	var lines []string
	for _, e := range s.events(t, 20) {
		require.Equal(t, got.Token.Path, e.Token)
		lines = append(lines, fmt.Sprintf("%d %s, %s, %s", e.Account, e.Action, e.Object, e.Detail))
	}
	require.Equal(t, []string{
		"1 remove token, /UTSRCAEM1/UTDICAEM01/DENK9700076, ",
		"1 notification preferences, , requests false, security true",
		"1 revoke role, a@example.org, Registration Officer of Trust center",
		"1 grant role, a@example.org, Registration Officer of Trust center",
		"1 create trust center, Trust center, private",
		"1 register token, /UTSRCAEM1/UTDICAEM01/DENK9700076, ",
		"1 account made, a@example.org, ",
		"0 activation code sent, a@example.org, ",
		"0 device authenticated, , ",
	}, lines)
}
