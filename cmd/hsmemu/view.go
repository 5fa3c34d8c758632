package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"hsmemu/applet"
	"hsmemu/applet/pkcs15"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/store"
	"hsmemu/keystore"
	"hsmemu/pinstate"
)

// cardView is what `card show` tells of a card: what its owner may know, and
// what only an emulator can tell. Its JSON form is part of the command line's
// contract.
type cardView struct {
	Name       string       `json:"name"`
	Serial     string       `json:"serial"`
	Device     string       `json:"device"`
	Firmware   string       `json:"firmware"`
	Defects    []string     `json:"defects,omitempty"` // of the firmware
	Answers    []string     `json:"answers,omitempty"`
	Reader     string       `json:"reader"`
	State      string       `json:"state"`
	Options    []string     `json:"options"`
	SOPIN      pinView      `json:"so_pin"`
	UserPIN    pinView      `json:"user_pin"`
	Keys       []keyView    `json:"keys"`
	Files      []fileView   `json:"files"`
	Domains    []domainView `json:"key_domains"`
	Custodians string       `json:"public_key_authentication,omitempty"`
	Free       int          `json:"free_bytes"`
	Memory     int          `json:"memory_bytes"`
	Generation uint64       `json:"generation"`
	Seal       string       `json:"seal"`
	Refused    string       `json:"refused,omitempty"` // why the card does not open
	Seeded     bool         `json:"seeded,omitempty"`
	KeyPool    bool         `json:"key_pool,omitempty"`
	Process    int          `json:"process,omitempty"`
	Place      string       `json:"place,omitempty"`
	Session    string       `json:"session,omitempty"`
}

type pinView struct {
	Defined bool `json:"defined"`
	Left    int  `json:"tries_left"`
	Most    int  `json:"tries"`
	// Next is what another wrong PIN does.
	Next string `json:"next_wrong"`
}

type keyView struct {
	ID         int      `json:"id"`
	Kind       string   `json:"kind"`
	Label      string   `json:"label,omitempty"`
	Domain     int      `json:"key_domain"`
	Algorithms []string `json:"algorithms,omitempty"`
	Uses       *uint32  `json:"uses_left,omitempty"`
}

type fileView struct {
	ID    string `json:"id"`
	Holds string `json:"holds"`
	Bytes int    `json:"bytes"`
}

type domainView struct {
	Slot        int    `json:"slot"`
	Kind        string `json:"kind"`
	Shares      int    `json:"shares,omitempty"`
	Outstanding int    `json:"outstanding,omitempty"`
	KCV         string `json:"kcv,omitempty"`
}

// emptyView is a view with nothing in it, in JSON empty lists.
func emptyView(name string) cardView {
	return cardView{Name: name, Options: []string{}, Keys: []keyView{}, Files: []fileView{}, Domains: []domainView{}}
}

func newCardView(name string, d chip.Durable, info store.Info) cardView {
	card := d.Applet
	p := card.PINs
	v := cardView{
		Name: name, Serial: card.Serial(), Device: card.Device.Name, Firmware: card.Firmware,
		Defects: card.Profile().Defects(), Answers: card.Answers.Chosen(),
		Reader: readerName(d), State: stateWords(p), Options: optionWords(p),
		Free: card.Free(), Memory: card.Profile().Memory, Generation: info.Generation, Seal: info.Seal,
		Seeded: d.Seed != nil, KeyPool: d.KeyPool,
		Keys: []keyView{}, Files: []fileView{}, Domains: []domainView{},
	}
	if info.Refusal != nil {
		v.Refused = refusal(info.Refusal)
	}
	if p.Initialised {
		v.SOPIN = pinView{Defined: true, Left: int(p.SO.Left), Most: int(p.SO.Max), Next: nextSO(p)}
	}
	if p.User.Value != nil {
		v.UserPIN = pinView{Defined: true, Left: int(p.User.Left), Most: int(p.User.Max), Next: nextUser(p)}
	}
	for _, id := range slices.Sorted(mapKeys(card.Keys)) {
		k := newKeyView(id, card.Keys[id])
		k.Label = labelIn(fileOf(card, pkcs15.File(pkcs15.PrefixKeyDescription, id)))
		v.Keys = append(v.Keys, k)
	}
	for _, f := range card.Files {
		v.Files = append(v.Files, newFileView(f))
	}
	for slot, domain := range card.Domains {
		v.Domains = append(v.Domains, newDomainView(slot, domain))
	}
	if n := p.Keys.Total; n > 0 {
		registered := 0
		for _, c := range card.Custodians {
			if c.Name != "" {
				registered++
			}
		}
		v.Custodians = fmt.Sprintf("%d of %d keys needed, %d registered", p.Keys.Required, n, registered)
	}
	return v
}

