package applet_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The PIN commands with the test PINs; the new PINs are 13579x and 24687x.
const (
	queryUser   = "00 20 00 81"
	querySO     = "00 20 00 88"
	changeUser  = `00 24 00 81 Lc("648219" "135790")`
	changeSO    = "00 24 00 88 Lc(3537363231383830 1122334455667788)"
	resetNew    = `00 2C 00 81 Lc(3537363231383830 "246870")`
	resetOnly   = "00 2C 01 81 Lc(3537363231383830)"
	resetNewSO  = `00 2C 02 81 Lc("246870")`
	resetOnlySO = "00 2C 03 81"
	badChange   = `00 24 00 81 Lc("000000" "135790")`
	badChangeSO = "00 24 00 88 Lc(" + foreignCode + " 1122334455667788)"
	badReset    = "00 2C 00 81 Lc(" + foreignCode + ` "246870")`
	badResetNo  = "00 2C 01 81 Lc(" + foreignCode + ")"
)

var badInit = strings.Replace(initialise("0001"), "3537363231383830", foreignCode, 1)

// exhausted appends the wrong codes that block the SO-PIN.
var exhausted = again(15, wrongSO+" => *")

func TestProtocol_VerifyUserQuery(t *testing.T) {
	t.Parallel()
	play(t, []row{
		{"PIN-28 never initialised", "shipped", queryUser + " => 6A88"},
		{"PIN-28 never initialised, firmware 2.6", "shipped@2.6", queryUser + " => 6A88"},
		{"PIN-29 never initialised, firmware 1.2", "shipped@1.2", queryUser + " => 6984"},
		{"PIN-31 transport PIN", "transport", queryUser + " => 6984"},
		{"PIN-30 auth set", "user", queryUser + " => 9000 !0"},
		{"PIN-33 not authenticated", "public", queryUser + " => 63C3"},
		{"PIN-33 not authenticated, one try gone", "public", wrongUser + " => 63C2\n" + queryUser + " => 63C2"},
		{"PIN-33 ten tries", "shipped", lines(strings.Replace(strings.Replace(initialise("0001"), "648219", "64821964", 1), "91(03)", "91(0A)", 1), selectApplication, queryUser+" => 63CA")},
		{"PIN-32 U = 0", "blocked", queryUser + " => 6983"},
		{"PKA-25 keys are the only login", "keys", queryUser + " => 6300"},
		{"PKA-25 keys are the only login, one there", "keys", "00 84 00 00 08 => {c:8} 9000\n" + authenticate("B") + "\n" + queryUser + " => 6300"},
		{"PKA-25 keys are the only login, enough", "keys", "00 84 00 00 08 => {c:8} 9000\n" + authenticate("B") + "\n" + authenticate("D") + "\n" + queryUser + " => 9000"},
		{"PKA-23 PIN and keys, PIN not yet verified", "pinandkeys", queryUser + " => 63C3"},
		{"PKA-23 PIN and keys, keys missing", "pinandkeys", verifyUser + "\n" + queryUser + " => 6300"},
		{"PKA-24 PIN or keys", "pinorkeys", queryUser + " => 63C3"},
		{"PIN-30 priority: auth before transport PIN", "shipped", initialise("0003") + "\n" + queryUser + " => 9000"},
		{"PIN-31 priority: transport PIN before blocked", "transport", lines(badChange+" => 63C2", badChange+" => 63C1", badChange+" => 6983 !1", queryUser+" => 6984")},
		{"PIN-34 a query changes no counter", "public", again(20, queryUser+" => 63C3 !0") + "holds U=3/3 S=15 nobody"},
		{"PIN-33 query with Le", "public", "00 20 00 81 00 => 63C3"},
	})
}

func TestProtocol_VerifyUser(t *testing.T) {
	t.Parallel()
	session := lines(verifyUser, "sm on aes128", "80 5A 01 81 00 => {pin:16} 9000", "00 20 01 81", "sm off")
	play(t, []row{
		{"PIN-35 never initialised", "shipped", verifyUser + " => 6A88"},
		{"PIN-29 never initialised, firmware 1.2", "shipped@1.2", verifyUser + " => 6A88"},
		{"PIN-36 transport PIN pending, right", "transport", verifyUser + " => 6984"},
		{"PIN-36 transport PIN pending, wrong", "transport", wrongUser + " => 6984\nholds U=3/3 S=15 nobody"},
		{"PIN-37 shorter", "user", `00 20 00 81 Lc("64821") => 6700
			holds U=3/3 S=15 user`},
		{"PIN-37 longer", "user", `00 20 00 81 Lc("6482190") => 6700
			holds U=3/3 S=15 user`},
		{"PIN-37 longer than any PIN", "user", `00 20 00 81 Lc("64821900000000000") => 6700`},
		{"PIN-38 U = 0", "blocked", verifyUser + " => 6983\nholds U=0/3 S=15 nobody"},
		{"PIN-39 wrong, U > 1", "user", wrongUser + " => 63C2 !1\nholds U=2/3 S=15 nobody"},
		{"PIN-40 wrong, U = 1", "user", lines(wrongUser+" => 63C2", wrongUser+" => 63C1", wrongUser+" => 6983 !1", "holds U=0/3 S=15 nobody")},
		{"PIN-42 correct", "public", wrongUser + " => 63C2\n" + verifyUser + " => 9000 !2\nholds U=3/3 S=15 user"},
		{"PIN-42 correct, while logged in", "user", verifyUser + " => 9000 !2\nholds U=3/3 S=15 user"},
		{"PIN-41 wrong, while logged in", "user", wrongUser + " => 63C2 !1\nholds U=2/3 S=15 nobody"},
		{"PIN-43 no user PIN", "keys", verifyUser + " => 6A88"},
		{"PIN-55 the SO's login stays", "so", verifyUser + "\n" + wrongUser + " => 63C2\nholds U=2/3 S=15 so"},
		{"SM-41 session PIN", "session", session + `
			00 20 00 81 Lc("000000") => 63C2
			00 20 00 81 Lc({pin}) => 9000 !2
			holds U=2/3 S=15 user session`},
		{"SM-41 wrong session PIN", "session", session + `
			00 20 00 81 Lc({pin|flip}) => 63C2 !1
			holds U=2/3 S=15 session`},
		{"SM-41 user PIN beside the session PIN", "session", session + "\n" + verifyUser + " => 9000 !2"},
		{"SM-38 session PIN after SELECT", "session", session + "\n" + selectApplication + `
			00 20 00 81 Lc({pin}) => 6700`},
		{"SM-38 session PIN after a reset", "session", lines(session, "cut", selectApplication) + `
			00 20 00 81 Lc({pin}) => 6700`},
	})
}

