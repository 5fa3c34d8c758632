package applet_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/applet/cvc"
	"hsmemu/applet/tlv"
	"hsmemu/emulator/chiptest"
)

// What a key was made with is for good: its group, its key domain, its list
// and its counter. These tests are a logged-in user who wants more.

// uidOID is the extension that names a group in a request, as it stands there.
const uidOID = "06(2B0601040181C31F030202)"

// exchangeKey asks the current card for an exchange key with extensions of the
// client's own in the request.
func exchangeKey(id, more, extensions string) string {
	return "00 46 " + id + ` 00 Lcx(42("UTCA00001") {brainpoolP256r1} 5F20("UTEXCHX00001") ` + more + " 65(" + extensions + ")) le"
}

// secondGroup lets the cards A and C into a group of the signer H, A with key
// domain 1 and exchange key 2, C with key domain 0 and exchange key 1. A stays
// a member of the group of G.
func secondGroup() string {
	let := func(name, slot, id string) string {
		lower := map[string]string{"A": "a", "C": "c"}[name]
		return lines("card H", "80 68 01 73 Lc(54 {ef"+lower+"|7F21.7F4E.7F49.86|x}) 00 => {member:*} 9000",
			"card "+name, trusting("H"), "80 52 02 "+slot+" Lcx({requesth|value} 54({member|plain})) le => 00 00 0000000000000000 {uidh:64} 9000",
			"00 46 "+id+` 00 Lcx(42("UTCA00001") {brainpoolP256r1} 5F20("UTEXCH`+name+`00002") 91(84) 92(`+slot+")) le => {second"+lower+":*} 9000")
	}
	return lines(custodian("H"), "card C", selectApplication, initialise("0001", "97(02)"), "00 B1 2F 02 Lcx(54(0000)) le => {efc:*} 9000",
		let("C", "00", "01"), let("A", "01", "02"))
}

