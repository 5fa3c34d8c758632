package store_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

// under returns options with this sealer alone.
func under(w *world, s seal.Sealer) store.Options {
	return store.Options{FS: w, Sealers: []seal.Sealer{s}}
}

// put replaces the card's file behind everyone's back.
func (w *world) put(raw []byte) {
	w.names[card] = &inode{data: bytes.Clone(raw), durable: bytes.Clone(raw)}
}

func (w *world) raw() []byte { return bytes.Clone(w.names[card].data) }

// history makes a counted file, saves it up to a generation, and returns its
// bytes at each; the first is nil.
func history(t *testing.T, w *world, generations int) [][]byte {
	t.Helper()
	f, err := store.Create(card, value{Tries: 1}, w.options())
	require.NoError(t, err)
	copies := [][]byte{nil, w.raw()}
	for n := 2; n <= generations; n++ {
		require.NoError(t, f.Save(value{Tries: n}))
		copies = append(copies, w.raw())
	}
	require.NoError(t, f.Close())
	return copies
}

func TestFile_Sealed(t *testing.T) {
	t.Parallel()
	w := newWorld()
	for _, s := range []seal.Sealer{cheap, counting{w, kindCounting}} {
		delete(w.names, card)
		opt := under(w, s)
		f, err := store.Create(card, value{Name: "a secret name"}, opt)
		require.NoError(t, err)
		require.Equal(t, s.Kind(), f.Seal())
		first := w.raw()
		require.NoError(t, f.Save(value{Name: "a secret name"}))
		require.NotContains(t, string(w.raw()), "secret")
		require.NotEqual(t, first[len(first)-40:], w.raw()[len(w.raw())-40:], "the nonce is new each time")
		require.NoError(t, f.Close())

		g, err := store.Open[value](card, opt)
		require.NoError(t, err)
		for range 2 {
			v, err := g.Load()
			require.NoError(t, err)
			require.Equal(t, "a secret name", v.Name)
		}
		require.Equal(t, s.Kind(), g.Seal())
		v, info, err := store.Read[value](card, opt)
		require.NoError(t, err)
		require.Equal(t, "a secret name", v.Name)
		require.Equal(t, store.Info{Version: 1, Generation: 2, Seal: s.Kind()}, info)
		require.NoError(t, g.Close())

		info, err = store.Inspect(card, store.Options{FS: w})
		require.NoError(t, err, "without any key")
		require.Equal(t, store.Info{Version: 1, Generation: 2, Seal: s.Kind()}, info)
	}
}

func TestOpen_OtherSealIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld()
	f, err := store.Create(card, value{Name: "x"}, under(w, cheap))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	before := w.raw()
	_, err = store.Open[value](card, store.Options{FS: w})
	require.ErrorIs(t, err, store.ErrSealed)
	require.ErrorContains(t, err, card)
	require.ErrorContains(t, err, `"passphrase"`)
	_, _, err = store.Read[value](card, store.Options{FS: w})
	require.ErrorIs(t, err, store.ErrSealed)
	wrong := cheap
	wrong.Ask = func() ([]byte, error) { return []byte("y"), nil }
	_, err = store.Open[value](card, under(w, wrong))
	require.ErrorIs(t, err, seal.ErrPassphrase)
	require.ErrorContains(t, err, card)
	require.Equal(t, before, w.raw())
	require.Empty(t, w.locks)

	// A card that has to be sealed is not replaced by one that is not.
	require.NoError(t, store.Remove(card, under(w, cheap)))
	f, err = store.Create(card, value{Name: "planted"}, store.Options{FS: w})
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, err = store.Open[value](card, under(w, cheap))
	require.ErrorIs(t, err, store.ErrSealed)
}

