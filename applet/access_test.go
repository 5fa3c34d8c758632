package applet_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/conform"
)

// equipped is a card on which every command of the table has something to work
// on: keys of all kinds, files, key domains (0 complete, 1 waiting for its
// share, 2 empty), a blob in EF 2F10, and two of three custodians.
func equipped(options string) string {
	return lines(selectApplication, initialise(options, "93(0302)", "97(03)"),
		"80 52 01 00 Lc(01) => *", "80 52 00 00 Lc("+shareOne+") => *", "80 52 01 01 Lc(01) => *",
		generate("01", "secp256r1", "91(70 73 80 92 98)"), generate("02", "rsa1024"), "00 48 03 B0",
		`00 D7 CF 00 Lc(54(0000) 53("public data"))`, `00 D7 CD 00 Lc(54(0000) 53("private data"))`,
		"80 72 01 92 00 00 00 => {blob:*} 9000", "00 D7 2F 10 Lc(54(0000) 53({blob}))",
		"00 B1 2F 02 Lcx(54(0000)) le => {efa:*} 9000", custodian("B"), custodian("C"), custodian("D"), register("B"), register("C"),
		selectApplication)
}

// A kind of session: what was done since the application was selected, and
// whether it gave the user's rights.
type session struct {
	options string // of the equipped card; none is a card as shipped
	script  string
	right   bool
}

const (
	channelOn  = "sm on aes128"
	channelOff = "sm off"
)

func sessions() map[string]session {
	byKeys := lines(challenge, authenticate("B"), authenticate("C"))
	return map[string]session{
		"never initialised":                         {script: selectApplication},
		"nobody":                                    {options: "000D"},
		"user by PIN":                               {options: "000D", script: verifyUser, right: true},
		"user by keys":                              {options: "000D", script: byKeys, right: true},
		"one key of two":                            {options: "000D", script: challenge + "\n" + authenticate("B")},
		"PIN and keys":                              {options: "001D", script: verifyUser + "\n" + byKeys, right: true},
		"PIN where keys are needed, too":            {options: "001D", script: verifyUser},
		"keys where the PIN is needed, too":         {options: "001D", script: byKeys},
		"transport PIN pending":                     {options: "000F"},
		"transport PIN changed":                     {options: "000F", script: `00 24 00 81 Lc("648219" "648218")` + "\n" + `00 24 00 81 Lc("648218" "648219")`, right: true},
		"user PIN blocked":                          {options: "000D", script: again(3, wrongUser+" => *")},
		"SO":                                        {options: "000D", script: verifySO},
		"SO-PIN blocked":                            {options: "000D", script: exhausted},
		"user, SO-PIN blocked":                      {options: "000D", script: exhausted + verifyUser, right: true},
		"channel, nobody":                           {options: "000D", script: channelOn},
		"channel, user logged in within":            {options: "000D", script: channelOn + "\n" + verifyUser, right: true},
		"channel, user logged in before":            {options: "000D", script: verifyUser + "\n" + channelOn, right: true},
		"after the channel of the login":            {options: "000D", script: lines(channelOn, verifyUser, channelOff)},
		"after the channel of the login, released":  {options: "000D", script: lines(channelOn, verifyUser, "00 20 01 81", channelOff), right: true},
		"after a channel, user logged in before it": {options: "000D", script: lines(verifyUser, channelOn, channelOff), right: true},
		"logged out by SELECT":                      {options: "000D", script: verifyUser + "\n" + selectApplication},
		"logged out by a wrong PIN":                 {options: "000D", script: verifyUser + "\n" + wrongUser + " => 63C2"},
		"logged out by a new PIN":                   {options: "000D", script: verifyUser + "\n" + `00 2C 00 81 Lc(3537363231383830 "648219")`},
		"after a reset":                             {options: "000D", script: verifyUser + "\ncut\n" + selectApplication},
		"session PIN":                               {options: "000D", script: lines(channelOn, verifyUser, "80 5A 01 81 00 => {pin:16} 9000", channelOff, "00 20 00 81 Lc({pin})"), right: true},
	}
}