func TestProtocol_VerifySO(t *testing.T) {
	t.Parallel()
	play(t, []row{
		{"PIN-44 never initialised, query", "shipped", querySO + " => 6A88"},
		{"PIN-44 never initialised", "shipped", verifySO + " => 6A88"},
		{"PIN-44 S = 0, query", "soblocked", querySO + " => 6983"},
		{"PIN-1 S = 0", "soblocked", verifySO + " => 6983"},
		{"PIN-44 not verified", "public", querySO + " => 63CF"},
		{"PIN-44 verified, query", "so", querySO + " => 9000 !0"},
		{"PIN-45 wrong", "so", wrongSO + " => 63CE !1\nholds U=3/3 S=14 nobody"},
		{"PIN-45 correct", "public", wrongSO + " => 63CE\n" + verifySO + " => 9000 !2\nholds U=3/3 S=15 so"},
		{"PIN-45 shorter", "so", "00 20 00 88 Lc(35373632313838) => 6700\nholds U=3/3 S=15 so"},
		{"PIN-45 longer", "so", "00 20 00 88 Lc(353736323138383000) => 6700"},
		{"PIN-6 the user is not logged in", "so", "80 68 01 73 Lc(00) 00 => 6982"},
		{"PIN-46 the user's login stays", "user", wrongSO + " => 63CE\nholds U=3/3 S=14 user"},
		{"PIN-47 the last try", "public", again(14, wrongSO+" => *") + wrongSO + " => 6983 !1\nholds U=3/3 S=0 nobody"},
	})
}

func TestProtocol_VerifyOtherForms(t *testing.T) {
	t.Parallel()
	play(t, []row{
		{"PIN-48 template 1", "public", "00 20 00 85 => 6A88"},
		{"PIN-48 template 2", "public", "00 20 00 86 => 6A88"},
		{"PIN-48 template 1, firmware 2.6", "public@2.6", "00 20 00 85 => 6984"},
		{"PIN-48 template 2, firmware 2.6", "public@2.6", "00 20 00 86 => 6984"},
		{"PIN-48 templates on a card as shipped", "shipped", "00 20 00 85 => 6A88"},
		{"SM-32 stay logged in, in a channel", "user", "sm on aes128\n" + verifyUser + "\n00 20 01 81 => 9000 !0\nsm off\n" + queryUser + " => 9000"},
		{"SM-34 stay logged in, not logged in", "public", "00 20 01 81 => 63C3"},
		{"SM-34 stay logged in, blocked", "blocked", "00 20 01 81 => 6983"},
		{"SM-31 stay logged in with the PIN", "public", `00 20 01 81 Lc("648219") => 9000 !2`},
		{"SM-31 stay logged in with a wrong PIN", "user", `00 20 01 81 Lc("000000") => 63C2 !1
			holds U=2/3 S=15 nobody`},
		{"SM-29 stay logged in with the PIN, in a channel", "public", "sm on aes128\n" + `00 20 01 81 Lc("648219")` + "\nsm off\n" + queryUser + " => 9000"},
		{"PIN-49 P1 02", "public", "00 20 02 81 => 6A86"},
		{"PIN-49 P1 FF", "public", `00 20 FF 81 Lc("648219") => 6A86`},
		{"PIN-49 P1 01 for the SO-PIN", "public", "00 20 01 88 => 6A86"},
		{"PIN-49 P2 80", "public", "00 20 00 80 => 6A88"},
		{"PIN-49 P2 00", "public", `00 20 00 00 Lc("648219") => 6A88`},
		{"PIN-49 P2 82", "public", "00 20 00 82 => 6A88"},
	})
}

