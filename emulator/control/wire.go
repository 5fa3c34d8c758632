package control

import (
	"encoding/json"
	"errors"
	"fmt"

	"hsmemu/applet"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/view"
	"hsmemu/vsmartcard"
	"hsmemu/vsmartcard/pcscd"
)

// Version is the version of the protocol of the control socket: lines of JSON,
// a request and its reply in turn. A server refuses requests of any other version.
const Version = 1

// maxLine is the length of the longest line: more than a full card takes.
const maxLine = 1 << 20

// verb is what a request asks for.
type verb string

// The verbs, each with the types of its arguments and of its result.
const (
	verbEject    verb = "eject"    // forced, nothing
	verbInsert   verb = "insert"   // nothing, nothing
	verbReset    verb = "reset"    // forced, nothing
	verbShow     verb = "show"     // nothing, view.Card
	verbTransmit verb = "transmit" // exchange, exchange
	verbRestore  verb = "restore"  // restoration, undone
	verbFault    verb = "fault"    // FaultSetting, nothing
	verbFaults   verb = "faults"   // nothing, faultList
	verbClear    verb = "clear"    // nothing, nothing
	verbWatch    verb = "watch"    // nothing, nothing; then a view.Event a line
)

// request is one line from a client.
type request struct {
	Version int             `json:"version"`
	Do      verb            `json:"do"`
	Args    json.RawMessage `json:"args,omitempty"`
}

