package view

import (
	"cmp"
	"fmt"

	"hsmemu/applet/apdu"
	"hsmemu/applet/tlv"
	"hsmemu/keystore"
)

// parameters says what P1 and P2 are; empty tells that no data follow.
func parameters(p1, p2, ins byte, empty bool) []Part {
	both := func(words, rule string) []Part { return []Part{shown([]byte{p1, p2}, "P1 P2: "+words, rule)} }
	each := func(one, two, rule string) []Part {
		return []Part{shown([]byte{p1}, "P1: "+one, rule), shown([]byte{p2}, "P2: "+two, rule)}
	}
	algorithm := fmt.Sprintf("algorithm %02X", p2)
	if name := keystore.Algorithm(p2).String(); name != algorithm {
		algorithm += ": " + name
	}
	switch ins {
	case apdu.InsReadBinary, apdu.InsUpdateBinary:
		if p1 == 0 && p2 == 0 {
			return both("the current file", "FILE-21")
		}
		return both(fmt.Sprintf("file %02X%02X", p1, p2), "FILE-10")
	case apdu.InsVerify:
		return each(either(p1, verifyForms), either(p2, verified), "PIN-49")
	case apdu.InsChangeReferenceData:
		return each(either(p1, changeForms), either(p2, references), "PIN-50")
	case apdu.InsResetRetryCounter:
		return each(either(p1, unblockForms), either(p2, references), "PIN-65")
	case apdu.InsSign, apdu.InsDecipher, apdu.InsSymmetricCipher, apdu.InsDeriveECKey:
		return each(fmt.Sprintf("key reference %d on the card, which is not CKA_ID", p1), algorithm, "KEY-12")
	case apdu.InsGenerateKeyPair:
		signer := fmt.Sprintf("key reference %d signs the request", p2)
		if p2 == 0 {
			signer = "the device key signs the request"
		}
		return each(fmt.Sprintf("reference of the new key, %d", p1), signer, "KEY-23")
	case apdu.InsGenerateSymmetricKey:
		return each(fmt.Sprintf("reference of the new key, %d", p1), either(p2, symmetricKeys), "KEY-34")
	case apdu.InsWrapKey, apdu.InsUnwrapKey:
		return each(fmt.Sprintf("key reference %d on the card", p1), algorithm, "DOM-20")
	case apdu.InsManageKeyDomain:
		return each(either(p1, domainForms(empty)), fmt.Sprintf("key domain %d", p2), "DOM-37")
	case apdu.InsManagePublicKeyAuthentication:
		which := fmt.Sprintf("number of the public key, %d, counted from 0", p2)
		if p1 == 0 {
			which = always(p2)
		}
		return each(either(p1, publicKeyForms(empty)), which, "PKA-1")
	case apdu.InsManageSecurityEnvironment:
		return each(either(p1, environmentForms), either(p2, environmentTemplates), "PKA-40")
	case apdu.InsPerformSecurityOperation:
		return each(always(p1), either(p2, certificateForms), "PKA-10")
	case apdu.InsExternalAuthenticate, apdu.InsGeneralAuthenticate:
		return each(implied(p1, "the algorithm is that of the key"), implied(p2, "the key is the one that was selected"), "APDU-14")
	case apdu.InsGenerateSessionPIN:
		return each(either(p1, map[byte]string{1: "make a session PIN"}), either(p2, references), "SM-40")
	case apdu.InsGetChallenge:
		return each(implied(p1, "no algorithm is named"), always(p2), "APDU-14")
	case apdu.InsPutKey:
		replaced := fmt.Sprintf("the keys of version %02X are replaced", p1)
		if p1 == 0 {
			replaced = "no keys are replaced"
		}
		return each(replaced, "81 is several keys, the first of which has number 1", "UPDATE-29")
	case apdu.InsSelect:
		return each(either(p1, selections), wanted(p2), "APDU-33")
	case apdu.InsDeleteFile:
		return each(either(p1, selections), always(p2), "FILE-33")
	}
	if _, known := instructionRules[ins]; !known && ins != apdu.InsFinalise {
		return each("a parameter of a command that no card here has", "a parameter of a command that no card here has", "APDU-12")
	}
	return each(always(p1), always(p2), "APDU-14")
}

// initialiseUpdate is the command that shares its instruction with INITIALIZE DEVICE, and
// initialiseQuery the form of that which asks how much memory there is.
const (
	initialiseUpdate = "INITIALIZE UPDATE"
	initialiseQuery  = "INITIALIZE DEVICE (query)"
)

