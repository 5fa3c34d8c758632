//go:build unix && !linux

package program

import "syscall"

// descendants are what a program has started, as far as it has stayed in the
// program's process group.
type descendants struct{}

// adopt is for before the program starts. It never fails.
func adopt() (descendants, error) { return descendants{}, nil }

// alive reports whether some are running; leader is the process number of the program.
func (descendants) alive(leader int) bool { return syscall.Kill(-leader, 0) == nil }

// end ends them.
func (descendants) end(leader int) { _ = syscall.Kill(-leader, syscall.SIGKILL) }
