package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"hsmemu/applet/apdu"
	"hsmemu/applet/tlv"
)

// Part is some bytes of a command or an answer that follow each other, and what they
// are.
type Part struct {
	// Hex is the bytes in hexadecimal, two digits each with blanks between them;
	// of bytes that are secret it is empty, and Bytes alone tells how many there are.
	Hex   string `json:"hex"`
	Bytes int    `json:"bytes"`
	Words string `json:"words"`
	// Rule is the statement of docs/protocol about them, "PIN-39"; empty for none.
	Rule string `json:"rule"`
}

// Secret reports whether the bytes are not shown.
func (p Part) Secret() bool { return p.Hex == "" && p.Bytes > 0 }

// shown are bytes that anybody may see.
func shown(b []byte, words, rule string) Part {
	return Part{Hex: fmt.Sprintf("% X", b), Bytes: len(b), Words: words, Rule: rule}
}

// hidden are bytes that are not shown.
func hidden(b []byte, words, rule string) Part {
	return Part{Bytes: len(b), Words: words + ", not shown", Rule: rule}
}

// instructionRules are the statements about commands, those of their successes, and
// those of refusals that have a statement of their own.
var instructionRules = map[byte]struct{ rule, done, refused string }{
	apdu.InsVerify:                        {"PIN-39", "PIN-42", "PIN-39"},
	apdu.InsChangeReferenceData:           {"PIN-50", "PIN-54", "PIN-50"},
	apdu.InsResetRetryCounter:             {"PIN-8", "PIN-69", "PIN-66"},
	apdu.InsInitializeDevice:              {"PIN-14", "PIN-17", "PIN-15"},
	apdu.InsManageKeyDomain:               {"DOM-2", "DOM-2", "DOM-9"},
	apdu.InsManagePublicKeyAuthentication: {"PKA-1", "PKA-1", "PKA-1"},
	apdu.InsEnumerateObjects:              {"FILE-35", "FILE-35", "FILE-35"},
	apdu.InsGenerateSessionPIN:            {"SM-40", "SM-40", "SM-40"},
	apdu.InsGenerateKeyPair:               {"KEY-21", "KEY-21", "KEY-28"},
	apdu.InsGenerateSymmetricKey:          {"KEY-34", "KEY-34", "KEY-26"},
	apdu.InsSign:                          {"KEY-1", "KEY-36", "KEY-40"},
	apdu.InsDecipher:                      {"KEY-1", "KEY-1", "KEY-47"},
	apdu.InsWrapKey:                       {"DOM-10", "DOM-10", "DOM-17"},
	apdu.InsUnwrapKey:                     {"DOM-10", "DOM-16", "DOM-26"},
	apdu.InsDeriveECKey:                   {"KEY-55", "KEY-55", "KEY-7"},
	apdu.InsSymmetricCipher:               {"KEY-9", "KEY-9", "KEY-9"},
	apdu.InsGetChallenge:                  {"APDU-41", "APDU-42", "APDU-42"},
	apdu.InsSelect:                        {"FILE-8", "FILE-10", "FILE-9"},
	apdu.InsReadBinary:                    {"FILE-17", "FILE-17", "FILE-16"},
	apdu.InsUpdateBinary:                  {"FILE-24", "FILE-27", "FILE-29"},
	apdu.InsDeleteFile:                    {"FILE-31", "FILE-31", "FILE-32"},
	apdu.InsManageSecurityEnvironment:     {"PKA-40", "PKA-40", "PKA-40"},
	apdu.InsPerformSecurityOperation:      {"PKA-10", "PKA-10", "PKA-10"},
	apdu.InsExternalAuthenticate:          {"PKA-16", "PKA-16", "PKA-16"},
	apdu.InsGeneralAuthenticate:           {"SM-7", "SM-7", "SM-7"},
	apdu.InsPutKey:                        {"UPDATE-29", "UPDATE-29", "UPDATE-30"},
}

// wordRules are the statements about status words that mean the same everywhere.
var wordRules = map[string]string{
	"6D00": "APDU-12", "6E00": "APDU-11", "6A86": "APDU-14", "6982": "FILE-5", "6983": "PIN-40", "6984": "PIN-36", "6282": "FILE-16",
}