func TestLimits_Membership(t *testing.T) {
	t.Parallel()
	forged := "73(" + uidOID + " 80({uid}))"
	withoutLe := strings.TrimSuffix(exchangeKey("01", "91(84)", forged), " le")
	// The card O was never let into a group.
	outsider := lines("card O", selectApplication, initialise("0001", "92(00)"), "00 B1 2F 02 Lcx(54(0000)) le => {efo:*} 9000") + "\n"
	play(t, []row{
		{"06 added A1 an outsider states a group", "group", outsider + exchangeKey("01", "91(84)", forged) + " => 6A80 !0\n80 58 00 00 00 => 2F02 CC00 9000"},
		{"06 added A1 an outsider with a key for ECDH", "group", outsider + exchangeKey("01", "91(80)", forged) + " => 6A80 !0"},
		{"06 added A1 an outsider with a key without list", "group", outsider + exchangeKey("01", "", forged) + " => 6A80 !0"},
		{"06 added A1 an outsider in front of another extension", "group", outsider + exchangeKey("01", "91(84)", forged+" 73(06(2A03) 80(01))") + " => 6A80 !0"},
		{"06 added A1 an outsider behind another extension", "group", outsider + exchangeKey("01", "91(84)", "73(06(2A03) 80(01)) "+forged) + " => 6A80 !0"},
		{"06 added A1 an outsider keeps no request either", "group", outsider + withoutLe + " => 6A80 !0\n80 58 00 00 00 => 2F02 CC00 9000"},
		{"06 added A1 an outsider without a value", "group", outsider + exchangeKey("01", "91(84)", "73("+uidOID+")") + " => 6A80 !0"},
		{"06 added A1 an outsider and the only key of another user", "group", outsider + generate("02", "secp256r1", "90(01)") + "\n" +
			`00 46 01 02 Lcx(42("UTCA00001") {brainpoolP256r1} 5F20("UTEXCHX00001") 45("UTOUTER00001") 65(` + forged + ")) le => 6A80 !0"},
		{"06 added A1 an outsider with firmware 2.6", "group", lines("card O 2.6", selectApplication, initialise("0001"), exchangeKey("01", "", forged)+" => 6A80 !0")},
		{"06 added A1 an outsider with firmware 1.2", "group", lines("card O 1.2", selectApplication, initialise("0001"), exchangeKey("01", "", forged)+" => 6A80 !0")},

		// What two readers could take for different things.
		{"XKEK-9 the identifier with a zero digit", "group", outsider + exchangeKey("01", "91(84)", "73(06(2B0601040181C31F80030202) 80({uid}))") + " => 6A80 !0"},
		{"XKEK-9 a template that is none", "group", outsider + exchangeKey("01", "91(84)", "30("+uidOID+" 80({uid}))") + " => 6A80 !0"},
		{"XKEK-9 a template without identifier", "group", outsider + exchangeKey("01", "91(84)", "73(80({uid}))") + " => 6A80 !0"},
		{"XKEK-9 an identifier twice", "user", exchangeKey("01", "91(84)", "73(06(2A03) 80(01)) 73(06(2A03) 80(02))") + " => 6A80 !0"},
		{"XKEK-9 an identifier that ends in the middle", "user", exchangeKey("01", "91(84)", "73(06(2A83) 80(01))") + " => 6A80 !0"},
		{"XKEK-9 bytes that are no objects", "user", exchangeKey("01", "91(84)", "73") + " => 6A80 !0"},
		{"XKEK-9 extensions of the client's own", "user", exchangeKey("01", "91(84)", "73(06(2A03) 80(01)) 73(06(2A04))") + " => {r:*} 9000\nlet e = {r|67.7F21.7F4E.65.73.80}\n00 D7 CF 00 Lc(54(0000) 53({e}))\n00 B1 CF 00 Lc(54(0000)) 00 => 01 9000"},
		{"XKEK-9 empty extensions", "user", exchangeKey("01", "", "") + " => * 9000"},

		{"06 added A1 a member states its own group", "group", exchangeKey("02", "91(84) 92(00)", forged) + " => 6A80 !0"},
		{"06 added A1 a member's extensions stand before the card's", "group", exchangeKey("02", "91(84) 92(00)", "73(06(2A03))") + " => {exchangea:*} 9000\n" + exchange("B", "A")},
		{"XKEK-11 a member of two groups: each group by its own key", "group", lines(secondGroup(), exchange("A", "B"), exchange("B", "A"),
			trusting("A"), "80 62 01 84 Lcx({exchangea|value})",
			"card C", trusting("A"), "80 62 01 84 Lcx({seconda|value})", "card A", trusting("C"), "80 62 02 84 Lcx({secondc|value})",
			"80 52 00 00 00 => 00 00 {kcv:8} {uid} 9000", "80 52 00 01 00 => 00 00 {other:8} {uidh} 9000", "differ kcv other", "differ uid uidh")},
		{"XKEK-11 a member of two groups: no key for the other group", "group", lines(secondGroup(), trusting("B"), "80 62 02 84 Lcx({exchangeb|value}) => 6985 !0",
			trusting("C"), "80 62 01 84 Lcx({secondc|value}) => 6985 !0", "card B", trusting("A"), "80 62 01 84 Lcx({seconda|value}) => 6985 !0",
			"card C", trusting("A"), "80 62 01 84 Lcx({exchangea|value}) => 6985 !0")},
		{"XKEK-11 a member of two groups: keys stay in theirs", "group", lines(secondGroup(), exchange("A", "B"), "card A", trusting("C"), "80 62 02 84 Lcx({secondc|value})",
			"card C", trusting("A"), "80 62 01 84 Lcx({seconda|value})", "card A", generate("05", "secp256r1", "92(00)"),
			"80 72 05 92 00 00 00 => {blob:*} 9000", "80 74 06 93 Lcx({blob})", "00 A4 00 00 Lc(CC06) 00 => * 83 02 CC06 9000",
			"card C", "80 74 06 93 Lcx({blob}) => 6A88 !0")},
		{"XKEK-9 a member of two groups states the other", "group", secondGroup() + "\n" + exchangeKey("03", "91(84) 92(00)", "73("+uidOID+" 80({uidh}))") + " => 6A80 !0"},
	})
}

