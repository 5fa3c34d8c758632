package keystore_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore"
)

// Refused before ten million iterations are spent.
func TestOpenShare_RefusesOtherFiles(t *testing.T) {
	t.Parallel()
	good := unhex(t, denkShare1)
	for name, file := range map[string][]byte{
		"nothing":   nil,
		"short":     good[:63],
		"long":      append(bytes.Clone(good), 0),
		"unsalted":  bytes.Replace(good, []byte("Salted__"), []byte("salted__"), 1),
		"raw share": unhex(t, denkDKEK),
	} {
		_, err := keystore.OpenShare(file, []byte("passwordpassword"))
		require.ErrorIs(t, err, keystore.ErrShare, name)
	}
}

func TestOpenShare_WrongPassword(t *testing.T) {
	t.Parallel()
	_, err := keystore.OpenShare(unhex(t, denkShare1), []byte("passwordpassworD"))
	require.ErrorIs(t, err, keystore.ErrShare)
}
