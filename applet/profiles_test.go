package applet_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
)

// Shows APDU-47.
func TestProfiles_AreTheDocumentedOnes(t *testing.T) {
	t.Parallel()
	var names []string
	for _, p := range applet.Profiles() {
		names = append(names, p.Name)
		found, ok := applet.ProfileOf(p.Name)
		require.True(t, ok)
		require.Equal(t, p, found)
	}
	require.Equal(t, []string{"1.2", "2.5", "2.6", "3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "4.0", "4.1"}, names)
	_, ok := applet.ProfileOf("5.0")
	require.False(t, ok)
	require.Equal(t, "4.1", applet.DefaultFirmware)
}

// The answers to reset that clients recognise: APDU-1 and APDU-2.
func TestProfiles_ATR(t *testing.T) {
	t.Parallel()
	atrs := map[byte]string{ // by generation
		1: "3BFE1800008131FE458031815448534D31738021408107FA",
		2: "3BFE1800008131FE458031815448534D31738021408107FA",
		3: "3BDE18FF8191FE1FC38031815448534D317380214081071C",
		4: "3BDE96FF8191FE1FC38031815448534D3173802140810792",
	}
	for _, p := range applet.Profiles() {
		firmware, atr := p.Name, atrs[p.Major]
		b, err := hex.DecodeString(atr)
		require.NoError(t, err)
		c := after(t, firmware, setups["shipped"]).current()
		require.Equal(t, b, c.State.Durable().ATR(), firmware)
		// The check byte is the exclusive or of all but the first byte
		// (ISO 7816-3 §8.2.5).
		var check byte
		for _, v := range b[1:] {
			check ^= v
		}
		require.Zero(t, check, firmware)
	}
}

// What each firmware has and how its answers differ.
//
// Shows DOM-26, KEY-3, KEY-4, PKA-2, PKA-42, PKA-9, APDU-26, APDU-38, DOM-28, DOM-40, KEY-15, KEY-33, PIN-29 and SM-30.
func TestProfiles_Differences(t *testing.T) {
	t.Parallel()
	type answers map[string]string // by firmware; "*" is all others
	foreignBlob := lines(generate("01", "secp256r1"), "80 72 01 92 00 00 00 => {blob:*} 9000", initialise("0001", "92(00)"))
	xkek := strings.TrimSuffix(joined(), "\n")
	for _, d := range []struct {
		name, setup, script string
		want                answers
	}{
		{"before selection", "public", "cut\n00 20 00 81", answers{"1.2": "6E00", "2.5": "6E00", "2.6": "6E00", "*": "6D00"}},
		{"query of a card as shipped", "shipped", "00 20 00 81", answers{"1.2": "6984", "*": "6A88"}},
		{"last try of the user PIN", "public", again(2, wrongUser+" => *") + wrongUser, answers{"*": "6983 !1"}},
		{"last try of the SO-PIN", "public", again(14, wrongSO+" => *") + wrongSO, answers{"*": "6983 !1"}},
		{"template", "public", "00 20 00 85", answers{"2.5": "6984", "2.6": "6984", "*": "6A88"}},
		{"key as a file", "public", "00 A4 00 0C Lc(CC00)", answers{"1.2": "6A82", "2.5": "6A82", "2.6": "6A82", "*": "9000"}},
		{"PIN of another length", "user", `00 24 00 81 Lc("648219" "1234567")`, answers{"1.2": "6A80", "*": "9000"}},
		{"RSA 3072", "user", `00 46 01 00 Lc(42("UTCA00001") {rsa3072} 5F20("UTKEY00001"))`, answers{"1.2": "6A81", "2.5": "6A81", "2.6": "6A81", "*": "9000"}},
		{"RSA 2048", "user", `00 46 01 00 Lc(42("UTCA00001") {rsa2048} 5F20("UTKEY00001"))`, answers{"*": "9000"}},
		// KEY-3 and KEY-4.
		{"RSA PSS of a hash value", "user", generate("01", "rsa1024", "90(05)") + "\n80 68 01 40 Lc(" + strings.Repeat("AB", 32) + ") 00", answers{"1.2": "6A81", "*": "* 9000 !1"}},
		{"RSA PSS of a hash value, listed", "user", generate("01", "rsa1024", "91(40)") + "\n80 68 01 40 Lc(" + strings.Repeat("AB", 32) + ") 00", answers{"1.2": "6A81", "*": "* 9000"}},
		{"RSA PSS of a message", "user", generate("01", "rsa1024") + "\n80 68 01 43 Lc(AB) 00", answers{"*": "* 9000"}},
		{"curve of 320 bits", "user", `00 46 01 00 Lcx(42("UTCA00001") {brainpoolP320r1} 5F20("UTKEY00001"))`, answers{"*": "9000"}},
		{"twisted curve of 320 bits", "user", `00 46 01 00 Lcx(42("UTCA00001") {brainpoolP320t1} 5F20("UTKEY00001"))`, answers{"*": "9000"}},
		{"twisted curve of 384 bits", "user", `00 46 01 00 Lcx(42("UTCA00001") {brainpoolP384t1} 5F20("UTKEY00001"))`, answers{"1.2": "6A81", "2.5": "6A81", "2.6": "6A81", "*": "9000"}},
		{"curve of 384 bits", "user", `00 46 01 00 Lcx(42("UTCA00001") {secp384r1} 5F20("UTKEY00001"))`, answers{"1.2": "6A81", "2.5": "6A81", "2.6": "6A81", "*": "9000"}},
		{"AES key", "user", "00 48 01 B0", answers{"1.2": "6D00", "2.5": "6D00", "2.6": "6D00", "*": "9000"}},
		{"AES operation", "user", "80 78 01 10 Lc(00)", answers{"1.2": "6D00", "2.5": "6D00", "2.6": "6D00", "*": "6A88"}},
		{"derivation", "user", "80 76 01 02 Lc(98 01)", answers{"1.2": "6D00", "2.5": "6D00", "2.6": "6D00", "*": "6A88"}},
		{"number of key domains at INITIALIZE", "shipped", initialise("0001", "97(02)") + "\n80 52 00 00", answers{"1.2": "6D00", "2.5": "6D00", "2.6": "6D00", "*": "6A88"}},
		{"both numbers at INITIALIZE", "shipped", initialise("0001", "92(01)", "97(02)"), answers{"1.2": "9000", "2.5": "9000", "2.6": "9000", "*": "6A80"}},
		{"creation of a key domain", "dkek", "80 52 01 00 Lc(01)", answers{"1.2": "6A86", "2.5": "6A86", "2.6": "6A86", "*": "6985"}},
		{"secure messaging", "public", "00 22 41 A4 Lc(80(04007F00070202030202))", answers{"1.2": "6A80", "*": "9000"}},
		{"general authenticate", "public", "00 86 00 00", answers{"1.2": "6D00", "*": "6985"}},
		{"stay logged in", "user", "00 20 01 81", answers{"1.2": "6A86", "*": "9000"}},
		{"session PIN", "session", verifyUser + "\n80 5A 01 81", answers{"1.2": "6D00", "*": "6982"}},
		{"deletion of a key domain", "domains", "80 52 01 00 Lc(01) => *\n80 52 03 00", answers{"1.2": "6A86", "2.5": "6A86", "2.6": "6A86", "*": "6A88 !1"}},
		{
			"P-521 signature", "user", generate("01", "secp521r1") + "\n" + "80 68 01 70 Lc(07) 00",
			answers{"1.2": "", "2.5": "", "2.6": "", "4.0": "30 * 9000", "4.1": "30 * 9000", "*": "{s:139} 9000"},
		},
		// DOM-24 to DOM-26: measured on 4.1; before, what sc-hsm-tool explains.
		{"blob under another DKEK", "dkek", foreignBlob + "\n80 74 02 93 Lcx({blob})", answers{"4.0": "6A88", "4.1": "6A88", "*": "6A80"}},
		{"malformed blob", "dkek", foreignBlob + "\n80 74 02 93 Lc({blob|head 24})", answers{"4.0": "6400", "4.1": "6400", "*": "6A80"}},
		{"altered blob", "dkek", generate("01", "secp256r1") + "\n80 72 01 92 00 00 00 => {blob:*} 9000\n80 74 02 93 Lcx({blob|flip})", answers{"4.0": "6400", "4.1": "6400", "*": "6A80"}},
		// The documented defects.
		{"unwrapping a restricted key", "dkek", generate("01", "secp256r1", "91(70 92)") + "\n80 72 01 92 00 00 00 => {blob:*} 9000\n80 74 02 93 Lcx({blob})", answers{"3.1": "6F00", "*": "9000"}},
		{"unwrapping an unrestricted key", "dkek", generate("01", "secp256r1") + "\n80 72 01 92 00 00 00 => {blob:*} 9000\n80 74 02 93 Lcx({blob})", answers{"*": "9000"}},
		{"status of public keys", "shipped", initialise("0001", "93(0302)") + "\n80 54 00 00", answers{"*": "9000"}},
		{"status of public keys beside XKEK", "shipped", strings.ReplaceAll(xkek, initialise("0001", "97(02)"), initialise("0001", "97(02)", "93(0302)")) + "\n80 54 00 00", answers{"3.5": "6F00", "1.2": "", "2.5": "", "2.6": "", "*": "9000"}},
	} {
		for _, p := range applet.Profiles() {
			want, special := d.want[p.Name]
			if !special {
				want = d.want["*"]
			}
			if want == "" {
				continue // this firmware has nothing of it
			}
			t.Run(d.name+" "+p.Name, func(t *testing.T) {
				t.Parallel()
				tb := after(t, p.Name, setups[d.setup])
				tb.run(t, d.script+" => "+want)
				require.NoError(t, tb.current().Result.Event.Defect)
			})
		}
	}
}

func TestNearestFirmware(t *testing.T) {
	for version, want := range map[string]string{"3.9": "4.0", "3.8": "3.6", "0": "1.2", "7": "4.1", "-1": "1.2", "2.0": "2.5", "new": applet.DefaultFirmware, "": applet.DefaultFirmware, "NaN": "1.2"} {
		require.Equal(t, want, applet.NearestFirmware(version), version)
	}
	for _, name := range applet.Firmwares() {
		_, known := applet.ProfileOf(name)
		require.True(t, known)
		require.Equal(t, name, applet.NearestFirmware(name))
	}
}
