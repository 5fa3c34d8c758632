package chip

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/applet/tlv"
	"hsmemu/emulator/scp03"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
)

// Data objects of a load file. They are this project's own; no code is run.
const (
	tagLoadFile  tlv.Tag = 0xC4
	tagVersion   tlv.Tag = 0x80 // major, minor
	tagPlatform  tlv.Tag = 0x81
	tagTitle     tlv.Tag = 0x82
	tagDigest    tlv.Tag = 0x83 // SHA-256 of the body
	tagBody      tlv.Tag = 0x84
	tagAnchor    tlv.Tag = 0x85 // root certificate
	tagPackage   tlv.Tag = 0x4F
	tagAuthority tlv.Tag = 0x42
	tagHolder    tlv.Tag = 0x5F20
	tagPublicKey tlv.Tag = 0x7F49
)

// The size of a load file's body in bytes, as large as the application is, and
// the most of a whole one: 256 blocks of 230 bytes.
const (
	bodyLen     = 40000
	longestLoad = 256 * 230
)

// LoadFile is the file that makes a firmware of a profile out of a card of the
// same generation: the content of object C4 of LOAD.
func LoadFile(p applet.Profile) []byte {
	body := make([]byte, bodyLen) // a profile is all there is to load
	digest := sha256.Sum256(body)
	b := tlv.Append(nil, tagVersion, []byte{p.Major, p.Minor})
	b = tlv.Append(b, tagPlatform, []byte{platform(p)})
	b = tlv.Append(b, tagTitle, []byte("SmartCard-HSM "+p.Name))
	b = tlv.Append(b, tagDigest, digest[:])
	b = tlv.Append(b, tagBody, body)
	return tlv.Append(b, tagAnchor, cvc.EmulatorRootCertificate().Raw)
}

// platform is the number of the chip that a firmware runs on: JCOP 2, 3 or 4.
func platform(p applet.Profile) byte { return max(p.Major, 2) }

// loadable is the firmware of a load file, if it is for a card of another one.
// Only the newest of the card's generation is.
func loadable(file []byte, firmware string) (applet.Profile, error) {
	list, err := tlv.ParseBER(file)
	if err != nil {
		return applet.Profile{}, apdu.WrongData
	}
	value := func(t tlv.Tag) []byte {
		n, _ := list.Find(t)
		return n.Value
	}
	digest := sha256.Sum256(value(tagBody))
	p := newest(firmware)
	switch {
	case len(value(tagBody)) == 0, !bytes.Equal(value(tagDigest), digest[:]), !bytes.Equal(value(tagAnchor), cvc.EmulatorRootCertificate().Raw):
		return applet.Profile{}, apdu.WrongData
	case !bytes.Equal(value(tagPlatform), []byte{platform(p)}), !bytes.Equal(value(tagVersion), []byte{p.Major, p.Minor}):
		return applet.Profile{}, apdu.ConditionsNotSatisfied
	}
	return p, nil
}

// loading is a load file on its way. It is not changed once it is in a session.
type loading struct {
	digest [sha256.Size]byte
	next   int // number of the next block
	data   []byte
}

// lastBlock is P1 of the last LOAD.
const lastBlock = 0x80

// productionData is GET DATA of the chip's production data (CPLC).
func productionData(o *operation, _ apdu.Command) ([]byte, error) {
	data := make([]byte, 42)
	copy(data, []byte{0x47, 0x90, 0x00, 0x00, 0x47, 0x00}) // NXP, JCOP
	copy(data[12:], o.d.chip())                            // serial number and batch
	return tlv.Append(nil, 0x9F7F, data), nil
}

// recognition is GlobalPlatform's card recognition data: version 2.3, secure
// channel protocol 03 with the option 70 (Card Specification, annex H).
func recognition() []byte {
	oid := func(last ...byte) []byte {
		return tlv.Append(nil, 0x06, []byte{0x2A, 0x86, 0x48, 0x86, 0xFC, 0x6B}, last)
	}
	data := oid(1)
	data = tlv.Append(data, 0x60, oid(2, 2, 3, 1))
	data = tlv.Append(data, 0x63, oid(3))
	data = tlv.Append(data, 0x64, oid(4, scp03.Protocol, scp03.Option))
	return tlv.Append(nil, 0x66, tlv.Append(nil, 0x73, data))
}

