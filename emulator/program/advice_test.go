//go:build linux

package program_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/program"
)

// Who starts a tool that is not installed is told its package, and who forgets where a
// program is that it is here.
func TestStartError_Advice(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("here", nil, 0o600))
	require.NoError(t, os.Mkdir("folder", 0o700))
	for _, c := range []struct{ name, given, want string }{
		{"pkcs11-tool", "", "it is in the package opensc"},
		{"p11tool", "name it", "it is in the package gnutls-bin"},
		{"nosuch", "name it", "name it"},
		{"nosuch", "", ""},
		{"here", "", "the one in this folder is ./here"},
		{"here", "name it", "name it"},
		{"./here", "", ""},
		{"folder", "", ""},
		{"", "", ""},
	} {
		require.Equal(t, c.want, (&program.StartError{Name: c.name, Absent: true}).Advice(c.given), c.name)
		require.Empty(t, (&program.StartError{Name: c.name}).Advice(c.given), c.name)
	}
}
