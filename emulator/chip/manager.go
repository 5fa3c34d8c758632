package chip

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"slices"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/applet/command"
	"hsmemu/applet/pkcs15"
	"hsmemu/emulator/scp03"
	"hsmemu/keystore"
)

// MasterKey is the key that the card manager's keys are derived from. It is as
// public as the issuer that certifies emulated devices: GlobalPlatform's key for
// tests.
var MasterKey = [scp03.KeyLen]byte{
	0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x4B, 0x4C, 0x4D, 0x4E, 0x4F,
}

// KeyVersion is the version of the card manager's keys, until PUT KEY makes others.
const KeyVersion = 0x30

// TransportVersion is the version of the keys that a blank chip comes with, each of which
// is MasterKey itself. Whoever makes a device of it replaces them first.
const TransportVersion = 0x01

// maxKeySets is how many sets of keys the card manager has room for.
const maxKeySets = 3

// KeySet is one set of the card manager's keys.
type KeySet struct {
	// Version is what INITIALIZE UPDATE names the set by, 01 to 7F.
	Version byte       `json:"version"`
	Keys    scp03.Keys `json:"keys"`
}

// Package is the name of the load file, a beginning of the application's.
const Package = "\xE8\x2B\x06\x01\x04\x01\x81\xC3\x1F\x02"

// Stage says how far the application has come, from none to one in use.
type Stage string

// The stages. Manufacture makes cards that are Operational.
const (
	Operational Stage = ""           // a device like any other
	Empty       Stage = "empty"      // no application, after DELETE
	Loaded      Stage = "loaded"     // its package is there
	Production  Stage = "production" // it is there, and waits for its key and certificate
)

// Manager is what the card manager keeps. A card that was never spoken to over
// its secure channel has none of it.
type Manager struct {
	// Chip is the serial number of the chip, 6 bytes, from when the device that
	// it was told from is gone; nil before.
	Chip []byte `json:"chip,omitempty"`
	// Counter is the sequence counter of the last secure channel.
	Counter uint32 `json:"counter,omitempty"`
	// KeySets are the sets of keys, each of another version. It is empty before the
	// first PUT KEY: then the only set is that of KeyVersion, derived from MasterKey.
	KeySets []KeySet `json:"key_sets,omitempty"`
	Stage   Stage    `json:"stage,omitempty"`
	// Firmware is what was loaded; empty while Operational or Empty.
	Firmware string `json:"firmware,omitempty"`
	// Key and Name are the device key that was made in Production, and
	// Certificate the content of EF 2F02 as far as it has come.
	Key         keystore.Key `json:"key,omitzero"`
	Name        string       `json:"name,omitempty"`
	Certificate []byte       `json:"certificate,omitempty"`
}

// IsZero reports whether the card manager has nothing to keep.
func (m Manager) IsZero() bool {
	return m.Chip == nil && m.Counter == 0 && len(m.KeySets) == 0 && m.Stage == Operational && m.Firmware == "" && m.Key.IsZero() && m.Name == "" && m.Certificate == nil
}

// chipLen is the length of a chip's serial number in bytes.
const chipLen = 6

// longest is the most bytes that EF 2F02 can have, and maxName those of a name.
const (
	longest = 1462
	maxName = 16
)

// check: only an update leads to a state other than that of a device in use, and
// it comes to its parts one after the other.
func (m Manager) check(firmware string) error {
	production := m.Stage == Production
	switch {
	case m.Counter > scp03.MaxCounter:
		return errors.New("a sequence counter that is too high")
	case m.Chip != nil && len(m.Chip) != chipLen, m.Chip == nil && m.Stage != Operational:
		return errors.New("a chip without its serial number")
	case m.Chip != nil && m.Counter == 0:
		return errors.New("a firmware update without a secure channel")
	case len(m.KeySets) > 0 && m.Counter == 0, len(m.KeySets) > maxKeySets, !distinct(m.KeySets):
		return errors.New("keys of the card manager that no command makes")
	case !slices.Contains([]Stage{Operational, Empty, Loaded, Production}, m.Stage):
		return fmt.Errorf("an application in a stage %q", m.Stage)
	case (m.Stage == Loaded || production) != (m.Firmware != ""):
		return fmt.Errorf("firmware %q loaded in a stage %q", m.Firmware, m.Stage)
	case m.Firmware != "" && m.Firmware != newest(firmware).Name:
		return fmt.Errorf("firmware %s loaded in place of %s", m.Firmware, firmware)
	case !production && (!m.Key.IsZero() || m.Name != "" || m.Certificate != nil):
		return errors.New("a device key that waits for its certificate")
	case m.Key.IsZero() != (m.Name == ""), m.Key.IsZero() && m.Certificate != nil, len(m.Name) > maxName, len(m.Certificate) > longest:
		return errors.New("a device key without its name")
	case !m.Key.IsZero() && (m.Key.Kind() != keystore.EC || m.Key.Curve().Name() != applet.DeviceCurve || !m.Key.EC().Consistent() ||
		m.Key.Uses.Limited || m.Key.Algorithms != nil || m.Key.Domain != 0):
		return errors.New("a device key that is none")
	}
	return nil
}

