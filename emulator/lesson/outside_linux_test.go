package lesson

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator"
	"hsmemu/emulator/statedir"
)

// What a script puts into the place of files that this program writes for a session leads it
// to no file outside of the session's folder, and holds it up nowhere.
func TestSession_LinksInItsFolders(t *testing.T) {
	outside := t.TempDir()
	precious := func(name string) string { return filepath.Join(outside, name) }
	names := []string{"told-ann", groups, serving, begunFile, "x.jsonl", "begun.json"}
	for _, name := range names {
		require.NoError(t, os.WriteFile(precious(name), []byte("precious"), 0o600))
	}
	l, err := Load(fstest.MapFS{
		"index.json":  {Data: []byte(`{"title": "T", "details": {"steps": [{"title": "S", "verify": "verify.sh"}]}}`)},
		"lesson.json": {Data: []byte(`{"schema": 1, "serve": "verify.sh", "steps": [{}]}`)},
		"verify.sh":   {Data: []byte("true\n")},
	})
	require.NoError(t, err)
	p, err := Begin(t.Context(), l, Options{Program: "hsmemu", World: emulator.System(), Limit: time.Minute})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	p.actsAs("ann")
	at := func(name string) string {
		switch name {
		case begunFile, "x.jsonl":
			return p.path("events", name)
		case "begun.json":
			return p.path("undo", "0", name)
		}
		return p.path(course, name)
	}
	act := map[string]func() error{
		"Look":  func() error { _, err := p.Look(); return err },
		"run":   func() error { _, _, err := p.run(t.Context(), "", "true", time.Minute, true); return err },
		"begin": p.begin,
		"Undo":  func() error { return p.Undo(t.Context()) },
	}
	for _, make := range []func(name string) error{
		func(name string) error { return os.Symlink(precious(name), at(name)) },
		func(name string) error { return syscall.Mkfifo(at(name), 0o600) },
	} {
		for what, do := range act {
			for _, name := range names {
				require.NoError(t, os.RemoveAll(at(name)))
				require.NoError(t, make(name))
			}
			if err := do(); err != nil {
				require.ErrorIs(t, err, errIrregular, what)
			}
			require.NoError(t, p.begin())
		}
	}
	for _, name := range names {
		text, err := os.ReadFile(precious(name))
		require.NoError(t, err)
		require.Equal(t, "precious", string(text), name)
	}
}

// Nor do links in the place of folders with cards, when undo and reset read and write those and
// remove cards that were made since.
func TestSession_LinksToCards(t *testing.T) {
	outside := t.TempDir()
	precious := filepath.Join(outside, "new", "precious")
	require.NoError(t, os.Mkdir(filepath.Dir(precious), 0o700))
	require.NoError(t, os.WriteFile(precious, nil, 0o600))
	l, err := Load(fstest.MapFS{
		"index.json": {Data: []byte(`{"title": "T", "details": {"steps": [{"title": "S", "verify": "verify.sh"}]}}`)},
		"verify.sh":  {Data: []byte("true\n")},
	})
	require.NoError(t, err)
	p, err := Begin(t.Context(), l, Options{Program: "hsmemu", World: emulator.System(), Limit: time.Minute})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	require.NoError(t, p.cards.Make("lab", statedir.Order{}, unsealed(), emulator.System()))
	require.NoError(t, p.begin())

	require.NoError(t, p.cards.Make("new", statedir.Order{}, unsealed(), emulator.System()))
	require.NoError(t, os.RemoveAll(p.path("state", "snapshots")))
	require.NoError(t, os.Symlink(outside, p.path("state", "snapshots")))
	require.NoError(t, p.Undo(t.Context()))
	require.FileExists(t, precious)
	names, err := p.cards.Names()
	require.NoError(t, err)
	require.Equal(t, []string{"lab"}, names)

	kept, elsewhere := p.path("undo", "0", "cards"), t.TempDir()
	require.NoError(t, os.Rename(filepath.Join(kept, "lab"), filepath.Join(elsewhere, "other")))
	require.NoError(t, os.Remove(kept))
	require.NoError(t, os.Symlink(elsewhere, kept))
	require.Error(t, p.Undo(t.Context()))
	names, err = p.cards.Names()
	require.NoError(t, err)
	require.Equal(t, []string{"lab"}, names)
}

// A link in the place of the folder in which programs ask for what has happened does not
// remove files elsewhere, and a pipe holds nothing up.
func TestRecord_LinkInsteadOfAsked(t *testing.T) {
	outside, events := t.TempDir(), t.TempDir()
	precious, asked := filepath.Join(outside, "precious"), filepath.Join(events, askedFolder)
	require.NoError(t, os.WriteFile(precious, nil, 0o600))
	for _, instead := range []func() error{
		func() error { return os.Symlink(outside, asked) },
		func() error { return syscall.Mkfifo(asked, 0o600) },
	} {
		require.NoError(t, os.RemoveAll(asked))
		require.NoError(t, instead())
		root, err := os.OpenRoot(events)
		require.NoError(t, err)
		ended, end := context.WithCancel(t.Context())
		end()
		recorders(nil).record(ended, root)
		require.FileExists(t, precious)
	}
}

// The file of events is made anew where setup has put something else there.
func TestFreshFile(t *testing.T) {
	outside, events := filepath.Join(t.TempDir(), "precious"), t.TempDir()
	require.NoError(t, os.WriteFile(outside, nil, 0o600))
	for _, instead := range []func(string) error{
		func(file string) error { return os.Symlink(outside, file) },
		func(file string) error { return syscall.Mkfifo(file, 0o600) },
	} {
		file := filepath.Join(events, "lab.jsonl")
		require.NoError(t, os.RemoveAll(file))
		require.NoError(t, instead(file))
		root, err := os.OpenRoot(events)
		require.NoError(t, err)
		f, err := freshFile(root, "lab.jsonl")
		require.NoError(t, err)
		info, err := f.Stat()
		require.NoError(t, errors.Join(err, f.Close(), root.Close()))
		require.True(t, info.Mode().IsRegular())
		there, err := os.Lstat(file)
		require.NoError(t, err)
		require.True(t, os.SameFile(info, there))
	}
}

// A temporary folder that is named from where the program was started is found from elsewhere.
func TestBegin_RelativeTemporaryFolder(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.Mkdir("here", 0o700))
	t.Setenv("TMPDIR", "here")
	l, err := Load(fstest.MapFS{
		"index.json": {Data: []byte(`{"title": "T", "details": {"intro": {"background": "setup.sh"}, "steps": [{"title": "S", "verify": "setup.sh"}]}}`)},
		"setup.sh":   {Data: []byte("touch \"$TMPDIR/made\"\n")},
	})
	require.NoError(t, err)
	p, err := Begin(t.Context(), l, Options{Program: "hsmemu", World: emulator.System(), Limit: time.Minute})
	require.NoError(t, err)
	require.True(t, filepath.IsAbs(p.Dir()))
	require.NoError(t, p.Close())
}
