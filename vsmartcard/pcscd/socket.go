package pcscd

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// PathMax is how many bytes the path of a socket can have: one less than the
// field for it in the addresses of the operating system and in pcsc-lite.
const PathMax = 107

// ErrPath means that a socket's path is longer than [PathMax]. A shorter
// folder helps.
var ErrPath = errors.New("socket path too long")

// SocketName is what the system's socket is called.
const SocketName = "pcscd.comm"

// ListenOver is Listen also where a process that did not end cleanly has left a
// socket.
func ListenOver(path string) (net.Listener, error) {
	l, err := Listen(path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	if info, failed := os.Lstat(path); failed != nil || info.Mode().Type() != fs.ModeSocket {
		return nil, err
	}
	conn, failed := net.Dial("unix", path)
	if failed == nil {
		return nil, errors.Join(fmt.Errorf("another process serves %s", path), conn.Close())
	}
	if !errors.Is(failed, syscall.ECONNREFUSED) {
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return Listen(path)
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

// Listen makes the socket at path, for its owner alone, and listens on it.
// Clients find it by the environment variable [EnvSocket]. The folder should be
// its owner's alone too. Closing the listener removes the socket.
func Listen(path string) (net.Listener, error) {
	if len(path) > PathMax {
		return nil, fmt.Errorf("%w: %d bytes, at most %d fit: %s", ErrPath, len(path), PathMax, path)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}
