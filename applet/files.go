package applet

import (
	"encoding/binary"
	"fmt"

	"hsmemu/applet/apdu"
	"hsmemu/applet/pkcs15"
	"hsmemu/applet/tlv"
)

// right is who may do something to a file.
type right int

const (
	anyone right = iota
	loggedIn
	nobody
)

// fileRule says what may be done with a range of file identifiers.
type fileRule struct {
	first, last uint16
	read, write right
	remove      right
	// unlisted files are not enumerated.
	unlisted bool
	what     string
}

// fileRules covers every identifier that the application knows; there are no
// others.
var fileRules = []fileRule{
	{first: pkcs15.FileDevice, last: pkcs15.FileDevice, write: nobody, remove: nobody, what: "device certificate"},
	{first: pkcs15.FileTokenInfo, last: pkcs15.FileTokenInfo, write: loggedIn, remove: loggedIn, what: "token information"},
	{first: pkcs15.FileBlob, last: pkcs15.FileBlob, read: loggedIn, write: loggedIn, remove: loggedIn, unlisted: true, what: "key blob"},
	all(pkcs15.PrefixKeyDescription, fileRule{write: loggedIn, remove: loggedIn, what: "key description"}),
	all(pkcs15.PrefixCertificateDescription, fileRule{write: loggedIn, remove: loggedIn, what: "certificate description"}),
	all(pkcs15.PrefixDataDescription, fileRule{write: loggedIn, remove: loggedIn, what: "data description"}),
	all(pkcs15.PrefixCACertificate, fileRule{write: loggedIn, remove: loggedIn, what: "CA certificate"}),
	all(pkcs15.PrefixMetaData, fileRule{write: loggedIn, remove: loggedIn, what: "key meta data"}),
	{first: deviceKey, last: deviceKey, read: nobody, write: nobody, remove: nobody, what: "device key"},
	{first: deviceKey + 1, last: deviceKey + 0xFF, read: nobody, write: nobody, remove: loggedIn, what: "key"},
	all(pkcs15.PrefixPrivateData, fileRule{read: loggedIn, write: loggedIn, remove: loggedIn, what: "private data"}),
	all(pkcs15.PrefixCertificate, fileRule{write: loggedIn, remove: loggedIn, what: "certificate"}),
	all(pkcs15.PrefixPublicData, fileRule{write: loggedIn, remove: loggedIn, what: "public data"}),
}

// all is the rule for a file of a kind, whatever its number.
func all(prefix byte, r fileRule) fileRule {
	r.first, r.last = pkcs15.File(prefix, 0), pkcs15.File(prefix, 0xFF)
	return r
}

// deviceKey is the identifier of the device key; those of the user's keys follow.
const deviceKey = uint16(pkcs15.PrefixKey) << 8

func ruleFor(id uint16) (fileRule, bool) {
	for _, r := range fileRules {
		if r.first <= id && id <= r.last {
			return r, true
		}
	}
	return fileRule{}, false
}

// Holds says in words what clients keep in a file with this identifier,
// "key description"; empty for an identifier that the application does not
// know.
func (f File) Holds() string {
	r, _ := ruleFor(f.ID)
	return r.what
}

// allow checks a right of the file rules against the session.
func (t *tx) allow(r right) error {
	if r == nobody || r == loggedIn && !t.s.Login.User {
		return apdu.SecurityStatus
	}
	return nil
}

// about names a file as the subject of the event.
func (t *tx) about(id uint16) {
	r, known := ruleFor(id)
	switch {
	case !known:
		t.subject = fmt.Sprintf("EF %04X", id)
	case byte(id>>8) == pkcs15.PrefixKey:
		t.subject = fmt.Sprintf("key %d", byte(id))
	default:
		t.subject = fmt.Sprintf("EF %04X (%s)", id, r.what)
	}
}

// target is the file a command means: named in its parameters, or the current
// one where they are zero.
func (t *tx) target(c apdu.Command) (uint16, error) {
	id := uint16(c.P1)<<8 | uint16(c.P2)
	if id == 0 {
		if t.s.Current == 0 {
			return 0, apdu.CommandNotAllowed
		}
		id = t.s.Current
	}
	t.about(id)
	return id, nil
}

// offsetOf reads the offset object, 1 to 4 bytes big-endian.
func offsetOf(l tlv.List) (int, error) {
	n, ok := l.Find(apdu.FileOffset)
	if !ok || len(n.Value) < 1 || len(n.Value) > 4 {
		return 0, apdu.WrongData
	}
	v, ok := n.Uint()
	if !ok || v >= 1<<31 {
		return 0, apdu.WrongData
	}
	return int(v), nil
}

