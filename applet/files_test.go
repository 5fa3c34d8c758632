package applet_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	aid = "E82B0601040181C31F0201"
	// The control information of firmware 4.1 as read from a device
	// (APDU-29), with the options where they belong.
	fci41 = "6F 0A 82 01 78 85 05 00 %s 06 04 01 9000"
)

func TestProtocol_Select(t *testing.T) {
	t.Parallel()
	play(t, []row{
		{"APDU-29 FCI", "user", "00 A4 04 00 Lc(" + aid + ") 00 => " + fmt.Sprintf(fci41, "01")},
		{"APDU-33 FCP", "user", "00 A4 04 04 Lc(" + aid + ") 00 => 62 0A 82 01 78 85 05 00 01 06 04 01 9000"},
		{"APDU-34 no data", "user", "00 A4 04 0C Lc(" + aid + ") => 9000"},
		{"APDU-34 no data though Le", "user", "00 A4 04 0C Lc(" + aid + ") 00 => 9000"},
		{"APDU-28 unknown AID", "user", "00 A4 04 00 Lc(A000000063) 00 => 6A82"},
		{"APDU-28 AID cut short", "user", "00 A4 04 00 Lc(E82B0601040181C31F02) 00 => 6A82"},
		{"APDU-14 P2", "user", "00 A4 04 08 Lc(" + aid + ") 00 => 6A86"},
		{"PIN-10 option bytes as set", "resetonly", "00 A4 04 00 Lc(" + aid + ") 00 => " + fmt.Sprintf(fci41, "21")},
		{"APDU-32 option bytes of a card as shipped", "shipped", "00 A4 04 00 Lc(" + aid + ") 00 => " + fmt.Sprintf(fci41, "00")},
		{"APDU-31 both option bytes", "shipped", lines(initialise("0745"), "00 A4 04 00 Lc("+aid+") 00 => 6F 0A 82 01 78 85 05 07 45 06 04 01 9000")},
		{"APDU-30 firmware before 2.0", "public@1.2", "00 A4 04 00 Lc(" + aid + ") 00 => 6F 07 82 01 78 85 02 01 02 9000"},
		{"APDU-5 firmware 2.6", "public@2.6", "00 A4 04 00 Lc(" + aid + ") 00 => 6F 0A 82 01 78 85 05 00 01 06 02 06 9000"},
		{"APDU-5 firmware 3.1", "public@3.1", "00 A4 04 00 Lc(" + aid + ") 00 => 6F 0A 82 01 78 85 05 00 01 06 03 01 9000"},
		{"APDU-5 firmware 3.2", "public@3.2", "00 A4 04 00 Lc(" + aid + ") 00 => 6F 0A 82 01 78 85 05 00 01 06 03 02 9000"},
		{"APDU-5 firmware 3.5", "public@3.5", "00 A4 04 00 Lc(" + aid + ") 00 => 6F 0A 82 01 78 85 05 00 01 06 03 05 9000"},
		{"APDU-35 logs out", "user", lines("00 20 00 81 => 9000", "00 A4 04 00 Lc("+aid+") 00 => *", "00 20 00 81 => 63C3")},
		{"APDU-35 ends the SO's login", "so", lines("00 20 00 88 => 9000", "00 A4 04 00 Lc("+aid+") 00 => *", "00 20 00 88 => 63CF")},
		{"APDU-35 no current EF", "stock", lines("00 A4 00 00 Lc(CF00)", "00 A4 04 00 Lc("+aid+") 00 => *", "00 B1 00 00 Lc(54(0000)) 00 => 6986")},
		{"APDU-35 drops the challenge", "keys", lines("00 84 00 00 08 => *", "00 A4 04 00 Lc("+aid+") 00 => *", "00 82 00 00 Lc(00) => 6A88")},

		{"FILE-8 EF", "public", "00 A4 00 00 Lc(2F02) 00 => 6F 0B 80 02 .... 82 01 01 83 02 2F02 9000"},
		{"APDU-33 EF, FCP", "stock", "00 A4 00 04 Lc(CF00) 00 => 62 0B 80 02 000B 82 01 01 83 02 CF00 9000"},
		{"APDU-34 EF, no data", "stock", "00 A4 00 0C Lc(CF00) => 9000"},
		{"FILE-9 EF does not exist", "public", "00 A4 00 00 Lc(CE02) 00 => 6A82"},
		{"FILE-9 EF of an unknown prefix", "public", "00 A4 00 00 Lc(1234) 00 => 6A82"},
		{"FILE-12 CCxx on firmware 1.x", "user@1.2", lines(generate("01", "secp256r1"), "80 58 00 00 00 => 2F02 CC00 CC01 9000", "00 A4 00 00 Lc(CC01) 00 => 6A82")},
		{"FILE-12 CC00 on firmware 1.x", "user@1.2", "00 A4 00 00 Lc(CC00) 00 => 6A82"},
		{"FILE-11 CCxx on firmware 3", "user@3.2", lines(generate("01", "secp256r1"), "00 A4 00 00 Lc(CC01) 00 => 6F 0B 80 02 0000 82 01 01 83 02 CC01 9000")},
		{"FILE-11 CC00", "public", "00 A4 00 00 Lc(CC00) 00 => 6F 0B 80 02 0000 82 01 01 83 02 CC00 9000"},
		{"FILE-11 CCxx that does not exist", "user", "00 A4 00 00 Lc(CC07) 00 => 6A82"},
		{"FILE-13 key attributes", "domains", lines("80 52 01 02 Lc(01) => *", "80 52 00 02 Lc("+shareOne+") => *", generate("05", "secp256r1", "90(07)", "91(70 92)", "92(02)"),
			"00 A4 00 00 Lc(CC05) 00 => 6F 1A 80 02 0000 82 01 01 83 02 CC05 A5 0D 90 04 00000007 91 02 7092 92 01 02 9000")},
		{"FILE-13 key attributes, list alone", "stock", "00 A4 00 00 Lc(CC03) 00 => 6F 17 80 02 0000 82 01 01 83 02 CC03 A5 0A 91 05 10111892 99 92 01 00 9000"},
		{"FILE-13 key without attributes", "stock", "00 A4 00 00 Lc(CC01) 00 => 6F 0B 80 02 0000 82 01 01 83 02 CC01 9000"},
		{"FILE-14 path from the MF", "public", "00 A4 08 00 Lc(2F00) 00 => 6A86"},
		{"FILE-9 MF", "public", "00 A4 00 00 Lc(3F00) 00 => 6A82"},
		{"FILE-15 P1 00 without data", "user", "00 A4 00 00 00 => " + fmt.Sprintf(fci41, "01")},
		{"FILE-15 P1 00 without data keeps the login", "user", "00 A4 00 00 00 => *\n00 20 00 81 => 9000"},
		{"FILE-15 P1 00 without data, no current EF", "stock", "00 A4 00 00 Lc(CF00)\n00 A4 00 00 00 => *\n00 B1 00 00 Lc(54(0000)) 00 => 6986"},
		{"FILE-15 other P1", "public", "00 A4 02 00 Lc(2F02) 00 => 6A86"},
		{"FILE-15 other P2", "public", "00 A4 00 01 Lc(2F02) 00 => 6A86"},
		{"FILE-15 one byte", "public", "00 A4 00 00 Lc(2F) 00 => 6700"},
		{"FILE-15 three bytes", "public", "00 A4 00 00 Lc(2F0200) 00 => 6700"},
		{"FILE-10 makes the EF current", "stock", "00 A4 00 00 Lc(CF00)\n00 B1 00 00 Lc(54(0000)) 00 => \"public data\" 9000"},
		{"FILE-10 keeps the login", "stock", "00 A4 00 00 Lc(CF00)\n00 20 00 81 => 9000"},
		{"FILE-10 protected EF without login", "stock", lines(selectApplication, "00 A4 00 00 Lc(CD00) 00 => 6F 0B 80 02 000C 82 01 01 83 02 CD00 9000")},
		{"FILE-10 a failed SELECT keeps the current EF", "stock", "00 A4 00 00 Lc(CF00)\n00 A4 00 00 Lc(CF01) => 6A82\n00 B1 00 00 Lc(54(0000)) 00 => \"public data\" 9000"},
	})
}

