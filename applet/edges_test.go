package applet_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
)

// Where rules meet: each row is a place that one rule alone gets wrong.
func TestEdges(t *testing.T) {
	t.Parallel()
	both := challenge + "\n" + authenticate("B") + "\n" + authenticate("C")
	again := challenge + "\n" + authenticate("C") + "\n" + authenticate("D")
	play(t, []row{
		{"PKA-20 a new challenge forgets the keys, the PIN alone does not do", "pinandkeys", both + "\n" + challenge + "\n" + verifyUser + "\nholds U=3/3 S=15 nobody\n" + queryUser + " => 6300"},
		{"PKA-20 randomness in between forgets them, too", "pinandkeys", both + "\n00 84 00 00 00 01 01 => * 9000\n" + verifyUser + "\nholds U=3/3 S=15 nobody"},
		{"PKA-20 they come back with it", "pinandkeys", both + "\n" + challenge + "\n" + verifyUser + "\n" + again + "\nholds U=3/3 S=15 user keys=2"},
		{"PKA-20 a new challenge ends no login", "pinandkeys", both + "\n" + verifyUser + "\n" + challenge + "\nholds U=3/3 S=15 user"},

		{"PIN-49 stay logged in for another reference", "user", "00 20 01 85 => 6A86\n00 20 01 86 => 6A86\n00 20 01 88 => 6A86\n00 20 01 82 => 6A86"},

		{"PIN-53 blocked outranks the fixed length", "blocked@1.2", `00 24 00 81 Lc("000000" "6482190") => 6983`},
		{"PIN-43 #32 no PIN outranks the fixed length", "shipped@1.2", withoutPIN("0001", "93(0101)") + "\n" + `00 24 00 81 Lc("000000" "648219") => 6A88`},
		{"PIN-53 fixed length", "public@1.2", `00 24 00 81 Lc("648219" "6482190") => 6A80
			00 24 00 81 Lc("648219" "648218")`},

		{"DOM-28 a form that the firmware lacks", "user@2.6", "80 52 01 00 Lc(01) => 6A86\n80 78 01 10 => 6D00"},

		{"APDU-11 SELECT of the card manager in another class", "user", "01 A4 04 00 => 6881\nF0 A4 04 00 => 6E00\n10 A4 04 00 => 6E00\n" + queryUser + " => 9000"},
		{"APDU-11 SELECT of the application in another class", "user", "02 A4 04 00 Lc(E82B0601040181C31F0201) => 6881\n" + queryUser + " => 9000"},
		{"APDU-11 another class does not select", "shipped", "cut\n01 A4 04 00 Lc(E82B0601040181C31F0201) => 6881\n" + queryUser + " => 6D00"},
	})
}

// The first command without secure messaging ends the channel, also one that is
// refused for its class (SM-25).
func TestEdges_AnyPlainCommandEndsTheChannel(t *testing.T) {
	t.Parallel()
	for _, class := range []byte{0x00, 0x80, 0x01, 0x03, 0x10, 0xF0, 0x04, 0x88} {
		t.Run(fmt.Sprintf("%02X", class), func(t *testing.T) {
			t.Parallel()
			tb := after(t, applet.DefaultFirmware, setups["public"])
			tb.run(t, lines("sm on aes128", verifyUser, "holds U=3/3 S=15 user"))
			tb.current().Step([]byte{class, 0x58, 0x00, 0x00, 0x00})
			tb.run(t, lines("holds U=3/3 S=15 nobody", queryUser+" => 6985"))
		})
	}
}

// What somebody called a key cannot steer the terminal that shows a trace.
func TestEdges_NamesOfKeysArePrintable(t *testing.T) {
	t.Parallel()
	tb := after(t, applet.DefaultFirmware, lines(selectApplication, withoutPIN("0001", "93(0101)"),
		"00 B1 2F 02 Lcx(54(0000)) le => {efa:*} 9000", custodian("B"),
		`00 46 01 00 Lcx({brainpoolP256r1} 5F20(1B5B324A "00001")) le => {requestb:*} 9000`, register("B"), challenge))
	for _, command := range []string{"00 22 81 A4 Lc(83(1B5B324A \"00001\"))", "00 82 00 00 Lc({long|head 64}) => 6300"} {
		tb.run(t, command)
		require.NotContains(t, tb.current().Result.Event.String(), "\x1B", command)
		require.Contains(t, tb.current().Result.Event.Subject, `"\x1b[2J00001"`, command)
	}
}
