package chip_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/applet/cvc"
	"hsmemu/applet/tlv"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/scp03"
	"hsmemu/keystore/curve"
)

const managerName = "\xA0\x00\x00\x01\x51\x00\x00\x00"

var selectManager = apdu.Command{INS: 0xA4, P1: 0x04, Data: []byte(managerName), Ne: 256}

// loader is who updates firmware: a host on the card manager's secure channel.
type loader struct {
	card
	host scp03.Host
	kept *[]chip.Durable // what the card saved, if anybody wants to know
	// version and keys are those that begin opens a channel with; none are those that
	// a card has before PUT KEY.
	version byte
	keys    func(scp03.Diversification) scp03.Keys
}

// send keeps what the card saves.
func (l *loader) send(c apdu.Command) apdu.Response {
	r := l.card.send(c)
	if l.kept != nil {
		*l.kept = append(*l.kept, l.Result.Commits...)
	}
	return r
}

// ok is send of a command that has to succeed.
func (l *loader) ok(t require.TestingT, c apdu.Command) []byte {
	r := l.send(c)
	require.Equal(t, apdu.OK, r.SW, l.Result.Event.String())
	return r.Data
}

// begin opens a channel with whatever is selected.
func (l *loader) begin(t require.TestingT, level scp03.Level) {
	if l.keys == nil {
		l.version, l.keys = chip.KeyVersion, newKeys(string(chip.MasterKey[:]))
	}
	l.beginWith(t, l.version, l.keys, level)
}

// beginWith is begin with the keys of a version.
func (l *loader) beginWith(t require.TestingT, version byte, keys func(scp03.Diversification) scp03.Keys, level scp03.Level) {
	challenge := scp03.Challenge{1, 2, 3, 4, 5, 6, 7, 8}
	a, err := scp03.ParseAnswer(l.ok(t, scp03.Begin(version, challenge)))
	require.NoError(t, err)
	require.Equal(t, version, a.Version)
	host, err := keys(a.Diversification).Open(challenge, a)
	require.NoError(t, err)
	c, host, err := host.Authenticate(level)
	require.NoError(t, err)
	l.ok(t, c)
	l.host = host
}

// say sends a command through the channel.
func (l *loader) say(t require.TestingT, c apdu.Command) apdu.Response {
	sent, host, err := l.host.Wrap(c)
	require.NoError(t, err)
	answer, host, err := host.Unwrap(l.send(sent))
	require.NoError(t, err, l.Result.Event.String())
	l.host = host
	return answer
}

// must is say of a command that has to succeed.
func (l *loader) must(t require.TestingT, c apdu.Command) []byte {
	r := l.say(t, c)
	require.Equal(t, apdu.OK, r.SW, l.Result.Event.String())
	return r.Data
}

func lv(values ...string) []byte {
	var out []byte
	for _, v := range values {
		out = append(append(out, byte(len(v))), v...)
	}
	return out
}

var (
	deleting   = apdu.Command{CLA: 0x80, INS: 0xE4, P2: 0x80, Data: tlv.Append(nil, 0x4F, []byte(chip.Package)), Ne: 256}
	installing = apdu.Command{CLA: 0x80, INS: 0xE6, P1: 0x0C, Data: lv(chip.Package, apdu.AID, apdu.AID, "\x00", "\xC9\x00", ""), Ne: 256}
	finalising = apdu.Command{CLA: 0x80, INS: 0x10}
)

func announcing(file []byte) apdu.Command {
	digest := sha256.Sum256(file)
	return apdu.Command{CLA: 0x80, INS: 0xE6, P1: 0x02, Data: lv(chip.Package, managerName, string(digest[:]), "", ""), Ne: 256}
}

// blocks are the LOAD commands of a file.
func blocks(file []byte) []apdu.Command {
	var out []apdu.Command
	for part := range slices.Chunk(tlv.Append(nil, 0xC4, file), 230) {
		out = append(out, apdu.Command{CLA: 0x80, INS: 0xE8, P2: byte(len(out)), Data: part, Ne: 256})
	}
	out[len(out)-1].P1 = 0x80
	return out
}

func requesting(name string) apdu.Command {
	c, _ := curve.ByName(applet.DeviceCurve)
	data := tlv.Append(nil, 0x42, []byte("UTDICAEM0100001"))
	data = append(data, cvc.ECTemplate(cvc.ECDSASHA256, c)...)
	return apdu.Command{INS: 0x46, Data: tlv.Append(data, 0x5F20, []byte(name)), Ne: 65536, Extended: true}
}

func profileOf(t require.TestingT, firmware string) applet.Profile {
	p, known := applet.ProfileOf(firmware)
	require.True(t, known)
	return p
}

// update brings a card from wherever it is to a firmware and a name, as the
// tables of docs/protocol/update.md tell it.
func (l *loader) update(t require.TestingT, firmware, name string) {
	if r := l.send(selectApplication); r.SW == apdu.NotFound || l.State.Durable().Manager.Stage == chip.Operational {
		l.load(t, firmware)
	}
	l.personalise(t, name)
}

// load is the first half: the application is replaced.
func (l *loader) load(t require.TestingT, firmware string) {
	l.ok(t, selectManager)
	l.begin(t, scp03.All)
	if r := l.say(t, deleting); r.SW != apdu.ReferenceNotFound {
		require.Equal(t, apdu.OK, r.SW)
	}
	file := chip.LoadFile(profileOf(t, firmware))
	require.Equal(t, []byte{0}, l.must(t, announcing(file)))
	for _, b := range blocks(file) {
		l.must(t, b)
	}
	l.must(t, installing)
}

// personalise is the second: it gets a key, a certificate, and is a device.
func (l *loader) personalise(t require.TestingT, name string) {
	l.ok(t, selectApplication)
	l.begin(t, scp03.All)
	request, err := cvc.ParseRequest(l.must(t, requesting(name)))
	require.NoError(t, err)
	require.NoError(t, request.Verify())
	key, err := request.Key.EC()
	require.NoError(t, err)
	ef, err := cvc.EmulatorIssuer().IssueDevice(key, request.CHR, l.Env.Now, nil)
	require.NoError(t, err)
	offset := 0
	for part := range slices.Chunk(ef, 200) {
		l.must(t, write(0x2F02, offset, part))
		offset += len(part)
	}
	l.must(t, finalising)
}

