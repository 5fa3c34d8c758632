//go:build unix

package vsmartcard

import (
	"net"
	"syscall"
)

// keptBack is how many file descriptors connections leave to files: for each of
// 16 cards one to save with and one for its TPM, and one for each listener, which
// holds a connection until it has been judged.
const keptBack = 64

// KeptBack reports whether a connection that was just accepted has one of the
// last file descriptors that this process may have. They are for saving cards:
// who listens closes such a connection, so that however many come, no card is
// kept from its disk. The system gives out the lowest number that is free, so the
// number tells how many are taken.
func KeptBack(conn net.Conn) bool {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := c.SyscallConn()
	var limit syscall.Rlimit
	if err != nil || syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return false
	}
	kept := false
	err = raw.Control(func(fd uintptr) {
		most := uint64(limit.Cur) //nolint:unconvert // a signed number on FreeBSD
		kept = uint64(fd) >= most-min(keptBack, most/2)
	})
	return kept && err == nil
}
