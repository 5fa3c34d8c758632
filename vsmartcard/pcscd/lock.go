package pcscd

import (
	"errors"
	"os"
)

// locked takes the lock file of a name for this process, and waits for whoever has
// it. It lasts until release, which removes the file.
func locked(name string) (release func() error, err error) {
	for {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := lock(f); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		mine, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		// Whoever removes the file has it; the lock of one that is gone guards nothing.
		if there, err := os.Lstat(name); err == nil && os.SameFile(mine, there) {
			return func() error { return errors.Join(os.Remove(name), f.Close()) }, nil
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
}