const newName = "DENK990000900000"

// Updates lead to the newest firmware of a generation and to no other:
// UPDATE-3, UPDATE-5, UPDATE-9, UPDATE-19 and UPDATE-22.
func TestUpdate_WithinAGeneration(t *testing.T) {
	t.Parallel()
	newest := map[byte]string{1: "1.2", 2: "2.6", 3: "3.6", 4: "4.1"}
	for _, p := range applet.Profiles() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			c := manufacture(t, p.Name, "A")
			c.ok(t, selectApplication)
			c.ok(t, setup(0x0001, userPIN, soPIN, 3))
			c.ok(t, write(0xCD01, 0, []byte("private data")))
			before := c.State.Durable()
			l := &loader{card: c}
			target := newest[p.Major]
			if p.Name == target {
				l.ok(t, selectManager)
				l.begin(t, scp03.All)
				require.Equal(t, apdu.ConditionsNotSatisfied, l.say(t, deleting).SW)
				require.Empty(t, l.Result.Commits)
				return
			}
			l.update(t, target, newName)
			d := l.State.Durable()
			require.Equal(t, target, d.Applet.Firmware)
			require.Equal(t, newName, d.Applet.Device.Name)
			require.False(t, d.Applet.Device.Key.SamePublic(before.Applet.Device.Key))
			require.Equal(t, chip.Operational, d.Manager.Stage)
			require.Equal(t, before.ATR(), d.ATR())
			require.False(t, d.Applet.PINs.Initialised)
			require.Len(t, d.Applet.Files, 1)
			require.NoError(t, d.Check())
			// As shipped, and the chip is the one that it was.
			l.play(t, lines("cut", "00A4040C0B"+"E82B0601040181C31F0201", fmt.Sprintf("00200081 => %04X", uint16(p.NeverInitialised))))
			l.ok(t, setup(0x0001, userPIN, soPIN, 3))
			l.ok(t, selectManager)
			l.begin(t, scp03.All)
			require.Equal(t, apdu.ConditionsNotSatisfied, l.say(t, deleting).SW, "there is nothing newer")
		})
	}
}

// Keys are not lost by accident: UPDATE-1, UPDATE-2, UPDATE-4 and UPDATE-18.
func TestUpdate_KeysProtectThemselves(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		firmware string
		prepare  func(card)
		refused  bool
	}{
		"no keys":                         {"4.0", func(card) {}, false},
		"never initialised":               {"4.0", nil, false},
		"keys":                            {"4.0", func(c card) { c.send(generate(1, "secp256r1")) }, true},
		"user PIN blocked":                {"4.0", func(c card) { exhaust(c, 0x81, "000000", 3) }, false},
		"user PIN blocked, keys":          {"4.0", func(c card) { c.send(generate(1, "secp256r1")); exhaust(c, 0x81, "000000", 3) }, true},
		"SO-PIN blocked, keys":            {"4.0", func(c card) { c.send(generate(1, "secp256r1")); exhaust(c, 0x88, "00000000", 15) }, false},
		"one try for the SO-PIN left":     {"4.0", func(c card) { c.send(generate(1, "secp256r1")); exhaust(c, 0x88, "00000000", 14) }, true},
		"newest":                          {"4.1", func(card) {}, true},
		"newest, SO-PIN blocked, no keys": {"4.1", func(c card) { exhaust(c, 0x88, "00000000", 15) }, false},
		"newest, SO-PIN blocked, keys":    {"4.1", func(c card) { c.send(generate(1, "secp256r1")); exhaust(c, 0x88, "00000000", 15) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := manufacture(t, c.firmware, "A")
			if c.prepare != nil {
				k.ok(t, selectApplication)
				k.ok(t, setup(0x0001, userPIN, soPIN, 3))
				c.prepare(k)
			}
			l := &loader{card: k}
			l.ok(t, selectManager)
			l.begin(t, scp03.All)
			before := l.State.Durable()
			r := l.say(t, deleting)
			if c.refused {
				require.Equal(t, apdu.ConditionsNotSatisfied, r.SW)
				require.Empty(t, l.Result.Commits)
				require.Equal(t, stored(t, before), stored(t, l.State.Durable()))
				return
			}
			require.Equal(t, apdu.OK, r.SW)
			l.cut()
			l.update(t, "4.1", newName)
			require.Empty(t, l.Durable().Keys)
			require.Equal(t, newName, l.Durable().Device.Name)
		})
	}
}

func exhaust(c card, reference byte, wrong string, times int) {
	for range times {
		c.send(verify(reference, wrong))
	}
}

