package vsmartcard

import (
	"net"
	"syscall"
)

// quickAcknowledge returns a function that makes the kernel acknowledge at
// once what has arrived on conn. Debian's vpcd sends a frame in two pieces
// and its kernel holds the second until the first is acknowledged, which an
// idle receiver does only after some 40 ms. The option does not stick, hence
// a function to be called again and again (tcp(7), TCP_QUICKACK).
func quickAcknowledge(conn net.Conn) func() {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return func() {}
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return func() {}
	}
	set := func(fd uintptr) {
		// A kernel that refuses is slow, not wrong.
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
	}
	return func() { _ = raw.Control(set) }
}