// atMost returns Ne and whether it was explicit: only then does a shorter answer
// mean the end of the file. A length field of zero asks for what there is.
func atMost(c apdu.Command) (n int, exact bool) {
	if c.Ne == 65536 || c.Ne == 256 && !c.Extended {
		return c.Ne, false
	}
	return c.Ne, true
}

// readBinary is READ BINARY with odd instruction byte (ISO 7816-4): offset and
// data travel as data objects.
func readBinary(t *tx, c apdu.Command) ([]byte, error) {
	id, err := t.target(c)
	if err != nil {
		return nil, err
	}
	list, err := tlv.ParseBER(c.Data)
	if err != nil {
		return nil, apdu.WrongData
	}
	offset, err := offsetOf(list)
	if err != nil {
		return nil, err
	}
	rule, known := ruleFor(id)
	if !known {
		return nil, apdu.NotFound
	}
	if err := t.allow(rule.read); err != nil {
		return nil, err
	}
	f, exists := t.file(id)
	if !exists {
		return nil, apdu.NotFound
	}
	want, exact := atMost(c)
	switch rest := len(f.Data) - offset; {
	case rest < 0:
		return nil, apdu.WrongOffset
	case rest == 0 && offset == 0 && !exact:
		return nil, nil
	case rest == 0:
		t.success = apdu.EndOfFile
		return nil, nil
	case want <= rest:
		return f.Data[offset : offset+want], nil
	case exact:
		t.success = apdu.EndOfFile
		return f.Data[offset:], nil
	default:
		return f.Data[offset:], nil
	}
}

// updateBinary is UPDATE BINARY with odd instruction byte. It creates files,
// too; data at offset zero replace what was there, since clients overwrite a
// long request with a short certificate.
func updateBinary(t *tx, c apdu.Command) ([]byte, error) {
	id, err := t.target(c)
	if err != nil {
		return nil, err
	}
	rule, known := ruleFor(id)
	if !known {
		return nil, apdu.IncorrectP1P2
	}
	if err := t.allow(rule.write); err != nil {
		return nil, err
	}
	list, err := tlv.ParseBER(c.Data)
	if err != nil {
		return nil, apdu.WrongData
	}
	body, ok := list.Find(apdu.FileData)
	if !ok {
		return nil, apdu.WrongData
	}
	offset := 0
	if _, ok := list.Find(apdu.FileOffset); ok || c.P1 == 0 && c.P2 == 0 {
		if offset, err = offsetOf(list); err != nil {
			return nil, err
		}
	}
	f, exists := t.file(id)
	if offset > len(f.Data) {
		return nil, apdu.WrongOffset
	}
	if !exists || len(body.Value) > 0 {
		if err := t.putFile(id, splice(f.Data, offset, body.Value)); err != nil {
			return nil, err
		}
	}
	t.s.Current = id
	return nil, nil
}

// splice puts part into a copy of data at an offset within it; at zero it
// replaces everything.
func splice(data []byte, offset int, part []byte) []byte {
	if offset == 0 {
		return append([]byte{}, part...)
	}
	out := make([]byte, max(len(data), offset+len(part)))
	copy(out, data)
	copy(out[offset:], part)
	return out
}

// deleteFile removes one file or key and nothing that belongs to it: clients
// delete a key, its description and its certificate one by one.
func deleteFile(t *tx, c apdu.Command) ([]byte, error) {
	id := binary.BigEndian.Uint16(c.Data)
	t.about(id)
	rule, known := ruleFor(id)
	if !known {
		return nil, apdu.NotFound
	}
	if err := t.allow(rule.remove); err != nil {
		return nil, err
	}
	if byte(id>>8) == pkcs15.PrefixKey {
		if _, exists := t.d.Keys[byte(id)]; !exists {
			return nil, apdu.NotFound
		}
		t.dropKey(byte(id))
		return nil, nil
	}
	if _, exists := t.file(id); !exists {
		return nil, apdu.NotFound
	}
	t.dropFile(id)
	return nil, nil
}

// enumerateObjects lists files in the order of their creation, then keys by
// number, the device key among them.
func enumerateObjects(t *tx, _ apdu.Command) ([]byte, error) {
	var out []byte
	for _, f := range t.d.Files {
		if r, _ := ruleFor(f.ID); !r.unlisted {
			out = binary.BigEndian.AppendUint16(out, f.ID)
		}
	}
	out = append(out, pkcs15.PrefixKey, 0)
	for id := 1; id <= 0xFF; id++ {
		if _, exists := t.d.Keys[byte(id)]; exists {
			out = append(out, pkcs15.PrefixKey, byte(id))
		}
	}
	return out, nil
}
