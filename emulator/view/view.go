// Package view describes a card as data, for programs, and in words, for people.
//
//	c := view.Of("lab", durable, "none", 1)
//	json.NewEncoder(w).Encode(c) // what `hsmemu card show --json` prints
//	c.Print(w)                   // what `hsmemu card show` prints
//
// The JSON form of [Card] is described in docs/json.md and docs/hsmemu.schema.json.
// The words are made from that data alone. The package works on values: it reads
// no file and talks to no process.
package view

import (
	"encoding/hex"
	"fmt"
	"strings"

	"hsmemu/applet"
	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/emulator/broken"
	"hsmemu/emulator/chip"
	"hsmemu/keystore"
	"hsmemu/pinstate"
)

// Schema is the version of the JSON form. It changes when a member is removed or
// changes its meaning, not when one is added.
const Schema = 1

// Card describes a card: what its owner may know, and what only an emulator can
// tell. Nil, in JSON null, means not known or not applicable. State is nil if the
// content of the card's file is not known. A known list is never nil, except
// Algorithms of a Key.
type Card struct {
	Schema int    `json:"schema"`
	Name   string `json:"name"` // in the state folder

	Serial       *string  `json:"serial"`
	Device       *string  `json:"device"` // name in the device certificate
	Firmware     *string  `json:"firmware"`
	KnownDefects []string `json:"known_defects"` // of the firmware, in words
	Answers      []string `json:"answers"`       // chosen for it, as NAME=SW
	Reader       *string  `json:"reader"`        // that it is in, or that of such hardware

	State      *State      `json:"state"`
	Options    []Option    `json:"options"`     // those with a name
	OptionsHex *string     `json:"options_hex"` // the option bytes of INITIALIZE DEVICE
	SOPIN      *PIN        `json:"so_pin"`
	UserPIN    *PIN        `json:"user_pin"`
	PublicKeys *PublicKeys `json:"public_key_authentication"`

	Keys        []Key       `json:"keys"`
	Files       []File      `json:"files"`
	KeyDomains  []KeyDomain `json:"key_domains"`
	ManagerKeys []KeySet    `json:"manager_keys"` // of the card manager
	FreeBytes   *int        `json:"free_bytes"`
	MemoryBytes *int        `json:"memory_bytes"`

	Broken     *Defect  `json:"broken"`     // what it does wrong on purpose
	Seeded     *bool    `json:"seeded"`     // its randomness follows from a number
	KeyPool    *bool    `json:"key_pool"`   // its RSA keys come from a public pool
	Seal       *string  `json:"seal"`       // of its file: "none", "passphrase", "tpm"
	Generation *uint64  `json:"generation"` // of its file, 1 for a new one
	Refused    *Refusal `json:"refused"`    // why it cannot be used
	Running    *Running `json:"running"`    // in a reader
}

// KeySet is a set of the card manager's keys, which it does not show.
type KeySet struct {
	Version string      `json:"version"` // as two hexadecimal digits
	Origin  chip.Origin `json:"origin"`
}

// Defect is what a card does wrong on purpose. Does is what that is, in a sentence;
// Gain is what somebody gets from it who should not, and Breaks the statement of
// docs/protocol that does not hold. They are nil for a defect that this program
// does not know.
type Defect struct {
	Name   string  `json:"name"`
	Does   *string `json:"does"`
	Gain   *string `json:"gain"`
	Breaks *string `json:"breaks"`
}

// State is the life-cycle state of a card.
type State string

// The states of a card. Whether its SO-PIN is blocked is told by SOPIN.
const (
	Uninitialised       State = "uninitialised"
	Operational         State = "operational"
	TransportPIN        State = "transport-pin" // to be changed before its first use
	TransportPINBlocked State = "transport-pin-blocked"
	UserPINBlocked      State = "user-pin-blocked"
	PublicKeysOnly      State = "public-keys-only" // no user PIN
	NoApplication       State = "no-application"   // a blank chip, or one whose update has begun and not ended
)

// Option is an option of INITIALIZE DEVICE.
type Option string

