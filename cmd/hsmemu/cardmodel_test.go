package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/applet/cvc"
	"hsmemu/applet/tlv"
	"hsmemu/emulator/chip"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
)

// account is what can be told of a card by somebody who wrote down what he did
// with it: its counters, its PIN, and each key, file and key domain, by a name
// such as "key 3". A value of unknown is for what only the card knows.
type account map[string]string

const unknown = "?"

// accountOf tells what a card holds in truth.
func accountOf(d chip.Durable) account {
	a, card := account{}, d.Applet
	if card.PINs.Initialised {
		a["SO tries"] = strconv.Itoa(int(card.PINs.SO.Left))
		a["tries"] = strconv.Itoa(int(card.PINs.User.Left))
		a["PIN"] = string(card.PINs.User.Value)
		a["SO-PIN"] = string(card.PINs.SO.Value)
	}
	for id, k := range card.Keys {
		a[fmt.Sprint("key ", id)] = identityOf(k)
		if k.Uses.Limited {
			a[fmt.Sprint("uses of key ", id)] = fmt.Sprint(k.Uses.Left)
		}
	}
	for _, f := range card.Files {
		if f.ID != 0x2F02 {
			a[fmt.Sprintf("file %04X", f.ID)] = hex.EncodeToString(f.Data)
		}
	}
	for slot, domain := range card.Domains {
		a[fmt.Sprint("domain ", slot)] = fmt.Sprintf("%d of %d missing, %X", domain.Outstanding(), domain.Total(), domain.KCV())
	}
	return a
}

// identityOf is a public key, or the hash of a secret one.
func identityOf(k keystore.Key) string {
	if k.Kind() == keystore.EC {
		return hex.EncodeToString(k.ECPublic().Bytes())
	}
	k.Uses, k.Algorithms, k.Domain = keystore.Uses{}, nil, 0
	form, err := json.Marshal(k)
	if err != nil {
		panic(err) // of a key in memory
	}
	return fmt.Sprintf("%x", sha256.Sum256(form))
}

// is reports whether the account is borne out: everything in it is there, and
// nothing else is.
func (a account) is(found account) bool {
	if len(a) != len(found) {
		return false
	}
	for name, v := range a {
		if w, there := found[name]; !there || v != unknown && v != w {
			return false
		}
	}
	return true
}

// with and without are other accounts, changed in one thing.
func (a account) with(name, value string) account {
	b := maps.Clone(a)
	b[name] = value
	return b
}

func (a account) without(names ...string) account {
	b := maps.Clone(a)
	for _, n := range names {
		delete(b, n)
	}
	return b
}

func (a account) number(name string) int {
	n, _ := strconv.Atoi(a[name]) // 0 if there is none
	return n
}

// less is an account with a counter one lower.
func (a account) less(counter string) account {
	return a.with(counter, strconv.Itoa(a.number(counter)-1))
}

// deed is a command, and what it does to the card that it is given to.
type deed struct {
	name    string
	command []byte
	// spends names the counter that is charged before the card looks at what
	// was presented; empty if there is none.
	spends string
	// done is the card after the command was carried out; with the answer, if
	// one came. Nil is a command that only spends, or changes nothing.
	done func(a account, answer []byte) account
}

// charged is the card after the charge alone.
func (d deed) charged(before account) account {
	if _, counts := before[d.spends]; !counts {
		return before
	}
	return before.less(d.spends)
}

// outcomes are all the cards that a loss of power may leave.
func (d deed) outcomes(before account) []account {
	list := []account{before, d.charged(before)}
	if d.done != nil {
		list = append(list, d.done(before, nil))
	}
	return list
}

// settled is the card after an answer.
func (d deed) settled(before account, r apdu.Response) account {
	_, tries := r.SW.Tries()
	switch {
	case r.SW == apdu.OK && d.done != nil:
		return d.done(before, r.Data)
	case r.SW == apdu.OK, tries:
		return d.charged(before)
	}
	return before
}

// restores reports whether a right PIN is in the command, after which a counter
// may be higher.
func (d deed) restores() bool { return d.spends != "" && d.done != nil }

// driver makes up what is done with a card. What it has to remember for that
// is in the account and in blobs.
type driver struct {
	*rand.Rand
	blobs []blob
	files int // how many file numbers are in use
	// out tells that nobody is logged in, so that most deeds would be refused.
	out bool
	// The SO-PIN, the user PIN, another one for changes, and a wrong one.
	so, pin, other, wrong string
}

