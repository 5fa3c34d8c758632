// Package ram connects a smart card to a program elsewhere by RAM over HTTP, the
// protocol of the vendor's portal: a client beside the card posts what the card
// answers, and gets commands back. It has both ends, and works with those of
// others: ram-client of sc-hsm-embedded and the Java client of the OpenCard
// Framework.
//
// [Server] is an HTTP handler that hands each card that connects to a [Service],
// for which it is a vsmartcard.Card like any other:
//
//	s := &ram.Server{Services: map[string]ram.Service{
//		"paas": func(ctx context.Context, card *ram.Session) error {
//			answer, err := card.Transmit(ctx, command)
//			…
//			return card.Notify(ctx, ram.Notice{Number: 100, Text: "done"})
//		},
//	}}
//	err := ram.NewHTTPServer(s).Serve(listener)
//
// [Agent] is the other end: it lets a server command a card.
//
//	err := (&ram.Agent{Card: card, Notice: show}).Run(ctx, "http://localhost:8080/rt/paas")
//
// The package knows neither what the commands mean nor what a portal is. The
// protocol is in docs/protocol/portal.md.
package ram

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// The times of the protocol.
const (
	// AnswerTime is how long a client waits for the answer to a request, from its
	// beginning to the last byte. It is that of ram-client.
	AnswerTime = 40 * time.Second
	// KeepAlive is when a server that has no command answers with an empty request,
	// so that no client runs out of AnswerTime.
	KeepAlive = 25 * time.Second
	// IdleTime is how long a server waits for the client's next request.
	IdleTime = 60 * time.Second
)

// The errors of a connection that ended while the server wanted something of
// the card.
var (
	// ErrEnded means that the connection is over: a notice with a negative number
	// was sent, or the server was closed.
	ErrEnded = errors.New("the connection to the card has ended")
	// ErrLost means that the client went away.
	ErrLost = errors.New("the client has gone")
	// ErrIdle means that the client did not come back within IdleTime.
	ErrIdle = errors.New("the client did not come back in time")
	// ErrReplaced means that a later connection took its place: of the same session, or, as
	// [Session.Replace] is told, of the same card.
	ErrReplaced = errors.New("another connection took its place")
	// ErrProtocol means that the client sent what is no answer to the request.
	ErrProtocol = errors.New("the client's answer does not fit the request")
	// ErrTooLong means that a command or a text does not fit into a request.
	ErrTooLong = errors.New("too long for a request")
	// ErrNumber means that a notice has the number −6, by which ram-client says
	// that its own card failed.
	ErrNumber = errors.New("notices have no number −6")
	// ErrAnswer means that a card answered with less than a status word.
	ErrAnswer = errors.New("the card's answer has no status word")
	// ErrPanic means that a service panicked.
	ErrPanic = errors.New("service panicked")
)

// ClosedError means that the client ended the connection, usually since its card
// failed.
type ClosedError struct {
	// Text is the client's reason, possibly empty: at most 200 bytes of it, and printable.
	Text string
}

// Error says that the client gave up, and why.
func (e *ClosedError) Error() string {
	if e.Text == "" {
		return "the client gave up"
	}
	return fmt.Sprintf("the client gave up: %q", e.Text)
}

// Code is how ram-client ends, other than well and by a notice.
type Code int

// The codes of ram-client (sc-hsm-embedded, ramoverhttp.h). Its −2 is for memory
// that is used up.
const (
	CodeUnknown     Code = 1   // the request has an object that clients do not know
	CodeTLV         Code = -3  // the request is not in valid TLV
	CodeRequest     Code = -4  // the body is no request
	CodeNetwork     Code = -5  // the connection failed in another way, or the server's certificate is not trusted
	CodeCard        Code = -6  // the card failed
	CodeNotInTime   Code = -7  // 504 before any request
	CodeAborted     Code = -8  // 504 after a request
	CodeHost        Code = -9  // the host's name is not known
	CodeURL         Code = -10 // 404, or a URL that is none
	CodeUnreachable Code = -11 // nobody answers there, or not by TLS
	CodeStatus      Code = -12 // another status
	CodeTimeout     Code = -13 // no answer within AnswerTime
)

// codes are the words for the codes.
var codes = map[Code]string{
	CodeUnknown:     "the server asks for something that no client knows",
	CodeTLV:         "the server's request is malformed",
	CodeRequest:     "the server's answer is no request",
	CodeNetwork:     "the connection failed",
	CodeCard:        "the card failed",
	CodeNotInTime:   "the server sent no request in its time",
	CodeAborted:     "the server gave up",
	CodeHost:        "the host is not known",
	CodeURL:         "there is no service at this URL",
	CodeUnreachable: "the server cannot be reached",
	CodeStatus:      "the server's answer has an unexpected status",
	CodeTimeout:     "the server did not answer in time",
}

// Error says what the code means.
func (c Code) Error() string {
	return cmp.Or(codes[c], fmt.Sprintf("error %d", int(c)))
}

// Error is how an [Agent] ended, other than well and by a [NoticeError]. It wraps its Code.
type Error struct {
	// Code is that of ram-client in the same situation.
	Code Code
	// Err says more, or is nil.
	Err error
}

// Error says how it ended, and why, where that is known.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Code.Error()
	}
	return e.Code.Error() + ": " + e.Err.Error()
}

// Unwrap returns the code, and what says more.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Code}
	}
	return []error{e.Code, e.Err}
}

// NoticeError is the last notice of a server that ended the connection by it. Its number
// is what ram-client exits with, whose meanings for numbers do not hold there.
type NoticeError Notice

// Error tells the number. The text has been shown.
func (e NoticeError) Error() string {
	return fmt.Sprintf("the server ended it with notice %d", e.Number)
}
