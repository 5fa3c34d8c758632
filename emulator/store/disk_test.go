package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

// world is a disk and a TPM that can lose their power between any two
// operations. What was written and not synced may then be there or not.
type world struct {
	names, durable map[string]*inode
	locks          map[string]bool
	counters       map[int]uint64
	lastCounter    int

	// before is called before each operation, with the operation's name.
	before func(operation string) error
}

type inode struct {
	data, durable []byte
}

func newWorld() *world {
	return &world{names: map[string]*inode{}, durable: map[string]*inode{}, locks: map[string]bool{}, counters: map[int]uint64{}}
}

// clone copies a world, without its hook.
func (w *world) clone() *world {
	c := newWorld()
	copies := map[*inode]*inode{}
	move := func(i *inode) *inode {
		if copies[i] == nil {
			copies[i] = &inode{bytes.Clone(i.data), bytes.Clone(i.durable)}
		}
		return copies[i]
	}
	for n, i := range w.names {
		c.names[n] = move(i)
	}
	for n, i := range w.durable {
		c.durable[n] = move(i)
	}
	c.locks, c.counters, c.lastCounter = maps.Clone(w.locks), maps.Clone(w.counters), w.lastCounter
	return c
}

// fate decides what a power cut does where it may do one thing or another.
type fate interface {
	pick(n int) int // in 0 to n-1
}

// crash returns the world after a power cut. Each name leads to the file it led
// to when the folder was last synced, or to the one it leads to now; each file
// holds what was synced, or all that was written, or a part, or zeros.
func (w *world) crash(f fate) *world {
	c := w.clone()
	names := slices.Sorted(maps.Keys(c.names))
	for n := range c.durable {
		if c.names[n] == nil {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	after := map[string]*inode{}
	for _, n := range names {
		old, now := c.durable[n], c.names[n]
		if old != now && f.pick(2) == 0 {
			now = old
		}
		if now != nil {
			after[n] = now
		}
	}
	for _, n := range slices.Sorted(maps.Keys(after)) {
		i := after[n]
		if bytes.Equal(i.data, i.durable) {
			continue
		}
		switch f.pick(4) {
		case 0:
			i.data = i.durable
		case 1:
			i.data = i.data[:f.pick(len(i.data)+1)]
		case 2:
			i.data = make([]byte, len(i.data))
		}
		i.durable = bytes.Clone(i.data)
	}
	c.names, c.durable, c.locks = after, maps.Clone(after), map[string]bool{}
	return c
}

func (w *world) step(operation string) error {
	if w.before == nil {
		return nil
	}
	return w.before(operation)
}

func missing(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist} }

func (w *world) ReadFile(name string) ([]byte, error) {
	if err := w.step("read"); err != nil {
		return nil, err
	}
	if w.names[name] == nil {
		return nil, missing("read", name)
	}
	return bytes.Clone(w.names[name].data), nil
}

func (w *world) Create(name string) (store.Handle, error) {
	if err := w.step("create"); err != nil {
		return nil, err
	}
	if w.names[name] != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	w.names[name] = &inode{}
	return &handle{w, w.names[name]}, nil
}

func (w *world) Rename(from, to string) error {
	if err := w.step("rename"); err != nil {
		return err
	}
	if w.names[from] == nil {
		return missing("rename", from)
	}
	w.names[to] = w.names[from]
	delete(w.names, from)
	return nil
}

func (w *world) Remove(name string) error {
	if err := w.step("remove"); err != nil {
		return err
	}
	if w.names[name] == nil {
		return missing("remove", name)
	}
	delete(w.names, name)
	return nil
}

func (w *world) SyncDir(name string) error {
	if err := w.step("syncdir"); err != nil {
		return err
	}
	for n := range w.durable {
		if filepath.Dir(n) == name && w.names[n] == nil {
			delete(w.durable, n)
		}
	}
	for n, i := range w.names {
		if filepath.Dir(n) == name {
			w.durable[n] = i
		}
	}
	return nil
}

func (w *world) Lock(name string) (io.Closer, error) {
	if err := w.step("lock"); err != nil {
		return nil, err
	}
	if w.locks[name] {
		return nil, &store.LockedError{Path: name, PID: 4711}
	}
	if w.names[name] == nil {
		w.names[name] = &inode{}
	}
	w.locks[name] = true
	return closer(func() error { delete(w.locks, name); return nil }), nil
}

type closer func() error

func (c closer) Close() error { return c() }

type handle struct {
	w *world
	i *inode
}

func (h *handle) Write(p []byte) (int, error) {
	half := len(p) / 2
	if err := h.w.step("write"); err != nil {
		return 0, err
	}
	h.i.data = append(h.i.data, p[:half]...)
	if err := h.w.step("write the rest"); err != nil {
		return half, err
	}
	h.i.data = append(h.i.data, p[half:]...)
	return len(p), nil
}

func (h *handle) Sync() error {
	if err := h.w.step("sync"); err != nil {
		return err
	}
	h.i.durable = bytes.Clone(h.i.data)
	return nil
}

func (h *handle) Close() error { return h.w.step("close") }

// kind of the counting sealer of a world.
const kindCounting = "counting"

// counting is a sealer with a counter, as the TPM is, without its slowness. It
// keeps the key where everyone can read it.
type counting struct {
	w    *world
	kind string
}

type countingParameters struct {
	Root    []byte
	Counter int
	Base    uint64
}

func (c counting) Kind() string { return c.kind }

func (c counting) Seal(root []byte, generation uint64) ([]byte, error) {
	return c.Recount(nil, root, generation)
}

func (c counting) Recount(_, root []byte, generation uint64) ([]byte, error) {
	if err := c.w.step("make a counter"); err != nil {
		return nil, err
	}
	c.w.lastCounter++
	c.w.counters[c.w.lastCounter] = 0
	return json.Marshal(countingParameters{root, c.w.lastCounter, generation})
}

func (c counting) Unseal(parameters []byte) ([]byte, error) {
	var p countingParameters
	if err := json.Unmarshal(parameters, &p); err != nil {
		return nil, fmt.Errorf("%w: %w", seal.ErrParameters, err)
	}
	if len(p.Root) != seal.RootLen {
		return nil, seal.ErrRoot
	}
	return p.Root, nil
}

func (c counting) Counter(parameters, root []byte) (seal.Counter, error) {
	var p countingParameters
	err := json.Unmarshal(parameters, &p)
	if !bytes.Equal(root, p.Root) {
		return nil, errors.New("another key")
	}
	return &count{c.w, p}, err
}

func (c counting) Release(parameters []byte) error {
	var p countingParameters
	if err := json.Unmarshal(parameters, &p); err != nil {
		return err
	}
	if err := c.w.step("release"); err != nil {
		return err
	}
	delete(c.w.counters, p.Counter)
	return nil
}

type count struct {
	w *world
	p countingParameters
}

func (c *count) Count() (uint64, error) {
	if err := c.w.step("count"); err != nil {
		return 0, err
	}
	n, there := c.w.counters[c.p.Counter]
	if !there {
		return 0, seal.ErrNoCounter
	}
	return c.p.Base + n, nil
}

func (c *count) Increment() error {
	if err := c.w.step("increment"); err != nil {
		return err
	}
	if _, there := c.w.counters[c.p.Counter]; !there {
		return seal.ErrNoCounter
	}
	c.w.counters[c.p.Counter]++
	// It may have counted although nobody hears of it.
	return c.w.step("hear that it has counted")
}
