// Package pcscd speaks the socket protocol between pcsc-lite's client library
// and its daemon, versions 4.4 to 4.6, from both ends.
//
// [Server] is a daemon with readers of its own, in which there are whatever
// cards its owner puts there. Programs use it like the system's daemon when the
// environment variable PCSCLITE_CSOCK_NAME names its socket; they need no
// privileges, no configuration, and no recompilation.
//
// [Dial] is a client: it finds readers, waits for cards and drives them
// without any C library, be the daemon the system's own or a private one.
//
// The package knows nothing of what is said to a card, drives no hardware and
// asks nobody for permission: who can open the socket may use the cards.
//
// The shortest correct use:
//
//	var server pcscd.Server
//	reader, err := server.Add(pcscd.NitrokeyHSM("DENK0123456", 0))
//	if err != nil {
//		return err
//	}
//	if err := reader.Insert(card); err != nil {
//		return err
//	}
//	l, err := pcscd.Listen(path)
//	if err != nil {
//		return err
//	}
//	defer server.Close()
//	return server.Serve(l)
package pcscd