func TestProtocol_Change(t *testing.T) {
	t.Parallel()
	ten := lines(strings.Replace(initialise("0001"), "648219", "6482196482", 1), selectApplication)
	play(t, []row{
		{"PIN-50 81 never initialised", "shipped", changeUser + " => 6A88"},
		{"PIN-50 81 U = 0", "blocked", changeUser + " => 6983"},
		{"PIN-52 81 new PIN too short", "user", `00 24 00 81 Lc("648219" "12345") => 6A80
			holds U=3/3 S=15 user`},
		{"PIN-52 81 new PIN too long", "user", `00 24 00 81 Lc("648219" "12345678901234567") => 6A80`},
		{"PIN-54 81 new PIN of 16", "user", `00 24 00 81 Lc("648219" "1234567890123456")
			00 20 00 81 Lc("1234567890123456")`},
		{"PIN-52 81 nothing but the old PIN", "user", `00 24 00 81 Lc("648219") => 6A80`},
		{"PIN-52 81 no data", "user", "00 24 00 81 => 6A80"},
		{"PIN-51 shorter than at INITIALIZE", "shipped", ten + `
			00 24 00 81 Lc("6482196482" "12345678") => 6A80
			holds U=3/3 S=15 nobody`},
		{"PIN-52 as long as at INITIALIZE", "shipped", ten + `
			00 24 00 81 Lc("6482196482" "1234567890")`},
		{"PIN-52 longer and back", "shipped", ten + `
			00 24 00 81 Lc("6482196482" "123456789012")
			00 24 00 81 Lc("123456789012" "1234567890")`},
		{"PIN-53 firmware 1.2 keeps the length", "user@1.2", `00 24 00 81 Lc("648219" "1234567") => 6A80`},
		{"PIN-53 firmware 1.2, same length", "user@1.2", changeUser},
		{"PIN-50 81 old PIN wrong", "user", badChange + " => 63C2 !1\nholds U=2/3 S=15 nobody"},
		{"PIN-50 81 old PIN wrong, the last try", "blocked", resetOnly + "\n" + wrongUser + " => 63C2\n" + wrongUser + " => 63C1\n" + badChange + " => 6983 !1\nholds U=0/3 S=15 nobody"},
		{"PIN-54 81 ok", "public", wrongUser + " => 63C2\n" + changeUser + " => 9000 !2\nholds U=3/3 S=15 user"},
		{"PIN-54 81 ok, the new PIN", "public", changeUser + "\n" + selectApplication + "\n" + verifyUser + ` => 63C2
			00 20 00 81 Lc("135790")`},
		{"PIN-54 81 ok, to the same PIN", "public", `00 24 00 81 Lc("648219" "648219")`},
		{"PIN-56 81 transport PIN", "transport", changeUser + " => 9000 !2\nholds U=3/3 S=15 user\n" + selectApplication + "\n" + queryUser + " => 63C3"},
		{"PIN-57 81 transport PIN, the same again", "transport", `00 24 00 81 Lc("648219" "648219") => 6A80
			holds U=3/3 S=15 nobody`},
		{"PIN-56 81 transport PIN, wrong", "transport", badChange + " => 63C2 !1\nholds U=2/3 S=15 nobody\n" + queryUser + " => 6984"},
		{"PIN-43 81 no user PIN", "keys", changeUser + " => 6A88"},
		{"PIN-59 88 never initialised", "shipped", changeSO + " => 6A88"},
		{"PIN-59 88 S = 0", "soblocked", changeSO + " => 6983"},
		{"PIN-59 88 15 bytes", "user", "00 24 00 88 Lc(3537363231383830 11223344556677) => 6700"},
		{"PIN-59 88 17 bytes", "user", "00 24 00 88 Lc(3537363231383830 112233445566778899) => 6700"},
		{"PIN-59 88 old wrong", "user", badChangeSO + " => 63CE !1\nholds U=3/3 S=14 user"},
		{"PIN-59 88 old wrong, the SO's login", "so", badChangeSO + " => 63CE !1\nholds U=3/3 S=14 so"},
		{"PIN-59 88 ok", "user", wrongSO + " => 63CE\n" + changeSO + " => 9000 !2\nholds U=3/3 S=15 user"},
		{"PIN-59 88 ok, the new code", "user", changeSO + "\n" + verifySO + " => 63CE\n00 20 00 88 Lc(1122334455667788)"},
		{"APDU-14 other P2", "user", `00 24 00 85 Lc("648219" "135790") => 6A88`},
		{"APDU-14 other P1", "user", `00 24 01 81 Lc("648219" "135790") => 6A86`},
	})
}

func TestProtocol_Reset(t *testing.T) {
	t.Parallel()
	rows := []row{
		{"PIN-65 P1=00 Lc 13", "public", `00 2C 00 81 Lc(3537363231383830 "12345") => 6700`},
		{"PIN-65 P1=00 Lc 25", "public", `00 2C 00 81 Lc(3537363231383830 "12345678901234567") => 6700`},
		{"PIN-65 P1=01 Lc 7", "public", "00 2C 01 81 Lc(35373632313838) => 6700"},
		{"PIN-65 P1=01 Lc 9", "public", "00 2C 01 81 Lc(353736323138383000) => 6700"},
		{"PIN-65 P1=02 Lc 5", "so", `00 2C 02 81 Lc("12345") => 6700`},
		{"PIN-65 P1=02 Lc 17", "so", `00 2C 02 81 Lc("12345678901234567") => 6700`},
		{"PIN-65 P1=03 Lc 1", "so", "00 2C 03 81 Lc(00) => 6700"},
		{"PIN-65 P1=00 rule", "shipped", fiveTries() + `
			00 2C 00 81 Lc(3537363231383830 "123456") => 6A80
			holds U=5/5 S=15 nobody`},
		{"PIN-65 P1=02 rule", "shipped", fiveTries() + "\n" + verifySO + `
			00 2C 02 81 Lc("123456") => 6A80`},
		{"PIN-70 another length", "public", `00 2C 00 81 Lc(3537363231383830 "1234567890123456")
			00 20 00 81 Lc("1234567890123456")`},
		{"PIN-66 P1=00 wrong code", "public", badReset + " => 63CE !1\nholds U=3/3 S=14 nobody"},
		{"PIN-66 P1=01 wrong code", "public", badResetNo + " => 63CE !1\nholds U=3/3 S=14 nobody"},
		{"PIN-67 P1=02 SO not verified", "public", resetNewSO + " => 6985"},
		{"PIN-67 P1=03 SO not verified", "public", resetOnlySO + " => 6985"},
		{"PIN-68 P1=00 ok", "public", lines(wrongUser+" => 63C2", wrongSO+" => 63CE", resetNew+" => 9000 !2", "holds U=3/3 S=15 nobody", `00 20 00 81 Lc("246870")`)},
		{"PIN-12 P1=01 ok", "public", lines(wrongUser+" => 63C2", wrongSO+" => 63CE", resetOnly+" => 9000 !2", "holds U=3/3 S=15 nobody", verifyUser)},
		{"PIN-68 P1=02 ok", "so", lines(wrongUser+" => 63C2", resetNewSO+" => 9000 !1", "holds U=3/3 S=15 so", `00 20 00 81 Lc("246870")`)},
		{"PIN-68 P1=03 ok", "so", lines(wrongUser+" => 63C2", resetOnlySO+" => 9000 !1", "holds U=3/3 S=15 so", verifyUser)},
		{"PIN-69 P1=00 logs out", "user", resetNew + "\nholds U=3/3 S=15 nobody"},
		{"PIN-69 P1=02 logs out", "user", verifySO + "\n" + resetNewSO + "\nholds U=3/3 S=15 so"},
		{"PIN-69 P1=01 keeps the login", "user", resetOnly + "\nholds U=3/3 S=15 user"},
		{"PIN-69 P1=03 keeps the login", "user", verifySO + "\n" + resetOnlySO + "\nholds U=3/3 S=15 user so"},
		{"PIN-68 while the user PIN is blocked, new PIN", "blocked", resetNew + "\nholds U=3/3 S=15 nobody"},
		{"PIN-68 while the user PIN is blocked, counter", "blocked", resetOnly + "\nholds U=3/3 S=15 nobody\n" + verifyUser},
		{"PIN-8 the keys stay", "stock", resetNew + `
			00 20 00 81 Lc("246870")
			80 68 01 73 Lc("message") 00 => * 9000`},
		{"PIN-71 SO-PIN sent in hexadecimal text", "public", `00 2C 00 81 Lc("3537363231383830" "246870") => 63CE !1`},
		{"PIN-69 leaves the transport state", "transport", resetNew + "\n" + queryUser + " => 63C3"},
		{"APDU-14 P2 88", "public", `00 2C 00 88 Lc(3537363231383830 "246870") => 6A88`},
		{"APDU-14 P2 00", "public", `00 2C 00 00 Lc(3537363231383830 "246870") => 6A88`},
		{"APDU-14 P1 04", "public", `00 2C 04 81 Lc("246870") => 6A86`},
		{"PIN-60 no user PIN", "keys", resetNew + " => 6A88"},
	}
	forms := []struct{ p1, data string }{
		{"00", ` Lc(3537363231383830 "246870")`}, {"01", " Lc(3537363231383830)"}, {"02", ` Lc("246870")`}, {"03", ""},
	}
	for _, f := range forms {
		send := "00 2C " + f.p1 + " 81" + f.data + " => "
		rows = append(rows,
			row{"PIN-60 never initialised P1=" + f.p1, "shipped", send + "6A88"},
			row{"PIN-62 option 01 off P1=" + f.p1, "noreset", verifySO + "\n" + send + "6985"},
			row{"PIN-61 option 01 off costs no try P1=" + f.p1, "noreset", send + "6985\nholds U=3/3 S=15 nobody"},
			row{"PIN-64 S = 0 P1=" + f.p1, "soblocked", send + "6983"},
			row{"PIN-64 S = 0 before a wrong length P1=" + f.p1, "soblocked", "00 2C " + f.p1 + " 81 Lc(00) => 6983"},
		)
		want := "9000"
		if f.p1 == "00" || f.p1 == "02" {
			want = "6985"
		}
		rows = append(rows, row{"PIN-63 option 20 set P1=" + f.p1, "resetonly", verifySO + "\n" + send + want})
	}
	play(t, rows)
}

