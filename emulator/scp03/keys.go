package scp03

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"

	"hsmemu/applet/apdu"
)

// Keys are the static keys of a card: one for encryption, one for codes, and one that
// new keys are encrypted with. Printing them, in whatever way, shows none. The zero
// Keys are none, and open no channel.
type Keys struct{ k *staticKeys }

// staticKeys are behind a pointer, and each once more: a verb that does not suit
// a pointer makes fmt follow it, but only once.
type staticKeys struct{ enc, mac, dek *[KeyLen]byte }

// NewKeys are keys that somebody made: for encryption, for codes, and for new keys.
func NewKeys(enc, mac, dek [KeyLen]byte) Keys { return Keys{&staticKeys{&enc, &mac, &dek}} }

// Derive makes the keys of one card from a master key: AES-CMAC of the number of
// the key (1 for encryption, 2 for codes, 3 for new keys) and the diversification
// data. How the vendor does it is not public; this is this project's choice.
func Derive(master [KeyLen]byte, d Diversification) Keys {
	one := func(n byte) [KeyLen]byte { return [KeyLen]byte(sum(master[:], []byte{n}, d[:])) }
	return NewKeys(one(1), one(2), one(3))
}

// IsZero reports whether there are no keys.
func (k Keys) IsZero() bool { return k.k == nil }

// Equal reports whether the keys are the same; none are none's equal.
func (k Keys) Equal(other Keys) bool {
	if k.IsZero() || other.IsZero() {
		return false
	}
	same := true
	for i, key := range k.all() {
		same = equal(key[:], other.all()[i][:]) && same
	}
	return same
}

// all are the keys in their order.
func (k Keys) all() [numKeys]*[KeyLen]byte { return [...]*[KeyLen]byte{k.k.enc, k.k.mac, k.k.dek} }

// String tells that there are keys, and not which.
func (k Keys) String() string { return fmt.Sprint(k) }

// Format implements [fmt.Formatter], so that no verb shows the keys.
func (k Keys) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// LogValue implements [slog.LogValuer], so that no log shows the keys.
func (k Keys) LogValue() slog.Value { return slog.StringValue(hidden) }

const hidden = "card keys"

// MarshalJSON writes the keys, one behind the other, as a string of 96 hexadecimal
// digits; null for none. It is for who keeps a card.
func (k Keys) MarshalJSON() ([]byte, error) {
	if k.IsZero() {
		return []byte("null"), nil
	}
	var b []byte
	for _, key := range k.all() {
		b = append(b, key[:]...)
	}
	return json.Marshal(hex.EncodeToString(b))
}

// UnmarshalJSON reads what MarshalJSON wrote. Error: ErrLength for any other string, and
// what encoding/json says of what is none.
func (k *Keys) UnmarshalJSON(text []byte) error {
	var digits *string
	if err := json.Unmarshal(text, &digits); err != nil {
		return err
	}
	if digits == nil {
		*k = Keys{}
		return nil
	}
	b, err := hex.DecodeString(*digits)
	if err != nil || len(b) != numKeys*KeyLen {
		return fmt.Errorf("%w: keys of a card", ErrLength)
	}
	*k = NewKeys([KeyLen]byte(b), [KeyLen]byte(b[KeyLen:]), [KeyLen]byte(b[2*KeyLen:]))
	return nil
}

// The form of new keys in PUT KEY (GlobalPlatform Card Specification §11.8, Amendment D
// §7.2): the version, and for each key its type, the length of what is encrypted behind
// one byte that tells the length of the key, that byte, the encrypted key, and its check
// value behind its length.
const (
	numKeys  = 3
	allKeys  = 0x81 // P2: several keys, of which the first has number 1
	typeAES  = 0x88
	checkLen = 3
	// MaxVersion is the highest version of keys; the lowest is 1.
	MaxVersion = 0x7F
)

// check is the check value of a key: the first bytes of a block of ones under it.
func check(key []byte) []byte {
	b := make([]byte, KeyLen)
	for i := range b {
		b[i] = 1
	}
	blocks(key).Encrypt(b, b)
	return b[:checkLen]
}

// checks are the check values of keys in their order.
func (k Keys) checks() []byte {
	var b []byte
	for _, key := range k.all() {
		b = append(b, check(key[:])...)
	}
	return b
}

// PutKey is the plain command PUT KEY, which [Host.Wrap] has to protect. It gives the card
// keys of a version, 1 to MaxVersion, in place of those of the version replaced, or beside
// those it has if that is 0. Answer is the data that a card which has taken them answers:
// the version and the check values, three bytes each. Errors: ErrClosed, ErrTurn.
func (h Host) PutKey(replaced, version byte, keys Keys) (command apdu.Command, answer []byte, err error) {
	if err := h.e.in(ready); err != nil {
		return apdu.Command{}, nil, err
	}
	data := []byte{version}
	for _, key := range keys.all() {
		data = append(data, typeAES, 1+KeyLen, KeyLen)
		// In CBC mode with a chaining value of zero, which for one block is none.
		encrypted := make([]byte, KeyLen)
		h.e.keys.forKeys.Encrypt(encrypted, key[:])
		data = append(append(data, encrypted...), checkLen)
		data = append(data, check(key[:])...)
	}
	command = apdu.Command{CLA: apdu.ClassProprietary, INS: apdu.InsPutKey, P1: replaced, P2: allKeys, Data: data, Ne: 256}
	return command, append([]byte{version}, keys.checks()...), nil
}

// NewKeys reads the data of PUT KEY as Unwrap returned it, in which keys are encrypted with
// the third of the keys that this channel was opened with. Answer is what [Host.PutKey]
// expects. A key's own length may be missing, as in table 11-71 of the Card Specification.
// Errors: ErrClosed, ErrKeyData, ErrKeyType, ErrKeyCheck.
func (c Card) NewKeys(data []byte) (version byte, keys Keys, answer []byte, err error) {
	if !c.Active() {
		return 0, Keys{}, nil, ErrClosed
	}
	if len(data) == 0 || data[0] == 0 || data[0] > MaxVersion {
		return 0, Keys{}, nil, ErrKeyData
	}
	version, rest := data[0], data[1:]
	var key [numKeys][KeyLen]byte
	for i := range key {
		var encrypted, expected []byte
		if encrypted, expected, rest, err = nextKey(rest); err != nil {
			return 0, Keys{}, nil, err
		}
		c.e.keys.forKeys.Decrypt(key[i][:], encrypted)
		if !equal(check(key[i][:]), expected) {
			return 0, Keys{}, nil, ErrKeyCheck
		}
	}
	if len(rest) > 0 {
		return 0, Keys{}, nil, ErrKeyData
	}
	keys = NewKeys(key[0], key[1], key[2])
	return version, keys, append([]byte{version}, keys.checks()...), nil
}

// nextKey takes one key and its check value off the data of PUT KEY.
func nextKey(data []byte) (encrypted, expected, rest []byte, err error) {
	if len(data) < 2 {
		return nil, nil, nil, ErrKeyData
	}
	if data[0] != typeAES {
		return nil, nil, nil, ErrKeyType
	}
	n, rest := int(data[1]), data[2:]
	if n == 1+KeyLen && len(rest) > 0 && rest[0] == KeyLen {
		n, rest = KeyLen, rest[1:]
	}
	if n != KeyLen || len(rest) < KeyLen+1+checkLen || rest[KeyLen] != checkLen {
		return nil, nil, nil, ErrKeyData
	}
	return rest[:KeyLen], rest[KeyLen+1:][:checkLen], rest[KeyLen+1+checkLen:], nil
}
