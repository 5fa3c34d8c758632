package control

import (
	"errors"
	"syscall"
)

// The words of Windows for an address where nobody listens, and for sockets that
// are files where it has none, before Windows 10 of 2018; nobody can listen there.
const (
	wsaeafnosupport = syscall.Errno(10047)
	wsaeconnrefused = syscall.Errno(10061)
)

// nobody reports whether an error of connecting says that nobody listens.
func nobody(err error) bool {
	return errors.Is(err, wsaeconnrefused) || errors.Is(err, wsaeafnosupport)
}