// fiveTries is a card whose PIN of seven bytes has five tries.
func fiveTries() string {
	return lines(strings.NewReplacer("648219", "6482197", "91(03)", "91(05)").Replace(initialise("0001")), selectApplication)
}

func TestProtocol_Initialise(t *testing.T) {
	t.Parallel()
	with := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(initialise("0001")) }
	rows := []row{
		{"PIN-13 never initialised", "shipped", initialise("0001") + " => 9000\nholds U=3/3 S=15 user\n" + verifySO},
		{"PIN-13 the given code becomes the SO-PIN", "shipped", with("3537363231383830", "1122334455667788") + "\n" + verifySO + " => 63CE\n00 20 00 88 Lc(1122334455667788)"},
		{"PIN-3 code equals the SO-PIN", "public", wrongSO + " => 63CE\n" + initialise("0001") + " => 9000 !2\nholds U=3/3 S=15 user"},
		{"PIN-14 code differs", "stock", badInit + " => 63CE !1\nholds U=3/3 S=14 user\n80 58 00 00 00 => 2F02 CF00 CD00 2F03 CC00 CC01 CC02 CC03 9000"},
		{"PIN-1 S = 0", "soblocked", initialise("0001") + " => 6983"},
		{"PIN-21 parameter error", "public", with("91(03)", "91(04)") + " => 6A80\nholds U=3/3 S=15 nobody"},
		{"PIN-21 parameter error before a wrong code", "public", strings.NewReplacer("91(03)", "91(04)").Replace(badInit) + " => 6A80\nholds U=3/3 S=15 nobody"},
		{"PIN-26 works while the user PIN is blocked", "blocked", initialise("0001") + "\nholds U=3/3 S=15 user"},
		{"PIN-26 works with the transport PIN pending", "transport", initialise("0001") + "\nholds U=3/3 S=15 user"},
		{"PIN-26 works inside a channel, which stays open", "public", "sm on aes128\n" + initialise("0001") + "\n" + queryUser + " => 9000\nsm off\n" + queryUser + " => 63C3"},

		{"PIN-17 erases keys and files", "stock", initialise("0001") + "\n80 58 00 00 00 => 2F02 CC00 9000"},
		{"PIN-18 erases 2F10", "user", `00 D7 2F 10 Lc(54(0000) 53("blob"))` + "\n" + initialise("0001") + "\n00 A4 00 00 Lc(2F10) => 6A82"},
		{"PIN-17 erases the DKEK", "dkek", initialise("0001") + "\n80 52 00 00 00 => 6D00"},
		{"PIN-17 creates the DKEK anew", "dkek", initialise("0001", "92(01)") + "\n80 52 00 00 00 => 01 01 0000000000000000 9000"},
		{"PIN-17 erases registered keys", "keys", withoutPIN("0001", "93(0302)") + "\n80 54 00 00 00 => 03 03 02 00 9000"},
		{"PIN-17 erases the policy for keys", "pinorkeys", initialise("0001") + "\n80 54 00 00 00 => 6D00"},
		{"PIN-4 user PIN from tag 81", "public", with("648219", "998877") + "\n" + selectApplication + "\n" + verifyUser + " => 63C2\n" + `00 20 00 81 Lc("998877")`},
		{"PIN-10 options from tag 80", "public", initialise("0000") + "\n" + resetOnly + " => 6985"},
		{"PIN-10 options absent are 0000", "public", with("80(0001)", "") + "\n00 A4 00 00 00 => " + fmt.Sprintf(fci41, "00")},
		{"PIN-17 clears the session PIN", "session", lines(verifyUser, "sm on aes128", "80 5A 01 81 00 => {pin:16} 9000", initialise("0005"), `00 20 00 81 Lc({pin}) => 6700`)},
		{"PIN-17 clears the challenge", "pinorkeys", lines("00 84 00 00 08 => *", `00 22 81 A4 Lc(83("UTCUSTB00001"))`, initialise("0001"), "00 82 00 00 Lc(00) => 6A88")},
		{"PIN-16 keeps EF 2F02", "stock", "00 B1 2F 02 Lcx(54(0000)) le => {ef:*} 9000\n" + initialise("0001") + "\n00 B1 2F 02 Lcx(54(0000)) le => {ef} 9000"},
		{"PIN-16 keeps the device key", "user", initialise("0001") + "\nsm on aes128\n" + queryUser + " => 9000"},
		{"PIN-19 logs in", "shipped", initialise("0001") + "\n" + `00 D7 2F 03 Lc(54(0000) 53("x"))`},
		{"PIN-19 logs in for this session only", "shipped", initialise("0001") + "\n" + selectApplication + "\n" + `00 D7 2F 03 Lc(54(0000) 53("x")) => 6982`},
		{"PIN-20 logs in with a transport PIN, too", "shipped", initialise("0003") + "\n" + `00 D7 2F 03 Lc(54(0000) 53("x"))`},
		{"PIN-76 no current EF", "stock", "00 A4 00 00 Lc(CF00)\n" + initialise("0001") + "\n00 B1 00 00 Lc(54(0000)) 00 => 6986"},
		{"PIN-14 there is no other SO-PIN from INITIALIZE", "public", with("3537363231383830", "1122334455667788") + " => 63CE !1\n" + verifySO},

		{"PIN-13 example", "shipped", "80 50 00 00 1C 80 02 00 01 81 06 31 32 33 34 35 36 82 08 00 11 22 33 44 55 66 77 91 01 03 92 01 01\n80 52 00 00 00 => 01 01 0000000000000000 9000\n" + `00 20 00 81 Lc("123456")`},
		{"PIN-13 C_InitToken", "shipped", "80 50 00 00 Lc(80(0001) 81(353736323138) 82(3537363231383830) 91(03))\n00 20 00 81 Lc(353736323138)"},
		{"PIN-22 other order", "shipped", `80 50 00 00 Lc(92(00) 91(03) 82(3537363231383830) 81("648219") 80(0001))`},
		{"PIN-22 unknown tag", "shipped", initialise("0001", "99(0102)", "95(A000000001)")},
		{"PIN-23 both 92 and 97", "shipped", initialise("0001", "92(01)", "97(03)") + " => 6A80"},
		{"DOM-28 97 is unknown to firmware 2.6", "shipped@2.6", initialise("0001", "97(03)") + "\n80 52 00 00 00 => 6D00"},
		{"PIN-21 82 of 7 bytes", "shipped", with("3537363231383830", "35373632313838") + " => 6700"},
		{"PIN-21 82 of 9 bytes", "shipped", with("3537363231383830", "353736323138383000") + " => 6700"},
		{"PIN-21 82 of 7 bytes, initialised", "public", with("3537363231383830", "35373632313838") + " => 6700\nholds U=3/3 S=15 nobody"},
		{"PIN-21 no 82", "shipped", with("82(3537363231383830)", "") + " => 6A80"},
		{"PIN-21 80 of one byte", "shipped", with("80(0001)", "80(01)") + " => 6A80"},
		{"PIN-21 91 of two bytes", "shipped", with("91(03)", "91(0003)") + " => 6A80"},
		{"PIN-21 92 of two bytes", "shipped", initialise("0001", "92(0001)") + " => 6A80"},
		{"PIN-21 93 of one byte", "shipped", initialise("0001", "93(03)") + " => 6A80"},
		{"PIN-21 97 of two bytes", "shipped", initialise("0001", "97(0001)") + " => 6A80"},
		{"PIN-21 not TLV", "shipped", "80 50 00 00 Lc(80 05 00) => 6A80"},
		{"PIN-25 neither PIN nor keys", "shipped", withoutPIN("0001") + " => 6A80"},
		{"PIN-25 empty PIN", "shipped", with(`"648219"`, "") + " => 6A80"},
		{"PIN-25 empty PIN beside keys", "shipped", initialise("0001", "93(0302)")[:0] + `80 50 00 00 Lc(80(0001) 81() 82(3537363231383830) 93(0302)) => 6A80`},
		{"PIN-24 no 91", "shipped", with("91(03)", "") + "\nholds U=3/3 S=15 user"},
		{"APDU-14 P1", "shipped", strings.Replace(initialise("0001"), "80 50 00", "80 50 01", 1) + " => 6A86"},
		{"APDU-14 P2", "shipped", strings.Replace(initialise("0001"), "80 50 00 00", "80 50 00 01", 1) + " => 6A86"},
		{"PKA-1 no key required", "shipped", initialise("0001", "93(0300)") + " => 6A80"},
		{"PKA-1 no key at all", "shipped", initialise("0001", "93(0000)") + " => 6A80"},
		{"PKA-1 more required than there are", "shipped", initialise("0001", "93(0203)") + " => 6A80"},
		{"PKA-1 ninety keys", "shipped", initialise("0001", "93(5A5A)") + "\n80 54 00 00 00 => 5A 5A 5A 00 9000"},
		{"PKA-1 ninety-one keys", "shipped", initialise("0001", "93(5B01)") + " => 6A80"},

		{"PIN-27 query", "shipped", "80 50 00 00 00 => 00 01 30 00 06 04 01 9000"},
		{"PIN-27 query, extended Le", "shipped", "80 50 00 00 00 00 00 => 00 01 30 00 06 04 01 9000"},
		{"PIN-27 query of firmware 2.6", "shipped@2.6", "80 50 00 00 00 => 00 00 90 00 06 02 06 9000"},
		{"PIN-27 query without Le", "public", "80 50 00 00 => 9000"},
		{"PIN-27 free memory falls with files", "user", "00 D7 CF 00 Lc(54(0000) 53({long}))\n80 50 00 00 00 => 00 01 2C 08 06 04 01 9000"},
		{"PIN-27 and rises again", "user", "00 D7 CF 00 Lc(54(0000) 53({long}))\n00 E4 02 00 Lc(CF00)\n80 50 00 00 00 => 00 01 30 00 06 04 01 9000"},
	}
	for _, rule := range []struct {
		length, most int
	}{{6, 3}, {7, 5}, {8, 10}, {9, 10}, {16, 10}} {
		pin := "1234567890123456"[:rule.length]
		name := fmt.Sprintf("PIN-5 PIN of %d, ", rule.length)
		rows = append(rows,
			row{name + "most tries", "shipped", with("648219", pin, "91(03)", fmt.Sprintf("91(%02X)", rule.most)) + fmt.Sprintf("\nholds U=%d/%d S=15 user", rule.most, rule.most)},
			row{name + "one try", "shipped", with("648219", pin, "91(03)", "91(01)") + "\nholds U=1/1 S=15 user"},
			row{name + "one more", "shipped", with("648219", pin, "91(03)", fmt.Sprintf("91(%02X)", rule.most+1)) + " => 6A80"},
			row{name + "no try", "shipped", with("648219", pin, "91(03)", "91(00)") + " => 6A80"})
	}
	for _, pin := range []string{"12345", "12345678901234567"} {
		rows = append(rows, row{fmt.Sprintf("PIN-4 PIN of %d", len(pin)), "public", with("648219", pin) + " => 6A80\nholds U=3/3 S=15 nobody"})
	}
	play(t, rows)
}

