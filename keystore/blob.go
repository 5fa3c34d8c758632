package keystore

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"

	"hsmemu/keystore/cmac"
	"hsmemu/keystore/curve"
)

// The key types of a blob (DOM-10).
const (
	blobRSA    = 0x05 // d, n, e
	blobRSACRT = 0x06 // CRT parts, n, e
	blobEC     = 0x0C
	blobAES    = 0x0F
)

const (
	blobHeader = 8 + 1 // KCV and type
	blobRandom = 8     // at the start of the plaintext
)

// The object identifiers a blob names as the default algorithm of its key,
// content octets: id-TA-RSA-v1-5-SHA-256 and id-TA-ECDSA-SHA-256 of BSI
// TR-03110-3, and the NIST arc for AES.
const (
	oidRSA = "\x04\x00\x7F\x00\x07\x02\x02\x02\x01\x02"
	oidEC  = "\x04\x00\x7F\x00\x07\x02\x02\x02\x02\x03"
	oidAES = "\x60\x86\x48\x01\x65\x03\x04\x01"
)

// Wrap encrypts a key for another card with the same KEK. The blob is
//
//	KCV(8) | type(1) | OID | algorithm list | 0000 | 0000 | ciphertext | MAC(16)
//
// where OID and list are preceded by their length in two bytes; the
// ciphertext is AES-256-CBC with a zero initial vector over 8 bytes from
// rand, the size of the key and its parts; the MAC is an AES-CMAC over all
// before it. RSA keys up to 2048 bits travel with their CRT parts, larger
// ones with their private exponent. The use counter and the domain number do
// not travel.
//
// Wrap returns ErrNotReady, ErrAlgorithm if k does not allow Wrap or is the
// zero Key, ErrRandom, or ErrKey.
func (d Domain) Wrap(rand io.Reader, k Key) ([]byte, error) {
	if !d.Ready() {
		return nil, ErrNotReady
	}
	if !k.Allows(Wrap) {
		return nil, ErrAlgorithm
	}
	plain := make([]byte, blobRandom, 1200)
	if err := fill(rand, plain); err != nil {
		return nil, err
	}
	kind, oid, parts, err := k.blobParts()
	if err != nil {
		return nil, err
	}
	plain = append(plain, parts...)
	plain = append(plain, 0x80)
	for len(plain)%aes.BlockSize != 0 {
		plain = append(plain, 0)
	}
	list := make([]byte, len(k.Algorithms))
	for i, a := range k.Algorithms {
		list[i] = byte(a)
	}
	if k.Algorithms == nil && kind == blobAES {
		list = []byte{byte(AESCBCEncrypt), byte(AESCBCDecrypt), byte(AESCMAC), byte(DeriveAES)}
	}

	enc, mac := d.keys()
	kcv := d.KCV()
	blob := append(kcv[:], kind)
	blob = appendField(blob, []byte(oid))
	blob = appendField(blob, list)
	blob = appendField(blob, nil) // access conditions, not used
	blob = appendField(blob, nil) // key OID, not used
	cipher.NewCBCEncrypter(mustAES(enc), make([]byte, aes.BlockSize)).CryptBlocks(plain, plain)
	blob = append(blob, plain...)
	tag, err := cmac.Sum(mac[:], blob)
	if err != nil {
		return nil, err
	}
	return append(blob, tag...), nil
}

