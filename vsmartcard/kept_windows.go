package vsmartcard

import "net"

// KeptBack reports false: Windows sets no limit to how many files and
// connections a process has open.
func KeptBack(net.Conn) bool { return false }
