package applet_test

import "strings"

// What nearly every script begins with.
const (
	selectApplication = "00 A4 04 0C Lc(E82B0601040181C31F0201)"
	verifyUser        = `00 20 00 81 Lc("648219")`
	verifySO          = `00 20 00 88 Lc(3537363231383830)`
	wrongUser         = `00 20 00 81 Lc("000000")`
	wrongSO           = "00 20 00 88 Lc(" + foreignCode + ")"
	shareOne          = "0102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F20"
	shareTwo          = "A1A2A3A4A5A6A7A8A9AAABACADAEAFB0B1B2B3B4B5B6B7B8B9BABBBCBDBEBFC0"
)

// foreignCode is no card's SO-PIN. A blank card that is given it takes it for
// one, which makes a secret of it; so it must not occur in anything public, as
// zeros do in curve parameters.
const foreignCode = "2718281828459045"

// initialise is INITIALIZE DEVICE with the test PINs of PIN-1 and further
// objects.
func initialise(options string, more ...string) string {
	return "80 50 00 00 Lc(80(" + options + `) 81("648219") 82(3537363231383830) 91(03) ` + strings.Join(more, " ") + ")"
}

// withoutPIN is INITIALIZE DEVICE for public keys alone.
func withoutPIN(options string, more ...string) string {
	return "80 50 00 00 Lc(80(" + options + ") 82(3537363231383830) " + strings.Join(more, " ") + ")"
}

// lines joins commands to a script.
func lines(l ...string) string { return strings.Join(l, "\n") }

// again repeats commands.
func again(n int, l ...string) string { return strings.Repeat(lines(l...)+"\n", n) }

// generate makes an EC or RSA key from a template, with further objects.
func generate(id, template string, more ...string) string {
	return "00 46 " + id + ` 00 Lcx(5F29(00) 42("UTCA00001") {` + template + `} 5F20("DENK990000100001") ` + strings.Join(more, " ") + ") le => * 9000"
}

// custodian makes a card with a brainpoolP256r1 key for public key
// authentication, and the variables ef and request with the card's name behind
// them. The card stays logged in. The key is called UTCUST and the card's name.
func custodian(name string) string {
	return lines("card "+name, selectApplication, initialise("0001"),
		"00 B1 2F 02 Lcx(54(0000)) le => {ef"+strings.ToLower(name)+":*} 9000",
		`00 46 01 00 Lcx(5F29(00) 42("UTCA00001") {brainpoolP256r1} 5F20("UTCUST`+name+`00001")) le => {request`+strings.ToLower(name)+":*} 9000")
}

// trusting makes the current card trust another card's device certificate, and
// selects its key for the next step.
func trusting(name string) string {
	name = strings.ToLower(name)
	return lines("00 22 81 B6 Lc(83({ef"+name+"|7F21.7F4E.42}))", "00 2A 00 BE Lc({ef"+name+"|value})",
		"00 22 81 B6 Lc(83({ef"+name+"|7F21.7F4E.5F20}))")
}

// register registers a custodian's key with the card A.
func register(name string) string {
	return lines("card A", trusting(name), "80 54 00 00 Lcx({request"+strings.ToLower(name)+"|value}) le => * 9000")
}

// authenticate lets a custodian sign the challenge c for the card A.
func authenticate(name string) string {
	return lines("card "+name, "80 68 01 73 Lc({efa|7F21.7F4E.5F20} {c}) 00 => {sig:*} 9000",
		"card A", `00 22 81 A4 Lc(83("UTCUST`+name+`00001"))`, "00 82 00 00 Lc({sig|plain})")
}

// custodians registers three keys with the card A, which has been initialised
// for two of three.
func custodians() string {
	return lines("00 B1 2F 02 Lcx(54(0000)) le => {efa:*} 9000",
		custodian("B"), custodian("C"), custodian("D"), register("B"), register("C"), register("D"))
}