// probe is a command for a row of the table that succeeds where it is allowed.
type probe struct {
	before  string // what the command needs beside rights; may fail
	command string
	want    string
	// shipped is the answer of a card as shipped; no answer means want.
	shipped string
	// others are the answers that differ although rights do not, by kind of
	// session.
	others map[string]string
}

// probes has a probe for every row, by its name and header.
func probes() map[string]probe {
	const sixteen = "Lc(00000000000000000000000000000000)"
	trustD := trusting("D")
	signedByB := lines(challenge, `00 22 81 A4 Lc(83("UTCUSTB00001")) => *`, "card B", "80 68 01 73 Lc({efa|7F21.7F4E.5F20} {c}) 00 => {sig:*} 9000", "card A")
	blocked, soBlocked, bySO := map[string]string{}, map[string]string{}, map[string]string{"SO": "9000"}
	query := map[string]string{"transport PIN pending": "6984"}
	inChannel := map[string]string{}
	for kind, s := range sessions() {
		switch {
		case s.right:
			query[kind] = "9000"
		case s.options == "001D" && strings.Contains(s.script, verifyUser):
			query[kind] = "6300"
		}
		if strings.HasPrefix(kind, "channel, user") {
			inChannel[kind] = "* 9000"
		}
		if kind == "user PIN blocked" {
			blocked[kind], query[kind] = "6983", "6983"
		}
		if strings.Contains(kind, "SO-PIN blocked") {
			soBlocked[kind], bySO[kind] = "6983", "6983"
		}
	}
	query["logged out by a wrong PIN"] = "63C2"
	// Who has authenticated already is refused a second time.
	answered := map[string]string{"user by keys": "6985", "PIN and keys": "6985", "keys where the PIN is needed, too": "6985", "one key of two": "6985"}
	return map[string]probe{
		"SELECT A4 04 00/04/0C":                                {command: "00 A4 04 00 Lc(" + aid + ") 00", want: "* 9000"},
		"SELECT A4 00 00/04/0C":                                {command: "00 A4 00 00 Lc(2F02) 00", want: "* 9000"},
		"READ BINARY B1 xx xx":                                 {command: "00 B1 2F 02 Lc(54(0000)) 00", want: "* 9000"},
		"UPDATE BINARY D7 xx xx":                               {command: `00 D7 CF 01 Lc(54(0000) 53("x"))`, want: "9000"},
		"DELETE FILE E4 00/02 00":                              {command: "00 E4 02 00 Lc(CF00)", want: "9000"},
		"ENUMERATE OBJECTS 58 00 00":                           {command: "80 58 00 00 00", want: "* 9000"},
		"GET CHALLENGE 84 00 00":                               {command: "00 84 00 00 08", want: "* 9000"},
		"VERIFY 20 00/01 xx":                                   {command: queryUser, want: "63C3", shipped: "6A88", others: query},
		"CHANGE REFERENCE DATA 24 00 xx":                       {command: `00 24 00 81 Lc("648219" "135790")`, want: "9000", shipped: "6A88", others: blocked},
		"RESET RETRY COUNTER 2C 00/01 81":                      {command: resetNew, want: "9000", shipped: "6A88", others: soBlocked},
		"RESET RETRY COUNTER 2C 02/03 81":                      {command: "00 2C 03 81", want: "6985", shipped: "6A88", others: bySO},
		"INITIALIZE DEVICE (query) 50 00 00":                   {command: "80 50 00 00 00", want: "* 9000"},
		"INITIALIZE DEVICE 50 00 00":                           {command: initialise("0001"), want: "9000", others: soBlocked},
		"GENERATE ASYMMETRIC KEY PAIR 46 xx xx":                {command: `00 46 05 00 Lcx(42("UTCA00001") {secp256r1} 5F20("UTKEY00001")) le`, want: "* 9000"},
		"GENERATE SYMMETRIC KEY 48 xx B0/B1/B2":                {command: "00 48 05 B0", want: "9000"},
		"SIGN 68 xx xx":                                        {command: "80 68 01 73 Lc(00) 00", want: "* 9000"},
		"DECIPHER 62 xx xx":                                    {command: "80 62 01 80 Lc({secp256r1|7F49.84}) 00", want: "* 9000"},
		"SYMMETRIC CIPHER 78 xx xx":                            {command: "80 78 03 10 " + sixteen + " 00", want: "* 9000"},
		"DERIVE EC KEY 76 xx xx":                               {command: "80 76 01 05 Lc(98 01)", want: "9000"},
		"WRAP KEY 72 xx 92":                                    {command: "80 72 01 92 00 00 00", want: "* 9000"},
		"UNWRAP KEY 74 xx 93":                                  {command: "80 74 05 93", want: "9000"},
		"MANAGE KEY DOMAIN (status) 52 00 xx":                  {command: "80 52 00 00 00", want: "* 9000", shipped: "6D00"},
		"MANAGE KEY DOMAIN (import share) 52 00 xx":            {command: "80 52 00 01 Lc(" + shareOne + ") 00", want: "* 9000", shipped: "6D00"},
		"MANAGE KEY DOMAIN (create) 52 01 xx":                  {command: "80 52 01 02 Lc(01) 00", want: "* 9000"},
		"MANAGE KEY DOMAIN (associate) 52 02 xx":               {before: trusting("B") + " => *\n" + lines("card B", "80 68 01 73 Lc(54 {efa|7F21.7F4E.7F49.86|x}) 00 => {sig:*} 9000", "card A"), command: "80 52 02 02 Lcx({requestb|value} 54({sig|plain})) le", want: "* 9000"},
		"MANAGE KEY DOMAIN (delete) 52 03 xx":                  {command: "80 52 03 01", want: "6A88"},
		"MANAGE KEY DOMAIN (delete KEK) 52 04 xx":              {command: "80 52 04 01", want: "* 9000"},
		"MANAGE PUBLIC KEY AUTHENTICATION (status) 54 00 00":   {command: "80 54 00 00 00", want: "* 9000", shipped: "6D00"},
		"MANAGE PUBLIC KEY AUTHENTICATION (register) 54 00 00": {before: trustD, command: "80 54 00 00 Lcx({requestd|value}) le", want: "* 9000", shipped: "6D00"},
		"MANAGE PUBLIC KEY AUTHENTICATION (replace) 54 01 xx":  {before: trustD, command: "80 54 01 00 Lcx({requestd|value}) le", want: "* 9000"},
		"MANAGE PUBLIC KEY AUTHENTICATION (query key) 54 02 xx": {
			command: "80 54 02 00 00", want: "* 9000", shipped: "6D00",
			others: map[string]string{"user by keys": "* 9001", "PIN and keys": "* 9001", "keys where the PIN is needed, too": "* 9001", "one key of two": "* 9001"},
		},
		"MANAGE SECURITY ENVIRONMENT 22 41/81/C1 A4/A6/AA/B4/B6/B8": {command: `00 22 81 A4 Lc(83("UTCUSTB00001"))`, want: "9000", shipped: "6A88", others: answered},
		"PSO VERIFY CERTIFICATE 2A 00 92/AE/BE":                     {before: "00 22 81 B6 Lc(83({efb|7F21.7F4E.42}))", command: "00 2A 00 BE Lc({efb|value})", want: "9000"},
		"EXTERNAL AUTHENTICATE 82 00 00":                            {before: signedByB, command: "00 82 00 00 Lc({sig|plain})", want: "9000", shipped: "6A88"},
		"GENERAL AUTHENTICATE 86 00 00":                             {before: "00 22 41 A4 Lc(80(04007F00070202030202))", command: "00 86 00 00 Lc(7C(80({brainpoolP256r1|7F49.84}))) 00", want: "* 9000"},
		"GENERATE SESSION PIN 5A 01 81":                             {command: "80 5A 01 81 00", want: "6982", shipped: "6D00", others: inChannel},
	}
}