// cardData is GET DATA of the diversification data or the card recognition data.
func cardData(o *operation, c apdu.Command) ([]byte, error) {
	if c.P2 == 0x66 {
		return recognition(), nil
	}
	d := o.d.diversification()
	return tlv.Append(nil, 0xCF, d[:]), nil
}

// initializeUpdate is INITIALIZE UPDATE. The counter is durable before anything
// that depends on it is said.
func initializeUpdate(o *operation, c apdu.Command) ([]byte, error) {
	sets := o.d.keySets()
	at := ofVersion(sets, c.P1)
	switch {
	case at < 0 && o.session.channel.Active():
		return nil, apdu.IncorrectP1P2
	case at < 0:
		return nil, errUnasked
	}
	o.session = managerSession{}
	div := o.d.diversification()
	channel, answer, err := sets[at].Keys.Begin(div, c.P1, o.d.Manager.Counter+1, []byte(cardManager), scp03.Challenge(c.Data))
	if errors.Is(err, scp03.ErrLength) {
		return nil, apdu.ConditionsNotSatisfied // used up
	}
	if err != nil {
		return nil, err
	}
	o.change().Manager.Counter++
	o.session.channel = channel
	return answer, nil
}

// externalAuthenticate is EXTERNAL AUTHENTICATE. No counter limits it: who loads
// firmware has nothing left if the card manager blocks.
func externalAuthenticate(o *operation, c apdu.Command) ([]byte, error) {
	channel, err := o.session.channel.Authenticate(c)
	o.session.channel = channel
	if errors.Is(err, scp03.ErrClosed) {
		return nil, errUnasked
	}
	return nil, err
}

// done is the answer data of commands that have none to give (GlobalPlatform
// Card Specification §11).
var done = []byte{0}

// putKey is PUT KEY of a set of three keys: in place of the set whose version is in P1, or
// beside those that there are if that is 0. It is one change, so a cut leaves the old set
// or the new one. The channel it came through goes on with the keys that it has.
func putKey(o *operation, c apdu.Command) ([]byte, error) {
	if c.P1 > scp03.MaxVersion { // more commands would follow
		return nil, apdu.IncorrectP1P2
	}
	version, keys, answer, err := o.session.channel.NewKeys(c.Data)
	if err != nil {
		return nil, err
	}
	sets := o.d.keySets()
	at, same := ofVersion(sets, c.P1), ofVersion(sets, version)
	switch {
	case c.P1 != 0 && at < 0:
		return nil, apdu.ReferenceNotFound
	case same >= 0 && same != at:
		return nil, apdu.WrongData
	case at < 0 && len(sets) == maxKeySets:
		return nil, apdu.NotEnoughMemory
	}
	o.subject = fmt.Sprintf("keys of version %02X", version)
	next := KeySet{version, keys}
	sets = slices.Clone(sets)
	if at < 0 {
		sets = append(sets, next)
	} else {
		sets[at] = next
	}
	o.change().Manager.KeySets = sets
	return answer, nil
}

// deletePackage is DELETE of the application with its package. From here on the
// card is no device until a firmware was loaded.
func deletePackage(o *operation, c apdu.Command) ([]byte, error) {
	o.subject = "application"
	list, err := tlv.ParseBER(c.Data)
	if err != nil {
		return nil, apdu.WrongData
	}
	name, ok := list.Find(tagPackage)
	switch {
	case !ok:
		return nil, apdu.WrongData
	case string(name.Value) != Package, o.d.Manager.Stage == Empty:
		return nil, apdu.ReferenceNotFound
	}
	if err := o.d.updatable(); err != nil {
		return nil, err
	}
	*o.change() = o.d.remove(o.d.Manager.Counter)
	o.session.load = nil
	return done, nil
}

// remove is the chip without its application, after so many secure channels.
// Nothing reaches what is left of the application; it tells which generation the chip
// is, and the device's name until it has another.
func (d Durable) remove(counter uint32) Durable {
	device, _ := d.Applet.File(pkcs15.FileDevice)
	d.Manager = Manager{Chip: d.chip(), Counter: counter, KeySets: d.Manager.KeySets, Stage: Empty}
	d.Applet = applet.Durable{
		Firmware: d.Applet.Firmware, Answers: d.Applet.Answers, Device: d.Applet.Device, Files: []applet.File{device},
	}
	return d
}

