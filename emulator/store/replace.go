package store

import (
	"errors"
	"fmt"
	"path/filepath"
)

// errNotUndone marks a failure after which the new file may be in place.
var errNotUndone = errors.New("the old value could not be put back")

func (f *File[T]) temporary() string { return f.path + ".tmp" }

// discard removes what a power cut in the middle of a save left behind.
func (f *File[T]) discard() error {
	if err := f.opt.FS.Remove(f.temporary()); err != nil && !errors.Is(err, ErrNotExist) && !readOnly(err) {
		return fmt.Errorf("remove a leftover: %w", err)
	}
	return nil
}

// replace makes raw the file's content, or leaves the old one.
func (f *File[T]) replace(raw []byte) error {
	if err := f.write(raw); err != nil {
		return err
	}
	err := f.opt.FS.SyncDir(filepath.Dir(f.path))
	if err == nil {
		return nil
	}
	// The new file is in place, but nobody can say whether it will be there
	// after a power cut. The caller is told that nothing happened, so nothing
	// shall have happened.
	if undo := f.undo(); undo != nil {
		return errors.Join(err, fmt.Errorf("%w: %w", errNotUndone, undo))
	}
	return err
}

func (f *File[T]) undo() error {
	if f.last == nil {
		return f.opt.FS.Remove(f.path)
	}
	return f.write(f.last)
}

// write puts raw beside the file, makes it durable, and moves it in place.
func (f *File[T]) write(raw []byte) error {
	tmp := f.temporary()
	h, err := f.opt.FS.Create(tmp)
	if errors.Is(err, ErrExist) {
		// Left over from a power cut, or from a save that could not clean up.
		if err = f.opt.FS.Remove(tmp); err != nil {
			return err
		}
		h, err = f.opt.FS.Create(tmp)
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
		err = f.opt.FS.Rename(tmp, f.path)
	}
	if err != nil {
		// The next save or Open removes it if this fails.
		_ = f.opt.FS.Remove(tmp)
	}
	return err
}