// Wherever the power is cut, the card is in one of the states that
// docs/protocol/update.md lists, and whoever comes next finishes the update:
// UPDATE-23 to UPDATE-26.
//
// Shows UPDATE-21, UPDATE-24 and UPDATE-25.
func TestUpdate_PowerCutAnywhere(t *testing.T) {
	t.Parallel()
	l := &loader{card: manufacture(t, "3.1", "A")}
	first := l.State.Durable()
	var kept []chip.Durable
	l.kept = &kept
	l.update(t, "3.6", newName)
	require.Greater(t, len(kept), 8)
	require.Equal(t, stored(t, kept[len(kept)-1]), stored(t, l.State.Durable()))
	stages := map[chip.Stage]int{}
	w := &watch{}
	for i, d := range slices.Concat([]chip.Durable{first}, kept) {
		stages[d.Manager.Stage]++
		var read chip.Durable
		require.NoError(t, json.Unmarshal([]byte(stored(t, d)), &read), "commit %d", i)
		require.Equal(t, stored(t, d), stored(t, read))
		c := &loader{card: boot(read, "after the cut")}
		r := c.send(selectApplication)
		switch d.Manager.Stage {
		case chip.Empty, chip.Loaded:
			require.Equal(t, apdu.NotFound, r.SW)
			require.Equal(t, apdu.InstructionNotSupported, c.send(verify(0x81, userPIN)).SW)
		case chip.Production:
			require.Equal(t, apdu.OK, r.SW)
			require.Equal(t, apdu.ReferenceNotFound, c.send(apdu.Command{INS: 0x20, P2: 0x81}).SW)
			require.Equal(t, apdu.ConditionsNotSatisfied, c.send(setup(0x0001, userPIN, soPIN, 3)).SW)
			require.Equal(t, apdu.ConditionsNotSatisfied, c.send(apdu.Command{INS: 0x84, Ne: 8}).SW)
			require.Equal(t, d.Manager.Certificate == nil, c.send(apdu.Command{INS: 0xB1, P1: 0x2F, P2: 0x02, Data: []byte{0x54, 1, 0}, Ne: 256}).SW == apdu.NotFound)
		default:
			require.Equal(t, apdu.OK, r.SW)
			c.ok(t, setup(0x0001, userPIN, soPIN, 3))
			w.keep(t, c.State.Durable())
		}
		require.Equal(t, d.Manager.Chip == nil, d.Applet.Firmware == "3.1" && d.Manager.Stage == chip.Operational)
		if d.Manager.Stage == chip.Operational && d.Applet.Firmware == "3.6" {
			continue // it is done
		}
		c = &loader{card: boot(read, "the next to come")}
		c.update(t, "3.6", newName)
		done := c.State.Durable()
		require.NoError(t, done.Check())
		require.Equal(t, "3.6", done.Applet.Firmware)
		require.Equal(t, newName, done.Applet.Device.Name)
		require.Empty(t, done.Manager.Stage)
		if d.Manager.Chip != nil {
			require.Equal(t, d.Manager.Chip, done.Manager.Chip)
		}
	}
	require.Len(t, stages, 4)
}

// What is refused in an update, and that it is refused without a change:
// UPDATE-18, UPDATE-19 and UPDATE-20.
func TestUpdate_RefusesWhatDoesNotBelong(t *testing.T) {
	t.Parallel()
	good := chip.LoadFile(profileOf(t, "4.1"))
	digest := sha256.Sum256(good)
	fresh := func(t *testing.T, upTo int) *loader {
		l := &loader{card: manufacture(t, "4.0", "A")}
		l.ok(t, selectManager)
		l.begin(t, scp03.All)
		if upTo > 0 {
			l.must(t, deleting)
		}
		if upTo > 1 {
			l.must(t, announcing(good))
		}
		return l
	}
	for name, c := range map[string]struct {
		stage int
		c     apdu.Command
		want  apdu.SW
	}{
		"another package":         {0, apdu.Command{CLA: 0x80, INS: 0xE4, P2: 0x80, Data: tlv.Append(nil, 0x4F, []byte(apdu.AID))}, apdu.ReferenceNotFound},
		"no package":              {0, apdu.Command{CLA: 0x80, INS: 0xE4, P2: 0x80, Data: []byte{0x50, 0}}, apdu.WrongData},
		"without its instances":   {0, apdu.Command{CLA: 0x80, INS: 0xE4, P2: 0x00, Data: deleting.Data}, apdu.IncorrectP1P2},
		"load over what is there": {0, announcing(good), apdu.ConditionsNotSatisfied},
		"install what is there":   {0, installing, apdu.ConditionsNotSatisfied},
		"load unannounced":        {1, blocks(good)[0], apdu.ConditionsNotSatisfied},
		"install nothing":         {1, installing, apdu.ConditionsNotSatisfied},
		"delete twice":            {1, deleting, apdu.ReferenceNotFound},
		"for another manager":     {1, apdu.Command{CLA: 0x80, INS: 0xE6, P1: 2, Data: lv(chip.Package, apdu.AID, string(digest[:]), "", "")}, apdu.WrongData},
		"without a hash value":    {1, apdu.Command{CLA: 0x80, INS: 0xE6, P1: 2, Data: lv(chip.Package, managerName, "", "", "")}, apdu.WrongData},
		"cut short":               {1, apdu.Command{CLA: 0x80, INS: 0xE6, P1: 2, Data: lv(chip.Package)}, apdu.WrongData},
		"the second block first":  {2, blocks(good)[1], apdu.IncorrectP1P2},
		"the first block alone":   {2, apdu.Command{CLA: 0x80, INS: 0xE8, P1: 0x80, Data: blocks(good)[0].Data}, apdu.WrongData},
		"unknown instruction":     {0, apdu.Command{CLA: 0x80, INS: 0xF4, P1: 0x40}, apdu.InstructionNotSupported},
		"the application's":       {0, apdu.Command{INS: 0x20, P2: 0x81}, apdu.ClassNotSupported},
		"production's":            {0, finalising, apdu.InstructionNotSupported},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := fresh(t, c.stage)
			before := stored(t, l.State.Durable())
			require.Equal(t, c.want, l.say(t, c.c).SW, l.Result.Event.String())
			require.Empty(t, l.Result.Commits)
			require.Equal(t, before, stored(t, l.State.Durable()))
		})
	}
	alter := func(tag tlv.Tag, value []byte) []byte {
		list, err := tlv.ParseBER(good)
		require.NoError(t, err)
		var out []byte
		for _, n := range list {
			if n.Tag == tag {
				n.Value = value
			}
			out = tlv.Append(out, n.Tag, n.Value)
		}
		return out
	}
	for name, c := range map[string]struct {
		file []byte
		want apdu.SW
	}{
		"another generation":     {chip.LoadFile(profileOf(t, "3.6")), apdu.ConditionsNotSatisfied},
		"the same version":       {chip.LoadFile(profileOf(t, "4.0")), apdu.ConditionsNotSatisfied},
		"unknown version":        {alter(0x80, []byte{4, 9}), apdu.ConditionsNotSatisfied},
		"another chip":           {alter(0x81, []byte{3}), apdu.ConditionsNotSatisfied},
		"another body":           {alter(0x84, []byte("body")), apdu.WrongData},
		"another trust anchor":   {alter(0x85, cvc.EmulatorIssuer().Certificate.Raw), apdu.WrongData},
		"no load file at all":    {[]byte("no TLV"), apdu.WrongData},
		"more blocks than 256":   {make([]byte, 256*230), apdu.IncorrectP1P2},
		"nothing but an object ": {tlv.Append(nil, 0x80, nil), apdu.WrongData},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := fresh(t, 1)
			before := stored(t, l.State.Durable())
			l.must(t, announcing(c.file))
			var last apdu.Response
			for _, b := range blocks(c.file) {
				last = l.say(t, b)
				if last.SW != apdu.OK {
					break
				}
			}
			require.Equal(t, c.want, last.SW)
			require.Equal(t, before, stored(t, l.State.Durable()))
			require.Equal(t, apdu.ConditionsNotSatisfied, l.say(t, installing).SW)
			// And the right one is taken all the same.
			l.update(t, "4.1", newName)
			require.Equal(t, "4.1", l.Durable().Firmware)
		})
	}
	t.Run("longer than can be", func(t *testing.T) {
		t.Parallel()
		l := fresh(t, 2)
		block := apdu.Command{CLA: 0x80, INS: 0xE8, Data: make([]byte, 1000)}
		for range 58 {
			l.must(t, block)
			block.P2++
		}
		require.Equal(t, apdu.NotEnoughMemory, l.say(t, block).SW)
		require.Equal(t, apdu.ConditionsNotSatisfied, l.say(t, block).SW)
	})
	t.Run("another hash value", func(t *testing.T) {
		t.Parallel()
		l := fresh(t, 1)
		l.must(t, announcing(append([]byte{0}, good...)))
		list := blocks(good)
		for _, b := range list[:len(list)-1] {
			l.must(t, b)
		}
		require.Equal(t, apdu.WrongData, l.say(t, list[len(list)-1]).SW)
	})
}

