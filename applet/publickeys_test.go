package applet_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/cvc"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/chiptest"
	"hsmemu/keystore/curve"
)

const (
	keysStatus = "80 54 00 00 00 => "
	challenge  = "00 84 00 00 08 => {c:8} 9000"
)

func TestProtocol_Registration(t *testing.T) {
	t.Parallel()
	fresh := lines(selectApplication, withoutPIN("0001", "93(0302)"), "00 B1 2F 02 Lcx(54(0000)) le => {efa:*} 9000", custodian("B"), custodian("C"), "card A") + "\n"
	key := func(template string) string {
		return lines("card B", `00 46 02 00 Lcx(42("UTCA00001") {`+template+`} 5F20("UTOTHER00001")) le => {other:*} 9000`, "card A", trusting("B"))
	}
	play(t, []row{
		{"PKA-3 step 1 issuer known", "shipped", fresh + "00 22 81 B6 Lc(83({efb|#2|7F21.7F4E.5F20}))"},
		{"PKA-3 step 1 issuer unknown", "shipped", fresh + `00 22 81 B6 Lc(83("DEDINK0400001")) => 6A88`},
		{"PKA-3 step 2 root", "shipped", fresh + "00 22 81 B6 Lc(83({efb|#2|7F21.7F4E.42}))"},
		{"PKA-3 step 3 issuer certificate", "shipped", fresh + "00 22 81 B6 Lc(83({efb|#2|7F21.7F4E.42}))\n00 2A 00 BE Lc({efb|#2|value}) => 9000 !0"},
		{"PKA-3 step 4 device unknown", "shipped", fresh + "00 22 81 B6 Lc(83({efb|7F21.7F4E.5F20})) => 6A88"},
		{"PKA-3 step 4 own device known", "shipped", fresh + "00 22 81 B6 Lc(83({efa|7F21.7F4E.5F20}))"},
		{"PKA-3 steps 5 to 8", "shipped", fresh + trusting("B") + "\n80 54 00 00 Lcx({requestb|value}) le => 03 02 02 00 9000 !1"},
		{"PKA-3 step 8 with Le 04", "shipped", fresh + trusting("B") + "\n80 54 00 00 Lcx({requestb|value}) 0004 => 03 02 02 00 9000 !1"},
		{"PKA-39 step 8 with the header 67", "shipped", fresh + trusting("B") + "\n80 54 00 00 Lcx({requestb}) le => 03 02 02 00 9000"},
		{"PKA-39 certificate with the header 7F21", "shipped", fresh + "00 22 81 B6 Lc(83({efb|7F21.7F4E.42}))\n00 2A 00 BE Lc({efb|whole})\n00 22 81 B6 Lc(83({efb|7F21.7F4E.5F20}))"},
		{"PKA-40 other P2 of PSO", "shipped", fresh + "00 22 81 B6 Lc(83({efb|7F21.7F4E.42}))\n00 2A 00 92 Lc({efb|value})\n00 2A 00 AE Lc({efb|value})"},
		{"PKA-3 a whole table", "keys", keysStatus + "03 00 02 00 9000"},
		{"PKA-5 without login", "shipped", fresh + selectApplication + "\n" + trusting("B") + "\n80 54 00 00 Lcx({requestb|value}) le => 03 02 02 00 9000"},
		{"PKA-8 secp256r1", "shipped", fresh + key("secp256r1") + "\n80 54 00 00 Lcx({other|value}) le => 03 02 02 00 9000"},
		{"PKA-7 RSA", "shipped", fresh + key("rsa1024") + "\n80 54 00 00 Lcx({other|value}) le => 6A80"},
		{"PKA-8 a larger curve", "shipped", fresh + key("secp384r1") + "\n80 54 00 00 Lcx({other|value}) le => 6A80"},
		{"PKA-8 another curve of 256 bits", "shipped", fresh + key("secp256k1") + "\n80 54 00 00 Lcx({other|value}) le => 6A80"},
		{"PKA-8 the other brainpool curve of 256 bits", "shipped", fresh + key("brainpoolP256t1") + "\n80 54 00 00 Lcx({other|value}) le => 6A80"},
		{"PKA-11 the key again", "shipped", fresh + register("B") + "\n" + trusting("B") + "\n80 54 00 00 Lcx({requestb|value}) le => 6A80"},
		{"PKA-6 all slots filled", "keys", custodian("E") + "\ncard A\n" + trusting("E") + "\n80 54 00 00 Lcx({requeste|value}) le => 6985"},
		{"PKA-14 no verification key", "shipped", fresh + "80 54 00 00 Lcx({requestb|value}) le => 6985"},
		{"PKA-14 another verification key", "shipped", fresh + trusting("C") + "\n80 54 00 00 Lcx({requestb|value}) le => 6A80"},
		{"PKA-14 request not TLV", "shipped", fresh + trusting("B") + "\n80 54 00 00 Lcx({requestb|value|-1}) le => 6A80"},
		{"PKA-14 request of one byte", "shipped", fresh + trusting("B") + "\n80 54 00 00 Lc(00) 00 => 6A80"},
		{"PKA-14 outer signature wrong", "shipped", fresh + trusting("B") + "\n80 54 00 00 Lcx({requestb|value|flip}) le => 6300"},
		{"PKA-12 not configured", "user", custodian("B") + "\ncard A\n" + trusting("B") + "\n80 54 00 00 Lcx({requestb|value}) le => 6D00"},

		{"PKA-40 MSE empty name", "shipped", fresh + "00 22 81 B6 Lc(83()) => 6A80"},
		{"PKA-40 MSE no name", "shipped", fresh + "00 22 81 B6 Lc(84(00)) => 6A80"},
		{"PKA-40 MSE not TLV", "shipped", fresh + "00 22 81 B6 Lc(83) => 6A80"},
		{"PKA-40 MSE no data", "shipped", fresh + "00 22 81 B6 => 6A80"},
		{"PKA-40 MSE other P1", "shipped", fresh + "00 22 01 B6 Lc(83(00)) => 6A86"},
		{"PKA-40 MSE RESTORE", "shipped", fresh + "00 22 F3 01 => 6A86"},
		{"PKA-40 MSE other P2", "shipped", fresh + "00 22 81 B5 Lc(83(00)) => 6A86"},
		{"PKA-40 MSE P1 41 and C1", "shipped", fresh + "00 22 41 B6 Lc(83({efb|7F21.7F4E.42}))\n00 22 C1 B6 Lc(83({efb|7F21.7F4E.42}))"},
		{"PKA-14 PSO no key", "shipped", fresh + "00 2A 00 BE Lc({efb|value}) => 6985"},
		{"PKA-14 PSO signature wrong", "shipped", fresh + "00 22 81 B6 Lc(83({efb|7F21.7F4E.42}))\n00 2A 00 BE Lc({efb|whole|value|flip}) => 6300"},
		{"PKA-14 PSO another name", "shipped", fresh + "00 22 81 B6 Lc(83({efb|#2|7F21.7F4E.42}))\n00 2A 00 BE Lc({efb|value}) => 6A80"},
		{"PKA-14 PSO malformed", "shipped", fresh + "00 22 81 B6 Lc(83({efb|7F21.7F4E.42}))\n00 2A 00 BE Lc({efb|value|-1}) => 6A80"},
		{"PKA-14 PSO other P2", "shipped", fresh + "00 2A 00 BF Lc({efb|value}) => 6A86"},
		{"PKA-14 PSO other P1", "shipped", fresh + "00 2A 80 BE Lc({efb|value}) => 6A86"},
		{"PKA-14 PSO no data", "shipped", fresh + "00 2A 00 BE => 6700"},
		{"PKA-10 a failed PSO trusts nobody", "shipped", fresh + "00 22 81 B6 Lc(83({efb|7F21.7F4E.42}))\n00 2A 00 BE Lc({efb|whole|value|flip}) => 6300\n00 22 81 B6 Lc(83({efb|7F21.7F4E.5F20})) => 6A88"},
		{"PKA-10 trust ends with the session", "shipped", fresh + trusting("B") + "\n" + selectApplication + "\n00 22 81 B6 Lc(83({efb|7F21.7F4E.5F20})) => 6A88"},
		{"PKA-36 a device does not certify devices", "shipped", fresh + trusting("B") + "\n00 2A 00 BE Lc({efb|value}) => 6A80"},

		{"PKA-12 status, not configured", "user", keysStatus + "6D00"},
		{"PKA-12 status, never initialised", "shipped", keysStatus + "6D00"},
		{"PKA-4 status with Le 04", "keys", "80 54 00 00 04 => 03 00 02 00 9000"},
		{"APDU-14 status with P2", "keys", "80 54 00 01 00 => 6A86"},
		{"APDU-14 other P1", "keys", "80 54 03 00 00 => 6A86"},
		{"PKA-17 query", "keys", `80 54 02 01 00 => "UTCUSTC00001" 9000`},
		{"PKA-17 query of an authenticated key", "keys", challenge + "\n" + authenticate("C") + "\n" + `80 54 02 01 00 => "UTCUSTC00001" 9001
			80 54 02 00 00 => "UTCUSTB00001" 9000`},
		{"PKA-17 query of an empty slot", "shipped", fresh + "80 54 02 00 00 => 6A88"},
		{"PKA-17 query beyond", "keys", "80 54 02 03 00 => 6A86"},
		{"PKA-12 query, not configured", "user", "80 54 02 00 00 => 6D00"},
		{"APDU-14 query with data", "keys", "80 54 02 00 Lc(00) 00 => 6700"},
	})
}

