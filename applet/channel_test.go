package applet_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/chiptest"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
)

func TestProtocol_ChipAuthentication(t *testing.T) {
	t.Parallel()
	choose := func(nn string) string { return "00 22 41 A4 Lc(80(04007F000702020302" + nn + "))" }
	present := "00 86 00 00 Lc(7C(80({point}))) 00"
	with := func(script string) string { return "let point = {brainpoolP256r1|7F49.84}\n" + script }
	play(t, []row{
		{"SM-1 3DES", "shipped", with(choose("01") + "\n" + present + " => 7C 14 81 08 {nonce:8} 82 08 {token:8} 9000 !0")},
		{"SM-1 AES-128", "shipped", with(choose("02") + "\n" + present + " => 7C 14 81 08 {nonce:8} 82 08 {token:8} 9000")},
		{"SM-2 AES-192", "shipped", with(choose("03") + "\n" + present + " => 7C 14 * 9000")},
		{"SM-2 AES-256", "shipped", with(choose("04") + "\n" + present + " => 7C 14 * 9000")},
		{"SM-7 unknown protocol", "shipped", choose("05") + " => 6A80"},
		{"SM-7 version 1 of the protocol", "shipped", "00 22 41 A4 Lc(80(04007F000702020301)) => 6A80"},
		{"SM-7 no 80", "shipped", "00 22 41 A4 Lc(84(00)) => 6A80"},
		{"SM-7 empty 80", "shipped", "00 22 41 A4 Lc(80()) => 6A80"},
		{"SM-9 84 beside it", "shipped", "00 22 41 A4 Lc(80(04007F00070202030202) 84(00))"},
		{"SM-9 83 beside it", "shipped", "00 22 41 A4 Lc(80(04007F00070202030202) 83(00))"},
		{"SM-7 point not on the curve", "shipped", with("let point = {point|flip}\n" + choose("02") + "\n" + present + " => 6A80")},
		{"SM-7 point too short", "shipped", with("let point = {point|-1}\n" + choose("02") + "\n" + present + " => 6A80")},
		{"SM-7 compressed point", "shipped", with("let point = 02 {point|x}\n" + choose("02") + "\n" + present + " => 6A80")},
		{"SM-7 not TLV", "shipped", choose("02") + "\n00 86 00 00 Lc(7C 05 00) 00 => 6A80"},
		{"SM-7 no data", "shipped", choose("02") + "\n00 86 00 00 00 => 6A80"},
		{"SM-7 other object", "shipped", with(choose("02") + "\n00 86 00 00 Lc(7C(81({point}))) 00 => 6A80")},
		{"SM-6 no MSE", "shipped", with(present + " => 6985")},
		{"SM-6 after a refused MSE", "shipped", with(choose("05") + " => 6A80\n" + present + " => 6985")},
		{"SM-6 a second time", "shipped", with(choose("02") + "\n" + present + " => * 9000\n" + present + " => 6985")},
		{"SM-6 again after a wrong point", "shipped", with(choose("02") + "\n00 86 00 00 Lc(7C(80(00))) 00 => 6A80\n" + present + " => * 9000")},
		{"APDU-14 P1", "shipped", with(choose("02") + "\n00 86 01 00 Lc(7C(80({point}))) 00 => 6A86")},
		{"APDU-14 P2", "shipped", with(choose("02") + "\n00 86 00 01 Lc(7C(80({point}))) 00 => 6A86")},
		{"SM-4 without PIN", "public", "sm on aes128\n" + queryUser + " => 63C3"},
		{"SM-4 never initialised", "shipped", "sm on 3des\n" + queryUser + " => 6A88"},
		{"APDU-38 not on firmware 1.2", "public@1.2", with(choose("02") + " => 6A80\n" + present + " => 6D00")},
		{"SM-4 on firmware 2.6", "public@2.6", "sm on aes128\n" + queryUser + " => 63C3"},
	})
}

