package pcscd

import "syscall"

// ownersAlone sets the permissions that the file of a socket will come into being
// with: Linux takes those of the descriptor, less the umask.
func ownersAlone(c syscall.RawConn) error {
	var failed error
	if err := c.Control(func(fd uintptr) { failed = syscall.Fchmod(int(fd), 0o600) }); err != nil {
		return err
	}
	return failed
}
