package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"hsmemu/applet"
)

// Event is one thing that happened to a card. Of the data of command and answer it
// tells the lengths alone.
type Event struct {
	Schema int  `json:"schema"`
	Kind   Kind `json:"kind"`
	// At is when it happened, for a command when it came, and Took how long that
	// took in nanoseconds.
	At   time.Time     `json:"at"`
	Took time.Duration `json:"took_ns"`
	// Missed counts the events before this one that this client was too slow to
	// take.
	Missed int `json:"missed"`
	// Client is the program that sent the command; nil where that is not known.
	Client *Client `json:"client"`
	// Header is CLA, INS, P1 and P2 in hexadecimal, as in "00200081"; nil unless
	// Kind is Command.
	Header *string `json:"header"`
	// Command, Subject and Meaning say what it was: "VERIFY", "user PIN",
	// "wrong, 2 tries left".
	Command *string `json:"command"`
	Subject *string `json:"subject"`
	Meaning string  `json:"meaning"`
	// SW is the status word, as in "63C2".
	SW *string `json:"sw"`
	// Sent and Received are lengths of data in bytes, Commits the number of
	// states that were saved.
	Sent     int `json:"sent"`
	Received int `json:"received"`
	Commits  int `json:"commits"`
	// Secure reports whether the command came through secure messaging.
	Secure bool `json:"secure"`
	// Query reports whether the command asked for the status of a PIN and tried
	// none.
	Query bool `json:"query"`
	// SOPIN and UserPIN are the retry counters afterwards; nil where no PIN is set.
	SOPIN   *Counter `json:"so_pin"`
	UserPIN *Counter `json:"user_pin"`
}

// Kind is what kind of thing happened to a card.
type Kind string

// The kinds of events.
const (
	Command  Kind = "command"
	Reset    Kind = "reset"
	Eject    Kind = "eject"
	Insert   Kind = "insert"
	Restore  Kind = "restore"
	FaultSet Kind = "fault-set"
	Struck   Kind = "fault"     // a fault struck
	CutShort Kind = "cut-short" // no answer, since the card was taken out
)

// Client is a program that uses a card. What is not known is 0 or empty.
type Client struct {
	// Connection numbers its connection to the private PC/SC daemon, from 1. It is
	// 0 for one that came by the control socket.
	Connection int    `json:"connection"`
	Process    int    `json:"process"`
	Program    string `json:"program"`
}

// String names it for people: "pkcs11-tool, process 4711, connection 2".
func (c Client) String() string {
	name := cmp.Or(c.Program, "a program")
	if c.Process > 0 {
		name += fmt.Sprintf(", process %d", c.Process)
	}
	if c.Connection > 0 {
		name += fmt.Sprintf(", connection %d", c.Connection)
	}
	return name
}

// Counter is a retry counter.
type Counter struct {
	TriesLeft int `json:"tries_left"`
	Tries     int `json:"tries"`
}

var kindText = map[Kind]string{
	Reset: "card reset", Eject: "card taken out", Insert: "card put in", Restore: "card restored", Struck: "fault struck", CutShort: "cut short",
}

// String is the event in one line of words, see applet.EventWords:
//
//	VERIFY user PIN → 63C2, wrong, 2 tries left
func (e Event) String() string {
	switch {
	case e.Kind == Restore, e.Kind == Reset && e.Meaning == "reset":
		return text(kindText, e.Kind) // there is no more to say
	case e.Kind == FaultSet:
		return Printable(e.Meaning)
	case e.Kind != Command:
		return Printable(text(kindText, e.Kind) + e.struck() + ": " + e.Meaning)
	}
	return Printable(applet.EventWords(known(e.Command), known(e.Subject), known(e.SW), e.Meaning, e.Secure))
}

// struck names the command of an event in which the card answered none.
func (e Event) struck() string {
	if len(known(e.Header)) < 4 {
		return ""
	}
	for _, c := range applet.Commands() {
		if strings.HasPrefix(c.Header, (*e.Header)[2:4]+" ") {
			name, _, _ := strings.Cut(c.Name, " (") // the forms differ in more than the header
			return " in " + name
		}
	}
	return " in " + *e.Header
}

// Line is the event in a line that programs can search: when, how long it took,
// the header of the command, and words.
func (e Event) Line() string {
	missed := ""
	if e.Missed > 0 {
		missed = fmt.Sprintf("(%d commands left out) ", e.Missed)
	}
	return fmt.Sprintf("%s %s%6.1f ms  %-8s  %s", e.At.Format("15:04:05.000"), missed,
		float64(e.Took)/float64(time.Millisecond), Printable(known(e.Header)), e)
}

// Classes are the classes that events are sorted into.
func Classes() []string { return []string{"pin", "key", "life", "file", "other"} }

// Selection takes only the events of some classes.
type Selection struct {
	Classes []string // of Classes
	missed  int      // what events that were not taken say was left out before them
}

// Takes reports whether an event is of one of the classes. What was left out before
// events that are not is added to the count of the next one that is.
func (s *Selection) Takes(e *Event) bool {
	s.missed += e.Missed
	if !slices.Contains(s.Classes, e.Class()) {
		return false
	}
	e.Missed, s.missed = s.missed, 0
	return true
}

// Class is what an event has to do with, one of Classes: PINs and logins, keys, the
// card as a whole, files, or something else.
func (e Event) Class() string {
	switch e.instruction() {
	case "":
		return "life"
	case "50":
		if !e.initialises() {
			return "other"
		}
		return "pin"
	case "20", "24", "2C", "54", "5A", "82":
		return "pin"
	case "46", "48", "52", "62", "68", "72", "74", "76", "78":
		return "key"
	case "E4":
		if strings.HasPrefix(known(e.Subject), "key ") {
			return "key"
		}
		return "file"
	case "A4", "B1", "D7", "58":
		return "file"
	}
	return "other"
}
