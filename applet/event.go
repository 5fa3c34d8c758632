package applet

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"hsmemu/applet/apdu"
	"hsmemu/keystore"
	"hsmemu/pinstate"
)

// event describes a finished step and the error it ended with.
func (t *tx) event(c apdu.Command, row *row, r apdu.Response, err error) Event {
	e := Event{
		Header:  [4]byte{c.CLA, c.INS, c.P1, c.P2},
		Subject: t.subject, SW: r.SW,
		Sent: len(c.Data), Received: len(r.Data), Commits: len(t.commits), Secure: t.secure,
	}
	if row != nil {
		e.Command, e.Quiet = row.name, row.quiet
		e.Query = row.INS == apdu.InsVerify && len(t.plain.Data) == 0
	} else if name, ok := instructionNames[c.INS]; ok {
		// The form was refused, but the command has a name; its data may be
		// secret for all we know.
		e.Command, e.Quiet = name, true
	} else {
		e.Command = fmt.Sprintf("INS %02X", c.INS)
	}
	if t.env.Observed {
		e.Meaning = meaning(r, e.Query, err)
	}
	return e
}

// instructionNames names the commands of the table by instruction byte,
// without the forms that a row's name puts in brackets.
var instructionNames = func() map[byte]string {
	names := map[byte]string{}
	for _, r := range table {
		name, _, _ := strings.Cut(r.name, " (")
		names[r.INS] = name
	}
	return names
}()

// triesLeft are the words about a PIN by the tries that it has left: that it was asked about,
// and that a wrong one was tried. They are there beforehand, since a program waits for the
// answer meanwhile, and package fmt takes longer than all else that is done to be observed.
var triesLeft = func() (all [pinstate.SOTries + 1]struct{ asked, tried string }) {
	for n := range all {
		tries := fmt.Sprintf("%d tries left", n)
		if n == 1 {
			tries = "1 try left"
		}
		all[n].asked, all[n].tried = "not verified, "+tries, "wrong, "+tries
	}
	return all
}()

// meaning says in words what an answer means. The error tells a PIN that was
// wrong from one that was blocked before: the word may be the same.
func meaning(r apdu.Response, query bool, err error) string {
	if wrong, is := errors.AsType[pinstate.Wrong](err); is {
		switch left := min(int(wrong.Left), len(triesLeft)-1); {
		case query:
			return triesLeft[left].asked
		case left == 0:
			return "wrong, blocked now"
		default:
			return triesLeft[left].tried
		}
	}
	if r.SW == apdu.OK {
		switch {
		case query:
			return "verified"
		case len(r.Data) > 0:
			return "done, " + strconv.Itoa(len(r.Data)) + " bytes"
		}
		return "done"
	}
	if errors.Is(err, keystore.ErrKCV) {
		return r.SW.Meaning() + ": not the key encryption key of its keys"
	}
	return r.SW.Meaning()
}

// String is the line a trace shows:
//
//	VERIFY user PIN → 63C2, wrong, 2 tries left
func (e Event) String() string {
	return EventWords(e.Command, e.Subject, e.SW.String(), e.Meaning, e.Secure)
}

// EventWords is what a command was and what became of it in one line, from their
// names; subject is empty where there is none.
func EventWords(command, subject, sw, meaning string, secure bool) string {
	if subject != "" {
		command += " " + subject
	}
	if secure {
		command += " (secure messaging)"
	}
	return command + " → " + sw + ", " + meaning
}