// reply is one line back: an error, a result, or neither.
type reply struct {
	Version int             `json:"version"`
	Error   *Error          `json:"error,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
}

// report is the reply that tells an observer of an event.
type report struct {
	Version int        `json:"version"`
	Result  view.Event `json:"result"`
}

// forced are the arguments of what may not be done while a client of the reader
// has the card, unless it is forced.
type forced struct {
	Force bool `json:"force,omitempty"`
}

// exchange is a command APDU one way and its response APDU the other, with what
// an observer is told of them.
type exchange struct {
	APDU  []byte      `json:"apdu"`
	Event *view.Event `json:"event,omitempty"`
}

// restoration is a whole state for the card.
type restoration struct {
	State chip.Durable `json:"state"`
	Force bool         `json:"force,omitempty"`
}

// undone says what a restoration took back that a card never takes back.
type undone struct {
	Undone []string `json:"undone"`
}

// FaultSetting is a fault and its settings, as emulator.Faults.Set takes them.
type FaultSetting struct {
	Name     string   `json:"name"`
	Settings []string `json:"settings,omitempty"`
}

type faultList struct {
	Faults []string `json:"faults"`
}

// EventOf describes what observers of a card are told.
func EventOf(e emulator.Event) view.Event {
	v := view.Event{
		Schema: view.Schema, Kind: view.Kind(e.Kind), At: e.At, Took: e.Took, Missed: e.Missed, Meaning: e.Meaning,
		Sent: e.Sent, Received: e.Received, Commits: e.Commits, Secure: e.Secure, Query: e.Query,
		SOPIN: counterOf(e.SOPIN), UserPIN: counterOf(e.UserPIN),
	}
	if e.Header != [4]byte{} || e.Kind == emulator.Did {
		v.Header = new(fmt.Sprintf("%X", e.Header))
	}
	if e.Kind == emulator.Did {
		v.Command, v.SW = &e.Command, new(e.SW.String())
	}
	if e.Client != (vsmartcard.Client{}) {
		v.Client = &view.Client{Connection: e.Client.Connection, Process: e.Client.Process, Program: e.Client.Program}
	}
	if e.Subject != "" {
		v.Subject = &e.Subject
	}
	return v
}

func counterOf(c emulator.Counter) *view.Counter {
	if c.Max == 0 {
		return nil
	}
	return &view.Counter{TriesLeft: int(c.Left), Tries: int(c.Max)}
}

// Code says what kind of error crossed the socket.
type Code string

// The codes, and the errors that a client makes of them again.
const (
	CodeFailed    Code = "failed"    // none of the others
	CodeMalformed Code = "malformed" // ErrMalformed
	CodeVersion   Code = "version"   // ErrVersion
	CodeVerb      Code = "verb"      // ErrVerb
	CodeBusy      Code = "busy"      // ErrBusy
	CodeCounted   Code = "counted"   // emulator.ErrCounted
	CodeState     Code = "state"     // applet.ErrState
	CodeFault     Code = "fault"     // emulator.ErrFault
	CodeMute      Code = "mute"      // emulator.ErrMute
	CodeInUse     Code = "in-use"    // ErrInUse
	CodeEjected   Code = "ejected"   // ErrEjected
	CodeForeign   Code = "foreign"   // emulator.ErrForeign
	CodeHeld      Code = "held"      // ErrHeld
)

// The errors of this package.
var (
	// ErrNobody says that no process runs the card.
	ErrNobody = errors.New("no process runs this card")
	// ErrMalformed says that one side did not understand a line of the other.
	ErrMalformed = errors.New("not understood")
	// ErrVersion says that the other side speaks another version of the protocol.
	ErrVersion = errors.New("the process that runs the card is of another version")
	// ErrVerb says that the process that runs the card does not know the request.
	ErrVerb = errors.New("the process that runs the card does not know this request")
	// ErrBusy says that as many are talking to the card, or following it, as may.
	ErrBusy = errors.New("too many are talking to this card")
	// ErrInUse says that a client of the reader has the card for itself.
	ErrInUse = errors.New("a program has the card for itself")
	// ErrEjected says that the card is out of its reader: it has no power.
	ErrEjected = errors.New("the card is out of its reader")
	// ErrHeld says that the card is busy with a command that is held back before it.
	ErrHeld = errors.New("a command is held back on the console: let the held command go first")
	// ErrSilent says that the process that runs the card took a request and has not
	// replied to it in the time that this takes.
	ErrSilent = errors.New("the process that runs the card does not answer")
	// ErrEnded says that the process that ran the card went away.
	ErrEnded = errors.New("the process that runs the card ended")
)

var codes = []struct {
	code Code
	err  error
}{
	{CodeMalformed, ErrMalformed},
	{CodeVersion, ErrVersion},
	{CodeVerb, ErrVerb},
	{CodeBusy, ErrBusy},
	{CodeInUse, ErrInUse},
	{CodeEjected, ErrEjected},
	{CodeForeign, emulator.ErrForeign},
	{CodeHeld, ErrHeld},
	{CodeCounted, emulator.ErrCounted},
	{CodeState, applet.ErrState},
	{CodeFault, emulator.ErrFault},
	{CodeMute, emulator.ErrMute},
}

// Error is an error that crossed the socket: its kind, and what it says to
// people.
type Error struct {
	Code  Code   `json:"code"`
	Words string `json:"words"`
}

// Error is the words.
func (e *Error) Error() string { return e.Words }

// Is reports whether an error is the one that the code stands for.
func (e *Error) Is(target error) bool {
	for _, c := range codes {
		if c.code == e.Code && c.err == target {
			return true
		}
	}
	return false
}

// coded is an error for the other side.
func coded(err error) *Error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	var inUse *pcscd.InUseError
	if errors.As(err, &inUse) {
		return &Error{CodeInUse, err.Error()}
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return &Error{c.code, err.Error()}
		}
	}
	return &Error{CodeFailed, err.Error()}
}

// unmarshal reads the arguments or the result of a verb.
func unmarshal[T any](raw json.RawMessage) (T, error) {
	var v T
	if len(raw) == 0 {
		return v, nil
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		if errors.Is(err, applet.ErrState) {
			return v, err
		}
		return v, fmt.Errorf("request %w: %s", ErrMalformed, jsonWords(err))
	}
	return v, nil
}

// jsonWords says what is wrong with JSON, without a piece of it: it may hold
// keys.
func jsonWords(err error) string {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Sprintf("not JSON at byte %d", syntax.Offset)
	}
	return "JSON of another form"
}
