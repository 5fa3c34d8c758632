package store

import (
	"errors"
	"fmt"
	"io/fs"
)

// The errors of this package, to be told apart with errors.Is. The text of an
// error that wraps one of them names the file.
var (
	// ErrNotExist reports that there is no such file. It is fs.ErrNotExist.
	ErrNotExist = fs.ErrNotExist
	// ErrExist reports that there is such a file already. It is fs.ErrExist.
	ErrExist = fs.ErrExist
	// ErrLocked reports that another process, or this one, has the file open.
	// It comes as a *LockedError.
	ErrLocked = errors.New("file is in use")
	// ErrCorrupt reports a file that does not hold what was written into it.
	ErrCorrupt = errors.New("damaged file")
	// ErrNotRegular reports something that is no file of bytes: a folder, a named
	// pipe, a device.
	ErrNotRegular = errors.New("not a regular file")
	// ErrVersion reports a file that a newer program wrote.
	ErrVersion = errors.New("file of another version")
	// ErrSealed reports a file whose kind of seal is not among Options.Sealers.
	ErrSealed = errors.New("file is sealed in another way")
	// ErrRolledBack reports that the file was replaced by an older copy of
	// itself. Accept opens it all the same.
	ErrRolledBack = errors.New("this file is older than the card's counter")
	// ErrAhead reports that the counter was turned back, as by an old copy of the
	// TPM's own state. Accept opens it all the same.
	ErrAhead = errors.New("this file is newer than the card's counter")
	// ErrClosed reports the use of a File after its Close.
	ErrClosed = errors.New("file is closed")

	// errLast reports a file that was edited to be at the end of its count.
	errLast = errors.New("save: this is the file's last generation")
)

// LockedError says which process has a file open. It is ErrLocked.
type LockedError struct {
	Path string // of the file
	PID  int    // of the process; 0 if that could not be found out
}

// Error names the file and the process.
func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%v: %s: by another process", ErrLocked, e.Path)
	}
	return fmt.Sprintf("%v: %s: by process %d", ErrLocked, e.Path, e.PID)
}

// Unwrap returns ErrLocked.
func (e *LockedError) Unwrap() error { return ErrLocked }

func corrupt(path, what string) error {
	return fmt.Errorf("%w: %s: %s", ErrCorrupt, path, what)
}
