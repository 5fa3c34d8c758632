package pcscd

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
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
	return named(peer.Pid, string(program))
}

// named is a process for people. A process may call itself what it likes, and
// what is not a plain name is quoted: a terminal could obey it.
func named(pid int32, program string) string {
	program = strings.TrimSuffix(program, "\n")
	if strings.ContainsFunc(program, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
		program = strconv.Quote(program)
	}
	return fmt.Sprintf("process %d (%s)", pid, program)
}
