package store_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

// full is a value of about the size and shape of a card's state with 300
// objects: keys, their descriptions, certificates.
func full() value {
	v := value{Name: "full", Tries: 3, Files: map[string][]byte{}}
	for i := range 300 {
		b := make([]byte, 120+i%120)
		_, _ = rand.Read(b)
		v.Files[fmt.Sprintf("%04X", 0xC400+i)] = b
	}
	return v
}

// bare is what a durable replacement costs at least: write, fsync, rename,
// fsync of the folder.
func bare(path string, raw []byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(raw); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(path+".tmp", path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	if err = d.Sync(); err != nil {
		return err
	}
	return d.Close()
}

// BenchmarkSave compares saves with the bare replacement of as many bytes in
// the same folder. The three take turns, so that what else the disk does hits
// all of them; the metrics say what half of the turns of each took at most (the
// median, because other users of a disk make the mean wander) and how many times
// a bare one that is.
func BenchmarkSave(b *testing.B) {
	dir := b.TempDir()
	v := full()
	open, err := store.Create(filepath.Join(dir, "open"), v, store.Options{})
	require.NoError(b, err)
	defer open.Close()
	sealed, err := store.Create(filepath.Join(dir, "sealed"), v, store.Options{Sealers: []seal.Sealer{cheap}})
	require.NoError(b, err)
	defer sealed.Close()
	raw, err := os.ReadFile(filepath.Join(dir, "open"))
	require.NoError(b, err)
	turns := []struct {
		name string
		do   func() error
		took []time.Duration
	}{
		{name: "bare", do: func() error { return bare(filepath.Join(dir, "bare"), raw) }},
		{name: "none", do: func() error { return open.Save(v) }},
		{name: "sealed", do: func() error { return sealed.Save(v) }},
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
	median := map[string]float64{}
	for _, t := range turns {
		slices.Sort(t.took)
		median[t.name] = float64(t.took[n/2].Microseconds())
		b.ReportMetric(median[t.name], t.name+"-µs")
	}
	b.ReportMetric(median["none"]/median["bare"], "none/bare")
	b.ReportMetric(median["sealed"]/median["bare"], "sealed/bare")
	b.ReportMetric(median["sealed"]/median["none"], "sealed/none")
	b.ReportMetric(float64(len(raw)), "bytes")
}

// BenchmarkOpen opens and loads a card with 300 objects.
func BenchmarkOpen(b *testing.B) {
	for _, s := range []seal.Sealer{seal.Insecure{}, cheap} {
		b.Run(s.Kind(), func(b *testing.B) {
			opt := store.Options{Sealers: []seal.Sealer{s}}
			path := place(b)
			f, err := store.Create(path, full(), opt)
			require.NoError(b, err)
			require.NoError(b, f.Close())
			for b.Loop() {
				f, err := store.Open[value](path, opt)
				require.NoError(b, err)
				_, err = f.Load()
				require.NoError(b, err)
				require.NoError(b, f.Close())
			}
		})
	}
}

// BenchmarkTPM is what a software TPM adds: to opening, the key and the count;
// to each save, one count.
func BenchmarkTPM(b *testing.B) {
	tpm := newTPM(b)
	opt := store.Options{Sealers: []seal.Sealer{seal.TPM{Address: tpm.socket()}}}
	path := place(b)
	v := full()
	f, err := store.Create(path, v, opt)
	require.NoError(b, err)
	b.Run("save", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, f.Save(v))
		}
	})
	require.NoError(b, f.Close())
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			f, err := store.Open[value](path, opt)
			require.NoError(b, err)
			require.NoError(b, f.Close())
		}
	})
}
