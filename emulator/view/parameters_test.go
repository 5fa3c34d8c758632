package view_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/emulator/view"
)

// Words that would do for anything; what is refused is not among them.
var generic = regexp.MustCompile(`a parameter of|^data$|^an object$|may be secret|the card's answer|a value that this command does not have|this page does not know`)

// Of each command that the table of the applet has, and of each that its recorded scenarios
// send, P1 and P2 are told in words of their own.
func TestParts_EveryParameterHasWords(t *testing.T) {
	tell := func(command []byte) {
		for _, p := range view.Parts(command, view.Coming(command, false), false)[2:] {
			require.False(t, generic.MatchString(p.Words), "%X: %s: %s", command, p.Hex, p.Words)
			require.NotEmpty(t, p.Rule, "%X: %s", command, p.Words)
		}
	}
	values := func(list, ins string) (all []byte) {
		for _, one := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == '/' || r == ' ' || r == '|' }) {
			switch {
			case one == "xx" && strings.HasPrefix(ins, "2"):
				return []byte{0x81} // a PIN
			case one == "xx":
				return []byte{0x20} // an algorithm, a key or a key domain
			}
			all = append(all, unhex(t, one)...)
		}
		return all
	}
	for _, c := range applet.Commands() {
		fields := strings.SplitN(c.Header, " ", 3)
		require.Len(t, fields, 3)
		for _, p1 := range values(fields[1], fields[0]) {
			for _, p2 := range values(fields[2], fields[0]) {
				tell([]byte{0x80, unhex(t, fields[0])[0], p1, p2})
			}
		}
	}
	files, err := filepath.Glob("../../applet/testdata/scenario/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	headers := map[string]bool{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		// A command and its answer: those that are refused for P1 and P2 may have any.
		for _, m := range regexp.MustCompile(`(?m)^> ([0-9A-F]{2}) ([0-9A-F]{2}) ([0-9A-F]{2}) ([0-9A-F]{2})\b.*\n< (.*)$`).FindAllStringSubmatch(string(text), -1) {
			if !regexp.MustCompile(`(6A8[0-9]|6[DE]00|6700)$`).MatchString(m[5]) {
				headers[m[1]+m[2]+m[3]+m[4]] = true
			}
		}
	}
	require.Greater(t, len(headers), 50)
	for h := range headers {
		tell(unhex(t, h))
	}
}

// Single bytes, after ISO 7816-4 §11.2.2 (SELECT), §11.5.7 (CHANGE REFERENCE DATA), §11.5.11
// (MANAGE SECURITY ENVIRONMENT) and the tables of docs/protocol.
func TestParts_Parameters(t *testing.T) {
	for header, want := range map[string][2]string{
		"00A40400": {"an application by its name", "tell its control information (FCI)"},
		"00A40404": {"an application by its name", "tell its control parameters (FCP)"},
		"00A40008": {"by its identifier", "tell its management data (FMD)"},
		"00A4040C": {"an application by its name", "tell nothing"},
		"00A40402": {"an application by its name", "the next one of that name, tell its control information (FCI)"},
		"00A40410": {"an application by its name", "a value that this command does not have"},
		"00240081": {"the old PIN and the new one follow", "the user PIN"},
		"00240188": {"a new PIN alone follows, which this card does not take", "the SO-PIN"},
		"00200181": {"the same, and stay logged in after the channel", "the user PIN"},
		"00200085": {"compare the PIN that follows, or only tell the status if none does", "the first biometric template, which this card does not have"},
		"00840000": {"no algorithm is named", "always 00"},
		"80520002": {"tell the status", "key domain 2"},
		"80520400": {"delete its key encryption key", "key domain 0"},
		"80540203": {"tell whose public key it is", "number of the public key, 3, counted from 0"},
		"002281B6": {"set, for verifying, enciphering, external authentication and key agreement", "digital signature (DST)"},
		"80680173": {"key reference 1 on the card, which is not CKA_ID", "algorithm 73: ECDSA SHA-256"},
		"80480102": {"reference of the new key, 1", "a value that this command does not have"},
		"804801B2": {"reference of the new key, 1", "AES-256"},
		"00460102": {"reference of the new key, 1", "key reference 2 signs the request"},
		"80E88005": {"the last block", "block 5, counted from 0"},
		"80E40200": {"a file in the current folder, by its identifier", "always 00"},
		"80E40080": {"always 00", "what is named, with everything that came with it"},
		"84823300": {"security of the channel: codes both ways, all encrypted", "always 00"},
	} {
		parts := view.Parts(unhex(t, header), view.Coming(unhex(t, header), false), false)
		require.Equal(t, []string{"P1: " + want[0], "P2: " + want[1]}, []string{parts[2].Words, parts[3].Words}, header)
	}
}

// Answers byte by byte: DOM-2 and domains.md, PKA-4, FILE-8, APDU-42.
func TestAnswerParts_InPieces(t *testing.T) {
	told := func(command, answer string, quiet bool) []string {
		e := view.Coming(unhex(t, command), false)
		e.Meaning = "success"
		return lines(view.AnswerParts(unhex(t, answer), e, quiet))
	}
	require.Equal(t, []string{
		"02 number of shares", "01 shares that are outstanding", "0102030405060708 key check value (KCV)", "9000 status word: success",
	}, told("80520000", "020101020304050607089000", false))
	require.Equal(t, []string{
		"03 public keys in all", "01 public keys that are missing", "02 public keys that are required", "00 public keys that have authenticated", "9000 status word: success",
	}, told("80540000", "030102009000", false))
	require.Equal(t, []string{"0102 challenge: random bytes, which are not used twice", "9000 status word: success"}, told("0084000002", "01029000", false))
	require.Equal(t, []string{".... challenge: random bytes, which are not used twice, not shown", "9000 status word: success"}, told("0084000002", "01029000", true))
	require.Equal(t, []string{
		"6F0B object 6F: control information (FCI), 11 bytes", "8002 object 80: size of the file, 2 bytes", "01CE size of the file",
		"8201 object 82: descriptor, 1 byte", "01 descriptor", "8302 object 83: identifier, 2 bytes", "2F02 identifier", "9000 status word: success",
	}, told("00A400002F02", "6F0B800201CE8201018302"+"2F029000", false))
}
