package lesson

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// What somebody has taken from himself to read and to change is copied and removed, too.
func TestTree_Shut(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	require.NoError(t, os.MkdirAll(filepath.Join(from, "a", "b"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(from, "a", "b", "c"), []byte("x"), 0o000))
	require.NoError(t, os.Chmod(filepath.Join(from, "a", "b"), 0o000))
	require.NoError(t, os.Chmod(filepath.Join(from, "a"), 0o500))
	unkept, err := copyTree(from, to)
	require.NoError(t, err)
	require.Empty(t, unkept)
	for _, folder := range []string{from, to} {
		for name, mode := range map[string]fs.FileMode{"a": 0o500, "a/b": 0, "a/b/c": 0} {
			if name == "a/b/c" {
				require.NoError(t, os.Chmod(filepath.Join(folder, "a", "b"), 0o700))
			}
			info, err := os.Stat(filepath.Join(folder, name))
			require.NoError(t, err)
			require.Equal(t, mode, info.Mode().Perm(), name)
			if name == "a/b/c" {
				require.NoError(t, os.Chmod(filepath.Join(folder, "a", "b"), 0))
			}
		}
		require.NoError(t, removeTree(folder))
		require.NoDirExists(t, folder)
	}
}