// distinct reports whether all sets have keys, and a version of their own.
func distinct(sets []KeySet) bool {
	for i, s := range sets {
		if s.Version == 0 || s.Version > scp03.MaxVersion || s.Keys.IsZero() || ofVersion(sets, s.Version) != i {
			return false
		}
	}
	return true
}

// ofVersion is the index of the set with a version, -1 if there is none.
func ofVersion(sets []KeySet, version byte) int {
	return slices.IndexFunc(sets, func(s KeySet) bool { return s.Version == version })
}

// chip is the serial number of the chip. It is told from the first device on it.
func (d Durable) chip() []byte {
	if d.Manager.Chip != nil {
		return d.Manager.Chip
	}
	sum := sha256.Sum256([]byte(d.Applet.Device.Name))
	return sum[:chipLen]
}

// diversification is what makes the keys of this chip.
func (d Durable) diversification() scp03.Diversification {
	return scp03.Diversification(append([]byte{0x00, 0x00, 0x55, 0x4D}, d.chip()...))
}

// keySets are the sets of keys that open a secure channel. They are not to be changed.
func (d Durable) keySets() []KeySet {
	if len(d.Manager.KeySets) > 0 {
		return d.Manager.KeySets
	}
	return []KeySet{{KeyVersion, scp03.Derive(MasterKey, d.diversification())}}
}

// Origin is where keys of the card manager come from.
type Origin string

// The origins.
const (
	OfChip      Origin = "chip"      // derived from MasterKey, as every card has them
	OfTransport Origin = "transport" // MasterKey itself, as blank chips have them
	OfOthers    Origin = "others"    // of somebody's own, by PUT KEY
)

// Origins tells of the card manager's sets of keys, in their order, the version and where the
// keys come from.
func (d Durable) Origins() iter.Seq2[byte, Origin] {
	return func(yield func(byte, Origin) bool) {
		for _, s := range d.keySets() {
			from := OfOthers
			switch {
			case s.Keys.Equal(scp03.Derive(MasterKey, d.diversification())):
				from = OfChip
			case s.Keys.Equal(scp03.NewKeys(MasterKey, MasterKey, MasterKey)):
				from = OfTransport
			}
			if !yield(s.Version, from) {
				return
			}
		}
	}
}

// newest is the newest profile of the generation of a firmware. Each generation
// runs on a chip of its own, so there is no way from one to the next.
func newest(firmware string) applet.Profile {
	is, _ := applet.ProfileOf(firmware)
	for _, p := range applet.Profiles() {
		if p.Major == is.Major {
			is = p
		}
	}
	return is
}

// updatable refuses to delete an application that holds keys, or one that there
// is nothing newer for; neither matters once the SO-PIN is blocked (UPDATE-1,
// UPDATE-2, UPDATE-3). What is no longer in use may go at any time.
func (d Durable) updatable() error {
	so := d.Applet.PINs.SO
	switch {
	case d.Manager.Stage != Operational, so.Max > 0 && so.Left == 0:
		return nil
	case len(d.Applet.Keys) > 0, newest(d.Applet.Firmware).Name == d.Applet.Firmware:
		return apdu.ConditionsNotSatisfied
	}
	return nil
}

// place is who a command goes to.
type place int

const (
	manager     place = iota // no application selected
	application              // the application in production selected
)

func (p place) managers() bool     { return p == manager }
func (p place) applications() bool { return p == application }

// managerRow is a row of the card manager's table, and of that of an application
// in production.
type managerRow struct {
	command.Form[place]
	name string
	// open rows are there without a secure channel; of all others nobody hears
	// without one.
	open bool
	// quiet rows have data that no trace shows.
	quiet bool
	run   func(*operation, apdu.Command) ([]byte, error)
}

type form = command.Form[place]

