package statedir_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

// plain leaves files open, phrase puts them under a passphrase.
func plain() store.Options { return store.Options{Sealers: []seal.Sealer{seal.Insecure{}}} }

func phrase(words string) store.Options {
	return store.Options{Sealers: []seal.Sealer{seal.Passphrase{Ask: func() ([]byte, error) { return []byte(words), nil }}, seal.Insecure{}}}
}

func opened(t *testing.T, opt store.Options) *statedir.Dir {
	t.Helper()
	d, err := statedir.Open(filepath.Join(t.TempDir(), "state"), opt)
	require.NoError(t, err)
	return d
}

func TestMakeRunRead(t *testing.T) {
	d := opened(t, plain())
	require.NoError(t, d.Make("alice", statedir.Order{Order: chip.Order{Firmware: "3.2", Serial: "DENK0404144"}}, plain(), emulator.System()))
	require.NoError(t, d.Make("bob", statedir.Order{}, plain(), emulator.System()))
	names, err := d.Names()
	require.NoError(t, err)
	require.Equal(t, []string{"alice", "bob"}, names)
	info, err := os.Stat(d.Path())
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())

	card, err := d.Run("alice", emulator.System())
	require.NoError(t, err)
	require.Equal(t, "DENK04041440000", card.TokenSerial())
	require.Equal(t, uint64(1), card.Generation())
	require.Equal(t, seal.KindNone, card.Seal())
	var locked *store.LockedError
	_, err = d.Run("alice", emulator.System())
	require.ErrorAs(t, err, &locked)
	require.Equal(t, os.Getpid(), locked.PID)
	state, _, err := d.Read("alice")
	require.NoError(t, err, "a card that runs can be read")
	require.Equal(t, "3.2", state.Applet.Firmware)
	require.ErrorAs(t, d.Remove("alice"), &locked)
	require.NoError(t, card.Close())
	require.NoError(t, d.Remove("alice"))
	_, _, err = d.Read("alice")
	require.ErrorIs(t, err, statedir.ErrNoCard)
	require.EqualError(t, err, `open card "alice": there is no such card`)
}

func TestErrors(t *testing.T) {
	d := opened(t, plain())
	require.NoError(t, d.Make("alice", statedir.Order{}, plain(), emulator.System()))
	require.ErrorIs(t, d.Make("alice", statedir.Order{}, plain(), emulator.System()), statedir.ErrCardExists)
	for _, name := range []string{"", "../x", "a/b", ".hidden", "-flag", "Ä", string(make([]byte, 65))} {
		require.ErrorIs(t, d.Make(name, statedir.Order{}, plain(), emulator.System()), statedir.ErrName, "%q", name)
		require.ErrorIs(t, d.Snapshot("alice", name), statedir.ErrName, "%q", name)
		_, err := d.Socket(name)
		require.ErrorIs(t, err, statedir.ErrName)
	}
	for _, err := range []error{
		d.Remove("bob"), d.Accept("bob"), d.Reseal("bob", seal.Insecure{}), d.Snapshot("bob", "x"), d.Export("bob", "x", plain()),
	} {
		require.ErrorIs(t, err, statedir.ErrNoCard)
		var named *statedir.Error
		require.ErrorAs(t, err, &named)
		require.Equal(t, "bob", named.Card)
	}

	// Whoever may write into the folder can put cards there.
	require.NoError(t, os.Chmod(d.Path(), 0o777))
	_, err := statedir.Open(d.Path(), plain())
	require.ErrorIs(t, err, statedir.ErrWritable)
	require.NoError(t, os.Chmod(d.Path(), 0o770))
	_, err = statedir.Open(d.Path(), plain())
	require.NoError(t, err, "a group may be the user's own")

	// What is no state of a card does not become one.
	require.NoError(t, store.Write(filepath.Join(d.Path(), "empty.card"), struct{}{}, plain()))
	_, err = d.Run("empty", emulator.System())
	require.ErrorIs(t, err, applet.ErrState)
	require.ErrorIs(t, d.Import(filepath.Join(d.Path(), "empty.card"), plain(), "copy", plain()), applet.ErrState)
}

func TestSnapshots(t *testing.T) {
	d := opened(t, phrase("one"))
	require.NoError(t, d.Make("alice", statedir.Order{}, phrase("one"), emulator.System()))
	list, err := d.Snapshots("alice")
	require.NoError(t, err)
	require.Empty(t, list)
	require.NoError(t, d.Snapshot("alice", "shipped"))
	require.ErrorIs(t, d.Snapshot("alice", "shipped"), statedir.ErrSnapshotExists)
	damaged := filepath.Join(d.Path(), "snapshots", "alice", "damaged.card")
	require.NoError(t, os.WriteFile(damaged, []byte("x"), 0o600))
	list, err = d.Snapshots("alice")
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, "damaged", list[0].Tag)
	require.ErrorIs(t, list[0].Err, store.ErrCorrupt)
	require.Equal(t, "shipped", list[1].Tag)
	require.Equal(t, seal.KindPassphrase, list[1].Seal)

	want, _, err := d.Read("alice")
	require.NoError(t, err)
	got, err := d.ReadSnapshot("alice", "shipped", phrase("one"))
	require.NoError(t, err)
	require.Equal(t, want.Applet.Device.Name, got.Applet.Device.Name)
	_, err = d.ReadSnapshot("alice", "later", phrase("one"))
	require.ErrorIs(t, err, statedir.ErrNoSnapshot)
	_, err = d.ReadSnapshot("alice", "shipped", phrase("two"))
	require.ErrorIs(t, err, seal.ErrPassphrase)
	require.NoError(t, d.Remove("alice"))
	require.NoFileExists(t, damaged)
}

func TestResealExportImport(t *testing.T) {
	d := opened(t, phrase("one"))
	require.NoError(t, d.Make("alice", statedir.Order{}, plain(), emulator.System()))
	require.NoError(t, d.Reseal("alice", phrase("one").Sealers[0]))
	info, err := d.Inspect("alice")
	require.NoError(t, err)
	require.Equal(t, seal.KindPassphrase, info.Seal)
	require.NoError(t, d.Accept("alice"))

	file := filepath.Join(t.TempDir(), "exported")
	require.NoError(t, d.Export("alice", file, phrase("two")))
	require.ErrorIs(t, d.Export("alice", file, phrase("two")), store.ErrExist)
	require.ErrorIs(t, d.Import(file, phrase("three"), "copy", plain()), seal.ErrPassphrase)
	require.NoError(t, d.Import(file, phrase("two"), "copy", plain()))
	require.ErrorIs(t, d.Import(file, phrase("two"), "copy", plain()), statedir.ErrCardExists)
	a, _, err := d.Read("alice")
	require.NoError(t, err)
	b, _, err := d.Read("copy")
	require.NoError(t, err)
	require.Equal(t, a.Applet.Device.Name, b.Applet.Device.Name)
}

// A card made from a number does the same thing every time.
func TestSeed(t *testing.T) {
	d := opened(t, plain())
	seed := uint64(7)
	var names []string
	for _, name := range []string{"one", "two"} {
		require.NoError(t, d.Make(name, statedir.Order{Seed: &seed}, plain(), emulator.System()))
		state, _, err := d.Read(name)
		require.NoError(t, err)
		require.Equal(t, &seed, state.Seed)
		names = append(names, state.Applet.Device.Name)
	}
	require.Equal(t, names[0], names[1])
}