func TestProtocol_ReadBinary(t *testing.T) {
	t.Parallel()
	read := func(id, offset, le string) string { return "00 B1 " + id + " Lc(54(" + offset + ")) " + le + " => " }
	empty := "00 D7 CF 01 Lc(54(0000) 53())\n"
	play(t, []row{
		{"FILE-17 Le 00 of less than 256", "stock", read("CF 00", "0000", "00") + `"public data" 9000`},
		{"FILE-18 Le 0000", "stock", `00 B1 CF 00 Lcx(54(0000)) 0000 => "public data" 9000`},
		{"FILE-17 Le 00 of more than 256", "user", "00 D7 CF 00 Lc(54(0000) 53({long}))\n" + read("CF 00", "0000", "00") + "{part:256} 9000"},
		{"FILE-18 Le 0000 gives everything", "user", "00 D7 CF 00 Lc(54(0000) 53({long}))\n00 B1 CF 00 Lcx(54(0000)) 0000 => {long} 9000"},
		{"FILE-18 Le 0000 with an offset", "user", "00 D7 CF 00 Lc(54(0000) 53({long}))\n00 B1 CF 00 Lcx(54(00C8)) 0000 => {part:800} 9000"},
		{"FILE-16 explicit Le beyond the end", "stock", read("CF 00", "0000", "20") + `"public data" 6282`},
		{"FILE-16 explicit Le beyond the end, with an offset", "stock", read("CF 00", "0007", "05") + `"data" 6282`},
		{"APDU-21 explicit Le 256 in extended form", "stock", "00 B1 CF 00 Lcx(54(0000)) 0100 => \"public data\" 6282"},
		{"APDU-21 explicit Le up to the end", "stock", read("CF 00", "0007", "04") + `"data" 9000`},
		{"APDU-21 explicit Le within the file", "stock", read("CF 00", "0001", "03") + `"ubl" 9000`},
		{"FILE-19 offset at the end", "stock", read("CF 00", "000B", "00") + "6282"},
		{"FILE-19 offset at the end, explicit Le", "stock", read("CF 00", "000B", "04") + "6282"},
		{"FILE-20 offset behind the end", "stock", read("CF 00", "000C", "00") + "6B00"},
		{"FILE-20 offset far behind the end", "stock", read("CF 00", "7FFFFFFF", "00") + "6B00"},
		{"FILE-23 offset of one byte", "stock", read("CF 00", "07", "00") + `"data" 9000`},
		{"FILE-23 offset of four bytes", "stock", read("CF 00", "00000007", "00") + `"data" 9000`},
		{"FILE-23 offset of five bytes", "stock", read("CF 00", "0000000007", "00") + "6A80"},
		{"FILE-23 offset of no byte", "stock", read("CF 00", "", "00") + "6A80"},
		{"FILE-20 offset of 2^31", "stock", read("CF 00", "80000000", "00") + "6A80"},
		{"FILE-20 offset above 2^31", "stock", read("CF 00", "FFFFFFFF", "00") + "6A80"},
		{"FILE-19 empty EF, Le 00", "user", empty + read("CF 01", "0000", "00") + "9000"},
		{"FILE-18 empty EF, Le 0000", "user", empty + "00 B1 CF 01 Lcx(54(0000)) 0000 => 9000"},
		{"FILE-19 empty EF, explicit Le", "user", empty + read("CF 01", "0000", "08") + "6282"},
		{"FILE-22 EF not found", "user", read("CE 01", "0000", "00") + "6A82"},
		{"FILE-7 EF of an unknown prefix", "user", read("12 34", "0000", "00") + "6A82"},
		{"FILE-21 no current EF", "user", read("00 00", "0000", "00") + "6986"},
		{"FILE-2 CDxx with login", "stock", read("CD 00", "0000", "00") + `"private data" 9000`},
		{"FILE-2 CDxx without login", "stock", selectApplication + "\n" + read("CD 00", "0000", "00") + "6982"},
		{"FILE-2 CDxx without login, as current EF", "stock", lines(selectApplication, "00 A4 00 00 Lc(CD00)", read("00 00", "0000", "00")+"6982")},
		{"FILE-22 CDxx that does not exist, without login", "public", read("CD 00", "0000", "00") + "6982"},
		{"FILE-4 key", "stock", read("CC 01", "0000", "00") + "6982"},
		{"FILE-4 device key", "stock", read("CC 00", "0000", "00") + "6982"},
		{"FILE-4 key as current EF", "stock", "00 A4 00 00 Lc(CC01)\n" + read("00 00", "0000", "00") + "6982"},
		{"FILE-23 no 54", "stock", "00 B1 CF 00 Lc(53(0000)) 00 => 6A80"},
		{"FILE-23 not TLV", "stock", "00 B1 CF 00 Lc(54 05 00) 00 => 6A80"},
		{"FILE-23 no data field", "stock", "00 B1 CF 00 00 => 6700"},
		{"APDU-22 without Le", "stock", "00 B1 CF 00 Lc(54(0000)) => 9000"},
	})
}