// What GET STATUS is asked for, in P1, and the form of its answer, in P2.
const (
	ofManager          = 0x80
	ofApplications     = 0x40
	ofFiles            = 0x20
	ofFilesWithModules = 0x10
	inTLV              = 0x02
)

// Life-cycle states in the answer to GET STATUS (GlobalPlatform Card Specification,
// tables 11-3, 11-4 and 11-6).
const (
	fileLoaded            = 0x01
	applicationSelectable = 0x07
	managerSecured        = 0x0F
)

// getStatus is GET STATUS: the card manager, the application or the load file, if its
// name begins with the one that is asked for.
func getStatus(o *operation, c apdu.Command) ([]byte, error) {
	list, err := tlv.ParseBER(c.Data)
	if err != nil {
		return nil, apdu.WrongData
	}
	begins, ok := list.Find(tagPackage)
	if !ok {
		return nil, apdu.WrongData
	}
	name, state, there := cardManager, byte(managerSecured), true
	var more []byte
	switch c.P1 {
	case ofManager:
		more = tlv.Append(nil, 0xC5, []byte{0x9E, 0xFE, 0x80}) // the privileges of an issuer security domain
	case ofApplications:
		name, state = apdu.AID, applicationSelectable
		there = o.d.Manager.Stage == Operational || o.d.Manager.Stage == Production
		more = tlv.Append(nil, 0xC5, []byte{0, 0, 0})
	default:
		name, state, there = Package, fileLoaded, o.d.Manager.Stage != Empty
		if c.P1 == ofFilesWithModules {
			more = tlv.Append(nil, 0x84, []byte(apdu.AID))
		}
	}
	if !there || !strings.HasPrefix(name, string(begins.Value)) {
		return nil, apdu.ReferenceNotFound
	}
	entry := tlv.Append(nil, tagPackage, []byte(name))
	entry = tlv.Append(entry, 0x9F70, []byte{state})
	return tlv.Append(nil, 0xE3, append(entry, more...)), nil
}

// fields reads so many values behind their lengths in one byte, and nothing else.
func fields(data []byte, n int) ([][]byte, bool) {
	var out [][]byte
	for range n {
		if len(data) == 0 || len(data)-1 < int(data[0]) {
			return nil, false
		}
		out = append(out, data[1:1+data[0]])
		data = data[1+data[0]:]
	}
	return out, len(data) == 0
}

// installForLoad is INSTALL [for load]: name of the package, name of the card
// manager, SHA-256 of the load file, parameters, token.
func installForLoad(o *operation, c apdu.Command) ([]byte, error) {
	f, ok := fields(c.Data, 5)
	switch {
	case !ok, string(f[0]) != Package, len(f[1]) > 0 && string(f[1]) != cardManager, len(f[2]) != sha256.Size:
		return nil, apdu.WrongData
	case o.d.Manager.Stage != Empty:
		return nil, apdu.ConditionsNotSatisfied
	}
	o.session.load = &loading{digest: [sha256.Size]byte(f[2])}
	return done, nil
}

// load is LOAD of a block, whose number is in P2. With the last one the firmware
// is there.
func load(o *operation, c apdu.Command) ([]byte, error) {
	l := o.session.load
	switch {
	case l == nil:
		return nil, apdu.ConditionsNotSatisfied
	case int(c.P2) != l.next:
		return nil, apdu.IncorrectP1P2
	case len(l.data)+len(c.Data) > longestLoad:
		o.session.load = nil
		return nil, apdu.NotEnoughMemory
	}
	l = &loading{digest: l.digest, next: l.next + 1, data: slices.Concat(l.data, c.Data)}
	o.session.load = l
	if c.P1 != lastBlock {
		return done, nil
	}
	o.session.load = nil
	list, err := tlv.ParseBER(l.data)
	if err != nil || len(list) != 1 || list[0].Tag != tagLoadFile || sha256.Sum256(list[0].Value) != l.digest {
		return nil, apdu.WrongData
	}
	p, err := loadable(list[0].Value, o.d.Applet.Firmware)
	if err != nil {
		return nil, err
	}
	o.subject = "firmware " + p.Name
	d := o.change()
	d.Manager.Stage, d.Manager.Firmware = Loaded, p.Name
	return done, nil
}