// Who may do what without a login: PIN-75. The access matrix goes through
// every command; here are the rows of the statement.
func TestProtocol_EverythingElse(t *testing.T) {
	t.Parallel()
	free := map[string]string{
		"SELECT": "00 A4 00 00 Lc(2F02) 00 => * 9000", "READ": "00 B1 2F 02 Lc(54(0000)) 00 => * 9000",
		"ENUMERATE": "80 58 00 00 00 => * 9000", "GET CHALLENGE": "00 84 00 00 08 => * 9000",
		"DKEK query": "80 52 00 00 00 => * 9000", "PKA status": "80 54 00 00 00 => * 9000", "device query": "80 50 00 00 00 => * 9000",
		"MSE": "00 22 41 A4 Lc(80(04007F00070202030202))",
	}
	for name, command := range free {
		play(t, []row{{"PIN-75 no login: " + name, "shipped", lines(initialise("0001", "92(01)", "93(0302)"), selectApplication, command)}})
	}
	for name, command := range map[string]string{
		"READ CD": "00 B1 CD 00 Lc(54(0000)) 00", "UPDATE": `00 D7 CF 00 Lc(54(0000) 53("x"))`, "DELETE": "00 E4 02 00 Lc(CF00)",
		"GENERATE 46": `00 46 01 00 Lcx(42("UTCA00001") {secp256r1} 5F20("UTKEY00001")) le`, "GENERATE 48": "00 48 03 B0", "SIGN": "80 68 01 73 Lc(00) 00",
		"DECIPHER": "80 62 02 21 Lc(00) 00", "SYM": "80 78 03 10 Lc(00000000000000000000000000000000) 00", "DERIVE": "80 76 01 05 Lc(98 01)",
		"WRAP": "80 72 01 92 00", "UNWRAP": "80 74 09 93", "create domain": "80 52 01 00 Lc(01) 00", "associate domain": "80 52 02 00 Lc(00) 00",
		"delete domain": "80 52 03 00", "clear domain": "80 52 04 00", "PKA replace": "80 54 01 00 Lc(00) 00",
	} {
		play(t, []row{
			{"PIN-75 login: " + name, "stock", selectApplication + "\n" + command + " => 6982"},
			{"PIN-73 login, never initialised: " + name, "shipped", command + " => 6982"},
		})
	}
	play(t, []row{
		{"SM-36 login: session PIN", "session", "sm on aes128\n80 5A 01 81 00 => 6982"},
		{"SM-36 session PIN outside a channel", "session", verifyUser + "\n80 5A 01 81 00 => 6982"},
	})
}