func TestProtocol_UpdateBinary(t *testing.T) {
	t.Parallel()
	all := "\n00 B1 CF 00 Lcx(54(0000)) 0000 => "
	play(t, []row{
		{"FILE-5 not authenticated", "stock", selectApplication + `
			00 D7 CF 00 Lc(54(0000) 53("x")) => 6982`},
		{"FILE-5 never initialised", "shipped", `00 D7 CF 00 Lc(54(0000) 53("x")) => 6982`},
		{"FILE-24 EF does not exist", "user", `00 D7 CF 00 Lc(54(0000) 53("new")) => 9000 !1` + all + `"new" 9000`},
		{"FILE-24 the new EF becomes current", "user", `00 D7 CF 00 Lc(54(0000) 53("new"))
			00 B1 00 00 Lc(54(0000)) 00 => "new" 9000`},
		{"FILE-24 zero length on a new FID", "user", "00 D7 CF 00 06 54 02 00 00 53 00 => 9000 !1" + all + "9000"},
		{"FILE-26 zero length selects", "user", `00 D7 CF 00 06 54 02 00 00 53 00
			00 D7 00 00 Lc(54(0000) 53("then"))` + all + `"then" 9000`},
		{"FILE-26 zero length on an existing EF", "stock", "00 D7 CF 00 Lc(54(0000) 53()) => 9000 !0" + all + `"public data" 9000`},
		{"FILE-26 zero length makes it current", "stock", `00 D7 CF 00 Lc(54(0000) 53())
			00 B1 00 00 Lc(54(0000)) 00 => "public data" 9000`},
		{"FILE-25 offset 0 replaces", "stock", `00 D7 CF 00 Lc(54(0000) 53("new"))` + all + `"new" 9000`},
		{"FILE-27 offset at the end appends", "stock", `00 D7 CF 00 Lc(54(000B) 53(" and more"))` + all + `"public data and more" 9000`},
		{"FILE-27 offset within overwrites", "stock", `00 D7 CF 00 Lc(54(0007) 53("DA"))` + all + `"public DAta" 9000`},
		{"FILE-27 offset within grows", "stock", `00 D7 CF 00 Lc(54(0007) 53("database"))` + all + `"public database" 9000`},
		{"FILE-28 offset behind the end", "stock", `00 D7 CF 00 Lc(54(000C) 53("x")) => 6B00`},
		{"FILE-28 offset of 2^31", "stock", `00 D7 CF 00 Lc(54(80000000) 53("x")) => 6A80`},
		{"FILE-28 offset on a new FID", "user", `00 D7 CF 00 Lc(54(0001) 53("x")) => 6B00`},
		{"FILE-6 2F02", "user", `00 D7 2F 02 Lc(54(0000) 53("x")) => 6982`},
		{"FILE-6 2F02 as current EF", "user", "00 A4 00 00 Lc(2F02)\n" + `00 D7 00 00 Lc(54(0000) 53("x")) => 6982`},
		{"FILE-29 key", "stock", `00 D7 CC 01 Lc(54(0000) 53("x")) => 6982`},
		{"FILE-29 key that does not exist", "stock", `00 D7 CC 44 Lc(54(0000) 53("x")) => 6982`},
		{"FILE-6 device key", "stock", `00 D7 CC 00 Lc(54(0000) 53("x")) => 6982`},
		{"DOM-22 2F10", "user", `00 D7 2F 10 Lc(54(0000) 53("blob"))
			00 B1 2F 10 Lc(54(0000)) 00 => "blob" 9000`},
		{"DOM-22 2F10 in pieces", "user", `00 D7 2F 10 Lc(54(0000) 53("blob"))
			00 D7 2F 10 Lc(54(0004) 53("by")) => 9000
			00 B1 2F 10 Lc(54(0000)) 00 => "blobby" 9000`},
		{"FILE-7 unknown prefix", "user", `00 D7 12 34 Lc(54(0000) 53("x")) => 6A86`},
		{"FILE-7 another 2F", "user", `00 D7 2F 04 Lc(54(0000) 53("x")) => 6A86`},
		{"FILE-21 no current EF", "user", `00 D7 00 00 Lc(54(0000) 53("x")) => 6986`},
		{"FILE-29 no 53", "user", "00 D7 CF 00 Lc(54(0000)) => 6A80"},
		{"FILE-29 no 54 but P1P2", "user", `00 D7 CF 00 Lc(53("only"))` + all + `"only" 9000`},
		{"FILE-29 no 54 and no P1P2", "stock", "00 A4 00 00 Lc(CF00)\n" + `00 D7 00 00 Lc(53("x")) => 6A80`},
		{"FILE-29 not TLV", "user", "00 D7 CF 00 Lc(54 02 00) => 6A80"},
		{"FILE-24 length in one byte", "user", "00 D7 CF 00 Lc(54(0000) 53 81 80 {long|head 128})" + all + "{long|head 128} 9000"},
		{"FILE-29 length in more bytes than needed", "user", `00 D7 CF 00 Lc(54(0000) 53 81 03 "new") => 9000`},
		{"FILE-24 length in two bytes", "user", "00 D7 CF 00 Lc(54(0000) 53({long}))" + all + "{long} 9000"},
		{"FILE-29 no data field", "user", "00 D7 CF 00 => 6700"},
		{"FILE-24 creation in an extended command", "user", "00 D7 CF 00 00 00 06 54 02 00 00 53 00 => 9000 !1" + all + "9000"},
		{"PIN-19 label after INITIALIZE", "shipped", initialise("0001") + `
			00 D7 2F 03 18 54 02 00 00 53 12 30 10 02 01 00 80 07 72 65 67 61 6C 69 61 03 02 05 00
			00 B1 2F 03 Lc(54(0000)) 00 => 30 10 02 01 00 80 07 "regalia" 03 02 05 00 9000`},
	})
}