// blob is a key that was wrapped.
type blob struct {
	identity string
	wrapped  []byte
}

func newDriver(seed uint64) *driver {
	return &driver{
		Rand: rand.New(rand.NewPCG(seed, 0)), files: 6,
		so: driverSOPIN, pin: driverPIN, other: otherPIN, wrong: "999999",
	}
}

const (
	driverSOPIN = "57621880"
	driverPIN   = "648219"
	otherPIN    = "135790246"
	tooLow      = 2 // a counter is not spent to the end, or nothing more would happen
)

var driverShare = sha256.Sum256([]byte("a DKEK share of this test"))

func wire(ins, p1, p2 byte, data ...[]byte) []byte {
	return apdu.Command{INS: ins, P1: p1, P2: p2, Data: bytes.Join(data, nil), Extended: len(bytes.Join(data, nil)) > 255}.Bytes()
}

func wireFor(answer int, ins, p1, p2 byte, data ...[]byte) []byte {
	return apdu.Command{INS: ins, P1: p1, P2: p2, Data: bytes.Join(data, nil), Ne: answer, Extended: true}.Bytes()
}

var wireSelect = wire(0xA4, 0x04, 0x0C, []byte(apdu.AID))

// set and drop are what most commands do.
func set(name, value string) func(account, []byte) account {
	return func(a account, _ []byte) account { return a.with(name, value) }
}

func drop(names ...string) func(account, []byte) account {
	return func(a account, _ []byte) account { return a.without(names...) }
}

// initialise is INITIALIZE DEVICE with the right or a wrong SO-PIN.
func (d *driver) initialise(so string) deed {
	w := deed{name: "INITIALIZE DEVICE", spends: "SO tries", command: wire(0x50, 0, 0,
		tlv.Append(nil, 0x80, []byte{0x00, 0x01}), tlv.Append(nil, 0x81, []byte(d.pin)),
		tlv.Append(nil, 0x82, []byte(so)), tlv.Append(nil, 0x91, []byte{3}), tlv.Append(nil, 0x92, []byte{1}))}
	if so == d.so {
		w.done = func(account, []byte) account {
			return account{
				"SO tries": "15", "tries": "3", "PIN": d.pin, "SO-PIN": d.so,
				"domain 0": "1 of 1 missing, 0000000000000000",
			}
		}
	}
	return w
}

func (d *driver) verify(a account, pin string) deed {
	w := deed{name: "VERIFY", spends: "tries", command: wire(0x20, 0, 0x81, []byte(pin))}
	if pin == a["PIN"] {
		w.done = set("tries", "3")
	}
	return w
}

func (d *driver) verifySO(pin string) deed {
	w := deed{name: "VERIFY SO-PIN", spends: "SO tries", command: wire(0x20, 0, 0x88, []byte(pin))}
	if pin == d.so {
		w.done = set("SO tries", "15")
	}
	return w
}

func (d *driver) change(a account, old, pin string) deed {
	w := deed{name: "CHANGE REFERENCE DATA", spends: "tries", command: wire(0x24, 0, 0x81, []byte(old+pin))}
	if old == a["PIN"] {
		w.done = func(a account, _ []byte) account { return a.with("tries", "3").with("PIN", pin) }
	}
	return w
}

func (d *driver) unblock(so, pin string) deed {
	w := deed{name: "RESET RETRY COUNTER", spends: "SO tries", command: wire(0x2C, 0, 0x81, []byte(so+pin))}
	if so == d.so {
		w.done = func(a account, _ []byte) account {
			return a.with("SO tries", "15").with("tries", "3").with("PIN", pin)
		}
	}
	return w
}

func (d *driver) importShare() deed {
	return deed{name: "IMPORT SHARE", command: wireFor(256, 0x52, 0, 0, driverShare[:]), done: set("domain 0", unknown)}
}

// keyTemplate is the public key template for secp256r1 in GENERATE ASYMMETRIC
// KEY PAIR.
func keyTemplate() []byte {
	c, _ := curve.ByName("secp256r1")
	return cvc.ECTemplate(cvc.ECDSASHA256, c)
}

