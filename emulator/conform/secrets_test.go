package conform_test

import (
	"encoding/hex"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/conform"
)

// What is given is taken, and of a card in a reader no secret is guessed.
func TestOptions_TakeSecrets(t *testing.T) {
	t.Parallel()
	pin, so := "648219", "57621880"
	require.Equal(t, "3537363231383830", hex.EncodeToString([]byte(so)), "the SO-PIN of everybody's documentation")
	for _, c := range []struct {
		inReader, destructive bool
		givenPIN, givenSO     string
		wantPIN, wantSO       string // empty for none
		isNew                 bool
	}{
		{wantPIN: pin, wantSO: so},
		{destructive: true, wantPIN: pin, wantSO: so},
		{givenPIN: "1234567", wantPIN: "1234567", wantSO: so},
		{givenSO: "3132333435363738", wantPIN: pin, wantSO: "12345678"},
		{inReader: true, isNew: true},
		{inReader: true, destructive: true, isNew: true, wantPIN: pin},
		{inReader: true, givenPIN: "1234567", wantPIN: "1234567"},
		{inReader: true, givenSO: "3132333435363738", isNew: true, wantSO: "12345678"},
	} {
		give := func(text string) func() ([]byte, error) {
			if text == "" {
				return nil
			}
			return func() ([]byte, error) { return []byte(text), nil }
		}
		o := conform.Options{Destructive: c.destructive}
		require.NoError(t, o.TakeSecrets(c.inReader, give(c.givenPIN), give(c.givenSO)))
		want := conform.Vars{}
		for name, value := range map[string]string{"pin": c.wantPIN, "so-pin": c.wantSO} {
			if value != "" {
				want[name] = []byte(value)
			}
		}
		require.Equal(t, want, o.Vars, "%+v", c)
		require.Equal(t, c.isNew, o.PINIsNew, "%+v", c)
	}
	var o conform.Options
	err := o.TakeSecrets(true, nil, func() ([]byte, error) { return []byte("12345678"), nil })
	require.ErrorIs(t, err, conform.ErrSOPIN)
	require.EqualError(t, err, "read SO-PIN: it is 16 hexadecimal digits")
	none := errors.New("nobody types it")
	fails := func() ([]byte, error) { return nil, none }
	require.ErrorIs(t, o.TakeSecrets(true, fails, nil), none)
	require.ErrorIs(t, o.TakeSecrets(true, nil, fails), none)
}

func TestParseSOPIN(t *testing.T) {
	t.Parallel()
	code, err := conform.ParseSOPIN([]byte("3537363231383830"))
	require.NoError(t, err)
	require.Equal(t, "57621880", string(code))
	for _, bad := range []string{"", "57621880", "353736323138383", "35373632313838300", "353736323138383x"} {
		_, err := conform.ParseSOPIN([]byte(bad))
		require.ErrorIs(t, err, conform.ErrSOPIN, bad)
	}
}

func TestPlan_Played(t *testing.T) {
	t.Parallel()
	require.Equal(t, 2, conform.Plan{{ID: "A"}, {ID: "B", Why: "not asked for"}, {ID: "C"}}.Played())
}
