// Package pkcs15 reads and writes the PKCS #15 descriptions that clients keep
// beside the keys and certificates of a card (PKCS #15 v1.1 §6). The card
// stores them and does not look inside.
//
// What it writes is what the Smart Card Shell writes; what it reads is what
// any known client writes. It knows labels, identifiers, usage and size, and
// passes over the rest. Where a description is kept, and whether it is true of
// its key, is not its business.
//
//	d := pkcs15.Key{Kind: pkcs15.RSA, Label: "signing", ID: []byte{1}, Usage: pkcs15.UsageRSA, Bits: 2048}
//	content := d.Bytes()             // of EF C401
//	d, err := pkcs15.ParseKey(content)
package pkcs15

import (
	"errors"
	"fmt"

	"hsmemu/applet/tlv"
)

// ErrDescription says that bytes are no description of the wanted sort.
var ErrDescription = errors.New("description is malformed")

// Kind is the kind of key a description is of: the tag it begins with.
type Kind byte

// The kinds of keys.
const (
	RSA Kind = 0x30
	EC  Kind = 0xA0
	AES Kind = 0xA8
)

// String returns "RSA", "EC", "AES", or the tag in hexadecimal.
func (k Kind) String() string {
	switch k {
	case RSA:
		return "RSA"
	case EC:
		return "EC"
	case AES:
		return "AES"
	}
	return fmt.Sprintf("key of type %02X", byte(k))
}

// Usage says what a key is meant for: KeyUsageFlags, bit 0 of the BIT STRING
// being the lowest bit here.
type Usage uint16

// The usages that PKCS #15 names.
const (
	Encrypt Usage = 1 << iota
	Decrypt
	Sign
	SignRecover
	Wrap
	Unwrap
	Verify
	VerifyRecover
	Derive
	NonRepudiation
)

// What the Smart Card Shell writes for a private key that may do everything.
const (
	UsageRSA = Decrypt | Sign | SignRecover | Unwrap
	UsageEC  = Sign | Derive
)

// Key describes a private or secret key: the content of EF C4kk, kk being the
// reference of the key.
type Key struct {
	Kind  Kind
	Label string
	// ID connects the key with its certificate for clients (CKA_ID).
	ID    []byte
	Usage Usage
	// Bits is the size of the key; 0 if the description has none. Of a key on
	// a curve whose field is no whole number of bytes, some writers give the
	// size of the whole bytes.
	Bits int
}

// Certificate describes a CA certificate: the content of EF C8nn.
type Certificate struct {
	Label string
	ID    []byte
	// File is the file that holds the certificate, CAnn.
	File uint16
}

// Tags of DER, and of PKCS #15 §6.1.3 for what is in a description.
const (
	tagBitString   tlv.Tag = 0x03
	tagOctetString tlv.Tag = 0x04
	tagInteger     tlv.Tag = 0x02
	tagUTF8        tlv.Tag = 0x0C
	tagSequence    tlv.Tag = 0x30
	tagSubclass    tlv.Tag = 0xA0
	tagType        tlv.Tag = 0xA1
)

// Bytes is the description as the Smart Card Shell writes it: without flags,
// without reference, for RSA and EC with an empty path. A description without
// size is written without one.
func (k Key) Bytes() []byte {
	object := tlv.Append(nil, tagSequence, tlv.Append(nil, tagUTF8, []byte(k.Label)))
	key := tlv.Append(nil, tagSequence,
		tlv.Append(nil, tagOctetString, k.ID), tlv.Append(nil, tagBitString, k.Usage.bitString()))
	var size []byte
	if k.Bits > 0 {
		size = tlv.Append(nil, tagInteger, integer(k.Bits))
	}
	if k.Kind == AES {
		return tlv.Append(nil, tlv.Tag(k.Kind), object, key, tlv.Append(nil, tagSubclass, size))
	}
	path := tlv.Append(nil, tagSequence, tlv.Append(nil, tagOctetString))
	return tlv.Append(nil, tlv.Tag(k.Kind), object, key,
		tlv.Append(nil, tagType, tlv.Append(nil, tagSequence, path, size)))
}

// Bytes is the description as the vendor's OpenCard Framework writes it: flags
// that say modifiable, and the path of the certificate.
func (c Certificate) Bytes() []byte {
	const modifiable = "\x06\x40" // bit 1 of CommonObjectFlags
	file := []byte{byte(c.File >> 8), byte(c.File)}
	path := tlv.Append(nil, tagSequence, tlv.Append(nil, tagOctetString, file))
	return tlv.Append(nil, tagSequence,
		tlv.Append(nil, tagSequence, tlv.Append(nil, tagUTF8, []byte(c.Label)), tlv.Append(nil, tagBitString, []byte(modifiable))),
		tlv.Append(nil, tagSequence, tlv.Append(nil, tagOctetString, c.ID)),
		tlv.Append(nil, tagType, tlv.Append(nil, tagSequence, path)))
}

// bitString is the value of the BIT STRING without the zeros at its end, as
// DER wants it of named bits.
func (u Usage) bitString() []byte {
	out := []byte{0}
	for i := range 16 {
		if u>>i&1 == 0 {
			continue
		}
		for len(out) < 2+i/8 {
			out = append(out, 0)
		}
		out[1+i/8] |= 0x80 >> (i % 8)
		out[0] = byte(7 - i%8) // the bits that are left over
	}
	return out
}

func parseUsage(b []byte) Usage {
	var u Usage
	for i := 0; i < 16 && 1+i/8 < len(b); i++ {
		if b[1+i/8]&(0x80>>(i%8)) != 0 {
			u |= 1 << i
		}
	}
	return u
}

// integer is the value of a positive INTEGER.
func integer(n int) []byte {
	var out []byte
	for ; n > 0; n >>= 8 {
		out = append([]byte{byte(n)}, out...)
	}
	if len(out) == 0 || out[0]&0x80 != 0 {
		out = append([]byte{0}, out...)
	}
	return out
}