// initObjects are the data objects of INITIALIZE DEVICE, each with its length. A value of
// another length is not shown: where lengths do not agree it may have a PIN in it. PINs have
// length 0, so they never are.
var initObjects = map[tlv.Tag]struct {
	words, rule string
	length      int
}{
	apdu.InitOptions:    {"options", "PIN-10", 2},
	apdu.InitUserPIN:    {"user PIN", "PIN-4", 0},
	apdu.InitSOPIN:      {"SO-PIN", "PIN-13", 0},
	apdu.InitTries:      {"tries of the user PIN", "PIN-5", 1},
	apdu.InitShares:     {"number of DKEK shares", "DOM-5", 1},
	apdu.InitCustodians: {"number of public keys, number required", "PKA-1", 2},
	apdu.InitDomains:    {"number of key domains", "DOM-28", 1},
}

// Parts says what every byte of a command is. Of quiet commands, whose data may be
// secret, the data are left out, and so they are of bytes that are no command at all.
func Parts(command []byte, e Event, quiet bool) []Part {
	if len(command) < 4 {
		return []Part{hidden(command, "no command: less than a header", "APDU-16")}
	}
	ins := command[1]
	parts := []Part{
		shown(command[:1], "CLA: "+classWords(command[0]), "APDU-9"),
		shown(command[1:2], "INS: "+strings.ToUpper(known(e.Command)), instructionRules[ins].rule),
	}
	c, err := apdu.Parse(command)
	more := managed(command[0], ins, command[2], command[3], known(e.Command))
	if more == nil {
		more = parameters(command[2], command[3], ins, err == nil && len(c.Data) == 0)
	}
	parts = append(parts, more...)
	if err != nil {
		return append(parts, hidden(command[4:], "no form of ISO 7816-4: the lengths do not agree", "APDU-16"))
	}
	rest := command[4:]
	if n := len(c.Data); n > 0 {
		lc := 1
		if c.Extended {
			lc = 3
		}
		parts = append(parts, shown(rest[:lc], fmt.Sprintf("Lc: %d bytes of data follow", n), "APDU-15"))
		parts = append(parts, data(c, e, quiet)...)
		rest = rest[lc+n:]
	}
	if len(rest) > 0 {
		parts = append(parts, shown(rest, fmt.Sprintf("Le: at most %d bytes are wanted back", c.Ne), "APDU-18"))
	}
	return parts
}

// classWords says what a class byte is, as ISO 7816-4 §5.4.1 tables 2 and 3 have it. Those
// of the vendor with the same bits are read like the interindustry ones (APDU-9).
func classWords(cla byte) string {
	words := "command of ISO 7816-4"
	if cla&0x80 != 0 {
		words = "command of the vendor"
	}
	channel, chained := 0, cla&0x10 != 0
	switch {
	case cla == 0xFF:
		return "no class"
	case cla&0xE0 == 0x20:
		return "reserved by ISO 7816-4"
	case cla&0xE0 == 0xA0 || cla&0xC0 == 0xC0:
		return words
	case cla&0x40 != 0:
		channel = 4 + int(cla&0x0F)
		if cla&0x20 != 0 {
			words += ", in a secure channel, header not authenticated"
		}
	default:
		channel = int(cla & 0x03)
		words += [...]string{
			"", ", in a secure channel of another kind than that of ISO 7816-4",
			", in a secure channel, header not authenticated", ", in a secure channel, header authenticated",
		}[cla>>2&0x03]
	}
	if chained {
		words += ", more of it follows in a further command"
	}
	if channel > 0 {
		words += fmt.Sprintf(", logical channel %d", channel)
	}
	return words
}

// secured reports whether the data of a class are objects of secure messaging.
func secured(cla byte) bool {
	return cla&0x68 == 0x08 || cla&0xE0 == 0x60
}

// secureObjects are those of secure messaging, ISO 7816-4 §6.2. Values that are not
// encrypted are not shown.
var secureObjects = map[tlv.Tag]struct {
	words string
	plain bool
}{
	0x80: {"plain value", true}, 0x81: {"plain value", true}, 0xB0: {"plain objects", true}, 0xB1: {"plain objects", true},
	0xB2: {"plain objects", true}, 0xB3: {"plain objects", true},
	0x82: {"cryptogram of objects, some for secure messaging", false}, 0x83: {"cryptogram of objects, some for secure messaging", false},
	0x84: {"cryptogram of objects", false}, 0x85: {"cryptogram of objects", false},
	0x86: {"padding indicator and cryptogram", false}, 0x87: {"padding indicator and cryptogram", false},
	0x89: {"header of the command", false}, 0x8E: {"checksum (MAC)", false},
	0x96: {"Le of the command inside", false}, 0x97: {"Le of the command inside", false},
	0x99: {"status word of the answer inside", false},
}

