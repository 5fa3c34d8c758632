// Package pcscd speaks the socket protocol between pcsc-lite's client library
// and its daemon, versions 4.4 to 4.6.
//
// [Dial] is a client: it finds readers, waits for cards and drives them
// without any C library, be the daemon the system's own or a private one.
package pcscd
