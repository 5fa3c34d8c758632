package statedir_test

import (
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
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

func accepted(_ bool, err error) error { return err }

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
		d.Remove("bob"), accepted(d.Accept("bob")), d.RemoveSnapshot("bob", "x"), d.Rename("bob", "x"), d.Copy("bob", "x", plain()),
		d.Reseal("bob", seal.Insecure{}), d.Snapshot("bob", "x"), d.Export("bob", "x", plain()),
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
	require.NoError(t, d.Make("eve", statedir.Order{}, plain(), emulator.System()))
	require.NoError(t, d.Snapshot("eve", "now"))
	for _, folder := range []string{"snapshots", "snapshots/eve"} {
		require.NoError(t, os.Chmod(filepath.Join(d.Path(), folder), 0o777))
		again, err := statedir.Open(d.Path(), plain())
		if err == nil {
			_, err = again.ReadSnapshot("eve", "now", plain())
		}
		require.ErrorIs(t, err, statedir.ErrWritable)
		require.ErrorContains(t, err, filepath.Join(d.Path(), folder)+": everybody can write into it")
		require.NoError(t, os.Chmod(filepath.Join(d.Path(), folder), 0o700))
	}

	// What is no state of a card does not become one.
	require.NoError(t, store.Write(filepath.Join(d.Path(), "empty.card"), struct{}{}, plain()))
	_, err = d.Run("empty", emulator.System())
	require.ErrorIs(t, err, applet.ErrState)
	require.ErrorIs(t, d.MakeFrom(statedir.Origin{File: filepath.Join(d.Path(), "empty.card")}, statedir.Sealers{File: plain()}, "copy", plain()), applet.ErrState)
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
	tags, err := d.Tags("alice")
	require.NoError(t, err)
	require.Equal(t, []string{"shipped"}, tags, "a damaged one cannot be restored")
	tags, err = d.Tags("nobody")
	require.NoError(t, err)
	require.Empty(t, tags)
	require.NoError(t, d.Remove("alice"))
	require.NoFileExists(t, damaged)
}

// A snapshot under another seal than its card's would need somebody to be asked.
func TestReadSnapshotUnasked(t *testing.T) {
	d := opened(t, phrase("one"))
	require.NoError(t, d.Make("alice", statedir.Order{}, phrase("one"), emulator.System()))
	require.NoError(t, d.Snapshot("alice", "sealed"))
	got, err := d.ReadSnapshotUnasked("alice", "sealed", phrase("one"))
	require.NoError(t, err)
	require.NotEmpty(t, got.Applet.Device.Name)
	require.NoError(t, d.Reseal("alice", seal.Insecure{}))
	_, err = d.ReadSnapshotUnasked("alice", "sealed", phrase("one"))
	require.ErrorIs(t, err, statedir.ErrSealedOtherwise)
	require.NoError(t, d.Snapshot("alice", "open"))
	_, err = d.ReadSnapshotUnasked("alice", "open", plain())
	require.NoError(t, err)
	_, err = d.ReadSnapshotUnasked("nobody", "open", plain())
	require.ErrorIs(t, err, statedir.ErrNoCard)
}

func TestUsual(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"HSMEMU_STATE": "cards", "XDG_STATE_HOME": "x", "HOME": "h"}, "cards"},
		{map[string]string{"XDG_STATE_HOME": "x", "HOME": "h"}, filepath.Join("x", "hsmemu")},
		{map[string]string{"HOME": "h", "USERPROFILE": "u"}, filepath.Join("h", ".local", "state", "hsmemu")},
		{map[string]string{"USERPROFILE": "u"}, filepath.Join("u", ".local", "state", "hsmemu")},
	} {
		got, err := statedir.Usual(func(name string) string { return c.env[name] })
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
	_, err := statedir.Usual(func(string) string { return "" })
	require.ErrorIs(t, err, statedir.ErrNoHome)
}

func TestRemoveSnapshot(t *testing.T) {
	d := opened(t, plain())
	require.NoError(t, d.Make("alice", statedir.Order{}, plain(), emulator.System()))
	require.NoError(t, d.Snapshot("alice", "one"))
	require.NoError(t, d.Snapshot("alice", "two"))
	require.NoError(t, d.RemoveSnapshot("alice", "one"))
	require.ErrorIs(t, d.RemoveSnapshot("alice", "one"), statedir.ErrNoSnapshot)
	require.ErrorIs(t, d.RemoveSnapshot("alice", "../one"), statedir.ErrName)
	list, err := d.Snapshots("alice")
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, "two", list[0].Tag)
}