// group lets the current card, whose name is given, into the key domain group
// of the card G, as key domain 0, and makes exchange key 1 there. The variables
// ef and exchange have the card's name behind them.
func group(name string) string {
	lower := strings.ToLower(name)
	return lines("card "+name, "00 B1 2F 02 Lcx(54(0000)) le => {ef"+lower+":*} 9000",
		"card G", "80 68 01 73 Lc(54 {ef"+lower+"|7F21.7F4E.7F49.86|x}) 00 => {member:*} 9000",
		"card "+name, trusting("G"), "80 52 02 00 Lcx({requestg|value} 54({member|plain})) le => 00 00 0000000000000000 {uid:64} 9000",
		`00 46 01 00 Lcx(42("UTCA00001") {brainpoolP256r1} 5F20("UTEXCH`+name+`00001") 91(80 84 92) 92(00)) le => {exchange`+lower+":*} 9000")
}

// exchange lets the first card agree on a key encryption key with the second.
func exchange(first, second string) string {
	return lines("card "+first, trusting(second), "80 62 01 84 Lcx({exchange"+strings.ToLower(second)+"|value}) => 9000")
}

// joined makes the card G a group signer, and two cards A and B members of its
// group. A is the current card.
func joined() string {
	b := lines("card B", selectApplication, initialise("0001", "97(02)"))
	return lines(selectApplication, initialise("0001", "97(02)"), custodian("G"), b, group("B"), group("A"))
}

// setups are the states that rows start from. All have the application
// selected.
var setups = map[string]string{
	"shipped":   selectApplication,
	"public":    lines(selectApplication, initialise("0001"), "cut", selectApplication),
	"user":      lines(selectApplication, initialise("0001"), "cut", selectApplication, verifyUser),
	"so":        lines(selectApplication, initialise("0001"), "cut", selectApplication, verifySO),
	"blocked":   lines(selectApplication, initialise("0001"), "cut", selectApplication, wrongUser+" => 63C2", wrongUser+" => 63C1", wrongUser+" => 6983 !1"),
	"transport": lines(selectApplication, initialise("0003"), "cut", selectApplication),
	// The SO-PIN is blocked.
	"soblocked": lines(selectApplication, initialise("0001"), "cut", selectApplication, again(15, wrongSO+" => *")),
	// The options of RESET RETRY COUNTER: off, and the counter alone.
	"noreset":   lines(selectApplication, initialise("0000"), "cut", selectApplication),
	"resetonly": lines(selectApplication, initialise("0021"), "cut", selectApplication),
	// Key wrapping: a whole DKEK, one that waits for its second share, a random
	// one, and three slots for key domains.
	"dkek":    lines(selectApplication, initialise("0001", "92(01)"), "80 52 00 00 Lc("+shareOne+") => *"),
	"pending": lines(selectApplication, initialise("0001", "92(02)"), "80 52 00 00 Lc("+shareOne+") => *"),
	"random":  lines(selectApplication, initialise("0001", "92(00)")),
	"domains": lines(selectApplication, initialise("0001", "97(03)")),
	// XKEK: the cards A and B are members of one group.
	"group": joined(),
	// One key of each kind, 1 secp256r1, 2 RSA-1024, 3 AES-128, and files.
	"stock": lines(selectApplication, initialise("0001", "92(01)"), "80 52 00 00 Lc("+shareOne+") => *",
		generate("01", "secp256r1"), generate("02", "rsa1024"), "00 48 03 B0 Lc(91(10 11 18 92 99))",
		`00 D7 CF 00 Lc(54(0000) 53("public data"))`, `00 D7 CD 00 Lc(54(0000) 53("private data"))`,
		`00 D7 2F 03 Lc(54(0000) 53("label"))`),
	// Public keys, two of three: alone, with the PIN as an alternative, and
	// both together. The custodians B, C and D are there.
	"keys":       lines(selectApplication, withoutPIN("0001", "93(0302)"), custodians(), "cut", selectApplication),
	"pinorkeys":  lines(selectApplication, initialise("0001", "93(0302)"), custodians(), "cut", selectApplication),
	"pinandkeys": lines(selectApplication, initialise("0011", "93(0302)"), custodians(), "cut", selectApplication),
	// Session PINs.
	"session": lines(selectApplication, initialise("0005"), "cut", selectApplication),
}
