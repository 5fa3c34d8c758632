package applet

import (
	"fmt"
	"strings"

	"hsmemu/applet/apdu"
)

// event describes a finished step.
func (t *tx) event(c apdu.Command, row *command, r apdu.Response) Event {
	e := Event{
		Header:  [4]byte{c.CLA, c.INS, c.P1, c.P2},
		Subject: t.subject, SW: r.SW,
		Sent: len(c.Data), Received: len(r.Data), Commits: len(t.commits), Secure: t.secure,
	}
	query := false
	if row != nil {
		e.Command, e.Quiet = row.name, row.quiet
		query = row.ins == 0x20 && len(t.plain.Data) == 0
	} else if name, ok := instructionNames[c.INS]; ok {
		// The form was refused, but the command has a name; its data may be
		// secret for all we know.
		e.Command, e.Quiet = name, true
	} else {
		e.Command = fmt.Sprintf("INS %02X", c.INS)
	}
	if t.env.Observed {
		e.Meaning = meaning(r, query)
	}
	return e
}

// instructionNames names the commands of the table by instruction byte,
// without the forms that a row's name puts in brackets.
var instructionNames = func() map[byte]string {
	names := map[byte]string{}
	for _, r := range table {
		name, _, _ := strings.Cut(r.name, " (")
		names[r.ins] = name
	}
	return names
}()

// meaning says in words what an answer means.
func meaning(r apdu.Response, query bool) string {
	if n, ok := r.SW.Tries(); ok {
		tries := fmt.Sprintf("%d tries left", n)
		if n == 1 {
			tries = "1 try left"
		}
		switch {
		case query:
			return "not verified, " + tries
		case n == 0:
			return "wrong, no try left: blocked"
		}
		return "wrong, " + tries
	}
	if r.SW == apdu.OK {
		switch {
		case query:
			return "verified"
		case len(r.Data) > 0:
			return fmt.Sprintf("done, %d bytes", len(r.Data))
		}
		return "done"
	}
	return r.SW.Meaning()
}

// String is the line a trace shows:
//
//	VERIFY user PIN → 63C2, wrong, 2 tries left
func (e Event) String() string {
	var b strings.Builder
	b.WriteString(e.Command)
	if e.Subject != "" {
		b.WriteString(" " + e.Subject)
	}
	if e.Secure {
		b.WriteString(" (secure messaging)")
	}
	fmt.Fprintf(&b, " → %s, %s", e.SW.String(), e.Meaning)
	return b.String()
}
