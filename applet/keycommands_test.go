package applet_test

import (
	"fmt"
	"testing"
)

// Shows DOM-15.
func TestProtocol_Wrap(t *testing.T) {
	t.Parallel()
	cleared := lines("80 52 01 00 Lc(01) => *", "80 52 00 00 Lc("+shareOne+") => *", generate("01", "secp256r1"), "80 52 04 00 => *")
	play(t, []row{
		{"DOM-44 WRAP EC 256", "stock", "80 72 01 92 00 00 00 => {blob:363} 9000 !0"},
		{"DOM-44 WRAP RSA 1024", "stock", "80 72 02 92 00 00 00 => {blob:523} 9000"},
		{"DOM-44 WRAP AES 128 with a list of five", "stock", "80 72 03 92 00 00 00 => {blob:78} 9000"},
		{"DOM-11 WRAP RSA 2048 leaves in CRT form", "stock", generate("04", "rsa2048") + "\n80 72 04 92 00 00 00 => {kcv:8} 06 * 9000\n80 72 04 92 00 00 00 => {blob:971} 9000"},
		{"DOM-11 WRAP RSA 3072 leaves with its exponent", "stock", generate("04", "rsa3072") + "\n80 72 04 92 00 00 00 => {kcv:8} 05 * 9000\n80 72 04 92 00 00 00 => {blob:843} 9000"},
		{"DOM-44 WRAP RSA 4096", "stock", generate("04", "rsa4096") + "\n80 72 04 92 00 00 00 => {blob:1099} 9000"},
		{"DOM-10 WRAP twice differs", "stock", "80 72 01 92 00 00 00 => {blob:363} 9000\n80 72 01 92 00 00 00 => {other:363} 9000\ndiffer blob other\n80 74 08 93 Lcx({other})\n80 74 09 93 Lcx({blob})"},
		{"DOM-5 WRAP under a random DKEK", "random", generate("01", "secp256r1") + "\n80 72 01 92 00 00 00 => {blob:363} 9000\n80 74 02 93 Lcx({blob})"},
		{"APDU-19 WRAP with a short Le", "stock", "80 72 01 92 00 => {blob:363} 9000"},
		{"KEY-11 WRAP does not count", "dkek", generate("01", "secp256r1", "90(01)") + "\n80 72 01 92 00 00 00 => {blob:363} 9000 !0\n80 68 01 73 Lc(00) 00 => * 9000"},
		{"PIN-75 WRAP 6982", "stock", selectApplication + "\n80 72 01 92 00 00 00 => 6982"},
		{"DOM-4 WRAP 6D00", "user", generate("01", "secp256r1") + "\n80 72 01 92 00 00 00 => 6D00"},
		{"DOM-17 WRAP 6A88", "stock", "80 72 07 92 00 00 00 => 6A88"},
		{"DOM-18 WRAP 6A81", "dkek", generate("01", "secp256r1", "91(70 73)") + "\n80 72 01 92 00 00 00 => 6A81"},
		{"DOM-18 WRAP with a list that has 92", "dkek", generate("01", "secp256r1", "91(92)") + "\n80 72 01 92 00 00 00 => * 9000"},
		{"DOM-19 WRAP 6985", "domains", cleared + "\n80 72 01 92 00 00 00 => 6985"},
		{"DOM-38 WRAP 6985 in an empty slot", "domains", generate("01", "secp256r1") + "\n80 72 01 92 00 00 00 => 6985"},
		{"DOM-20 WRAP 6986", "stock", "80 72 00 92 00 00 00 => 6986"},
		{"DOM-20 WRAP other P2", "stock", "80 72 01 93 00 00 00 => 6A86"},
		{"DOM-10 WRAP data", "stock", "80 72 01 92 Lc(00) 00 => 6700"},
	})
}

