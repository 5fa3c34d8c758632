package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

type value struct {
	Name  string            `json:"name"`
	Tries int               `json:"tries"`
	Files map[string][]byte `json:"files,omitempty"`
}

func place(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "default.card")
}

// create makes a file with v and closes it when the test ends.
func create(t testing.TB, path string, v value) *store.File[value] {
	t.Helper()
	f, err := store.Create(path, v, store.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

func contents(t testing.TB, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(raw)
}

func TestFile_KeepsAValue(t *testing.T) {
	t.Parallel()
	path := place(t)
	f := create(t, path, value{Name: "new", Tries: 3})
	require.Equal(t, uint64(1), f.Generation())
	require.NoError(t, f.Save(value{Name: "a<b>&c\u2028", Tries: 2, Files: map[string][]byte{"2F02": {1, 2}}}))
	require.Equal(t, uint64(2), f.Generation())
	require.NoError(t, f.Close())
	require.NoError(t, f.Close(), "a second Close does nothing")

	g, err := store.Open[value](path, store.Options{})
	require.NoError(t, err)
	defer g.Close()
	v, err := g.Load()
	require.NoError(t, err)
	require.Equal(t, value{Name: "a<b>&c\u2028", Tries: 2, Files: map[string][]byte{"2F02": {1, 2}}}, v)
	require.Equal(t, uint64(2), g.Generation())

	names, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, names, 2, "the file and its lock, nothing else")
	for _, n := range names {
		info, err := n.Info()
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode(), n.Name())
	}
}

func TestFile_LoadMakesANewValueEachTime(t *testing.T) {
	t.Parallel()
	f := create(t, place(t), value{Files: map[string][]byte{"a": {1}}})
	v, err := f.Load()
	require.NoError(t, err)
	v.Files["a"][0] = 9
	delete(v.Files, "a")
	w, err := f.Load()
	require.NoError(t, err)
	require.Equal(t, map[string][]byte{"a": {1}}, w.Files)
}

func TestFile_RefusesAfterClose(t *testing.T) {
	t.Parallel()
	f := create(t, place(t), value{})
	require.NoError(t, f.Close())
	_, err := f.Load()
	require.ErrorIs(t, err, store.ErrClosed)
	require.ErrorIs(t, f.Save(value{}), store.ErrClosed)
}

func TestOpen_NoFile(t *testing.T) {
	t.Parallel()
	path := place(t)
	_, err := store.Open[value](path, store.Options{})
	require.ErrorIs(t, err, store.ErrNotExist)
	require.ErrorContains(t, err, path)
	_, _, err = store.Read[value](path, store.Options{})
	require.ErrorIs(t, err, store.ErrNotExist)
	_, err = store.Inspect(path, store.Options{})
	require.ErrorIs(t, err, store.ErrNotExist)
	names, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Empty(t, names, "asking leaves nothing behind")
}

func TestCreate_LeavesAnOldFile(t *testing.T) {
	t.Parallel()
	path := place(t)
	require.NoError(t, create(t, path, value{Name: "old"}).Close())
	before := contents(t, path)
	_, err := store.Create(path, value{Name: "new"}, store.Options{})
	require.ErrorIs(t, err, store.ErrExist)
	require.ErrorContains(t, err, path)
	require.Equal(t, before, contents(t, path))

	f, err := store.Open[value](path, store.Options{})
	require.NoError(t, err, "the failed Create holds no lock")
	require.NoError(t, f.Close())
}

func TestOpen_TellsWhoHasTheFile(t *testing.T) {
	t.Parallel()
	path := place(t)
	f := create(t, path, value{Name: "mine"})
	for name, open := range map[string]func() error{
		"open":   func() error { _, err := store.Open[value](path, store.Options{}); return err },
		"create": func() error { _, err := store.Create(path, value{}, store.Options{}); return err },
	} {
		err := open()
		require.ErrorIs(t, err, store.ErrLocked, name)
		var held *store.LockedError
		require.ErrorAs(t, err, &held, name)
		require.Equal(t, &store.LockedError{Path: path, PID: os.Getpid()}, held, name)
		require.EqualError(t, err, fmt.Sprintf("file is in use: %s: by process %d", path, os.Getpid()))
	}
	v, info, err := store.Read[value](path, store.Options{})
	require.NoError(t, err, "reading needs no lock")
	require.Equal(t, value{Name: "mine"}, v)
	require.Equal(t, store.Info{Version: 1, Generation: 1, Seal: "none"}, info)
	require.NoError(t, f.Save(value{Name: "mine"}), "the lock is still held")
	_, err = store.Open[value](path, store.Options{})
	require.ErrorIs(t, err, store.ErrLocked, "a save does not lose the lock")
}

