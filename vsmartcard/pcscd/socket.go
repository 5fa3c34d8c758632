package pcscd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// PathMax is how many bytes the path of a socket can have: one less than the
// field for it in the addresses of the operating system and in pcsc-lite.
const PathMax = 107

var (
	// ErrPath means that a socket's path is longer than [PathMax]. A shorter
	// folder helps.
	ErrPath = errors.New("socket path too long")
	// ErrGroup means that there is no group of that name.
	ErrGroup = errors.New("there is no such group")
	// ErrNotMember means that the operating system does not let the process give a
	// socket to that group.
	ErrNotMember = errors.New("this user is not in it")
	// ErrNoGroup means that a group is named, and shut out by the mode.
	ErrNoGroup = errors.New("0600 lets no group in")
	// ErrMode means that a socket cannot have these permissions.
	ErrMode = errors.New("0600 (its owner alone), 0660 (its group, too) or 0666 (everybody)")
)

// Access is who may reach a daemon at its socket. The zero Access is its owner
// alone.
type Access struct {
	// Mode is 0600, 0660 or 0666, and zero is 0600: what else a file may have
	// means nothing for a socket, or lets in who was not thought of.
	Mode fs.FileMode
	// Group is the name or the number of the group that the socket is given;
	// empty leaves that of the process.
	Group string
}

// modes are the permissions that a socket can have.
var modes = []fs.FileMode{0o600, 0o660, 0o666}

// ParseMode reads a Mode as people write it, in octal digits. Error: ErrMode.
func ParseMode(text string) (fs.FileMode, error) {
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil || !slices.Contains(modes, fs.FileMode(n)) {
		return 0, ErrMode
	}
	return fs.FileMode(n), nil
}

// ParseAccess reads an Access as people write it: octal digits and a group, of which
// each may be empty. A group alone is let in. Errors: ErrMode, ErrNoGroup.
func ParseAccess(mode, group string) (who Access, err error) {
	who.Group = group
	if group != "" {
		who.Mode = 0o660
	}
	if mode != "" {
		if who.Mode, err = ParseMode(mode); err != nil {
			return Access{}, fmt.Errorf("%s: %w", mode, err)
		}
	}
	if group != "" && who.Mode == 0o600 {
		return Access{}, ErrNoGroup
	}
	return who, nil
}

// Listen makes the socket at path, for its owner alone, and listens on it.
// Clients find it by the environment variable [EnvSocket]. The folder should be
// its owner's alone too. Closing the listener removes the socket.
func Listen(path string) (net.Listener, error) { return ListenFor(path, Access{}) }

// ListenFor is Listen for others, too. On Linux nobody but the owner can reach the
// socket before it has its group and its permissions; elsewhere the umask decides
// until then. Errors: ErrPath, ErrMode, ErrGroup,
// ErrNotMember, and those of the operating system.
func ListenFor(path string, who Access) (net.Listener, error) {
	if len(path) > PathMax {
		return nil, fmt.Errorf("%w: %d bytes, at most %d fit: %s", ErrPath, len(path), PathMax, path)
	}
	gid, err := who.check()
	if err != nil {
		return nil, err
	}
	private := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return ownersAlone(c) }}
	l, err := private.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := who.give(path, gid); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// check is the number of the group, -1 for none.
func (a Access) check() (gid int, err error) {
	if a.Mode != 0 && !slices.Contains(modes, a.Mode) {
		return 0, fmt.Errorf("mode %04o: %w", uint32(a.Mode), ErrMode)
	}
	if a.Group == "" {
		return -1, nil
	}
	text := a.Group
	if g, err := user.LookupGroup(a.Group); err == nil {
		text = g.Gid
	}
	gid, err = strconv.Atoi(text) // a number needs no name, as in a container
	if err != nil || gid < 0 {
		return 0, fmt.Errorf("group %q: %w", a.Group, ErrGroup)
	}
	return gid, nil
}

