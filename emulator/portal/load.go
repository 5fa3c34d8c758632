package portal

import (
	"crypto/sha256"
	"slices"

	"hsmemu/applet/apdu"
	"hsmemu/applet/tlv"
)

// Data objects of a load file (UPDATE-20).
const (
	tagLoadFile tlv.Tag = 0xC4
	tagVersion  tlv.Tag = 0x80
	tagPlatform tlv.Tag = 0x81
	tagTitle    tlv.Tag = 0x82
	tagDigest   tlv.Tag = 0x83
	tagBody     tlv.Tag = 0x84
	tagAnchor   tlv.Tag = 0x85
)

// bodyLen is the size of a load file's body in bytes, about that of the
// application, and blockLen that of the block which one LOAD carries.
const (
	bodyLen  = 40000
	blockLen = 230
)

// LoadFile is the file that makes a firmware out of a card of the same generation,
// the content of object C4 of LOAD. Nothing in it is run: a firmware of the
// emulator is a profile, which the file names.
func LoadFile(v Version) []byte {
	body := make([]byte, bodyLen)
	digest := sha256.Sum256(body)
	b := tlv.Append(nil, tagVersion, []byte{v.Major, v.Minor})
	b = tlv.Append(b, tagPlatform, []byte{max(v.Major, 2)}) // JCOP 2, 3 or 4
	b = tlv.Append(b, tagTitle, []byte("SmartCard-HSM "+v.String()))
	b = tlv.Append(b, tagDigest, digest[:])
	b = tlv.Append(b, tagBody, body)
	return tlv.Append(b, tagAnchor, Authority{}.Root().Raw)
}

// packageName is the name of the load file on the card.
const packageName = "\xE8\x2B\x06\x01\x04\x01\x81\xC3\x1F\x02"

// The commands that replace the application (GlobalPlatform Card Specification
// §11; UPDATE-18 and UPDATE-19).
var (
	deletePackage = apdu.Command{
		CLA: apdu.ClassProprietary, INS: apdu.InsDeleteFile, P2: 0x80, Data: tlv.Append(nil, 0x4F, []byte(packageName)), Ne: 256,
	}
	installApplication = apdu.Command{
		CLA: apdu.ClassProprietary, INS: apdu.InsInstall, P1: 0x0C, Data: fields(packageName, apdu.AID, apdu.AID, "\x00", "\xC9\x00", ""), Ne: 256,
	}
)

// fields writes each value behind its length in one byte.
func fields(values ...string) []byte {
	var b []byte
	for _, v := range values {
		b = append(append(b, byte(len(v))), v...)
	}
	return b
}

// announce is INSTALL [for load] of a load file.
func announce(file []byte) apdu.Command {
	digest := sha256.Sum256(file)
	return apdu.Command{
		CLA: apdu.ClassProprietary, INS: apdu.InsInstall, P1: 0x02, Data: fields(packageName, cardManager, string(digest[:]), "", ""), Ne: 256,
	}
}

// blocks are the LOAD commands of a load file, at most 256.
func blocks(file []byte) []apdu.Command {
	var list []apdu.Command
	for part := range slices.Chunk(tlv.Append(nil, tagLoadFile, file), blockLen) {
		list = append(list, apdu.Command{CLA: apdu.ClassProprietary, INS: apdu.InsLoad, P2: byte(len(list)), Data: part, Ne: 256})
	}
	list[len(list)-1].P1 = 0x80
	return list
}