// generate makes an EC key in place of what was there: with its certificate
// request in a file beside it, or with the request in the answer.
func (d *driver) generate(id int) deed {
	key, file, uses := fmt.Sprint("key ", id), fmt.Sprintf("file CE%02X", id), fmt.Sprint("uses of key ", id)
	data := [][]byte{tlv.Append(nil, 0x42, []byte("UTCA00001")), keyTemplate(), tlv.Append(nil, 0x5F20, []byte("UTKEY00001"))}
	limited := d.IntN(2) == 0
	if limited {
		data = append(data, tlv.Append(nil, 0x90, []byte{50}))
	}
	beside := d.IntN(2) == 0
	w := deed{name: "GENERATE ASYMMETRIC KEY PAIR", done: func(a account, answer []byte) account {
		a = a.with(key, unknown).without(uses)
		if limited {
			a[uses] = "50"
		}
		if beside {
			a[file] = unknown
		} else if request, err := cvc.ParseAuthenticated(answer); err == nil {
			if public, err := request.Request.Key.EC(); err == nil {
				a[key] = hex.EncodeToString(public.Bytes())
			}
		}
		return a
	}}
	w.command = wireFor(65536, 0x46, byte(id), 0, data...)
	if beside {
		w.command = wireFor(0, 0x46, byte(id), 0, data...)
	}
	return w
}

func (d *driver) generateAES(id int) deed {
	key, uses := fmt.Sprint("key ", id), fmt.Sprint("uses of key ", id)
	return deed{
		name: "GENERATE SYMMETRIC KEY", command: wire(0x48, byte(id), 0xB0, tlv.Append(nil, 0x91, []byte{0x10, 0x11, 0x18, 0x92})),
		done: func(a account, _ []byte) account { return a.with(key, unknown).without(uses) },
	}
}

func (d *driver) sign(id int) deed {
	hash := sha256.Sum256([]byte{byte(id)})
	return deed{name: "SIGN", spends: fmt.Sprint("uses of key ", id), command: wireFor(256, 0x68, byte(id), 0x70, hash[:])}
}

// write replaces a file or writes at its end.
func (d *driver) write(a account) deed {
	id := d.IntN(d.files)
	name := fmt.Sprintf("file CF%02X", id)
	content := make([]byte, []int{0, 1, 200, 900}[d.IntN(4)])
	for i := range content {
		content[i] = byte(d.Uint32())
	}
	old, _ := hex.DecodeString(a[name])
	offset := 0
	if len(old) > 0 && len(old) < 2000 && d.IntN(3) == 0 {
		offset = len(old)
	}
	w := deed{name: "UPDATE BINARY", command: wire(0xD7, 0xCF, byte(id),
		tlv.Append(nil, 0x54, []byte{byte(offset >> 8), byte(offset)}), tlv.Append(nil, 0x53, content))}
	if _, exists := a[name]; exists && len(content) == 0 {
		w.done = func(a account, _ []byte) account { return a } // nothing is written over it
	} else {
		w.done = set(name, hex.EncodeToString(append(old[:offset:offset], content...)))
	}
	return w
}

func (d *driver) erase(key bool) deed {
	id := d.IntN(d.files)
	if key {
		id++
		return deed{
			name: "DELETE FILE of a key", command: wire(0xE4, 0x02, 0, []byte{0xCC, byte(id)}),
			done: drop(fmt.Sprint("key ", id), fmt.Sprint("uses of key ", id)),
		}
	}
	return deed{
		name: "DELETE FILE", command: wire(0xE4, 0x02, 0, []byte{0xCF, byte(id)}),
		done: drop(fmt.Sprintf("file CF%02X", id)),
	}
}

// wrap takes a key out, and unwrap puts one in that was taken out. It came
// without a use counter.
func (d *driver) wrap(a account, id int) deed {
	identity := a[fmt.Sprint("key ", id)]
	_, limited := a[fmt.Sprint("uses of key ", id)]
	return deed{name: "WRAP KEY", command: wireFor(65536, 0x72, byte(id), 0x92), done: func(a account, answer []byte) account {
		if len(answer) > 0 && identity != unknown && !limited {
			d.blobs = append(d.blobs, blob{identity, answer})
		}
		return a
	}}
}

