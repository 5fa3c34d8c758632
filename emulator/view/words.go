package view

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"hsmemu/emulator/chip"
	"hsmemu/pinstate"
)

var stateText = map[State]string{
	Uninitialised:       "never initialised",
	Operational:         "operational",
	TransportPIN:        "transport PIN has to be changed",
	TransportPINBlocked: "transport PIN blocked",
	UserPINBlocked:      "user PIN blocked",
	PublicKeysOnly:      "public key authentication only",
	NoApplication:       "no application: a blank chip, or an update that has not ended",
}

var originText = map[chip.Origin]string{
	chip.OfChip:      "those of the chip",
	chip.OfTransport: "transport keys",
	chip.OfOthers:    "somebody's own, which a portal does not have",
}

// usualKeys are the card manager's keys of every card that nobody gave others.
var usualKeys = []KeySet{{fmt.Sprintf("%02X", chip.KeyVersion), chip.OfChip}}

// unblockText is what helps when the user PIN is blocked.
var unblockText = map[Unblock]string{
	SOPINSetsNew:       "the SO-PIN can unblock it and set a new one",
	SOPINResetsCounter: "the SO-PIN can reset the counter",
	InitialiseOnly:     "only INITIALIZE with the SO-PIN helps, which erases the keys",
	Never:              "no command can unblock it, since the SO-PIN is blocked",
}

var sessionText = map[Session]string{
	NotSelected:   "application not selected",
	Nobody:        "application selected, nobody logged in",
	SOPINVerified: "application selected, SO-PIN verified",
	User:          "user logged in",
}

// Printable is a text in one line, with a mark in place of every character that a
// terminal obeys or that is not seen, as those that turn its direction: a description
// comes from another process.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '�'
		}
		return r
	}, s)
}

// known returns what p points to, or the zero value.
func known[T any](p *T) T {
	if p == nil {
		var nothing T
		return nothing
	}
	return *p
}

// text returns the words for a word of the data. A word that this program does not
// know, since a newer one runs the card, is printed as it is.
func text[T ~string](words map[T]string, word T) string {
	return cmp.Or(words[word], string(word))
}

// Print describes the card for people, in a line for each property.
func (c Card) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, Printable(fmt.Sprintf(format, args...)))
	}
	row("Card", "%s", c.Name)
	if c.State != nil {
		row("Serial", "%s", known(c.Serial))
		row("Firmware", "%s", known(c.Firmware))
		for _, d := range c.KnownDefects {
			row("Known defect", "%s", d)
		}
		if len(c.Answers) > 0 {
			row("Answers", "%s", strings.Join(c.Answers, ", "))
		}
		row("Reader", "%s", known(c.Reader))
		row("State", "%s", c.StateWords())
		row("Options", "%s", c.OptionWords())
		row("SO-PIN", "%s", known(c.SOPIN).words(c.soNext))
		row("User PIN", "%s", known(c.UserPIN).words(userNext))
		if k := c.PublicKeys; k != nil {
			row("Public keys", "%d of %d keys needed, %d registered", k.Required, k.Total, k.Registered)
		}
		printList(t, "Keys", c.Keys)
		printList(t, "Key domains", c.KeyDomains)
		printList(t, "Files", c.Files)
		if len(c.ManagerKeys) > 0 && !slices.Equal(c.ManagerKeys, usualKeys) {
			printList(t, "Manager keys", c.ManagerKeys)
		}
		row("Free", "%d of %d bytes", known(c.FreeBytes), known(c.MemoryBytes))
	}
	if c.Seal != nil {
		row("Generation", "%d", known(c.Generation))
		row("Seal", "%s", sealWords(*c.Seal))
	}
	if c.Refused != nil {
		row("Refused", "%s", c.Refused.Text)
	}
	if c.Broken != nil {
		row("Broken", "%s", c.Broken.Words())
	}
	if known(c.Seeded) {
		row("Seeded", "keys and challenges follow from a number: for tests only")
	}
	if known(c.KeyPool) {
		row("Key pool", "RSA keys come from a public pool: for tests only")
	}
	if r := c.Running; r != nil {
		place := r.Place
		if r.Ejected {
			place += ", ejected"
		}
		row("Process", "%d, %s", r.Process, place)
		row("Session", "%s", text(sessionText, r.Session))
	}
	return t.Flush()
}

