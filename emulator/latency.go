package emulator

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"time"
)

// everyClass is the setting that stands for the latencies of hardware.
const everyClass = "realistic"

// realistic is about how long hardware takes, by class of command. Signatures
// were measured on a Nitrokey HSM 2, the rest is of that order of magnitude.
var realistic = map[string]time.Duration{
	"read":     25 * time.Millisecond,
	"write":    60 * time.Millisecond,
	"pin":      80 * time.Millisecond,
	"sign":     300 * time.Millisecond,
	"rsa":      1200 * time.Millisecond,
	"wrap":     250 * time.Millisecond,
	"generate": 1500 * time.Millisecond,
	"rsagen":   12 * time.Second,
	"other":    20 * time.Millisecond,
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
	const otherBits = 0x73 // of the class byte: neither the proprietary class nor secure messaging
	if len(command) < 4 || command[0]&otherBits != 0 {
		return "other"
	}
	switch command[1] {
	case 0xB1, 0x58, 0xA4:
		return "read"
	case 0xD7, 0xE4, 0x50:
		return "write"
	case 0x20, 0x24, 0x2C, 0x82:
		if len(command) <= 5 {
			return "other"
		}
		return "pin"
	case 0x68, 0x62:
		if command[3] >= 0x20 && command[3] < 0x50 {
			return "rsa"
		}
		return "sign"
	case 0x78, 0x76, 0x86:
		return "sign"
	case 0x72, 0x74:
		return "wrap"
	case 0x46:
		if bytes.Contains(command, rsaKey) {
			return "rsagen"
		}
		return "generate"
	case 0x48:
		return "generate"
	}
	return "other"
}

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
