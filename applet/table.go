package applet

import (
	"slices"

	"hsmemu/applet/apdu"
)

// access is the right a row of the command table asks for. It is checked after
// the shape of the command and before its handler runs.
type access int

const (
	// always: no right is needed; what a handler protects in addition is said
	// in the file rules.
	always access = iota
	// user: the user security state, by PIN, keys, or both.
	user
)

func (a access) String() string {
	if a == always {
		return "always"
	}
	return "user"
}

// size limits the command data in bytes.
type size struct{ least, most int }

var (
	anySize = size{0, maxData}
	noData  = size{0, 0}
	someOf  = size{1, maxData}
)

// maxData is the most that an extended command can carry.
const maxData = 65535

// command is one row of the table: a form of a command that the application
// knows, who may use it, and what runs.
type command struct {
	// name is what events and documentation call it.
	name string
	// ins, p1 and p2 select the row; nil matches every parameter.
	ins    byte
	p1, p2 []byte
	// otherP2 answers a second parameter that no row of this instruction
	// has, where it names a reference; zero means incorrect parameters.
	otherP2 apdu.SW
	data    size
	need    access
	// asks is what the handler asks for beside that, in words.
	asks string
	// class is what the command costs on hardware; the same in every row of an
	// instruction, and zero for those that cost little.
	class Class
	// quiet rows carry secrets: their data is kept out of traces.
	quiet bool
	// feature reports whether a firmware has the command; nil: all of them.
	feature func(*Profile) bool
	// evidence says how this behaviour is known, for the documentation.
	evidence Evidence
	run      func(*tx, apdu.Command) ([]byte, error)
}

// Class sorts commands by the time they take on hardware.
type Class string

// The classes of commands. What of a class takes longer than the rest (RSA) is
// told by the command's parameters and data.
const (
	Other      Class = "other"
	Reading    Class = "read"
	Writing    Class = "write"
	PIN        Class = "pin"
	Signing    Class = "sign" // and everything else with one private key operation
	Wrapping   Class = "wrap"
	Generating Class = "generate"
)

// ClassOf is the class of an instruction, with Other for unknown ones.
func ClassOf(ins byte) Class {
	i := slices.IndexFunc(table, func(r command) bool { return r.ins == ins })
	if i < 0 || table[i].class == "" {
		return Other
	}
	return table[i].class
}

// Evidence is how a behaviour is known.
type Evidence string

// The grades of evidence, strongest first.
const (
	// OnHardware: seen on a device, or stated by its vendor.
	OnHardware Evidence = "seen on hardware"
	// ByClient: a client of the device requires it.
	ByClient Evidence = "required by a client"
	// Inferred: chosen so that every known client works.
	Inferred Evidence = "inferred"
	// Ours: a choice of this project, where nothing is known.
	Ours Evidence = "ours"
)

func aes(p *Profile) bool        { return p.AES }
func keyDomains(p *Profile) bool { return p.KeyDomains }
func channels(p *Profile) bool   { return !p.ShortAttributes }

func one(b byte) []byte { return []byte{b} }

var zero = one(0)