// managerNames are the names of the card manager's instructions, as it calls them in events.
var managerNames = map[byte]string{
	apdu.InsInitializeDevice: initialiseUpdate, apdu.InsExternalAuthenticate: "EXTERNAL AUTHENTICATE", apdu.InsDeleteFile: "DELETE", apdu.InsPutKey: "PUT KEY",
	apdu.InsGetData: "GET DATA", apdu.InsInstall: "INSTALL", apdu.InsLoad: "LOAD", apdu.InsGetStatus: "GET STATUS", apdu.InsFinalise: "FINALISE",
}

// managed says what P1 and P2 are of a command that is the card manager's, or nil of others
// (GlobalPlatform Card Specification 2.3.1 §11, and amendment D §7.1 for the two that open
// a channel).
func managed(cla, ins, p1, p2 byte, name string) []Part {
	one, two, rule := "", always(p2), "UPDATE-14"
	switch {
	case ins == apdu.InsGetData:
		return []Part{shown([]byte{p1, p2}, fmt.Sprintf("P1 P2: data object %02X%02X", p1, p2), rule)}
	case name == initialiseUpdate:
		one = fmt.Sprintf("version of the keys, %02X", p1)
		if p1 == 0 {
			one = "any version of the keys"
		}
	case ins == apdu.InsExternalAuthenticate && cla&0x84 == 0x84:
		one = "security of the channel: " + either(p1, map[byte]string{
			0x00: "none", 0x01: "codes of commands", 0x03: "codes of commands, encrypted", 0x11: "codes both ways", 0x13: "codes both ways, commands encrypted", 0x33: "codes both ways, all encrypted",
		})
	case ins == apdu.InsDeleteFile && cla&0x80 != 0 && p2 == 0x80:
		one, two, rule = always(p1), "what is named, with everything that came with it", "UPDATE-18"
	case ins == apdu.InsInstall:
		one, rule = either(p1, map[byte]string{0x02: "for load", 0x0C: "for install, so that it can be selected"}), "UPDATE-19"
	case ins == apdu.InsLoad:
		one, two, rule = either(p1, map[byte]string{0: "more blocks follow", 0x80: "the last block"}), fmt.Sprintf("block %d, counted from 0", p2), "UPDATE-19"
	case ins == apdu.InsGetStatus:
		one, rule = either(p1, map[byte]string{0x80: "the card manager", 0x40: "applications", 0x20: "load files", 0x10: "load files with their modules"}), "UPDATE-28"
		two = either(p2, map[byte]string{2: "all at once, as data objects"})
	default:
		return nil
	}
	return []Part{shown([]byte{p1}, "P1: "+one, rule), shown([]byte{p2}, "P2: "+two, rule)}
}

// always is what is said of a byte that is 00 in every form of a command.
func always(b byte) string { return implied(b, "always 00") }

// implied is what 00 says in a byte that says nothing else.
func implied(b byte, words string) string {
	if b == 0 {
		return words
	}
	return noForm
}

// either is what a byte is of a command that knows some values.
func either(b byte, words map[byte]string) string {
	if w, is := words[b]; is {
		return w
	}
	return noForm
}

// noForm is what is said of a value that the command does not have.
const noForm = "a value that this command does not have"

var (
	references = map[byte]string{apdu.RefUserPIN: "the user PIN", apdu.RefSOPIN: "the SO-PIN"}
	// PIN-48: clients ask whether the card has one.
	verified = map[byte]string{
		apdu.RefUserPIN: "the user PIN", apdu.RefSOPIN: "the SO-PIN",
		0x85: "the first biometric template, which this card does not have", 0x86: "the second biometric template, which this card does not have",
	}
	// ISO 7816-4 §11.5.6; 01 is the vendor's.
	verifyForms = map[byte]string{0: "compare the PIN that follows, or only tell the status if none does", 1: "the same, and stay logged in after the channel"}
	// ISO 7816-4 §11.5.7. The card has the first.
	changeForms = map[byte]string{0: "the old PIN and the new one follow", 1: "a new PIN alone follows, which this card does not take"}
	// ISO 7816-4 §11.5.10.
	unblockForms  = map[byte]string{0: "SO-PIN and a new PIN follow", 1: "the SO-PIN follows", 2: "a new PIN follows", 3: "nothing follows"}
	symmetricKeys = map[byte]string{0xB0: "AES-128", 0xB1: "AES-192", 0xB2: "AES-256"}
	// ISO 7816-4 §11.2.2, table of P1.
	selections = map[byte]string{
		0: "by its identifier", 1: "a folder below the current one, by its identifier", 2: "a file in the current folder, by its identifier",
		3: "the folder above", apdu.SelectByName: "an application by its name", 8: "by its path from the top", 9: "by its path from the current folder",
	}
	// ISO 7816-4 §11.5.11.
	environmentForms = map[byte]string{
		0x41: "set, for signing, deciphering, internal authentication and key agreement", 0x81: "set, for verifying, enciphering, external authentication and key agreement",
		0xC1: "set, for both sides",
	}
	environmentTemplates = map[byte]string{
		0xA4: "authentication (AT)", 0xA6: "key agreement (KAT)", 0xAA: "hash (HT)", 0xB4: "checksum (CCT)", 0xB6: "digital signature (DST)", 0xB8: "confidentiality (CT)",
	}
	// ISO 7816-8, VERIFY CERTIFICATE.
	certificateForms = map[byte]string{0x92: "a certificate", 0xAE: "values that are certified, one behind the other", 0xBE: "data objects that are certified"}
)

