//go:build unix

package main

import "golang.org/x/sys/unix"

// silence has a terminal show nothing of what is typed. Lines and signals stay
// what they are.
func silence(fd int) error {
	t, err := unix.IoctlGetTermios(fd, getTerminal)
	if err != nil {
		return err
	}
	t.Lflag = t.Lflag&^unix.ECHO | unix.ICANON | unix.ISIG
	t.Iflag |= unix.ICRNL
	return unix.IoctlSetTermios(fd, setTerminal, t)
}
