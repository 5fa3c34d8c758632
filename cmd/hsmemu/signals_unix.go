//go:build unix

package main

import (
	"os"
	"syscall"
)

// passed are the signals that a program gets when we are sent them.
var passed = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}