// Every row of the command table in every kind of session: without the right
// that the row asks for the answer is 6982 and nothing is saved (invariant I5);
// with it, and where no right is asked for, the command runs.
func TestAccess_EveryRowInEverySession(t *testing.T) {
	t.Parallel()
	expected := probes()
	for _, row := range applet.Commands() {
		name := row.Name + " " + row.Header
		p, known := expected[name]
		require.True(t, known, "row %s has no expectation", name)
		delete(expected, name)
		for kind, s := range sessions() {
			t.Run(name+" in "+kind, func(t *testing.T) {
				t.Parallel()
				tb := visit(t, s)
				tb.run(t, p.before)
				want := p.want
				if other, differs := p.others[kind]; differs {
					want = other
				}
				if s.options == "" && p.shipped != "" {
					want = p.shipped
				}
				denied := rightFirst(row) && !s.right
				if denied {
					want = "6982"
				}
				before := stored(t, tb.current().State.Durable())
				answer := tb.command(t, p.command)
				ok, err := conform.Match(want, answer, tb.Vars)
				require.NoError(t, err)
				require.True(t, ok, "want %s, got %X: %s", want, answer, tb.current().Result.Event)
				if denied {
					require.Empty(t, tb.current().Result.Commits)
					require.Equal(t, before, stored(t, tb.current().State.Durable()))
				}
			})
		}
	}
	require.Empty(t, slices.Collect(maps.Keys(expected)), "expectations for rows that the table does not have")
}

