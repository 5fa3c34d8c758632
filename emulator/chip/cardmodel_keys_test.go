package chip_test

import (
	"maps"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hsmemu/applet/apdu"
	"hsmemu/applet/tlv"
)

// The actions of the model on keys, key domains and files.

// user refuses a command if no user is logged in.
func (m *machine) user(c apdu.Command) bool {
	if !m.session.user {
		m.refuse(c, apdu.SecurityStatus)
	}
	return m.session.user
}

var (
	keyIDs = []byte{1, 1, 2, 2, 3, 0}
	lists  = []string{"none", "\x70\x73\x92", "\x10\x18\x92\x94", "\x73\x92\x94", "\x18", "\x33\x92", "\x73\x92\x98", ""}
)

// anyKey draws a key number, mostly one that is in use.
func (m *machine) anyKey(t *rapid.T) byte {
	if ids := slices.Sorted(maps.Keys(m.s.keys)); len(ids) > 0 && rapid.IntRange(0, 3).Draw(t, "in use") > 0 {
		return rapid.SampledFrom(ids).Draw(t, "key")
	}
	return rapid.SampledFrom(keyIDs).Draw(t, "key")
}

// GenerateKey makes a key, in place of what was there.
func (m *machine) GenerateKey(t *rapid.T) {
	m.t = t
	id := rapid.SampledFrom(keyIDs).Draw(t, "key")
	k := modelKey{kind: rapid.SampledFrom([]string{"EC", "AES", "AES", "RSA"}).Draw(t, "kind")}
	var more [][]byte
	if uses := rapid.SampledFrom([]int{-1, 2, 1, 0}).Draw(t, "uses"); uses >= 0 {
		k.limited, k.uses = true, uses
		more = append(more, tlv.Append(nil, 0x90, []byte{byte(uses)}))
	}
	if list := rapid.SampledFrom(lists).Draw(t, "list"); list != "none" {
		k.restricted, k.list = true, list
		more = append(more, tlv.Append(nil, 0x91, []byte(list)))
	}
	domain := rapid.SampledFrom([]int{-1, 0, 1, 2, 3}).Draw(t, "domain")
	if domain >= 0 {
		k.domain = byte(domain)
		more = append(more, tlv.Append(nil, 0x92, []byte{byte(domain)}))
	}
	c := apdu.Command{INS: 0x48, P1: id, P2: 0xB0}
	for _, part := range more {
		c.Data = append(c.Data, part...)
	}
	switch k.kind {
	case "EC":
		c = generate(id, "secp256r1", more...)
	case "RSA":
		c = generateRSA(id, 1024, more...)
	}
	slot := modelDomain{}
	if int(k.domain) < len(m.s.domains) {
		slot = m.s.domains[k.domain]
	}
	switch {
	case !m.user(c):
	case id == 0:
		m.refuse(c, apdu.IncorrectP1P2)
	case domain >= 0 && slot.total == 0 && (len(m.s.domains) > 0 || domain > 0):
		m.refuse(c, apdu.ReferenceNotFound)
	case slot.missing > 0:
		m.refuse(c, apdu.ConditionsNotSatisfied)
	default:
		m.next++
		k.identity = m.next
		next := m.s.copied()
		next.keys[id] = k
		m.change(c, next)
	}
}

// operations are an algorithm for each kind of key, and its instruction.
var operations = map[string]struct{ ins, algorithm byte }{"EC": {0x68, 0x73}, "RSA": {0x68, 0x33}, "AES": {0x78, 0x18}}

// allowed reports whether a key may be used for an algorithm.
func (k modelKey) allowed(algorithm byte) bool {
	if k.restricted {
		return strings.Contains(k.list, string([]byte{algorithm}))
	}
	return algorithm == 0x92 || operations[k.kind].algorithm == algorithm
}