// optionWords are the options that have an effect.
var optionWords = []struct {
	bit  pinstate.Options
	word Option
}{
	{pinstate.OptionResetEnabled, "reset-with-so-pin"},
	{pinstate.OptionTransportPIN, "transport-pin"},
	{pinstate.OptionSessionPIN, "session-pin"},
	{pinstate.OptionReplaceKeys, "replaceable-public-keys"},
	{pinstate.OptionPINAndKeys, "pin-and-public-keys"},
	{pinstate.OptionResetOnly, "reset-counter-only"},
}

// PIN is a PIN and its retry counter.
type PIN struct {
	State     PINState `json:"state"`
	TriesLeft *int     `json:"tries_left"` // nil where no PIN is set
	Tries     *int     `json:"tries"`      // what a right PIN sets TriesLeft to
	// NextWrong is what another wrong PIN does.
	NextWrong NextWrong `json:"next_wrong"`
	// Unblock is what helps when it is blocked; nil where no PIN is set.
	Unblock *Unblock `json:"unblock"`
}

// PINState says whether a PIN can be used.
type PINState string

// The states of a PIN.
const (
	PINUnset   PINState = "unset"
	PINReady   PINState = "ready"
	PINBlocked PINState = "blocked"
)

// NextWrong is what another wrong PIN does.
type NextWrong string

// What another wrong PIN does.
const (
	NothingNext   NextWrong = "none" // not set, or blocked already
	LeavesTries   NextWrong = "leaves-tries"
	Blocks        NextWrong = "blocks"          // Unblock tells the way out
	BlocksForGood NextWrong = "blocks-for-good" // there is none
)

// Unblock is what helps when a PIN is blocked.
type Unblock string

// What helps when a PIN is blocked.
const (
	SOPINSetsNew       Unblock = "so-pin-sets-new"
	SOPINResetsCounter Unblock = "so-pin-resets-counter"
	InitialiseOnly     Unblock = "initialise-only" // with the SO-PIN; erases the keys
	Never              Unblock = "never"
)

// PublicKeys is the policy for login by public keys.
type PublicKeys struct {
	Required   int `json:"required"` // to authenticate for a login
	Total      int `json:"total"`
	Registered int `json:"registered"` // of Total
}

// Key is a key of the user.
type Key struct {
	Reference int     `json:"reference"` // on the card, 1 to 255
	ID        *string `json:"id"`        // CKA_ID in hexadecimal; nil without a description
	Label     *string `json:"label"`     // CKA_LABEL; nil without a description
	Kind      string  `json:"kind"`      // "EC", "RSA", "AES"
	Bits      int     `json:"bits"`
	Curve     *string `json:"curve"` // nil unless Kind is "EC"
	KeyDomain int     `json:"key_domain"`
	// Algorithms are those that the key is limited to; nil is no limit.
	Algorithms []Algorithm `json:"algorithms"`
	UsesLeft   *uint32     `json:"uses_left"` // nil is any number
}

// Algorithm is an algorithm of the card.
type Algorithm struct {
	Code string `json:"code"` // one byte in hexadecimal, as in commands
	Name string `json:"name"`
}

// File is an elementary file.
type File struct {
	ID    string `json:"id"`    // four hexadecimal digits
	Holds string `json:"holds"` // what clients keep in it, "key description"
	Bytes int    `json:"bytes"`
}

// KeyDomain is a slot for a key domain.
type KeyDomain struct {
	Slot    int        `json:"slot"`
	Kind    DomainKind `json:"kind"`
	Shares  *int       `json:"shares"`  // nil unless Kind is DKEK
	Missing *int       `json:"missing"` // of Shares
	KCV     *string    `json:"kcv"`     // nil while there is no key
	UID     *string    `json:"uid"`     // nil unless Kind is XKEK
}

// DomainKind is what a key domain's key comes from.
type DomainKind string

// The kinds of key domains.
const (
	EmptyDomain DomainKind = "empty"
	DKEK        DomainKind = "dkek" // from shares
	XKEK        DomainKind = "xkek" // agreed on between cards
)

// Refusal is why a card cannot be used, for programs and for people.
type Refusal struct {
	Reason Reason `json:"reason"`
	Text   string `json:"text"`
}

// Reason is why a card cannot be used.
type Reason string

