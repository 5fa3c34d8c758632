package applet

import (
	"fmt"
	"slices"
	"strings"

	"hsmemu/applet/apdu"
)

// CommandInfo is a row of the command table as documentation shows it.
type CommandInfo struct {
	// Name is the command, with the form in brackets where it has several.
	Name string
	// Header is INS, P1 and P2 in hexadecimal; "xx" stands for any byte.
	Header string
	// Needs is all that the command asks for, in the order in which it refuses;
	// often nothing.
	Needs []Requirement
	// Class is how long it takes on hardware, where its parameters do not say more.
	Class Class
	// Quiet tells that the data never appear in traces.
	Quiet bool
	// Firmware lists the profiles that have the command.
	Firmware []string
	// Evidence is how the behaviour is known.
	Evidence Evidence
}

// Requirement is one thing that a command asks of card or session.
type Requirement struct {
	// Words name it, "secure channel".
	Words string
	// Refusal answers a command without it, before anything is changed. 63C0
	// stands for the words that tell the tries left: that refusal costs a try.
	Refusal apdu.SW
}

// Commands lists the command table in its order.
func Commands() []CommandInfo {
	var list []CommandInfo
	for _, r := range table {
		info := CommandInfo{
			Name: r.name, Header: fmt.Sprintf("%02X %s %s", r.INS, parameters(r.P1), parameters(r.P2)),
			Class: ClassOf(r.INS), Quiet: r.quiet, Evidence: r.evidence,
		}
		for _, n := range r.needs {
			info.Needs = append(info.Needs, Requirement{n.words, n.refusal})
		}
		for i := range profiles {
			if p := &profiles[i]; r.On(p) {
				info.Firmware = append(info.Firmware, p.Name)
			}
		}
		list = append(list, info)
	}
	return list
}

// Defects says in words what is known to be wrong with this firmware.
func (p Profile) Defects() []string {
	var list []string
	if p.WeakAES {
		list = append(list, "AES keys made by hardware have little or no entropy (vendor advice of September 2019; not so here)")
	}
	if p.RestrictedUnwrap != apdu.OK {
		list = append(list, "UNWRAP KEY of a key with an algorithm list answers "+p.RestrictedUnwrap.String())
	}
	if p.StatusWithXKEK != apdu.OK {
		list = append(list, "status of public key authentication answers "+p.StatusWithXKEK.String()+" while an XKEK key domain exists")
	}
	return list
}

func parameters(p []byte) string {
	if p == nil {
		return "xx"
	}
	var words []string
	for _, b := range slices.Sorted(slices.Values(p)) {
		words = append(words, fmt.Sprintf("%02X", b))
	}
	return strings.Join(words, "/")
}
