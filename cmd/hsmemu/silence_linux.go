package main

import "golang.org/x/sys/unix"

// How to ask for the state of a terminal, and to set it.
const getTerminal, setTerminal = unix.TCGETS, unix.TCSETS
