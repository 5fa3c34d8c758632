package lesson

import (
	"errors"
	"io/fs"
	"os"
)

// makePipe fails: Windows keeps no pipes in folders.
func makePipe(_ *os.Root, name string, _ fs.FileMode) error {
	return &fs.PathError{Op: "mkfifo", Path: name, Err: errors.ErrUnsupported}
}
