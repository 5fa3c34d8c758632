//go:build unix

package descriptors

import (
	"net"
	"syscall"
)

// kept is how many file descriptors connections leave to files: for each of
// 16 cards one to save with and one for its TPM, and one for each listener, which
// holds a connection until it has been judged.
const kept = 64

func keptBack(conn net.Conn, others uint64) bool {
	if under, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
		conn = under.NetConn()
	}
	c, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := c.SyscallConn()
	var limit syscall.Rlimit
	if err != nil || syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return false
	}
	is := false
	err = raw.Control(func(fd uintptr) {
		most := uint64(limit.Cur) //nolint:unconvert // a signed number on FreeBSD
		left := most - min(kept, most/2)
		is = uint64(fd) >= left-min(others, left/2)
	})
	return is && err == nil
}
