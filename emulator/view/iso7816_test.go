package view_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/view"
)

// lines are the parts one by one: their bytes, and their words.
func lines(parts []view.Part) (all []string) {
	for _, p := range parts {
		text := p.Hex
		if p.Secret() {
			text = strings.TrimSpace(strings.Repeat(".. ", p.Bytes))
		}
		all = append(all, strings.ReplaceAll(text, " ", "")+" "+p.Words)
	}
	return all
}

// The seven cases of ISO 7816-4 §5.1 and ISO 7816-3 §12.1.3: behind the header, Lc is one
// byte or three, and Le one byte, three without Lc, or two behind an extended Lc; zeros
// are the most that the form can ask for.
func TestParts_Cases(t *testing.T) {
	data, value := strings.Repeat("AB", 2), "ABAB certificates of a public key"
	for name, c := range map[string]struct {
		body string
		want []string
	}{
		"1":  {"", []string{}},
		"2S": {"00", []string{"00 Le: at most 256 bytes are wanted back"}},
		"3S": {"02" + data, []string{"02 Lc: 2 bytes of data follow", value}},
		"4S": {"02" + data + "10", []string{"02 Lc: 2 bytes of data follow", value, "10 Le: at most 16 bytes are wanted back"}},
		"2E": {"000000", []string{"000000 Le: at most 65536 bytes are wanted back"}},
		"3E": {"000002" + data, []string{"000002 Lc: 2 bytes of data follow", value}},
		"4E": {"000002" + data + "0100", []string{"000002 Lc: 2 bytes of data follow", value, "0100 Le: at most 256 bytes are wanted back"}},
	} {
		command := unhex(t, "80540000"+c.body)
		require.Equal(t, c.want, lines(view.Parts(command, view.Coming(command, false), false))[4:], name)
	}
}

// Class bytes: ISO 7816-4 §5.4.1, tables 2 and 3.
func TestParts_Class(t *testing.T) {
	for class, want := range map[string]string{
		"00": "command of ISO 7816-4",
		"03": "command of ISO 7816-4, logical channel 3",
		"04": "command of ISO 7816-4, in a secure channel of another kind than that of ISO 7816-4",
		"08": "command of ISO 7816-4, in a secure channel, header not authenticated",
		"0C": "command of ISO 7816-4, in a secure channel, header authenticated",
		"10": "command of ISO 7816-4, more of it follows in a further command",
		"20": "reserved by ISO 7816-4",
		"40": "command of ISO 7816-4, logical channel 4",
		"4C": "command of ISO 7816-4, logical channel 16",
		"7F": "command of ISO 7816-4, in a secure channel, header not authenticated, more of it follows in a further command, logical channel 19",
		"80": "command of the vendor",
		"8C": "command of the vendor, in a secure channel, header authenticated",
		"FF": "no class",
	} {
		command := unhex(t, class+"200081")
		require.Equal(t, "CLA: "+want, view.Parts(command, view.Coming(command, false), false)[0].Words, class)
	}
}

// A PIN stays hidden in every class: 4C is channel 16 of ISO 7816-4 table 3 and no secure
// messaging, and in 0C there may be something else than its objects.
func TestParts_NoPINInAnyClass(t *testing.T) {
	for class := range 0x100 {
		for _, data := range []string{"363438323139", "8106363438323139", "80063634", "C006363438323139"} {
			command := append([]byte{byte(class), 0x20, 0x00, 0x81, byte(len(data) / 2)}, unhex(t, data)...)
			text, _ := whole(view.Parts(command, view.Coming(command, false), false))
			require.NotContains(t, text, "3634", "%X", command)
		}
	}
}

// Objects of secure messaging: ISO 7816-4 §6.2, tables for plain values, confidentiality
// and authentication, and BSI TR-03110 part 3 F.2.
func TestParts_SecureMessaging(t *testing.T) {
	command := unhex(t, "0CB02F021E"+"8703"+"01A1A2"+"8502B1B2"+"970100"+"97020000"+"8E080102030405060708"+"8102C1C2"+"00")
	require.Equal(t, []string{
		"1E Lc: 30 bytes of data follow",
		"8703 object 87: padding indicator and cryptogram, 3 bytes", "01 padding: 80 00 …", "A1A2 cryptogram",
		"8502 object 85: cryptogram of objects, 2 bytes", "B1B2 cryptogram of objects",
		"9701 object 97: Le of the command inside, 1 byte", "00 Le: at most 256 bytes are wanted back",
		"9702 object 97: Le of the command inside, 2 bytes", "0000 Le: at most 65536 bytes are wanted back",
		"8E08 object 8E: checksum (MAC), 8 bytes", "0102030405060708 checksum (MAC)",
		"8102 object 81: plain value, 2 bytes", ".... plain value, not shown",
		"00 Le: at most 256 bytes are wanted back",
	}, lines(view.Parts(command, view.Coming(command, false), false))[4:])
	e := view.Coming(command, false)
	e.Secure, e.Meaning = true, "success"
	require.Equal(t, []string{
		"9902 object 99: status word of the answer inside, 2 bytes", "6982 status word: security status not satisfied",
		"8E02 object 8E: checksum (MAC), 2 bytes", "0102 checksum (MAC)", "9000 status word: success",
	}, lines(view.AnswerParts(unhex(t, "990269828E0201029000"), e, true)))
}
