package store_test

import (
	"bytes"
	"errors"
	"io/fs"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

// faults makes the n-th operation fail, and those after it too if lasting.
func (w *world) faults(n int, lasting bool, err error) *int {
	seen := 0
	w.before = func(string) error {
		seen++
		if seen == n+1 || lasting && seen > n {
			return err
		}
		return nil
	}
	return &seen
}

// causes are the errors a file system may give at any time.
var causes = []error{syscall.EIO, syscall.ENOSPC, syscall.EROFS, syscall.EDQUOT, fs.ErrPermission}

// Whatever fails, the file is as before, and the next save that nothing
// disturbs works.
func TestSave_FaultLeavesTheFile(t *testing.T) {
	t.Parallel()
	for _, sealer := range []seal.Sealer{seal.Insecure{}, cheap} {
		for _, lasting := range []bool{false, true} {
			for _, leftover := range []bool{false, true} {
				operations := 100
				for n := 0; n < operations; n++ {
					w := newWorld()
					opt := store.Options{FS: w, Sealers: []seal.Sealer{sealer}}
					f, err := store.Create(card, value{Name: "old"}, opt)
					require.NoError(t, err)
					before := w.names[card].data
					if leftover {
						w.names[card+".tmp"] = &inode{}
					}
					cause := causes[n%len(causes)]
					seen := w.faults(n, lasting, cause)
					err = f.Save(value{Name: "new"})
					w.before = nil
					if *seen <= n {
						require.NoError(t, err)
						operations = n
						continue
					}
					require.ErrorIs(t, err, cause, "operation %d", n)
					undone := bytes.Equal(before, w.names[card].data)
					if lasting && !undone {
						require.ErrorContains(t, err, "could not be put back", "operation %d", n)
					} else {
						require.True(t, undone, "operation %d: %v", n, err)
					}
					v, err := f.Load()
					require.NoError(t, err)
					require.Equal(t, "old", v.Name)
					require.Equal(t, uint64(1), f.Generation())
					require.NoError(t, f.Save(value{Name: "next"}))
					require.Equal(t, uint64(2), f.Generation())
					require.NoError(t, f.Close())
					g, err := store.Open[value](card, opt)
					require.NoError(t, err)
					v, err = g.Load()
					require.NoError(t, err)
					require.Equal(t, "next", v.Name)
					require.NotContains(t, w.names, card+".tmp")
				}
				require.Less(t, operations, 100)
				require.GreaterOrEqual(t, operations, 7)
			}
		}
	}
}

// Reading, taking and making files may fail too, and leave nothing behind that
// was not there.
func TestOpen_FaultLeavesTheFile(t *testing.T) {
	t.Parallel()
	w := newWorld()
	f, err := store.Create(card, value{Name: "x"}, w.options())
	require.NoError(t, err)
	require.NoError(t, f.Close())
	before := bytes.Clone(w.names[card].data)
	for name, do := range map[string]func(*world) error{
		"open":   func(w *world) error { _, err := store.Open[value](card, w.options()); return err },
		"accept": func(w *world) error { _, err := store.Accept[value](card, w.options()); return err },
		"read": func(w *world) error {
			_, info, err := store.Read[value](card, w.options())
			return errors.Join(err, info.Refusal)
		},
		"inspect": func(w *world) error { _, err := store.Inspect(card, w.options()); return err },
	} {
		for n := 0; ; n++ {
			c := w.clone()
			seen := c.faults(n, false, syscall.EIO)
			err := do(c)
			if *seen <= n {
				require.NoError(t, err)
				require.Positive(t, n, name)
				break
			}
			require.ErrorIs(t, err, syscall.EIO, "%s %d", name, n)
			require.Equal(t, before, c.names[card].data, name)
			require.Empty(t, c.locks, name)
		}
	}
}

func TestCreate_FaultLeavesNothing(t *testing.T) {
	t.Parallel()
	for n := 0; ; n++ {
		w := newWorld()
		seen := w.faults(n, false, syscall.EIO)
		_, err := store.Create(card, value{Name: "x"}, w.options())
		w.before = nil
		if *seen <= n {
			require.NoError(t, err)
			require.Greater(t, n, 9)
			break
		}
		require.ErrorIs(t, err, syscall.EIO, "operation %d", n)
		require.NotContains(t, w.names, card, "operation %d", n)
		require.NotContains(t, w.names, card+".tmp", "operation %d", n)
		require.Empty(t, w.counters, "operation %d", n)
		require.Empty(t, w.locks, "operation %d", n)
		_, err = store.Create(card, value{Name: "x"}, w.options())
		require.NoError(t, err, "operation %d", n)
	}
}

// A folder that cannot be written can still be read.
func TestOpen_ReadOnlyFolder(t *testing.T) {
	t.Parallel()
	w := newWorld()
	f, err := store.Create(card, value{Name: "x"}, store.Options{FS: w})
	require.NoError(t, err)
	require.NoError(t, f.Close())
	w.names[card+".tmp"] = &inode{}
	before := bytes.Clone(w.names[card].data)
	w.before = func(operation string) error {
		if operation == "read" || operation == "lock" {
			return nil
		}
		return &fs.PathError{Op: operation, Path: card, Err: syscall.EROFS}
	}
	f, err = store.Open[value](card, store.Options{FS: w})
	require.NoError(t, err)
	v, err := f.Load()
	require.NoError(t, err)
	require.Equal(t, "x", v.Name)
	err = f.Save(value{Name: "y"})
	require.ErrorIs(t, err, syscall.EROFS)
	require.ErrorContains(t, err, card)
	require.Equal(t, before, w.names[card].data)
}

// While the TPM does not answer, nothing is acknowledged; when it does again,
// the file and the counter fit each other.
func TestSave_CounterFault(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"increment", "hear that it has counted"} {
		w := newWorld()
		f, err := store.Create(card, value{Name: "old"}, w.options())
		require.NoError(t, err)
		fail := func(operation string) error {
			if operation == at || operation == "count" {
				return seal.ErrNoTPM
			}
			return nil
		}
		w.before = fail
		require.ErrorIs(t, f.Save(value{Name: "new"}), seal.ErrNoTPM)
		require.ErrorIs(t, f.Save(value{Name: "newer"}), seal.ErrNoTPM, "not two ahead")
		require.ErrorIs(t, f.Reseal(seal.Insecure{}), seal.ErrNoTPM)
		w.before = nil
		v, err := f.Load()
		require.NoError(t, err)
		require.Equal(t, "new", v.Name)

		c := w.crash(chance{})
		g, err := store.Open[value](card, c.options())
		require.NoError(t, err, at)
		v, err = g.Load()
		require.NoError(t, err)
		require.Equal(t, "new", v.Name)

		require.NoError(t, f.Save(value{Name: "newest"}))
		require.Equal(t, uint64(3), f.Generation())
		require.NoError(t, f.Close())
		require.Equal(t, map[int]uint64{1: 3}, w.counters)
	}
}

