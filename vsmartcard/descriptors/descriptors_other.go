//go:build !unix

package descriptors

import "net"

// keptBack reports false: Windows sets no limit to how many files and connections
// a process has open.
func keptBack(net.Conn, uint64) bool { return false }