// vouched is a request for a key of nobody, countersigned by whoever the name
// and the key belong to: a device with a defect, which vouches for anything.
func vouched(t *testing.T, by string, sign cvc.Signer, e cvc.Extensions) cvc.Authenticated {
	t.Helper()
	d, err := named(t, "brainpoolP256r1").Generate(chiptest.Seeded("nobody"))
	require.NoError(t, err)
	request, err := cvc.RequestBody{CHR: "UTFORGED00001", Key: cvc.NewEC(cvc.ECDSASHA256, d.Public()), Extensions: e}.Sign(cvc.SignEC(d, nil))
	require.NoError(t, err)
	a, err := request.Countersign(cvc.Name(by), cvc.ECDSASHA256, sign)
	require.NoError(t, err)
	return a
}

// XKEK-9: a request that names two groups belongs to none, whoever vouches for
// it.
//
// Shows XKEK-16.
func TestLimits_TwoGroupsInARequest(t *testing.T) {
	t.Parallel()
	tb := after(t, "4.1", lines(setups["group"], secondGroup(), custodian("O"), initialise("0001", "93(0101)"), "card A"))
	o := tb.card("O").Durable().Device
	own, other := tb.Vars["uid"], tb.Vars["uidh"]
	one := cvc.Extensions(nil).With(cvc.KeyDomainUID, own)
	for name, c := range map[string]struct {
		extensions cvc.Extensions
		agreement  string
		valid      bool
	}{
		"one":                   {one, "9000 !2", true}, // a genuine card does not state it
		"another first":         {cvc.Extensions(nil).With(cvc.KeyDomainUID, other).With(cvc.KeyDomainUID, own), "6A80 !0", false},
		"another behind":        {one.With(cvc.KeyDomainUID, other), "6A80 !0", false},
		"the same twice":        {one.With(cvc.KeyDomainUID, own), "6A80 !0", false},
		"one apart":             {one.With("\x2A\x03").With(cvc.KeyDomainUID, other), "6A80 !0", false},
		"another, too":          {one.With("\x2A\x03", other), "9000 !2", true},
		"two values":            {cvc.Extensions(nil).With(cvc.KeyDomainUID, own, other), "6985 !0", true},
		"the value behind one":  {cvc.Extensions(nil).With(cvc.KeyDomainUID, other, own), "6985 !0", true},
		"the value as 81":       {tlv.Append(nil, 0x73, append([]byte("\x06\x0B"+cvc.KeyDomainUID), tlv.Append(nil, 0x81, own)...)), "6985 !0", true},
		"a group that is short": {cvc.Extensions(nil).With(cvc.KeyDomainUID, own[:32]), "6985 !0", true},
		"bytes":                 {append(cvc.Extensions{0x73}, one...), "6A80 !0", false},
		"bytes behind":          {append(one.With("\x2A\x03"), 0x73), "6A80 !0", false},
		"none":                  {nil, "6985 !0", true},
	} {
		twin := tb.copied()
		twin.run(t, generate("06", "brainpoolP256r1", "90(05) 91(84) 92(00)"))
		twin.Vars["forged"] = vouched(t, o.Name, cvc.SignEC(o.Key.EC(), nil), c.extensions).Raw
		twin.run(t, trusting("O")+"\n80 62 06 84 Lcx({forged|value}) => "+c.agreement)
		// Nor does it make a group, or open a card, or convince the judge.
		if !c.valid {
			twin.run(t, "80 52 03 01 => 6A89\n80 52 02 01 Lcx({forged|value} 54({member|plain})) le => 6985 !0")
			twin.run(t, lines("card D", selectApplication, initialise("0001", "93(0101)", "97(01)"), trusting("O"), "80 54 00 00 Lcx({forged|value}) le => 6A80 !0",
				"80 52 02 00 Lcx({forged|value} 54({member|plain})) le => 6A80 !0"))
		}
		_, err := cvc.Attest(twin.Vars["forged"], twin.card("O").File(0x2F02), cvc.KnownRoots())
		if c.valid {
			require.NoError(t, err, name)
		} else {
			require.ErrorIs(t, err, cvc.ErrExtension, name)
		}
	}
}