func TestOpen_OldCopyIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld()
	copies := history(t, w, 5)
	counters := maps.Clone(w.counters)
	for n := 1; n < 5; n++ {
		w.put(copies[n])
		_, err := store.Open[value](card, w.options())
		require.ErrorIs(t, err, store.ErrRolledBack, "generation %d", n)
		require.ErrorContains(t, err, card)
		require.Equal(t, copies[n], w.raw(), "the file is untouched")
		require.Equal(t, counters, w.counters, "and so is the counter")
		v, info, err := store.Read[value](card, w.options())
		require.NoError(t, err, "it can be looked at")
		require.ErrorIs(t, info.Refusal, store.ErrRolledBack)
		require.Equal(t, n, v.Tries)
	}
	w.put(copies[5])
	_, info, err := store.Read[value](card, w.options())
	require.NoError(t, err)
	require.NoError(t, info.Refusal)
	f, err := store.Open[value](card, w.options())
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// A cut between the save and the count leaves the file one ahead. Opening it
// has to count, or the copy before could come back.
func TestOpen_OneAheadOfTheCounter(t *testing.T) {
	t.Parallel()
	w := newWorld()
	copies := history(t, w, 3)
	w.counters[1] = 2
	f, err := store.Open[value](card, w.options())
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.Equal(t, uint64(3), w.counters[1])
	w.put(copies[2])
	_, err = store.Open[value](card, w.options())
	require.ErrorIs(t, err, store.ErrRolledBack)
}

func TestOpen_CounterTurnedBack(t *testing.T) {
	t.Parallel()
	w := newWorld()
	copies := history(t, w, 3)
	w.counters[1] = 1
	_, err := store.Open[value](card, w.options())
	require.ErrorIs(t, err, store.ErrAhead)
	require.Equal(t, copies[3], w.raw())
	require.Equal(t, uint64(1), w.counters[1])
	delete(w.counters, 1)
	_, err = store.Open[value](card, w.options())
	require.ErrorIs(t, err, seal.ErrNoCounter)
	require.Equal(t, copies[3], w.raw())
}

// An old copy can be accepted on purpose. From then on it is the newest, and
// the one that was newer is refused, wherever it comes from.
func TestAccept(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		copy   int
		before func(*world)
	}{
		"an old copy":        {2, func(*world) {}},
		"the last but one":   {4, func(*world) {}},
		"the counter's back": {5, func(w *world) { w.counters[1] = 1 }},
		"the counter's gone": {5, func(w *world) { delete(w.counters, 1) }},
		"both":               {1, func(w *world) { delete(w.counters, 1) }},
		"nothing is wrong":   {5, func(*world) {}},
	} {
		w := newWorld()
		copies := history(t, w, 5)
		c.before(w)
		w.put(copies[c.copy])
		f, err := store.Accept[value](card, w.options())
		require.NoError(t, err, name)
		v, err := f.Load()
		require.NoError(t, err, name)
		require.Equal(t, c.copy, v.Tries, name)
		copies = append(copies, w.raw())
		require.NoError(t, f.Save(value{Tries: 100}), name)
		require.NoError(t, f.Close(), name)
		last := w.raw()
		for n, old := range copies[1:] {
			w.put(old)
			_, err := store.Open[value](card, w.options())
			refused := errors.Is(err, store.ErrRolledBack) || errors.Is(err, store.ErrAhead) || errors.Is(err, seal.ErrNoCounter)
			require.True(t, refused, "%s: copy %d: %v", name, n+1, err)
		}
		w.put(last)
		f, err = store.Open[value](card, w.options())
		require.NoError(t, err, name)
		v, err = f.Load()
		require.NoError(t, err, name)
		require.Equal(t, 100, v.Tries, name)
		require.Len(t, w.counters, 1, name)
	}
}

// Accepting forgives an old copy, and nothing else.
func TestAccept_RefusesTheRest(t *testing.T) {
	t.Parallel()
	w := newWorld()
	copies := history(t, w, 2)
	w.put(copies[2][:len(copies[2])-1])
	_, err := store.Accept[value](card, w.options())
	require.ErrorIs(t, err, store.ErrCorrupt)
	_, err = store.Accept[value]("cards/none", w.options())
	require.ErrorIs(t, err, store.ErrNotExist)
	w.put(copies[2])
	_, err = store.Accept[value](card, under(w, cheap))
	require.ErrorIs(t, err, store.ErrSealed)
	f, err := store.Accept[value](card, w.options())
	require.NoError(t, err)
	_, err = store.Accept[value](card, w.options())
	require.ErrorIs(t, err, store.ErrLocked)
	require.NoError(t, f.Close())
}

