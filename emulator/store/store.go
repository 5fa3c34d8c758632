// Package store keeps one value in one file, so that the file holds a whole
// value at every moment, whatever happens to the power, the disk or the
// process; encrypted if it is told how, and in such a way that an old copy of
// the file is noticed where a TPM counts along.
//
// It does not know what the value is: File[T] writes a T as JSON and reads it
// back. It keeps no history, merges nothing, and keeps no keys: package seal
// does.
//
//	f, err := store.Open[Durable](path, store.Options{})
//	if err != nil { … }
//	defer f.Close()
//	v, err := f.Load()
//	…
//	err = f.Save(v) // on disk when this returns nil
//
// # The file
//
// A file is one line with the format's version and a checksum, one line with
// the header, and the content to the end:
//
//	hsmemu-state 1 ‹SHA-256 of all that follows this line, 64 hexadecimal digits›
//	{"generation":7,"seal":"none"}
//	‹the value as JSON›
//
// The generation counts the saves of a file. A sealed file names its kind of
// seal and what the sealer wants to know, and its content is a random nonce of
// 24 bytes and the value encrypted by XChaCha20-Poly1305 under the root key,
// with "hsmemu-state 1", a line feed and the whole header line as associated
// data. "retired" in a header is the seal that a Reseal replaced, until its
// counter is known to be gone.
//
// Beside the file "name" live "name.lock", which tells whose process uses it,
// and, during a save or after a power cut, "name.tmp", which nobody reads.
package store

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"hsmemu/keystore/seal"
)

// Options say how a file is kept. The zero value is an unsealed file in the
// operating system's file system.
type Options struct {
	// FS is the file system that is used; nil is the operating system's.
	FS FS
	// Sealers are the ways in which a file may be sealed. An existing file is
	// opened by the one of its kind, and refused if there is none, so that
	// leaving seal.Insecure out refuses files that were put there unsealed. A new
	// file is sealed by the first. Empty is seal.Insecure alone.
	Sealers []seal.Sealer
	// Rand gives root keys and nonces; nil is crypto/rand.
	Rand io.Reader
}

// File is a value of type T in a file which this process alone may change.
// Its methods may be called from several goroutines.
type File[T any] struct {
	mu      sync.Mutex
	path    string
	opt     Options
	lock    io.Closer // nil once the file is closed
	header  header
	guard   guard
	unsure  bool   // the counter may be one behind the file
	last    []byte // the file's bytes as of the last save; nil before the first
	spare   []byte // memory for the next save
	content []byte // memory for an open content
}

// guard is a seal in use.
type guard struct {
	sealer  seal.Sealer
	aead    cipher.AEAD  // nil: the content is in the open
	counter seal.Counter // nil: nothing counts
}

// Open takes the file at path for this process and checks it. The content is
// read by Load. Errors: *LockedError (ErrLocked), ErrNotExist, ErrNotRegular,
// ErrCorrupt, ErrVersion, ErrSealed, ErrRolledBack, ErrAhead, what the sealer returned
// (seal.ErrPassphrase, …), or what the file system said; the file is as before
// in each case.
func Open[T any](path string, opt Options) (*File[T], error) {
	return take[T](path, opt, (*File[T]).settle)
}

// Accept opens a file like Open, also if it was rolled back, if it is ahead of
// its counter, or if its counter is gone: after a backup was restored on
// purpose, say. It saves the file at once, and from then on other copies of it
// are refused as old. Whether to do that is for the card's owner to say, each
// time: old copies bring back spent PIN tries and deleted keys.
func Accept[T any](path string, opt Options) (*File[T], error) {
	return take[T](path, opt, (*File[T]).accept)
}

// take opens a file and has its generation judged.
func take[T any](path string, opt Options, judge func(*File[T]) error) (*File[T], error) {
	f := &File[T]{path: path, opt: opt.complete()}
	// A look without the lock, so that asking for a file that is not there
	// leaves no lock file behind.
	if _, err := f.opt.FS.ReadFile(path); err != nil {
		return nil, err
	}
	if err := f.acquire(); err != nil {
		return nil, err
	}
	err := f.open()
	if err == nil {
		err = judge(f)
	}
	if err == nil {
		err = f.discard()
	}
	if err != nil {
		return nil, errors.Join(err, f.lock.Close())
	}
	f.retire()
	return f, nil
}

func (f *File[T]) open() error {
	raw, err := f.opt.FS.ReadFile(f.path)
	if err != nil {
		return err
	}
	p, err := parse(f.path, raw)
	if err != nil {
		return err
	}
	if f.guard, err = f.opt.unseal(f.path, p.header); err != nil {
		return err
	}
	// What cannot be read shall be refused now, and not when it is wanted.
	if f.content, err = p.content(f.content[:0], f.guard.aead); err != nil {
		return err
	}
	f.wipe()
	f.header, f.last = p.header, raw
	return nil
}