func TestProtocol_Replacement(t *testing.T) {
	t.Parallel()
	// Option 08: keys may be replaced; the PIN is an alternative.
	start := lines(selectApplication, initialise("0009", "93(0202)"), "00 B1 2F 02 Lcx(54(0000)) le => {efa:*} 9000",
		custodian("B"), custodian("C"), custodian("D"), register("B"), register("C"), trusting("D")) + "\n"
	replace := func(slot string) string { return "80 54 01 " + slot + " Lcx({requestd|value}) le => " }
	play(t, []row{
		{"PKA-13 replace", "shipped", start + replace("01") + "02 00 02 00 9000 !1\n" + `80 54 02 01 00 => "UTCUSTD00001" 9000`},
		{"PKA-13 replace, the old key is gone", "shipped", start + replace("01") + "* 9000\n" + `00 22 81 A4 Lc(83("UTCUSTC00001")) => 6A88`},
		{"PKA-13 replace by itself", "shipped", start + trusting("C") + "\n80 54 01 01 Lcx({requestc|value}) le => 02 00 02 00 9000"},
		{"PKA-13 replace by a key of another slot", "shipped", start + trusting("C") + "\n80 54 01 00 Lcx({requestc|value}) le => 6A80"},
		{"PKA-13 replace by the key of the first slot", "shipped", start + trusting("B") + "\n80 54 01 01 Lcx({requestb|value}) le => 6A80"},
		{"PKA-13 replace without option 08", "keys", challenge + "\n" + authenticate("B") + "\n" + authenticate("C") + "\n" + custodian("E") + "\ncard A\n" + trusting("E") + "\n80 54 01 00 Lcx({requeste|value}) le => 6985"},
		{"PKA-13 replace without login", "shipped", start + selectApplication + "\n" + trusting("D") + "\n" + replace("01") + "6982"},
		{"PKA-13 replace beyond", "shipped", start + replace("02") + "6A86"},
		{"PKA-12 replace, not configured", "user", "80 54 01 00 Lc(00) => 6D00"},
		{"PKA-13 replace without data", "shipped", start + "80 54 01 00 => 6700"},
		{"PKA-13 a new key has not authenticated", "shipped", start + lines(challenge, authenticate("C"), "80 54 02 01 00 => * 9001", trusting("D"), replace("01")+"02 00 02 00 9000", "80 54 02 01 00 => * 9000")},
		{"PKA-13 the keys of the other slots have", "shipped", start + lines(challenge, authenticate("B"), trusting("D"), replace("01")+"02 00 02 01 9000", "80 54 02 00 00 => * 9001")},
	})
}

