package lesson

import (
	"errors"
	"fmt"
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
	require.NoError(t, os.Mkdir(to, 0o700))
	source, err := os.OpenRoot(from)
	require.NoError(t, err)
	target, err := os.OpenRoot(to)
	require.NoError(t, err)
	unkept, err := copyTree(source, target)
	require.NoError(t, errors.Join(err, source.Close(), target.Close()))
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

// Folders in one that is shut are copied, and shut again, for users who are not root, too.
func TestTree_ShutInShut(t *testing.T) {
	from, to := tree(t, "from"), tree(t, "to")
	for i := range 8 { // whichever is shut first
		name := fmt.Sprint(i)
		require.NoError(t, errors.Join(from.MkdirAll(name+"/in/it", 0o700), from.Chmod(name+"/in", 0), from.Chmod(name, 0)))
	}
	_, err := copyTree(from, to)
	require.NoError(t, err)
	for _, root := range []*os.Root{from, to} {
		for i := range 8 {
			info, err := root.Lstat(fmt.Sprint(i))
			require.NoError(t, err)
			require.Zero(t, info.Mode().Perm())
		}
		require.NoError(t, removeTree(root.Name()))
		require.NoDirExists(t, root.Name())
	}
}

// A link that somebody puts into a folder while it is filled or emptied does not lead out of it.
func TestTree_LeadsNowhere(t *testing.T) {
	from, to, outside := tree(t, "from"), tree(t, "to"), tree(t, "outside")
	require.NoError(t, from.Mkdir("folder", 0o700))
	require.NoError(t, from.WriteFile("folder/file", []byte("new"), 0o600))
	require.NoError(t, outside.WriteFile("file", []byte("precious"), 0o600))
	require.NoError(t, to.Symlink(outside.Name(), "folder"))
	_, err := copyTree(from, to)
	require.Error(t, err)
	require.NoError(t, clearFolder(to, nil))
	require.NoError(t, os.Symlink(outside.Name(), filepath.Join(to.Name(), "folder")))
	require.NoError(t, removeIn(to, "folder"))
	require.NoError(t, os.Symlink(outside.Name(), filepath.Join(to.Name(), "folder")))
	require.NoError(t, removeTree(filepath.Join(to.Name(), "folder")))
	require.NoError(t, os.Symlink(outside.Name(), filepath.Join(to.Name(), "folder")))
	require.Error(t, makePipe(to, "folder/pipe", 0o600))
	text, err := outside.ReadFile("file")
	require.NoError(t, err)
	require.Equal(t, "precious", string(text))
	left, err := os.ReadDir(outside.Name())
	require.NoError(t, err)
	require.Len(t, left, 1)
}

// tree is an empty folder of its own.
func tree(t *testing.T, name string) *os.Root {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.Mkdir(dir, 0o700))
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, root.Close()) })
	return root
}
