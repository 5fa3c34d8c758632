package applet_test

import (
	"fmt"
	"testing"

	"hsmemu/applet"
)

// The first command without secure messaging ends the channel, also one that is
// refused for its class (spec 06 §3.4).
func TestEdges_AnyPlainCommandEndsTheChannel(t *testing.T) {
	t.Parallel()
	for _, class := range []byte{0x00, 0x80, 0x01, 0x03, 0x10, 0xF0, 0x04, 0x88} {
		t.Run(fmt.Sprintf("%02X", class), func(t *testing.T) {
			t.Parallel()
			tb := after(t, applet.DefaultFirmware, setups["public"])
			tb.run(t, lines("sm on aes128", verifyUser, "holds U=3/3 S=15 user"))
			tb.current.transmit([]byte{class, 0x58, 0x00, 0x00, 0x00})
			tb.run(t, lines("holds U=3/3 S=15 nobody", queryUser+" => 6985"))
		})
	}
}