func TestProtocol_SecureMessaging(t *testing.T) {
	t.Parallel()
	for _, suite := range []string{"3des", "aes128", "aes192", "aes256"} {
		on := "sm on " + suite + "\n"
		play(t, []row{
			{"SM-18 query, case 1, " + suite, "public", on + queryUser + " => 63C3"},
			{"SM-18 query, case 2, " + suite, "public", on + queryUser + " 00 => 63C3"},
			{"SM-21 data and none, " + suite, "public", on + verifyUser + "\n" + queryUser + " => 9000"},
			{"SM-11 odd instruction, " + suite, "stock", on + `00 B1 CF 00 Lc(54(0000)) 00 => "public data" 9000`},
			{"SM-11 odd instruction that writes, " + suite, "stock", on + `00 D7 CF 00 Lc(54(0000) 53("new")) => 9000
				00 B1 CF 00 Lcx(54(0000)) 0000 => "new" 9000`},
			{"SM-13 long data both ways, " + suite, "user", on + "00 D7 CF 00 Lc(54(0000) 53({long}))\n00 B1 CF 00 Lcx(54(0000)) 0000 => {long} 9000"},
			{"SM-12 class 80, " + suite, "user", on + "80 58 00 00 00 => 2F02 CC00 9000"},
			{"SM-19 warnings, " + suite, "stock", on + `00 B1 CF 00 Lc(54(0000)) 20 => "public data" 6282`},
			{"SM-19 errors, " + suite, "public", on + "00 D7 CF 00 Lc(54(0000) 53(00)) => 6982\n" + wrongUser + " => 63C2\n00 99 00 00 => 6D00\n00 A4 00 00 Lc(CF77) => 6A82"},
			{"SM-13 many commands, " + suite, "stock", on + again(40, "80 68 01 73 Lc(00) 00 => 30 * 9000", queryUser+" => 9000")},
			{"SM-8 a new channel in the old one, " + suite, "user", on + queryUser + "\nsm on aes128\n" + queryUser + " => 9000\nsm on " + suite + "\n" + queryUser + " => 9000"},
		})
	}
	for _, suite := range []string{"3des", "aes128", "aes192", "aes256"} { // the longest command there is a use for, on the chip with the least room for it
		play(t, []row{{"DOM-10 RSA 4096 unwrapped, " + suite, "dkek@3.6", lines(generate("04", "rsa4096"), "80 72 04 92 00 00 00 => {blob:1099} 9000",
			"sm on "+suite, "80 74 09 93 Lcx({blob})", `80 68 09 33 Lcx("m") 0000 => {s:512} 9000`)}})
	}
	play(t, []row{
		{"SM-10 login before the channel", "user", "sm on aes128\n" + queryUser + " => 9000"},
		{"SM-22 no channel", "user", "0C 20 00 81 0D 97 01 00 8E 08 D5B19DF5B9E45799 00 => 6985"},
		{"SM-22 no channel, login stays", "user", "0C 20 00 81 0D 97 01 00 8E 08 D5B19DF5B9E45799 00 => 6985\n" + queryUser + " => 9000"},
		{"SM-25 plain command", "public", "sm on aes128\n" + verifyUser + "\nsm off\n" + queryUser + " => 63C3\n0C 20 00 81 0D 97 01 00 8E 08 D5B19DF5B9E45799 00 => 6985"},
		{"SM-27 plain SELECT", "public", "sm on aes128\nsm off\n" + selectApplication + "\n0C 20 00 81 0D 97 01 00 8E 08 D5B19DF5B9E45799 00 => 6985"},
		{"SM-25 plain command that is refused", "public", "sm on aes128\n" + verifyUser + "\nsm off\n00 99 00 00 => 6D00\n" + queryUser + " => 63C3"},
		{"SM-27 SELECT in the channel logs out and ends it", "user", "sm on aes128\n" + selectApplication + "\nsm off\n0C 20 00 81 0D 97 01 00 8E 08 D5B19DF5B9E45799 00 => 6985\n" + queryUser + " => 63C3"},

		{"SM-25 login in the channel ends with it", "public", "sm on aes128\n" + verifyUser + "\nsm off\n" + queryUser + " => 63C3"},
		{"SM-28 NoBindSM", "public", "sm on aes128\n" + verifyUser + "\n00 20 01 81\nsm off\n" + queryUser + " => 9000"},
		{"SM-28 the flag ends with the channel", "public", lines("sm on aes128", verifyUser, "00 20 01 81", "sm off", queryUser, "sm on aes128", verifyUser, "sm off", queryUser+" => 63C3")},
		{"SM-29 with PIN in the channel", "public", "sm on aes128\n" + `00 20 01 81 Lc("648219")` + "\nsm off\n" + queryUser + " => 9000"},
		{"SM-31 with PIN outside", "public", `00 20 01 81 Lc("648219")
			sm on aes128
			` + verifyUser + "\nsm off\n" + queryUser + " => 63C3"},
		{"SM-33 cleared by P1 00 with PIN", "public", lines("sm on aes128", `00 20 01 81 Lc("648219")`, verifyUser, "sm off", queryUser+" => 63C3")},
		{"PIN-49 P1 02", "user", "00 20 02 81 => 6A86"},
		{"SM-32 outside of a channel", "user", "00 20 01 81 => 9000\nsm on aes128\n" + verifyUser + "\nsm off\n" + queryUser + " => 63C3"},
		{"SM-34 not logged in", "public", "00 20 01 81 => 63C3"},
		{"PIN-49 other P2", "user", "00 20 01 88 => 6A86"},
		{"SM-27 SELECT logs out all the same", "public", lines("sm on aes128", `00 20 01 81 Lc("648219")`, "sm off", selectApplication, queryUser+" => 63C3")},
		{"SM-30 not before firmware 2", "user@1.2", "00 20 01 81 => 6A86"},
		{"SM-30 on firmware 2.6", "public@2.6", "sm on aes128\n" + `00 20 01 81 Lc("648219")` + "\nsm off\n" + queryUser + " => 9000"},

		{"SM-40 session PIN", "session", lines("sm on aes128", verifyUser, "80 5A 01 81 00 => {pin:16} 9000 !0", "80 5A 01 81 00 => {other:16} 9000", "differ pin other")},
		{"SM-41 the new one replaces the old", "session", lines("sm on aes128", verifyUser, "80 5A 01 81 00 => {pin:16} 9000", "80 5A 01 81 00 => {other:16} 9000", "00 20 00 81 Lc({pin}) => 63C2", "00 20 00 81 Lc({other})")},
		{"SM-26 outlives the channel", "session", lines("sm on aes128", verifyUser, "80 5A 01 81 00 => {pin:16} 9000", "sm off", queryUser+" => 63C3", "00 20 00 81 Lc({pin})", queryUser)},
		{"06 added A2 ends with a change of the user PIN", "session", lines("sm on aes128", verifyUser, "80 5A 01 81 00 => {pin:16} 9000", "sm off", changeUser, "00 20 00 81 Lc({pin}) => 6700 !0")},
		{"06 added A2 ends with a reset of the user PIN", "session", lines("sm on aes128", verifyUser, "80 5A 01 81 00 => {pin:16} 9000", "sm off", resetNew, "00 20 00 81 Lc({pin}) => 6700 !0")},
		{"06 added A2 ends with a reset of the counter", "session", lines("sm on aes128", verifyUser, "80 5A 01 81 00 => {pin:16} 9000", "sm off", again(3, wrongUser+" => *")+resetOnly, "00 20 00 81 Lc({pin}) => 6700 !0")},
		{"SM-36 without a channel", "session", verifyUser + "\n80 5A 01 81 00 => 6982"},
		{"SM-36 not logged in", "session", "sm on aes128\n80 5A 01 81 00 => 6982"},
		{"SM-37 option off", "user", "sm on aes128\n80 5A 01 81 00 => 6D00"},
		{"APDU-14 other P1", "session", "sm on aes128\n80 5A 00 81 00 => 6A86"},
		{"APDU-14 other P2", "session", "sm on aes128\n80 5A 01 88 00 => 6A86"},
		{"APDU-14 data", "session", "sm on aes128\n80 5A 01 81 Lc(00) 00 => 6700"},
		{"SM-41 wrong counts", "session", lines("sm on aes128", verifyUser, "80 5A 01 81 00 => {pin:16} 9000", "00 20 00 81 Lc({pin|flip}) => 63C2 !1", "holds U=2/3 S=15 session")},
		{"SM-41 right does not restore", "session", lines("sm on aes128", verifyUser, "80 5A 01 81 00 => {pin:16} 9000", wrongUser+" => 63C2", "00 20 00 81 Lc({pin})", "holds U=2/3 S=15 user session")},
		{"SM-42 blocked all the same", "session", lines("sm on aes128", verifyUser, "80 5A 01 81 00 => {pin:16} 9000", again(3, wrongUser+" => *")+"00 20 00 81 Lc({pin}) => 6983")},
	})
}

