package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/store"
	"hsmemu/keystore"
	"hsmemu/keystore/seal"
)

const cardFile = "folder/alice.card"

var errNoPower = errors.New("no power")

// cutting is a session of a card whose power is cut, in thought, before every
// operation of its disk.
type cutting struct {
	t      *testing.T
	kind   string // of the seal
	chance *rand.Rand
	disk   *disk
	card   *emulator.Card
	said   bytes.Buffer // by the card, on stderr
	driver *driver
	before account // what is certain
	under  *deed   // what is being done; nil for nothing
	cuts   int
	dead   int // operations until a cut that is not only in thought; 0 for none
}

func testWorld(seed uint64) emulator.World {
	random := emulator.Seeded(seed, [32]byte{})
	return emulator.World{
		Rand: random, Deterministic: true, RSA: keystore.PoolGenerator{Rand: random},
		Clock: func() time.Time { return time.Date(2026, time.November, 23, 12, 0, 0, 0, time.UTC) },
	}
}

func newCutting(t *testing.T, kind string, seed uint64) *cutting {
	s := &cutting{
		t: t, kind: kind, disk: newDisk(), driver: newDriver(seed),
		chance: rand.New(rand.NewPCG(seed, 1)), before: account{},
	}
	w := testWorld(seed)
	d, err := w.Manufacture(chip.Order{})
	require.NoError(t, err)
	file, err := store.Create(cardFile, d, s.disk.sealed(kind))
	require.NoError(t, err)
	require.NoError(t, file.Close())
	s.insert(s.disk)
	return s
}

// insert goes on with the card that is on a disk.
func (s *cutting) insert(d *disk) {
	file, durable := s.open(d)
	s.before = checkFound(s.t, s.before, s.under, durable, s.about())
	s.disk, s.under, s.dead, s.driver.out = d, nil, 0, true
	w := testWorld(s.chance.Uint64())
	w.Log = slog.New(voice{out: &s.said, about: `card "alice": `})
	var err error
	s.card, err = emulator.New(durable, file, w)
	require.NoError(s.t, err)
	s.transmit(wireSelect)
	s.disk.before = s.think
}

func (s *cutting) open(d *disk) (*store.File[chip.Durable], chip.Durable) {
	file, err := store.Open[chip.Durable](cardFile, d.sealed(s.kind))
	require.NoError(s.t, err, s.about())
	durable, err := file.Load()
	require.NoError(s.t, err, s.about())
	return file, durable
}

func (s *cutting) about() string {
	if s.under == nil {
		return s.kind
	}
	return fmt.Sprintf("%s, power cut during %s %X", s.kind, s.under.name, s.under.command)
}

func (s *cutting) transmit(command []byte) []byte {
	answer, err := s.card.Transmit(s.t.Context(), command)
	require.NoError(s.t, err)
	return answer
}

// think cuts the power in thought: what is found then has to be a card that
// works, and one that may be there.
func (s *cutting) think(operation string) error {
	if s.dead > 0 {
		if s.dead--; s.dead == 0 {
			s.dead = -1
		}
	}
	if s.dead < 0 {
		return errNoPower
	}
	s.cuts++
	file, d := s.open(s.disk.cut(s.chance))
	found := checkFound(s.t, s.before, s.under, d, s.about()+", before "+operation)
	card, err := emulator.New(d, file, testWorld(1))
	require.NoError(s.t, err)
	checkAlive(s.t, func(command []byte) []byte {
		answer, err := card.Transmit(s.t.Context(), command)
		require.NoError(s.t, err)
		return answer
	}, found, s.about())
	return nil
}

// do has the card carry out a deed.
func (s *cutting) do(one deed) apdu.SW {
	s.under = &one
	r, err := apdu.ParseResponse(s.transmit(one.command))
	require.NoError(s.t, err)
	if s.dead < 0 { // it was cut short
		require.Equal(s.t, apdu.MemoryFailure, r.SW, s.about())
		s.insert(s.disk.cut(s.chance))
		return r.SW
	}
	s.before, s.under, s.dead = one.settled(s.before, r), nil, 0
	truth := s.card.Snapshot().Durable()
	s.before = checkFound(s.t, s.before, nil, truth, "after "+one.name+" "+r.SW.String())
	require.NoError(s.t, s.think("anything else"))
	return r.SW
}

// Wherever the power is cut in a long session, the card opens; what was
// acknowledged is there and what was not is there whole or not at all; and no
// counter has gained by it.
func TestPower_CutBeforeEveryOperation(t *testing.T) {
	t.Parallel()
	for i, c := range []struct {
		kind string
		long int // deeds; opening is slow where a passphrase is needed
	}{{seal.KindNone, 300}, {seal.KindPassphrase, 100}, {seal.KindTPM, 300}} {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			s := newCutting(t, c.kind, uint64(i))
			succeeded := map[string]int{}
			spent, died := 0, 0
			for range c.long {
				if s.chance.IntN(12) == 0 {
					s.dead = 1 + s.chance.IntN(8)
				}
				one := s.driver.next(s.before)
				sw := s.do(one)
				switch _, tries := sw.Tries(); {
				case sw == apdu.OK:
					succeeded[one.name]++
				case tries:
					spent++
				case sw == apdu.MemoryFailure:
					died++
				}
			}
			t.Logf("%d power cuts in thought, %d real ones, %d tries spent, successes: %v", s.cuts, died, spent, succeeded)
			require.Greater(t, s.cuts, 5*c.long)
			require.Greater(t, died, c.long/40)
			require.Greater(t, spent, c.long/40)
			if c.long > 200 {
				require.Len(t, succeeded, 14, "each kind of deed has succeeded: %v", succeeded)
			}
		})
	}
}
