package sm

import (
	"bytes"
	"crypto/aes"
	"crypto/des"
	"crypto/sha1"
	"crypto/sha256"

	"hsmemu/applet/apdu"
	"hsmemu/applet/tlv"
)

// Suite is one of the four variants of chip authentication by elliptic curve
// key agreement (BSI TR-03110-3 §A.4). Its number is the last arc of its
// object identifier; the zero Suite is none.
type Suite byte

// The suites. The chip authenticates with 3DES and retail MAC, or with AES
// and CMAC; the channel uses the same algorithms.
const (
	TripleDES Suite = 1 // id-CA-ECDH-3DES-CBC-CBC, keys of 112 bits
	AES128    Suite = 2 // id-CA-ECDH-AES-CBC-CMAC-128
	AES192    Suite = 3 // id-CA-ECDH-AES-CBC-CMAC-192
	AES256    Suite = 4 // id-CA-ECDH-AES-CBC-CMAC-256
)

// arcs is the content of the object identifier 0.4.0.127.0.7.2.2.3.2, id-CA-ECDH.
var arcs = []byte{0x04, 0x00, 0x7F, 0x00, 0x07, 0x02, 0x02, 0x03, 0x02}

// Objects of MSE:SET AT (BSI TR-03110-3 §B.11.1).
const (
	tagMechanism tlv.Tag = 0x80
	tagPublicKey tlv.Tag = 0x83
	tagKey       tlv.Tag = 0x84
)

// SuiteByOID finds the suite whose object identifier has these content bytes,
// without tag and length.
func SuiteByOID(oid []byte) (Suite, bool) {
	last := len(oid) - 1
	if last != len(arcs) || !bytes.Equal(oid[:last], arcs) {
		return 0, false
	}
	s := Suite(oid[last])
	return s, s.known()
}

// ParseSelection reads the data of MSE:SET AT for chip authentication: the
// object identifier of the suite in object 80. References to keys, objects 83
// and 84, may be there and select nothing, since a device has one key to
// authenticate with. ErrData for any other content, ErrSuite for an object
// identifier that is not of a suite.
func ParseSelection(data []byte) (Suite, error) {
	list, err := tlv.ParseBER(data)
	if err != nil {
		return 0, ErrData
	}
	var oid []byte
	for _, n := range list {
		switch {
		case n.Tag == tagMechanism && oid == nil:
			oid = n.Value
		case n.Tag == tagPublicKey, n.Tag == tagKey:
		default:
			return 0, ErrData
		}
	}
	if oid == nil {
		return 0, ErrData
	}
	s, ok := SuiteByOID(oid)
	if !ok {
		return 0, ErrSuite
	}
	return s, nil
}

// OID returns the content bytes of the object identifier, without tag and
// length.
func (s Suite) OID() []byte { return append(bytes.Clone(arcs), byte(s)) }

// Select returns the command MSE:SET AT that selects the suite.
func (s Suite) Select() apdu.Command {
	return apdu.Command{INS: apdu.InsManageSecurityEnvironment, P1: 0x41, P2: 0xA4, Data: tlv.Append(nil, tagMechanism, s.OID())}
}

// String returns the name of the cipher, such as "AES-128".
func (s Suite) String() string {
	switch s {
	case TripleDES:
		return "3DES"
	case AES128:
		return "AES-128"
	case AES192:
		return "AES-192"
	case AES256:
		return "AES-256"
	}
	return "none"
}

func (s Suite) known() bool { return s >= TripleDES && s <= AES256 }

// blockLen is the size of a cipher block and of the send sequence counter.
func (s Suite) blockLen() int {
	if s == TripleDES {
		return des.BlockSize
	}
	return aes.BlockSize
}

// keyLen is the size of a key; two single DES keys for 3DES.
func (s Suite) keyLen() int {
	switch s {
	case AES192:
		return 24
	case AES256:
		return 32
	}
	return 16
}

// derive makes the key with the given number out of the agreed secret and the
// card's nonce (BSI TR-03110-3 §A.2.3). Parity bits of DES keys stay as they
// come; DES ignores them.
func (s Suite) derive(secret []byte, nonce Nonce, number byte) []byte {
	input := bytes.Join([][]byte{secret, nonce[:], {0, 0, 0, number}}, nil)
	if s == TripleDES || s == AES128 {
		sum := sha1.Sum(input)
		return sum[:s.keyLen()]
	}
	sum := sha256.Sum256(input)
	return sum[:s.keyLen()]
}
