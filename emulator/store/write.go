package store

import (
	"errors"
	"fmt"
)

// Write makes the file at path with one value and leaves no lock file beside
// it: for a file that goes elsewhere. Errors are those of Create.
func Write[T any](path string, v T, opt Options) error {
	f, err := Create(path, v, opt)
	if err != nil {
		return err
	}
	// While it is held, or it might be another's.
	err = f.opt.FS.Remove(path + ".lock")
	if err != nil {
		err = fmt.Errorf("remove the lock: %w", err)
	}
	return errors.Join(err, f.Close())
}
