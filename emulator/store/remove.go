package store

import (
	"errors"
	"fmt"
	"path/filepath"
)

// Remove deletes the file at path with everything beside it, whatever it
// holds. Errors: *LockedError (ErrLocked) while a process has it open,
// ErrNotExist, or what the file system said.
func Remove(path string, opt Options) error {
	f := &File[struct{}]{path: path, fs: opt.fileSystem()}
	if _, err := f.fs.ReadFile(path); errors.Is(err, ErrNotExist) {
		return fmt.Errorf("store: remove: %w", err)
	}
	if err := f.acquire(); err != nil {
		return err
	}
	err := f.remove()
	return errors.Join(err, f.lock.Close())
}

// remove deletes the lock last, while holding it.
func (f *File[T]) remove() error {
	if err := f.fs.Remove(f.path); err != nil {
		return fmt.Errorf("store: remove: %w", err)
	}
	if err := f.discard(); err != nil {
		return err
	}
	if err := f.fs.Remove(f.path + ".lock"); err != nil {
		return fmt.Errorf("store: remove the lock: %w", err)
	}
	return f.fs.SyncDir(filepath.Dir(f.path))
}

// Seal names what protects the content of the file, "none" if nothing does.
func (f *File[T]) Seal() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.header.Seal
}
