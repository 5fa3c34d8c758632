package store

import (
	"errors"
	"fmt"
)

// Write makes the file at path with one value and leaves no lock file beside
// it: for a file that goes elsewhere. Errors are those of Create.
func Write[T any](path string, v T, opt Options) error {
	f := &File[T]{path: path, opt: opt.complete()}
	if err := f.acquire(); err != nil {
		return err
	}
	err := f.create(v)
	// While it is held, or it might be another's.
	if failed := f.opt.FS.Remove(path + ".lock"); failed != nil {
		err = errors.Join(err, fmt.Errorf("remove the lock: %w", failed))
	}
	return errors.Join(err, f.Close())
}

// Held returns nil if nobody has the file at path open for writing, without opening
// it, or else a *LockedError.
func Held(path string, opt Options) error {
	lock, err := opt.complete().FS.Lock(path + ".lock")
	if held := (*LockedError)(nil); errors.As(err, &held) {
		return &LockedError{Path: path, PID: held.PID}
	}
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	return lock.Close()
}