// A certificate that is not this key's, under this name, from the issuer whose
// root came with the firmware, does not make a device: UPDATE-21 and
// UPDATE-22.
func TestUpdate_FinalisesWithTheRightCertificateAlone(t *testing.T) {
	t.Parallel()
	other := manufacture(t, "4.1", "B")
	for name, c := range map[string]struct {
		file func(l *loader, ef []byte) []byte
	}{
		"none":             {func(*loader, []byte) []byte { return nil }},
		"cut short":        {func(_ *loader, ef []byte) []byte { return ef[:len(ef)-1] }},
		"altered":          {func(_ *loader, ef []byte) []byte { ef = bytes.Clone(ef); ef[200] ^= 1; return ef }},
		"another device's": {func(*loader, []byte) []byte { return other.File(0x2F02) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &loader{card: manufacture(t, "4.0", "A")}
			l.load(t, "4.1")
			l.ok(t, selectApplication)
			l.begin(t, scp03.All)
			require.Equal(t, apdu.WrongData, l.say(t, finalising).SW, "no key yet")
			require.Equal(t, apdu.ConditionsNotSatisfied, l.say(t, write(0x2F02, 0, []byte("x"))).SW)
			request, err := cvc.ParseRequest(l.must(t, requesting(newName)))
			require.NoError(t, err)
			key, err := request.Key.EC()
			require.NoError(t, err)
			ef, err := cvc.EmulatorIssuer().IssueDevice(key, request.CHR, l.Env.Now, nil)
			require.NoError(t, err)
			require.Equal(t, apdu.WrongOffset, l.say(t, write(0x2F02, 1, ef[:200])).SW)
			offset := 0
			for part := range slices.Chunk(c.file(l, ef), 200) {
				l.must(t, write(0x2F02, offset, part))
				offset += len(part)
			}
			require.Equal(t, apdu.WrongData, l.say(t, finalising).SW)
			require.Empty(t, l.Result.Commits)
			require.Equal(t, chip.Production, l.State.Durable().Manager.Stage)
			l.cut()
			l.ok(t, selectApplication)
			l.begin(t, scp03.All)
			l.must(t, requesting(newName))
			require.Nil(t, l.State.Durable().Manager.Certificate, "the certificate of another key")
			l.personalise(t, newName)
			require.NoError(t, l.State.Durable().Check())
			require.Equal(t, newName, l.Durable().Device.Name)
		})
	}
}

// Without a secure channel a card is as it was before it had one: whatever is
// said to the card manager is answered by one word, but for the two commands
// that lead to a channel and the data that anybody may have: UPDATE-14.
func TestManager_IsSilentWithoutAChannel(t *testing.T) {
	t.Parallel()
	for _, p := range applet.Profiles() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			c := manufacture(t, p.Name, "A")
			for ins := range 256 {
				for _, class := range []byte{0x00, 0x80, 0x84, 0x04, 0x0C, 0x10} {
					for _, parameters := range [][2]byte{{0, 0}, {0x0C, 0}, {2, 0}, {chip.KeyVersion, 0}, {0x2F, 2}, {0x9F, 0x7F}, {0, 0x80}, {0, 0x66}, {0x33, 0}} {
						for _, n := range []int{0, 1, 8, 16} {
							command := apdu.Command{CLA: class, INS: byte(ins), P1: parameters[0], P2: parameters[1], Data: make([]byte, n), Ne: 256}
							if ins == 0xA4 {
								continue
							}
							r := c.send(command)
							open := class == 0x80 && ins == 0x50 && parameters[0] == chip.KeyVersion && n == 8 ||
								class == 0x80 && ins == 0xCA && n == 0 && (parameters == [2]byte{0x9F, 0x7F} || parameters == [2]byte{0, 0x66})
							if open {
								require.Equal(t, apdu.OK, r.SW)
								c.cut()
								continue
							}
							require.Equal(t, p.NotSelected, r.SW, "%X", command.Bytes())
							require.Empty(t, r.Data)
							require.Empty(t, c.Result.Commits)
						}
					}
				}
			}
		})
	}
}

