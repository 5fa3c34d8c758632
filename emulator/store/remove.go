package store

import (
	"errors"
	"fmt"
	"path/filepath"

	"hsmemu/keystore/seal"
)

// Remove deletes the file at path with everything beside it, whatever it
// holds. The counters of its seals go too, if Sealers of their kind are given.
// Errors: *LockedError (ErrLocked) while a process has it open, ErrNotExist, or
// what the file system or a sealer said.
func Remove(path string, opt Options) error {
	f := &File[struct{}]{path: path, opt: opt.complete()}
	if _, err := f.opt.FS.ReadFile(path); errors.Is(err, ErrNotExist) {
		return fmt.Errorf("remove: %w", err)
	}
	if err := f.acquire(); err != nil {
		return err
	}
	if raw, err := f.opt.FS.ReadFile(path); err == nil {
		if p, perr := parse(path, raw); perr == nil { // a damaged file has no more to tell
			f.header = p.header
		}
	}
	return errors.Join(f.remove(), f.lock.Close())
}

// remove deletes the lock last, while holding it. Counters go after the file
// that needs them.
func (f *File[T]) remove() error {
	if err := f.opt.FS.Remove(f.path); err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	if err := f.discard(); err != nil {
		return err
	}
	if err := f.opt.FS.SyncDir(filepath.Dir(f.path)); err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	err := f.opt.FS.Remove(f.path + ".lock")
	if err != nil {
		err = fmt.Errorf("remove the lock: %w", err)
	}
	seals := []retired{{Seal: f.header.Seal, Parameters: f.header.Parameters}}
	if f.header.Retired != nil {
		seals = append(seals, *f.header.Retired)
	}
	for _, s := range seals {
		if c, counts := f.opt.sealer(s.Seal).(seal.Counting); counts {
			err = errors.Join(err, c.Release(s.Parameters))
		}
	}
	return err
}
