package lesson

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// makePipe makes a named pipe in a folder, out of which no link leads.
func makePipe(root *os.Root, name string, mode fs.FileMode) error {
	folder, err := root.OpenFile(path.Dir(name), os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	err = syscall.Mknodat(int(folder.Fd()), path.Base(name), syscall.S_IFIFO|0o600, 0)
	if err = errors.Join(err, folder.Close()); err != nil {
		return &fs.PathError{Op: "mkfifo", Path: name, Err: err}
	}
	return root.Chmod(name, mode)
}
