package applet_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/conform"
)

// Class bytes, forms of APDUs, Le and what is around the application: APDU-6
// to APDU-30.
func TestProtocol_Transport(t *testing.T) {
	t.Parallel()
	play(t, []row{
		{"APDU-11 other class", "user", "40 20 00 81 => 6E00"},
		{"APDU-11 interindustry class of another channel range", "user", "20 20 00 81 => 6E00"},
		{"APDU-11 secure messaging without header authentication", "user", "04 20 00 81 => 6E00"},
		{"APDU-11 the other half", "user", "08 20 00 81 => 6E00"},
		{"APDU-11 proprietary class with other bits", "user", "90 58 00 00 00 => 6E00"},
		{"APDU-11 class FF", "user", "FF 20 00 81 => 6E00"},
		{"APDU-10 ISO command with class 80", "user", "80 20 00 81 => 9000"},
		{"APDU-10 proprietary command with class 00", "user", "00 58 00 00 00 => 2F02 CC00 9000"},
		{"APDU-10 GET CHALLENGE with class 80", "public", "80 84 00 00 08 => ................ 9000"},
		{"APDU-10 SELECT with class 80", "user", "80 A4 00 00 02 2F02 00 => 6F 0B * 9000"},
		{"APDU-8 command chaining", "user", `10 20 00 81 Lc("648219") => 6E00`},
		{"APDU-11 logical channel 1", "user", "01 20 00 81 => 6881"},
		{"APDU-11 logical channel 2", "user", "02 20 00 81 => 6881"},
		{"APDU-11 logical channel 3", "user", "03 20 00 81 => 6881"},
		{"APDU-12 unknown instruction", "user", "00 99 00 00 => 6D00"},
		{"APDU-11 class before instruction", "user", "F0 99 00 00 => 6E00"},

		{"APDU-15 case 1", "public", "00 20 00 81 => 63C3"},
		{"APDU-15 case 2 short", "dkek", "80 52 00 00 00 => 01 00 ................ 9000"},
		{"APDU-15 case 2 extended", "public", "80 58 00 00 00 00 00 => 2F02 CC00 9000"},
		{"APDU-15 case 3 short", "public", verifyUser},
		{"APDU-15 case 3 extended", "user", "00 D7 CF 00 Lcx(54(0000) 53())"},
		{"APDU-15 case 4 short", "public", "00 A4 00 00 Lc(2F02) le => 6F 0B * 9000"},
		{"APDU-15 case 4 extended", "stock", `00 B1 CF 00 Lcx(54(0000)) le => "public data" 9000`},
		{"APDU-16 no case at all", "user", "00 20 00 81 06 31 => 6700"},
		{"APDU-16 fewer than four bytes", "user", "00 20 00 => 6700"},
		{"APDU-16 nothing", "user", " => 6700"},

		{"APDU-18 Le 00 of a short file", "stock", `00 B1 CF 00 Lc(54(0000)) 00 => "public data" 9000`},
		{"APDU-19 SELECT with an explicit Le", "public", "00 A4 00 00 Lc(2F02) 05 => 6F 0B * 9000"},
		{"APDU-19 answer longer than a short Le", "user", lines(
			generate("01", "rsa4096"), `80 68 01 33 Lc("message") 00 => {s:512} 9000`)},
		{"APDU-19 an explicit Le too small", "stock", `80 68 02 33 Lc("message") 08 => {s:128} 9000`},
		{"APDU-22 SIGN without Le", "stock", `80 68 01 73 Lc("message") => 9000`},
		{"APDU-23 SELECT without Le", "public", "00 A4 00 00 Lc(2F02) => 9000"},
		{"APDU-22 ENUMERATE without Le", "public", "80 58 00 00 => 9000"},
		{"APDU-22 status of the DKEK without Le", "dkek", "80 52 00 00 => 9000"},
		{"APDU-21 READ of less than there is", "stock", `00 B1 CF 00 Lc(54(0000)) 06 => "public" 9000`},
		{"APDU-21 GET CHALLENGE of a number", "public", "00 84 00 00 05 => .......... 9000"},

		{"APDU-16 a long command", "user", "00 D7 CF 00 Lc(54(0000) 53({long}))"},

		{"APDU-25 VERIFY before SELECT", "public", "cut\n00 20 00 81 => 6D00"},
		{"APDU-25 VERIFY before SELECT, firmware 3.1", "public@3.1", "cut\n00 20 00 81 => 6D00"},
		{"APDU-26 VERIFY before SELECT, firmware 2.6", "public@2.6", "cut\n00 20 00 81 => 6E00"},
		{"APDU-26 VERIFY before SELECT, firmware 1.2", "public@1.2", "cut\n00 20 00 81 => 6E00"},
		{"APDU-25 a command before SELECT changes nothing", "public", "cut\n" + wrongUser + " => 6D00"},
		{"APDU-27 SELECT by FID before SELECT", "public", "cut\n00 A4 00 00 Lc(2F02) 00 => 6A82"},
		{"APDU-28 foreign AID before SELECT", "public", "cut\n00 A4 04 00 Lc(A000000063) 00 => 6A82"},
		{"APDU-28 foreign AID while selected", "user", "00 A4 04 00 Lc(A000000063504B43532D3135) 00 => 6A82"},
		{"APDU-28 foreign AID keeps the login", "user", "00 A4 04 00 Lc(A000000063) 00 => 6A82\n00 20 00 81 => 9000"},
		{"APDU-37 card manager", "user", "00 A4 04 00 Lc(A000000151000000) 00 => 6F * 9000\n00 20 00 81 => 6D00"},
		{"APDU-37 SELECT without a name is the card manager", "user", "00 A4 04 00 00 => 6F * 9000\n00 20 00 81 => 6D00"},
	})
}