// The room for files and keys is limited; what does not fit leaves no trace.
//
// Shows FILE-30.
func TestProtocol_UpdateBinaryMemory(t *testing.T) {
	t.Parallel()
	tb := after(t, "4.1", setups["user"])
	fill(t, tb)
	tb.Vars["some"] = tb.Vars["long"][:600]
	tb.run(t, "00 D7 CF 98 Lc(54(0000) 53({some}))")
	before := stored(t, tb.current().Durable())
	tb.run(t, "00 D7 CF 99 Lc(54(0000) 53({long})) => 6A84 !0")
	tb.run(t, "00 D7 CF 00 Lc(54(0FA0) 53({long})) => 6A84 !0")
	tb.run(t, "00 46 01 00 Lcx(42(\"UTCA00001\") {rsa4096} 5F20(\"UTKEY00001\")) le => 6A84 !0")
	require.Equal(t, before, stored(t, tb.current().Durable()))
	// A key is taken back whose request does not fit any more.
	tb.run(t, `00 46 01 00 Lcx(42("UTCA00001") {rsa2048} 5F20("UTKEY00001")) => 6A84 !0
		00 A4 00 00 Lc(CC01) => 6A82`)
	tb.run(t, "00 D7 CF 99 Lc(54(0000) 53(\"small\"))")
	tb.run(t, "00 E4 02 00 Lc(CF01)\n00 D7 CF 99 Lc(54(0000) 53({long}))")
}

