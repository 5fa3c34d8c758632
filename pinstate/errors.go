package pinstate

import (
	"errors"
	"fmt"
)

// Reasons to refuse a command.
var (
	// ErrUnset: the card was never initialised, or has no user PIN.
	ErrUnset = errors.New("no PIN set")
	// ErrBlocked: no try is left.
	ErrBlocked = errors.New("PIN blocked")
	// ErrTransport: the transport PIN must be changed first.
	ErrTransport = errors.New("transport PIN not changed yet")
	// ErrLength: the data has a length that this card cannot accept.
	ErrLength = errors.New("wrong length")
	// ErrRule: a new PIN or a policy breaks a rule of the card.
	ErrRule = errors.New("new PIN or policy not allowed")
	// ErrForbidden: the options disable the command, or the SO-PIN was not
	// verified before it.
	ErrForbidden = errors.New("not permitted")
	// ErrKeysMissing: not enough public keys have authenticated.
	ErrKeysMissing = errors.New("public keys not authenticated")
	// ErrReference: the card has no such PIN, or no such way to reset one.
	ErrReference = errors.New("unknown reference")
)

// Wrong is the error for a PIN that did not match, and the status of one that
// has not been verified.
type Wrong struct {
	// Left is the number of tries left, 0 to 15. 0 is the try that emptied the
	// counter; later ones are ErrBlocked.
	Left uint8
}

// Error tells the number of tries left.
func (w Wrong) Error() string {
	return fmt.Sprintf("PIN not verified, tries left: %d", w.Left)
}