// UseKey signs or computes a MAC.
func (m *machine) UseKey(t *rapid.T) {
	m.t = t
	id := m.anyKey(t)
	kind := rapid.SampledFrom([]string{"EC", "RSA", "AES"}).Draw(t, "operation")
	if k, exists := m.s.keys[id]; exists && rapid.IntRange(0, 3).Draw(t, "fitting") > 0 {
		kind = k.kind
	}
	o := operations[kind]
	c := apdu.Command{CLA: 0x80, INS: o.ins, P1: id, P2: o.algorithm, Data: []byte("message"), Ne: 256}
	k, exists := m.s.keys[id]
	switch {
	case !m.user(c):
	case id == 0:
		m.refuse(c, apdu.FunctionNotSupported)
	case !exists:
		m.refuse(c, apdu.ReferenceNotFound)
	case !k.allowed(o.algorithm):
		m.refuse(c, apdu.FunctionNotSupported)
	case k.limited && k.uses == 0:
		m.refuse(c, apdu.ReferenceDataNotUsable)
	default:
		sw, states := apdu.OK, saved(nil)
		if k.kind != kind {
			sw = apdu.FunctionNotSupported
		}
		if k.limited {
			k.uses--
			next := m.s.copied()
			next.keys[id] = k
			states = saved{next}
		}
		m.do(c, sw, states, m.session)
	}
}

// DeleteKey deletes a key.
func (m *machine) DeleteKey(t *rapid.T) {
	m.t = t
	id := rapid.SampledFrom(keyIDs).Draw(t, "key")
	c := apdu.Command{INS: 0xE4, P1: 2, Data: []byte{0xCC, id}}
	_, exists := m.s.keys[id]
	switch {
	case !m.user(c):
	case id == 0:
		m.refuse(c, apdu.SecurityStatus)
	case !exists:
		m.refuse(c, apdu.NotFound)
	default:
		next := m.s.copied()
		delete(next.keys, id)
		m.change(c, next)
	}
}

// Wrap takes a key out, for later.
func (m *machine) Wrap(t *rapid.T) {
	m.t = t
	id := m.anyKey(t)
	c := apdu.Command{CLA: 0x80, INS: 0x72, P1: id, P2: 0x92, Ne: 65536}
	k, exists := m.s.keys[id]
	switch {
	case !m.user(c):
	case id == 0:
		m.refuse(c, apdu.CommandNotAllowed)
	case len(m.s.domains) == 0:
		m.refuse(c, apdu.InstructionNotSupported)
	case !exists:
		m.refuse(c, apdu.ReferenceNotFound)
	case int(k.domain) >= len(m.s.domains) || !m.s.domains[k.domain].ready():
		m.refuse(c, apdu.ConditionsNotSatisfied)
	case !k.allowed(0x92):
		m.refuse(c, apdu.FunctionNotSupported)
	default:
		blob := m.do(c, apdu.OK, nil, m.session)
		if len(blob) == 0 {
			return // the application was not selected
		}
		k.limited, k.uses = false, 0
		switch {
		case k.kind == "AES" && !k.restricted:
			k.restricted, k.list = true, "\x10\x11\x18\x99"
		case k.list == "":
			k.restricted = false
		}
		m.blobs = append(m.blobs, modelBlob{blob, m.s.domains[k.domain].kcv(), k})
	}
}

// Unwrap brings a key back, or one that never left this card since.
func (m *machine) Unwrap(t *rapid.T) {
	if len(m.blobs) == 0 {
		return
	}
	m.t = t
	id := rapid.SampledFrom(keyIDs).Draw(t, "key")
	blob := rapid.SampledFrom(m.blobs).Draw(t, "blob")
	c := apdu.Command{CLA: 0x80, INS: 0x74, P1: id, P2: 0x93, Data: slices.Clone(blob.bytes), Extended: true}
	altered := max(0, rapid.IntRange(-8, 1).Draw(t, "altered"))
	c.Data[len(c.Data)-1] ^= byte(altered)
	ready, slot := 0, -1
	for i, d := range m.s.domains {
		if d.ready() {
			ready++
			if slot < 0 && d.kcv() == blob.kcv {
				slot = i
			}
		}
	}
	old, exists := m.s.keys[id]
	same := exists && strings.Contains(old.list, "\x94") && old.kind == blob.key.kind && (old.kind == "AES" || old.identity == blob.key.identity)
	switch {
	case !m.user(c):
	case id == 0:
		m.refuse(c, apdu.CommandNotAllowed)
	case len(m.s.domains) == 0:
		m.refuse(c, apdu.InstructionNotSupported)
	case ready == 0:
		m.refuse(c, apdu.ConditionsNotSatisfied)
	case slot < 0:
		m.refuse(c, apdu.ReferenceNotFound)
	case altered > 0:
		m.refuse(c, apdu.ExecutionFailed)
	case exists && !same:
		m.refuse(c, apdu.AlreadyExists)
	default:
		next := m.s.copied()
		k := blob.key
		k.domain = byte(slot)
		next.keys[id] = k
		m.change(c, next)
	}
}

