//go:build unix

package control

import (
	"errors"
	"syscall"
)

// nobody reports whether an error of connecting says that nobody listens.
func nobody(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