// A failed change of seal leaves the old seal, its counter, and no other.
func TestReseal_FaultLeavesTheFile(t *testing.T) {
	t.Parallel()
	for n := 0; ; n++ {
		w := newWorld()
		f, err := store.Create(card, value{Name: "x"}, w.options())
		require.NoError(t, err)
		before := bytes.Clone(w.names[card].data)
		seen := w.faults(n, false, syscall.EIO)
		err = f.Reseal(counting{w, "counting too"})
		w.before = nil
		if *seen <= n {
			require.NoError(t, err)
			require.Greater(t, n, 8)
			break
		}
		if err == nil { // the old counter could not be removed, but will be
			require.Equal(t, "counting too", f.Seal())
			require.Len(t, w.counters, 2)
		} else {
			require.ErrorIs(t, err, syscall.EIO, "operation %d", n)
		}
		if err != nil && f.Seal() == kindCounting {
			require.Equal(t, before, w.names[card].data, "operation %d", n)
			require.Equal(t, map[int]uint64{1: 1}, w.counters, "operation %d", n)
		}
		require.NoError(t, f.Close())
		g, err := store.Open[value](card, w.options())
		require.NoError(t, err, "operation %d", n)
		v, err := g.Load()
		require.NoError(t, err)
		require.Equal(t, "x", v.Name)
		require.Len(t, w.counters, 1, "operation %d", n)
		require.NoError(t, g.Save(v))
		require.NotContains(t, string(w.names[card].data), "retired")
	}
}

// Whatever fails in the middle of a rename, the value is whole under one of the
// two names, what goes along is where the value is or is told of, and trying
// again ends it.
func TestRename_FaultLeavesOneFile(t *testing.T) {
	t.Parallel()
	const next = "cards/next.card"
	for _, lasting := range []bool{false, true} {
		for n := 0; ; n++ {
			w := newWorld()
			f, err := store.Create(card, value{Name: "x"}, w.options())
			require.NoError(t, err)
			require.NoError(t, f.Close())
			went := 0
			along := func() error { went++; return nil }
			seen := w.faults(n, lasting, syscall.EIO)
			err = store.Rename(card, next, w.options(), along)
			w.before = nil
			if *seen <= n {
				require.NoError(t, err)
				require.Greater(t, n, 5)
				break
			}
			require.ErrorIs(t, err, syscall.EIO, "operation %d", n)
			require.Empty(t, w.locks, "operation %d", n)
			_, old := w.names[card]
			_, moved := w.names[next]
			require.NotEqual(t, old, moved, "operation %d", n)
			if moved {
				require.Equal(t, 1, went, "operation %d", n)
			} else {
				require.NoError(t, store.Rename(card, next, w.options(), along), "operation %d", n)
			}
			v, _, err := store.Read[value](next, w.options())
			require.NoError(t, err)
			require.Equal(t, "x", v.Name)
		}
	}
}