// A card under another name is the same file, under the same seal: nobody is
// asked for a passphrase.
func TestRename(t *testing.T) {
	d := opened(t, phrase("one"))
	require.NoError(t, d.Make("alice", statedir.Order{}, phrase("one"), emulator.System()))
	require.NoError(t, d.Make("bob", statedir.Order{}, plain(), emulator.System()))
	require.NoError(t, d.Snapshot("alice", "kept"))
	before, err := os.ReadFile(filepath.Join(d.Path(), "alice.card"))
	require.NoError(t, err)

	require.ErrorIs(t, d.Rename("alice", "bob"), statedir.ErrCardExists)
	require.ErrorIs(t, d.Rename("alice", "../carol"), statedir.ErrName)
	card, err := d.Run("alice", emulator.System())
	require.NoError(t, err)
	require.ErrorIs(t, d.Rename("alice", "carol"), store.ErrLocked)
	require.NoError(t, card.Close())
	require.NoError(t, os.MkdirAll(filepath.Join(d.Path(), "snapshots", "carol", "somebody's"), 0o700))
	require.Error(t, d.Rename("alice", "carol"), "its snapshots would be mixed with others")
	require.NoError(t, os.RemoveAll(filepath.Join(d.Path(), "snapshots", "carol")))
	list, err := d.Snapshots("alice")
	require.NoError(t, err)
	require.Len(t, list, 1, "a rename that was refused changes nothing")

	require.NoError(t, d.Rename("alice", "carol"))
	names, err := d.Names()
	require.NoError(t, err)
	require.Equal(t, []string{"bob", "carol"}, names)
	after, err := os.ReadFile(filepath.Join(d.Path(), "carol.card"))
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.NoFileExists(t, filepath.Join(d.Path(), "alice.card.lock"))
	list, err = d.Snapshots("carol")
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.NoError(t, d.Make("alice", statedir.Order{}, plain(), emulator.System()))
	list, err = d.Snapshots("alice")
	require.NoError(t, err)
	require.Empty(t, list)
}

// A copy is the same card to whoever looks at it, and goes its own way.
func TestCopy(t *testing.T) {
	d := opened(t, phrase("one"))
	require.NoError(t, d.Make("alice", statedir.Order{}, phrase("one"), emulator.System()))
	require.NoError(t, d.Snapshot("alice", "kept"))
	running, err := d.Run("alice", emulator.System())
	require.NoError(t, err)
	require.NoError(t, d.Copy("alice", "bob", phrase("two")), "a copy of a running card")
	require.NoError(t, running.Close())
	require.ErrorIs(t, d.Copy("alice", "bob", plain()), statedir.ErrCardExists)
	require.ErrorIs(t, d.Copy("alice", "a/b", plain()), statedir.ErrName)
	_, _, err = d.Read("bob")
	require.ErrorIs(t, err, seal.ErrPassphrase, "it has a seal of its own")
	two, err := statedir.Open(d.Path(), phrase("two"))
	require.NoError(t, err)
	want, _, err := d.Read("alice")
	require.NoError(t, err)
	got, _, err := two.Read("bob")
	require.NoError(t, err)
	require.Equal(t, want, got)
	list, err := d.Snapshots("bob")
	require.NoError(t, err)
	require.Empty(t, list)
}

func TestResealExportImport(t *testing.T) {
	d := opened(t, phrase("one"))
	require.NoError(t, d.Make("alice", statedir.Order{}, plain(), emulator.System()))
	require.NoError(t, d.Reseal("alice", phrase("one").Sealers[0]))
	info, err := d.Inspect("alice")
	require.NoError(t, err)
	require.Equal(t, seal.KindPassphrase, info.Seal)
	needed, err := d.Accept("alice")
	require.NoError(t, err)
	require.False(t, needed, "nothing is wrong with its file")

	file := filepath.Join(t.TempDir(), "exported")
	require.NoError(t, d.Export("alice", file, phrase("two")))
	require.ErrorIs(t, d.Export("alice", file, phrase("two")), store.ErrExist)
	require.ErrorIs(t, d.MakeFrom(statedir.Origin{File: file}, statedir.Sealers{File: phrase("three")}, "copy", plain()), seal.ErrPassphrase)
	require.NoError(t, d.MakeFrom(statedir.Origin{File: file}, statedir.Sealers{File: phrase("two")}, "copy", plain()))
	require.ErrorIs(t, d.MakeFrom(statedir.Origin{File: file}, statedir.Sealers{File: phrase("two")}, "copy", plain()), statedir.ErrCardExists)
	a, _, err := d.Read("alice")
	require.NoError(t, err)
	b, _, err := d.Read("copy")
	require.NoError(t, err)
	require.Equal(t, a.Applet.Device.Name, b.Applet.Device.Name)
}

