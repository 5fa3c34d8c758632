package chip_test

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/emulator/chip"
	"hsmemu/keystore"
)

// spec 01 §1.3: any APDU of up to 4096 bytes is taken, a longer one is refused
// for its length.
func TestStep_TakesAPDUsOfUpTo4096Bytes(t *testing.T) {
	env := applet.Env{Rand: rand.Reader, Now: time.Unix(1.7e9, 0), RSA: keystore.SystemGenerator{Rand: rand.Reader}}
	d, err := chip.Manufacture(env, chip.Order{})
	require.NoError(t, err)
	selected, r := chip.Step(env, chip.Boot(d), apdu.Command{INS: 0xA4, P1: 4, P2: 0x0C, Data: []byte(applet.AID)}.Bytes())
	require.Equal(t, []byte{0x90, 0x00}, r.Response)

	const header = 7 // of an extended command without Le
	for _, c := range []struct {
		size int
		want apdu.SW
	}{{4096, apdu.SecurityStatus}, {4097, apdu.WrongLength}} {
		command := apdu.Command{INS: 0xD7, P1: 0xCF, Data: make([]byte, c.size-header), Extended: true}.Bytes()
		require.Len(t, command, c.size)
		_, r := chip.Step(env, selected, command)
		require.Equal(t, c.want, r.Event.SW, "%d bytes", c.size)
	}
}