func TestLoad_OtherContentIsRefused(t *testing.T) {
	t.Parallel()
	path := place(t)
	f, err := store.Create(path, map[string]any{"name": "x", "invented": 1}, store.Options{})
	require.NoError(t, err)
	require.NoError(t, f.Close())
	before := contents(t, path)
	g, err := store.Open[value](path, store.Options{})
	require.NoError(t, err)
	defer g.Close()
	_, err = g.Load()
	require.ErrorIs(t, err, store.ErrVersion)
	require.ErrorContains(t, err, path)
	require.ErrorContains(t, err, "invented")
	require.Equal(t, before, contents(t, path))
}

func TestOpen_NamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	good := func() string {
		path := place(t)
		require.NoError(t, create(t, path, value{Name: "x"}).Close())
		return contents(t, path)
	}()
	for name, c := range map[string]struct {
		raw  string
		want error
		text string
	}{
		"empty":           {"", store.ErrCorrupt, "not a state file"},
		"other":           {"{}\n", store.ErrCorrupt, "not a state file"},
		"cut":             {good[:len(good)-1], store.ErrCorrupt, "checksum"},
		"longer":          {good + " ", store.ErrCorrupt, "checksum"},
		"newer":           {strings.Replace(good, "hsmemu-state 1", "hsmemu-state 2", 1), store.ErrVersion, "version 2, this program knows 1"},
		"no number":       {strings.Replace(good, "hsmemu-state 1", "hsmemu-state x", 1), store.ErrCorrupt, "version number"},
		"padded":          {strings.Replace(good, "hsmemu-state 1", "hsmemu-state 01", 1), store.ErrCorrupt, "version number"},
		"no header":       {"hsmemu-state 1 \n", store.ErrCorrupt, "no header"},
		"bad header":      {"hsmemu-state 1 \n{]\n{}", store.ErrCorrupt, "the header cannot be read"},
		"new header":      {strings.Replace(good, `{"generation"`, `{"x":1,"generation"`, 1), store.ErrCorrupt, "the header cannot be read"},
		"two headers":     {strings.Replace(good, "\n{\"name", "{}\n{\"name", 1), store.ErrCorrupt, "more than a header"},
		"generation 0":    {strings.Replace(good, `"generation":1`, `"generation":0`, 1), store.ErrCorrupt, "the generation is 0"},
		"last generation": {strings.Replace(good, `"generation":1`, `"generation":18446744073709551615`, 1), store.ErrCorrupt, "the generation is 18446744073709551615"},
		"tampered":        {strings.Replace(good, `"x"`, `"y"`, 1), store.ErrCorrupt, "checksum"},
	} {
		path := place(t)
		if c.text != "checksum" {
			c.raw = string(resum([]byte(c.raw)))
		}
		require.NoError(t, os.WriteFile(path, []byte(c.raw), 0o600))
		_, err := store.Open[value](path, store.Options{})
		require.ErrorIs(t, err, c.want, name)
		require.ErrorContains(t, err, path, name)
		require.ErrorContains(t, err, c.text, name)
		_, _, err = store.Read[value](path, store.Options{})
		require.ErrorIs(t, err, c.want, name)
		_, err = store.Inspect(path, store.Options{})
		require.ErrorIs(t, err, c.want, name)
		require.Equal(t, c.raw, contents(t, path), "%s: the file is untouched", name)
		_, err = store.Open[value](path, store.Options{})
		require.False(t, errors.Is(err, store.ErrLocked), "%s: no lock is left", name)
	}
}