// A snapshot is named CARD:TAG, or TAG where it is clear whose, and comes before a
// file; a copy of it is a card of its own.
func TestOrigin(t *testing.T) {
	d := opened(t, plain())
	require.NoError(t, d.Make("alice", statedir.Order{}, plain(), emulator.System()))
	require.NoError(t, d.Snapshot("alice", "shipped"))
	t.Chdir(t.TempDir())
	for _, file := range []string{"shipped", "exported"} {
		require.NoError(t, d.Export("alice", file, plain()))
	}
	kept := statedir.Origin{Card: "alice", Tag: "shipped"}
	for _, c := range []struct {
		text, card string
		want       statedir.Origin
	}{
		{"alice:shipped", "", kept},
		{"alice:shipped", "bob", kept},
		{"shipped", "alice", kept},
		{"shipped", "", statedir.Origin{File: "shipped"}},
		{"shipped", "bob", statedir.Origin{File: "shipped"}},
		{"./shipped", "alice", statedir.Origin{File: "./shipped"}},
		{"exported", "alice", statedir.Origin{File: "exported"}},
		{"./a:b", "alice", statedir.Origin{File: "./a:b"}},
		{"./nothing", "", statedir.Origin{File: "./nothing"}},
	} {
		o, err := d.Origin(c.text, c.card)
		require.NoError(t, err, "%v", c)
		require.Equal(t, c.want, o, "%v", c)
	}
	_, err := d.Origin("nothing", "")
	require.EqualError(t, err, "there is no file nothing")
	require.ErrorIs(t, err, statedir.ErrNoOrigin)
	_, err = d.Origin("nothing", "alice")
	require.ErrorIs(t, err, statedir.ErrNoSnapshot)
	_, err = d.Origin("no such", "alice") // no tag
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = d.Origin("nothing", "bob")
	require.ErrorIs(t, err, statedir.ErrNoCard)

	in := statedir.Sealers{Snapshot: plain(), File: plain()}
	require.NoError(t, d.MakeFrom(kept, in, "copy", phrase("one")))
	require.ErrorIs(t, d.MakeFrom(kept, in, "copy", plain()), statedir.ErrCardExists)
	require.ErrorIs(t, d.MakeFrom(statedir.Origin{Card: "alice", Tag: "later"}, in, "other", plain()), statedir.ErrNoSnapshot)
	require.ErrorIs(t, d.MakeFrom(statedir.Origin{File: "nothing"}, in, "other", plain()), fs.ErrNotExist)
	require.NoError(t, d.Snapshot("copy", "sealed"))
	require.Equal(t, seal.KindPassphrase, d.Seal(statedir.Origin{Card: "copy", Tag: "sealed"}))
	require.Equal(t, seal.KindNone, d.Seal(kept))
	require.Equal(t, seal.KindNone, d.Seal(statedir.Origin{File: "exported"}))
}