// XKEK-15: devices vouch for keys: not their issuer, and not the root.
func TestLimits_OnlyDevicesVouch(t *testing.T) {
	t.Parallel()
	tb := after(t, "4.1", setups["group"])
	e := cvc.Extensions(nil).With(cvc.KeyDomainUID, tb.Vars["uid"])
	for _, by := range []cvc.Issuer{cvc.EmulatorIssuer(), cvc.EmulatorRoot()} {
		tb.Vars["name"] = []byte(by.Certificate.CHR)
		tb.Vars["forged"] = vouched(t, string(by.Certificate.CHR), cvc.SignEC(by.Key, nil), e).Raw
		tb.run(t, "00 22 81 B6 Lc(83({name}))\n80 62 01 84 Lcx({forged|value}) => 6300 !0")
	}
}

// DOM-45.
func TestLimits_KeyDomains(t *testing.T) {
	t.Parallel()
	share := func(slot, share string) string { return "80 52 00 " + slot + " Lc(" + share + ") 00 => " }
	const wrap = "80 72 01 92 00 00 00 => "
	one := lines("80 52 01 00 Lc(01) => *", share("00", shareOne)+"01 00 {kcv:8} 9000", generate("01", "secp256r1")) + "\n"
	two := lines("80 52 01 00 Lc(02) => *", share("00", shareOne)+"*", share("00", shareTwo)+"02 00 {kcv:8} 9000", generate("01", "secp256r1")) + "\n"
	const (
		clear      = "80 52 04 00 00 => * 9000 !1\n"
		membership = "Lcx({requestg|value} 54({member|plain})) le"
	)
	// The card D may become a member, and has an empty slot.
	late := lines("card D", selectApplication, initialise("0001", "97(02)"), "00 B1 2F 02 Lcx(54(0000)) le => {efd:*} 9000",
		"card G", "80 68 01 73 Lc(54 {efd|7F21.7F4E.7F49.86|x}) 00 => {member:*} 9000", "card D", trusting("G"))
	play(t, []row{
		{"06 added A3 a share of the user's own", "domains", one + clear + share("00", shareTwo) + "6A80 !0\n" + wrap + "6985\n80 52 00 00 00 => 01 01 0000000000000000 9000"},
		{"06 added A3 the share again", "domains", one + clear + share("00", shareTwo) + "6A80 !0\n" + share("00", shareOne) + "01 00 {kcv} 9000\n" + wrap + "* 9000"},
		{"06 added A3 without a login", "domains", one + clear + selectApplication + "\n" + share("00", shareTwo) + "6A80 !0\n" + share("00", shareOne) + "01 00 {kcv} 9000"},
		{"06 added A3 after a loss of power", "domains", one + clear + "cut\n" + selectApplication + "\n" + share("00", shareTwo) + "6A80 !0"},
		{"06 added A3 shares that differ, the same sum", "domains", two + clear + share("00", shareTwo) + "02 01 0000000000000000 9000\n" + share("00", shareOne) + "02 00 {kcv} 9000\n" + wrap + "* 9000"},
		{"06 added A3 the first share of two", "domains", two + clear + share("00", shareOne) + "*\n" + share("00", shareOne) + "6A80 !0\n" + share("00", shareTwo) + "02 00 {kcv} 9000"},
		{"06 added A3 cleared twice", "domains", one + clear + clear + share("00", shareTwo) + "6A80 !0"},
		{"06 added A3 cleared between two shares", "domains", two + clear + share("00", shareTwo) + "*\n" + clear + share("00", shareTwo) + "*\n" + share("00", shareTwo) + "6A80 !0"},
		{"06 added A3 a random key never comes back", "random", generate("01", "secp256r1") + "\n" + clear + share("00", shareOne) + "6A80 !0\n" + wrap + "6985"},
		{"06 added A3 a domain without keys takes any", "domains", one + "00 E4 02 00 Lc(CC01)\n" + clear + share("00", shareTwo) + "01 00 {other:8} 9000\ndiffer kcv other"},
		{"06 added A3 cleared once more without keys", "domains", one + clear + "00 E4 02 00 Lc(CC01)\n" + share("00", shareTwo) + "6A80 !0\n" + clear + share("00", shareTwo) + "01 00 ................ 9000"},
		{"06 added A3 keys of another domain do not count", "domains", one + "80 52 01 01 Lc(01) => *\n" + share("01", shareOne) + "*\n80 52 04 01 00 => * 9000\n" + share("01", shareTwo) + "01 00 ................ 9000"},
		{"06 added A3 nothing comes in meanwhile", "domains", one + wrap + "{blob:*} 9000\n" + clear + "80 74 02 93 Lcx({blob}) => 6985\n00 48 02 B0 => 6985"},
		{"XKEK-12 a group's key is agreed anew by members alone", "group", exchange("A", "B") + "\n80 52 04 00 00 => 00 00 0000000000000000 {uid} 9000 !1\n" + share("00", shareOne) + "6985 !0\n" + exchange("A", "B")},

		{"DOM-48 a key domain that comes later", "domains", generate("01", "secp256r1") + "\n" + wrap + "6985\n80 52 01 00 Lc(01) => *\n" + share("00", shareOne) + "*\n" + wrap + "* 9000"},
		{"XKEK-14 a group that comes later, to a key that is none of its exchange keys", "group", lines(late, generate("01", "secp256r1"), "80 52 02 00 "+membership+" => 00 00 * 9000")},
		{"XKEK-14 a group that comes later, to an exchange key", "group", lines(late, generate("01", "brainpoolP256r1", "91(80 84)"), "80 62 01 80 Lc({exchangeb|67.7F21.7F4E.7F49.86}) 00 => {secret:65} 9000",
			"80 52 02 00 "+membership+" => 6A89 !0", "80 52 02 01 "+membership+" => 00 00 * 9000", "00 E4 02 00 Lc(CC01)", "80 52 02 00 "+membership+" => 00 00 * 9000")},
	})
}