// fill writes 19 files of 4000 bytes, which leaves 1520 bytes of 76 KiB.
func fill(t *testing.T, tb *table) {
	t.Helper()
	for i := range 19 {
		for offset := 0; offset < 4000; offset += len(tb.Vars["long"]) {
			tb.run(t, fmt.Sprintf("00 D7 CF %02X Lc(54(%04X) 53({long}))", i, offset))
		}
	}
}

// A key that does not fit leaves the file that it came in.
func TestProtocol_UnwrapMemory(t *testing.T) {
	t.Parallel()
	tb := after(t, "4.1", lines(setups["dkek"], generate("01", "rsa4096"), "80 72 01 92 00 00 00 => {blob:*} 9000", "00 E4 02 00 Lc(CC01)"))
	fill(t, tb)
	tb.run(t, "00 D7 2F 10 Lcx(54(0000) 53({blob}))\n00 A4 00 00 Lc(2F10)")
	before := stored(t, tb.current().Durable())
	tb.run(t, "80 74 01 93 => 6A84 !0")
	require.Equal(t, before, stored(t, tb.current().Durable()))
	tb.run(t, "00 E4 02 00 Lc(CF00)\n80 74 01 93 => 9000 !1")
}

func TestProtocol_DeleteFile(t *testing.T) {
	t.Parallel()
	play(t, []row{
		{"FILE-5 not authenticated", "stock", selectApplication + "\n00 E4 02 00 Lc(CF00) => 6982"},
		{"FILE-31 EF", "stock", "00 E4 02 00 Lc(CF00) => 9000 !1\n00 A4 00 00 Lc(CF00) => 6A82"},
		{"FILE-31 key", "stock", "00 E4 02 00 Lc(CC01) => 9000 !1\n80 58 00 00 00 => 2F02 CF00 CD00 2F03 CC00 CC02 CC03 9000"},
		{"FILE-31 companions stay", "stock", `00 D7 C4 01 Lc(54(0000) 53("description"))
			00 D7 CE 01 Lc(54(0000) 53("certificate"))
			00 E4 02 00 Lc(CC01)
			80 58 00 00 00 => 2F02 CF00 CD00 2F03 C401 CE01 CC00 CC02 CC03 9000`},
		{"FILE-31 the key stays without its companions", "stock", `00 D7 C4 01 Lc(54(0000) 53("description"))
			00 E4 02 00 Lc(C401)
			80 58 00 00 00 => 2F02 CF00 CD00 2F03 CC00 CC01 CC02 CC03 9000`},
		{"FILE-32 EF does not exist", "user", "00 E4 02 00 Lc(CF00) => 6A82"},
		{"FILE-32 key does not exist", "user", "00 E4 02 00 Lc(CC01) => 6A82"},
		{"FILE-7 unknown prefix", "user", "00 E4 02 00 Lc(1234) => 6A82"},
		{"FILE-6 CC00", "user", "00 E4 02 00 Lc(CC00) => 6982"},
		{"FILE-6 2F02", "user", "00 E4 02 00 Lc(2F02) => 6982"},
		{"FILE-31 2F03", "stock", "00 E4 02 00 Lc(2F03) => 9000 !1\n00 A4 00 00 Lc(2F03) => 6A82"},
		{"FILE-34 the last key frees its key domain", "domains", lines("80 52 01 01 Lc(01) => *", "80 52 00 01 Lc("+shareOne+") => *",
			generate("01", "secp256r1", "92(01)"), "80 52 03 01 => 6A89", "00 E4 02 00 Lc(CC01)", "80 52 03 01 => 6A88 !1", "80 52 00 01 00 => 6A88")},
		{"FILE-33 P1 00", "stock", "00 E4 00 00 Lc(CF00) => 9000 !1"},
		{"APDU-14 P1 01", "stock", "00 E4 01 00 Lc(CF00) => 6A86"},
		{"APDU-14 P2 01", "stock", "00 E4 02 01 Lc(CF00) => 6A86"},
		{"FILE-31 one byte", "stock", "00 E4 02 00 Lc(CF) => 6700"},
		{"FILE-31 three bytes", "stock", "00 E4 02 00 Lc(CF0000) => 6700"},
		{"FILE-31 no data", "stock", "00 E4 02 00 => 6700"},
		{"FILE-31 clears the current EF", "stock", "00 A4 00 00 Lc(CF00)\n00 E4 02 00 Lc(CF00)\n00 B1 00 00 Lc(54(0000)) 00 => 6986"},
		{"FILE-31 clears the current key", "stock", "00 A4 00 00 Lc(CC01)\n00 E4 02 00 Lc(CC01)\n00 B1 00 00 Lc(54(0000)) 00 => 6986"},
		{"FILE-31 keeps another current EF", "stock", "00 A4 00 00 Lc(CF00)\n00 E4 02 00 Lc(CD00)\n00 B1 00 00 Lc(54(0000)) 00 => \"public data\" 9000"},
	})
}

