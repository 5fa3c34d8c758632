package pcscd

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// peer is the process at the other end of a connection and what it is called;
// 0 and nothing where the system does not tell.
func peer(stream net.Conn) (pid int, program string) {
	c, ok := stream.(syscall.Conn)
	if !ok {
		return 0, ""
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, ""
	}
	var other *syscall.Ucred
	err = raw.Control(func(fd uintptr) {
		other, _ = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err != nil || other == nil || other.Pid == 0 {
		return 0, ""
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", other.Pid))
	if err != nil {
		return int(other.Pid), ""
	}
	return int(other.Pid), string(name)
}