// installApplication is INSTALL [for install and make selectable]: names of
// package, module and application, privileges, parameters, token.
func installApplication(o *operation, c apdu.Command) ([]byte, error) {
	f, ok := fields(c.Data, 6)
	switch {
	case !ok, string(f[0]) != Package, string(f[1]) != apdu.AID, string(f[2]) != apdu.AID:
		return nil, apdu.WrongData
	case o.d.Manager.Stage != Loaded:
		return nil, apdu.ConditionsNotSatisfied
	}
	o.subject = "application"
	o.change().Manager.Stage = Production
	return done, nil
}

// generateDeviceKey is GENERATE ASYMMETRIC KEY PAIR of the device key, in place
// of one that was made before. It answers the request for its certificate.
func generateDeviceKey(o *operation, c apdu.Command) ([]byte, error) {
	o.subject = "device key"
	list, err := tlv.ParseBER(c.Data)
	if err != nil {
		return nil, apdu.WrongData
	}
	authority, _ := list.Find(tagAuthority)
	holder, named := list.Find(tagHolder)
	template, ok := list.Find(tagPublicKey)
	known, _ := curve.ByName(applet.DeviceCurve)
	switch {
	case !ok, !named, len(holder.Value) == 0, len(holder.Value) > maxName, len(authority.Value) > maxName:
		return nil, apdu.WrongData
	case !bytes.Equal(template.Raw, cvc.ECTemplate(cvc.ECDSASHA256, known)):
		return nil, apdu.FunctionNotSupported
	}
	key, err := keystore.GenerateEC(o.env.Rand, known)
	if err != nil {
		return nil, err
	}
	var nonce io.Reader
	if !o.env.Deterministic {
		nonce = o.env.Rand
	}
	body := cvc.RequestBody{CAR: cvc.Name(authority.Value), CHR: cvc.Name(holder.Value), Key: cvc.NewEC(cvc.ECDSASHA256, key.ECPublic())}
	request, err := body.Sign(cvc.SignEC(key.EC(), nonce))
	if err != nil {
		return nil, err
	}
	m := &o.change().Manager
	m.Key, m.Name, m.Certificate = key, string(holder.Value), nil
	return request.Raw, nil
}

// storeCertificate is UPDATE BINARY of EF 2F02.
func storeCertificate(o *operation, c apdu.Command) ([]byte, error) {
	o.subject = "device certificate"
	list, err := tlv.ParseBER(c.Data)
	if err != nil {
		return nil, apdu.WrongData
	}
	at, ok := list.Find(apdu.FileOffset)
	body, filled := list.Find(apdu.FileData)
	offset, valid := at.Uint()
	have := o.d.Manager.Certificate
	switch {
	case !ok, !valid, !filled, len(body.Value) == 0:
		return nil, apdu.WrongData
	case o.d.Manager.Key.IsZero():
		return nil, apdu.ConditionsNotSatisfied
	case offset > uint64(len(have)):
		return nil, apdu.WrongOffset
	case offset+uint64(len(body.Value)) > longest:
		return nil, apdu.NotEnoughMemory
	}
	o.change().Manager.Certificate = slices.Concat(have[:offset], body.Value)
	return nil, nil
}

// finalise makes a device of the application, if EF 2F02 certifies its key under
// the root that came with the firmware.
func finalise(o *operation, _ apdu.Command) ([]byte, error) {
	m := o.d.Manager
	device := applet.Durable{
		Firmware: m.Firmware, Answers: o.d.Applet.Answers, Device: applet.Device{Key: m.Key, Name: m.Name},
		Files: []applet.File{{ID: pkcs15.FileDevice, Data: m.Certificate}},
	}
	if m.Key.IsZero() || device.Check() != nil {
		return nil, apdu.WrongData
	}
	o.subject = "device " + device.Serial()
	d := o.change()
	d.Applet, d.Manager = device, Manager{Chip: m.Chip, Counter: m.Counter, KeySets: m.KeySets}
	return nil, nil
}