// rightFirst reports whether a row asks for the user's rights before all else.
func rightFirst(row applet.CommandInfo) bool {
	return len(row.Needs) > 0 && row.Needs[0].Words == "user"
}

// visit is the equipped card of a kind of session, and the others it needs.
func visit(t *testing.T, s session) *table {
	t.Helper()
	if s.options != "" {
		return after(t, "4.1", equipped(s.options)+"\n"+s.script)
	}
	// The custodians exist, but the card has never heard of them.
	tb := after(t, "4.1", equipped("000D"))
	shipped, err := chiptest.Manufacture("4.1", "A")
	require.NoError(t, err)
	tb.put(shipped)
	tb.run(t, s.script)
	return tb
}

// Files protect themselves beside the table: who may read and write what, in
// every kind of session.
func TestAccess_FilesInEverySession(t *testing.T) {
	t.Parallel()
	for kind, s := range sessions() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			private, written := "6982", "6982"
			if s.right {
				private, written = `"private data" 9000`, "9000"
			}
			public := `"public data" 9000`
			if s.options == "" {
				public = "6A82"
			}
			tb := visit(t, s)
			tb.run(t, lines(
				"00 B1 CD 00 Lc(54(0000)) 00 => "+private, "00 B1 CF 00 Lc(54(0000)) 00 => "+public, "00 B1 CC 01 Lc(54(0000)) 00 => 6982",
				"00 B1 CC 00 Lc(54(0000)) 00 => 6982", "00 B1 2F 02 Lc(54(0000)) 00 => * 9000",
				`00 D7 CD 01 Lc(54(0000) 53("x")) => `+written, `00 D7 CC 01 Lc(54(0000) 53("x")) => 6982`, `00 D7 2F 02 Lc(54(0000) 53("x")) => 6982`,
				"00 E4 02 00 Lc(2F02) => 6982", "00 E4 02 00 Lc(CC00) => 6982"))
			tb.run(t, "00 E4 02 00 Lc(CC01) => "+written)
		})
	}
}
