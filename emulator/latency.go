package emulator

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"time"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
)

// everyClass is the setting that stands for the latencies of hardware.
const everyClass = "realistic"

// realistic is about how long hardware takes, by class of command. Signatures
// were measured on a Nitrokey HSM 2, the rest is of that order of magnitude.
var realistic = map[string]time.Duration{
	string(applet.Reading):    25 * time.Millisecond,
	string(applet.Writing):    60 * time.Millisecond,
	string(applet.PIN):        80 * time.Millisecond,
	string(applet.Signing):    300 * time.Millisecond,
	"rsa":                     1200 * time.Millisecond,
	string(applet.Wrapping):   250 * time.Millisecond,
	string(applet.Generating): 1500 * time.Millisecond,
	"rsagen":                  12 * time.Second,
	string(applet.Other):      20 * time.Millisecond,
}

// Latencies lists the classes of commands and how long each takes with the
// fault "slow" as it is.
func Latencies() [][2]string {
	var lines [][2]string
	for _, class := range slices.Sorted(maps.Keys(realistic)) {
		lines = append(lines, [2]string{class, realistic[class].String()})
	}
	return lines
}

// rsaKey begins the object identifiers of RSA keys in the templates of
// GENERATE ASYMMETRIC KEY PAIR: id-TA-RSA (BSI TR-03110, part 3).
var rsaKey = []byte{0x04, 0x00, 0x7F, 0x00, 0x07, 0x02, 0x02, 0x02, 0x01}

// classOf sorts a command into the classes of latency. RSA operations are known
// by their algorithm and their key template, PINs by being there: without one,
// VERIFY is a question. The class byte counts, because programs that look for
// other cards use the same instructions for them.
func classOf(command []byte) string {
	const otherBits = ^(apdu.ClassProprietary | apdu.ClassSecure)
	if len(command) < 4 || command[0]&otherBits != 0 {
		return string(applet.Other)
	}
	class := applet.ClassOf(command[1])
	switch {
	case class == applet.PIN && len(command) <= 5:
		return string(applet.Other)
	case class == applet.Signing && (command[1] == apdu.InsSign || command[1] == apdu.InsDecipher) && ofRSA(command[3]):
		return "rsa"
	case class == applet.Generating && bytes.Contains(command, rsaKey):
		return "rsagen"
	}
	return string(class)
}

// ofRSA reports whether an algorithm of SIGN or DECIPHER is one of RSA (KEY-1).
func ofRSA(algorithm byte) bool { return algorithm >= 0x20 && algorithm < 0x50 }

// strikeSlow waits, but not for a card that was taken out meanwhile.
func strikeSlow(ctx context.Context, one *fault, command []byte) error {
	class := classOf(command)
	delay, named := one.delays[class]
	if !named && one.typical {
		delay = realistic[class]
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