// blobParts returns type, OID, and the plaintext of a blob between random
// bytes and padding.
func (k Key) blobParts() (kind byte, oid string, parts []byte, err error) {
	size := func(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
	switch k.Kind() {
	case RSA:
		r := k.rsa.lift()
		dp, dq, d, err := r.private()
		if err != nil {
			return 0, "", nil, err
		}
		parts, kind := size(k.Bits()), byte(blobRSA)
		if k.Bits() <= 2048 {
			kind = blobRSACRT
			for _, part := range [][]byte{dp.Bytes(), dq.Bytes(), r.p, r.qinv, r.q} {
				parts = appendField(parts, leftPad(part, (len(r.n)+1)/2))
			}
		} else {
			if r.d != nil {
				d.SetBytes(r.d)
			}
			parts = appendField(parts, d.FillBytes(make([]byte, len(r.n))))
		}
		parts = appendField(parts, r.n)
		return kind, oidRSA, appendField(parts, r.exponent()), nil
	case EC:
		p := k.Curve().Parameters()
		parts := size(8 * k.Curve().FieldLen())
		for _, part := range [][]byte{p.A, p.B, p.P, p.N, p.G, k.EC().Bytes(), k.ECPublic().Bytes()} {
			parts = appendField(parts, part)
		}
		return blobEC, oidEC, parts, nil
	case AES:
		key := k.aes.lift().key
		return blobAES, oidAES, append(size(len(key)), key...), nil
	}
	return 0, "", nil, ErrAlgorithm
}

// Unwrap decrypts a blob made by Wrap or by a card. The key it returns has
// the algorithm list of the blob, no use counter, and domain number 0; RSA
// and EC keys are prepared. Every relation between the parts of the key is
// checked; numbers may have any width.
//
// Unwrap returns ErrNotReady; ErrBlob if the blob is not laid out as
// described at Wrap; ErrKCV if it belongs to another KEK; ErrMAC if it was
// altered; ErrCurve if an EC key is on none of the curves of package curve;
// ErrKey if the parts contradict each other; ErrParameters if an RSA key has
// a size or exponent that is not supported.
func (d Domain) Unwrap(blob []byte) (Key, error) {
	if !d.Ready() {
		return Key{}, ErrNotReady
	}
	b, err := parseBlob(blob)
	if err != nil {
		return Key{}, err
	}
	kcv := d.KCV()
	if !bytes.Equal(kcv[:], b.kcv) {
		return Key{}, ErrKCV
	}
	enc, mac := d.keys()
	tag, err := cmac.Sum(mac[:], blob[:len(blob)-cmac.Size])
	if err != nil || subtle.ConstantTimeCompare(tag, blob[len(blob)-cmac.Size:]) != 1 {
		return Key{}, ErrMAC
	}
	plain := make([]byte, len(b.ciphertext))
	cipher.NewCBCDecrypter(mustAES(enc), make([]byte, aes.BlockSize)).CryptBlocks(plain, b.ciphertext)
	size := int(binary.BigEndian.Uint16(plain[blobRandom:]))
	k, err := keyOfParts(b.kind, size, plain[blobRandom+2:])
	if err != nil {
		return Key{}, err
	}
	for _, a := range b.algorithms {
		k.Algorithms = append(k.Algorithms, Algorithm(a))
	}
	return k, nil
}

type blobFields struct {
	kcv        []byte
	kind       byte
	algorithms []byte
	ciphertext []byte
}

func parseBlob(blob []byte) (blobFields, error) {
	if len(blob) < blobHeader+4*2+aes.BlockSize+cmac.Size {
		return blobFields{}, fmt.Errorf("%w: too short", ErrBlob)
	}
	b := blobFields{kcv: blob[:8], kind: blob[8]}
	switch b.kind {
	case blobRSA, blobRSACRT, blobEC, blobAES:
	default:
		return blobFields{}, fmt.Errorf("%w: key type %02X", ErrBlob, b.kind)
	}
	rest := blob[blobHeader : len(blob)-cmac.Size]
	var fields [4][]byte // OID, algorithm list, access conditions, key OID
	for i := range fields {
		var ok bool
		if fields[i], rest, ok = cutField(rest); !ok {
			return blobFields{}, fmt.Errorf("%w: header", ErrBlob)
		}
	}
	// The OID decides nothing: the type does, and cards have written wrong
	// ones.
	b.algorithms = fields[1]
	b.ciphertext = rest
	if len(rest) == 0 || len(rest)%aes.BlockSize != 0 {
		return blobFields{}, fmt.Errorf("%w: %d bytes of ciphertext", ErrBlob, len(rest))
	}
	return b, nil
}

// keyOfParts reads the plaintext of a blob. What follows the last part is
// padding, of which cards have written several kinds; it is not looked at.
func keyOfParts(kind byte, size int, plain []byte) (Key, error) {
	if kind == blobAES {
		if size > len(plain) {
			return Key{}, fmt.Errorf("%w: AES key of %d bytes", ErrBlob, size)
		}
		k, err := NewAES(plain[:size])
		if err != nil {
			return Key{}, fmt.Errorf("%w: AES key of %d bytes", ErrKey, size)
		}
		return k, nil
	}
	count := 7
	if kind == blobRSA {
		count = 3
	}
	parts := make([][]byte, count)
	for i := range parts {
		var ok bool
		if parts[i], plain, ok = cutField(plain); !ok || len(parts[i]) == 0 {
			return Key{}, fmt.Errorf("%w: key parts", ErrBlob)
		}
	}
	if kind == blobEC {
		return ecOfParts(size, parts)
	}
	var numbers RSAParts
	if kind == blobRSA {
		numbers = RSAParts{D: parts[0], N: parts[1], E: parts[2]}
	} else {
		numbers = RSAParts{
			DP: parts[0], DQ: parts[1], P: parts[2], QInverse: parts[3], Q: parts[4], N: parts[5], E: parts[6],
		}
	}
	k, err := NewRSA(numbers)
	if err != nil {
		return Key{}, err
	}
	if bits := k.Bits(); size != bits && size != (bits+7)/8*8 {
		return Key{}, fmt.Errorf("%w: modulus of %d bits, announced as %d", ErrKey, bits, size)
	}
	return k, nil
}

func ecOfParts(size int, parts [][]byte) (Key, error) {
	field := len(trim(parts[2]))
	c, err := curve.ByParameters(curve.Parameters{
		A: parts[0], B: parts[1], P: parts[2], N: parts[3], G: point(parts[4], field),
	})
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrCurve, err)
	}
	if size != 8*c.FieldLen() && size != c.Bits() {
		return Key{}, fmt.Errorf("%w: curve of %d bits, announced as %d", ErrKey, c.Bits(), size)
	}
	d, err := c.Private(parts[5])
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if !bytes.Equal(d.Public().Bytes(), point(parts[6], field)) {
		return Key{}, fmt.Errorf("%w: the point does not belong to the scalar", ErrKey)
	}
	return NewEC(d), nil
}

// point brings the coordinates of 04||x||y to the given width, if they fit.
func point(b []byte, width int) []byte {
	if len(b)%2 != 1 || b[0] != 4 {
		return b
	}
	x, y := trim(b[1:1+len(b)/2]), trim(b[1+len(b)/2:])
	return bytes.Join([][]byte{{4}, leftPad(x, width), leftPad(y, width)}, nil)
}

func trim(b []byte) []byte { return bytes.TrimLeft(b, "\x00") }

// appendField appends b with its length in two bytes.
func appendField(dst, b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(b))), b...)
}

func cutField(b []byte) (field, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return nil, nil, false
	}
	return b[2 : 2+n], b[2+n:], true
}

func mustAES(key [32]byte) cipher.Block {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("AES refuses a key of 32 bytes")
	}
	return block
}
