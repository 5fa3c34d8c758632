package pcscd

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"hsmemu/vsmartcard"
)

// ClientOf is the program at the other end of a connection on this machine. A
// process may call itself what it likes, and what is not a plain name is quoted: a
// terminal could obey it.
func ClientOf(stream net.Conn) vsmartcard.Client {
	pid, program := peer(stream)
	program = strings.TrimSuffix(program, "\n")
	if strings.ContainsFunc(program, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
		program = strconv.Quote(program)
	}
	return vsmartcard.Client{Process: pid, Program: program}
}

// nameOf names the program at the other end of a connection for people.
func nameOf(stream net.Conn) string {
	switch c := ClientOf(stream); {
	case c.Process == 0:
		return "a program"
	case c.Program == "":
		return fmt.Sprintf("process %d", c.Process)
	default:
		return fmt.Sprintf("process %d (%s)", c.Process, c.Program)
	}
}