func TestReseal(t *testing.T) {
	t.Parallel()
	kinds := func(w *world) []seal.Sealer {
		return []seal.Sealer{seal.Insecure{}, cheap, counting{w, kindCounting}, counting{w, "counting too"}}
	}
	for from := range kinds(nil) {
		for to := range kinds(nil) {
			w := newWorld()
			f, err := store.Create(card, value{Name: "x"}, under(w, kinds(w)[from]))
			require.NoError(t, err)
			old := w.raw()
			require.NoError(t, f.Reseal(kinds(w)[to]))
			require.Equal(t, kinds(w)[to].Kind(), f.Seal())
			require.Equal(t, uint64(2), f.Generation())
			v, err := f.Load()
			require.NoError(t, err)
			require.Equal(t, "x", v.Name)
			require.NoError(t, f.Save(value{Name: "y"}))
			require.NoError(t, f.Close())
			want := 0
			if to >= 2 {
				want = 1
			}
			require.Len(t, w.counters, want, "%d to %d", from, to)
			require.NotContains(t, string(w.raw()), "retired")

			g, err := store.Open[value](card, under(w, kinds(w)[to]))
			require.NoError(t, err)
			v, err = g.Load()
			require.NoError(t, err)
			require.Equal(t, "y", v.Name)
			require.NoError(t, g.Close())
			if from >= 2 {
				w.put(old)
				_, err = store.Open[value](card, under(w, kinds(w)[from]))
				require.ErrorIs(t, err, seal.ErrNoCounter, "the copy from before is refused")
			}
		}
	}
}

// Where the power fails between the new seal and the removal of the old
// counter, the next Open that can removes it.
func TestReseal_OldCounterGoesLater(t *testing.T) {
	t.Parallel()
	w := newWorld()
	f, err := store.Create(card, value{Name: "x"}, w.options())
	require.NoError(t, err)
	old := w.raw()
	var after *world
	w.before = func(operation string) error {
		if operation == "release" {
			after = w.crash(chance{})
		}
		return nil
	}
	require.NoError(t, f.Reseal(cheap))
	w = after
	require.Len(t, w.counters, 1)
	f, err = store.Open[value](card, under(w, cheap))
	require.NoError(t, err, "who has no TPM at hand gets his card all the same")
	require.NoError(t, f.Save(value{Name: "y"}))
	require.NoError(t, f.Close())
	require.Len(t, w.counters, 1)
	f, err = store.Open[value](card, w.options())
	require.NoError(t, err)
	require.Empty(t, w.counters)
	require.Contains(t, string(w.raw()), `,"retired":{"seal":"counting","parameters":{"Root":`, "the format of version 1")
	require.NoError(t, f.Save(value{Name: "z"}))
	require.NotContains(t, string(w.raw()), "retired")
	require.NoError(t, f.Close())
	w.put(old)
	_, err = store.Open[value](card, w.options())
	require.ErrorIs(t, err, seal.ErrNoCounter)
}

func TestFile_ResealAfterClose(t *testing.T) {
	t.Parallel()
	w := newWorld()
	f, err := store.Create(card, value{}, w.options())
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.ErrorIs(t, f.Reseal(cheap), store.ErrClosed)
}

// What lies on the disk while a file is open was not judged, so it is not read.
func TestLoad_DoesNotLookAtTheDisk(t *testing.T) {
	t.Parallel()
	w := newWorld()
	copies := history(t, w, 3)
	f, err := store.Open[value](card, w.options())
	require.NoError(t, err)
	w.put(copies[1])
	v, err := f.Load()
	require.NoError(t, err)
	require.Equal(t, 3, v.Tries)
	require.NoError(t, f.Save(v))
	require.Equal(t, uint64(4), f.Generation())
}

func TestRemove_TakesTheCountersAlong(t *testing.T) {
	t.Parallel()
	w := newWorld()
	history(t, w, 2)
	require.NoError(t, store.Remove(card, w.options()))
	require.Empty(t, w.counters)
	require.Empty(t, w.names)
	require.ErrorIs(t, store.Remove(card, w.options()), store.ErrNotExist)

	history(t, w, 2)
	w.put([]byte("nonsense"))
	require.NoError(t, store.Remove(card, w.options()), "whatever it holds")
	require.Empty(t, w.names)

	f, err := store.Create(card, value{}, w.options())
	require.NoError(t, err)
	require.ErrorIs(t, store.Remove(card, w.options()), store.ErrLocked)
	require.Contains(t, w.names, card)
	require.NoError(t, f.Close())
}

