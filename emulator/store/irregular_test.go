//go:build unix

package store_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/store"
)

// What is no file of bytes is refused at once, by whatever reads it, and can be
// removed. Opening the pipe would wait for ever: nobody writes into it.
func TestRead_RefusesWhatIsNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(pipe, link))
	for _, path := range []string{pipe, link, dir, "/dev/zero"} {
		_, err := store.Inspect(path, store.Options{})
		require.ErrorIs(t, err, store.ErrNotRegular, path)
		_, _, err = store.Read[value](path, store.Options{})
		require.ErrorIs(t, err, store.ErrNotRegular, path)
		_, err = store.Open[value](path, store.Options{})
		require.ErrorIs(t, err, store.ErrNotRegular, path)
		require.EqualError(t, err, "read "+path+": not a regular file")
	}
	require.NoError(t, store.Remove(link, store.Options{}))
	require.NoError(t, store.Remove(pipe, store.Options{}))
	require.NoFileExists(t, pipe)
}