// A throw-away card is that of the origin, and leaves it as it is.
func TestBorrow(t *testing.T) {
	d := opened(t, plain())
	require.NoError(t, d.Make("alice", statedir.Order{}, plain(), emulator.System()))
	require.NoError(t, d.Snapshot("alice", "shipped"))
	file := filepath.Join(t.TempDir(), "exported")
	require.NoError(t, d.Export("alice", file, plain()))
	alice, _, err := d.Read("alice")
	require.NoError(t, err)
	in := statedir.Sealers{Snapshot: plain(), File: plain()}
	for _, from := range []string{"shipped", "alice:shipped", file} {
		card, err := d.Borrow("alice", from, in, emulator.System())
		require.NoError(t, err, from)
		require.Equal(t, alice.Applet.Device.Name, card.Snapshot().Durable().Applet.Device.Name)
		require.NoError(t, card.Close())
	}
	_, err = d.Borrow("alice", "later", in, emulator.System())
	require.ErrorIs(t, err, statedir.ErrNoSnapshot)
	_, err = d.Borrow("alice", "./nothing", in, emulator.System())
	var failed *statedir.Error
	require.ErrorAs(t, err, &failed)
	require.Equal(t, "alice", failed.Card)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// Whether another process has a card is asked without opening it: a seal asks nobody
// for its passphrase.
func TestHeld(t *testing.T) {
	asked := 0
	opt := store.Options{Sealers: []seal.Sealer{seal.Passphrase{Ask: func() ([]byte, error) { asked++; return []byte("one"), nil }}}}
	d := opened(t, opt)
	require.NoError(t, d.Make("alice", statedir.Order{}, opt, emulator.System()))
	asked = 0
	require.NoError(t, d.Held("alice"))
	require.Zero(t, asked)
	card, err := d.Run("alice", emulator.System())
	require.NoError(t, err)
	asked = 0
	require.ErrorIs(t, d.InUse([]string{"bob", "alice"}), store.ErrLocked)
	require.NoError(t, d.InUse([]string{"bob"}))
	err = d.Held("alice")
	require.ErrorAs(t, err, new(*store.LockedError))
	require.ErrorAs(t, err, new(*statedir.Error))
	require.NoError(t, card.Close())
	require.NoError(t, d.Held("alice"))
	require.Zero(t, asked)
	require.ErrorIs(t, d.Held("bob"), statedir.ErrNoCard)
	require.NoFileExists(t, filepath.Join(d.Path(), "bob.card.lock"))
	require.ErrorIs(t, d.Held("../alice"), statedir.ErrName)
}

// What is there already is left alone, and nothing is left beside it.
func TestExport_LeavesNothingBeside(t *testing.T) {
	d := opened(t, plain())
	require.NoError(t, d.Make("alice", statedir.Order{}, plain(), emulator.System()))
	file := filepath.Join(t.TempDir(), "exported")
	require.NoError(t, os.WriteFile(file, []byte("a letter"), 0o600))
	require.ErrorIs(t, d.Export("alice", file, plain()), store.ErrExist)
	require.NoFileExists(t, file+".lock")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "a letter", string(text))
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

// What happens to a card that is kept nowhere leaves no trace in the one whose
// state it began with.
func TestUnkept(t *testing.T) {
	d := opened(t, plain())
	require.NoError(t, d.Make("alice", statedir.Order{}, plain(), emulator.System()))
	before, _, err := d.Read("alice")
	require.NoError(t, err)
	_, err = statedir.Unkept("../alice", before, emulator.System())
	require.ErrorIs(t, err, statedir.ErrName)
	card, err := statedir.Unkept("alice", before, emulator.System())
	require.NoError(t, err)
	require.Equal(t, before.Applet.Device.Name, card.Snapshot().Durable().Applet.Device.Name)
	for _, command := range []string{
		"00A4040C0BE82B0601040181C31F0201",
		"805000001B800200018106363438323139820835373632313838309101039700",
	} {
		raw, err := hex.DecodeString(command)
		require.NoError(t, err)
		_, err = card.Transmit(t.Context(), raw)
		require.NoError(t, err)
	}
	require.NoError(t, card.Close())
	after, info, err := d.Read("alice")
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.Equal(t, uint64(1), info.Generation)
}

// disk is the file system as it is, but for renaming files, which fails when it is
// full.
type disk struct{ full error }

func (disk) ReadFile(name string) ([]byte, error) { return os.ReadFile(name) }
func (disk) Create(name string) (store.Handle, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func (d disk) Rename(from, to string) error {
	if d.full != nil {
		return d.full
	}
	return os.Rename(from, to)
}

func (disk) Remove(name string) error { return os.Remove(name) }
func (disk) SyncDir(string) error     { return nil }
func (disk) Lock(name string) (io.Closer, error) {
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
}

// A rename that fails when the snapshots have moved already brings them back.
func TestRename_BringsSnapshotsBack(t *testing.T) {
	d := opened(t, plain())
	require.NoError(t, d.Make("alice", statedir.Order{}, plain(), emulator.System()))
	require.NoError(t, d.Snapshot("alice", "kept"))
	full, err := statedir.Open(d.Path(), store.Options{Sealers: plain().Sealers, FS: disk{syscall.ENOSPC}})
	require.NoError(t, err)
	require.ErrorIs(t, full.Rename("alice", "carol"), syscall.ENOSPC)
	list, err := d.Snapshots("alice")
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.NoDirExists(t, filepath.Join(d.Path(), "snapshots", "carol"))
	require.NoError(t, d.Rename("alice", "carol"))
	list, err = d.Snapshots("carol")
	require.NoError(t, err)
	require.Len(t, list, 1)
}

// shut is a file system that takes no new file.
type shut struct {
	disk
	why error
}

func (s shut) Lock(name string) (io.Closer, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: s.why}
}

// Why nothing can be made in the folder is told with its name, for whoever can name another one.
func TestMake_FolderThatCannotBeWritten(t *testing.T) {
	d := opened(t, plain())
	for cause, want := range map[error]error{
		syscall.EROFS: statedir.ErrReadOnly, syscall.EACCES: statedir.ErrDenied, syscall.EPERM: statedir.ErrDenied,
	} {
		err := d.Make("alice", statedir.Order{}, store.Options{Sealers: plain().Sealers, FS: shut{disk{}, cause}}, emulator.System())
		require.ErrorIs(t, err, want)
		require.ErrorContains(t, err, "state folder "+d.Path())
	}
}
