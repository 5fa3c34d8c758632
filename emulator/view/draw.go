package view

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Drawing draws events for people at a terminal, one after the other: reads are
// counted in one line, what has to do with PINs stands out, and retry counters are
// bars. The zero value draws without colour.
type Drawing struct {
	// Colour lets it colour with the sequences of ECMA-48.
	Colour bool
	// Whole lets it write nothing but whole lines, for a terminal where others
	// write, too.
	Whole bool

	reads int
	by    string // whom the last command was from
	when  string // of the last read
}

// The parts of Select Graphic Rendition, ECMA-48 8.3.117.
const (
	bad      = "1;31"
	good     = "1;32"
	notable  = "33"
	asking   = "36"
	faint    = "2"
	strong   = "1"
	ordinary = ""
)

// Next is what an event adds to the screen.
func (d *Drawing) Next(e Event) string { return d.Of("", e) }

// Of is Next for one of several cards, which it names.
func (d *Drawing) Of(card string, e Event) string {
	before := ""
	if e.Missed > 0 {
		before = d.Rest() + fmt.Sprintf("          (%d events left out)\n", e.Missed)
	}
	return before + d.heading(card, e) + d.event(e)
}

// heading is the line before what another program or another connection of it says,
// or what happens to another card.
func (d *Drawing) heading(card string, e Event) string {
	by := card
	if e.Client != nil {
		by = strings.TrimPrefix(card+": "+e.Client.String(), ": ")
	}
	if by == "" || by == d.by || e.Client == nil && strings.HasPrefix(d.by+": ", card+": ") {
		return ""
	}
	rest := d.Rest()
	d.by = by
	return rest + d.paint(strong, "── "+Printable(by)) + "\n"
}

func (d *Drawing) event(e Event) string {
	when := e.At.Format("15:04:05") + "  "
	if e.Reads() {
		d.reads++
		d.when = when
		if d.Whole {
			return ""
		}
		return "\r" + d.folded()
	}
	mark, style := e.mark()
	line, bars := mark+" "+e.Phrase(), e.bars()
	if len(bars) > 0 && utf8.RuneCountInString(line)+2 <= barsAt {
		line, bars = fmt.Sprintf("%-*s%s", barsAt, line, bars[0]), bars[1:]
	}
	drawn := d.Rest() + d.paint(faint, when) + d.paint(style, line) + "\n"
	for _, bar := range bars {
		drawn += strings.Repeat(" ", len(when)+barsAt) + d.paint(style, bar) + "\n"
	}
	return drawn
}

// Rest ends a line that was begun.
func (d *Drawing) Rest() string {
	if d.reads == 0 {
		return ""
	}
	line := "\n"
	if d.Whole {
		line = d.folded() + line
	}
	d.reads = 0
	return line
}

// folded is the line that the reads make.
func (d *Drawing) folded() string { return d.paint(faint, d.when+"  "+count(d.reads, "read")) }

func (d *Drawing) paint(style, s string) string {
	if !d.Colour || style == ordinary {
		return s
	}
	return "\x1b[" + style + "m" + s + "\x1b[0m"
}

// barsAt is where counters begin, after the time: the longest then ends at the 80th
// column of a terminal. One that does not fit beside the words stands beneath them.
const barsAt = 42

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// instruction is the instruction byte in hexadecimal, empty without a command.
func (e Event) instruction() string {
	if e.Kind != Command || len(known(e.Header)) < 4 {
		return ""
	}
	return (*e.Header)[2:4]
}

// class is the class byte of the command, 0 if it is none.
func (e Event) class() byte {
	if e.instruction() == "" {
		return 0
	}
	var cla byte
	_, _ = fmt.Sscanf((*e.Header)[:2], "%X", &cla)
	return cla
}

// Reads reports whether nothing came of the event but an answer that was read. To ask
// for the status of what has no retry counter here, as clients do of a biometric
// template, is a read as well.
func (e Event) Reads() bool {
	if e.Query && !e.ofUserPIN() && !e.ofSOPIN() {
		return true
	}
	switch e.instruction() {
	case "A4", "B1", "58", "84", "CA":
		return true
	}
	return false
}

// aboutPIN reports whether the command is one of those that name a PIN.
func (e Event) aboutPIN() bool {
	switch e.instruction() {
	case "20", "24", "2C":
		return known(e.Command) != unselected
	}
	return e.initialises()
}

// unselected is what a card calls a command that came while no application was selected.
const unselected = "(no application selected)"

// initialises reports whether the command is INITIALIZE DEVICE, and neither its form that asks
// nor what the card manager has under the same instruction.
func (e Event) initialises() bool {
	return e.instruction() == "50" && !slices.Contains([]string{initialiseUpdate, initialiseQuery, unselected}, known(e.Command))
}

// ofSOPIN and ofUserPIN report whether P2, the last byte of the header, names that PIN.
func (e Event) ofSOPIN() bool   { return e.aboutPIN() && strings.HasSuffix(known(e.Header), "88") }
func (e Event) ofUserPIN() bool { return e.aboutPIN() && strings.HasSuffix(known(e.Header), "81") }

// mark is the character before a line, and how the line is drawn: a question is
// not to be mistaken for a try, nor a right PIN for a wrong one, also without colour.
func (e Event) mark() (mark, style string) {
	switch {
	case e.Kind == Struck || e.Kind == CutShort:
		return "✗", bad
	case e.Kind != Command:
		return "▲", notable
	case e.Query:
		return "?", asking
	case e.aboutPIN() && known(e.SW) == "9000":
		return "✓", good
	case e.aboutPIN():
		return "●", bad
	}
	return " ", ordinary
}

// Phrase is a command and what became of it as people say it, without the fields that
// programs look for: "VERIFY user PIN: wrong, 2 tries left (63C2)".
func (e Event) Phrase() string {
	if e.Kind != Command {
		return e.String()
	}
	s := strings.TrimSpace(known(e.Command) + " " + known(e.Subject))
	if e.Query {
		s = "status of " + known(e.Subject)
	}
	if known(e.SW) == "9000" || e.SW == nil {
		return Printable(s + ": " + e.Meaning)
	}
	return Printable(fmt.Sprintf("%s: %s (%s)", s, e.Meaning, known(e.SW)))
}

// bars are the retry counters that the command has to do with.
func (e Event) bars() []string {
	var bars []string
	add := func(name string, c *Counter) {
		if c != nil {
			bars = append(bars, bar(name, *c))
		}
	}
	initialises := e.initialises()
	if e.ofSOPIN() || initialises || e.aboutPIN() && e.instruction() == "2C" {
		add("SO-PIN", e.SOPIN)
	}
	if e.ofUserPIN() || initialises && known(e.SW) == "9000" {
		add("user PIN", e.UserPIN)
	}
	return bars
}

// longest is the number of tries up to which a bar has a place for each.
const longest = 15

func bar(name string, c Counter) string {
	width := max(0, min(c.Tries, longest))
	left := 0
	if c.Tries > 0 {
		left = min(width, (max(0, c.TriesLeft)*width+c.Tries-1)/c.Tries) // a try that is left is seen
	}
	return fmt.Sprintf("%s %s%s %d/%d", name, strings.Repeat("█", left), strings.Repeat("·", max(0, width-left)), c.TriesLeft, c.Tries)
}
