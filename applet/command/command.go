// Package command finds the row of a command table that a command APDU belongs
// to. What a row says beside the form of its command, and what it runs, is its
// owner's business: the application and the card manager both have tables.
//
//	type row struct {
//		command.Form[*profile]
//		run func(apdu.Command) ([]byte, error)
//	}
//
//	r, err := command.Find(table, p, c)
package command

import (
	"slices"

	"hsmemu/applet/apdu"
)

// Form is the form of a command on a card that differs by P, such as by its
// firmware.
type Form[P any] struct {
	// INS, P1 and P2 select the row; nil matches every parameter.
	INS    byte
	P1, P2 []byte
	// OtherP2 answers a second parameter that no row of this instruction has,
	// where it names a reference; zero means incorrect parameters.
	OtherP2 apdu.SW
	// Data is how long the command data may be.
	Data Size
	// Feature reports whether a card has the command; nil: all of them.
	Feature func(P) bool
}

// Size limits the command data in bytes.
type Size struct{ Least, Most int }

// Sizes that many commands have. The most is what an extended command carries.
var (
	AnySize = Size{0, 65535}
	NoData  = Size{0, 0}
	SomeOf  = Size{1, 65535}
)

// form makes a row of every struct that embeds a Form, and of nothing else.
func (f *Form[P]) form() *Form[P] { return f }

// On reports whether a card has the command.
func (f *Form[P]) On(p P) bool { return f.Feature == nil || f.Feature(p) }

// Find is the first row of a table that a command matches on this card. Rows of
// one instruction are tried in their order. Errors, the first that applies:
// apdu.InstructionNotSupported where no row has the instruction,
// apdu.IncorrectP1P2 or the OtherP2 of a row where none has the parameters,
// apdu.WrongLength where none takes as much data.
func Find[P, R any, F interface {
	*R
	form() *Form[P]
}](table []R, p P, c apdu.Command,
) (*R, error) {
	known, otherP2, matched := false, apdu.IncorrectP1P2, false
	for i := range table {
		f := F(&table[i]).form()
		if f.INS != c.INS || !f.On(p) {
			continue
		}
		known = true
		if f.P1 != nil && !slices.Contains(f.P1, c.P1) {
			continue
		}
		if f.P2 != nil && !slices.Contains(f.P2, c.P2) {
			if f.OtherP2 != 0 {
				otherP2 = f.OtherP2
			}
			continue
		}
		matched = true
		if len(c.Data) >= f.Data.Least && len(c.Data) <= f.Data.Most {
			return &table[i], nil
		}
	}
	switch {
	case !known:
		return nil, apdu.InstructionNotSupported
	case !matched:
		return nil, otherP2
	}
	return nil, apdu.WrongLength
}