func TestProtocol_EnumerateObjects(t *testing.T) {
	t.Parallel()
	write := func(ids ...string) string {
		var out []string
		for _, id := range ids {
			out = append(out, "00 D7 "+id+` Lc(54(0000) 53("x"))`)
		}
		return strings.Join(out, "\n") + "\n"
	}
	play(t, []row{
		{"FILE-35 order of creation, then keys", "user", lines(write("2F 03", "C4 01", "CE 01", "CD 00", "C9 00", "CE 03", "C4 03"),
			generate("03", "secp256r1"), generate("01", "secp256r1"), generate("FF", "secp256r1"), generate("02", "secp256r1"),
			"80 58 00 00 00 00 00 => 2F02 2F03 C401 CE01 CD00 C900 CE03 C403 CC00 CC01 CC02 CC03 CCFF 9000")},
		{"FILE-35 a rewritten EF keeps its place", "user", write("C4 01", "CE 01", "C4 01") + "80 58 00 00 00 => 2F02 C401 CE01 CC00 9000"},
		{"FILE-36 CC00 is listed, C400 and CE00 are not", "public", "80 58 00 00 00 => 2F02 CC00 9000"},
		{"FILE-37 2F03 only once it was written", "user", write("2F 03") + "80 58 00 00 00 => 2F02 2F03 CC00 9000"},
		{"FILE-38 never initialised", "shipped", "80 58 00 00 00 => 2F02 CC00 9000"},
		{"FILE-39 2F10", "user", write("2F 10") + "80 58 00 00 00 => 2F02 CC00 9000"},
		{"DOM-16 UNWRAP adds the key alone", "stock", "80 72 01 92 00 00 00 => {blob:*} 9000\n80 74 09 93 Lcx({blob})\n80 58 00 00 00 => 2F02 CF00 CD00 2F03 CC00 CC01 CC02 CC03 CC09 9000"},
		{"FILE-35 without login", "stock", selectApplication + "\n80 58 00 00 00 => 2F02 CF00 CD00 2F03 CC00 CC01 CC02 CC03 9000"},
		{"APDU-14 P1", "public", "80 58 01 00 00 => 6A86"},
		{"APDU-14 P2", "public", "80 58 00 01 00 => 6A86"},
	})
}