// A message that is not what the other end sent ends the channel, and with it
// the login made in it, and changes nothing.
func TestProtocol_ForgedMessages(t *testing.T) {
	t.Parallel()
	mac := func(c apdu.Command, change func(b []byte) []byte) apdu.Command {
		n := len(c.Data) - 8
		c.Data = append(bytes.Clone(c.Data[:n]), change(bytes.Clone(c.Data[n:]))...)
		return c
	}
	forgeries := []struct {
		name string
		sw   string
		make func(apdu.Command) apdu.Command
	}{
		{"checksum", "6988", func(c apdu.Command) apdu.Command {
			return mac(c, func(b []byte) []byte { b[7] ^= 1; return b })
		}},
		{"cryptogram", "6988", func(c apdu.Command) apdu.Command { c.Data = bytes.Clone(c.Data); c.Data[5] ^= 1; return c }},
		{"padding indicator", "6988", func(c apdu.Command) apdu.Command { c.Data = bytes.Clone(c.Data); c.Data[2] = 2; return c }},
		{"header", "6988", func(c apdu.Command) apdu.Command { c.P2 = 0x88; return c }},
		{"instruction", "6988", func(c apdu.Command) apdu.Command { c.INS = 0x24; return c }},
		{"no checksum", "6987", func(c apdu.Command) apdu.Command { c.Data = c.Data[:len(c.Data)-10]; return c }},
		{"no data field", "6987", func(c apdu.Command) apdu.Command { c.Data = nil; return c }},
		{"cut short", "6987", func(c apdu.Command) apdu.Command { c.Data = c.Data[:len(c.Data)-1]; return c }},
		{"an object more", "6987", func(c apdu.Command) apdu.Command {
			c.Data = append(bytes.Clone(c.Data), 0x80, 0x00)
			return c
		}},
		{"wrong order", "6987", func(c apdu.Command) apdu.Command {
			n := len(c.Data) - 10
			c.Data = append(bytes.Clone(c.Data[n:]), c.Data[:n]...)
			return c
		}},
		{"the other data object", "6987", func(c apdu.Command) apdu.Command { c.Data = bytes.Clone(c.Data); c.Data[0] = 0x85; return c }},
		{"overlong", "6987", func(c apdu.Command) apdu.Command { c.Data = bytes.Repeat([]byte{0x87}, 1400); return c }},
	}
	for _, suite := range []string{"3des", "aes128", "aes192", "aes256"} {
		for _, f := range forgeries {
			t.Run(suite+" "+f.name, func(t *testing.T) {
				t.Parallel()
				tb := after(t, "4.1", lines(setups["public"], "sm on "+suite, verifyUser))
				c := tb.current()
				before := stored(t, c.Durable())
				wrapped, _, err := tb.Current.Channel.Wrap(apdu.Command{INS: 0x20, P2: 0x81, Data: []byte("648219")})
				require.NoError(t, err)
				forged := f.make(wrapped)
				require.Equal(t, f.sw, fmt.Sprintf("%X", c.Step(forged.Bytes())))
				require.Empty(t, c.Result.Commits)
				require.Equal(t, before, stored(t, c.Durable()))
				require.Equal(t, "U=3/3 S=15 nobody", chiptest.Users(c.State))
				// The genuine message comes too late.
				require.Equal(t, "6985", fmt.Sprintf("%X", c.Step(wrapped.Bytes())))
			})
		}
		t.Run(suite+" replay", func(t *testing.T) {
			t.Parallel()
			tb := after(t, "4.1", lines(setups["public"], "sm on "+suite))
			c := tb.current()
			wrapped, _, err := tb.Current.Channel.Wrap(apdu.Command{INS: 0x20, P2: 0x81, Data: []byte("648219")})
			require.NoError(t, err)
			c.Step(wrapped.Bytes())
			require.Equal(t, "U=3/3 S=15 user", chiptest.Users(c.State))
			require.Equal(t, "6988", fmt.Sprintf("%X", c.Step(wrapped.Bytes())))
			require.Equal(t, "U=3/3 S=15 nobody", chiptest.Users(c.State))
		})
	}
}