// What anybody may know of a chip: UPDATE-15.
func TestManager_Data(t *testing.T) {
	t.Parallel()
	c := manufacture(t, "4.1", "A")
	cplc := c.ok(t, apdu.Command{CLA: 0x80, INS: 0xCA, P1: 0x9F, P2: 0x7F, Ne: 256})
	require.Len(t, cplc, 45)
	div := c.ok(t, apdu.Command{CLA: 0x80, INS: 0xCA, P2: 0xCF, Ne: 256})
	require.Equal(t, append(unhex(t, "CF0A0000554D"), cplc[3+12:3+18]...), div)
	require.Equal(t, unhex(t, "6631732F06072A864886FC6B01600C060A2A864886FC6B02020301630906072A864886FC6B03640B06092A864886FC6B040370"),
		c.ok(t, apdu.Command{CLA: 0x80, INS: 0xCA, P2: 0x66, Ne: 256}))
	require.NotEqual(t, cplc, manufacture(t, "4.1", "B").ok(t, apdu.Command{CLA: 0x80, INS: 0xCA, P1: 0x9F, P2: 0x7F, Ne: 256}))
}

// How a channel comes to be and ends: UPDATE-16 and UPDATE-17.
func TestManager_Channel(t *testing.T) {
	t.Parallel()
	l := &loader{card: manufacture(t, "4.0", "A")}
	l.ok(t, selectManager)
	first := l.ok(t, scp03.Begin(chip.KeyVersion, scp03.Challenge{}))
	require.Len(t, l.Result.Commits, 1)
	require.Equal(t, uint32(1), l.State.Durable().Manager.Counter)
	l.cut()
	require.NotEqual(t, first, l.ok(t, scp03.Begin(chip.KeyVersion, scp03.Challenge{})), "a counter is used once")

	// Who does not have the keys may try again and again.
	for range 20 {
		l.ok(t, scp03.Begin(chip.KeyVersion, scp03.Challenge{}))
		require.Equal(t, apdu.WrongSMObject, l.send(apdu.Command{CLA: 0x84, INS: 0x82, P1: 0x33, Data: make([]byte, 16)}).SW)
		require.Equal(t, apdu.InstructionNotSupported, l.send(apdu.Command{CLA: 0x84, INS: 0x82, P1: 0x33, Data: make([]byte, 16)}).SW)
	}
	getData := apdu.Command{CLA: 0x80, INS: 0xCA, P1: 0x9F, P2: 0x7F, Ne: 256}
	for _, level := range []scp03.Level{scp03.Plain, scp03.MAC, scp03.Encrypted, scp03.BothMAC, scp03.AnswerMAC, scp03.All} {
		l.begin(t, level)
		require.Len(t, l.must(t, getData), 45)
	}
	for name, end := range map[string]func(){
		"a plain command": func() { require.Equal(t, apdu.WrongSMObject, l.send(getData).SW) },
		"a wrong code": func() {
			require.Equal(t, apdu.WrongSMObject, l.send(apdu.Command{CLA: 0x84, INS: 0xCA, Data: make([]byte, 8)}).SW)
		},
		"the card manager": func() { l.ok(t, selectManager) },
		"the application":  func() { l.ok(t, selectApplication); l.ok(t, selectManager) },
		"a foreign name":   func() { require.Equal(t, apdu.NotFound, l.send(apdu.Command{INS: 0xA4, P1: 4, Data: []byte{0xA0}}).SW) },
		"a reset":          l.cut,
	} {
		l.begin(t, scp03.All)
		l.must(t, getData)
		end()
		sent, _, err := l.host.Wrap(deleting)
		require.NoError(t, err)
		require.Equal(t, apdu.InstructionNotSupported, l.send(sent).SW, name)
		require.Equal(t, chip.Operational, l.State.Durable().Manager.Stage)
	}
	// Keys of a version that there is not: the channel goes on.
	l.begin(t, scp03.All)
	require.Equal(t, apdu.IncorrectP1P2, l.say(t, scp03.Begin(0x77, scp03.Challenge{})).SW)
	require.Len(t, l.must(t, getData), 45)
	// The application in use has no such commands.
	l.ok(t, selectApplication)
	require.Equal(t, apdu.IncorrectP1P2, l.send(scp03.Begin(chip.KeyVersion, scp03.Challenge{})).SW)
}

// What GET STATUS tells, before, during and after an update: UPDATE-28, GlobalPlatform
// Card Specification §11.4.
func TestManager_Status(t *testing.T) {
	t.Parallel()
	l := &loader{card: manufacture(t, "4.0", "A")}
	ask := func(p1 byte, name string) (string, apdu.SW) {
		r := l.say(t, apdu.Command{CLA: 0x80, INS: 0xF2, P1: p1, P2: 2, Data: tlv.Append(nil, 0x4F, []byte(name)), Ne: 256})
		return fmt.Sprintf("%X", r.Data), r.SW
	}
	expect := func(p1 byte, name, data string) {
		t.Helper()
		got, sw := ask(p1, name)
		require.Equal(t, data, got)
		require.Equal(t, data == "", sw == apdu.ReferenceNotFound)
	}
	const (
		manager     = "E3134F08A0000001510000009F70010FC5039EFE80"
		application = "E3164F0BE82B0601040181C31F02019F700107C503000000"
		file        = "E3104F0AE82B0601040181C31F029F700101"
	)
	require.Equal(t, apdu.InstructionNotSupported, l.send(apdu.Command{CLA: 0x80, INS: 0xF2, P1: 0x40, P2: 2, Data: []byte{0x4F, 0}}).SW)
	l.ok(t, selectManager)
	l.begin(t, scp03.All)
	expect(0x80, "", manager)
	expect(0x40, "", application)
	expect(0x40, apdu.AID, application)
	expect(0x40, "other", "")
	expect(0x20, "", file)
	expect(0x10, chip.Package[:3], "E31D4F0AE82B0601040181C31F029F700101840BE82B0601040181C31F0201")
	for _, wrong := range []apdu.Command{
		{CLA: 0x80, INS: 0xF2, P1: 0x40, P2: 0, Data: []byte{0x4F, 0}}, {CLA: 0x80, INS: 0xF2, P1: 0x41, P2: 2, Data: []byte{0x4F, 0}},
	} {
		require.Equal(t, apdu.IncorrectP1P2, l.say(t, wrong).SW)
	}
	require.Equal(t, apdu.WrongData, l.say(t, apdu.Command{CLA: 0x80, INS: 0xF2, P1: 0x40, P2: 2, Data: []byte{0x4E, 0}}).SW)
	l.must(t, deleting)
	expect(0x80, "", manager)
	expect(0x40, "", "")
	expect(0x20, "", "")
	l.load(t, "4.1")
	l.ok(t, selectManager)
	l.begin(t, scp03.All)
	expect(0x40, "", application)
	expect(0x20, "", file)
}