// Why a card cannot be used.
const (
	OlderThanCounter Reason = "older-than-counter"
	NewerThanCounter Reason = "newer-than-counter"
	CounterGone      Reason = "counter-gone"
	CounterFailed    Reason = "counter-failed"
	Unreadable       Reason = "unreadable" // nothing else is known of it
)

// Running is what the process that runs a card knows of it.
type Running struct {
	Process int     `json:"process"` // its number
	Place   string  `json:"place"`   // the reader, in words
	Ejected bool    `json:"ejected"`
	Session Session `json:"session"`
	// Start are the files of the start state that the process has made the card with;
	// empty if the card was there before.
	Start []string `json:"start"`
}

// Session says who is logged in.
type Session string

// Who may be logged in.
const (
	NotSelected   Session = "not-selected" // the application is not
	Nobody        Session = "nobody"
	SOPINVerified Session = "so-pin" // the SO-PIN was verified, and the user is not logged in
	User          Session = "user"
)

// Closed describes a card whose file is not opened: only its seal and its
// generation are known.
func Closed(name, seal string, generation uint64) Card {
	return Card{Schema: Schema, Name: name, Seal: &seal, Generation: &generation}
}

// Broken describes a card whose file cannot be read; why is the reason in words.
func Broken(name, why string) Card {
	return Card{Schema: Schema, Name: name, Refused: &Refusal{Unreadable, why}}
}

// Of describes a card by its content and by the seal and generation of its file.
func Of(name string, d chip.Durable, seal string, generation uint64) Card {
	c := Closed(name, seal, generation)
	card, p := d.Applet, d.Applet.PINs
	c.Serial, c.Device, c.Firmware = new(card.Serial()), &card.Device.Name, &card.Firmware
	c.KnownDefects, c.Answers = list(card.Profile().Defects()), list(card.Answers.Chosen())
	// 15 characters of the device name, blank-padded to 24, as hardware has it.
	c.Reader = new(fmt.Sprintf("Nitrokey Nitrokey HSM (%-24.15s) 00 00", card.Device.Name))
	c.State, c.Options, c.OptionsHex = new(stateOf(p, d.Manager.Stage)), optionsOf(p.Options), new(fmt.Sprintf("%04X", uint16(p.Options)))
	c.SOPIN, c.UserPIN = new(soPIN(p)), new(userPIN(p))
	c.Keys, c.Files, c.KeyDomains = []Key{}, []File{}, []KeyDomain{}
	for id := range 0x100 {
		if k, exists := card.Keys[byte(id)]; exists {
			description, _ := card.File(pkcs15.File(pkcs15.PrefixKeyDescription, byte(id)))
			c.Keys = append(c.Keys, keyOf(id, k, description.Data))
		}
	}
	for _, f := range card.Files {
		c.Files = append(c.Files, fileOf(f))
	}
	for version, origin := range d.Origins() {
		c.ManagerKeys = append(c.ManagerKeys, KeySet{fmt.Sprintf("%02X", version), origin})
	}
	for slot, domain := range card.Domains {
		c.KeyDomains = append(c.KeyDomains, domainOf(slot, domain))
	}
	if p.Keys.Total > 0 {
		c.PublicKeys = &PublicKeys{Required: int(p.Keys.Required), Total: int(p.Keys.Total)}
		for _, custodian := range card.Custodians {
			if custodian.Name != "" {
				c.PublicKeys.Registered++
			}
		}
	}
	c.FreeBytes, c.MemoryBytes = new(card.Free()), new(card.Profile().Memory)
	c.Seeded, c.KeyPool, c.Broken = new(d.Seed != nil), &d.KeyPool, defectOf(d.Broken)
	return c
}

// defectOf is the defect of a name, nil for none.
func defectOf(name string) *Defect {
	if name == "" {
		return nil
	}
	d, err := broken.Find(name)
	if err != nil {
		return &Defect{Name: name}
	}
	return &Defect{Name: name, Does: &d.Does, Gain: &d.Gain, Breaks: &d.Breaks}
}

// list is the same list, empty where it was nil.
func list(words []string) []string { return append([]string{}, words...) }

