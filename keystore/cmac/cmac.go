// Package cmac computes AES-CMAC, the message authentication code of RFC 4493
// and NIST SP 800-38B.
//
// It makes the full 16-byte code and nothing else: shortening it, comparing
// it in constant time and prefixing a send sequence counter are left to the
// protocol that uses it.
//
//	tag, err := cmac.Sum(key, message)
package cmac

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"errors"
	"fmt"
)

// Size is the length of the code in bytes.
const Size = 16

// ErrKey is returned for a key that is not 16, 24 or 32 bytes long.
var ErrKey = errors.New("key is not 16, 24 or 32 bytes long")

// Sum returns the 16-byte AES-CMAC of msg, which may be empty, under the
// AES-128, AES-192 or AES-256 key (RFC 4493 §2.4; SP 800-38B §6.2).
// It returns ErrKey for any other key length.
func Sum(key, msg []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("%w: got %d", ErrKey, len(key))
	}
	return sum(block, msg), nil
}

func sum(block cipher.Block, msg []byte) []byte {
	last := make([]byte, Size)
	mode := cipher.NewCBCEncrypter(block, last) // which copies it: the start is zero
	if len(msg) > Size {
		unused := make([]byte, min((len(msg)-1)/Size*Size, 32*Size))
		for len(msg) > Size { // the last block stays, even if it is whole
			n := min((len(msg)-1)/Size*Size, len(unused))
			mode.CryptBlocks(unused[:n], msg[:n])
			msg = msg[n:]
		}
	}
	copy(last, msg)
	subkey := make([]byte, Size)
	block.Encrypt(subkey, subkey)
	double(subkey)
	if len(msg) < Size {
		last[len(msg)] = 0x80
		double(subkey)
	}
	subtle.XORBytes(last, last, subkey)
	mode.CryptBlocks(last, last)
	return last
}

// double multiplies by x in GF(2^128) modulo x^128+x^7+x^2+x+1, most
// significant bit first, without a branch on the (secret) value.
func double(b []byte) {
	carry := b[0] >> 7
	for i := range Size - 1 {
		b[i] = b[i]<<1 | b[i+1]>>7
	}
	b[Size-1] = b[Size-1]<<1 ^ 0x87&-carry
}
