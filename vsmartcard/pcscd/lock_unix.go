//go:build unix

package pcscd

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// lock waits for the lock of a file.
func lock(f *os.File) error {
	for {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// groupOf is the number of the group of a file.
func groupOf(info fs.FileInfo) (gid uint32, known bool) {
	s, known := info.Sys().(*syscall.Stat_t)
	if !known {
		return 0, false
	}
	return s.Gid, true
}
