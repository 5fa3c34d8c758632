package apdu_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
)

func TestParseHex(t *testing.T) {
	for _, text := range []string{"00a4", "00 A4", " 00:A4\t", "0 0 a 4"} {
		b, err := apdu.ParseHex(text)
		require.NoError(t, err)
		require.Equal(t, []byte{0x00, 0xA4}, b, "%q", text)
	}
	for text, why := range map[string]string{
		"é0":    `'é' is no hexadecimal digit`,
		"00 G0": `'G' is no hexadecimal digit`,
		"00１0":  `'１' is no hexadecimal digit`,
		"000":   "half a byte at the end",
		"\xff0": `'�' is no hexadecimal digit`,
	} {
		_, err := apdu.ParseHex(text)
		require.EqualError(t, err, why, "%q", text)
	}
}