// Every class byte there is: APDU-11.
//
// Shows APDU-7.
func TestProtocol_ClassBytes(t *testing.T) {
	t.Parallel()
	for class := range 256 {
		const secure = 0x0C
		want := "6E00"
		switch bits := class & secure; class &^ secure {
		case 0x00, 0x80:
			if bits == 0 {
				want = "9000"
			} else if bits == secure {
				want = "6985" // no channel
			}
		case 0x01, 0x02, 0x03:
			want = "6881"
		}
		after(t, "4.1", setups["user"]).run(t, fmt.Sprintf("%02X 20 00 81 => %s", class, want))
	}
}

// The clients do not agree which instruction belongs to which class, so each
// works with both: APDU-10.
//
// Shows APDU-9.
func TestProtocol_BothClasses(t *testing.T) {
	t.Parallel()
	for name, p := range probes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tb := visit(t, sessions()["user by PIN"])
			tb.run(t, p.before)
			command, err := conform.Compile(p.command, tb.Vars)
			require.NoError(t, err)
			twin := tb.copied()
			tb.send(t, command)
			command[0] ^= 0x80
			twin.send(t, command)
			require.Equal(t, tb.current().Result.Event.SW, twin.current().Result.Event.SW)
			require.Equal(t, stored(t, tb.current().Durable()), stored(t, twin.current().Durable()))
		})
	}
}

// Instructions that are not the application's: APDU-13.
//
// Shows APDU-6.
func TestProtocol_OtherInstructions(t *testing.T) {
	t.Parallel()
	play(t, []row{
		{"APDU-13 READ BINARY with even instruction byte", "user", "00 B0 2F 02 00 => 6D00"},
		{"APDU-13 UPDATE BINARY with even instruction byte", "user", "00 D6 CF 00 Lc(00) => 6D00"},
		{"APDU-13 extras of another implementation", "user", "80 64 0A 00 => 6D00"},
		{"APDU-13 hierarchical keys of another implementation", "user", "80 4A 01 00 => 6D00"},
		{"APDU-13 GET RESPONSE", "user", "00 C0 00 00 00 => 6D00"},
		{"APDU-13 GET DATA, even", "user", "00 CA 00 66 00 => 6D00"},
		{"APDU-13 GET DATA, odd", "user", "80 CB 00 FF 00 => 6D00"},
		{"PIN-48 VERIFY of a sensor", "user", "80 20 00 85 => 6A88"},
		{"PIN-48 CHANGE REFERENCE DATA of a sensor", "user", `80 24 00 85 Lc("123456") => 6A88`},
	})
}