func mapKeys(m map[byte]keystore.Key) func(func(byte) bool) {
	return func(yield func(byte) bool) {
		for id := range m {
			if !yield(id) {
				return
			}
		}
	}
}

func newKeyView(id byte, k keystore.Key) keyView {
	v := keyView{ID: int(id), Kind: fmt.Sprintf("%s-%d", k.Kind(), k.Bits()), Domain: int(k.Domain)}
	if k.Kind() == keystore.EC {
		v.Kind = "EC " + k.Curve().Name()
	}
	for _, a := range k.Algorithms {
		v.Algorithms = append(v.Algorithms, a.String())
	}
	if k.Uses.Limited {
		left := k.Uses.Left
		v.Uses = &left
	}
	return v
}

// labelIn is the label in the description of a key, empty if there is none.
func labelIn(description []byte) string {
	d, err := pkcs15.ParseKey(description)
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(d.Label, "�")
}

// firstOfRequest is the first byte of a certificate request as the card makes
// them; it is in the place of a certificate until there is one.
const firstOfRequest = 0x67

func newFileView(f applet.File) fileView {
	v := fileView{ID: fmt.Sprintf("%04X", f.ID), Holds: f.Holds(), Bytes: len(f.Data)}
	if v.Holds == "certificate" && bytes.HasPrefix(f.Data, []byte{firstOfRequest}) {
		v.Holds = "certificate request"
	}
	return v
}

func newDomainView(slot int, d keystore.Domain) domainView {
	if d.IsZero() {
		return domainView{Slot: slot, Kind: "empty"}
	}
	v := domainView{Slot: slot, Kind: "DKEK", Shares: d.Total(), Outstanding: d.Outstanding()}
	if d.XKEK() {
		v.Kind = "XKEK"
	}
	if d.Ready() {
		v.KCV = fmt.Sprintf("%X", d.KCV())
	}
	return v
}

// readerName is the name under which hardware with this serial number appears
// in PC/SC: 15 characters of the device name, blank-padded to 24.
func readerName(d chip.Durable) string {
	name := d.Applet.Device.Name
	return fmt.Sprintf("Nitrokey Nitrokey HSM (%-24.15s) 00 00", name)
}

// stateWords says where in its life the card is.
func stateWords(p pinstate.Card) string {
	var s string
	switch {
	case !p.Initialised:
		return "never initialised"
	case p.Transport && p.User.Left == 0:
		s = "transport PIN blocked"
	case p.Transport:
		s = "transport PIN has to be changed"
	case p.User.Value == nil:
		s = "public key authentication only"
	case p.User.Left == 0:
		s = "user PIN blocked"
	default:
		s = "operational"
	}
	if p.SO.Left == 0 {
		s += ", SO-PIN blocked for good"
	}
	return s
}

func optionWords(p pinstate.Card) []string {
	if p.Options == 0 {
		return []string{}
	}
	return strings.Split(p.Options.String(), ", ")
}

func nextSO(p pinstate.Card) string {
	switch p.SO.Left {
	case 0:
		return "the card can never be initialised again; only the vendor's firmware update makes a new card of it"
	case 1:
		return "blocks the SO-PIN for good; keys stay usable with the user PIN"
	}
	return fmt.Sprintf("leaves %d; at 0 nothing ever unblocks the SO-PIN", p.SO.Left-1)
}

func nextUser(p pinstate.Card) string {
	unblock := "only INITIALIZE with the SO-PIN helps, which erases the keys"
	switch {
	case p.SO.Left == 0:
		unblock = "nothing can unblock it, since the SO-PIN is blocked"
	case p.Options.Has(pinstate.OptionResetEnabled) && p.Options.Has(pinstate.OptionResetOnly):
		unblock = "the SO-PIN can reset the counter"
	case p.Options.Has(pinstate.OptionResetEnabled):
		unblock = "the SO-PIN can unblock it and set a new one"
	}
	switch p.User.Left {
	case 0:
		return unblock
	case 1:
		return "blocks the user PIN: " + unblock
	}
	return fmt.Sprintf("leaves %d", p.User.Left-1)
}