func (d *driver) unwrap(a account) deed {
	if len(d.blobs) == 0 {
		return d.write(a)
	}
	id, b := 1+d.IntN(d.files), d.blobs[d.IntN(len(d.blobs))]
	for range d.files { // a key is not written over
		if a[fmt.Sprint("key ", id)] != "" {
			id = 1 + id%d.files
		}
	}
	return deed{name: "UNWRAP KEY", command: wire(0x74, byte(id), 0x93, b.wrapped), done: set(fmt.Sprint("key ", id), b.identity)}
}

// next is something to do with the card.
func (d *driver) next(a account) deed {
	id := 1 + d.IntN(d.files)
	someSO, someUser := a.number("SO tries") > tooLow, a.number("tries") > tooLow
	pin := []string{d.pin, d.other}[d.IntN(2)]
	n := d.IntN(100)
	switch {
	case a["PIN"] == "" || n < 1:
		return d.initialise(d.so)
	case strings.HasPrefix(a["domain 0"], "1 of 1"):
		return d.importShare()
	case d.out && n < 60:
		d.out = false
		return d.verify(a, a["PIN"])
	case n < 3 && someSO:
		return d.initialise("00000000")
	case n < 9 && someUser:
		d.out = true
		return d.verify(a, d.wrong)
	case n < 20:
		return d.verify(a, a["PIN"])
	case n < 22 && someSO:
		return d.verifySO("00000000")
	case n < 24:
		return d.verifySO(d.so)
	case n < 27:
		return d.change(a, a["PIN"], pin)
	case n < 29 && someUser:
		d.out = true
		return d.change(a, d.wrong, pin)
	case n < 31:
		return d.unblock(d.so, pin)
	case n < 32 && someSO:
		return d.unblock("00000000", pin)
	case n < 40:
		return d.generate(id)
	case n < 43:
		return d.generateAES(id)
	case n < 54:
		return d.sign(id)
	case n < 60:
		return d.erase(n < 57)
	case n < 66:
		return d.wrap(a, id)
	case n < 72:
		return d.unwrap(a)
	}
	return d.write(a)
}

// checkFound reports whether a card that was found after a loss of power is one
// that the deed under way may have left, and what its account is then.
func checkFound(t require.TestingT, before account, under *deed, d chip.Durable, about string) account {
	found := accountOf(d)
	expected := []account{before}
	if under != nil {
		expected = under.outcomes(before)
	}
	borne := false
	for _, e := range expected {
		borne = borne || e.is(found)
	}
	if !borne {
		require.Fail(t, "not a card that this may leave", "%s\nfound    %v\nexpected %v", about, found, expected)
	}
	if under == nil || !under.restores() {
		for _, counter := range []string{"SO tries", "tries"} {
			require.LessOrEqual(t, found.number(counter), before.number(counter), "%s of %s", counter, about)
		}
	}
	checkWhole(t, d, about)
	return found
}

// checkWhole reports whether each key of a card fits its public part.
func checkWhole(t require.TestingT, d chip.Durable, about string) {
	for id, k := range d.Applet.Keys {
		if k.Kind() != keystore.EC {
			continue
		}
		private, err := k.Curve().Private(k.EC().Bytes())
		require.NoError(t, err, about)
		require.Equal(t, private.Public().Bytes(), k.ECPublic().Bytes(), "key %d, %s", id, about)
	}
}

// checkAlive reports whether a card answers, and what its counters are.
func checkAlive(t require.TestingT, transmit func([]byte) []byte, a account, about string) {
	require.Equal(t, apdu.OK, statusOf(t, transmit(wireSelect)), about)
	for p2, counter := range map[byte]string{0x81: "tries", 0x88: "SO tries"} {
		if left, there := a[counter]; there {
			sw := statusOf(t, transmit(wire(0x20, 0, p2)))
			n, ok := sw.Tries()
			require.True(t, ok || sw == apdu.AuthenticationBlocked, about)
			require.Equal(t, left, strconv.Itoa(n), "%s, %s", counter, about)
		}
	}
	listed := transmit(wireFor(65536, 0x58, 0, 0))
	objects := 2 // the device certificate and its key
	for name := range a {
		if strings.HasPrefix(name, "key ") || strings.HasPrefix(name, "file ") {
			objects++
		}
	}
	require.Len(t, listed, 2*objects+2, about)
}

func statusOf(t require.TestingT, answer []byte) apdu.SW {
	r, err := apdu.ParseResponse(answer)
	require.NoError(t, err)
	return r.SW
}
