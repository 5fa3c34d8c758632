//go:build unix

package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

// What is written within a folder is what is read, and neither goes through a link out of it.
func TestWithin(t *testing.T) {
	inside, outside := t.TempDir(), t.TempDir()
	root, err := os.OpenRoot(inside)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, root.Close()) })
	opt := store.Options{FS: store.Within(root), Sealers: []seal.Sealer{seal.Insecure{}}}
	require.NoError(t, root.Mkdir("cards", 0o700))
	require.NoError(t, store.Write("cards/a", "kept", opt))
	there, err := os.ReadDir(filepath.Join(inside, "cards"))
	require.NoError(t, err)
	require.Len(t, there, 1)
	kept, _, err := store.Read[string](filepath.Join(inside, "cards", "a"), store.Options{Sealers: opt.Sealers})
	require.NoError(t, err)
	require.Equal(t, "kept", kept)
	kept, _, err = store.Read[string]("cards/a", opt)
	require.NoError(t, err)
	require.Equal(t, "kept", kept)
	require.ErrorIs(t, store.Write("cards/a", "again", opt), store.ErrExist)

	require.NoError(t, root.Symlink(outside, "out"))
	require.Error(t, store.Write("out/a", "leaks", opt))
	left, err := os.ReadDir(outside)
	require.NoError(t, err)
	require.Empty(t, left)
	require.NoError(t, store.Write(filepath.Join(outside, "a"), "secret", store.Options{Sealers: opt.Sealers}))
	_, _, err = store.Read[string]("out/a", opt)
	require.Error(t, err)
}

// A file that somebody has taken within a folder is taken for whoever comes by its path, too.
func TestWithin_Locked(t *testing.T) {
	inside := t.TempDir()
	root, err := os.OpenRoot(inside)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, root.Close()) })
	held, err := store.Create("a", 1, store.Options{FS: store.Within(root), Sealers: []seal.Sealer{seal.Insecure{}}})
	require.NoError(t, err)
	path := filepath.Join(inside, "a")
	require.ErrorIs(t, store.Held(path, store.Options{}), store.ErrLocked)
	_, err = store.Lock(path + ".lock")
	require.ErrorIs(t, err, store.ErrLocked)
	require.NoError(t, held.Close())
	require.NoError(t, store.Held(path, store.Options{}))
	free, err := store.Lock(path + ".lock")
	require.NoError(t, err)
	require.ErrorIs(t, store.Held(path, store.Options{}), store.ErrLocked)
	require.NoError(t, free.Close())
}