func TestProtocol_Unwrap(t *testing.T) {
	t.Parallel()
	const blob = "80 72 01 92 00 00 00 => {blob:*} 9000\n"
	sign := `80 68 %s 73 Lc("message") 00 => {s:*} 9000` + "\n" + `80 68 %s 73 Lc("message") 00 => {s} 9000`
	play(t, []row{
		{"DOM-10 UNWRAP inline", "stock", blob + "80 74 09 93 Lcx({blob}) => 9000 !1\n" + fmt.Sprintf(sign, "01", "09")},
		{"DOM-22 UNWRAP via EF", "stock", blob + "00 D7 2F 10 Lc(54(0000) 53({blob}))\n80 74 09 93 => 9000 !1\n" + fmt.Sprintf(sign, "01", "09")},
		{"DOM-22 UNWRAP via EF in pieces", "stock", blob + lines("00 D7 2F 10 Lc(54(0000) 53({blob|head 200}))", "let rest = {blob|from 200}", "00 D7 2F 10 Lc(54(00C8) 53({rest}))", "80 74 09 93")},
		{"FILE-39 UNWRAP deletes EF 2F10", "stock", blob + "00 D7 2F 10 Lc(54(0000) 53({blob}))\n80 74 09 93\n00 A4 00 00 Lc(2F10) => 6A82"},
		{"FILE-39 UNWRAP inline deletes EF 2F10, too", "stock", blob + "00 D7 2F 10 Lc(54(0000) 53(\"old\"))\n80 74 09 93 Lcx({blob})\n00 A4 00 00 Lc(2F10) => 6A82"},
		{"FILE-39 UNWRAP refused keeps EF 2F10", "stock", "00 D7 2F 10 Lc(54(0000) 53(\"old\"))\n80 74 09 93 => 6400\n00 A4 00 00 Lc(2F10)"},
		{"DOM-16 UNWRAP creates no companions", "stock", blob + "80 74 09 93 Lcx({blob})\n00 A4 00 00 Lc(C409) => 6A82\n00 A4 00 00 Lc(CE09) => 6A82"},
		{"DOM-12 UNWRAP takes the list of the blob", "dkek", lines(generate("01", "secp256r1", "91(73 92)"), blob, "80 74 09 93 Lcx({blob})", "80 68 09 73 Lc(00) 00 => * 9000", "80 68 09 70 Lc(00) 00 => 6A81",
			"00 A4 00 00 Lc(CC09) 00 => * A5 07 91 02 7392 92 01 00 9000")},
		{"DOM-13 UNWRAP gives no counter", "dkek", lines(generate("01", "secp256r1", "90(01)"), blob, "80 74 09 93 Lcx({blob})", "80 68 09 73 Lc(00) 00 => * 9000", "80 68 09 73 Lc(00) 00 => * 9000")},
		{"PIN-75 UNWRAP 6982", "stock", blob + selectApplication + "\n80 74 09 93 Lcx({blob}) => 6982"},
		{"DOM-4 UNWRAP 6D00", "stock", blob + initialise("0001") + "\n80 74 09 93 Lcx({blob}) => 6D00"},
		{"DOM-23 UNWRAP 6A88", "stock", "80 74 09 93 => 6A88"},
		{"DOM-23 UNWRAP 6A88, empty EF", "stock", "00 D7 2F 10 Lc(54(0000) 53())\n80 74 09 93 => 6A88"},
		{"DOM-25 UNWRAP incomplete EF", "stock", blob + "00 D7 2F 10 Lc(54(0000) 53({blob|head 200}))\n80 74 09 93 => 6400\n80 58 00 00 00 => 2F02 CF00 CD00 2F03 CC00 CC01 CC02 CC03 9000"},
		{"DOM-24 UNWRAP another DKEK", "stock", blob + initialise("0001", "92(00)") + "\n80 74 09 93 Lcx({blob}) => 6A88"},
		{"DOM-47 UNWRAP wrong MAC", "stock", blob + "80 74 09 93 Lcx({blob|flip}) => 6400"},
		{"DOM-25 UNWRAP cut blob", "stock", blob + "80 74 09 93 Lcx({blob|-1}) => 6400"},
		{"DOM-25 UNWRAP one byte", "stock", "80 74 09 93 Lc(00) => 6400"},
		{"DOM-49 UNWRAP key check value alone", "stock", blob + "80 74 09 93 Lc({blob|head 8}) => 6400"},
		{"DOM-20 UNWRAP 6A89", "stock", blob + "80 74 02 93 Lcx({blob}) => 6A89"},
		{"DOM-20 UNWRAP over itself", "stock", blob + "80 74 01 93 Lcx({blob}) => 6A89"},
		{"DOM-21 UNWRAP over itself with 94", "dkek", lines(generate("01", "secp256r1", "91(70 92 94)", "90(05)"), blob, "80 74 01 93 Lcx({blob}) => 9000 !1")},
		{"DOM-21 UNWRAP over another key with 94", "dkek", lines(generate("01", "secp256r1", "91(70 92 94)"), generate("02", "secp256r1", "91(70 92 94)"), blob, "80 74 02 93 Lcx({blob}) => 6A89")},
		{"DOM-21 UNWRAP over another kind with 94", "dkek", lines(generate("01", "secp256r1", "91(70 92 94)"), generate("02", "rsa1024", "91(20 92 94)"), blob, "80 74 02 93 Lcx({blob}) => 6A89")},
		{"DOM-21 UNWRAP over RSA itself with 94", "dkek", lines(generate("01", "rsa1024", "91(20 92 94)"), blob, "80 74 01 93 Lcx({blob}) => 9000")},
		{"DOM-21 UNWRAP over AES with 94", "dkek", lines("00 48 01 B0 Lc(91(10 92 94))", blob, "80 74 01 93 Lcx({blob}) => 9000")},
		{"DOM-19 UNWRAP 6985", "stock", blob + initialise("0001", "92(02)") + "\n80 74 09 93 Lcx({blob}) => 6985"},
		{"DOM-38 UNWRAP 6985, empty slots", "stock", blob + initialise("0001", "97(02)") + "\n80 74 09 93 Lcx({blob}) => 6985"},
		{"DOM-20 UNWRAP 6986", "stock", blob + "80 74 00 93 Lcx({blob}) => 6986"},
		{"DOM-20 UNWRAP other P2", "stock", blob + "80 74 09 92 Lcx({blob}) => 6A86"},
		{"DOM-10 RSA 2048 there and back", "stock", lines(generate("04", "rsa2048"), "80 72 04 92 00 00 00 => {blob:971} 9000", "80 74 09 93 Lcx({blob})", `80 68 04 33 Lc("m") 00 => {s:256} 9000`, `80 68 09 33 Lc("m") 00 => {s} 9000`)},
		{"DOM-10 RSA 4096 there and back", "stock", lines(generate("04", "rsa4096"), "80 72 04 92 00 00 00 => {blob:1099} 9000", "80 74 09 93 Lcx({blob})", `80 68 04 33 Lc("m") 00 => {s:512} 9000`, `80 68 09 33 Lc("m") 00 => {s} 9000`)},
		{"DOM-10 AES there and back", "stock", lines("80 72 03 92 00 00 00 => {blob:*} 9000", "80 74 09 93 Lcx({blob})", `80 78 03 18 Lc("m") 00 => {s:16} 9000`, `80 78 09 18 Lc("m") 00 => {s} 9000`)},
		{"DOM-10 a key leaves one card and works on another", "stock", lines(blob, `80 68 01 73 Lc("message") 00 => {s:*} 9000`,
			"card B", selectApplication, initialise("0001", "92(01)"), "80 52 00 00 Lc("+shareOne+") => *", "80 74 05 93 Lcx({blob})", `80 68 05 73 Lc("message") 00 => {s} 9000`)},
		{"DOM-24 a card with another DKEK stores nothing", "stock", lines(blob,
			"card B", selectApplication, initialise("0001", "92(01)"), "80 52 00 00 Lc("+shareTwo+") => *", "80 74 05 93 Lcx({blob}) => 6A88 !0", "80 58 00 00 00 => 2F02 CC00 9000")},
		{"DOM-41 RSA 3072 into firmware 2.6", "stock", lines(generate("04", "rsa3072"), "80 72 04 92 00 00 00 => {blob:*} 9000",
			"card B 2.6", selectApplication, initialise("0001", "92(01)"), "80 52 00 00 Lc("+shareOne+")", "80 74 05 93 Lcx({blob}) => 6A81")},
		{"DOM-41 curve of 384 bits into firmware 2.6", "stock", lines(generate("04", "secp384r1"), "80 72 04 92 00 00 00 => {blob:*} 9000",
			"card B 2.6", selectApplication, initialise("0001", "92(01)"), "80 52 00 00 Lc("+shareOne+")", "80 74 05 93 Lcx({blob}) => 6A81")},
		{"DOM-41 curve of 256 bits into firmware 2.6", "stock", lines(blob,
			"card B 2.6", selectApplication, initialise("0001", "92(01)"), "80 52 00 00 Lc("+shareOne+")", "80 74 05 93 Lcx({blob})")},
		{"DOM-41 curve of 320 bits into firmware 2.6", "stock", lines(generate("04", "brainpoolP320r1"), "80 72 04 92 00 00 00 => {blob:*} 9000",
			"card B 2.6", selectApplication, initialise("0001", "92(01)"), "80 52 00 00 Lc("+shareOne+")", "80 74 05 93 Lcx({blob})")},
		{"DOM-41 twisted curve of 320 bits into firmware 2.6", "stock", lines(generate("04", "brainpoolP320t1"), "80 72 04 92 00 00 00 => {blob:*} 9000",
			"card B 2.6", selectApplication, initialise("0001", "92(01)"), "80 52 00 00 Lc("+shareOne+")", "80 74 05 93 Lcx({blob})")},
		{"DOM-41 twisted curve of 384 bits into firmware 2.6", "stock", lines(generate("04", "brainpoolP384t1"), "80 72 04 92 00 00 00 => {blob:*} 9000",
			"card B 2.6", selectApplication, initialise("0001", "92(01)"), "80 52 00 00 Lc("+shareOne+")", "80 74 05 93 Lcx({blob}) => 6A81")},
		{"DOM-41 the largest curve", "stock", lines(generate("04", "secp521r1"), "80 72 04 92 00 00 00 => {blob:667} 9000", "80 74 05 93 Lcx({blob})")},
		{"DOM-41 AES into firmware 2.6", "stock", lines("80 72 03 92 00 00 00 => {blob:*} 9000",
			"card B 2.6", selectApplication, initialise("0001", "92(01)"), "80 52 00 00 Lc("+shareOne+")", "80 74 05 93 Lcx({blob}) => 6A81")},
		{"DOM-10 a real card's key", "shipped", lines(initialise("0001", "92(01)"), "80 52 00 00 Lc(2848CB6E994F5A00C365C3C255ED130512CE1EB06BF08D348EEB8B2F866E3E50) 00 => 01 00 97E303855DC1C54D 9000",
			"80 74 01 93 Lcx("+realBlob+")", `80 68 01 73 Lc("message") 00 => 30 * 9000`, "80 72 01 92 00 00 00 => 97E303855DC1C54D 0C * 9000")},
	})
}