func TestProtocol_Authentication(t *testing.T) {
	t.Parallel()
	signed := func(name, text string) string {
		return lines("card "+name, "80 68 01 73 Lc("+text+") 00 => {sig:*} 9000", "card A")
	}
	choose := func(name string) string { return `00 22 81 A4 Lc(83("UTCUST` + name + `00001"))` }
	both := challenge + "\n" + authenticate("B") + "\n" + authenticate("C")
	play(t, []row{
		{"PKA-15 two of three", "keys", both + "\nholds U=- S=15 user keys=2"},
		{"PKA-15 other two of three", "keys", challenge + "\n" + authenticate("D") + "\n" + authenticate("B") + "\nholds U=- S=15 user keys=2"},
		{"PKA-15 one of three", "keys", challenge + "\n" + authenticate("B") + "\nholds U=- S=15 keys=1\n80 58 00 00 00 => * 9000\n" + `00 D7 CF 00 Lc(54(0000) 53("x")) => 6982`},
		{"PKA-26 one twice", "keys", challenge + "\n" + authenticate("B") + "\n" + choose("B") + " => 6985"},
		{"PKA-26 one twice without choosing it again", "keys", challenge + "\n" + authenticate("B") + "\n00 82 00 00 Lc({sig|plain})\nholds U=- S=15 keys=1"},
		{"PKA-15 saves nothing", "keys", challenge + "\n" + choose("B") + "\n" + signed("B", "{efa|7F21.7F4E.5F20} {c}") + "\n00 82 00 00 Lc({sig|plain}) => 9000 !0"},
		{"PKA-15 name of another device", "keys", challenge + "\n" + choose("B") + "\n" + signed("B", "{efb|7F21.7F4E.5F20} {c}") + "\n00 82 00 00 Lc({sig|plain}) => 6300"},
		{"PKA-15 challenge alone", "keys", challenge + "\n" + choose("B") + "\n" + signed("B", "{c}") + "\n00 82 00 00 Lc({sig|plain}) => 6300"},
		{"PKA-15 DER instead of r and s", "keys", challenge + "\n" + choose("B") + "\n" + signed("B", "{efa|7F21.7F4E.5F20} {c}") + "\n00 82 00 00 Lc({sig}) => 6300"},
		{"PKA-16 another key", "keys", challenge + "\n" + choose("B") + "\n" + signed("C", "{efa|7F21.7F4E.5F20} {c}") + "\n00 82 00 00 Lc({sig|plain}) => 6300"},
		{"PKA-16 last bit", "keys", challenge + "\n" + choose("B") + "\n" + signed("B", "{efa|7F21.7F4E.5F20} {c}") + "\n00 82 00 00 Lc({sig|plain|flip}) => 6300"},
		{"PKA-16 no signature", "keys", challenge + "\n" + choose("B") + "\n00 82 00 00 => 6300"},
		{"PKA-28 MSE first", "keys", choose("B") + "\n" + challenge + "\n" + signed("B", "{efa|7F21.7F4E.5F20} {c}") + "\n00 82 00 00 Lc({sig|plain})\nholds U=- S=15 keys=1"},
		{"PKA-20 one challenge serves all", "keys", both + "\n" + keysStatus + "03 00 02 02 9000"},
		{"PKA-20 a new challenge clears", "keys", challenge + "\n" + authenticate("B") + "\n" + challenge + "\n" + authenticate("C") + "\n" + keysStatus + "03 00 02 01 9000\n" + queryUser + " => 6300"},
		{"PKA-20 a new challenge clears, and a PIN after it finds no keys", "pinandkeys", both + "\n" + challenge + "\n" + verifyUser + "\nholds U=3/3 S=15 nobody\n" + queryUser + " => 6300"},
		{"PKA-20 a new challenge ends no login", "pinandkeys", verifyUser + "\n" + both + "\n" + challenge + "\n" + queryUser + " => 9000"},
		{"PKA-26 unknown key", "keys", choose("X") + " => 6A88"},
		{"PKA-26 not configured", "user", choose("B") + " => 6A88"},
		{"PKA-26 empty name", "keys", "00 22 81 A4 Lc(83()) => 6A88"},
		{"PKA-27 no challenge", "keys", choose("B") + "\n00 82 00 00 Lc({long|head 64}) => 6985"},
		{"PKA-27 no key", "keys", challenge + "\n00 82 00 00 Lc({long|head 64}) => 6A88"},
		{"PKA-27 P1", "keys", "00 82 01 00 Lc({long|head 64}) => 6A86"},
		{"PKA-27 P2", "keys", "00 82 00 01 Lc({long|head 64}) => 6A86"},
		{"PKA-19 the challenge is consumed", "keys", both + "\n" + choose("D") + "\n" + signed("D", "{efa|7F21.7F4E.5F20} {c}") + "\n00 82 00 00 Lc({sig|plain}) => 6985"},
		{"PKA-22 PIN and keys: keys first", "pinandkeys", both + "\nholds U=3/3 S=15 keys=2\n" + verifyUser + "\nholds U=3/3 S=15 user keys=2"},
		{"PKA-22 PIN and keys: PIN first", "pinandkeys", verifyUser + "\nholds U=3/3 S=15 nobody\n" + both + "\nholds U=3/3 S=15 user keys=2"},
		{"PKA-22 PIN and keys: keys alone", "pinandkeys", both + "\n" + `00 D7 CF 00 Lc(54(0000) 53("x")) => 6982`},
		{"PKA-22 PIN and keys: PIN alone", "pinandkeys", verifyUser + "\n" + `00 D7 CF 00 Lc(54(0000) 53("x")) => 6982`},
		{"PKA-24 PIN or keys: keys alone", "pinorkeys", both + "\n" + `00 D7 CF 00 Lc(54(0000) 53("x"))`},
		{"PKA-24 PIN or keys: PIN alone", "pinorkeys", verifyUser + "\n" + `00 D7 CF 00 Lc(54(0000) 53("x"))`},
		{"PKA-19 a failure keeps the challenge", "keys", challenge + "\n" + choose("B") + "\n00 82 00 00 Lc({long|head 64}) => 6300\n" + authenticate("B") + "\nholds U=- S=15 keys=1"},
		{"PKA-18 a failure costs no try", "pinorkeys", challenge + "\n" + choose("B") + "\n" + again(20, "00 82 00 00 Lc({long|head 64}) => 6300 !0") + "holds U=3/3 S=15 nobody"},
		{"PKA-21 a challenge of 256 bytes is kept", "keys", "00 84 00 00 00 => {c:*} 9000\n" + choose("B") + "\n" + lines("card B", "80 68 01 73 Lcx({efa|7F21.7F4E.5F20} {c}) 0000 => {sig:*} 9000", "card A", "00 82 00 00 Lc({sig|plain})")},
		{"PKA-21 a longer one is not", "keys", "00 84 00 00 00 01 01 => * 9000\n" + choose("B") + "\n00 82 00 00 Lc({long|head 64}) => 6985"},
		{"PKA-29 the PIN's counter is not touched", "pinorkeys", wrongUser + " => 63C2\n" + both + "\nholds U=2/3 S=15 user keys=2"},
		{"PKA-24 keys do not open a blocked PIN", "pinorkeys", again(3, wrongUser+" => *") + both + "\nholds U=0/3 S=15 keys=2"},
		{"PKA-15 in a channel", "keys", "sm on aes128\n" + challenge + "\n" + authenticate("B") + "\n" + authenticate("C") + "\n" + queryUser + " => 9000\nsm off\n" + queryUser + " => 6300\n" + keysStatus + "03 00 02 00 9000"},
	})
}