// domainForms are those of MANAGE KEY DOMAIN (DOM-37).
func domainForms(empty bool) map[byte]string {
	m := map[byte]string{0: "import a share", 1: "make a key domain", 2: "associate with an XKEK domain", 3: "delete the key domain", 4: "delete its key encryption key"}
	if empty {
		m[0] = "tell the status"
	}
	return m
}

// publicKeyForms are those of MANAGE PUBLIC KEY AUTHENTICATION.
func publicKeyForms(empty bool) map[byte]string {
	m := map[byte]string{0: "register a public key", 1: "replace a public key", 2: "tell whose public key it is"}
	if empty {
		m[0] = "tell the status"
	}
	return m
}

// wanted is what P2 of SELECT asks for, ISO 7816-4 §11.2.2.
func wanted(p2 byte) string {
	if p2&0xF0 != 0 {
		return noForm
	}
	which := [...]string{"", "the last one of that name, ", "the next one of that name, ", "the previous one of that name, "}[p2&0x03]
	return which + [...]string{
		"tell its control information (FCI)", "tell its control parameters (FCP)", "tell its management data (FMD)", "tell nothing",
	}[p2>>2&0x03]
}

// dataWords are what the data of commands are, where they are not told object by object or
// not shown, and answerWords what answers are.
var (
	dataWords = map[byte]string{
		apdu.InsGenerateKeyPair:               "description of the new key",
		apdu.InsGenerateSymmetricKey:          "description of the new key",
		apdu.InsSign:                          "what is signed: a hash, a DigestInfo or a message, as the algorithm has it",
		apdu.InsDecipher:                      "cryptogram, or the other side's public key",
		apdu.InsSymmetricCipher:               "input of the algorithm",
		apdu.InsDeriveECKey:                   "algorithm and parameter of the derivation",
		apdu.InsUnwrapKey:                     "key blob",
		apdu.InsManageKeyDomain:               "a share of the DKEK",
		apdu.InsManagePublicKeyAuthentication: "certificates of a public key",
		apdu.InsManageSecurityEnvironment:     "which key and algorithm",
		apdu.InsPerformSecurityOperation:      "certificate",
		apdu.InsExternalAuthenticate:          "signature over the challenge",
		apdu.InsGeneralAuthenticate:           "objects of the key agreement",
		apdu.InsSelect:                        "identifier of the file",
		apdu.InsDeleteFile:                    "identifier of the file",
	}
	answerWords = map[byte]string{
		apdu.InsEnumerateObjects:     "identifiers of files and keys, two bytes each",
		apdu.InsSign:                 "the signature",
		apdu.InsReadBinary:           "content of the file",
		apdu.InsGetChallenge:         "challenge: random bytes, which are not used twice",
		apdu.InsDecipher:             "plaintext, or shared point",
		apdu.InsSymmetricCipher:      "output of the algorithm",
		apdu.InsGenerateSessionPIN:   "the session PIN",
		apdu.InsWrapKey:              "key blob",
		apdu.InsGenerateKeyPair:      "request for a certificate",
		apdu.InsGenerateSymmetricKey: "the card's answer to a new key",
		apdu.InsGeneralAuthenticate:  "objects of the key agreement",
		apdu.InsSelect:               "what the file or application is",
	}
)

// piece is some bytes of an answer or data of a fixed form: its length, which in the last one
// may be 0 for the rest, and what it is.
type piece struct {
	length int
	words  string
}