// realBlob is a key of a real card, published with its DKEK (DOM-10).
const realBlob = "97E303855DC1C54D0C000A04007F00070202020203000000000000B2C97ABAF6BF457FD94D5D76EB668DD10D042B3AEB" +
	"ACC4F5B36F723E1CA129C0B6676F2B63BA6ACCF71923B6BD8D2C3A9190E19722C763C3082C35605CAAA4D2C2EEF72B42" +
	"C5B5040DA7F9A7A5450D33F49722137F479F9F34BF8D79D08FF109C756EDB3C1FF77B5B2EDC548DA72629708BC618F5C" +
	"262591420D45C5DECB6CC5CD4AEF328C8320AA90AA1F755F0AAEE27AF363CC5DB5D21D912570866884C491C51325DF73" +
	"194BB641FD74080E49559A3A11A96C29ECCDDBF8DCAD16352588A8B58990ADF360DF03E0E9D6081772D89A33B38931C6" +
	"4EBF4F9C8A3AA10FC87D71525A299401739531C0856B694BC124B2DF87183BEC684824BF57DBA60CA511F3BE96FCF16C" +
	"06A4C4AD9C5C844D04D0F3D8A95208EA818D92263D1B754B0A840BD41B8D12F328B891F7BBAD8F84806F5CFC24FAA7B3" +
	"8B369FB98EFDB77BCCFB5AF27E6021516B79619479E6138663277D"