// Shows CVC-32, XKEK-1 and XKEK-7.
func TestProtocol_XKEK(t *testing.T) {
	t.Parallel()
	status := func(slot string) string { return "80 52 00 " + slot + " 00 => " }
	ready := exchange("A", "B") + "\n" + exchange("B", "A") + "\n"
	member := lines("card G", "80 68 01 73 Lc(54 {efa|7F21.7F4E.7F49.86|x}) 00 => {member:*} 9000", "card A")
	play(t, []row{
		{"XKEK-6 before the agreement", "group", status("00") + "00 00 0000000000000000 {uid} 9000"},
		{"XKEK-6 the UID is the group signer's point", "group", "let point = {requestg|67.7F21.7F4E.7F49.86|from 1}\n" + status("00") + "00 00 0000000000000000 {point} 9000"},
		{"XKEK-3 step for step", "group", member + "\n" + trusting("G") + "\n80 52 02 01 Lcx({requestg|value} 54({member|plain})) le => 00 00 0000000000000000 {uid} 9000 !1"},
		{"XKEK-3 with the header 67", "group", member + "\n" + trusting("G") + "\n80 52 02 01 Lcx({requestg} 54({member|plain})) le => 00 00 0000000000000000 {uid} 9000"},
		{"XKEK-2 the group signer is not trusted", "group", selectApplication + "\n" + verifyUser + "\n" + member + "\n80 52 02 01 Lcx({requestg|value} 54({member|plain})) le => 6985"},
		{"XKEK-2 another device is trusted", "group", member + "\n" + trusting("B") + "\n80 52 02 01 Lcx({requestg|value} 54({member|plain})) le => 6A80"},
		{"XKEK-4 membership of another device", "group", lines("card G", "80 68 01 73 Lc(54 {efb|7F21.7F4E.7F49.86|x}) 00 => {member:*} 9000", "card A") + "\n" + trusting("G") + "\n80 52 02 01 Lcx({requestg|value} 54({member|plain})) le => 6985"},
		{"XKEK-5 membership with a bit changed", "group", member + "\n" + trusting("G") + "\n80 52 02 01 Lcx({requestg|value} 54({member|plain|flip})) le => 6985"},
		{"XKEK-5 attestation with a bit changed", "group", member + "\n" + trusting("G") + "\n80 52 02 01 Lcx({requestg|value|flip} 54({member|plain})) le => 6300"},
		{"XKEK-3 no membership", "group", member + "\n" + trusting("G") + "\n80 52 02 01 Lcx({requestg|value}) le => 6A80"},
		{"XKEK-3 membership alone", "group", member + "\n" + trusting("G") + "\n80 52 02 01 Lc(54({member|plain})) 00 => 6A80"},
		{"DOM-33 slot in use", "group", member + "\n" + trusting("G") + "\n80 52 02 00 Lcx({requestg|value} 54({member|plain})) le => 6985"},
		{"DOM-30 no such slot", "group", member + "\n" + trusting("G") + "\n80 52 02 02 Lcx({requestg|value} 54({member|plain})) le => 6A86"},
		{"PIN-75 not authenticated", "group", selectApplication + "\n" + member + "\n" + trusting("G") + "\n80 52 02 01 Lcx({requestg|value} 54({member|plain})) le => 6982"},
		{"XKEK-8 the request carries the UID", "group", "let named = {exchangea|67.7F21.7F4E.65.73.80}\n" + `00 D7 CF 00 Lc(54(0000) 53({named}))
			00 B1 CF 00 Lc(54(0000)) 00 => {uid} 9000`},
		{"XKEK-8 that of an ordinary key does not", "group", `00 46 02 00 Lcx(42("UTCA00001") {brainpoolP256r1} 5F20("UTKEY00001") 92(00)) le => {r:*} 9000
			card B
			00 22 81 B6 Lc(83({efa|7F21.7F4E.42}))
			00 2A 00 BE Lc({efa|value})
			00 22 81 B6 Lc(83({efa|7F21.7F4E.5F20}))
			80 62 01 84 Lcx({r|value}) => 6985`},
		{"XKEK-10 agreement", "group", exchange("A", "B") + " !1\n" + status("00") + "00 00 {kcv:8} {uid} 9000\n" + exchange("B", "A") + "\n" + status("00") + "00 00 {kcv} {uid} 9000"},
		{"XKEK-2 the peer's device is not trusted", "group", "80 62 01 84 Lcx({exchangeb|value}) => 6A80"},
		{"XKEK-2 no trusted device", "group", selectApplication + "\n" + verifyUser + "\n80 62 01 84 Lcx({exchangeb|value}) => 6985"},
		{"PKA-14 the peer's request with a bit changed", "group", trusting("B") + "\n80 62 01 84 Lcx({exchangeb|value|flip}) => 6300"},
		{"KEY-8 key without 84", "group", generate("02", "brainpoolP256r1", "91(80)", "92(00)") + "\n" + trusting("B") + "\n80 62 02 84 Lcx({exchangeb|value}) => 6A81"},
		{"KEY-12 key missing", "group", trusting("B") + "\n80 62 07 84 Lcx({exchangeb|value}) => 6A88"},
		{"XKEK-11 key outside of the group", "group", "80 52 01 01 Lc(00) 00 => *\n" + generate("02", "brainpoolP256r1", "91(84)", "92(01)") + "\n" + trusting("B") + "\n80 62 02 84 Lcx({exchangeb|value}) => 6985"},
		{"XKEK-10 key on another curve", "group", generate("02", "secp256r1", "91(84)", "92(00)") + "\n" + trusting("B") + "\n80 62 02 84 Lcx({exchangeb|value}) => 6A80"},
		{"KEY-11 uses are counted", "group", generate("02", "brainpoolP256r1", "90(01)", "91(84)", "92(00)") + "\n" + trusting("B") + "\n80 62 02 84 Lcx({exchangeb|value}) => 9000 !2\n80 62 02 84 Lcx({exchangeb|value}) => 6984"},
		{"XKEK-12 a new agreement replaces", "group", ready + "card A\n" + status("00") + "00 00 {kcv:8} {uid} 9000\n" + generate("02", "brainpoolP256r1", "91(84)", "92(00)") + "\n" + trusting("B") + "\n80 62 02 84 Lcx({exchangeb|value})\n" + status("00") + "00 00 {new:8} {uid} 9000\ndiffer kcv new"},
		{"XKEK-12 survives a reset", "group", ready + "card A\n" + status("00") + "00 00 {kcv:8} {uid} 9000\ncut\n" + selectApplication + "\n" + status("00") + "00 00 {kcv} {uid} 9000"},
		{"XKEK-12 deleted on demand", "group", ready + "card A\n80 52 04 00 00 => 00 00 0000000000000000 {uid} 9000 !1"},
		{"XKEK-13 wrap on A, unwrap on B", "group", ready + lines("card A", generate("05", "secp256r1", "92(00)"), `80 68 05 73 Lc("m") 00 => {s:*} 9000`, "80 72 05 92 00 00 00 => {blob:363} 9000",
			"card B", "80 74 06 93 Lcx({blob})", `80 68 06 73 Lc("m") 00 => {s} 9000`)},
		{"DOM-19 wrap before the agreement", "group", generate("05", "secp256r1", "92(00)") + "\n80 72 05 92 00 00 00 => 6985"},
		{"XKEK-11 a member without the agreement", "group", ready + lines("card A", generate("05", "secp256r1", "92(00)"), "80 72 05 92 00 00 00 => {blob:363} 9000",
			"card C", selectApplication, initialise("0001", "97(02)"), group("C"), "80 74 06 93 Lcx({blob}) => 6985",
			exchange("C", "B"), "80 74 06 93 Lcx({blob}) => 6A88", "80 58 00 00 00 => 2F02 CC00 CC01 9000")},
		{"XKEK-11 a card outside of the group", "group", ready + lines("card A", generate("05", "secp256r1", "92(00)"), "80 72 05 92 00 00 00 => {blob:363} 9000",
			"card C", selectApplication, initialise("0001", "92(00)"), "80 74 06 93 Lcx({blob}) => 6A88")},
		{"XKEK-13 mixed with a DKEK in the other slot", "group", ready + lines("card A", "80 52 01 01 Lc(01) 00 => *", "80 52 00 01 Lc("+shareOne+") 00 => 01 00 ................ 9000", status("00")+"00 00 ................ {uid} 9000")},
	})
}

