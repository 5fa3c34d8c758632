package keyfile

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"hsmemu/keystore"
)

// shownPart is how sc-hsm-tool shows a part of a password to its keeper.
var shownPart = regexp.MustCompile(`(?i)Prime\s*:\s*([0-9a-f:]+)\s+Share ID\s*:\s*(\d+)\s+Share value\s*:\s*([0-9a-f:]+)`)

// SharePassword puts the password of a DKEK share together from what sc-hsm-tool
// showed to its keepers; nil where the text shows no part of one, and holds a
// password as it is. Error: keystore.ErrShare.
func SharePassword(text []byte) ([]byte, error) {
	parts, err := PasswordParts(text)
	if err != nil || len(parts) == 0 {
		return nil, err
	}
	return keystore.JoinPassword(parts)
}

// PasswordParts finds the parts of a split password of a DKEK share in what
// sc-hsm-tool showed to their keepers; none where the text shows none.
func PasswordParts(text []byte) ([]keystore.PasswordPart, error) {
	var parts []keystore.PasswordPart
	for _, m := range shownPart.FindAllSubmatch(text, -1) {
		id, err := strconv.ParseUint(string(m[2]), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("share ID %s", m[2])
		}
		prime, err1 := hex.DecodeString(strings.ReplaceAll(string(m[1]), ":", ""))
		value, err2 := hex.DecodeString(strings.ReplaceAll(string(m[3]), ":", ""))
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("share %d has an odd number of digits", id)
		}
		parts = append(parts, keystore.PasswordPart{Prime: prime, ID: uint32(id), Value: value})
	}
	return parts, nil
}
