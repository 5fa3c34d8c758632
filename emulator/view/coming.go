package view

import (
	"fmt"
	"strings"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
)

// Coming names a command that nobody has answered yet. What has it decides what it is: the
// card manager has instructions of the application for something else, see Managed.
func Coming(command []byte, managed bool) Event {
	e := Event{Schema: Schema, Kind: Command, Meaning: "not answered yet"}
	if len(command) < 4 {
		return e
	}
	e.Header = new(fmt.Sprintf("%X", command[:4]))
	c, err := apdu.Parse(command)
	if err == nil {
		e.Sent = len(c.Data)
	}
	e.Command = new(named(command[1], managed, err == nil && e.Sent == 0))
	e.Query = command[1] == apdu.InsVerify && (e.Sent == 0 || secured(command[0]) && carriesNone(c.Data))
	switch {
	case e.ofUserPIN():
		e.Subject = new("user PIN")
	case e.ofSOPIN(), e.initialises():
		e.Subject = new("SO-PIN")
	}
	return e
}

// named is the name of an instruction that is on its way; empty tells that no data follow.
func named(ins byte, managed, empty bool) string {
	if name := managerNames[ins]; managed && name != "" {
		return name
	}
	if ins == apdu.InsInitializeDevice && empty {
		return initialiseQuery
	}
	for _, c := range applet.Commands() {
		if strings.HasPrefix(c.Header, fmt.Sprintf("%02X ", ins)) {
			name, _, _ := strings.Cut(c.Name, " (") // the forms differ in more than the header
			return name
		}
	}
	return fmt.Sprintf("INS %02X", ins)
}

// AboutPIN reports whether the command can cost a try: it is one of those that take
// a PIN, and no question.
func (e Event) AboutPIN() bool { return e.aboutPIN() && !e.Query }