// Create makes the file at path with its first value, generation 1, and takes
// it for this process. Errors: ErrExist if the file is there already, and those
// of Open and Save.
func Create[T any](path string, v T, opt Options) (*File[T], error) {
	f := &File[T]{path: path, opt: opt.complete()}
	if err := f.acquire(); err != nil {
		return nil, err
	}
	if err := f.create(v); err != nil {
		return nil, errors.Join(err, f.forsake())
	}
	return f, nil
}

// forsake gives the lock back, and removes it where it is that of no file: it was made for one
// that did not come to be.
func (f *File[T]) forsake() error {
	var err error
	if _, absent := f.opt.FS.ReadFile(f.path); errors.Is(absent, ErrNotExist) {
		err = f.opt.FS.Remove(f.path + ".lock")
	}
	return errors.Join(err, f.lock.Close())
}

func (f *File[T]) create(v T) error {
	switch _, err := f.opt.FS.ReadFile(f.path); {
	case err == nil:
		return fmt.Errorf("create: %w", &fs.PathError{Op: "create", Path: f.path, Err: ErrExist})
	case !errors.Is(err, ErrNotExist):
		return fmt.Errorf("create: %w", err)
	}
	h, g, err := f.opt.seal(f.path, f.opt.Sealers[0], 0)
	if err != nil {
		return err
	}
	f.header, f.guard = h, g
	if err := f.Save(v); err != nil {
		if f.unsure { // in place, but not counted: nobody has seen it yet
			err = errors.Join(err, f.opt.FS.Remove(f.path))
			f.unsure = false
		}
		return errors.Join(err, f.abandon(h, g, err))
	}
	return nil
}

// Load returns the value that Open found or that was saved last. Each call
// makes a new one. Errors: ErrVersion or ErrCorrupt if the content does not fit
// T, ErrClosed.
func (f *File[T]) Load() (T, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var none T
	if f.lock == nil {
		return none, ErrClosed
	}
	// From memory, not from the disk: what lies there now may be something
	// else than what was judged when the file was opened.
	p, err := parse(f.path, f.last)
	if err != nil {
		return none, err
	}
	if f.content, err = p.content(f.content[:0], f.guard.aead); err != nil {
		return none, err
	}
	defer f.wipe()
	return decode[T](f.path, f.content)
}

// Save replaces the value in the file. When it returns nil, the value is on
// disk and outlives a power cut. When it returns an error, the file holds what
// it held before, with two exceptions that the error's text tells: if the disk
// fails in the last step, when the folder is written, putting the old value
// back may fail too; and if the counter does not answer, the new value stays,
// because the counter may have counted it. Then the file holds one of the two
// values, whole. Save may be called again after an error.
func (f *File[T]) Save(v T) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lock == nil {
		return ErrClosed
	}
	if f.unsure { // never two ahead of the counter
		if err := f.settle(); err != nil {
			return fmt.Errorf("save: %w", err)
		}
	}
	var err error
	if f.content, err = encode(f.content[:0], v); err != nil {
		return err
	}
	defer f.wipe()
	return f.put(f.header, f.guard, f.content)
}

// put makes content the file's, one generation on from h.
func (f *File[T]) put(h header, g guard, content []byte) error {
	if h.Generation == maxGeneration { // one more, and nobody could open it
		return errLast
	}
	h.Generation++
	raw, err := compose(f.spare[:0], h, content, g.aead, f.opt.Rand)
	if err != nil {
		return err
	}
	if err := f.replace(raw); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	f.header, f.guard = h, g
	f.last, f.spare = raw, f.last
	f.unsure = g.counter != nil
	if !f.unsure {
		return nil
	}
	if err := g.counter.Increment(); err != nil {
		return fmt.Errorf("saved, but not counted: %w", err)
	}
	f.unsure = false
	return nil
}

// Generation returns how often the file was saved, 1 for a new one.
func (f *File[T]) Generation() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.header.Generation
}

// Counts reports whether the file has a counter, which notices an old value that
// is brought back.
func (f *File[T]) Counts() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.guard.counter != nil
}

// Seal names what protects the content of the file, seal.KindNone if nothing
// does.
func (f *File[T]) Seal() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.header.Seal
}

// Close gives the file back for other processes. It saves nothing. A second
// call does nothing.
func (f *File[T]) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lock == nil {
		return nil
	}
	err := f.lock.Close()
	f.lock, f.guard, f.last, f.spare = nil, guard{}, nil, nil
	if err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

func (f *File[T]) acquire() error {
	lock, err := f.opt.FS.Lock(f.path + ".lock")
	var held *LockedError
	var failed *fs.PathError
	switch {
	case errors.As(err, &held):
		return &LockedError{Path: f.path, PID: held.PID}
	case errors.As(err, &failed): // whoever named the file knows nothing of its lock
		return &fs.PathError{Op: "lock", Path: f.path, Err: failed.Err}
	case err != nil:
		return fmt.Errorf("lock: %w", err)
	}
	f.lock = lock
	return nil
}

// wipe removes an open content from memory as far as it is this package's.
func (f *File[T]) wipe() { clear(f.content[:cap(f.content)]) }