func stateOf(p pinstate.Card, s chip.Stage) State {
	switch {
	case s != chip.Operational:
		return NoApplication
	case !p.Initialised:
		return Uninitialised
	case p.Transport && p.User.Left == 0:
		return TransportPINBlocked
	case p.Transport:
		return TransportPIN
	case p.User.Value == nil:
		return PublicKeysOnly
	case p.User.Left == 0:
		return UserPINBlocked
	}
	return Operational
}

func optionsOf(o pinstate.Options) []Option {
	words := []Option{}
	for _, option := range optionWords {
		if o.Has(option.bit) {
			words = append(words, option.word)
		}
	}
	return words
}

func soPIN(p pinstate.Card) PIN {
	if !p.Initialised {
		return PIN{State: PINUnset, NextWrong: NothingNext}
	}
	return pinOf(p.SO, Never)
}

func userPIN(p pinstate.Card) PIN {
	switch {
	case p.User.Value == nil:
		return PIN{State: PINUnset, NextWrong: NothingNext}
	case p.SO.Left == 0:
		return pinOf(p.User, Never)
	case p.Options.Has(pinstate.OptionResetEnabled | pinstate.OptionResetOnly):
		return pinOf(p.User, SOPINResetsCounter)
	case p.Options.Has(pinstate.OptionResetEnabled):
		return pinOf(p.User, SOPINSetsNew)
	}
	return pinOf(p.User, InitialiseOnly)
}

func pinOf(r pinstate.Reference, u Unblock) PIN {
	p := PIN{State: PINReady, TriesLeft: new(int(r.Left)), Tries: new(int(r.Max)), Unblock: &u}
	switch {
	case r.Left == 0:
		p.State, p.NextWrong = PINBlocked, NothingNext
	case r.Left > 1:
		p.NextWrong = LeavesTries
	case u == Never:
		p.NextWrong = BlocksForGood
	default:
		p.NextWrong = Blocks
	}
	return p
}

func keyOf(reference int, k keystore.Key, description []byte) Key {
	v := Key{Reference: reference, Kind: k.Kind().String(), Bits: k.Bits(), KeyDomain: int(k.Domain)}
	if d, err := pkcs15.ParseKey(description); err == nil {
		v.Label = new(strings.ToValidUTF8(d.Label, "�"))
		if len(d.ID) > 0 {
			v.ID = new(upper(d.ID))
		}
	}
	if k.Kind() == keystore.EC {
		v.Curve = new(k.Curve().Name())
	}
	if k.Algorithms != nil {
		v.Algorithms = []Algorithm{}
	}
	for _, a := range k.Algorithms {
		v.Algorithms = append(v.Algorithms, Algorithm{fmt.Sprintf("%02X", byte(a)), a.String()})
	}
	if k.Uses.Limited {
		v.UsesLeft = new(k.Uses.Left)
	}
	return v
}

func fileOf(f applet.File) File {
	v := File{ID: fmt.Sprintf("%04X", f.ID), Holds: f.Holds(), Bytes: len(f.Data)}
	if f.ID>>8 == uint16(pkcs15.PrefixCertificate) && cvc.HoldsRequest(f.Data) {
		v.Holds = "certificate request"
	}
	return v
}

func domainOf(slot int, d keystore.Domain) KeyDomain {
	v := KeyDomain{Slot: slot, Kind: EmptyDomain}
	switch {
	case d.IsZero():
		return v
	case d.XKEK():
		v.Kind, v.UID = XKEK, new(upper(d.UID()))
	default:
		v.Kind, v.Shares, v.Missing = DKEK, new(d.Total()), new(d.Outstanding())
	}
	if d.Ready() {
		kcv := d.KCV()
		v.KCV = new(upper(kcv[:]))
	}
	return v
}

func upper(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

// Runs adds what the process that runs the card knows: its number, the reader in
// words, whether the card was taken out of it, and the session.
func (c Card) Runs(process int, place string, ejected bool, s chip.State) Card {
	c.Running = &Running{Process: process, Place: place, Ejected: ejected, Session: Nobody, Start: []string{}}
	switch {
	case !s.Selected:
		c.Running.Session = NotSelected
	case s.Applet.Login.User:
		c.Running.Session = User
	case s.Applet.Login.SO:
		c.Running.Session = SOPINVerified
	}
	return c
}
