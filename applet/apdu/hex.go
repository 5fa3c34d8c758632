package apdu

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// ParseHex reads hexadecimal as people write commands, with blanks and colons
// between the digits. The error says in words what is wrong.
func ParseHex(text string) ([]byte, error) {
	var digits strings.Builder
	for _, r := range text {
		switch {
		case unicode.IsSpace(r) || r == ':':
		case r > unicode.MaxASCII || !unicode.Is(unicode.ASCII_Hex_Digit, r):
			return nil, fmt.Errorf("%q is no hexadecimal digit", r)
		default:
			digits.WriteRune(r)
		}
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		return nil, errors.New("half a byte at the end")
	}
	return b, nil
}
