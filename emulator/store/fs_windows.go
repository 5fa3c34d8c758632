package store

import (
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// errTaken is what tryLock says of a lock that another holder has.
const errTaken = windows.ERROR_LOCK_VIOLATION

// withoutWaiting is nothing: no name in a folder of Windows is a pipe.
const withoutWaiting = 0

// lockedByte is the byte whose lock stands for the file's: Windows keeps others
// from reading what is locked, and the number of the holder is read at the
// beginning.
const lockedByte = 1 << 20

// openLock opens a lock file, and follows no link that someone put there. Others
// may remove the file while it is open, as its holder does.
func openLock(name string) (*os.File, error) {
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	h, err := windows.CreateFile(path, windows.GENERIC_READ|windows.GENERIC_WRITE,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE, nil, windows.OPEN_ALWAYS,
		windows.FILE_ATTRIBUTE_NORMAL|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(h), name), nil
}

// tryLock takes the lock of an open file. Windows gives it back when the process
// ends, however it ends.
func tryLock(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, &windows.Overlapped{Offset: lockedByte})
	if err != nil {
		return &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return nil
}

func unlock(f *os.File) error {
	return windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, &windows.Overlapped{Offset: lockedByte})
}

// dead reports whether there is no process of that number.
func dead(pid int) bool {
	p, err := os.FindProcess(pid) // opens it, on Windows
	if err != nil {
		return true
	}
	_ = p.Release()
	return false
}

// syncDir does nothing: a folder cannot be flushed here, and NTFS writes the
// names of files into its journal.
func syncDir(string, func(string) (*os.File, error)) error { return nil }
