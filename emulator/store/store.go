// Package store keeps one value in one file, so that the file holds a whole
// value at every moment, whatever happens to the power, the disk or the
// process.
//
// It does not know what the value is: File[T] writes a T as JSON and reads it
// back. It keeps no history and merges nothing.
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
// The generation counts the saves of a file. Beside the file "name" live
// "name.lock", which tells whose process uses it, and, during a save or after
// a power cut, "name.tmp", which nobody reads.
package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"
)

// Options say how a file is kept. The zero value is what a program wants.
type Options struct {
	// FS is the file system that is used; nil is the operating system's.
	FS FS
}

// Info is what can be told of a file without opening it.
type Info struct {
	Version    int    // of the file format
	Generation uint64 // how often the file was saved, 1 for a new one
	Seal       string // what protects the content: "none"
}

// File is a value of type T in a file which this process alone may change.
// Its methods may be called from several goroutines.
type File[T any] struct {
	mu     sync.Mutex
	path   string
	fs     FS
	lock   io.Closer // nil once the file is closed
	header header
	last   []byte // the file's bytes as of the last save; nil before the first
	spare  []byte // memory for the next save
}

// Open takes the file at path for this process and checks it. The content is
// read by Load. Errors: *LockedError (ErrLocked), ErrNotExist, ErrCorrupt,
// ErrVersion, or what the file system said; the file is as before in each case.
func Open[T any](path string, opt Options) (*File[T], error) {
	f := &File[T]{path: path, fs: opt.fileSystem()}
	// A look without the lock, so that asking for a file that is not there
	// leaves no lock file behind.
	if _, err := f.fs.ReadFile(path); err != nil {
		return nil, fmt.Errorf("store: open: %w", err)
	}
	if err := f.acquire(); err != nil {
		return nil, err
	}
	if err := f.open(); err != nil {
		return nil, errors.Join(err, f.lock.Close())
	}
	return f, nil
}

func (f *File[T]) open() error {
	raw, err := f.fs.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("store: open: %w", err)
	}
	_, f.header, _, err = parse(f.path, raw)
	if err != nil {
		return err
	}
	f.last = raw
	return f.discard()
}

// Create makes the file at path with its first value, generation 1, and takes
// it for this process. Errors: ErrExist if the file is there already, and those
// of Open and Save.
func Create[T any](path string, v T, opt Options) (*File[T], error) {
	f := &File[T]{path: path, fs: opt.fileSystem(), header: header{Seal: unsealed}}
	if err := f.acquire(); err != nil {
		return nil, err
	}
	if err := f.create(v); err != nil {
		return nil, errors.Join(err, f.lock.Close())
	}
	return f, nil
}

func (f *File[T]) create(v T) error {
	switch _, err := f.fs.ReadFile(f.path); {
	case err == nil:
		return fmt.Errorf("store: create: %w", &fs.PathError{Op: "create", Path: f.path, Err: ErrExist})
	case !errors.Is(err, ErrNotExist):
		return fmt.Errorf("store: create: %w", err)
	}
	return f.Save(v)
}

// Read reads the file at path without taking it, also while another process
// uses it: the value is one that was saved, not necessarily the last. Errors
// are those of Open and Load, without ErrLocked.
func Read[T any](path string, opt Options) (T, Info, error) {
	var v T
	raw, err := opt.fileSystem().ReadFile(path)
	if err != nil {
		return v, Info{}, fmt.Errorf("store: read: %w", err)
	}
	version, h, content, err := parse(path, raw)
	if err != nil {
		return v, Info{}, err
	}
	info := Info{Version: version, Generation: h.Generation, Seal: h.Seal}
	v, err = decode[T](path, content)
	return v, info, err
}

// Inspect tells what can be told of the file at path without taking it and
// without its content. Errors are those of Open, without ErrLocked.
func Inspect(path string, opt Options) (Info, error) {
	raw, err := opt.fileSystem().ReadFile(path)
	if err != nil {
		return Info{}, fmt.Errorf("store: inspect: %w", err)
	}
	version, h, _, err := parse(path, raw)
	if err != nil {
		return Info{}, err
	}
	return Info{Version: version, Generation: h.Generation, Seal: h.Seal}, nil
}