// Shows DOM-3.
func TestProtocol_KeyDomain(t *testing.T) {
	t.Parallel()
	const (
		empty = " 0000000000000000 9000"
		query = "80 52 00 00 00 => "
	)
	share := func(slot, share string) string { return "80 52 00 " + slot + " Lc(" + share + ") 00 => " }
	play(t, []row{
		{"DOM-2 classic, real transcript", "shipped", lines(initialise("0001", "92(02)"), selectApplication, query+"02 02"+empty,
			share("00", shareOne)+"02 01"+empty, query+"02 01"+empty, share("00", shareTwo)+"02 00 {kcv:8} 9000", query+"02 00 {kcv} 9000")},
		{"DOM-8 shares in the other order", "shipped", lines(initialise("0001", "92(02)"), share("00", shareOne)+"*", share("00", shareTwo)+"02 00 {kcv:8} 9000",
			initialise("0001", "92(02)"), share("00", shareTwo)+"*", share("00", shareOne)+"02 00 {kcv} 9000")},
		{"DOM-2 another share, another check value", "shipped", lines(initialise("0001", "92(01)"), share("00", shareOne)+"01 00 AE216C2EF5247A37 9000")},
		{"DOM-6 random DKEK", "random", query + "01 00 {kcv:8} 9000\n" + share("00", shareOne) + "6985"},
		{"DOM-7 share without login", "shipped", lines(initialise("0001", "92(01)"), selectApplication, share("00", shareOne)+"01 00 ................ 9000 !1")},
		{"APDU-22 share without Le", "shipped", initialise("0001", "92(01)") + "\n80 52 00 00 Lc(" + shareOne + ") => 9000 !1"},
		{"DOM-4 no DKEK", "user", query + "6D00"},
		{"DOM-4 no DKEK, share", "user", share("00", shareOne) + "6D00"},
		{"DOM-4 no DKEK, create", "user", "80 52 01 00 Lc(01) 00 => 6D00"},
		{"DOM-4 never initialised", "shipped", query + "6D00"},
		{"DOM-29 empty slot", "domains", query + "6A88"},
		{"DOM-29 empty slot, share", "domains", share("00", shareOne) + "6A88"},
		{"DOM-29 empty slot, delete", "domains", "80 52 03 00 => 6A88"},
		{"DOM-29 empty slot, clear", "domains", "80 52 04 00 => 6A88"},
		{"DOM-30 last slot", "domains", "80 52 00 02 00 => 6A88"},
		{"DOM-30 no such slot", "domains", "80 52 00 03 00 => 6A86"},
		{"DOM-30 no such slot, create", "domains", "80 52 01 03 Lc(01) 00 => 6A86"},
		{"DOM-30 no such slot, classic", "dkek", "80 52 00 01 00 => 6A86"},
		{"DOM-9 all shares present", "dkek", share("00", shareTwo) + "6985"},
		{"DOM-9 share of 31 bytes", "pending", "80 52 00 00 Lc({long|head 31}) 00 => 6700"},
		{"DOM-9 share of 33 bytes", "pending", "80 52 00 00 Lc({long|head 33}) 00 => 6700"},
		{"DOM-9 share for an XKEK domain", "group", "80 52 00 00 Lc(" + shareOne + ") => 6985"},
		{"DOM-37 create", "domains", "80 52 01 01 Lc(02) 00 => 02 02" + empty + " !1\n80 52 00 01 00 => 02 02" + empty},
		{"DOM-33 create in a slot in use", "domains", "80 52 01 01 Lc(02) 00 => *\n80 52 01 01 Lc(01) 00 => 6985"},
		{"DOM-37 create with a random key", "domains", "80 52 01 01 Lc(00) 00 => 01 00 {kcv:8} 9000"},
		{"DOM-37 create without a number", "domains", "80 52 01 01 => 6700"},
		{"DOM-37 create with two numbers", "domains", "80 52 01 01 Lc(0101) => 6700"},
		{"DOM-35 delete", "domains", "80 52 01 01 Lc(02) 00 => *\n80 52 03 01 => 6A88 !1\n80 52 00 01 00 => 6A88"},
		{"DOM-34 delete while a key belongs to it", "domains", lines("80 52 01 01 Lc(01) 00 => *", share("01", shareOne)+"*", generate("01", "secp256r1", "92(01)"), "80 52 03 01 => 6A89")},
		{"DOM-37 delete with data", "domains", "80 52 03 01 Lc(00) => 6700"},
		{"DOM-35 delete the classic one", "dkek", "80 52 03 00 => 6A88 !1\n" + query + "6A88"},
		{"DOM-36 clear", "domains", lines("80 52 01 01 Lc(01) 00 => *", share("01", shareOne)+"01 00 {kcv:8} 9000", "80 52 04 01 00 => 01 01"+empty+" !1", share("01", shareOne)+"01 00 {kcv} 9000")},
		{"DOM-19 clear and wrap", "domains", lines("80 52 01 00 Lc(01) 00 => *", share("00", shareOne)+"*", generate("01", "secp256r1"), "80 72 01 92 00 => * 9000", "80 52 04 00 00 => *", "80 72 01 92 00 => 6985", share("00", shareOne)+"*", "80 72 01 92 00 => * 9000")},
		{"APDU-14 other P1", "domains", "80 52 05 00 00 => 6A86"},
		{"DOM-28 create before firmware 3", "user@2.6", "80 52 01 00 Lc(01) 00 => 6A86"},
		{"DOM-28 status before firmware 3", "dkek@2.6", query + "01 00 ................ 9000"},
		{"DOM-2 status of firmware 1.2", "dkek@1.2", query + "01 00 ................ 9000"},

		{"DOM-31 each key domain wraps its own", "domains", lines("80 52 01 00 Lc(01) 00 => *", share("00", shareOne)+"*", "80 52 01 01 Lc(01) 00 => *", share("01", shareTwo)+"*",
			generate("01", "secp256r1", "92(00)"), generate("02", "secp256r1", "92(01)"),
			"80 72 01 92 00 00 00 => {kcv:8} {one:*} 9000", "80 72 02 92 00 00 00 => {other:8} {two:*} 9000",
			"80 52 00 00 00 => 01 00 {kcv} 9000", "80 52 00 01 00 => 01 00 {other} 9000",
			"80 74 03 93 Lcx({other} {two})", "00 A4 00 00 Lc(CC03) 00 => * 92 01 01 9000",
			"80 52 03 01 => 6A89", "80 52 04 01 => *", "80 74 04 93 Lcx({other} {two}) => 6A88", "80 74 04 93 Lcx({kcv} {one})")},
		{"KEY-29 key in a domain that is not there", "domains", `00 46 01 00 Lcx(42("UTCA00001") {secp256r1} 5F20("UTKEY00001") 92(07)) le => 6A88`},
		{"KEY-29 key in an empty slot, named", "domains", `00 46 01 00 Lcx(42("UTCA00001") {secp256r1} 5F20("UTKEY00001") 92(00)) le => 6A88`},
		{"DOM-32 key without a domain object", "domains", generate("01", "secp256r1") + "\n80 72 01 92 00 00 00 => 6985"},
		{"KEY-27 key while shares are missing", "pending", `00 46 01 00 Lcx(42("UTCA00001") {secp256r1} 5F20("UTKEY00001")) le => 6985`},
		{"KEY-28 AES key while shares are missing", "pending", "00 48 01 B0 => 6985"},
		{"KEY-26 domain of two bytes", "domains", "00 48 01 B0 Lc(92(0000)) => 6A80"},
		{"KEY-29 domain 0 without key wrapping", "user", generate("01", "secp256r1", "92(00)")},
		{"KEY-29 domain 1 without key wrapping", "user", "00 48 01 B0 Lc(92(01)) => 6A88"},
	})
}

