package view_test

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/view"
)

// The numbers are those of draft-ietf-opsawg-pcapng, 4.1 to 4.3, and of the list of
// link types.
func TestCapture_IsPcapng(t *testing.T) {
	require.Equal(t, "0a0d0d0a"+"1c000000"+"4d3c2b1a"+"01000000"+"ffffffffffffffff"+"1c000000"+
		"01000000"+"20000000"+"9300"+"0000"+"00000000"+"0900"+"0100"+"09000000"+"0000"+"0000"+"20000000", hex.EncodeToString(view.CaptureStart()))
	e := did("00200081", "VERIFY", "user PIN", "63C2", "wrong")
	e.Sent, e.Received = 6, 258
	packet := hex.EncodeToString(e.Packet())
	require.Equal(t, "06000000"+"58000000"+"00000000", packet[:24])
	require.Equal(t, "10000000"+"10000000"+"0101"+"00200081"+"63c2"+"00000006"+"00000102", packet[40:88])
	require.Equal(t, "0100"+"1f00"+hex.EncodeToString([]byte("VERIFY user PIN → 63C2, wrong"))+"00"+"00000000"+"58000000", packet[88:])
}
