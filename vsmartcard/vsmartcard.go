// Package vsmartcard says what a reader needs of a smart card, and puts such a
// card into the virtual reader of a system's PC/SC daemon.
//
// [Card] is the seam between everything that is a card and everything that is
// a reader. [Bridge] is a card's end of vpcd, the reader driver of the
// vsmartcard project: [Dial] reaches a driver that waits for cards, which is
// how Debian installs it, and [Listen] waits for a driver that is configured
// the other way round. A bridge outlives restarts of the PC/SC daemon; the
// card in it does not notice more than a loss of power.
//
// The package knows nothing about what the bytes of an APDU mean, starts no
// goroutine outside [Bridge.Run], and has no PC/SC daemon of its own: that is
// the package pcscd below it.
//
// The shortest correct use:
//
//	b, err := vsmartcard.Dial(ctx, "127.0.0.1:35963", card)
//	if err != nil {
//		return err
//	}
//	return b.Run(ctx)
package vsmartcard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Card is a smart card as its reader sees it: an answer to reset, a supply of
// power, and command APDUs (ISO 7816-3 and 7816-4).
//
// A reader calls ATR from any goroutine at any time. It calls Reset and
// Transmit one after the other, but an implementation that can be in two
// readers has to expect them from two goroutines.
type Card interface {
	// ATR returns the answer to reset, 2 to 33 bytes (ISO 7816-3 §8.2), or
	// nil for a card that stays mute. It has no side effect and waits for
	// nothing, because readers poll it while a command is running.
	ATR() []byte

	// Reset tells the card that its power came, went or was interrupted, or
	// that its reset line was pulled: all volatile state is lost. An error
	// means that the card cannot be used until a later Reset succeeds.
	Reset() error

	// Transmit has the card execute one command APDU and returns its response
	// APDU of at least two bytes. The card owns command; the caller owns the
	// response. An error means that no response came, as from a card that was
	// pulled or has gone mute; what the card thinks of a command is said in
	// the response's status word and is no error. When ctx ends, nobody waits
	// for the response any more.
	Transmit(ctx context.Context, command []byte) ([]byte, error)
}

// DefaultPort is the TCP port of the first slot of vpcd; further slots follow
// it one by one.
const DefaultPort = 35963

// The errors of this package.
var (
	// ErrNoReader means that nothing accepts connections at the address.
	ErrNoReader = errors.New("no vpcd reader answers")
	// ErrNotReady means that a reader is there but has not taken the card,
	// for example because another card is in it.
	ErrNotReady = errors.New("the reader has not taken the card")
	// ErrAnswer means that a card gave something that is no response APDU of
	// 2 to 65535 bytes.
	ErrAnswer = errors.New("the card's answer does not fit a vpcd frame")
	// ErrClosed means that the bridge has been closed or that its Run has
	// returned.
	ErrClosed = errors.New("bridge closed")
)

// Slot returns the address of vpcd's slot n, counted from 0, where address is
// the one of slot 0: a host and a port, or a host alone for [DefaultPort].
// An empty host stands for this machine.
func Slot(address string, n int) (string, error) {
	if address != "" && !strings.Contains(address, ":") {
		address = net.JoinHostPort(address, strconv.Itoa(DefaultPort))
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	first, err := strconv.ParseUint(port, 0, 16)
	if err != nil || first == 0 {
		return "", fmt.Errorf("address %q: port %q is not a number from 1 to 65535", address, port)
	}
	if n < 0 || int(first)+n > 65535 {
		return "", fmt.Errorf("address %q: no port for slot %d", address, n)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, strconv.Itoa(int(first)+n)), nil
}