// The published example, byte for byte: the card's key and nonce are given, so
// is the host's point.
func TestProtocol_Vectors(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		suite, selection, answer string
		exchanges                [][2]string
	}{
		{"3DES", "800A04007F00070202030201", "7C1481080102030405060708820888821206B999B74D9000", [][2]string{
			{"0C2000810D9701008E08A6D842708C4310D700", "990263C38E08536AAEE58599EAC763C3"},
			{"0C20008115870901BCAE10AEBE557B0B8E08D61E9064DA1EF88C00", "990290008E08099027E81275D3239000"},
		}},
		{"AES-128", "800A04007F00070202030202", "7C14810801020304050607088208637AB894F0CB660B9000", [][2]string{
			{"0C2000810D9701008E08D5B19DF5B9E4579900", "990263C38E08DB7DF616D51FEC3B63C3"},
			{"0C2000811D871101607F06A1737B9E21BBA73CE1C14241308E08632F7648D9BD91FE00", "990290008E0806FF83EA7D0836E49000"},
		}},
		{"AES-192", "800A04007F00070202030203", "7C1481080102030405060708" + "8208AA366510BAA8B345" + "9000", nil},
		{"AES-256", "800A04007F00070202030204", "7C1481080102030405060708" + "8208F0148D735FA3CE04" + "9000", nil},
	} {
		t.Run(v.suite, func(t *testing.T) {
			t.Parallel()
			c := after(t, "4.1", setups["public"]).current()
			d := c.State.Durable()
			d.Applet.Device.Key = keystore.NewEC(private(t, "2F", "11"))
			c.State = chip.Boot(d)
			c.Env.Rand = bytes.NewReader(unhex(t, "0102030405060708"))
			point := private(t, "3A", "22").Public().Bytes()
			exchanges := append([][2]string{
				{"00A4040C0BE82B0601040181C31F0201", "9000"},
				{"002241A40C" + v.selection, "9000"},
				{fmt.Sprintf("00860000457C438041%X00", point), v.answer},
			}, v.exchanges...)
			for _, x := range exchanges {
				require.Equal(t, x[1], fmt.Sprintf("%X", c.Step(unhex(t, x[0]))))
			}
		})
	}
}