func TestProtocol_GenerateKeyPair(t *testing.T) {
	t.Parallel()
	const key = `42("UTCA00001") {secp256r1} 5F20("UTKEY00001")`
	of := func(p1p2, data, le string) string { return "00 46 " + p1p2 + " Lcx(" + data + ") " + le + " => " }
	template := func(content string) string {
		return `42("UTCA00001") 7F49(` + content + `) 5F20("UTKEY00001")`
	}
	rsa := "06(04007F00070202020102) "
	play(t, []row{
		{"KEY-32 with Le", "user", of("01 00", key, "le") + "67 * 9000 !1\n00 A4 00 00 Lc(CE01) => 6A82"},
		{"APDU-19 with a short Le", "user", `00 46 01 00 Lc(42("UTCA00001") 7F49(` + rsa + `82(010001) 02(0400)) 5F20("UTKEY00001")) 00 => 67 * 9000`},
		{"KEY-31 without Le", "user", of("01 00", key, "") + "9000 !1\n00 B1 CE 01 Lcx(54(0000)) le => 67 * 9000"},
		{"KEY-31 without Le, again", "user", "00 D7 CE 01 Lc(54(0000) 53({long}))\n" + of("01 00", key, "") + "9000\n00 B1 CE 01 Lcx(54(0000)) le => {request:*} 9000\nlet body = {request|67}"},
		{"KEY-24 key id in use", "stock", "80 72 01 92 00 => {blob:*} 9000\n" + generate("01", "rsa1024") + "\n80 72 01 92 00 => {other:523} 9000"},
		{"KEY-24 key id in use, attributes are replaced", "user", lines(generate("01", "secp256r1", "90(05)", "91(70)"), generate("01", "secp256r1"), "00 A4 00 00 Lc(CC01) 00 => 6F 0B * 9000")},
		{"KEY-24 key id in use, companions stay", "user", lines(generate("01", "secp256r1"), `00 D7 C4 01 Lc(54(0000) 53("x"))`, `00 D7 CE 01 Lc(54(0000) 53("y"))`, generate("01", "secp256r1"), `00 B1 CE 01 Lc(54(0000)) 00 => "y" 9000`)},
		{"KEY-13 key id 00", "user", of("00 00", key, "le") + "6A86"},
		{"KEY-21 key id FF", "user", generate("FF", "secp256r1")},
		{"PIN-75 not authenticated", "public", of("01 00", key, "le") + "6982"},
		{"KEY-19 unsupported RSA size", "user", of("01 00", template(rsa+"82(010001) 02(0200)"), "le") + "6A81"},
		{"KEY-19 RSA size that no card has", "user", of("01 00", template(rsa+"82(010001) 02(0801)"), "le") + "6A81"},
		{"KEY-19 RSA size beyond all", "user", of("01 00", template(rsa+"82(010001) 02(0100000800)"), "le") + "6A81"},
		{"KEY-15 RSA 4096 on firmware 2.6", "user@2.6", of("01 00", `42("UTCA00001") {rsa4096} 5F20("UTKEY00001")`, "le") + "6A81"},
		{"KEY-15 RSA 2048 on firmware 1.2", "user@1.2", generate("01", "rsa2048")},
		{"KEY-20 exponent 3", "user", of("01 00", template(rsa+"82(03) 02(0400)"), "le") + "67 * 9000"},
		{"KEY-20 exponent 1", "user", of("01 00", template(rsa+"82(01) 02(0400)"), "le") + "6A81"},
		{"KEY-20 even exponent", "user", of("01 00", template(rsa+"82(010000) 02(0400)"), "le") + "6A81"},
		{"KEY-19 unsupported curve", "user", of("01 00", template("06(04007F00070202020203) 81(17) 82(01) 83(02) 84(040506) 85(13)"), "le") + "6A81"},
		{"KEY-19 unsupported curve, one parameter changed", "user", of("01 00", template("{secp256r1|7F49|head 80} 83({long|head 32}) {secp256r1|7F49|from 114}"), "le") + "6A81"},
		{"KEY-19 A of another curve with the same field and order", "user", of("01 00", template("{brainpoolP256r1|7F49|head 46} 82({brainpoolP256t1|7F49.82}) {brainpoolP256r1|7F49|from 80}"), "le") + "6A81"},
		{"KEY-15 secp521r1 on firmware 2.6", "user@2.6", of("01 00", `42("UTCA00001") {secp521r1} 5F20("UTKEY00001")`, "le") + "6A81"},
		{"KEY-15 brainpoolP320r1 on firmware 2.6", "user@2.6", generate("01", "brainpoolP320r1")},
		{"KEY-26 any order", "user", of("01 00", `5F20("UTKEY00001") 90(01) {secp256r1} 42("UTCA00001") 5F29(00)`, "le") + "67 * 9000"},
		{"KEY-26 parameters in any order", "user", of("01 00", template(rsa+"02(0400) 82(010001)"), "le") + "67 * 9000"},
		{"KEY-26 no 5F29", "user", of("01 00", key, "le") + "67 * 9000"},
		{"KEY-22 no 42: CAR is CHR", "user", of("01 00", `{secp256r1} 5F20("UTDUMMY00000")`, "le") + "{r:*} 9000\nlet car = {r|67.7F21.7F4E.42}\nlet chr = {r|67.7F21.7F4E.5F20}\n" + `00 D7 CF 00 Lc(54(0000) 53({car}))
			00 B1 CF 00 Lc(54(0000)) 00 => "UTDUMMY00000" 9000`},
		{"KEY-26 no 7F49", "user", of("01 00", `42("UTCA00001") 5F20("UTKEY00001")`, "le") + "6A80"},
		{"KEY-26 no 5F20", "user", of("01 00", `42("UTCA00001") {secp256r1}`, "le") + "6A80"},
		{"KEY-26 empty 5F20", "user", of("01 00", `42("UTCA00001") {secp256r1} 5F20()`, "le") + "6A80"},
		{"KEY-26 5F20 of 17 bytes", "user", of("01 00", `42("UTCA00001") {secp256r1} 5F20("UTKEY678901234567")`, "le") + "6A80"},
		{"KEY-26 42 of 17 bytes", "user", of("01 00", `42("UTKEY678901234567") {secp256r1} 5F20("UTKEY00001")`, "le") + "6A80"},
		{"KEY-26 unknown OID", "user", of("01 00", template("06(04007F00070202020209) 82(010001) 02(0400)"), "le") + "6A81"},
		{"KEY-26 no OID", "user", of("01 00", template("82(010001) 02(0400)"), "le") + "6A80"},
		{"KEY-26 no size", "user", of("01 00", template(rsa+"82(010001)"), "le") + "6A80"},
		{"KEY-60 no exponent", "user", of("01 00", template(rsa+"02(0400)"), "le") + "67 * 9000"},
		{"KEY-26 a domain parameter missing", "user", of("01 00", template("{secp256r1|7F49|head 114}"), "le") + "6A80"},
		{"KEY-26 no cofactor", "user", of("01 00", template("{secp256r1|7F49|-1|-1|-1}"), "le") + "67 * 9000"},
		{"KEY-26 template not TLV", "user", of("01 00", template("06 0A 04"), "le") + "6A80"},
		{"KEY-26 not TLV", "user", of("01 00", "42 09 55", "le") + "6A80"},
		{"KEY-26 counter of five bytes", "user", of("01 00", key+" 90(0000000001)", "le") + "6A80"},
		{"KEY-26 counter of no byte", "user", of("01 00", key+" 90()", "le") + "6A80"},
		{"KEY-26 extensions", "user", of("01 00", key+" 65(73(06(2B) 80(01)))", "le") + "{r:*} 9000\nlet e = {r|67.7F21.7F4E.65.73.80}"},
		{"KEY-26 object of older clients", "user", of("01 00", key+" 8A(00)", "le") + "67 * 9000"},
		{"KEY-23 P2: key missing", "user", of("01 05", key+` 45("UTOUTER00001")`, "le") + "6A88"},
		{"KEY-23 P2: no 45", "stock", of("05 01", key, "le") + "6A80"},
		{"KEY-23 P2: empty 45", "stock", of("05 01", key+" 45()", "le") + "6A80"},
		{"KEY-23 P2: 45 of 17 bytes", "stock", of("05 01", key+` 45("UTOUTER8901234567")`, "le") + "6A80"},
		{"KEY-23 P2: by an EC key", "stock", of("05 01", key+` 45("UTOUTER00001")`, "le") + "{r:*} 9000\nlet outer = {r|67.42}"},
		{"KEY-23 P2: by an RSA key", "stock", of("05 02", key+` 45("UTOUTER00001")`, "le") + "67 * 9000"},
		{"KEY-23 P2: the list of that key applies", "user", generate("01", "secp256r1", "91(70)") + "\n" + of("05 01", key+` 45("UTOUTER00001")`, "le") + "6A81"},
		{"KEY-23 P2: the counter of that key applies", "user", generate("01", "secp256r1", "90(01)") + "\n" + of("05 01", key+` 45("UTOUTER00001")`, "le") + "67 * 9000 !2\n80 68 01 73 Lc(00) 00 => 6984"},
		{"KEY-23 P2: a key used up", "user", generate("01", "secp256r1", "90(00)") + "\n" + of("05 01", key+` 45("UTOUTER00001")`, "le") + "6984"},
		{"KEY-23 P2: AES key", "stock", of("05 03", key+` 45("UTOUTER00001")`, "le") + "6A81"},
		{"KEY-26 no data", "user", "00 46 01 00 => 6700"},
	})
}

