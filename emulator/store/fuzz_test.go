package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

// plainKey is a sealer that keeps keys in the open, so that fuzzing gets to
// what is behind them.
type plainKey struct{}

func (plainKey) Kind() string                               { return "plain" }
func (plainKey) Seal(root []byte, _ uint64) ([]byte, error) { return []byte("null"), nil }
func (plainKey) Unseal([]byte) ([]byte, error)              { return make([]byte, seal.RootLen), nil }

// FuzzLoad opens any bytes as a file: either it is refused with an error that
// says why, and stays as it is, or it holds a value that is saved and read
// again.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "state-v*"))
	require.NoError(f, err)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(raw, true)
	}
	w := newWorld()
	opt := store.Options{FS: w, Sealers: []seal.Sealer{plainKey{}, seal.Insecure{}, counting{w, kindCounting}}, Rand: &counted{}}
	opt.Sealers[0], opt.Sealers[2] = opt.Sealers[2], opt.Sealers[0]
	file, err := store.Create(card, goldenValue, opt)
	require.NoError(f, err)
	require.NoError(f, file.Reseal(plainKey{}))
	require.NoError(f, file.Close())
	f.Add(w.raw(), false)
	f.Add([]byte("hsmemu-state 1 \n{\"generation\":1,\"seal\":\"none\",\"retired\":{\"seal\":\"counting\",\"parameters\":{}}}\n{}"), true)
	f.Add([]byte("hsmemu-state 1 \n{\"generation\":1,\"seal\":\"none\"}\n{\"files\":{}}"), true)
	f.Add([]byte("hsmemu-state 1 \n{\"generation\":18446744073709551615,\"seal\":\"none\"}\n{}"), true)
	f.Add([]byte("hsmemu-state 1 \n{\"generation\":9223372036854775807,\"seal\":\"none\"}\n{}"), true)
	f.Add([]byte("hsmemu-state 1 \n{\"generation\":1,\"seal\":\"plain\",\"parameters\":null}\n"), true)
	f.Fuzz(func(t *testing.T, raw []byte, fits bool) {
		if fits { // or the checksum would hide everything behind it
			raw = resum(raw)
		}
		w := newWorld()
		w.put(raw)
		opt := store.Options{FS: w, Sealers: []seal.Sealer{seal.Insecure{}, plainKey{}, counting{w, kindCounting}}}
		_, ierr := store.Inspect(card, opt)
		_, _, rerr := store.Read[value](card, opt)
		file, err := store.Open[value](card, opt)
		var v value
		if err == nil {
			v, err = file.Load()
		}
		if err != nil {
			known := errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrVersion) || errors.Is(err, store.ErrSealed) ||
				errors.Is(err, seal.ErrParameters) || errors.Is(err, seal.ErrRoot) || errors.Is(err, seal.ErrNoCounter)
			require.True(t, known, "%v", err)
			require.ErrorContains(t, err, card)
			require.True(t, bytes.Equal(raw, w.names[card].data), "the file is untouched")
			return
		}
		require.NoError(t, ierr)
		require.NoError(t, rerr)
		before := file.Generation()
		err = file.Save(v)
		require.NoError(t, file.Close())
		if before == math.MaxInt64 {
			require.ErrorContains(t, err, "last generation")
			require.True(t, bytes.Equal(raw, w.names[card].data), "the file is untouched")
			return
		}
		require.NoError(t, err)
		again, info, err := store.Read[value](card, opt)
		require.NoError(t, err)
		require.Equal(t, form(t, v), form(t, again), "what is saved of a value, which does not tell no files from none")
		require.Equal(t, before+1, info.Generation)
	})
}

func form(t *testing.T, v value) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}