// ManageDomain goes through the forms of MANAGE KEY DOMAIN.
func (m *machine) ManageDomain(t *rapid.T) {
	m.t = t
	slot := rapid.SampledFrom([]int{0, 0, 1, 2, 3}).Draw(t, "slot")
	what := rapid.SampledFrom([]string{"create", "status", "import", "delete", "clear"}).Draw(t, "what")
	n := byte(rapid.IntRange(0, 2).Draw(t, "shares"))
	share := [32]byte{byte(rapid.IntRange(1, 3).Draw(t, "share"))}
	c := apdu.Command{CLA: 0x80, INS: 0x52, P2: byte(slot), Ne: 256}
	switch what {
	case "import":
		c.Data = share[:]
	case "create":
		c.P1, c.Data = 1, []byte{n}
	case "delete":
		c.P1 = 3
	case "clear":
		c.P1 = 4
	}
	free := what == "status" || what == "import"
	var d modelDomain
	if slot < len(m.s.domains) {
		d = m.s.domains[slot]
	}
	next := m.s.copied()
	switch {
	case !free && !m.user(c):
	case len(m.s.domains) == 0:
		m.refuse(c, apdu.InstructionNotSupported)
	case slot >= len(m.s.domains):
		m.refuse(c, apdu.IncorrectP1P2)
	case what == "create" && d.total > 0:
		m.refuse(c, apdu.ConditionsNotSatisfied)
	case what == "create":
		next.domains[slot] = modelDomain{total: int(n), missing: int(n)}
		if n == 0 {
			next.domains[slot] = modelDomain{total: 1, random: "?"}
		}
		m.change(c, next)
	case d.total == 0:
		m.refuse(c, apdu.ReferenceNotFound)
	case what == "status":
		data := m.do(c, apdu.OK, nil, m.session)
		if m.session.selected {
			require.Equal(t, string([]byte{byte(d.total), byte(d.missing)})+d.kcv(), string(data))
		}
	case what == "import" && d.missing == 0:
		m.refuse(c, apdu.ConditionsNotSatisfied)
	case what == "import":
		m.importShare(slot, share[0])
	case what == "clear":
		next.domains[slot] = modelDomain{total: d.total, missing: d.total}
		switch {
		case m.keysIn(slot) && d.ready():
			next.domains[slot].owner = d.kcv()
		case m.keysIn(slot):
			next.domains[slot].owner = d.owner
		}
		m.change(c, next)
	case m.keysIn(slot):
		m.refuse(c, apdu.AlreadyExists)
	default:
		next.domains[slot] = modelDomain{}
		m.do(c, apdu.ReferenceNotFound, saved{next}, m.session)
	}
}

// keysIn reports whether keys belong to a slot.
func (m *machine) keysIn(slot int) bool {
	for _, k := range m.s.keys {
		if int(k.domain) == slot {
			return true
		}
	}
	return false
}

// importShare imports a share of 32 bytes, of which the first is given, into a
// slot that waits for one. The last share has to make the key that the keys of
// a cleared domain belong to.
func (m *machine) importShare(slot int, first byte) {
	share := [32]byte{first}
	c := apdu.Command{CLA: 0x80, INS: 0x52, P2: byte(slot), Data: share[:], Ne: 256}
	next := m.s.copied()
	d := &next.domains[slot]
	d.missing--
	d.sum[0] ^= first
	switch {
	case d.ready() && d.owner != "" && d.owner != d.kcv():
		m.refuse(c, apdu.WrongData)
	default:
		if d.ready() {
			d.owner = ""
		}
		m.change(c, next)
	}
}