// XKEK-14.
func TestLimits_ExchangeKeys(t *testing.T) {
	t.Parallel()
	const (
		point = "{exchangeb|67.7F21.7F4E.7F49.86}"
		ecdh  = "80 62 01 80 Lc(" + point + ") 00 => "
	)
	play(t, []row{
		// The exchange keys of the setup list 80 and 84.
		{"XKEK-14 the secret of a group is not told", "group", ecdh + "6A81 !0\n" + exchange("A", "B") + "\n" + ecdh + "6A81 !0"},
		{"XKEK-14 nor by ECDH with an authenticated key", "group", generate("02", "brainpoolP256r1", "90(03) 91(80 83 84) 92(00)") + "\n" + trusting("B") + "\n80 62 02 83 Lcx({exchangeb|value}) le => 6A81 !0\n80 62 02 84 Lcx({exchangeb|value}) => 9000 !2"},
		{"XKEK-14 nor by a key derived from it", "group", generate("02", "brainpoolP256r1", "91(80 84 98) 92(00)") + "\n80 76 02 03 Lc(98 01)\n80 62 03 80 Lc(" + point + ") 00 => 6A81 !0"},
		{"XKEK-14 nor by its copy on another member", "group", lines(exchange("A", "B"), exchange("B", "A"), "card A", "80 72 01 92 00 00 00 => {blob:*} 9000",
			"card B", "80 74 05 93 Lcx({blob})", "80 62 05 80 Lc("+point+") 00 => 6A81 !0")},
		{"XKEK-14 ECDH with another key of the group", "group", generate("02", "brainpoolP256r1", "91(80) 92(00)") + "\n80 62 02 80 Lc(" + point + ") 00 => 04 {x:32} {y:32} 9000"},
		{"XKEK-14 ECDH with such a key outside of a group", "dkek", generate("01", "secp256r1", "91(80 84)") + "\n80 62 01 80 Lc({secp256r1|7F49.84}) 00 => 04 {x:32} {y:32} 9000"},
	})
}

