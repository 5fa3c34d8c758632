package applet

import (
	"encoding/binary"

	"hsmemu/applet/apdu"
	"hsmemu/applet/pkcs15"
	"hsmemu/applet/tlv"
)

// Objects of a file control template (ISO 7816-4 §7.4).
const (
	tagFCI        tlv.Tag = 0x6F
	tagFCP        tlv.Tag = 0x62
	tagSize       tlv.Tag = 0x80
	tagDescriptor tlv.Tag = 0x82
	tagFileID     tlv.Tag = 0x83
	tagAttributes tlv.Tag = 0x85
	tagKeyInfo    tlv.Tag = 0xA5
)

const (
	descriptorApplication = 0x78
	descriptorFile        = 0x01
)

// control wraps the content of a file control template as P2 of SELECT asks:
// information, parameters, or nothing.
func control(p2 byte, content []byte) []byte {
	switch p2 {
	case 0x00:
		return tlv.Append(nil, tagFCI, content)
	case 0x04:
		return tlv.Append(nil, tagFCP, content)
	}
	return nil
}

// selectApplication selects the application by its name, which ends every
// login. Other names are for the card manager; those that reach the
// application do not exist, and its session goes on.
func selectApplication(t *tx, c apdu.Command) ([]byte, error) {
	t.subject = "application"
	if string(c.Data) != apdu.AID {
		t.subject = "another application"
		return nil, apdu.NotFound
	}
	t.s = Session{}
	return control(c.P2, t.applicationControl()), nil
}

func (t *tx) applicationControl() []byte {
	p := t.profile
	version := []byte{p.Major, p.Minor}
	if !p.ShortAttributes {
		options := binary.BigEndian.AppendUint16(nil, uint16(t.d.PINs.Options))
		version = append(append(options, p.Platform), version...)
	}
	out := tlv.Append(nil, tagDescriptor, []byte{descriptorApplication})
	return tlv.Append(out, tagAttributes, version)
}

// selectFile makes a file current. It needs no right, whatever the file: the
// clients select before they log in.
func selectFile(t *tx, c apdu.Command) ([]byte, error) {
	if len(c.Data) == 0 {
		t.subject = "application"
		t.s.Current = 0
		return control(c.P2, t.applicationControl()), nil
	}
	if len(c.Data) != 2 {
		return nil, apdu.WrongLength
	}
	id := binary.BigEndian.Uint16(c.Data)
	t.about(id)
	size, info := 0, []byte(nil)
	if byte(id>>8) == pkcs15.PrefixKey {
		if !t.profile.KeyFiles {
			return nil, apdu.NotFound
		}
		k, exists := t.d.Keys[byte(id)]
		if !exists && byte(id) != 0 {
			return nil, apdu.NotFound
		}
		info = keyInfo(k)
	} else {
		f, exists := t.file(id)
		if !exists {
			return nil, apdu.NotFound
		}
		size = len(f.Data)
	}
	t.s.Current = id
	out := tlv.Append(nil, tagSize, binary.BigEndian.AppendUint16(nil, uint16(min(size, 0xFFFF))))
	out = tlv.Append(out, tagDescriptor, []byte{descriptorFile})
	out = tlv.Append(out, tagFileID, c.Data)
	return control(c.P2, append(out, info...)), nil
}