// table is the command table. The order matters only between rows of one
// instruction: the first that matches is taken.
//
// The table refers to handlers that refer to nothing in it, so it can be a
// plain package variable that never changes.
var table = []command{
	{name: "SELECT", ins: apdu.InsSelect, class: Reading, p1: one(apdu.SelectByName), p2: []byte{0x00, 0x04, 0x0C}, data: anySize, evidence: OnHardware, run: selectApplication},
	{name: "SELECT", ins: apdu.InsSelect, class: Reading, p1: one(0x00), p2: []byte{0x00, 0x04, 0x0C}, data: anySize, evidence: OnHardware, run: selectFile},
	{name: "READ BINARY", asks: "the file's right", ins: apdu.InsReadBinary, class: Reading, data: someOf, evidence: OnHardware, run: readBinary},
	{name: "UPDATE BINARY", ins: apdu.InsUpdateBinary, class: Writing, data: someOf, need: user, evidence: OnHardware, run: updateBinary, quiet: true},
	{name: "DELETE FILE", ins: apdu.InsDeleteFile, class: Writing, p1: []byte{0x00, 0x02}, p2: zero, data: size{2, 2}, need: user, evidence: ByClient, run: deleteFile},
	{name: "ENUMERATE OBJECTS", ins: apdu.InsEnumerateObjects, class: Reading, p1: zero, p2: zero, data: anySize, evidence: OnHardware, run: enumerateObjects},
	{name: "GET CHALLENGE", ins: apdu.InsGetChallenge, p1: zero, p2: zero, data: noData, evidence: OnHardware, run: getChallenge, quiet: true},

	{name: "VERIFY", ins: apdu.InsVerify, class: PIN, p1: []byte{0x00, 0x01}, p2: nil, data: anySize, quiet: true, evidence: OnHardware, run: verify},
	{name: "CHANGE REFERENCE DATA", ins: apdu.InsChangeReferenceData, class: PIN, p1: zero, p2: nil, data: anySize, quiet: true, evidence: OnHardware, run: changeReferenceData},
	{name: "RESET RETRY COUNTER", asks: "SO-PIN in its data", ins: apdu.InsResetRetryCounter, class: PIN, p1: []byte{0, 1, 2, 3}, p2: one(0x81), otherP2: apdu.ReferenceNotFound, data: anySize, quiet: true, evidence: OnHardware, run: resetRetryCounter},
	{name: "INITIALIZE DEVICE (query)", ins: apdu.InsInitializeDevice, class: Writing, p1: zero, p2: zero, data: noData, evidence: Inferred, run: queryDevice},
	{name: "INITIALIZE DEVICE", asks: "SO-PIN in its data, once set", ins: apdu.InsInitializeDevice, class: Writing, p1: zero, p2: zero, data: someOf, quiet: true, evidence: OnHardware, run: initializeDevice},

	{name: "GENERATE ASYMMETRIC KEY PAIR", ins: apdu.InsGenerateKeyPair, class: Generating, data: someOf, need: user, evidence: OnHardware, run: generateKeyPair},
	{name: "GENERATE SYMMETRIC KEY", ins: apdu.InsGenerateSymmetricKey, class: Generating, p2: []byte{0xB0, 0xB1, 0xB2}, data: anySize, need: user, feature: aes, evidence: ByClient, run: generateSymmetricKey},
	{name: "SIGN", ins: apdu.InsSign, class: Signing, data: anySize, need: user, evidence: OnHardware, run: sign},
	{name: "DECIPHER", ins: apdu.InsDecipher, class: Signing, data: anySize, need: user, quiet: true, evidence: OnHardware, run: decipher},
	{name: "SYMMETRIC CIPHER", ins: apdu.InsSymmetricCipher, class: Signing, data: anySize, need: user, quiet: true, feature: aes, evidence: ByClient, run: symmetricCipher},
	{name: "DERIVE EC KEY", ins: apdu.InsDeriveECKey, class: Signing, data: someOf, need: user, quiet: true, feature: aes, evidence: ByClient, run: deriveKey},
	{name: "WRAP KEY", ins: apdu.InsWrapKey, class: Wrapping, p2: one(0x92), data: noData, need: user, evidence: OnHardware, run: wrapKey},
	{name: "UNWRAP KEY", ins: apdu.InsUnwrapKey, class: Wrapping, p2: one(0x93), data: anySize, need: user, evidence: OnHardware, run: unwrapKey},

	{name: "MANAGE KEY DOMAIN (status)", ins: apdu.InsManageKeyDomain, p1: zero, data: noData, evidence: OnHardware, run: domainStatus},
	{name: "MANAGE KEY DOMAIN (import share)", ins: apdu.InsManageKeyDomain, p1: zero, data: someOf, quiet: true, evidence: OnHardware, run: importShare},
	{name: "MANAGE KEY DOMAIN (create)", ins: apdu.InsManageKeyDomain, p1: one(0x01), data: size{1, 1}, need: user, feature: keyDomains, evidence: Inferred, run: createDomain},
	{name: "MANAGE KEY DOMAIN (associate)", ins: apdu.InsManageKeyDomain, p1: one(0x02), data: someOf, need: user, feature: keyDomains, evidence: Inferred, run: associateDomain},
	{name: "MANAGE KEY DOMAIN (delete)", ins: apdu.InsManageKeyDomain, p1: one(0x03), data: noData, need: user, feature: keyDomains, evidence: Inferred, run: deleteDomain},
	{name: "MANAGE KEY DOMAIN (delete KEK)", ins: apdu.InsManageKeyDomain, p1: one(0x04), data: noData, need: user, feature: keyDomains, evidence: Inferred, run: clearDomain},

	{name: "MANAGE PUBLIC KEY AUTHENTICATION (status)", ins: apdu.InsManagePublicKeyAuthentication, p1: zero, p2: zero, data: noData, evidence: ByClient, run: custodianStatus},
	{name: "MANAGE PUBLIC KEY AUTHENTICATION (register)", ins: apdu.InsManagePublicKeyAuthentication, p1: zero, p2: zero, data: someOf, evidence: ByClient, run: registerCustodian},
	{name: "MANAGE PUBLIC KEY AUTHENTICATION (replace)", asks: "option", ins: apdu.InsManagePublicKeyAuthentication, p1: one(0x01), data: someOf, need: user, evidence: Inferred, run: replaceCustodian},
	{name: "MANAGE PUBLIC KEY AUTHENTICATION (query key)", ins: apdu.InsManagePublicKeyAuthentication, p1: one(0x02), data: noData, evidence: Inferred, run: queryCustodian},
	{name: "MANAGE SECURITY ENVIRONMENT", ins: apdu.InsManageSecurityEnvironment, p1: []byte{0x41, 0x81, 0xC1}, p2: []byte{0xA4, 0xB6, 0xAA, 0xB4, 0xB8, 0xA6}, data: anySize, evidence: ByClient, run: manageEnvironment},
	{name: "PSO VERIFY CERTIFICATE", ins: apdu.InsPerformSecurityOperation, p1: zero, p2: []byte{0xBE, 0x92, 0xAE}, data: someOf, evidence: ByClient, run: verifyCertificate},
	{name: "EXTERNAL AUTHENTICATE", ins: apdu.InsExternalAuthenticate, class: PIN, p1: zero, p2: zero, data: anySize, evidence: OnHardware, run: externalAuthenticate},
	{name: "GENERAL AUTHENTICATE", ins: apdu.InsGeneralAuthenticate, class: Signing, p1: zero, p2: zero, data: anySize, feature: channels, evidence: ByClient, run: generalAuthenticate},
	{name: "GENERATE SESSION PIN", asks: "user, secure channel, option", ins: apdu.InsGenerateSessionPIN, p1: one(0x01), p2: one(0x81), data: noData, quiet: true, feature: channels, evidence: ByClient, run: generateSessionPIN},
}

// find picks the row for a command, or says why there is none: instruction,
// parameters, length, in this order.
func find(p *Profile, c apdu.Command) (*command, error) {
	known, otherP2, matched := false, apdu.IncorrectP1P2, false
	for i := range table {
		r := &table[i]
		if r.ins != c.INS || r.feature != nil && !r.feature(p) {
			continue
		}
		known = true
		if r.p1 != nil && !slices.Contains(r.p1, c.P1) {
			continue
		}
		if r.p2 != nil && !slices.Contains(r.p2, c.P2) {
			if r.otherP2 != 0 {
				otherP2 = r.otherP2
			}
			continue
		}
		matched = true
		if len(c.Data) >= r.data.least && len(c.Data) <= r.data.most {
			return r, nil
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
