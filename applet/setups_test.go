package applet_test

import "strings"

// What nearly every script begins with.
const (
	selectApplication = "00 A4 04 0C Lc(E82B0601040181C31F0201)"
	verifyUser        = `00 20 00 81 Lc("648219")`
	verifySO          = `00 20 00 88 Lc(3537363231383830)`
	wrongUser         = `00 20 00 81 Lc("000000")`
	wrongSO           = `00 20 00 88 Lc(0000000000000000)`
	shareOne          = "0102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F20"
	shareTwo          = "A1A2A3A4A5A6A7A8A9AAABACADAEAFB0B1B2B3B4B5B6B7B8B9BABBBCBDBEBFC0"
)

// initialise is INITIALIZE DEVICE with the test PINs of spec 03 §1 and further
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

// setups are the states that rows start from. All have the application
// selected.
var setups = map[string]string{
	"shipped":   selectApplication,
	"public":    lines(selectApplication, initialise("0001"), "cut", selectApplication),
	"user":      lines(selectApplication, initialise("0001"), "cut", selectApplication, verifyUser),
	"so":        lines(selectApplication, initialise("0001"), "cut", selectApplication, verifySO),
	"blocked":   lines(selectApplication, initialise("0001"), "cut", selectApplication, wrongUser+" => 63C2", wrongUser+" => 63C1", wrongUser+" => 63C0"),
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
	// One key of each kind, 1 secp256r1, 2 RSA-1024, 3 AES-128, and files.
	"stock": lines(selectApplication, initialise("0001", "92(01)"), "80 52 00 00 Lc("+shareOne+") => *",
		generate("01", "secp256r1"), generate("02", "rsa1024"), "00 48 03 B0 Lc(91(10 11 18 92 99))",
		`00 D7 CF 00 Lc(54(0000) 53("public data"))`, `00 D7 CD 00 Lc(54(0000) 53("private data"))`,
		`00 D7 2F 03 Lc(54(0000) 53("label"))`),
	// Public keys: two of three, without PIN; with the PIN as an alternative;
	// and both together.
	"keys":       lines(selectApplication, withoutPIN("0001", "93(0302)"), "cut", selectApplication),
	"pinorkeys":  lines(selectApplication, initialise("0001", "93(0302)"), "cut", selectApplication),
	"pinandkeys": lines(selectApplication, initialise("0011", "93(0302)"), "cut", selectApplication),
	// Session PINs.
	"session": lines(selectApplication, initialise("0005"), "cut", selectApplication),
}
