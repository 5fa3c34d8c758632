package account_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
)

// swept are the subjects in the outbox after a sweep, the newest first.
func (s *site) swept(t testing.TB) (subjects []string) {
	t.Helper()
	_, err := s.Sweep(t.Context())
	require.NoError(t, err)
	box, err := s.LocalOutbox(t.Context(), 100)
	require.NoError(t, err)
	for _, m := range box {
		subjects = append(subjects, m.Subject)
	}
	return subjects
}

// A mail that brings a code is there for as long as the code can be entered, and no
// longer; other mail for thirty days.
func TestSweep_Mail(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	const address, code = "a@example.org", "Activation code"
	ask := func() {
		t.Helper()
		s.wait(time.Hour)
		require.NoError(t, s.AskConfirmation(t.Context(), address, everySource))
	}
	ask()
	s.wait(14 * time.Minute)
	require.Equal(t, []string{code}, s.swept(t))
	s.wait(time.Minute)
	require.Empty(t, s.swept(t), "it is too old")

	ask()
	require.NoError(t, s.AskConfirmation(t.Context(), address, everySource))
	require.Equal(t, []string{code}, s.swept(t), "one was replaced")
	require.NoError(t, s.Confirm(t.Context(), address, s.code(t), func(*records.Tx) error { return nil }))
	require.Empty(t, s.swept(t), "it is used up")

	ask()
	wrong := s.notCode(t)
	for range 3 {
		require.Equal(t, []string{code}, s.swept(t))
		require.ErrorIs(t, s.Confirm(t.Context(), address, wrong, nil), account.ErrCode)
	}
	require.Empty(t, s.swept(t), "it has no try left")

	require.NoError(t, s.store.Write(t.Context(), func(tx *records.Tx) error {
		_, err := account.Queue(tx, account.Mail{To: address, Subject: "News", Body: "Text"})
		return err
	}))
	s.wait(30*24*time.Hour - time.Second)
	require.Equal(t, []string{"News"}, s.swept(t))
	s.wait(time.Second)
	require.Empty(t, s.swept(t))
}