// private is the key whose scalar is a first byte and 31 times the second.
func private(t *testing.T, first, then string) *curve.Private {
	t.Helper()
	k, err := named(t, "brainpoolP256r1").Private(unhex(t, first+strings.Repeat(then, 31)))
	require.NoError(t, err)
	return k
}

func unhex(t require.TestingT, s string) []byte {
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// Answers that concern secure messaging itself come bare, all others protected.
func TestProtocol_ErrorsAreProtected(t *testing.T) {
	t.Parallel()
	tb := after(t, "4.1", lines(setups["public"], "sm on aes128"))
	c := tb.current()
	wrapped, host, err := tb.Current.Channel.Wrap(apdu.Command{INS: 0x20, P2: 0x81, Data: []byte("000000")})
	require.NoError(t, err)
	received, err := apdu.ParseResponse(c.Step(wrapped.Bytes()))
	require.NoError(t, err)
	require.Equal(t, apdu.TriesLeft(2), received.SW)
	require.True(t, bytes.HasPrefix(received.Data, unhex(t, "990263C28E08")), "%X", received.Data)
	require.True(t, c.Result.Event.Secure)
	answer, _, err := host.Unwrap(received)
	require.NoError(t, err)
	require.Equal(t, apdu.Response{SW: apdu.TriesLeft(2)}, answer)
}

// The answer to the command that opens a new channel is under the keys of the
// old one; the next command needs the new keys.
func TestProtocol_NewChannelInTheOldOne(t *testing.T) {
	t.Parallel()
	tb := after(t, "4.1", lines(setups["public"], "sm on aes128", verifyUser))
	c := tb.current()
	old := tb.Current.Channel
	tb.run(t, "sm on 3des") // through the old channel; fails if the answer is not under its keys
	require.NotEqual(t, old, tb.Current.Channel)
	require.Equal(t, "9000", fmt.Sprintf("%X", tb.send(t, unhex(t, "00200081"))))
	wrapped, _, err := old.Wrap(apdu.Command{INS: 0x20, P2: 0x81})
	require.NoError(t, err)
	require.Equal(t, "6988", fmt.Sprintf("%X", c.Step(wrapped.Bytes())))
}