// carriesNone reports whether objects of secure messaging are well formed and carry no data for
// the command inside.
func carriesNone(b []byte) bool {
	for len(b) > 0 {
		n, rest, err := tlv.NextBER(b)
		if err != nil || n.Tag >= 0x80 && n.Tag <= 0x87 || n.Tag >= 0xB0 && n.Tag <= 0xB3 {
			return false
		}
		b = rest
	}
	return true
}

// messaging says what the objects of secure messaging are.
func messaging(b []byte) []Part {
	var parts []Part
	for len(b) > 0 {
		n, rest, err := tlv.NextBER(b)
		if err != nil {
			return append(parts, hidden(b, "no object of secure messaging", "SM-23"))
		}
		head := len(b) - len(rest) - len(n.Value)
		of, is := secureObjects[n.Tag]
		if !is { // plain data in a class of secure messaging look like one, too
			parts = append(parts, hidden(b[:head+len(n.Value)], "an object that secure messaging does not have here", "SM-11"))
			b = rest
			continue
		}
		parts = append(parts, shown(b[:head], fmt.Sprintf("object %X: %s, %s", uint32(n.Tag), of.words, count(len(n.Value), "byte")), "SM-11"))
		value, words := n.Value, of.words
		switch {
		case len(value) == 0:
		case of.plain:
			parts = append(parts, hidden(value, words, "SM-11"))
			value = nil
		case n.Tag == 0x86 || n.Tag == 0x87:
			padding := map[byte]string{0: "not said", 1: "80 00 …", 2: "none"}[value[0]]
			if padding == "" {
				padding = "of another kind"
			}
			parts = append(parts, shown(value[:1], "padding: "+padding, "SM-15"))
			value, words = value[1:], "cryptogram"
		case (n.Tag == 0x96 || n.Tag == 0x97) && len(value) <= 2:
			if c, err := apdu.Parse(slices.Concat([]byte{0, 0, 0, 0}, make([]byte, len(value)-1), value)); err == nil {
				words = fmt.Sprintf("Le: at most %d bytes are wanted back", c.Ne)
			}
		case n.Tag == 0x99 && len(value) == 2:
			words = "status word: " + (apdu.SW(value[0])<<8 | apdu.SW(value[1])).Meaning()
		}
		if len(value) > 0 {
			parts = append(parts, shown(value, words, "SM-11"))
		}
		b = rest
	}
	return parts
}

// data says what the data of a command are.
func data(c apdu.Command, e Event, quiet bool) []Part {
	rule := instructionRules[c.INS].rule
	switch {
	case c.INS == apdu.InsPutKey:
		return newKeys(c.Data, c.CLA)
	case e.Secure && !secured(c.CLA):
		return channel(c.Data, c.CLA)
	case secured(c.CLA):
		return messaging(c.Data)
	case known(e.Command) == initialiseUpdate && len(c.Data) == challengeLen: // else it may be INITIALIZE DEVICE without a selection
		return []Part{shown(c.Data, "challenge of the host", "UPDATE-16")}
	case c.INS == apdu.InsInitializeDevice:
		return initialization(c.Data)
	case c.INS == apdu.InsVerify:
		return []Part{hidden(c.Data, "the PIN", "PIN-4")}
	case c.INS == apdu.InsChangeReferenceData:
		return []Part{hidden(c.Data, "the old PIN and the new one, one behind the other", "PIN-50")}
	case c.INS == apdu.InsResetRetryCounter:
		return []Part{hidden(c.Data, "SO-PIN and new PIN, one behind the other, as far as P1 asks for them", "PIN-65")}
	case c.INS == apdu.InsReadBinary, c.INS == apdu.InsUpdateBinary:
		return content(c.Data, quiet)
	case c.INS == apdu.InsSelect && c.P1 == apdu.SelectByName:
		return []Part{shown(c.Data, nameWords(c.Data), "APDU-29")}
	case quiet:
		return []Part{hidden(c.Data, cmp.Or(dataWords[c.INS], "data that may be secret"), rule)}
	case dataPieces[[2]byte{c.INS, c.P1}] != nil:
		if parts := cut(c.Data, dataPieces[[2]byte{c.INS, c.P1}], rule); parts != nil {
			return parts
		}
	case c.INS == apdu.InsSelect, c.INS == apdu.InsDeleteFile, c.INS == apdu.InsSign, c.INS == apdu.InsUnwrapKey, c.INS == apdu.InsExternalAuthenticate:
		return []Part{shown(c.Data, dataWords[c.INS], rule)}
	}
	return dataObjects(c.Data, cmp.Or(dataWords[c.INS], "data"), rule, c.INS, 0, 0)
}

