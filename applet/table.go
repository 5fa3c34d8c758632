package applet

import (
	"slices"

	"hsmemu/applet/apdu"
	"hsmemu/applet/command"
)

// form is the form of a command on a firmware.
type form = command.Form[*Profile]

// row is one row of the table: a form of a command that the application knows,
// what it asks for, and what runs.
type row struct {
	form
	// name is what events and documentation call it.
	name string
	// needs is all that the command asks of card and session, beside what is a
	// matter of the object it names; the first that is not met answers.
	needs []*requirement
	// class is what the command costs on hardware; the same in every row of an
	// instruction, and zero for those that cost little.
	class Class
	// quiet rows carry secrets: their data is kept out of traces.
	quiet bool
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
	i := slices.IndexFunc(table, func(r row) bool { return r.INS == ins })
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
var table = []row{
	{name: "SELECT", form: form{INS: apdu.InsSelect, P1: one(apdu.SelectByName), P2: []byte{0x00, 0x04, 0x0C}, Data: command.AnySize}, class: Reading, evidence: OnHardware, run: selectApplication},
	{name: "SELECT", form: form{INS: apdu.InsSelect, P1: one(0x00), P2: []byte{0x00, 0x04, 0x0C}, Data: command.AnySize}, class: Reading, evidence: OnHardware, run: selectFile},
	{name: "READ BINARY", form: form{INS: apdu.InsReadBinary, Data: command.SomeOf}, class: Reading, needs: []*requirement{fileRight}, evidence: OnHardware, run: readBinary},
	{name: "UPDATE BINARY", form: form{INS: apdu.InsUpdateBinary, Data: command.SomeOf}, class: Writing, needs: []*requirement{user, fileRight}, quiet: true, evidence: OnHardware, run: updateBinary},
	{name: "DELETE FILE", form: form{INS: apdu.InsDeleteFile, P1: []byte{0x00, 0x02}, P2: zero, Data: command.Size{Least: 2, Most: 2}}, class: Writing, needs: []*requirement{user, fileRight}, evidence: ByClient, run: deleteFile},
	{name: "ENUMERATE OBJECTS", form: form{INS: apdu.InsEnumerateObjects, P1: zero, P2: zero, Data: command.AnySize}, class: Reading, evidence: OnHardware, run: enumerateObjects},
	{name: "GET CHALLENGE", form: form{INS: apdu.InsGetChallenge, P1: zero, P2: zero, Data: command.NoData}, quiet: true, evidence: OnHardware, run: getChallenge},

	{name: "VERIFY", form: form{INS: apdu.InsVerify, P1: []byte{0x00, 0x01}, Data: command.AnySize}, class: PIN, quiet: true, evidence: OnHardware, run: verify},
	{name: "CHANGE REFERENCE DATA", form: form{INS: apdu.InsChangeReferenceData, P1: zero, Data: command.AnySize}, class: PIN, needs: []*requirement{initialised, oldPIN}, quiet: true, evidence: OnHardware, run: changeReferenceData},
	{name: "RESET RETRY COUNTER", form: form{INS: apdu.InsResetRetryCounter, P1: []byte{0, 1}, P2: one(0x81), OtherP2: apdu.ReferenceNotFound, Data: command.AnySize}, class: PIN, needs: []*requirement{initialised, resetOption, soPIN}, quiet: true, evidence: OnHardware, run: resetRetryCounter},
	{name: "RESET RETRY COUNTER", form: form{INS: apdu.InsResetRetryCounter, P1: []byte{2, 3}, P2: one(0x81), OtherP2: apdu.ReferenceNotFound, Data: command.AnySize}, class: PIN, needs: []*requirement{initialised, resetOption, soVerified}, quiet: true, evidence: OnHardware, run: resetRetryCounter},
	{name: "INITIALIZE DEVICE (query)", form: form{INS: apdu.InsInitializeDevice, P1: zero, P2: zero, Data: command.NoData}, class: Writing, evidence: Inferred, run: queryDevice},
	{name: "INITIALIZE DEVICE", form: form{INS: apdu.InsInitializeDevice, P1: zero, P2: zero, Data: command.SomeOf}, class: Writing, needs: []*requirement{soPINOnceSet}, quiet: true, evidence: OnHardware, run: initializeDevice},

	{name: "GENERATE ASYMMETRIC KEY PAIR", form: form{INS: apdu.InsGenerateKeyPair, Data: command.SomeOf}, class: Generating, needs: []*requirement{user}, evidence: OnHardware, run: generateKeyPair},
	{name: "GENERATE SYMMETRIC KEY", form: form{INS: apdu.InsGenerateSymmetricKey, P2: []byte{0xB0, 0xB1, 0xB2}, Data: command.AnySize, Feature: aes}, class: Generating, needs: []*requirement{user}, evidence: ByClient, run: generateSymmetricKey},
	{name: "SIGN", form: form{INS: apdu.InsSign, Data: command.AnySize}, class: Signing, needs: []*requirement{user}, evidence: OnHardware, run: sign},
	{name: "DECIPHER", form: form{INS: apdu.InsDecipher, Data: command.AnySize}, class: Signing, needs: []*requirement{user}, quiet: true, evidence: OnHardware, run: decipher},
	{name: "SYMMETRIC CIPHER", form: form{INS: apdu.InsSymmetricCipher, Data: command.AnySize, Feature: aes}, class: Signing, needs: []*requirement{user}, quiet: true, evidence: ByClient, run: symmetricCipher},
	{name: "DERIVE EC KEY", form: form{INS: apdu.InsDeriveECKey, Data: command.SomeOf, Feature: aes}, class: Signing, needs: []*requirement{user}, quiet: true, evidence: ByClient, run: deriveKey},
	{name: "WRAP KEY", form: form{INS: apdu.InsWrapKey, P2: one(0x92), Data: command.NoData}, class: Wrapping, needs: []*requirement{user, userKey, wrapping}, evidence: OnHardware, run: wrapKey},
	{name: "UNWRAP KEY", form: form{INS: apdu.InsUnwrapKey, P2: one(0x93), Data: command.AnySize}, class: Wrapping, needs: []*requirement{user, userKey, wrapping}, evidence: OnHardware, run: unwrapKey},

	{name: "MANAGE KEY DOMAIN (status)", form: form{INS: apdu.InsManageKeyDomain, P1: zero, Data: command.NoData}, needs: []*requirement{keyDomainSlots}, evidence: OnHardware, run: domainStatus},
	{name: "MANAGE KEY DOMAIN (import share)", form: form{INS: apdu.InsManageKeyDomain, P1: zero, Data: command.SomeOf}, needs: []*requirement{keyDomainSlots}, quiet: true, evidence: OnHardware, run: importShare},
	{name: "MANAGE KEY DOMAIN (create)", form: form{INS: apdu.InsManageKeyDomain, P1: one(0x01), Data: command.Size{Least: 1, Most: 1}, Feature: keyDomains}, needs: []*requirement{user, keyDomainSlots}, evidence: Inferred, run: createDomain},
	{name: "MANAGE KEY DOMAIN (associate)", form: form{INS: apdu.InsManageKeyDomain, P1: one(0x02), Data: command.SomeOf, Feature: keyDomains}, needs: []*requirement{user, keyDomainSlots, attestation}, evidence: Inferred, run: associateDomain},
	{name: "MANAGE KEY DOMAIN (delete)", form: form{INS: apdu.InsManageKeyDomain, P1: one(0x03), Data: command.NoData, Feature: keyDomains}, needs: []*requirement{user, keyDomainSlots}, evidence: Inferred, run: deleteDomain},
	{name: "MANAGE KEY DOMAIN (delete KEK)", form: form{INS: apdu.InsManageKeyDomain, P1: one(0x04), Data: command.NoData, Feature: keyDomains}, needs: []*requirement{user, keyDomainSlots}, evidence: Inferred, run: clearDomain},

	{name: "MANAGE PUBLIC KEY AUTHENTICATION (status)", form: form{INS: apdu.InsManagePublicKeyAuthentication, P1: zero, P2: zero, Data: command.NoData}, needs: []*requirement{keyAuthentication}, evidence: ByClient, run: custodianStatus},
	{name: "MANAGE PUBLIC KEY AUTHENTICATION (register)", form: form{INS: apdu.InsManagePublicKeyAuthentication, P1: zero, P2: zero, Data: command.SomeOf}, needs: []*requirement{keyAuthentication, attestation}, evidence: ByClient, run: registerCustodian},
	{name: "MANAGE PUBLIC KEY AUTHENTICATION (replace)", form: form{INS: apdu.InsManagePublicKeyAuthentication, P1: one(0x01), Data: command.SomeOf}, needs: []*requirement{user, keyAuthentication, replaceOption, attestation}, evidence: Inferred, run: replaceCustodian},
	{name: "MANAGE PUBLIC KEY AUTHENTICATION (query key)", form: form{INS: apdu.InsManagePublicKeyAuthentication, P1: one(0x02), Data: command.NoData}, needs: []*requirement{keyAuthentication}, evidence: Inferred, run: queryCustodian},
	{name: "MANAGE SECURITY ENVIRONMENT", form: form{INS: apdu.InsManageSecurityEnvironment, P1: []byte{0x41, 0x81, 0xC1}, P2: []byte{0xA4, 0xB6, 0xAA, 0xB4, 0xB8, 0xA6}, Data: command.AnySize}, evidence: ByClient, run: manageEnvironment},
	{name: "PSO VERIFY CERTIFICATE", form: form{INS: apdu.InsPerformSecurityOperation, P1: zero, P2: []byte{0xBE, 0x92, 0xAE}, Data: command.SomeOf}, needs: []*requirement{verifier}, evidence: ByClient, run: verifyCertificate},
	{name: "EXTERNAL AUTHENTICATE", form: form{INS: apdu.InsExternalAuthenticate, P1: zero, P2: zero, Data: command.AnySize}, class: PIN, needs: []*requirement{chosenKey, challenge}, evidence: OnHardware, run: externalAuthenticate},
	{name: "GENERAL AUTHENTICATE", form: form{INS: apdu.InsGeneralAuthenticate, P1: zero, P2: zero, Data: command.AnySize, Feature: channels}, class: Signing, needs: []*requirement{chosenProtocol}, evidence: ByClient, run: generalAuthenticate},
	{name: "GENERATE SESSION PIN", form: form{INS: apdu.InsGenerateSessionPIN, P1: one(0x01), P2: one(0x81), Data: command.NoData, Feature: channels}, needs: []*requirement{sessionPINOption, channel, user}, quiet: true, evidence: ByClient, run: generateSessionPIN},
}