// Derive derives an EC key from one that lists it; of a parameter that changes
// nothing there is no key, but the use is counted.
func (m *machine) Derive(t *rapid.T) {
	m.t = t
	id, child := m.anyKey(t), rapid.SampledFrom(keyIDs).Draw(t, "child")
	param := rapid.SampledFrom([]string{"\x01", "\x01", "\x00"}).Draw(t, "parameter")
	c := apdu.Command{CLA: 0x80, INS: 0x76, P1: id, P2: child, Data: []byte("\x98" + param)}
	k, exists := m.s.keys[id]
	_, used := m.s.keys[child]
	switch {
	case !m.user(c):
	case child == 0:
		m.refuse(c, apdu.IncorrectP1P2)
	case used:
		m.refuse(c, apdu.AlreadyExists)
	case id == 0:
		m.refuse(c, apdu.FunctionNotSupported)
	case !exists:
		m.refuse(c, apdu.ReferenceNotFound)
	case !strings.Contains(k.list, "\x98"):
		m.refuse(c, apdu.FunctionNotSupported)
	case k.limited && k.uses == 0:
		m.refuse(c, apdu.ReferenceDataNotUsable)
	default:
		m.derive(c, k, param != "\x00")
	}
}

// derive is Derive from where nothing refuses it any more but the kind of the
// key and a parameter without effect.
func (m *machine) derive(c apdu.Command, k modelKey, different bool) {
	var states saved
	next := m.s.copied()
	if k.limited {
		k.uses--
		next.keys[c.P1] = k
		states = append(states, next)
	}
	switch {
	case k.kind != "EC":
		m.do(c, apdu.FunctionNotSupported, states, m.session)
	case !different:
		m.do(c, apdu.WrongData, states, m.session)
	default:
		m.next++
		next = next.copied()
		next.keys[c.P2] = modelKey{kind: "EC", identity: m.next, restricted: true, list: strings.ReplaceAll(k.list, "\x98", ""), domain: k.domain}
		m.do(c, apdu.OK, append(states, next), m.session)
	}
}

// WriteFile writes a file.
func (m *machine) WriteFile(t *rapid.T) {
	m.t = t
	id, text := rapid.SampledFrom(fileIDs).Draw(t, "file"), rapid.SampledFrom([]string{"a", "bc", "private"}).Draw(t, "text")
	c := write(id, 0, []byte(text))
	if m.user(c) {
		next := m.s.copied()
		next.files[id] = text
		m.change(c, next)
	}
}

var fileIDs = []uint16{0xCF00, 0xCE01, 0xCD00}

// ReadFile reads a file.
func (m *machine) ReadFile(t *rapid.T) {
	m.t = t
	id := rapid.SampledFrom(fileIDs).Draw(t, "file")
	c := apdu.Command{INS: 0xB1, P1: byte(id >> 8), P2: byte(id), Data: []byte{0x54, 2, 0, 0}, Ne: 256}
	text, exists := m.s.files[id]
	switch {
	case id == 0xCD00 && !m.user(c):
	case !exists:
		m.refuse(c, apdu.NotFound)
	default:
		data := m.do(c, apdu.OK, nil, m.session)
		if m.session.selected {
			require.Equal(t, text, string(data))
		}
	}
}

// DeleteFile deletes a file.
func (m *machine) DeleteFile(t *rapid.T) {
	m.t = t
	id := rapid.SampledFrom(fileIDs).Draw(t, "file")
	c := apdu.Command{INS: 0xE4, P1: 2, Data: []byte{byte(id >> 8), byte(id)}}
	_, exists := m.s.files[id]
	switch {
	case !m.user(c):
	case !exists:
		m.refuse(c, apdu.NotFound)
	default:
		next := m.s.copied()
		delete(next.files, id)
		m.change(c, next)
	}
}