// managerRows are the commands of GlobalPlatform and those that make a device of
// an application.
var managerRows = []managerRow{
	{name: "GET DATA", open: true, Form: form{INS: apdu.InsGetData, P1: []byte{0x9F}, P2: []byte{0x7F}, Data: command.NoData, Feature: place.managers}, run: productionData},
	{name: "GET DATA", open: true, Form: form{INS: apdu.InsGetData, P1: []byte{0x00}, P2: []byte{0xCF, 0x66}, Data: command.NoData, Feature: place.managers}, run: cardData},
	{name: "INITIALIZE UPDATE", open: true, Form: form{INS: scp03.InsInitializeUpdate, P2: []byte{0}, Data: command.Size{Least: scp03.ChallengeLen, Most: scp03.ChallengeLen}}, run: initializeUpdate},
	{name: "EXTERNAL AUTHENTICATE", open: true, Form: form{INS: scp03.InsExternalAuthenticate, P2: []byte{0}, Data: command.Size{Least: 16, Most: 16}}, run: externalAuthenticate},
	{name: "DELETE", Form: form{INS: apdu.InsDeleteFile, P1: []byte{0x00}, P2: []byte{0x80}, Data: command.SomeOf, Feature: place.managers}, run: deletePackage},
	{name: "INSTALL (for load)", Form: form{INS: apdu.InsInstall, P1: []byte{0x02}, P2: []byte{0x00}, Data: command.SomeOf, Feature: place.managers}, run: installForLoad},
	{name: "INSTALL (for install)", Form: form{INS: apdu.InsInstall, P1: []byte{0x0C}, P2: []byte{0x00}, Data: command.SomeOf, Feature: place.managers}, run: installApplication},
	{name: "LOAD", Form: form{INS: apdu.InsLoad, P1: []byte{0x00, lastBlock}, Data: command.SomeOf, Feature: place.managers}, run: load},
	{name: "GET STATUS", Form: form{INS: apdu.InsGetStatus, P1: []byte{ofManager, ofApplications, ofFiles, ofFilesWithModules}, P2: []byte{inTLV}, Data: command.SomeOf, Feature: place.managers}, run: getStatus},
	{name: "PUT KEY", quiet: true, Form: form{INS: apdu.InsPutKey, P2: []byte{0x81}, Data: command.SomeOf, Feature: place.managers}, run: putKey},
	{name: "GENERATE ASYMMETRIC KEY PAIR", Form: form{INS: apdu.InsGenerateKeyPair, P1: []byte{0x00}, P2: []byte{0x00}, Data: command.SomeOf, Feature: place.applications}, run: generateDeviceKey},
	{name: "UPDATE BINARY", Form: form{INS: apdu.InsUpdateBinary, P1: []byte{byte(pkcs15.FileDevice >> 8)}, P2: []byte{byte(pkcs15.FileDevice & 0xFF)}, Data: command.SomeOf, Feature: place.applications}, run: storeCertificate},
	{name: "FINALISE", Form: form{INS: apdu.InsFinalise, P1: []byte{0x00}, P2: []byte{0x00}, Data: command.NoData, Feature: place.applications}, run: finalise},
}

// operation is what a handler works on. Its changes stand if it succeeds.
type operation struct {
	env applet.Env
	d   Durable
	// changed is set with the first durable change.
	changed bool
	session managerSession
	subject string
}

// managerSession is what a reset or any SELECT ends: the secure channel, and a
// load file on its way.
type managerSession struct {
	channel scp03.Card
	load    *loading
}

// change announces a durable change.
func (o *operation) change() *Durable {
	o.changed = true
	return &o.d
}

// errUnasked is the answer to an open command that nothing led up to: as if the
// card did not know it.
var errUnasked = errors.New("command is not expected")

// word is the status word of what a handler or the channel returned.
func word(err error) apdu.SW {
	var sw apdu.SW
	switch {
	case err == nil:
		return apdu.OK
	case errors.As(err, &sw):
		return sw
	case errors.Is(err, scp03.ErrCryptogram):
		return apdu.VerificationFailed
	case errors.Is(err, scp03.ErrMAC):
		return apdu.WrongSMObject
	case errors.Is(err, scp03.ErrLevel):
		return apdu.IncorrectP1P2
	case errors.Is(err, scp03.ErrLength):
		return apdu.WrongLength
	case errors.Is(err, scp03.ErrKeyData):
		return apdu.WrongData
	case errors.Is(err, scp03.ErrKeyType):
		return apdu.KeyTypeNotSupported
	case errors.Is(err, scp03.ErrKeyCheck):
		return apdu.WrongKeyCheckValue
	case errors.Is(err, scp03.ErrClosed), errors.Is(err, scp03.ErrTurn):
		return apdu.ConditionsNotSatisfied
	}
	return apdu.Internal
}

