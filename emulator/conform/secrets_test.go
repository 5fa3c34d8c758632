package conform_test

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/conform"
)

// Of a card in a reader no secret is guessed.
func TestTestSecrets(t *testing.T) {
	t.Parallel()
	pin, so := []byte("648219"), []byte("57621880")
	require.Equal(t, "3537363231383830", hex.EncodeToString(so), "the SO-PIN of everybody's documentation")
	for _, c := range []struct {
		inReader, destructive, isNew bool
		want                         conform.Vars
	}{
		{want: conform.Vars{"pin": pin, "so-pin": so}},
		{inReader: true, isNew: true, want: conform.Vars{}},
		{inReader: true, destructive: true, isNew: true, want: conform.Vars{"pin": pin}},
	} {
		vars, isNew := conform.TestSecrets(c.inReader, c.destructive)
		require.Equal(t, c.want, vars)
		require.Equal(t, c.isNew, isNew)
	}
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
