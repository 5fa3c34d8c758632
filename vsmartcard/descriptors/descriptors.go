// Package descriptors keeps the last file descriptors of the process for saving
// cards, whatever comes to its listeners.
package descriptors

import "net"

// KeptBack reports whether a connection that was just accepted has one of the
// last file descriptors that this process may have. They are for saving cards:
// who listens closes such a connection, so that however many come, no card is
// kept from its disk. The system gives out the lowest number that is free, so the
// number tells how many are taken.
func KeptBack(conn net.Conn) bool { return keptBack(conn) }
