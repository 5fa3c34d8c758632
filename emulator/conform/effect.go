package conform

import (
	"bytes"
	"slices"

	"hsmemu/applet/apdu"
	"hsmemu/applet/pkcs15"
	"hsmemu/applet/tlv"
)

// effect is what a command can do to a card at worst.
type effect struct {
	command  apdu.Command // zero if the bytes are none
	presents []*reference // each may lose a try
	right    bool         // what it presents is believed to be right
	lasts    bool         // it may change a PIN, or more than objects
	makes    bool         // it makes, changes or deletes the objects
	// keys are those that it uses or makes, and files those that it writes or deletes.
	keys  []byte
	files []uint16
}

// harmless are the commands that are known to spend and to change nothing, and when.
// An instruction that is neither here nor in effect may do anything.
var harmless = map[byte]func(apdu.Command) bool{
	apdu.InsSelect:                        always, // what it selects is looked at when it was answered
	apdu.InsReadBinary:                    always,
	0xB0:                                  always, // READ BINARY with even instruction byte
	0xC0:                                  always, // GET RESPONSE
	apdu.InsEnumerateObjects:              always,
	apdu.InsGetChallenge:                  always,
	apdu.InsGeneralAuthenticate:           always,
	apdu.InsManageSecurityEnvironment:     func(c apdu.Command) bool { return c.P1&0x0F == 0x01 }, // SET
	apdu.InsPerformSecurityOperation:      func(c apdu.Command) bool { return c.P1 == 0x00 && c.P2 == 0xBE },
	apdu.InsVerify:                        func(c apdu.Command) bool { return c.P1 == 0x00 && asks(c) },
	apdu.InsInitializeDevice:              func(c apdu.Command) bool { return c.P1 == 0x00 && c.P2 == 0x00 && asks(c) },
	apdu.InsManageKeyDomain:               func(c apdu.Command) bool { return c.P1 == 0x00 && asks(c) },
	apdu.InsManagePublicKeyAuthentication: func(c apdu.Command) bool { return (c.P1 == 0x00 || c.P1 == 0x02) && asks(c) },
}

func always(apdu.Command) bool { return true }

// asks reports whether a command has no data, also for a card that takes its last
// length for that of data.
func asks(c apdu.Command) bool { return len(c.Data) == 0 && c.Ne%256 == 0 }

// everywhere are the harmless commands that are so in whatever application is
// selected.
var everywhere = []byte{apdu.InsSelect, apdu.InsReadBinary, 0xB0, 0xC0, apdu.InsGetChallenge, apdu.InsVerify}

// effect says what bytes can do to a card at worst. What is not known to do less may
// spend a try of each PIN and change everything: bytes that are no command, classes
// and instructions that the application does not know, what is hidden by secure
// messaging, and all that goes to another application.
func (g *guard) effect(sent []byte) effect {
	c, err := apdu.Parse(sent)
	e := effect{command: c}
	anything := effect{command: c, presents: []*reference{&g.user, &g.so}, lasts: true}
	known := err == nil && (c.CLA == apdu.ClassISO || c.CLA == apdu.ClassProprietary) // the card takes both for each instruction
	safe := harmless[c.INS]
	switch {
	case !known:
		return anything
	case safe != nil && safe(c) && (g.selected || slices.Contains(everywhere, c.INS)):
		return e
	case !g.selected:
		return anything
	}
	switch c.INS {
	case apdu.InsVerify:
		e.presents = g.named(c.P2)
		e.right = len(e.presents) == 1 && e.presents[0].is(c.Data)
	case apdu.InsChangeReferenceData:
		e.presents, e.lasts = g.named(c.P2), true
		e.right = len(e.presents) == 1 && e.presents[0].begins(c.Data)
	case apdu.InsResetRetryCounter: // whatever P1: firmware that does not know it may take the data for an SO-PIN
		e.presents, e.lasts = []*reference{&g.so}, true
		e.right = c.P1 <= 1 && (g.so.is(c.Data) || g.so.begins(c.Data))
	case apdu.InsInitializeDevice:
		e.presents, e.lasts = []*reference{&g.so}, true
		parts, _ := tlv.Parse(c.Data)
		code, _ := parts.Find(apdu.InitSOPIN)
		e.right = g.so.unset || g.so.is(code.Value)
	case apdu.InsSign, apdu.InsDecipher, apdu.InsSymmetricCipher, apdu.InsWrapKey: // which may take one of the uses a key has
		e.keys = []byte{c.P1}
	case apdu.InsGenerateKeyPair, apdu.InsGenerateSymmetricKey, apdu.InsUnwrapKey:
		e.makes, e.keys = true, []byte{c.P1}
	case apdu.InsDeriveECKey:
		e.makes, e.keys = true, []byte{c.P1, c.P2}
	case apdu.InsUpdateBinary:
		e.makes, e.files = true, []uint16{uint16(c.P1)<<8 | uint16(c.P2)}
	case apdu.InsDeleteFile:
		e.makes, e.lasts = true, c.P1 != 0x02 || len(c.Data) != 2 // of the file that is selected
		if !e.lasts {
			e.files = []uint16{uint16(c.Data[0])<<8 | uint16(c.Data[1])}
		}
	case apdu.InsGenerateSessionPIN, apdu.InsExternalAuthenticate, apdu.InsManageKeyDomain, apdu.InsManagePublicKeyAuthentication:
		e.lasts = true
	default:
		return anything
	}
	return e
}

// named is the PIN of a number, and both for a number that is none of them.
func (g *guard) named(ref byte) []*reference {
	switch ref {
	case g.user.ref:
		return []*reference{&g.user}
	case g.so.ref:
		return []*reference{&g.so}
	}
	return []*reference{&g.user, &g.so}
}

// is reports whether data are what is believed to be the PIN.
func (r *reference) is(data []byte) bool { return r.value != nil && bytes.Equal(data, r.value) }

// begins reports whether data begin with it, and go on.
func (r *reference) begins(data []byte) bool {
	return r.value != nil && len(data) > len(r.value) && bytes.HasPrefix(data, r.value)
}

// touches reports whether a command uses or changes an object that was there when
// the rule began: somebody's.
func (g *guard) touches(e effect) bool {
	there := func(key byte) bool {
		return slices.ContainsFunc(g.there, func(id uint16) bool { return byte(id) == key && byte(id>>8) != 0x2F })
	}
	if !g.strict {
		return false // nobody's
	}
	if !g.listed && (len(e.keys) > 0 || len(e.files) > 0) {
		return true // nobody knows
	}
	return slices.ContainsFunc(e.keys, there) || slices.ContainsFunc(e.files, func(id uint16) bool {
		switch byte(id >> 8) {
		case pkcs15.PrefixKey, pkcs15.PrefixKeyDescription, pkcs15.PrefixCertificate, pkcs15.PrefixMetaData:
			return there(byte(id))
		case pkcs15.PrefixPrivateData, pkcs15.PrefixPublicData, pkcs15.PrefixDataDescription, pkcs15.PrefixCertificateDescription, pkcs15.PrefixCACertificate:
			return slices.Contains(g.there, id)
		}
		return true // those of the card, as its certificates, and no file at all
	})
}