// newKeys are keys that a master key of somebody makes of a name.
func newKeys(name string) func(scp03.Diversification) scp03.Keys {
	return func(d scp03.Diversification) scp03.Keys { return scp03.Derive([16]byte([]byte(name)[:16]), d) }
}

// putting is PUT KEY for the channel that is open, and its answer.
func (l *loader) putting(t require.TestingT, replaced, version byte, keys func(scp03.Diversification) scp03.Keys) (apdu.Command, []byte) {
	div := l.must(t, apdu.Command{CLA: 0x80, INS: 0xCA, P2: 0xCF, Ne: 256})
	c, answer, err := l.host.PutKey(replaced, version, keys(scp03.Diversification(div[2:])))
	require.NoError(t, err)
	return c, answer
}

// refusesVersion asserts that no channel can be opened with keys of a version.
func (l *loader) refusesVersion(t *testing.T, version byte) {
	t.Helper()
	r := l.send(scp03.Begin(version, scp03.Challenge{}))
	require.Equal(t, l.State.Applet.Profile().NotSelected, r.SW)
	require.Empty(t, l.Result.Commits)
}

// PUT KEY replaces the card manager's keys, or adds some, for good: UPDATE-29, UPDATE-30.
func TestManager_PutKey(t *testing.T) {
	t.Parallel()
	first, second := newKeys("the issuer's own keys"), newKeys("those of next year")
	for _, level := range []scp03.Level{scp03.MAC, scp03.All} {
		l := &loader{card: manufacture(t, "4.0", "A")}
		l.ok(t, selectManager)
		div := scp03.Diversification(l.ok(t, apdu.Command{CLA: 0x80, INS: 0xCA, P2: 0xCF, Ne: 256})[2:])
		l.begin(t, level)
		before := l.State.Durable()
		c, answer := l.putting(t, chip.KeyVersion, 0x31, first)
		require.Equal(t, answer, l.must(t, c))
		require.Len(t, answer, 10)
		require.Len(t, l.Result.Commits, 1, "all three keys at once")
		after := l.State.Durable()
		require.Equal(t, "PUT KEY keys of version 31 (secure messaging) → 9000, done", l.Result.Event.String())
		require.True(t, l.Result.Event.Quiet)
		require.NoError(t, after.Check())
		require.Equal(t, before.Manager.Counter, after.Manager.Counter)

		// The channel goes on, and the key that new keys are encrypted with is its own.
		c, answer = l.putting(t, 0, 0x32, second)
		require.Equal(t, answer, l.must(t, c))

		// The second replaced by itself, and no state before is another one for that.
		kept := l.State.Durable()
		forms := []string{stored(t, before), stored(t, after), stored(t, kept)}
		c, answer = l.putting(t, 0x32, 0x32, first)
		require.Equal(t, answer, l.must(t, c))
		require.NotEqual(t, forms[2], stored(t, l.State.Durable()))
		require.Equal(t, forms, []string{stored(t, before), stored(t, after), stored(t, kept)})

		// A cut before the first, behind it, behind the second and behind the last.
		for _, cut := range []struct {
			d        chip.Durable
			versions map[byte]func(scp03.Diversification) scp03.Keys
		}{
			{before, map[byte]func(scp03.Diversification) scp03.Keys{chip.KeyVersion: newKeys(string(chip.MasterKey[:]))}},
			{after, map[byte]func(scp03.Diversification) scp03.Keys{0x31: first}},
			{kept, map[byte]func(scp03.Diversification) scp03.Keys{0x31: first, 0x32: second}},
			{l.State.Durable(), map[byte]func(scp03.Diversification) scp03.Keys{0x31: first, 0x32: first}},
		} {
			var read chip.Durable
			require.NoError(t, json.Unmarshal([]byte(stored(t, cut.d)), &read))
			again := &loader{card: boot(read, "after the cut")}
			again.ok(t, selectManager)
			for _, version := range []byte{0x00, chip.KeyVersion, 0x31, 0x32, 0x33} {
				if keys, has := cut.versions[version]; has {
					again.beginWith(t, version, keys, level)
					continue
				}
				again.cut()
				again.refusesVersion(t, version)
			}
		}
		// Who has the old keys alone is known at once.
		l.cut()
		challenge := scp03.Challenge{1}
		a, err := scp03.ParseAnswer(l.ok(t, scp03.Begin(0x31, challenge)))
		require.NoError(t, err)
		_, err = scp03.Derive(chip.MasterKey, div).Open(challenge, a)
		require.ErrorIs(t, err, scp03.ErrCryptogram)
		require.Equal(t, byte(0x31), a.Version)
		// Nothing that describes the card shows keys.
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
			keys, err := json.Marshal(first(div))
			require.NoError(t, err)
			text := fmt.Sprintf(verb, l.State.Durable()) + fmt.Sprintf(verb, l.State)
			require.NotContains(t, text, string(keys[1:33]))
		}
	}
}

