package pcscd

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
)

// nameOf names the process at the other end of a connection.
func nameOf(stream net.Conn) string {
	c, ok := stream.(syscall.Conn)
	if !ok {
		return unnamed
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return unnamed
	}
	var peer *syscall.Ucred
	err = raw.Control(func(fd uintptr) {
		peer, _ = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err != nil || peer == nil || peer.Pid == 0 {
		return unnamed
	}
	program, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", peer.Pid))
	if err != nil {
		return fmt.Sprintf("process %d", peer.Pid)
	}
	return fmt.Sprintf("process %d (%s)", peer.Pid, strings.TrimSpace(string(program)))
}