// What sets and what ends a login: PIN-55.
func TestProtocol_AuthenticationState(t *testing.T) {
	t.Parallel()
	in := "\n" + queryUser + " => 9000"
	out := "\n" + queryUser + " => 63C3"
	play(t, []row{
		{"APDU-36 selected, cleared by reset", "user", "cut\n" + queryUser + " => 6D00"},
		{"APDU-37 selected, cleared by another applet", "user", "00 A4 04 00 Lc(A000000151000000) 00 => * 9000\n" + queryUser + " => 6D00"},
		{"PIN-42 auth set by VERIFY", "public", verifyUser + in},
		{"PIN-54 auth set by CHANGE", "public", changeUser + in},
		{"PIN-19 auth set by INITIALIZE", "public", initialise("0001") + in},
		{"APDU-35 auth cleared by SELECT", "user", selectApplication + out},
		{"APDU-36 auth cleared by reset", "user", "cut\n" + selectApplication + out},
		{"PIN-41 auth cleared by a wrong PIN", "user", wrongUser + " => 63C2\n" + queryUser + " => 63C2"},
		{"PIN-69 auth cleared by a new PIN", "user", resetNew + out},
		{"SM-25 auth cleared by the end of the channel it was made in", "public", "sm on aes128\n" + verifyUser + in + "\nsm off" + out},
		{"SM-26 auth made before the channel stays", "user", "sm on aes128" + in + "\nsm off" + in},
		{"SM-25 auth made before and again in the channel ends with it", "user", "sm on aes128\n" + verifyUser + "\nsm off" + out},
		{"SM-25 auth set by CHANGE in the channel ends with it", "public", "sm on aes128\n" + changeUser + in + "\nsm off" + out},
		{"SM-25 auth set by INITIALIZE in the channel ends with it", "public", "sm on aes128\n" + initialise("0001") + in + "\nsm off" + out},
		{"SM-26 auth made before the channel is not bound by the SO-PIN", "user", "sm on aes128\n" + changeSO + "\n00 20 00 88 Lc(1122334455667788)" + in + "\nsm off" + in},
		{"SM-28 NoBindSM keeps it", "public", "sm on aes128\n" + verifyUser + "\n00 20 01 81\nsm off" + in},
		{"SM-33 NoBindSM cleared by a new VERIFY", "public", "sm on aes128\n" + `00 20 01 81 Lc("648219")` + "\n" + verifyUser + "\nsm off" + out},
		{"SM-35 NoBindSM does not outlive the channel", "public", lines("sm on aes128", `00 20 01 81 Lc("648219")`, "sm off", queryUser, "sm on aes128", verifyUser, "sm off") + out},
		{"PIN-45 so set by VERIFY 88", "public", verifySO + "\n" + querySO + " => 9000"},
		{"APDU-35 so cleared by SELECT", "so", selectApplication + "\n" + querySO + " => 63CF"},
		{"PIN-67 so cleared by a wrong code", "so", wrongSO + " => 63CE\n" + resetOnlySO + " => 6985"},
		{"SM-26 so does not end with a channel", "public", "sm on aes128\n" + verifySO + "\n" + verifyUser + "\nsm off\n" + querySO + " => 9000"},
		{"SM-27 sm ended by SELECT", "public", lines("sm on aes128", selectApplication, "sm off", "0C 20 00 81 0D 97 01 00 8E 08 0000000000000000 00 => 6985")},
		{"PKA-20 challenge spent by the next", "keys", lines("00 84 00 00 08 => {c:8} 9000", "00 84 00 00 08 => *", `00 22 81 A4 Lc(83("UTCUSTB00001"))`, "card B", "80 68 01 73 Lc({efa|7F21.7F4E.5F20} {c}) 00 => {sig:*} 9000", "card A", "00 82 00 00 Lc({sig|plain}) => 6300")},
		{"PKA-20 keys cleared by a new challenge", "keys", lines("00 84 00 00 08 => {c:8} 9000", authenticate("B"), "80 54 00 00 00 => 03 00 02 01 9000", "00 84 00 00 08 => *", "80 54 00 00 00 => 03 00 02 00 9000")},
		{"APDU-35 keys cleared by SELECT", "keys", lines("00 84 00 00 08 => {c:8} 9000", authenticate("B"), selectApplication, "80 54 00 00 00 => 03 00 02 00 9000")},
	})
}

