package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"syscall"
)

// FS is all that this package asks of a file system. Errors say what package
// os would say (fs.ErrNotExist, fs.ErrExist). It is an interface so that tests
// can cut the power between any two of its operations.
type FS interface {
	// ReadFile returns the content of a file.
	ReadFile(name string) ([]byte, error)
	// Create makes a new file, readable for the owner alone, and fails with
	// fs.ErrExist if there is one of that name.
	Create(name string) (Handle, error)
	// Rename moves a file to a new name, in one step and over an old file.
	Rename(from, to string) error
	// Remove removes a file.
	Remove(name string) error
	// SyncDir makes the names in a folder durable.
	SyncDir(name string) error
	// Lock takes the lock file of that name, making it if need be, until it is
	// closed or the process ends. If it is taken, the error is a *LockedError.
	Lock(name string) (io.Closer, error)
}

// Handle is a file being written. Sync makes what was written durable.
type Handle interface {
	io.WriteCloser
	Sync() error
}

// system is the operating system's file system.
type system struct{}

// longest is what is read of a file: a full card takes less than one megabyte.
const longest = 4 << 20

func (system) ReadFile(name string) (data []byte, err error) {
	return readRegular(name, os.Stat, os.OpenFile)
}

// readRegular reads a file, which stat and open find, as far as a card can reach.
func readRegular(name string, stat func(string) (fs.FileInfo, error), open func(string, int, fs.FileMode) (*os.File, error)) (data []byte, err error) {
	// Opening a named pipe waits for whoever writes into it, and a device can do
	// anything: so it is looked at first, and opened without waiting in case that
	// it was exchanged meanwhile.
	info, err := stat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "read", Path: name, Err: ErrNotRegular}
	}
	if err != nil {
		return nil, err
	}
	f, err := open(name, os.O_RDONLY|withoutWaiting, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	all := bytes.NewBuffer(make([]byte, 0, min(info.Size(), longest)+bytes.MinRead)) // one copy, where it can be
	n, err := all.ReadFrom(io.LimitReader(f, longest+1))
	if err == nil && n > longest {
		return nil, corrupt(name, "longer than any card")
	}
	return all.Bytes(), err
}

func (system) Create(name string) (Handle, error) {
	// O_EXCL also refuses to follow a link that someone put there.
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (system) Rename(from, to string) error { return os.Rename(from, to) }

func (system) Remove(name string) error { return os.Remove(name) }

func (system) SyncDir(name string) error { return syncDir(name, os.Open) }

func (system) Lock(name string) (io.Closer, error) { return Lock(name) }

// Lock takes the lock file of that name, making it if need be, until it is closed or the
// process ends, however it ends. If it is taken, the error is a *LockedError.
func Lock(name string) (io.Closer, error) { return takeLock(name, openLock, os.Stat) }

// takeLock is Lock of a file that open and stat find.
func takeLock(name string, open func(string) (*os.File, error), stat func(string) (fs.FileInfo, error)) (io.Closer, error) {
	for {
		f, err := open(name)
		if err != nil {
			return nil, err
		}
		switch err = tryLock(f); {
		case errors.Is(err, errTaken):
			err = &LockedError{Path: name, PID: holder(f)}
		case err == nil:
			// Whoever removes a lock file holds it; so a lock on a file that is
			// gone guards nothing.
			if !current(f, name, stat) {
				_ = f.Close()
				continue
			}
			sign(f)
			return lock{f}, nil
		}
		_ = f.Close()
		return nil, err
	}
}

// lock is a locked file.
type lock struct{ *os.File }

// Close gives the lock back before the file: a child that is just being started
// has our files too, until it turns into its program, and would keep the lock.
func (l lock) Close() error { return errors.Join(unlock(l.File), l.File.Close()) }

func current(f *os.File, name string, stat func(string) (fs.FileInfo, error)) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := stat(name)
	return err == nil && os.SameFile(mine, there)
}

// sign writes this process's number into its lock file. It is a courtesy to
// whoever finds the lock taken; failing, on a full disk say, does no harm.
func sign(f *os.File) {
	if f.Truncate(0) == nil {
		_, _ = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
}

// holder reads what sign wrote, 0 if there is nothing that makes sense.
func holder(f *os.File) int {
	b := make([]byte, 20)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b[:n])))
	if err != nil || pid <= 0 {
		return 0
	}
	// A number that a dead process left behind would send the reader astray.
	if dead(pid) {
		return 0
	}
	return pid
}

// readOnly reports whether an error comes from a place that cannot be written at
// all, where reading is still worth while.
func readOnly(err error) bool {
	return errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission)
}
