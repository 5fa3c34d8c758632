package pcscd

import (
	"errors"
	"fmt"
	"net"
	"os"
)

// PathMax is how many bytes the path of a socket can have: one less than the
// field for it in the addresses of the operating system and in pcsc-lite.
const PathMax = 107

// ErrPath means that a socket's path is longer than [PathMax]. A shorter
// folder helps.
var ErrPath = errors.New("socket path too long")

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
