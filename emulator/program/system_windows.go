package program

import (
	"os"
	"os/exec"
	"syscall"
)

// passed are the signals that a program gets when we are sent them.
var passed = []os.Signal{syscall.SIGINT, syscall.SIGTERM}

// ownSession does nothing: there are no private daemons here, so no program is run
// alone.
func ownSession(*exec.Cmd) {}

// descendants are what a program has started: nothing here.
type descendants struct{}

func adopt() (descendants, error)  { return descendants{}, nil }
func (descendants) alive(int) bool { return false }
func (descendants) end(int)        {}