// Of a command in GlobalPlatform's secure channel: the bit of its class byte, and the length
// of the code behind its data.
const (
	channelBit = 0x04
	codeLen    = 8
)

// challengeLen is that of the host's challenge in INITIALIZE UPDATE.
const challengeLen = 8

// channel says what the data of a command in GlobalPlatform's secure channel are. Whether
// they are encrypted the command does not tell.
func channel(b []byte, cla byte) []Part {
	n := len(b)
	if cla&channelBit != 0 {
		n = max(n-codeLen, 0)
	}
	parts := []Part{hidden(b[:n], "data in the card manager's secure channel", "UPDATE-16"), shown(b[n:], "code of the command (C-MAC)", "UPDATE-16")}
	return slices.DeleteFunc(parts, func(p Part) bool { return p.Bytes == 0 })
}

// newKeys says what the data of PUT KEY are, for three keys of AES-128. What is in another
// form, or encrypted as a whole, is not shown at all.
func newKeys(b []byte, cla byte) []Part {
	const (
		rule            = "UPDATE-29"
		keyLen, keyRest = 16, 16 + 1 + 3 // the key, and its check value behind its length
	)
	rest := b
	if cla&channelBit != 0 {
		rest = b[:max(len(b)-codeLen, 0)]
	}
	if len(rest) == 0 {
		return channel(b, cla)
	}
	code := b[len(rest):]
	parts := []Part{shown(rest[:1], "version of the new keys", rule)}
	rest = rest[1:]
	for n := 1; n <= 3; n++ {
		head := 2 // type and length, and the length of the key
		if len(rest) > 2 && rest[1] == keyLen+1 && rest[2] == keyLen {
			head = 3
		}
		if len(rest) < head+keyRest || rest[head-1] != keyLen || rest[head+keyLen] != keyRest-keyLen-1 {
			return channel(b, cla)
		}
		parts = append(parts,
			shown(rest[:head], fmt.Sprintf("key %d: type, 88 is AES, and length", n), rule),
			hidden(rest[head:head+keyLen], fmt.Sprintf("key %d, encrypted", n), rule),
			shown(rest[head+keyLen:head+keyRest], fmt.Sprintf("key %d: check value behind its length", n), rule))
		rest = rest[head+keyRest:]
	}
	if len(rest) > 0 {
		return channel(b, cla)
	}
	return append(parts, channel(code, cla)...)
}

func nameWords(name []byte) string {
	if strings.HasPrefix(apdu.AID, string(name)) {
		return "name of the SmartCard-HSM application"
	}
	return "name of another application"
}

// initialization says what the objects of INITIALIZE DEVICE are, without the PINs.
func initialization(b []byte) []Part {
	var parts []Part
	for len(b) > 0 {
		n, rest, err := tlv.NextBER(b)
		if err != nil {
			return append(parts, hidden(b, "no data object", "PIN-21"))
		}
		of, is := initObjects[n.Tag]
		head := len(b) - len(rest) - len(n.Value)
		if !is { // bytes of a PIN whose length is wrong look like one, too
			parts = append(parts, hidden(b[:head+len(n.Value)], "an object that is passed over", "PIN-22"))
			b = rest
			continue
		}
		parts = append(parts, shown(b[:head], fmt.Sprintf("object: %s, %s", of.words, count(len(n.Value), "byte")), of.rule))
		switch len(n.Value) {
		case 0:
		case of.length:
			parts = append(parts, shown(n.Value, of.words, of.rule))
		default:
			parts = append(parts, hidden(n.Value, of.words, of.rule))
		}
		b = rest
	}
	return parts
}

