package account_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
)

// A clock that was a year ahead and is set right leaves nothing behind that waits for that
// year to pass: nobody is locked out, no session lasts until then, and mail goes out.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	s := open(t, account.Options{Limits: account.Limits{Sessions: account.Rate{N: 2, Per: time.Minute}}})
	s.wait(year)
	ahead := s.begin(t)
	s.begin(t)
	_, _, err := s.Begin(t.Context(), everySource)
	require.Error(t, err, "the limit is reached")
	require.NoError(t, s.store.Write(t.Context(), func(tx *records.Tx) error {
		_, err := account.Queue(tx, account.Mail{To: "a@example.org", Subject: "s"})
		return err
	}))

	s.wait(-2 * time.Second)
	s.session(t, ahead) // a clock that is corrected a little ends nothing

	s.wait(2*time.Second - year)
	s.begin(t)
	_, err = s.Session(t.Context(), ahead)
	require.ErrorIs(t, err, account.ErrNoSession)
	require.False(t, s.Known(account.RAMID(ahead)))
	gone, err := s.Sweep(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, gone)
	sent, err := s.Deliver(t.Context(), &sender{})
	require.NoError(t, err)
	require.Equal(t, 1, sent)
	var attempts int
	require.NoError(t, s.store.Read(t.Context(), func(tx *records.Tx) error {
		return tx.QueryRow("SELECT COUNT(*) FROM attempts").Scan(&attempts)
	}))
	require.Equal(t, 1, attempts)
}

// A session that was begun before a clock is set back lasts as long as without that.
func TestClockSetBack_Idle(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	cookie := s.begin(t)
	s.wait(20 * time.Minute)
	s.session(t, cookie)
	s.wait(-20 * time.Minute)
	s.session(t, cookie)
	s.wait(31 * time.Minute)
	_, err := s.Session(t.Context(), cookie)
	require.ErrorIs(t, err, account.ErrNoSession)
}