func TestProtocol_GenerateSymmetricKey(t *testing.T) {
	t.Parallel()
	play(t, []row{
		{"KEY-34 AES-128", "user", "00 48 01 B0 Lc(91(10)) => 9000 !1"},
		{"KEY-34 AES-192", "user", "00 48 01 B1 Lc(91(10))"},
		{"KEY-34 AES-256", "user", "00 48 01 B2 Lc(91(10))"},
		{"KEY-34 another implementation's AES-512", "user", "00 48 01 B3 Lc(91(10)) => 6A86"},
		{"KEY-34 creates no EF", "user", "00 48 01 B0 Lc(91(10))\n80 58 00 00 00 => 2F02 CC00 CC01 9000"},
		{"KEY-9 default list", "user", "00 48 01 B0\n80 78 01 10 Lc({long|head 16}) 00 => {c:16} 9000\n80 78 01 11 Lc({c}) 00 => {long|head 16} 9000\n80 78 01 18 Lc(00) 00 => {c:16} 9000\n80 78 01 99 Lc(00) 00 => {c:32} 9000"},
		{"KEY-34 counter of one byte", "user", "00 48 01 B0 Lc(90(02))\n80 78 01 18 Lc(00) 00 => * 9000\n80 78 01 18 Lc(00) 00 => * 9000\n80 78 01 18 Lc(00) 00 => 6984"},
		{"KEY-34 counter of four bytes", "user", "00 48 01 B0 Lc(90(00000001) 91(18))\n80 78 01 18 Lc(00) 00 => * 9000\n80 78 01 18 Lc(00) 00 => 6984"},
		{"KEY-34 wrapping key id", "user", "00 48 01 B0 Lc(91(10) 93(05))"},
		{"KEY-13 key id 00", "user", "00 48 00 B0 => 6A86"},
		{"PIN-75 not authenticated", "public", "00 48 01 B0 => 6982"},
		{"KEY-34 not TLV", "user", "00 48 01 B0 Lc(91 05 10) => 6A80"},
		{"KEY-33 before firmware 3", "user@2.6", "00 48 01 B0 => 6D00"},
	})
}