// DOM-46, KEY-56. The vendor's own example gives an AES key a counter, and 92 and 94 in its
// list (sc-hsm-embedded, issue 30): such a key can leave, and its counter stays
// behind. A list without 92 keeps both.
func TestLimits_UseCounters(t *testing.T) {
	t.Parallel()
	play(t, []row{
		{"DOM-46 a counter does not leave with its key", "dkek", lines("00 48 01 B0 Lc(90(01) 91(10 11 18 92 94 99))", "80 72 01 92 00 00 00 => {blob:*} 9000 !0", "80 78 01 18 Lc(00) 00 => * 9000 !1", "80 78 01 18 Lc(00) 00 => 6984 !0",
			"80 74 01 93 Lcx({blob})", again(2, "80 78 01 18 Lc(00) 00 => * 9000 !0"))},
		{"DOM-46 a key that cannot leave keeps it", "dkek", lines("00 48 01 B0 Lc(90(01) 91(10 11 18 94 99))", "80 72 01 92 00 00 00 => 6A81 !0", "80 78 01 18 Lc(00) 00 => * 9000 !1", "80 78 01 18 Lc(00) 00 => 6984 !0")},
		{"KEY-56 a parameter that changes nothing", "user", generate("02", "secp256r1", "90(02) 91(73 98)") + "\n80 76 02 03 Lc(98 00) => 6A80 !1\n80 76 02 03 Lc(98 {secp256r1|7F49.85}) => 6A80 !1\n80 58 00 00 00 => 2F02 CC00 CC02 9000"},
		{"KEY-56 it costs nothing where nothing is counted", "user", generate("02", "secp256r1", "91(73 98)") + "\n80 76 02 03 Lc(98 0000) => 6A80 !0\n80 76 02 03 Lc(98 {secp256r1|7F49.85} 00) => 6A80 !0"},
	})
}

// Every refusal above leaves the card as it was, and costs no try: rows that
// end with !0 say so of what is saved; here it is said of the session.
func TestLimits_RefusalsLeaveTheSession(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ setup, script, command string }{
		{"group", "", exchangeKey("02", "91(84)", "73("+uidOID+" 80({uid}))")},
		{"random", generate("01", "secp256r1") + "\n80 52 04 00 => *", "80 52 00 00 Lc(" + shareOne + ")"},
		{"group", "", "80 62 01 80 Lc({exchangeb|67.7F21.7F4E.7F49.86})"},
	} {
		tb := after(t, applet.DefaultFirmware, setups[c.setup]+"\n"+c.script)
		was := tb.current().State
		tb.command(t, c.command)
		require.NotEqual(t, apdu.OK, tb.current().Result.Event.SW, c.command)
		require.Equal(t, chiptest.Users(was), chiptest.Users(tb.current().State), c.command)
		require.Equal(t, stored(t, was.Durable()), stored(t, tb.current().State.Durable()), c.command)
	}
}
