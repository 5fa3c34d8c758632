package applet_test

import "testing"

// BER lets a length be longer than it needs to be, and clients say 53 82 00 03.
// Where the value is right, the command is (APDU-48). What is
// signed stays in DER.
func TestLengths_LongerThanNeeded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, setup, script string }{
		{"UPDATE BINARY", "user", "00 D7 CF 01 Lc(54 02 0000 53 82 0003 414243)\n00 B1 CF 01 Lc(54(0000)) 00 => 414243 9000"},
		{"UPDATE BINARY, both", "user", "00 D7 CF 01 Lc(54 81 02 0000 53 83 000003 414243)\n00 B1 CF 01 Lc(54(0000)) 00 => 414243 9000"},
		{"UPDATE BINARY, four bytes", "user", "00 D7 CF 01 Lc(54(0000) 53 84 00000003 414243)\n00 B1 CF 01 Lc(54(0000)) 00 => 414243 9000"},
		{"UPDATE BINARY, five bytes", "user", "00 D7 CF 01 Lc(54(0000) 53 85 0000000003 414243) => 6A80 !0"},
		{"UPDATE BINARY, indefinite", "user", "00 D7 CF 01 Lc(54(0000) 53 80 414243 0000) => 6A80 !0"},
		{"UPDATE BINARY, a value that is not there", "user", "00 D7 CF 01 Lc(54(0000) 53 82 0004 414243) => 6A80 !0"},
		{"UPDATE BINARY, the largest length", "user", "00 D7 CF 01 Lc(54(0000) 53 84 FFFFFFFF 414243) => 6A80 !0"},
		{"READ BINARY", "user", "00 B1 2F 02 Lc(54 82 0002 0000) 04 => 7F21.... 9000"},
		{"INITIALIZE DEVICE", "shipped", `80 50 00 00 Lc(80 81 02 0001 81 82 0006 "648219" 82 83 000008 3537363231383830 91 81 01 03)` + "\n" + queryUser + " => 9000"},
		{"INITIALIZE DEVICE, a value that is not there costs no try", "user", `80 50 00 00 Lc(80(0001) 81("648219") 82(3537363231383830) 91 81 02 03) => 6A80 !0` + "\n" + querySO + " => 63CF"},
		{"GENERATE, RSA", "user", `00 46 01 00 Lc(42 81 09 "UTCA00001" ` + "7F49 82 0012 06 81 0A 04007F00070202020102 02 81 02 0400" + ` 5F20 81 09 "UTKEY0001") 00 => 67 * 9000`},
		{"GENERATE, an attribute", "user", `00 46 01 00 Lcx(42("UTCA00001") {secp256r1} 5F20("UTKEY0001") 90 81 01 05 92 82 0001 00) le => 67 * 9000` + "\n80 68 01 73 Lc(00) 00 => 30 * 9000 !1"},
		{"GENERATE, extensions", "user", `00 46 01 00 Lcx(42("UTCA00001") {secp256r1} 5F20("UTKEY0001") 65 81 09 73(06(2A03) 80(01))) le => 67 * 9000`},
		{"GENERATE, in what is signed", "user", `00 46 01 00 Lcx(42("UTCA00001") {secp256r1} 5F20("UTKEY0001") 65(73 81 07 06(2A03) 80(01))) le => 6A80 !0`},
		{"GENERATE SYMMETRIC KEY", "user", "00 48 01 B0 Lc(91 81 02 1011)"},
		{"MANAGE SECURITY ENVIRONMENT, a device", "public", "00 22 81 B6 Lc(83 81 0F {ef|7F21.7F4E.42}) => 9000"},
		{"MANAGE SECURITY ENVIRONMENT, chip authentication", "public", "00 22 41 A4 Lc(80 82 000A 04007F00070202030202)"},
		{"GENERAL AUTHENTICATE", "public", "00 22 41 A4 Lc(80(04007F00070202030202))\n00 86 00 00 Lc(7C 81 44 80 81 41 {brainpoolP256r1|7F49.84}) 00 => 7C * 9000"},
		{"RSA without an exponent", "user", `00 46 01 00 Lcx(42("UTCA00001") 7F49(06(04007F00070202020102) 02(0400)) 5F20("UTKEY0001")) le => {r:*} 9000` +
			"\n" + "let e = {r|67.7F21.7F4E.7F49.82}\n" + "00 D7 CF 02 Lc(54(0000) 53({e}))\n00 B1 CF 02 Lc(54(0000)) 00 => 010001 9000"},
		{"RSA with an empty exponent", "user", `00 46 01 00 Lcx(42("UTCA00001") 7F49(06(04007F00070202020102) 82() 02(0400)) 5F20("UTKEY0001")) le => 6A81 !0`},
		{"a certificate", "public", "00 B1 2F 02 Lcx(54(0000)) le => {ef:*} 9000\n00 22 81 B6 Lc(83({ef|7F21.7F4E.42})) => 9000\nlet body = {ef|7F21.7F4E}\nlet sig = {ef|7F21.5F37}\n" +
			"00 2A 00 BE Lcx(7F4E({body}) 5F37 81 40 {sig}) => 6A80\n00 2A 00 BE Lcx(7F4E({body}) 5F37({sig})) => 9000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			after(t, "4.1", setups[c.setup]+"\n00 B1 2F 02 Lcx(54(0000)) le => {ef:*} 9000").run(t, c.script)
		})
	}
}
