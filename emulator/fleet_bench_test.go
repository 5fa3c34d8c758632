package emulator_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
	"hsmemu/vsmartcard/pcscd"
)

// fromEnvironment is a size of a benchmark, which people may set.
func fromEnvironment(b *testing.B, name string, usual int) int {
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	require.NoError(b, err)
	return n
}

// inParallel runs f for the numbers below n on all processors.
func inParallel(n int, f func(n int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	all.Wait()
}

// heap is how many bytes are in use.
func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

var fleetPIN = []byte("648219")

// member makes a card with keys on secp256r1, from 1 on.
func member(b *testing.B, n, keys int) *emulator.Card {
	ctx := context.Background()
	card, err := emulator.NewCard(chip.Order{Serial: fmt.Sprintf("DENK%07d", n)}, emulator.System())
	require.NoError(b, err)
	c := client.New(card)
	_, err = c.Select(ctx)
	require.NoError(b, err)
	require.NoError(b, c.Initialise(ctx, client.Setup{Options: 1, SOPIN: []byte("57621880"), PIN: fleetPIN, Tries: 3}))
	require.NoError(b, c.VerifyPIN(ctx, client.UserPIN, fleetPIN))
	known, _ := curve.ByName("secp256r1")
	for ref := range keys {
		_, err := c.GenerateEC(ctx, byte(ref+1), known, client.KeySpec{Holder: cvc.Name("UTFLEET000001")})
		require.NoError(b, err)
	}
	return card
}

// BenchmarkFleet measures many cards in one process: HSMEMU_FLEET of them, 200 if it
// is not set, with ten keys each. Memory is what the heap holds for each.
func BenchmarkFleet(b *testing.B) {
	const keys = 10
	size, ctx := fromEnvironment(b, "HSMEMU_FLEET", 200), context.Background()
	folder := b.TempDir()
	dir, err := statedir.Open(folder, store.Options{})
	require.NoError(b, err)
	file := func(n int) string { return filepath.Join(folder, fmt.Sprintf("card%05d.card", n)) }
	inParallel(size, func(n int) {
		card := member(b, n, keys)
		require.NoError(b, store.Write(file(n), card.Snapshot().Durable(), store.Options{}))
	})
	b.Run("load from a folder", func(b *testing.B) {
		var each float64
		for b.Loop() {
			b.StopTimer()
			cards, before := make([]*statedir.Card, size), heap()
			b.StartTimer()
			inParallel(size, func(n int) {
				var err error
				if cards[n], err = dir.Run(fmt.Sprintf("card%05d", n), emulator.System()); err != nil {
					b.Error(err)
				}
			})
			b.StopTimer()
			each = (heap() - before) / float64(size)
			for _, card := range cards {
				require.NoError(b, card.Close())
			}
			b.StartTimer()
		}
		b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*size), "µs/card")
		b.ReportMetric(each, "B/card")
	})
	cards := make([]*emulator.Card, size)
	before := heap()
	inParallel(size, func(n int) {
		state, _, err := store.Read[chip.Durable](file(n), store.Options{})
		require.NoError(b, err)
		cards[n], err = emulator.New(state, forgetful{}, emulator.System())
		require.NoError(b, err)
		c := client.New(cards[n])
		_, err = c.Select(ctx)
		require.NoError(b, err)
		require.NoError(b, c.VerifyPIN(ctx, client.UserPIN, fleetPIN))
	})
	perCard := (heap() - before) / float64(size)
	digest := sha256.Sum256([]byte("measured"))
	for _, m := range []struct {
		name string
		do   func(*client.Client) error
	}{
		{"status", func(c *client.Client) error { _, err := c.PINStatus(ctx, client.UserPIN); return err }},
		{"P-256", func(c *client.Client) error {
			_, err := c.Sign(ctx, 3, keystore.ECDSA, digest[:])
			return err
		}},
	} {
		b.Run(m.name, func(b *testing.B) {
			var next atomic.Int64
			b.RunParallel(func(each *testing.PB) {
				for each.Next() {
					if err := m.do(client.New(cards[int(next.Add(1))%size])); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
			b.ReportMetric(perCard, "B/card")
		})
		// The same on one card, whose commands queue.
		b.Run(m.name+" of one card", func(b *testing.B) {
			c := client.New(cards[0])
			for b.Loop() {
				require.NoError(b, m.do(c))
			}
		})
	}
}

// forgetful is a store for cards that end with the process.
type forgetful struct{}

func (forgetful) Save(chip.Durable) error { return nil }

func (forgetful) Counts() bool { return false }

// BenchmarkDaemons measures private daemons of 16 readers, HSMEMU_DAEMONS of them, 20
// if it is not set, each with a client that asks its cards in turn.
func BenchmarkDaemons(b *testing.B) {
	const readers = 16
	size := fromEnvironment(b, "HSMEMU_DAEMONS", 20)
	before := heap()
	clients := make([][]*pcscd.Handle, size)
	var closing []io.Closer
	defer func() {
		for _, c := range closing {
			require.NoError(b, c.Close())
		}
	}()
	for n := range size {
		slots := make([]pcscd.Slot, readers)
		for i := range slots {
			card, err := emulator.NewCard(chip.Order{Serial: fmt.Sprintf("DENK%07d", n*readers+i)}, emulator.System())
			require.NoError(b, err)
			slots[i] = pcscd.Slot{Reader: pcscd.NitrokeyHSM(card.TokenSerial(), i), Card: card}
		}
		daemon, err := pcscd.Start(b.TempDir(), slots...)
		require.NoError(b, err)
		_, path, _ := strings.Cut(daemon.Env, "=")
		client, err := pcscd.Dial(b.Context(), path)
		require.NoError(b, err)
		closing = append(closing, client, daemon)
		states, err := client.Readers(b.Context())
		require.NoError(b, err)
		require.Len(b, states, readers)
		for _, s := range states {
			h, err := client.Connect(b.Context(), s.Name, pcscd.Shared, pcscd.T1)
			require.NoError(b, err)
			clients[n] = append(clients[n], h)
		}
	}
	perDaemon := (heap() - before) / float64(size)
	ctx := context.Background()
	ask := func(h *pcscd.Handle) {
		if _, err := h.Transmit(ctx, []byte{0x00, 0xA4, 0x04, 0x0C, 0x0B, 0xE8, 0x2B, 0x06, 0x01, 0x04, 0x01, 0x81, 0xC3, 0x1F, 0x02, 0x01}); err != nil {
			b.Error(err)
		}
	}
	b.Run("one client", func(b *testing.B) {
		for b.Loop() {
			ask(clients[0][0])
		}
	})
	b.Run("all clients", func(b *testing.B) {
		var all sync.WaitGroup
		each := b.N/size + 1
		b.ResetTimer()
		for _, handles := range clients {
			all.Go(func() {
				for i := range each {
					ask(handles[i%readers])
				}
			})
		}
		all.Wait()
		b.ReportMetric(float64(each*size)/b.Elapsed().Seconds(), "commands/s")
		b.ReportMetric(perDaemon, "B/daemon")
	})
}