func TestProtocol_Sign(t *testing.T) {
	t.Parallel()
	play(t, []row{
		{"PIN-75 6982", "stock", selectApplication + "\n80 68 01 73 Lc(00) 00 => 6982"},
		{"KEY-10 6984", "user", generate("01", "secp256r1", "90(02)") + "\n80 68 01 73 Lc(00) 00 => * 9000 !1\n80 68 01 73 Lc(00) 00 => * 9000 !1\n80 68 01 73 Lc(00) 00 => 6984 !0"},
		{"KEY-10 6984 from the beginning", "user", generate("01", "secp256r1", "90(00)") + "\n80 68 01 73 Lc(00) 00 => 6984"},
		{"KEY-11 a use is counted though the data are refused", "user", generate("01", "rsa1024", "90(01)") + "\n80 68 01 20 Lc(00) 00 => 6700 !1\n80 68 01 33 Lc(00) 00 => 6984"},
		{"KEY-11 a key without counter saves nothing", "stock", "80 68 01 73 Lc(00) 00 => * 9000 !0"},
		{"KEY-5 6A81 not in the list", "user", generate("01", "secp256r1", "91(70)") + "\n80 68 01 73 Lc(00) 00 => 6A81\n80 68 01 70 Lc(00) 00 => * 9000"},
		{"KEY-5 6A81 empty list", "user", generate("01", "secp256r1", "91()") + "\n80 68 01 70 Lc(00) 00 => 6A81"},
		{"KEY-11 6A81 for a refused algorithm costs no use", "user", generate("01", "secp256r1", "90(01)", "91(70)") + "\n80 68 01 73 Lc(00) 00 => 6A81 !0\n80 68 01 70 Lc(00) 00 => * 9000"},
		{"KEY-5 6A81 RSA algorithm, EC key", "stock", "80 68 01 33 Lc(00) 00 => 6A81"},
		{"KEY-5 6A81 ECDSA, RSA key", "stock", "80 68 02 73 Lc(00) 00 => 6A81"},
		{"KEY-5 6A81 AES key", "stock", "80 68 03 73 Lc(00) 00 => 6A81"},
		{"KEY-5 6A81 unknown algorithm", "stock", "80 68 01 5F Lc(00) 00 => 6A81"},
		{"KEY-5 6A81 algorithm of DECIPHER", "stock", "80 68 02 21 Lc({long|head 128}) 00 => 6A81"},
		{"KEY-12 6A88", "stock", "80 68 07 73 Lc(00) 00 => 6A88"},
		{"KEY-41 6700 raw RSA, short", "stock", "80 68 02 20 Lc({long|head 127}) 00 => 6700"},
		{"KEY-41 6700 raw RSA, long", "stock", "80 68 02 20 Lc({long|head 129}) 00 => 6700"},
		{"KEY-39 6700 PSS of an impossible hash", "stock", "80 68 02 40 Lc({long|head 31}) 00 => 6700"},
		{"KEY-40 6700 PSS of a DigestInfo", "stock", "80 68 02 40 Lc({long|head 51}) 00 => 6700"},
		{"KEY-38 6700 DigestInfo too long", "stock", "80 68 02 30 Lc({long|head 118}) 00 => 6700"},
		{"KEY-38 DigestInfo as long as it may be", "stock", "80 68 02 30 Lc({long|head 117}) 00 => {s:128} 9000"},
		{"KEY-41 6700 empty", "stock", "80 68 01 70 00 => 6700"},
		{"KEY-41 6A80 raw RSA above the modulus", "stock", "80 68 02 20 Lc(FFFFFFFFFFFFFFFF {long|head 120}) 00 => 6A80"},
		{"KEY-13 device key", "user", "80 68 00 73 Lc(00) 00 => 6A81"},
	})
}

func TestProtocol_Decipher(t *testing.T) {
	t.Parallel()
	point := "{secp256r1|7F49.84}"
	play(t, []row{
		{"KEY-45 ECDH", "stock", "80 62 01 80 Lc(" + point + ") 00 => 04 {x:32} {y:32} 9000"},
		{"PIN-75 6982", "stock", selectApplication + "\n80 62 01 80 Lc(" + point + ") 00 => 6982"},
		{"KEY-10 6984", "user", generate("01", "secp256r1", "90(01)") + "\n80 62 01 80 Lc(" + point + ") 00 => * 9000 !1\n80 62 01 80 Lc(" + point + ") 00 => 6984"},
		{"KEY-5 6A81 not in the list", "user", generate("01", "secp256r1", "91(70)") + "\n80 62 01 80 Lc(" + point + ") 00 => 6A81"},
		{"KEY-5 6A81 RSA algorithm, EC key", "stock", "80 62 01 21 Lc({long|head 128}) 00 => 6A81"},
		{"KEY-5 6A81 ECDH, RSA key", "stock", "80 62 02 80 Lc(" + point + ") 00 => 6A81"},
		{"KEY-5 6A81 ECDH, AES key", "stock", "80 62 03 80 Lc(" + point + ") 00 => 6A81"},
		{"KEY-5 6A81 unknown algorithm", "stock", "80 62 02 2F Lc({long|head 128}) 00 => 6A81"},
		{"KEY-5 6A81 algorithm of SIGN", "stock", "80 62 02 20 Lc({long|head 128}) 00 => 6A81"},
		{"KEY-12 6A88", "stock", "80 62 07 21 Lc({long|head 128}) 00 => 6A88"},
		{"KEY-47 6700 ciphertext too short", "stock", "80 62 02 21 Lc({long|head 127}) 00 => 6700"},
		{"KEY-47 6700 no ciphertext", "stock", "80 62 02 21 00 => 6700"},
		{"KEY-47 6700 point too short", "stock", "80 62 01 80 Lc(" + point[:len(point)-1] + "|-1}) 00 => 6700"},
		{"KEY-47 6A80 point not on the curve", "stock", "80 62 01 80 Lc(" + point[:len(point)-1] + "|flip}) 00 => 6A80"},
		{"KEY-47 6A80 compressed point", "stock", "80 62 01 80 Lc(02 " + point[:len(point)-1] + "|x} {long|head 32}) 00 => 6A80"},
		{"KEY-44 6A80 ciphertext above the modulus", "stock", "80 62 02 21 Lc(FFFFFFFFFFFFFFFF {long|head 120}) 00 => 6A80"},
		{"KEY-44 6A80 decryption fails, PKCS #1", "stock", "80 62 02 22 Lc({long|head 128}) 00 => 6A80"},
		{"KEY-44 6A80 decryption fails, OAEP", "stock", "80 62 02 23 Lc({long|head 128}) 00 => 6A80"},
		{"KEY-13 device key", "user", "80 62 00 80 Lc(" + point + ") 00 => 6A81"},
		{"KEY-13 device key, XKEK", "user", "80 62 00 84 Lc(00) 00 => 6985"},
	})
}