// ECDH with an authenticated key: KEY-46.
func TestProtocol_AuthenticatedECDH(t *testing.T) {
	t.Parallel()
	start := lines(custodian("B"), "card A", generate("01", "brainpoolP256r1", "91(80 83)")) + "\n"
	play(t, []row{
		{"KEY-46 83 gives what 80 gives", "user", start + trusting("B") + "\n80 62 01 83 Lcx({requestb|value}) le => {s:65} 9000\n80 62 01 80 Lc({requestb|67.7F21.7F4E.7F49.86}) 00 => {s} 9000"},
		{"KEY-46 83 not trusted", "user", start + "80 62 01 83 Lcx({requestb|value}) le => 6985"},
		{"KEY-46 83 a bit changed", "user", start + trusting("B") + "\n80 62 01 83 Lcx({requestb|value|flip}) le => 6300"},
		{"KEY-8 83 not in the default list", "user", start + generate("01", "brainpoolP256r1") + "\n" + trusting("B") + "\n80 62 01 83 Lcx({requestb|value}) le => 6A81"},
		{"KEY-46 83 RSA peer", "user", start + "card B\n" + `00 46 02 00 Lcx(42("UTCA00001") {rsa1024} 5F20("UTKEY00001")) le => {r:*} 9000
			card A
			` + trusting("B") + "\n80 62 01 83 Lcx({r|value}) le => 6A80"},
		{"KEY-46 83 peer on another curve with the same field and order", "user", start + "card B\n" + `00 46 02 00 Lcx(42("UTCA00001") {brainpoolP256t1} 5F20("UTKEY00001")) le => {r:*} 9000
			card A
			` + trusting("B") + "\n80 62 01 83 Lcx({r|value}) le => 6A80"},
		{"KEY-46 83 peer on another curve", "user", start + "card B\n" + `00 46 02 00 Lcx(42("UTCA00001") {secp256r1} 5F20("UTKEY00001")) le => {r:*} 9000
			card A
			` + trusting("B") + "\n80 62 01 83 Lcx({r|value}) le => 6A80"},
	})
}