// give gives a socket its group and then its permissions.
func (a Access) give(path string, gid int) error {
	if gid >= 0 {
		err := os.Chown(path, -1, gid)
		if errors.Is(err, fs.ErrPermission) {
			err = ErrNotMember
		}
		if err != nil {
			return fmt.Errorf("group %q: %w", a.Group, err)
		}
	}
	mode := a.Mode
	if mode == 0 {
		mode = 0o600
	}
	return os.Chmod(path, mode)
}

// Barred returns the innermost folder above a socket, which is there, that keeps out
// those whom the socket itself would let in: everybody, or its group; empty if there
// is none. A folder that its own group alone can enter lets in the socket's group only
// if it is the same one, and never everybody.
func (a Access) Barred(path string) string {
	socket, err := os.Stat(path)
	if err != nil || a.Mode&0o066 == 0 {
		return ""
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err == nil && !a.passes(info, socket) {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}

// passes reports whether those whom a socket lets in can enter a folder.
func (a Access) passes(folder, socket fs.FileInfo) bool {
	theirs, known := groupOf(folder)
	its, _ := groupOf(socket)
	byGroup := a.Mode == 0o660 && known && theirs == its
	return folder.Mode()&0o001 != 0 || folder.Mode()&0o010 != 0 && byGroup
}

// SocketName is what the system's socket is called.
const SocketName = "pcscd.comm"

// ServedError says that another process serves a socket.
type ServedError struct {
	// Path is the socket's path, and By names the process, as in
	// "hsmemu, process 7".
	Path, By string
}

// Error is the path and the process.
func (e *ServedError) Error() string {
	return fmt.Sprintf("another process serves %s: %s", e.Path, e.By)
}

// ListenOver is ListenFor also where a process that did not end cleanly has left a
// socket. Errors: a *ServedError, and those of ListenFor.
func ListenOver(path string, who Access) (l net.Listener, err error) {
	// Of two processes that find the same dead socket, one would remove what the
	// other has just made.
	release, err := locked(path + ".lock")
	if err != nil {
		l, failed := ListenFor(path, who) // it says better what is wrong with the folder
		if failed == nil {
			failed = errors.Join(err, l.Close())
		}
		return nil, failed
	}
	defer func() {
		if err = errors.Join(err, release()); err != nil && l != nil {
			err, l = errors.Join(err, l.Close()), nil
		}
	}()
	l, err = ListenFor(path, who)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	if info, failed := os.Lstat(path); failed != nil || info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%s is there, and no socket", path)
	}
	conn, failed := net.Dial("unix", path)
	if failed == nil {
		return nil, errors.Join(&ServedError{path, ClientOf(conn).String()}, conn.Close())
	}
	if !errors.Is(failed, syscall.ECONNREFUSED) {
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return ListenFor(path, who)
}

// ListenIn is Listen in a new folder of its own, in the first of some folders in
// which that can be: one may be missing, unusable or too deep. What remove removes
// is the new folder.
func ListenIn(folders ...string) (l net.Listener, path string, remove func() error, err error) {
	for _, base := range folders {
		if base == "" {
			continue
		}
		var dir string
		if dir, err = os.MkdirTemp(base, "hsmemu-"); err != nil {
			continue
		}
		path = filepath.Join(dir, SocketName)
		if l, err = Listen(path); err == nil {
			return l, path, func() error { return os.RemoveAll(dir) }, nil
		}
		if failed := os.Remove(dir); failed != nil {
			return nil, "", nil, errors.Join(err, failed)
		}
	}
	return nil, "", nil, err
}

// SharedPath is where a user's programs share a daemon: in a folder that is the user's
// alone, in the folder of what runs, of the base directory specification
// ($XDG_RUNTIME_DIR), which it makes. ok tells that this can be.
func SharedPath(runtime string) (path string, ok bool) {
	if runtime == "" {
		return "", false
	}
	dir := filepath.Join(runtime, "hsmemu")
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", false
	}
	return filepath.Join(dir, SocketName), true
}