func TestProtocol_SymmetricCipher(t *testing.T) {
	t.Parallel()
	play(t, []row{
		{"KEY-48 CBC there and back", "stock", "80 78 03 10 Lc({long|head 64}) 00 => {c:64} 9000\n80 78 03 11 Lc({c}) 00 => {long|head 64} 9000"},
		{"KEY-49 CMAC", "stock", "80 78 03 18 Lc({long|head 17}) 00 => {c:16} 9000\n80 78 03 18 Lc({long|head 17}) 00 => {c} 9000"},
		{"KEY-52 derivation", "stock", "80 78 03 99 Lc(\"label\") 00 => {c:32} 9000\n80 78 03 99 Lc(\"label\") 00 => {c} 9000"},
		{"KEY-51 derivation on an RSA key", "stock", "80 78 02 99 05 0102030405 00 => 6A81"},
		{"KEY-5 EC key", "stock", "80 78 01 10 Lc({long|head 16}) 00 => 6A81"},
		{"KEY-5 not in the list", "user", "00 48 01 B0 Lc(91(18))\n80 78 01 10 Lc({long|head 16}) 00 => 6A81"},
		{"KEY-50 CBC of half a block", "stock", "80 78 03 10 Lc({long|head 24}) 00 => 6700"},
		{"KEY-50 CBC decryption of half a block", "stock", "80 78 03 11 Lc({long|head 15}) 00 => 6700"},
		{"KEY-50 CBC of nothing", "stock", "80 78 03 10 00 => 6700"},
		{"KEY-50 CMAC of nothing", "stock", "80 78 03 18 00 => 6700"},
		{"KEY-50 derivation of nothing", "stock", "80 78 03 99 00 => 6700"},
		{"PIN-75 not authenticated", "stock", selectApplication + "\n80 78 03 10 Lc({long|head 16}) 00 => 6982"},
		{"KEY-12 key missing", "stock", "80 78 07 10 Lc({long|head 16}) 00 => 6A88"},
		{"KEY-13 device key", "stock", "80 78 00 10 Lc({long|head 16}) 00 => 6A81"},
		{"KEY-33 before firmware 3", "user@2.6", "80 78 01 10 Lc({long|head 16}) 00 => 6D00"},
	})
}

func TestProtocol_DeriveECKey(t *testing.T) {
	t.Parallel()
	parent := generate("02", "secp256r1", "91(73 92 98)")
	play(t, []row{
		{"KEY-7 without list", "stock", "80 76 01 09 03 98 54 62 => 6A81"},
		{"KEY-55 with 98", "user", parent + "\n80 76 02 03 03 98 54 62 => 9000 !1\n80 58 00 00 00 => 2F02 CC00 CC02 CC03 9000"},
		{"KEY-53 the same parameter gives the same key", "user", parent + "\n80 76 02 03 Lc(98 5462)\n80 76 02 04 Lc(98 005462)\n" + `80 68 03 73 Lc("m") 00 => {s:*} 9000
			80 68 04 73 Lc("m") 00 => {s} 9000`},
		{"KEY-53 another key than its parent", "user", parent + "\n80 76 02 03 Lc(98 5462)\n" + `80 68 02 73 Lc("m") 00 => {s:*} 9000
			80 68 03 73 Lc("m") 00 => {other:*} 9000
			differ s other`},
		{"KEY-54 list without 98, no counter, same domain", "domains", lines("80 52 01 01 Lc(01) => *", "80 52 00 01 Lc("+shareOne+") => *", generate("02", "secp256r1", "90(05)", "91(73 98 92)", "92(01)"), "80 76 02 03 Lc(98 01)",
			"00 A4 00 00 Lc(CC03) 00 => * A5 07 91 02 7392 92 01 01 9000")},
		{"KEY-11 counts against the parent", "user", generate("02", "secp256r1", "90(01)", "91(98)") + "\n80 76 02 03 Lc(98 01) => 9000 !2\n80 76 02 04 Lc(98 01) => 6984"},
		{"KEY-25 new id in use", "user", parent + "\n80 76 02 02 Lc(98 01) => 6A89"},
		{"KEY-13 new id 00", "user", parent + "\n80 76 02 00 Lc(98 01) => 6A86"},
		{"KEY-55 other derivation", "user", parent + "\n80 76 02 03 Lc(99 01) => 6A81"},
		{"KEY-55 no parameter", "user", parent + "\n80 76 02 03 Lc(98) => 6700"},
		{"KEY-55 no data", "user", parent + "\n80 76 02 03 => 6700"},
		{"KEY-12 key missing", "user", "80 76 02 03 Lc(98 01) => 6A88"},
		{"KEY-5 RSA key", "user", generate("02", "rsa1024", "91(98)") + "\n80 76 02 03 Lc(98 01) => 6A81"},
		{"KEY-13 device key", "user", "80 76 00 03 Lc(98 01) => 6A81"},
		{"PIN-75 not authenticated", "stock", selectApplication + "\n80 76 01 03 Lc(98 01) => 6982"},
		{"KEY-33 before firmware 3", "user@2.6", "80 76 01 03 Lc(98 01) => 6D00"},
	})
}