// starts reports whether a command begins a channel anew, inside of one or not.
func (d Durable) starts(c apdu.Command) bool {
	return c.CLA == apdu.ClassProprietary && c.INS == scp03.InsInitializeUpdate && ofVersion(d.keySets(), c.P1) >= 0
}

// serve answers a command that no application in use takes. Without a secure
// channel only the open rows exist, and every other command is answered
// otherwise, as on a card that has no card manager to speak of.
func (s State) serve(env applet.Env, at place, c apdu.Command, otherwise Result) (State, Result) {
	o := &operation{env: env, d: s.Durable(), session: s.session}
	secure := s.session.channel.Active() && !o.d.starts(c)
	row, data, err := o.dispatch(at, c, secure)
	if errors.Is(err, errUnasked) {
		return s, otherwise
	}
	response := apdu.Response{SW: word(err)}
	if err == nil {
		response.Data = data
	}
	event := applet.Event{
		Header: [4]byte{c.CLA, c.INS, c.P1, c.P2}, Command: fmt.Sprintf("INS %02X", c.INS), Subject: o.subject, SW: response.SW,
		Meaning: response.SW.Meaning(), Sent: len(c.Data), Received: len(response.Data), Secure: secure, Quiet: row == nil || row.quiet,
	}
	if row != nil {
		event.Command = row.name
	}
	if err == nil {
		event.Meaning = "done"
	}
	if response.SW == apdu.Internal {
		event.Defect = err
	}
	if secure && o.session.channel.Active() {
		if response, o.session.channel, err = o.session.channel.Wrap(response); err != nil {
			response, o.session = apdu.Response{SW: word(err)}, managerSession{}
		}
	}
	result := Result{Response: response.Bytes(), Event: event}
	s.session = o.session
	if o.changed && event.SW == apdu.OK {
		s.chip, s.Applet = o.d.with(applet.Durable{}), applet.Boot(o.d.Applet)
		result.Commits, result.Event.Commits = []Durable{o.d}, 1
	}
	return s, result
}

// dispatch goes through channel, class and row, in this order.
func (o *operation) dispatch(at place, c apdu.Command, secure bool) (*managerRow, []byte, error) {
	if !secure {
		return o.dispatchOpen(at, c)
	}
	plain, channel, err := o.session.channel.Unwrap(c)
	o.session.channel = channel
	if err != nil {
		return nil, nil, err
	}
	if plain.CLA != apdu.ClassISO && plain.CLA != apdu.ClassProprietary {
		return nil, nil, apdu.ClassNotSupported
	}
	row, err := command.Find(managerRows, at, plain)
	switch {
	case errors.Is(err, apdu.InstructionNotSupported) && plain.CLA == apdu.ClassISO:
		return nil, nil, apdu.ClassNotSupported
	case err != nil:
		return nil, nil, err
	}
	data, err := row.run(o, plain)
	return row, data, err
}

// dispatchOpen is dispatch without a channel.
func (o *operation) dispatchOpen(at place, c apdu.Command) (*managerRow, []byte, error) {
	class := apdu.ClassProprietary
	if c.INS == scp03.InsExternalAuthenticate {
		class |= scp03.ClassSecure
	}
	row, err := command.Find(managerRows, at, c)
	if err != nil || !row.open || c.CLA != class {
		return nil, nil, errUnasked
	}
	data, err := row.run(o, c)
	return row, data, err
}

// produce is a command for an application that waits for its device key: it can
// be selected and read, and has never been initialised. All else is production's.
func (s State) produce(env applet.Env, c apdu.Command, raw []byte) (State, Result) {
	plain := !s.session.channel.Active()
	if plain && slices.Contains([]byte{apdu.InsSelect, apdu.InsReadBinary, apdu.InsVerify}, c.INS) || c.INS == apdu.InsSelect && c.CLA&scp03.ClassSecure == 0 {
		m := s.chip.Manager
		bare := applet.Durable{Firmware: m.Firmware, Answers: s.Applet.Answers}
		if m.Certificate != nil {
			bare.Files = []applet.File{{ID: pkcs15.FileDevice, Data: m.Certificate}}
		}
		_, r := applet.Step(env, applet.Boot(bare), c)
		s.Selected = s.Selected || r.Response.SW == apdu.OK
		return s, Result{Response: r.Response.Bytes(), Event: r.Event}
	}
	return s.serve(env, application, c, refuse("(application in production)", raw, apdu.ConditionsNotSatisfied))
}