// The 35 transitions of PIN-74, as commands. Where a transition starts in
// several states there is a row for each.
func TestProtocol_Transitions(t *testing.T) {
	t.Parallel()
	both := "00 84 00 00 08 => {c:8} 9000\n" + authenticate("B") + "\n" + authenticate("C")
	rows := []row{
		{"PIN-74 #1", "shipped", initialise("0001") + " => 9000 !1\nholds U=3/3 S=15 user"},
		{"PIN-74 #2", "shipped", initialise("0003") + "\nholds U=3/3 S=15 user\n" + selectApplication + "\n" + queryUser + " => 6984"},
		{"PIN-74 #3", "shipped", withoutPIN("0001", "93(0302)") + "\n80 54 00 00 00 => 03 03 02 00 9000\n" + selectApplication + "\n" + queryUser + " => 6300"},
		{"PIN-74 #4", "shipped", strings.Replace(initialise("0001"), "91(03)", "91(04)", 1) + " => 6A80\n" + queryUser + " => 6A88"},
		{"PIN-74 #5 VERIFY", "shipped", verifyUser + " => 6A88"},
		{"PIN-74 #5 VERIFY 88", "shipped", verifySO + " => 6A88"},
		{"PIN-74 #5 CHANGE", "shipped", changeUser + " => 6A88"},
		{"PIN-74 #5 CHANGE 88", "shipped", changeSO + " => 6A88"},
		{"PIN-74 #5 RESET", "shipped", resetNew + " => 6A88"},
		{"PIN-73 #6 file", "shipped", `00 D7 CF 00 Lc(54(0000) 53("x")) => 6982`},
		{"PIN-73 #6 key", "shipped", `00 46 01 00 Lcx(42("UTCA00001") {secp256r1} 5F20("UTKEY00001")) le => 6982`},
		{"PIN-36 #7 right", "transport", verifyUser + " => 6984"},
		{"PIN-36 #7 wrong", "transport", wrongUser + " => 6984"},
		{"PIN-74 #8", "transport", badChange + " => 63C2\n" + changeUser + "\nholds U=3/3 S=15 user\n" + selectApplication + "\n" + queryUser + " => 63C3"},
		{"PIN-74 #9", "transport", badChange + " => 63C2 !1\nholds U=2/3 S=15 nobody"},
		{"PIN-74 #10", "transport", badChange + " => 63C2\n" + badChange + " => 63C1\n" + badChange + " => 6983 !1\n" + changeUser + " => 6983"},
		{"PIN-74 #11", "public", wrongUser + " => 63C2\n" + verifyUser + "\nholds U=3/3 S=15 user"},
		{"PIN-74 #12", "user", wrongUser + " => 63C2 !1\nholds U=2/3 S=15 nobody"},
		{"PIN-74 #13", "user", wrongUser + " => 63C2\n" + wrongUser + " => 63C1\n" + verifyUser + "\n" + again(2, wrongUser+" => *") + wrongUser + " => 6983 !1\nholds U=0/3 S=15 nobody"},
		{"PIN-74 #14", "user", `00 20 00 81 Lc("6482190") => 6700
			holds U=3/3 S=15 user`},
		{"PIN-74 #15", "public", wrongUser + " => 63C2\n" + changeUser + "\nholds U=3/3 S=15 user"},
		{"PIN-74 #16 O", "user", badChange + " => 63C2 !1\nholds U=2/3 S=15 nobody"},
		{"PIN-74 #16 B", "user", badChange + " => 63C2\n" + badChange + " => 63C1\n" + badChange + " => 6983 !1\n" + queryUser + " => 6983"},
		{"PIN-74 #17", "user", `00 24 00 81 Lc("648219" "12345") => 6A80
			holds U=3/3 S=15 user`},
		{"PIN-74 #18 O", "user", wrongSO + " => 63CE\n" + resetNew + "\nholds U=3/3 S=15 nobody"},
		{"PIN-74 #18 B", "blocked", wrongSO + " => 63CE\n" + resetNew + "\nholds U=3/3 S=15 nobody"},
		{"PIN-74 #18 T", "transport", wrongSO + " => 63CE\n" + resetNew + "\nholds U=3/3 S=15 nobody\n" + `00 20 00 81 Lc("246870")`},
		{"PIN-74 #19 O", "user", wrongUser + " => 63C2\n" + wrongSO + " => 63CE\n" + resetOnly + "\nholds U=3/3 S=15 nobody"},
		{"PIN-74 #19 B", "blocked", wrongSO + " => 63CE\n" + resetOnly + "\nholds U=3/3 S=15 nobody"},
		{"PIN-74 #20", "transport", badChange + " => 63C2\n" + resetOnly + "\nholds U=3/3 S=15 nobody\n" + verifyUser + " => 6984"},
		{"PIN-74 #25 VERIFY", "blocked", verifyUser + " => 6983"},
		{"PIN-74 #25 CHANGE", "blocked", changeUser + " => 6983"},
		{"PKA-25 #31", "keys", both + "\nholds U=- S=15 user keys=2\n" + generate("01", "secp256r1")},
		{"PIN-43 #32 VERIFY", "keys", verifyUser + " => 6A88"},
		{"PIN-43 #32 CHANGE", "keys", changeUser + " => 6A88"},
		{"PIN-2 #35 VERIFY", "stock", exhausted + selectApplication + "\n" + verifyUser + "\n80 68 01 73 Lc(\"message\") 00 => * 9000"},
		{"PIN-2 #35 wrong PIN", "soblocked", wrongUser + " => 63C2 !1"},
		{"PIN-2 #35 CHANGE", "soblocked", changeUser + "\nholds U=3/3 S=0 user"},
	}
	for state, from := range map[string]string{"O": "user", "B": "blocked", "T": "transport", "P": "keys"} {
		add := func(number, what, script string) {
			rows = append(rows, row{fmt.Sprintf("PIN-74 #%s %s %s", number, state, what), from, script})
		}
		before := map[string]string{"O": "U=3/3", "B": "U=0/3", "T": "U=3/3", "P": "U=-"}[state]
		who := map[string]string{"O": "user", "B": "nobody", "T": "nobody", "P": "nobody"}[state]
		fourteen := again(14, wrongSO+" => *")
		if state != "P" {
			add("21", "new PIN", badReset+" => 63CE !1\nholds "+before+" S=14 "+who)
			add("21", "counter", badResetNo+" => 63CE !1\nholds "+before+" S=14 "+who)
			add("22", "new PIN", fourteen+badReset+" => 6983 !1\n"+querySO+" => 6983")
			add("22", "counter", fourteen+badResetNo+" => 6983 !1\n"+querySO+" => 6983")
		}
		add("24", "RESET", exhausted+resetOnly+" => 6983")
		add("24", "INITIALIZE", exhausted+initialise("0001")+" => 6983")
		add("24", "VERIFY 88", exhausted+verifySO+" => 6983")
		add("24", "CHANGE 88", exhausted+changeSO+" => 6983")
		add("26", "to O", wrongSO+" => 63CE\n"+initialise("0001")+" => 9000 !2\nholds U=3/3 S=15 user")
		add("26", "to T", wrongSO+" => 63CE\n"+initialise("0003")+" => 9000 !2\nholds U=3/3 S=15 user\n"+selectApplication+"\n"+queryUser+" => 6984")
		add("26", "to P", wrongSO+" => 63CE\n"+withoutPIN("0001", "93(0302)")+" => 9000 !2\nholds U=- S=15 user")
		add("27", "", badInit+" => 63CE !1\nholds "+before+" S=14 "+who)
		add("28", "", fourteen+badInit+" => 6983 !1\n"+querySO+" => 6983\n80 58 00 00 00 => * 9000")
		add("29", "", wrongSO+" => 63CE\n"+changeSO+"\nholds "+before+" S=15 "+who)
		add("30", "CHANGE 88", badChangeSO+" => 63CE !1")
		add("30", "CHANGE 88, last try", fourteen+badChangeSO+" => 6983 !1\n"+querySO+" => 6983")
		add("30", "VERIFY 88", wrongSO+" => 63CE !1")
		add("30", "VERIFY 88, last try", fourteen+wrongSO+" => 6983 !1\n"+querySO+" => 6983")
		base := map[string]string{"O": "63C3", "B": "6983", "T": "6984", "P": "6300"}[state]
		add("33", "", verifySO+"\n"+selectApplication+"\nholds "+before+" S=15 nobody\n"+queryUser+" => "+base)
		add("34", "", verifySO+"\ncut\n"+queryUser+" => 6D00\n"+selectApplication+"\nholds "+before+" S=15 nobody\n"+queryUser+" => "+base)
		add("35", "query", exhausted+selectApplication+"\n"+queryUser+" => "+base)
	}
	for state, init := range map[string]string{"O": initialise("0000"), "T": initialise("0002"), "P": withoutPIN("0000", "93(0302)")} {
		rows = append(rows, row{"PIN-61 #23 " + state, "shipped", init + "\n" + selectApplication + "\n" + resetNew + " => 6985\n" + resetOnly + " => 6985\n" + querySO + " => 63CF"})
	}
	rows = append(rows, row{"PIN-61 #23 B", "noreset", again(3, wrongUser+" => *") + resetNew + " => 6985\n" + querySO + " => 63CF"})
	play(t, rows)

	seen := map[string]bool{}
	for _, r := range rows {
		seen[regexp.MustCompile(`#(\d+)`).FindStringSubmatch(r.name)[1]] = true
	}
	for n := 1; n <= 35; n++ {
		require.True(t, seen[fmt.Sprint(n)], "transition %d has no row", n)
	}
}
