package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

const card = "cards/default.card"

// options are those of a world's own sealers.
func (w *world) options() store.Options {
	return store.Options{FS: w, Sealers: []seal.Sealer{
		counting{w, kindCounting}, counting{w, "counting too"}, cheap, seal.Insecure{},
	}}
}

// cheap is a passphrase that nobody waits for.
var cheap = seal.Passphrase{Ask: func() ([]byte, error) { return []byte("x"), nil }, Time: 1, Memory: 8, Threads: 1}

type chance struct{ *rand.Rand }

func (c chance) pick(n int) int { return c.IntN(n) }

// session is a run of a file in a world, with what may be found on the disk if
// the power is cut now.
type session struct {
	*require.Assertions
	world   *world
	chance  chance
	file    *store.File[value]
	current value   // what was saved last
	allowed []value // what a power cut may leave; the value that was saved last, and those of which nobody knows
	absent  bool    // a power cut may leave nothing, because nothing was made yet
	copies  [][]byte
	cuts    int
}

// cut is called before each operation: the power goes off, and what is found
// afterwards must be one of the allowed values, whole.
func (s *session) cut(operation string) error {
	s.cuts++
	w := s.world.crash(s.chance)
	f, err := store.Open[value](card, w.options())
	if s.absent && errors.Is(err, store.ErrNotExist) {
		return nil
	}
	s.NoError(err, "power cut before %s", operation)
	v, err := f.Load()
	s.NoError(err)
	s.Contains(s.allowed, v, "power cut before %s", operation)
	// It is as good as any other file, also after the next power cut.
	s.NoError(f.Save(v))
	w = w.crash(s.chance)
	v2, _, err := store.Read[value](card, w.options())
	s.NoError(err)
	s.Equal(v, v2)
	s.NotContains(w.names, card+".tmp")
	return nil
}

// do runs an operation that may store one of these values.
func (s *session) do(operation func() error, values ...value) error {
	s.allowed = append(s.allowed, values...)
	s.world.before = s.cut
	err := operation()
	s.world.before = nil
	if err == nil {
		s.current = values[len(values)-1]
		s.allowed, s.absent = []value{s.current}, false
		s.NoError(s.cut("anything else"))
	}
	return err
}

func (s *session) open() {
	s.NoError(s.do(func() (err error) {
		s.file, err = store.Open[value](card, s.world.options())
		return err
	}, s.current))
}

// save saves the n-th value.
func (s *session) save(n int) {
	if i := s.world.names[card]; s.file.Seal() == kindCounting {
		s.copies = append(s.copies, slices.Clone(i.data))
	}
	v := value{Name: fmt.Sprint(n), Tries: n, Files: map[string][]byte{"f": make([]byte, n%50)}}
	s.NoError(s.do(func() error { return s.file.Save(v) }, v))
}

// Whatever a session does, and wherever the power is cut, the file opens and
// holds the value before or the value after; what was acknowledged is there.
func TestFile_PowerCutAnywhere(t *testing.T) {
	t.Parallel()
	cuts := 0
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		s := &session{
			Assertions: require.New(t), world: w, absent: true,
			chance: chance{rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "chance"), 0))},
		}
		sealers := w.options().Sealers
		which := rapid.IntRange(0, len(sealers)-1)
		first := value{Name: "new"}
		opt := w.options()
		opt.Sealers = []seal.Sealer{sealers[which.Draw(t, "first seal")]}
		s.NoError(s.do(func() (err error) {
			s.file, err = store.Create(card, first, opt)
			return err
		}, first))
		for n := range rapid.IntRange(1, 20).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			default:
				s.save(n)
			case 0:
				sealer := sealers[which.Draw(t, "seal")]
				s.NoError(s.do(func() error { return s.file.Reseal(sealer) }, s.current))
			case 1:
				s.NoError(s.file.Close())
				s.open()
			case 2: // the power is cut for real, in the middle of a save
				s.world.before = nil
				v := value{Name: "cut"}
				left := s.chance.pick(12)
				s.world.before = func(string) error {
					if left--; left < 0 {
						return errors.New("no power")
					}
					return nil
				}
				err := s.file.Save(v)
				s.world.before = nil
				if err != nil {
					s.world = s.world.crash(s.chance)
				} else {
					s.NoError(s.file.Close())
				}
				s.file, err = store.Open[value](card, s.world.options())
				s.NoError(err)
				now, err := s.file.Load()
				s.NoError(err)
				s.Contains([]value{s.current, v}, now)
				s.current, s.allowed = now, []value{now}
				sealers = s.world.options().Sealers
			}
		}
		s.NoError(s.file.Close())
		// No copy from before comes back where a counter counted.
		for _, old := range s.copies {
			w := s.world.clone()
			w.names[card].data = old
			_, err := store.Open[value](card, w.options())
			s.True(errors.Is(err, store.ErrRolledBack) || errors.Is(err, seal.ErrNoCounter), "%v", err)
			s.Equal(old, w.names[card].data)
		}
		cuts += s.cuts
	})
	t.Logf("%d power cuts", cuts)
}

// A hundred saves in a row, with each kind of seal, cut before each operation.
func TestFile_PowerCutInALongRow(t *testing.T) {
	t.Parallel()
	for i := range newWorld().options().Sealers {
		w := newWorld()
		s := &session{Assertions: require.New(t), world: w, absent: true, chance: chance{rand.New(rand.NewPCG(1, uint64(i)))}}
		opt := w.options()
		opt.Sealers = opt.Sealers[i:]
		s.NoError(s.do(func() (err error) {
			s.file, err = store.Create(card, value{}, opt)
			return err
		}, value{}))
		for n := range 100 {
			s.save(n)
		}
		t.Logf("%s: %d power cuts", s.file.Seal(), s.cuts)
		require.Greater(t, s.cuts, 800)
	}
}

// Removing a card leaves nothing, or the whole card.
func TestRemove_PowerCutAnywhere(t *testing.T) {
	t.Parallel()
	w := newWorld()
	f, err := store.Create(card, value{Name: "x"}, w.options())
	require.NoError(t, err)
	require.NoError(t, f.Close())
	fate := chance{rand.New(rand.NewPCG(1, 2))}
	gone := 0
	w.before = func(operation string) error {
		if operation == "release" {
			return nil
		}
		for range 8 {
			c := w.crash(fate)
			v, _, err := store.Read[value](card, c.options())
			if errors.Is(err, store.ErrNotExist) {
				gone++
				f, err := store.Create(card, value{}, c.options())
				require.NoError(t, err, "its place is free")
				require.NoError(t, f.Close())
				continue
			}
			require.NoError(t, err)
			require.Equal(t, "x", v.Name)
			require.NoError(t, store.Remove(card, c.options()))
		}
		return nil
	}
	require.NoError(t, store.Remove(card, w.options()))
	require.Positive(t, gone)
	require.Empty(t, w.names)
	require.Empty(t, w.counters)
}