func TestCreate_RefusesWithoutRandomness(t *testing.T) {
	t.Parallel()
	for n := range 32 + 24 {
		w := newWorld()
		opt := w.options()
		opt.Rand = bytes.NewReader(make([]byte, n))
		_, err := store.Create(card, value{}, opt)
		require.Error(t, err, "%d bytes", n)
		require.NotContains(t, w.names, card)
		require.Empty(t, w.counters)
	}
}

// resum gives an altered file the checksum it should have.
func resum(raw []byte) []byte {
	first, rest, found := bytes.Cut(raw, []byte{'\n'})
	if at := bytes.LastIndexByte(first, ' '); found && at >= 0 {
		sum := sha256.Sum256(rest)
		return append(append(append(bytes.Clone(first[:at+1]), hex.EncodeToString(sum[:])...), '\n'), rest...)
	}
	return raw
}

// No changed byte goes unnoticed, wherever it is.
func TestOpen_NoticesEveryByte(t *testing.T) {
	t.Parallel()
	for _, s := range []seal.Sealer{seal.Insecure{}, cheap} {
		w := newWorld()
		f, err := store.Create(card, value{Name: "x", Files: map[string][]byte{"f": make([]byte, 100)}}, under(w, s))
		require.NoError(t, err)
		require.NoError(t, f.Close())
		good := w.raw()
		refuse := func(raw []byte, what string, at int) {
			w.put(raw)
			_, err := store.Open[value](card, under(w, s))
			// The version's digit can become that of a later version.
			if number := len("hsmemu-state "); at == number && errors.Is(err, store.ErrVersion) {
				return
			}
			require.ErrorIs(t, err, store.ErrCorrupt, "%s %d: %q", what, at, raw)
			require.ErrorContains(t, err, card)
			require.Equal(t, raw, w.raw())
		}
		for at := range good {
			for _, bits := range []byte{1, 0x20, 0x80, 0xFF} {
				bad := bytes.Clone(good)
				bad[at] ^= bits
				refuse(bad, "changed", at)
			}
			refuse(good[:at], "cut off", at)
			refuse(append(bytes.Clone(good[:at]), good[at+1:]...), "left out", at)
			refuse(append(append(bytes.Clone(good[:at]), 'x'), good[at:]...), "put in", at)
		}
		w.put(good)
		f, err = store.Open[value](card, under(w, s))
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
}

// Nor does one that a forger made the checksum fit to, if the file is sealed.
func TestOpen_NoticesAForger(t *testing.T) {
	t.Parallel()
	w := newWorld()
	f, err := store.Create(card, value{Name: "x"}, w.options())
	require.NoError(t, err)
	require.NoError(t, f.Close())
	good := w.raw()
	require.Equal(t, good, resum(good))
	for at := bytes.IndexByte(good, '\n') + 1; at < len(good); at++ {
		for bits := 1; bits < 256; bits++ {
			bad := bytes.Clone(good)
			bad[at] ^= byte(bits)
			w.put(resum(bad))
			_, err := store.Open[value](card, w.options())
			require.Error(t, err, "byte %d: %q", at, w.raw())
		}
	}
	// In particular the generation, which the counter is compared with.
	w.put(resum(bytes.Replace(good, []byte(`"generation":1`), []byte(`"generation":2`), 1)))
	_, err = store.Open[value](card, w.options())
	require.ErrorIs(t, err, store.ErrCorrupt)
	// And a content moved to another card's header.
	require.NoError(t, store.Remove(card, store.Options{FS: w}))
	f, err = store.Create(card, value{Name: "y"}, w.options())
	require.NoError(t, err)
	require.NoError(t, f.Close())
	head, _, _ := bytes.Cut(w.raw()[bytes.IndexByte(w.raw(), '\n')+1:], []byte{'\n'})
	_, rest, _ := bytes.Cut(good, []byte{'\n'})
	_, body, _ := bytes.Cut(rest, []byte{'\n'})
	w.put(resum(append(append([]byte("hsmemu-state 1 \n"), append(head, '\n')...), body...)))
	_, err = store.Open[value](card, w.options())
	require.ErrorIs(t, err, store.ErrCorrupt)
}
