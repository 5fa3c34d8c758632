package main

import (
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

// disk is a file system of one folder that forgets what was not synced when its
// power is cut, together with the counter of a TPM, which forgets nothing.
type disk struct {
	names, durable map[string]*content
	held           map[string]bool
	counter        uint64
	counted        bool // there is a counter

	// before is called before each operation and may make it fail.
	before func(operation string) error
}

// content is what names lead to.
type content struct{ now, durable []byte }

func newDisk() *disk {
	return &disk{names: map[string]*content{}, durable: map[string]*content{}, held: map[string]bool{}}
}

// cut is what the disk holds after its power was cut now. A name that was not
// synced leads to what it led to before, or to the new file; what was not
// synced of a file is there, partly there, or zeros, or missing.
func (d *disk) cut(chance *rand.Rand) *disk {
	after := newDisk()
	after.counter, after.counted = d.counter, d.counted
	fates := map[*content]*content{}
	all := maps.Clone(d.durable)
	maps.Copy(all, d.names)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		c := d.names[name]
		if old := d.durable[name]; old != c && chance.IntN(2) == 0 {
			c = old
		}
		if c == nil {
			continue
		}
		if fates[c] == nil {
			left := c.left(chance)
			fates[c] = &content{left, left}
		}
		after.names[name] = fates[c]
	}
	after.durable = maps.Clone(after.names)
	return after
}

func (c *content) left(chance *rand.Rand) []byte {
	if bytes.Equal(c.now, c.durable) {
		return c.now
	}
	switch chance.IntN(4) {
	case 0:
		return c.durable
	case 1:
		return c.now
	case 2:
		return make([]byte, len(c.now))
	}
	return c.now[:chance.IntN(len(c.now)+1)]
}

func (d *disk) ask(operation string) error {
	if d.before == nil {
		return nil
	}
	return d.before(operation)
}

func nowhere(operation, name string) error {
	return &fs.PathError{Op: operation, Path: name, Err: fs.ErrNotExist}
}

// The file system that package store asks for.

func (d *disk) ReadFile(name string) ([]byte, error) {
	if err := d.ask("read"); err != nil {
		return nil, err
	}
	c := d.names[name]
	if c == nil {
		return nil, nowhere("open", name)
	}
	return bytes.Clone(c.now), nil
}

func (d *disk) Create(name string) (store.Handle, error) {
	if err := d.ask("create"); err != nil {
		return nil, err
	}
	if d.names[name] != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	}
	d.names[name] = &content{}
	return &pen{d, d.names[name]}, nil
}

func (d *disk) Rename(from, to string) error {
	if err := d.ask("rename"); err != nil {
		return err
	}
	if d.names[from] == nil {
		return nowhere("rename", from)
	}
	d.names[to] = d.names[from]
	delete(d.names, from)
	return nil
}

func (d *disk) Remove(name string) error {
	if err := d.ask("remove"); err != nil {
		return err
	}
	if d.names[name] == nil {
		return nowhere("remove", name)
	}
	delete(d.names, name)
	return nil
}

func (d *disk) SyncDir(string) error {
	if err := d.ask("sync the folder"); err != nil {
		return err
	}
	d.durable = maps.Clone(d.names)
	return nil
}

func (d *disk) Lock(name string) (io.Closer, error) {
	if err := d.ask("lock"); err != nil {
		return nil, err
	}
	if d.held[name] {
		return nil, &store.LockedError{Path: name}
	}
	d.held[name] = true
	return unlock(func() { delete(d.held, name) }), nil
}

type unlock func()

func (u unlock) Close() error { u(); return nil }

// pen writes a file in two halves.
type pen struct {
	d *disk
	c *content
}

func (p *pen) Write(b []byte) (int, error) {
	for i, part := range [][]byte{b[:len(b)/2], b[len(b)/2:]} {
		if err := p.d.ask("write"); err != nil {
			return i * (len(b) / 2), err
		}
		p.c.now = append(bytes.Clone(p.c.now), part...)
	}
	return len(b), nil
}

func (p *pen) Sync() error {
	if err := p.d.ask("sync"); err != nil {
		return err
	}
	p.c.durable = p.c.now
	return nil
}

func (p *pen) Close() error { return p.d.ask("close") }

// clock is a sealer whose counter is that of the disk, in place of a TPM. It
// leaves the root key open.
type clock struct{ d *disk }

func (c clock) Kind() string { return seal.KindTPM }

func (c clock) Seal(root []byte, generation uint64) ([]byte, error) {
	return c.Recount(nil, root, generation)
}

func (c clock) Unseal(parameters []byte) (root []byte, err error) {
	return root, json.Unmarshal(parameters, &root)
}

func (c clock) Counter([]byte, []byte) (seal.Counter, error) { return c, nil }

func (c clock) Recount(_, root []byte, generation uint64) ([]byte, error) {
	c.d.counter, c.d.counted = generation, true
	return json.Marshal(root)
}

func (c clock) Release([]byte) error {
	c.d.counted = false
	return nil
}

func (c clock) Count() (uint64, error) {
	if err := c.d.ask("read the counter"); err != nil {
		return 0, err
	}
	if !c.d.counted {
		return 0, seal.ErrNoCounter
	}
	return c.d.counter, nil
}

func (c clock) Increment() error {
	if err := c.d.ask("count"); err != nil {
		return err
	}
	c.d.counter++
	return c.d.ask("hear that it has counted")
}

// sealed says how cards are kept on the disk: by the named seal if new.
func (d *disk) sealed(kind string) store.Options {
	phrase := seal.Passphrase{
		Ask:  func() ([]byte, error) { return []byte(testPhrase), nil },
		Time: 1, Memory: 8, Threads: 1,
	}
	all := []seal.Sealer{seal.Insecure{}, phrase, clock{d}}
	slices.SortStableFunc(all, func(x, y seal.Sealer) int {
		return strings.Compare(bit(y.Kind() == kind), bit(x.Kind() == kind))
	})
	return store.Options{FS: d, Sealers: all}
}

const testPhrase = "open sesame"

func bit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