// answerPieces are those of answers, and dataPieces of data, by instruction and, for data, P1.
var (
	answerPieces = map[byte][]piece{
		apdu.InsManageKeyDomain:               {{1, "number of shares"}, {1, "shares that are outstanding"}, {8, "key check value (KCV)"}, {0, "identifier of the XKEK domain"}},
		apdu.InsManagePublicKeyAuthentication: {{1, "public keys in all"}, {1, "public keys that are missing"}, {1, "public keys that are required"}, {1, "public keys that have authenticated"}},
		apdu.InsInitializeDevice:              {{4, "free bytes"}, {1, "platform"}, {1, "firmware, major version"}, {1, "firmware, minor version"}},
	}
	dataPieces = map[[2]byte][]piece{
		{apdu.InsManageKeyDomain, 1}: {{1, "number of DKEK shares"}},
		{apdu.InsManageKeyDomain, 2}: {{0, "membership of the XKEK domain"}},
	}
)

// updateAnswer is the answer to INITIALIZE UPDATE, GlobalPlatform amendment D §7.1.1.
var updateAnswer = []piece{
	{10, "what the keys are derived from"},
	{1, "version of the keys"},
	{1, "protocol: 03 is SCP03"},
	{1, "parameter i of the protocol"},
	{8, "challenge of the card"},
	{8, "cryptogram of the card"},
	{3, "sequence counter"},
}

// cut says what the pieces of bytes are; nil if they are of another length.
func cut(b []byte, all []piece, rule string) (parts []Part) {
	for _, p := range all {
		n := p.length
		if n == 0 {
			n = len(b)
		}
		if n > len(b) {
			return nil
		}
		if n > 0 {
			parts = append(parts, shown(b[:n], p.words, rule))
		}
		b = b[n:]
	}
	if len(b) > 0 {
		return nil
	}
	return parts
}

// objectWords are what data objects are, wherever they stand: those of certificates and
// requests (BSI TR-03110 part 3 D.2) and of the answer to SELECT (ISO 7816-4 §7.4).
var objectWords = map[tlv.Tag]string{
	0x7F21: "certificate", 0x67: "authenticated request", 0x7F4E: "body of the certificate", 0x5F29: "profile", 0x42: "name of the authority (CAR)",
	0x45: "name of the key that signs", 0x65: "extensions", 0x7F49: "public key", 0x06: "object identifier", 0x5F20: "name of the holder (CHR)",
	0x5F37: "signature", 0x7F4C: "rights of the holder (CHAT)", 0x53: "rights, bit by bit", 0x5F25: "first day", 0x5F24: "last day", 0x73: "an extension",
	0x7C: "key agreement", 0x6F: "control information (FCI)", 0x62: "control parameters (FCP)",
}

// objectsOf are what data objects are in the commands of one instruction, or their answers.
var objectsOf = map[byte]map[tlv.Tag]string{
	apdu.InsGenerateKeyPair:      {0x90: "use counter", 0x91: "list of algorithms", 0x92: "key domain"},
	apdu.InsGenerateSymmetricKey: {0x90: "use counter", 0x91: "list of algorithms", 0x92: "key domain"},
	apdu.InsSelect: {
		0x80: "size of the file", 0x82: "descriptor", 0x83: "identifier", 0x84: "name of the application", 0x85: "vendor's data", 0xA5: "vendor's data",
		0x90: "use counter", 0x91: "list of algorithms", 0x92: "key domain",
	},
	apdu.InsManageSecurityEnvironment: {0x80: "algorithm", 0x83: "name of the public key", 0x84: "reference of the private key"},
	apdu.InsGeneralAuthenticate:       {0x80: "ephemeral public key of the host", 0x81: "nonce of the card", 0x82: "token of the card"},
}

// keyParts are the objects of a public key (7F49), BSI TR-03110 part 3 D.3.
var keyParts = map[tlv.Tag]string{
	0x02: "size in bits", 0x81: "modulus or prime", 0x82: "exponent or coefficient a", 0x83: "coefficient b", 0x84: "base point", 0x85: "order", 0x86: "public point", 0x87: "cofactor",
}

// objectName is what a data object is.
func objectName(tag tlv.Tag, ins byte, within tlv.Tag) string {
	part := ""
	if within == 0x7F49 {
		part = keyParts[tag]
	}
	return cmp.Or(part, objectsOf[ins][tag], objectWords[tag], "an object that this page does not know")
}