// content says what the objects of READ and UPDATE BINARY are.
func content(b []byte, quiet bool) []Part {
	var parts []Part
	for len(b) > 0 {
		n, rest, err := tlv.NextBER(b)
		if err != nil {
			return append(parts, hidden(b, "no data object", "FILE-23"))
		}
		head := len(b) - len(rest) - len(n.Value)
		switch {
		case n.Tag == apdu.FileOffset && (len(n.Value) <= 4 || !quiet):
			parts = append(parts, shown(b[:head], "object: offset in the file", "FILE-23"), shown(n.Value, "offset in the file", "FILE-23"))
		case quiet:
			parts = append(parts, shown(b[:head], "object: content, "+count(len(n.Value), "byte"), "FILE-24"), hidden(n.Value, "content of the file", "FILE-24"))
		default:
			parts = append(parts, shown(b[:head], "object: content, "+count(len(n.Value), "byte"), "FILE-23"), shown(n.Value, "content of the file", "FILE-23"))
		}
		b = rest
	}
	return slices.DeleteFunc(parts, func(p Part) bool { return p.Bytes == 0 })
}

// deepest is how far objects in objects are told apart.
const deepest = 3

// dataObjects says what data objects are, or that bytes are none. within is the object that they
// are in.
func dataObjects(b []byte, words, rule string, ins byte, within tlv.Tag, depth int) []Part {
	whole := []Part{shown(b, words, rule)}
	var parts []Part
	for rest := b; len(rest) > 0; {
		n, after, err := tlv.NextBER(rest)
		if err != nil || n.Tag == 0 {
			return whole
		}
		head := len(rest) - len(after) - len(n.Value)
		name := objectName(n.Tag, ins, within)
		parts = append(parts, shown(rest[:head], fmt.Sprintf("object %X: %s, %s", uint32(n.Tag), name, count(len(n.Value), "byte")), rule))
		switch {
		case len(n.Value) == 0:
		case rest[0]&0x20 != 0 && depth < deepest:
			parts = append(parts, dataObjects(n.Value, name, rule, ins, n.Tag, depth+1)...)
		default:
			parts = append(parts, shown(n.Value, name, rule))
		}
		rest = after
	}
	return parts
}

// AnswerParts says what every byte of an answer is; for quiet see Parts.
func AnswerParts(answer []byte, e Event, quiet bool) []Part {
	if len(answer) < 2 {
		return []Part{hidden(answer, "cut short: no status word", "APDU-39")}
	}
	body, sw := answer[:len(answer)-2], answer[len(answer)-2:]
	var ins byte
	if i := e.instruction(); i != "" {
		_, _ = fmt.Sscanf(i, "%X", &ins)
	}
	rules := instructionRules[ins]
	var parts []Part
	switch {
	case len(body) == 0:
	case e.Secure && !secured(e.class()):
		parts = append(parts, hidden(body, "answer in the card manager's secure channel", "UPDATE-16"))
	case e.Secure:
		parts = append(parts, messaging(body)...)
	case known(e.Command) == initialiseUpdate:
		if parts = cut(body, updateAnswer, "UPDATE-16"); parts == nil {
			parts = []Part{shown(body, "the card manager's answer", "UPDATE-16")}
		}
	case quiet:
		parts = append(parts, hidden(body, cmp.Or(answerWords[ins], "an answer that may be secret"), rules.done))
	case ins == apdu.InsEnumerateObjects, ins == apdu.InsSign, ins == apdu.InsReadBinary, ins == apdu.InsGetChallenge, ins == apdu.InsWrapKey:
		parts = append(parts, shown(body, answerWords[ins], rules.done))
	case answerPieces[ins] != nil:
		if parts = cut(body, answerPieces[ins], rules.done); parts == nil {
			parts = []Part{shown(body, "the card's answer", rules.done)}
		}
	default:
		parts = append(parts, dataObjects(body, cmp.Or(answerWords[ins], "the card's answer"), rules.done, ins, 0, 0)...)
	}
	word := fmt.Sprintf("%X", sw)
	rule := wordRules[word]
	switch {
	case rule != "":
	case word == "9000":
		rule = rules.done
	default:
		rule = rules.refused
	}
	if rule == "" {
		rule = "APDU-39"
	}
	return append(parts, shown(sw, "status word: "+e.Meaning, rule))
}