// Keys stay in a firmware update, they are the chip's: UPDATE-30.
func TestManager_PutKeyStaysInAnUpdate(t *testing.T) {
	t.Parallel()
	own := newKeys("the issuer's own keys")
	l := &loader{card: manufacture(t, "4.0", "A")}
	l.ok(t, selectManager)
	l.begin(t, scp03.All)
	put, _ := l.putting(t, chip.KeyVersion, 0x31, own)
	l.must(t, put)
	sets := l.State.Durable().Manager.KeySets
	var kept []chip.Durable
	l.kept = &kept
	l.keys, l.version = own, 0x31
	l.update(t, "4.1", newName)
	require.Greater(t, len(kept), 8)
	for _, d := range kept {
		require.NoError(t, d.Check())
		require.Equal(t, sets, d.Manager.KeySets)
	}
	require.Equal(t, "4.1", l.Durable().Firmware)
	l.ok(t, selectManager)
	l.refusesVersion(t, chip.KeyVersion)
	l.begin(t, scp03.All)
}

// What PUT KEY refuses, and that it changes nothing: UPDATE-30.
func TestManager_PutKeyRefusals(t *testing.T) {
	t.Parallel()
	l := &loader{card: manufacture(t, "4.0", "A")}
	l.ok(t, selectManager)
	l.begin(t, scp03.All)
	right, _ := l.putting(t, chip.KeyVersion, 0x31, newKeys("the issuer's own keys"))
	at := func(i int, b byte) apdu.Command {
		c := right
		c.Data = bytes.Clone(c.Data)
		c.Data[i] = b
		return c
	}
	with := func(change func(*apdu.Command)) apdu.Command { c := right; change(&c); return c }
	before := stored(t, l.State.Durable())
	for name, c := range map[string]struct {
		c    apdu.Command
		want apdu.SW
	}{
		"no such version":       {with(func(c *apdu.Command) { c.P1 = 0x29 }), apdu.ReferenceNotFound},
		"its own version, anew": {with(func(c *apdu.Command) { c.P1, c.Data = 0, at(0, chip.KeyVersion).Data }), apdu.WrongData},
		"more would follow":     {with(func(c *apdu.Command) { c.P1 |= 0x80 }), apdu.IncorrectP1P2},
		"one key":               {with(func(c *apdu.Command) { c.P2 = 0x01 }), apdu.IncorrectP1P2},
		"another number":        {with(func(c *apdu.Command) { c.P2 = 0x82 }), apdu.IncorrectP1P2},
		"no data":               {with(func(c *apdu.Command) { c.Data = nil }), apdu.WrongLength},
		"version 00":            {at(0, 0), apdu.WrongData},
		"version 80":            {at(0, 0x80), apdu.WrongData},
		"a key for DES":         {at(1, 0x80), apdu.KeyTypeNotSupported},
		"the third for DES":     {at(47, 0x80), apdu.KeyTypeNotSupported},
		"a longer key":          {at(3, 0x18), apdu.WrongData},
		"no check value":        {at(20, 0), apdu.WrongData},
		"wrong check value":     {at(21, right.Data[21]^1), apdu.WrongKeyCheckValue},
		"the third's is wrong":  {at(69, right.Data[69]^1), apdu.WrongKeyCheckValue},
		"another encrypted key": {at(30, right.Data[30]^1), apdu.WrongKeyCheckValue},
		"two keys":              {with(func(c *apdu.Command) { c.Data = c.Data[:47] }), apdu.WrongData},
		"cut short":             {with(func(c *apdu.Command) { c.Data = c.Data[:69] }), apdu.WrongData},
		"version alone":         {with(func(c *apdu.Command) { c.Data = c.Data[:1] }), apdu.WrongData},
		"more than three":       {with(func(c *apdu.Command) { c.Data = append(bytes.Clone(c.Data), 0) }), apdu.WrongData},
	} {
		require.Equal(t, c.want, l.say(t, c.c).SW, name)
		require.Empty(t, l.Result.Commits, name)
		require.Equal(t, before, stored(t, l.State.Durable()), name)
	}
	// There is room for three sets.
	for version := byte(0x31); version < 0x33; version++ {
		l.must(t, with(func(c *apdu.Command) { c.P1, c.Data = 0, at(0, version).Data }))
	}
	require.Equal(t, apdu.NotEnoughMemory, l.say(t, with(func(c *apdu.Command) { c.P1, c.Data = 0, at(0, 0x33).Data })).SW)
	require.Equal(t, apdu.WrongData, l.say(t, with(func(c *apdu.Command) { c.P1 = 0x32 })).SW, "31 is another's")
	l.must(t, with(func(c *apdu.Command) { c.P1, c.Data = 0x32, at(0, 0x33).Data }))
	require.Len(t, l.State.Durable().Manager.KeySets, 3)
	// Without a channel, and to the application in production, it is not there.
	l.cut()
	require.Equal(t, apdu.InstructionNotSupported, l.send(right).SW)
	l.begin(t, scp03.All)
	l.must(t, deleting)
	l.load(t, "4.1")
	l.ok(t, selectApplication)
	l.begin(t, scp03.All)
	require.Equal(t, apdu.InstructionNotSupported, l.say(t, right).SW)
}