// Dates of certificates are not judged, as on hardware; roots are.
//
// Shows CVC-19, PKA-37 and PKA-38.
func TestProtocol_ForeignDevices(t *testing.T) {
	t.Parallel()
	tb := after(t, "4.1", lines(selectApplication, withoutPIN("0001", "93(0302)"), "00 B1 2F 02 Lcx(54(0000)) le => {efa:*} 9000"))

	env := chiptest.World("old")
	env.Now = time.Date(2001, time.May, 1, 0, 0, 0, 0, time.UTC)
	d, err := chip.Manufacture(env, chip.Order{Serial: "DENK9900001"})
	require.NoError(t, err)
	tb.put(&chiptest.Card{Name: "B", Env: env, State: chip.Boot(d)})
	tb.run(t, custodian("B"))
	tb.run(t, register("B"))
	tb.run(t, keysStatus+"03 02 02 00 9000")

	// A card of somebody else's root is as good as unknown.
	root := foreignRoot(t)
	ef, err := root.IssueDevice(d.Applet.Device.Key.ECPublic(), "DENK990000200000", env.Now, nil)
	require.NoError(t, err)
	chain, err := cvc.ParseChain(ef)
	require.NoError(t, err)
	tb.Vars["device"], tb.Vars["issuer"] = chain.Device.Raw, chain.Issuer.Raw
	tb.run(t, "00 22 81 B6 Lc(83({issuer|7F21.7F4E.42})) => 6A88")
	tb.run(t, "00 22 81 B6 Lc(83({issuer|7F21.7F4E.5F20})) => 6A88")
	tb.run(t, "00 22 81 B6 Lc(83({efb|#2|7F21.7F4E.42}))\n00 2A 00 BE Lc({issuer|value}) => 6A80")

	// One that only calls itself by the emulator's names is found out.
	body := chain.Device.CertificateBody
	body.CAR = "UTDICAEM0100001"
	forged, err := body.Sign(cvc.ECDSASHA256, cvc.SignEC(root.Key, nil))
	require.NoError(t, err)
	tb.Vars["forged"] = forged.Raw
	tb.run(t, `00 22 81 B6 Lc(83("UTDICAEM0100001"))
		00 2A 00 BE Lc({forged|value}) => 6300`)
}