// Load reads the value from the file. Each call makes a new value. Errors:
// ErrCorrupt, ErrVersion if the content does not fit T, ErrClosed.
func (f *File[T]) Load() (T, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var none T
	if f.lock == nil {
		return none, ErrClosed
	}
	raw, err := f.fs.ReadFile(f.path)
	if err != nil {
		return none, fmt.Errorf("store: load: %w", err)
	}
	_, _, content, err := parse(f.path, raw)
	if err != nil {
		return none, err
	}
	return decode[T](f.path, content)
}

// Save replaces the value in the file. When it returns nil, the value is on
// disk and outlives a power cut. When it returns an error, the file holds what
// it held before. (If the disk fails in the last step, when the folder is
// written, putting the old value back may fail too; then the file holds one of
// the two values, whole, and the error says so.) Save may be called again after
// an error.
func (f *File[T]) Save(v T) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lock == nil {
		return ErrClosed
	}
	h := f.header
	h.Generation++
	raw, err := encode(f.spare[:0], h, v)
	if err != nil {
		return err
	}
	if err := f.replace(raw); err != nil {
		return fmt.Errorf("store: save: %w", err)
	}
	f.header = h
	f.last, f.spare = raw, f.last
	return nil
}

// Generation returns how often the file was saved, 1 for a new one.
func (f *File[T]) Generation() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.header.Generation
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
	f.lock = nil
	if err != nil {
		return fmt.Errorf("store: close: %w", err)
	}
	return nil
}

func (f *File[T]) acquire() error {
	lock, err := f.fs.Lock(f.path + ".lock")
	var held *LockedError
	switch {
	case errors.As(err, &held):
		return &LockedError{Path: f.path, PID: held.PID}
	case err != nil:
		return fmt.Errorf("store: lock: %w", err)
	}
	f.lock = lock
	return nil
}

func (f *File[T]) temporary() string { return f.path + ".tmp" }

// discard removes what a power cut in the middle of a save left behind.
func (f *File[T]) discard() error {
	if err := f.fs.Remove(f.temporary()); err != nil && !errors.Is(err, ErrNotExist) && !readOnly(err) {
		return fmt.Errorf("store: remove a leftover: %w", err)
	}
	return nil
}

// replace makes raw the file's content, or leaves the old one.
func (f *File[T]) replace(raw []byte) error {
	if err := f.write(raw); err != nil {
		return err
	}
	err := f.fs.SyncDir(filepath.Dir(f.path))
	if err == nil {
		return nil
	}
	// The new file is in place, but nobody can say whether it will be there
	// after a power cut. The caller is told that nothing happened, so nothing
	// shall have happened.
	if undo := f.undo(); undo != nil {
		return errors.Join(err, fmt.Errorf("put the old value back: %w", undo))
	}
	return err
}

func (f *File[T]) undo() error {
	if f.last == nil {
		return f.fs.Remove(f.path)
	}
	return f.write(f.last)
}

// write puts raw beside the file, makes it durable, and moves it in place.
func (f *File[T]) write(raw []byte) error {
	tmp := f.temporary()
	h, err := f.fs.Create(tmp)
	if errors.Is(err, ErrExist) {
		// Left over from a power cut, or from a save that could not clean up.
		if err := f.fs.Remove(tmp); err != nil {
			return err
		}
		h, err = f.fs.Create(tmp)
	}
	if err != nil {
		return err
	}
	_, err = h.Write(raw)
	if err == nil {
		err = h.Sync()
	}
	if cerr := h.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = f.fs.Rename(tmp, f.path)
	}
	if err != nil {
		// The next save or Open removes it if this fails.
		_ = f.fs.Remove(tmp)
	}
	return err
}

// decode reads the one JSON value in content. The checksum has vouched for
// content, so JSON that does not fit T comes from a program with another T.
func decode[T any](path string, content []byte) (T, error) {
	var v T
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		var none T
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return none, corrupt(path, "the content is not JSON: "+err.Error())
		}
		return none, fmt.Errorf("%w: %s: the content does not fit: %w", ErrVersion, path, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		var none T
		return none, corrupt(path, "more than one value")
	}
	return v, nil
}
