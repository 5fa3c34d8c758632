package pcscd

import (
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
