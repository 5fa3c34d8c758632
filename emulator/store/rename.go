package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// Rename moves the file at from, whatever it holds, to a path in the same
// folder where there is none. What goes along is moved by along, before the
// file and while no process can have it. Errors: *LockedError (ErrLocked) while
// a process has either open, ErrNotExist, ErrExist, that of along, or what the
// file system said.
func Rename(from, to string, opt Options, along func() error) error {
	old, next := &File[struct{}]{path: from, opt: opt.complete()}, &File[struct{}]{path: to, opt: opt.complete()}
	if _, err := old.opt.FS.ReadFile(from); err != nil {
		return fmt.Errorf("rename: %w", err)
	}
	if err := old.acquire(); err != nil {
		return err
	}
	if err := next.acquire(); err != nil {
		return errors.Join(err, old.lock.Close())
	}
	if err := old.rename(to, along); err != nil {
		return errors.Join(err, next.forsake(), old.lock.Close())
	}
	return errors.Join(next.lock.Close(), old.lock.Close())
}

// rename deletes the lock of the old name last, while holding it.
func (f *File[T]) rename(to string, along func() error) error {
	switch _, err := f.opt.FS.ReadFile(to); {
	case err == nil:
		return fmt.Errorf("rename: %w", &fs.PathError{Op: "create", Path: to, Err: ErrExist})
	case !errors.Is(err, ErrNotExist):
		return fmt.Errorf("rename: %w", err)
	}
	if err := f.discard(); err != nil {
		return err
	}
	if err := along(); err != nil {
		return err
	}
	if err := f.opt.FS.Rename(f.path, to); err != nil {
		return fmt.Errorf("rename: %w", err)
	}
	if err := f.opt.FS.SyncDir(filepath.Dir(to)); err != nil {
		return fmt.Errorf("rename: %w", err)
	}
	if err := f.opt.FS.Remove(f.path + ".lock"); err != nil {
		return fmt.Errorf("remove the lock: %w", err)
	}
	return nil
}