func foreignRoot(t *testing.T) cvc.Issuer {
	t.Helper()
	day := time.Date(2020, time.January, 1, 0, 0, 0, 0, time.UTC)
	key := func(seed string) *curve.Private {
		k, err := named(t, "brainpoolP256r1").Generate(chiptest.Seeded(seed))
		require.NoError(t, err)
		return k
	}
	root, err := cvc.NewRoot(key("root"), "UTROOT00001", day, nil)
	require.NoError(t, err)
	issuer, err := root.NewIssuer(key("issuer"), "UTISSUER00001", day, nil)
	require.NoError(t, err)
	return issuer
}

// A request that the device has countersigned is not enough; the key itself
// must have signed, too.
func TestProtocol_InnerSignature(t *testing.T) {
	t.Parallel()
	tb := after(t, "4.1", lines(selectApplication, withoutPIN("0001", "93(0302)"), custodian("B"), "card A", trusting("B")))
	genuine, err := cvc.ParseAuthenticated(tb.Vars["requestb"])
	require.NoError(t, err)
	device := tb.card("B").Durable().Device
	inner := genuine.Request
	inner.Raw = []byte(strings.Replace(string(inner.Raw), "UTCUSTB00001", "UTCUSTB00002", 1))
	forged, err := inner.Countersign(cvc.Name(device.Name), cvc.ECDSASHA256, cvc.SignEC(device.Key.EC(), nil))
	require.NoError(t, err)
	tb.Vars["forged"] = forged.Raw
	tb.run(t, "80 54 00 00 Lcx({forged|value}) le => 6300")
	tb.run(t, "80 54 00 00 Lcx({requestb|value}) le => 03 02 02 00 9000")
}