func TestOpen_RemovesALeftover(t *testing.T) {
	t.Parallel()
	path := place(t)
	f := create(t, path, value{Name: "x"})
	require.NoError(t, os.WriteFile(path+".tmp", []byte("half"), 0o400))
	require.NoError(t, f.Save(value{Name: "y"}), "a leftover does not stop a save")
	require.NoError(t, f.Close())
	require.NoError(t, os.WriteFile(path+".tmp", []byte("half"), 0o400))
	g, err := store.Open[value](path, store.Options{})
	require.NoError(t, err)
	defer g.Close()
	require.NoFileExists(t, path+".tmp")
	v, err := g.Load()
	require.NoError(t, err)
	require.Equal(t, "y", v.Name)
}

// A name at which nothing came to be has no lock file either.
func TestCreateAndRename_LeaveNoLockOfNothing(t *testing.T) {
	t.Parallel()
	path := place(t)
	locked := seal.Passphrase{Ask: func() ([]byte, error) { return nil, syscall.EIO }}
	_, err := store.Create(path, value{}, store.Options{Sealers: []seal.Sealer{locked}})
	require.ErrorIs(t, err, syscall.EIO)
	names, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Empty(t, names)

	require.NoError(t, create(t, path, value{}).Close())
	before, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.ErrorIs(t, store.Rename(path, path+".next", store.Options{}, func() error { return syscall.EIO }), syscall.EIO)
	names, err = os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, names, len(before))
}

func TestWrite_LeavesNothingBeside(t *testing.T) {
	t.Parallel()
	path := place(t)
	require.NoError(t, store.Write(path, value{Name: "x"}, store.Options{}))
	names, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, names, 1)
	v, info, err := store.Read[value](path, store.Options{})
	require.NoError(t, err)
	require.Equal(t, value{Name: "x"}, v)
	require.Equal(t, uint64(1), info.Generation)
	require.ErrorIs(t, store.Write(path, value{Name: "y"}, store.Options{}), store.ErrExist)
}

// A content that the checksum fits is what was written; if it is no value, that
// is damage of another kind than a value of another program.
func TestLoad_NoValue(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]error{
		"": store.ErrCorrupt, "{": store.ErrCorrupt, "{}{}": store.ErrCorrupt, "x": store.ErrCorrupt,
		"[]": store.ErrVersion, `{"tries":"three"}`: store.ErrVersion, `{"other":1}`: store.ErrVersion,
	} {
		path := place(t)
		raw := resum([]byte("hsmemu-state 1 \n{\"generation\":1,\"seal\":\"none\"}\n" + content))
		require.NoError(t, os.WriteFile(path, raw, 0o600))
		f, err := store.Open[value](path, store.Options{})
		require.NoError(t, err)
		_, err = f.Load()
		require.ErrorIs(t, err, want, content)
		require.ErrorContains(t, err, path)
		require.NoError(t, f.Close())
		_, _, err = store.Read[value](path, store.Options{})
		require.ErrorIs(t, err, want, content)
	}
}

// picky is a text that cannot be empty.
type picky string

type emptyError struct{}

func (emptyError) Error() string    { return "empty" }
func (emptyError) Impossible() bool { return true }

func (p *picky) UnmarshalJSON(b []byte) error {
	var read string
	if err := json.Unmarshal(b, &read); err != nil || read != "" {
		*p = picky(read)
		return err
	}
	return fmt.Errorf("text: %w", emptyError{})
}

// A value that has the right form and yet cannot be, as its type says, was
// written by no version of any program.
func TestRead_TellsWhatCannotBeFromAnotherVersion(t *testing.T) {
	t.Parallel()
	for content, want := range map[any]error{"fits": nil, "": store.ErrCorrupt, 7: store.ErrVersion} {
		path := place(t)
		require.NoError(t, store.Write(path, content, store.Options{}))
		_, _, err := store.Read[picky](path, store.Options{})
		require.ErrorIs(t, err, want)
	}
}

// What has no end is not a file of ours, and is not read to its end.
func TestRead_StopsAtTheLengthOfACard(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "long")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Truncate(path, 5<<20))
	_, err := store.Inspect(path, store.Options{})
	require.ErrorIs(t, err, store.ErrCorrupt)
	require.ErrorContains(t, err, "longer than any card")
}
