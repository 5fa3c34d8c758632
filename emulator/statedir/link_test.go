//go:build unix

package statedir_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

// A link in the place of the snapshots has nothing removed that is elsewhere.
func TestRemove_SnapshotsElsewhere(t *testing.T) {
	folder, outside := t.TempDir(), t.TempDir()
	opt := store.Options{Sealers: []seal.Sealer{seal.Insecure{}}}
	d, err := statedir.Open(folder, opt)
	require.NoError(t, err)
	require.NoError(t, d.Make("lab", statedir.Order{}, opt, emulator.System()))
	precious := filepath.Join(outside, "lab", "precious")
	require.NoError(t, os.Mkdir(filepath.Dir(precious), 0o700))
	require.NoError(t, os.WriteFile(precious, nil, 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(folder, "snapshots")))
	require.Error(t, d.Remove("lab"))
	require.FileExists(t, precious)
}
