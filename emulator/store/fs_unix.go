//go:build unix

package store

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// errTaken is what tryLock says of a lock that another holder has.
const errTaken = syscall.EWOULDBLOCK

// withoutWaiting opens a named pipe at once, and changes nothing about files.
const withoutWaiting = syscall.O_NONBLOCK

// openLock opens a lock file, and follows no link that someone put there.
func openLock(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
}

// tryLock takes the advisory lock of an open file. The kernel gives it back when
// the process ends, however it ends.
func tryLock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EINTR) {
			return &fs.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
	}
}

func unlock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }

// dead reports whether there is no process of that number.
func dead(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func syncDir(name string, open func(string) (*os.File, error)) error {
	d, err := open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