func TestProtocol_GetChallenge(t *testing.T) {
	t.Parallel()
	play(t, []row{
		{"APDU-41 Le 08", "shipped", "00 84 00 00 08 => {c:8} 9000"},
		{"APDU-42 Le 00", "shipped", "00 84 00 00 00 => {c:256} 9000"},
		{"APDU-42 Le 0000", "shipped", "00 84 00 00 00 00 00 => {c:1024} 9000"},
		{"APDU-42 explicit Le of 4096", "shipped", "00 84 00 00 00 10 00 => {c:4096} 9000"},
		{"APDU-42 explicit Le above", "shipped", "00 84 00 00 00 10 01 => {c:4096} 9000"},
		{"APDU-42 explicit Le of 256 in extended form", "shipped", "00 84 00 00 00 01 00 => {c:256} 9000"},
		{"APDU-42 no Le", "shipped", "00 84 00 00 => 6700"},
		{"APDU-42 data", "shipped", "00 84 00 00 Lc(00) 08 => 6700"},
		{"APDU-42 P1", "shipped", "00 84 01 00 08 => 6A86"},
		{"APDU-42 P2", "shipped", "00 84 00 01 08 => 6A86"},
	})
	tb := after(t, "4.1", setups["public"])
	tb.run(t, "00 84 00 00 08 => {one:8} 9000\n00 84 00 00 08 => {two:8} 9000")
	require.NotEqual(t, tb.Vars["one"], tb.Vars["two"])
}
