package emulator_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/store"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
	"hsmemu/keystore/seal"
	"hsmemu/pinstate"
)

// cheap is a passphrase that nobody waits for. What it costs to seal and to
// open does not depend on that.
var cheap = seal.Passphrase{Ask: func() ([]byte, error) { return []byte("x"), nil }, Time: 1, Memory: 8, Threads: 1}

// crowded is a card with 300 objects: 80 keys, each with a description and a
// certificate, and files for data.
func crowded(b *testing.B) chip.Durable {
	d, err := emulator.System().Manufacture(chip.Order{})
	require.NoError(b, err)
	d.Applet.PINs = pinstate.Card{
		Initialised: true, MinLength: 6, Options: pinstate.OptionResetEnabled,
		SO:   pinstate.Reference{Value: pinstate.Value("57621880"), Left: 15, Max: 15},
		User: pinstate.Reference{Value: pinstate.Value("648219"), Left: 3, Max: 3},
	}
	d.Applet.Keys = map[byte]keystore.Key{}
	world := emulator.System()
	known, _ := curve.ByName("secp256r1")
	for id := byte(1); id <= 80; id++ {
		k, err := keystore.GenerateEC(world.Rand, known)
		if id%8 == 0 {
			k, err = keystore.GenerateRSA(keystore.PoolGenerator{Rand: world.Rand}, 2048, []byte{1, 0, 1})
		}
		require.NoError(b, err)
		d.Applet.Keys[id] = k
		d.Applet.Files = append(d.Applet.Files,
			applet.File{ID: 0xC400 | uint16(id), Data: make([]byte, 40)}, applet.File{ID: 0xCE00 | uint16(id), Data: make([]byte, 500)})
	}
	for id := range uint16(60) {
		d.Applet.Files = append(d.Applet.Files, applet.File{ID: 0xCF00 | id, Data: make([]byte, 100)})
	}
	return d
}

// bare is the least that makes a file's new content durable: write, fsync,
// rename, fsync of the folder.
func bare(path string, raw []byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// kept is a card on disk.
func kept(b *testing.B, path string, d chip.Durable, s seal.Sealer) *emulator.Card {
	file, err := store.Create(path, d, store.Options{Sealers: []seal.Sealer{s}})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, file.Close()) })
	c, err := emulator.New(d, file, emulator.System())
	require.NoError(b, err)
	answer, err := c.Transmit(context.Background(), apdu.Command{INS: 0xA4, P1: 4, P2: 0x0C, Data: []byte(apdu.AID)}.Bytes())
	require.NoError(b, err)
	require.Equal(b, []byte{0x90, 0x00}, answer)
	return c
}

// BenchmarkVerify measures a PIN verification, which makes two states durable,
// beside two bare replacements of as many bytes in the same folder. They take
// turns, so that what else the disk does hits all of them alike.
func BenchmarkVerify(b *testing.B) {
	empty, err := emulator.System().Manufacture(chip.Order{})
	require.NoError(b, err)
	empty.Applet.PINs = crowded(b).Applet.PINs
	for _, c := range []struct {
		name string
		d    chip.Durable
	}{{"empty", empty}, {"300-objects", crowded(b)}} {
		b.Run(c.name, func(b *testing.B) {
			dir := b.TempDir()
			open, sealed := kept(b, filepath.Join(dir, "open"), c.d, seal.Insecure{}), kept(b, filepath.Join(dir, "sealed"), c.d, cheap)
			raw, err := os.ReadFile(filepath.Join(dir, "open"))
			require.NoError(b, err)
			right := apdu.Command{INS: 0x20, P2: 0x81, Data: []byte("648219")}.Bytes()
			verify := func(c *emulator.Card) error {
				answer, err := c.Transmit(context.Background(), right)
				if err == nil && answer[0] != 0x90 {
					err = fmt.Errorf("answer %X", answer)
				}
				return err
			}
			turns := []struct {
				name string
				do   func() error
				took []time.Duration
			}{
				{name: "bare", do: func() error {
					if err := bare(filepath.Join(dir, "bare"), raw); err != nil {
						return err
					}
					return bare(filepath.Join(dir, "bare"), raw)
				}},
				{name: "none", do: func() error { return verify(open) }},
				{name: "sealed", do: func() error { return verify(sealed) }},
			}
			n := 0
			for b.Loop() {
				for i := range turns {
					t := &turns[(i+n)%len(turns)]
					start := time.Now()
					err := t.do()
					t.took = append(t.took, time.Since(start))
					require.NoError(b, err)
				}
				n++
			}
			var usual []float64 // the median, in microseconds
			for _, t := range turns {
				slices.Sort(t.took)
				usual = append(usual, float64(t.took[len(t.took)/2].Nanoseconds())/1000)
				b.ReportMetric(usual[len(usual)-1], t.name+"-µs")
			}
			b.ReportMetric(usual[1]/usual[0], "none/bare")
			b.ReportMetric(usual[2]/usual[1], "sealed/none")
			b.ReportMetric(float64(len(raw)), "bytes")
		})
	}
}

// BenchmarkOpen opens a card with 300 objects until it answers its first
// command.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "card")
	require.NoError(b, store.Write(path, crowded(b), store.Options{}))
	for b.Loop() {
		file, err := store.Open[chip.Durable](path, store.Options{})
		require.NoError(b, err)
		d, err := file.Load()
		require.NoError(b, err)
		c, err := emulator.New(d, file, emulator.System())
		require.NoError(b, err)
		_, err = c.Transmit(context.Background(), apdu.Command{INS: 0xA4, P1: 4, P2: 0x0C, Data: []byte(apdu.AID)}.Bytes())
		require.NoError(b, err)
		require.NoError(b, file.Close())
	}
}
