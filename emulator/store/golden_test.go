package store_test

import (
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

// -golden writes the golden files that are missing. It never changes one: a
// file that was ever written by a release has to open for ever, and a change of
// the format needs a new version and new files beside the old ones.
var writeGolden = flag.Bool("golden", false, "write missing golden files")

// goldenVersion is the version that this program writes.
const goldenVersion = "1"

// counted gives the bytes 0, 1, 2, …
type counted struct{ next byte }

func (c *counted) Read(p []byte) (int, error) {
	for i := range p {
		p[i], c.next = c.next, c.next+1
	}
	return len(p), nil
}

var goldenValue = value{Name: "Größe <&>", Tries: 3, Files: map[string][]byte{"2F02": {0x7F, 0x21}, "CC01": {}}}

// goldenOptions are those of the golden files that come out the same each time.
func goldenOptions(kind string) store.Options {
	opt := store.Options{Rand: &counted{}}
	if kind == seal.KindPassphrase {
		opt.Sealers = []seal.Sealer{seal.Passphrase{
			Ask:  func() ([]byte, error) { return []byte("correct horse battery staple"), nil },
			Time: 1, Memory: 64, Threads: 1, Rand: &counted{100},
		}}
	}
	return opt
}

func golden(version, kind string) string {
	return filepath.Join("testdata", "state-v"+version+"-"+kind)
}

// today writes the golden value as this program does: made, and saved once more.
func today(t *testing.T, opt store.Options) (path string, raw []byte) {
	t.Helper()
	path = place(t)
	f, err := store.Create(path, value{}, opt)
	require.NoError(t, err)
	require.NoError(t, f.Save(goldenValue))
	require.NoError(t, f.Close())
	raw, err = os.ReadFile(path)
	require.NoError(t, err)
	return path, raw
}

// keep returns a golden file; with -golden it writes it if there is none.
func keep(t *testing.T, path string, raw func() []byte) []byte {
	t.Helper()
	want, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && *writeGolden {
		want = raw()
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, want, 0o644))
		err = nil
	}
	require.NoError(t, err, "go test -golden writes it")
	return want
}

// If this fails, the format has changed. Then it needs a new version number, a
// reader for the old version, and golden files of the new one.
func TestGolden_TheFormatIsTheSame(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{seal.KindNone, seal.KindPassphrase} {
		_, raw := today(t, goldenOptions(kind))
		want := keep(t, golden(goldenVersion, kind), func() []byte { return raw })
		require.Equal(t, string(want), string(raw), kind)
		require.True(t, strings.HasPrefix(string(raw), "hsmemu-state "+goldenVersion+" "))
	}
}

// shape names the fields of a JSON value.
func shape(t *testing.T, v any, in string, into map[string]bool) {
	t.Helper()
	fields, is := v.(map[string]any)
	if !is {
		into[in] = true
		return
	}
	for name, f := range fields {
		shape(t, f, in+"."+name, into)
	}
}

func headerShape(t *testing.T, raw []byte) map[string]bool {
	t.Helper()
	var v any
	require.NoError(t, json.Unmarshal([]byte(strings.SplitN(string(raw), "\n", 3)[1]), &v))
	names := map[string]bool{}
	shape(t, v, "", names)
	return names
}

// What a TPM says differs each time; the names of it do not.
func TestGolden_TheTPMFormatIsTheSame(t *testing.T) {
	t.Parallel()
	tpm := newTPM(t)
	var raw []byte
	opt := store.Options{Sealers: []seal.Sealer{seal.TPM{Address: tpm.socket(), PCRs: []int{16}}}}
	path := golden(goldenVersion, seal.KindTPM)
	want := keep(t, path, func() []byte {
		_, raw = today(t, opt)
		tpm.stop(t)
		state, err := os.ReadFile(filepath.Join(tpm.dir, tpmState))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path+".tpm", state, 0o644))
		return raw
	})
	if raw == nil {
		_, raw = today(t, opt)
	}
	require.Equal(t, headerShape(t, want), headerShape(t, raw))
}

// Every file of every version that was ever written opens, holds what it held,
// and can be saved.
func TestGolden_OldFilesOpen(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("testdata", "state-v*"))
	require.NoError(t, err)
	opened := 0
	for _, file := range files {
		if strings.HasSuffix(file, ".tpm") {
			continue
		}
		kind := file[strings.LastIndexByte(file, '-')+1:]
		opt := goldenOptions(kind)
		if kind == seal.KindTPM {
			tpm := revive(t, file+".tpm")
			opt.Sealers = []seal.Sealer{seal.TPM{Address: tpm.socket()}}
		}
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		path := place(t)
		require.NoError(t, os.WriteFile(path, raw, 0o600))
		f, err := store.Open[value](path, opt)
		require.NoError(t, err, file)
		require.Equal(t, kind, f.Seal())
		require.Equal(t, uint64(2), f.Generation())
		v, err := f.Load()
		require.NoError(t, err, file)
		require.Equal(t, goldenValue, v, file)
		require.NoError(t, f.Save(v))
		require.NoError(t, f.Close())
		now, info, err := store.Read[value](path, opt)
		require.NoError(t, err)
		require.Equal(t, goldenValue, now)
		require.Equal(t, uint64(3), info.Generation)
		opened++
	}
	require.Equal(t, 3, opened)
}