// PrintList describes cards for people, in a line for each.
func PrintList(cards []Card, w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, c := range cards {
		firmware, used := "", ""
		if c.Firmware != nil {
			firmware = "firmware " + *c.Firmware
		}
		if c.Running != nil {
			used = fmt.Sprintf("\tprocess %d", c.Running.Process)
		}
		state := c.StateWords()
		if c.Broken != nil {
			state += ", broken on purpose: " + c.Broken.Name
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s%s\n", Printable(c.Name), Printable(known(c.Serial)), Printable(firmware), Printable(state), used)
	}
	return t.Flush()
}

// Words is the defect in one line for people.
func (d Defect) Words() string {
	if d.Does == nil {
		return "on purpose: " + d.Name + ", which this program does not know"
	}
	return fmt.Sprintf("on purpose: %s. %s (%s)", d.Name, *d.Does, known(d.Breaks))
}

// printList prints a line for each item, the first one beside the name.
func printList[T interface{ words() string }](w io.Writer, name string, items []T) {
	if len(items) == 0 {
		fmt.Fprintf(w, "%s\tnone\n", name)
	}
	for _, item := range items {
		fmt.Fprintf(w, "%s\t%s\n", name, Printable(item.words()))
		name = ""
	}
}

// StateWords describes the life-cycle state, or says why it is not known.
func (c Card) StateWords() string {
	switch {
	case c.State == nil && c.Refused != nil:
		return c.Refused.Text
	case c.State == nil:
		return "sealed by " + known(c.Seal)
	case known(c.SOPIN).State == PINBlocked:
		return text(stateText, *c.State) + ", SO-PIN blocked"
	}
	return text(stateText, *c.State)
}

// OptionWords names the options, also those that have no effect.
func (c Card) OptionWords() string {
	o, _ := strconv.ParseUint(known(c.OptionsHex), 16, 16) // our own writing
	return pinstate.Options(o).String()
}

func sealWords(seal string) string {
	if seal == "none" {
		return "none: whoever reads the file has the keys"
	}
	return seal
}

// words describes the PIN; next says what comes next, which depends on which PIN
// it is.
func (p PIN) words(next func(PIN) string) string {
	switch p.State {
	case PINUnset:
		return "not set"
	case PINBlocked:
		return fmt.Sprintf("blocked, 0 of %d tries left; %s", known(p.Tries), next(p))
	}
	return fmt.Sprintf("%d of %d tries left; the next wrong one %s", known(p.TriesLeft), known(p.Tries), next(p))
}

// goesOn is said of a blocked SO-PIN where the user PIN works.
const goesOn = ", the user PIN goes on working"

// soNext says it of the SO-PIN.
func (c Card) soNext(p PIN) string {
	next := "blocks it: no command unblocks it" + goesOn
	switch {
	case p.State == PINBlocked:
		next = "no command unblocks it, the user PIN goes on working, and only the vendor's firmware update makes a new card of it: keys gone, new identity"
	case p.NextWrong == LeavesTries:
		return fmt.Sprintf("leaves %d; at 0 no command unblocks it", known(p.TriesLeft)-1)
	}
	if u := c.UserPIN; u == nil || u.State == PINBlocked || u.State == PINUnset {
		return strings.Replace(next, goesOn, "", 1)
	}
	return next
}

func userNext(p PIN) string {
	switch {
	case p.State == PINBlocked:
		return text(unblockText, known(p.Unblock))
	case p.NextWrong == LeavesTries:
		return fmt.Sprintf("leaves %d", known(p.TriesLeft)-1)
	}
	return "blocks the user PIN: " + text(unblockText, known(p.Unblock))
}

func (k Key) words() string {
	s := fmt.Sprintf("%d: %s-%d", k.Reference, k.Kind, k.Bits)
	if k.Curve != nil {
		s = fmt.Sprintf("%d: %s %s", k.Reference, k.Kind, *k.Curve)
	}
	if l := known(k.Label); l != "" {
		s += fmt.Sprintf(", %q", l)
	}
	if len(k.Algorithms) > 0 {
		var names []string
		for _, a := range k.Algorithms {
			names = append(names, a.Name)
		}
		s += ", only " + strings.Join(names, ", ")
	}
	if k.UsesLeft != nil {
		s += fmt.Sprintf(", %d uses left", *k.UsesLeft)
	}
	if k.KeyDomain != 0 {
		s += fmt.Sprintf(", key domain %d", k.KeyDomain)
	}
	return s
}

func (d KeyDomain) words() string {
	if d.Kind == EmptyDomain {
		return fmt.Sprintf("%d: empty", d.Slot)
	}
	s := fmt.Sprintf("%d: %s", d.Slot, strings.ToUpper(string(d.Kind)))
	switch {
	case known(d.Missing) > 0:
		return s + fmt.Sprintf(", %d of %d shares missing", *d.Missing, known(d.Shares))
	case d.KCV != nil:
		return s + ", key check value " + *d.KCV
	}
	return s + ", no key yet"
}

func (k KeySet) words() string { return "version " + k.Version + ", " + text(originText, k.Origin) }

func (f File) words() string {
	return fmt.Sprintf("%s %s, %d bytes", f.ID, f.Holds, f.Bytes)
}

// NextWrongSO and NextWrongUser say what another wrong PIN does, or what helps
// where the PIN is blocked: "leaves 6; at 0 no command unblocks it". They are empty
// where no PIN is set.
func (c Card) NextWrongSO() string { return nextWrong(c.SOPIN, c.soNext) }

// NextWrongUser is NextWrongSO of the user PIN.
func (c Card) NextWrongUser() string { return nextWrong(c.UserPIN, userNext) }

func nextWrong(p *PIN, next func(PIN) string) string {
	if p == nil || p.State == PINUnset {
		return ""
	}
	return next(*p)
}

// String describes the key in one line.
func (k Key) String() string { return Printable(k.words()) }

// String describes the slot in one line.
func (d KeyDomain) String() string { return Printable(d.words()) }

// String describes the file in one line.
func (f File) String() string { return Printable(f.words()) }
