// Package descriptors keeps the last file descriptors of the process for saving
// cards, whatever comes to its listeners.
package descriptors

import "net"

// Clients is how many file descriptors pages and other conveniences leave to those who
// use cards, beside what saving takes: a daemon has 200 clients at most.
const Clients = 256

// KeptBack reports whether a connection that was just accepted has one of the
// last file descriptors that this process may have. They are for saving cards:
// who listens closes such a connection, so that however many come, no card is
// kept from its disk. others is how many more a listener leaves to those that are more
// important, such as Clients, or 0; more than half of what there is it never leaves. The
// system gives out the lowest number that is free, so the number tells how many are taken.
func KeptBack(conn net.Conn, others uint64) bool { return keptBack(conn, others) }