// A state that no update leads to is none.
func TestManager_Check(t *testing.T) {
	t.Parallel()
	l := &loader{card: manufacture(t, "4.0", "A")}
	l.load(t, "4.1")
	l.ok(t, selectApplication)
	l.begin(t, scp03.All)
	l.must(t, requesting(newName))
	good := l.State.Durable()
	require.NoError(t, good.Check())
	own := newKeys("the issuer's own keys")(scp03.Diversification{})
	pins := manufacture(t, "4.0", "A")
	pins.ok(t, selectApplication)
	pins.ok(t, setup(0x0001, userPIN, soPIN, 3))
	for name, change := range map[string]func(*chip.Durable){
		"counter too high":       func(d *chip.Durable) { d.Manager.Counter = scp03.MaxCounter + 1 },
		"no chip":                func(d *chip.Durable) { d.Manager.Chip = nil },
		"short chip":             func(d *chip.Durable) { d.Manager.Chip = d.Manager.Chip[1:] },
		"no channel":             func(d *chip.Durable) { d.Manager.Counter = 0 },
		"unknown stage":          func(d *chip.Durable) { d.Manager.Stage = "broken" },
		"empty with firmware":    func(d *chip.Durable) { d.Manager.Stage = chip.Empty },
		"loaded with a key":      func(d *chip.Durable) { d.Manager.Stage = chip.Loaded },
		"in use with a key":      func(d *chip.Durable) { d.Manager.Stage, d.Manager.Firmware = chip.Operational, "" },
		"another generation":     func(d *chip.Durable) { d.Manager.Firmware = "3.6" },
		"not the newest":         func(d *chip.Durable) { d.Manager.Firmware = "4.0" },
		"key without name":       func(d *chip.Durable) { d.Manager.Name = "" },
		"a long name":            func(d *chip.Durable) { d.Manager.Name += "0" },
		"certificate too long":   func(d *chip.Durable) { d.Manager.Certificate = make([]byte, 1463) },
		"key with a list":        func(d *chip.Durable) { d.Manager.Key.Algorithms = goldenKeys(t, l.Env)[6].Algorithms },
		"key of a kind":          func(d *chip.Durable) { d.Manager.Key = goldenKeys(t, l.Env)[1] },
		"PINs of a gone one":     func(d *chip.Durable) { d.Applet.PINs = pins.Durable().PINs },
		"an application not one": func(d *chip.Durable) { d.Applet.Files = nil },
		"keys of no version":     func(d *chip.Durable) { d.Manager.KeySets = []chip.KeySet{{0, own}} },
		"keys of version 80":     func(d *chip.Durable) { d.Manager.KeySets = []chip.KeySet{{0x80, own}} },
		"a version without keys": func(d *chip.Durable) { d.Manager.KeySets = []chip.KeySet{{Version: 0x30}} },
		"a version twice":        func(d *chip.Durable) { d.Manager.KeySets = []chip.KeySet{{0x30, own}, {0x31, own}, {0x30, own}} },
		"four sets of keys":      func(d *chip.Durable) { d.Manager.KeySets = []chip.KeySet{{1, own}, {2, own}, {3, own}, {4, own}} },
		"keys without a channel": func(d *chip.Durable) {
			d.Manager = chip.Manager{KeySets: []chip.KeySet{{0x31, own}}}
		},
	} {
		d := good
		change(&d)
		require.ErrorIs(t, d.Check(), applet.ErrState, name)
	}
}

// FuzzManager has somebody with the right keys say anything to the card manager,
// and to an application in production: the first byte chooses how far an update
// has come, then come commands behind their lengths in two bytes, as for
// FuzzChip. What is saved is always a state that a card can be in.
func FuzzManager(f *testing.F) {
	seed := func(stage byte, commands ...apdu.Command) {
		session := []byte{stage}
		for _, c := range commands {
			b := c.Bytes()
			session = append(append(session, byte(len(b)>>8), byte(len(b))), b...)
		}
		f.Add(session)
	}
	file := chip.LoadFile(applet.Profiles()[10])
	seed(0, deleting, announcing(file), blocks(file)[0], deleting)
	short := tlv.Append(nil, 0x80, []byte{4, 1})
	seed(1, announcing(short), apdu.Command{CLA: 0x80, INS: 0xE8, P1: 0x80, Data: tlv.Append(nil, 0xC4, short)}, installing)
	seed(2, installing, deleting)
	seed(3, requesting(newName), write(0x2F02, 0, []byte("x")), finalising, selectManager, deleting)
	starts := make([]*loader, 4)
	for i := range starts {
		l := &loader{card: manufacture(f, "4.0", "A")}
		l.ok(f, selectManager)
		l.begin(f, scp03.BothMAC)
		if i > 0 {
			l.must(f, deleting)
		}
		if i > 1 {
			l.must(f, announcing(file))
			for _, b := range blocks(file) {
				l.must(f, b)
			}
		}
		if i > 2 {
			l.must(f, installing)
			l.ok(f, selectApplication)
			l.begin(f, scp03.BothMAC)
		}
		starts[i] = l
	}
	for i, l := range starts[:3] { // all of the same chip, with the same keys
		replace, _ := l.putting(f, chip.KeyVersion, 0x31, newKeys("the issuer's own keys"))
		beside, _ := l.putting(f, 0, 0x32, newKeys("those of next year"))
		back, _ := l.putting(f, 0x31, chip.KeyVersion, newKeys("the issuer's own keys"))
		seed(byte(i), replace, beside, deleting, back)
	}
	f.Fuzz(func(t *testing.T, session []byte) {
		if len(session) == 0 {
			return
		}
		l := *starts[int(session[0])%len(starts)]
		l.card.Card = l.Copy()
		for rest, n := session[1:], 0; len(rest) >= 2 && n < 20; n++ {
			size := min(int(rest[0])<<8|int(rest[1]), len(rest)-2)
			c, err := apdu.Parse(rest[2 : 2+size])
			rest = rest[2+size:]
			if err != nil || c.CLA&scp03.ClassSecure != 0 {
				continue
			}
			before := stored(t, l.State.Durable())
			if c.INS == 0xA4 {
				l.send(c)
				require.Empty(t, l.Result.Commits)
				break // and the channel is gone
			}
			r := l.say(t, c)
			require.NoError(t, l.Result.Event.Defect)
			if r.SW != apdu.OK {
				require.Empty(t, l.Result.Commits)
				require.Equal(t, before, stored(t, l.State.Durable()))
			}
			for _, d := range l.Result.Commits {
				require.NoError(t, d.Check(), l.Result.Event.String())
			}
			if l.State.Durable().Manager.Stage == chip.Operational && session[0]%4 == 3 {
				break
			}
		}
	})
}