// running adds what only the process that runs the card knows.
func (v *cardView) running(pid int, place string, s chip.State) {
	v.Process, v.Place = pid, place
	switch {
	case !s.Selected:
		v.Session = "application not selected"
	case s.Applet.Login.User:
		v.Session = "user logged in"
	default:
		v.Session = "application selected, nobody logged in"
	}
}

// print writes the view for people.
func (v cardView) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("Card", "%s", v.Name)
	row("Serial", "%s", v.Serial)
	row("Firmware", "%s", v.Firmware)
	for _, d := range v.Defects {
		row("Known defect", "%s", d)
	}
	if len(v.Answers) > 0 {
		row("Answers", "%s", strings.Join(v.Answers, ", "))
	}
	row("Reader", "%s", v.Reader)
	row("State", "%s", v.State)
	row("Options", "%s", cmp.Or(strings.Join(v.Options, ", "), "none"))
	row("SO-PIN", "%s", v.SOPIN.words())
	row("User PIN", "%s", v.UserPIN.words())
	if v.Custodians != "" {
		row("Public keys", "%s", v.Custodians)
	}
	printList(t, "Keys", v.Keys)
	printList(t, "Key domains", v.Domains)
	printList(t, "Files", v.Files)
	row("Free", "%d of %d bytes", v.Free, v.Memory)
	row("Generation", "%d", v.Generation)
	row("Seal", "%s", v.sealWords())
	if v.Refused != "" {
		row("Refused", "%s", v.Refused)
	}
	if v.Seeded {
		row("Seeded", "keys and challenges follow from a number: for tests only")
	}
	if v.KeyPool {
		row("Key pool", "RSA keys come from a public pool: for tests only")
	}
	if v.Process > 0 {
		row("Process", "%d, %s", v.Process, v.Place)
		row("Session", "%s", v.Session)
	}
	return t.Flush()
}

// printList prints a line for each item, the first one beside the name.
func printList[T interface{ words() string }](w io.Writer, name string, items []T) {
	if len(items) == 0 {
		fmt.Fprintf(w, "%s\tnone\n", name)
	}
	for _, item := range items {
		fmt.Fprintf(w, "%s\t%s\n", name, item.words())
		name = ""
	}
}

func (v cardView) sealWords() string {
	if v.Seal == "none" {
		return "none: whoever reads the file has the keys"
	}
	return v.Seal
}

func (p pinView) words() string {
	if !p.Defined {
		return "not set"
	}
	if p.Left == 0 {
		return fmt.Sprintf("blocked, 0 of %d tries left; %s", p.Most, p.Next)
	}
	return fmt.Sprintf("%d of %d tries left; the next wrong one %s", p.Left, p.Most, p.Next)
}

func (k keyView) words() string {
	s := fmt.Sprintf("%d: %s", k.ID, k.Kind)
	if k.Label != "" {
		s += fmt.Sprintf(", %q", k.Label)
	}
	if len(k.Algorithms) > 0 {
		s += ", only " + strings.Join(k.Algorithms, ", ")
	}
	if k.Uses != nil {
		s += fmt.Sprintf(", %d uses left", *k.Uses)
	}
	if k.Domain != 0 {
		s += fmt.Sprintf(", key domain %d", k.Domain)
	}
	return s
}

func (d domainView) words() string {
	s := fmt.Sprintf("%d: %s", d.Slot, d.Kind)
	switch {
	case d.Kind == "empty":
		return s
	case d.Outstanding > 0:
		return s + fmt.Sprintf(", %d of %d shares missing", d.Outstanding, d.Shares)
	case d.KCV != "":
		return s + ", key check value " + d.KCV
	}
	return s + ", no key yet"
}

func (f fileView) words() string {
	return fmt.Sprintf("%s %s, %d bytes", f.ID, f.Holds, f.Bytes)
}

// firmwareList names every profile for help texts and errors.
func firmwareList() string {
	var names []string
	for _, p := range applet.Profiles() {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}
