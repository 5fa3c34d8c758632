package sm

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/subtle"
	"encoding/binary"
	"slices"

	"hsmemu/keystore/cmac"
)

// checksumLen is the size of checksums and tokens: an AES-CMAC is cut to it,
// a retail MAC has it.
const checksumLen = 8

// keys are the two keys of a channel, ready for use and never changed. Both
// are behind pointers, for the reason that keys are behind one in a session:
// a verb that does not suit a pointer makes fmt follow it, but only once.
type keys struct {
	suite Suite
	block cipher.Block // the key for data
	mac   mac          // the key for checksums
}

// mac is a message authentication code of checksumLen bytes.
type mac interface{ sum(data []byte) []byte }

func newKeys(s Suite, secret []byte, nonce Nonce) *keys {
	enc, sum := s.derive(secret, nonce, 1), s.derive(secret, nonce, 2)
	if s == TripleDES {
		// Two-key 3DES: the third key is the first one again.
		return &keys{s, ready(des.NewTripleDESCipher(slices.Concat(enc, enc[:des.BlockSize]))), newRetail(sum)}
	}
	return &keys{s, ready(aes.NewCipher(enc)), &shortened{sum}}
}

// ready is for keys whose size is right, because derive made them.
func ready(b cipher.Block, err error) cipher.Block {
	if err != nil {
		panic("a derived key has the wrong size")
	}
	return b
}

// counter is the send sequence counter, one block wide.
func (k *keys) counter(number messages) []byte {
	n := k.suite.blockLen()
	b := make([]byte, n)
	binary.BigEndian.PutUint64(b[n-8:], uint64(number))
	return b
}

// iv is where the two kinds of suite differ: zero for 3DES, the encrypted
// counter for AES (BSI TR-03110-3 §F.2).
func (k *keys) iv(number messages) []byte {
	if k.suite == TripleDES {
		return make([]byte, des.BlockSize)
	}
	b := k.counter(number)
	k.block.Encrypt(b, b)
	return b
}

func (k *keys) encrypt(number messages, plain []byte) []byte {
	b := pad(make([]byte, 0, len(plain)+k.suite.blockLen()), plain, k.suite.blockLen())
	cipher.NewCBCEncrypter(k.block, k.iv(number)).CryptBlocks(b, b)
	return b
}

// decrypt fails if the cryptogram is not of whole blocks or does not end in
// padding. Its caller has verified the checksum, so how it fails is no secret.
func (k *keys) decrypt(number messages, cryptogram []byte) (plain []byte, ok bool) {
	size := k.suite.blockLen()
	if len(cryptogram) == 0 || len(cryptogram)%size != 0 {
		return nil, false
	}
	b := make([]byte, len(cryptogram))
	cipher.NewCBCDecrypter(k.block, k.iv(number)).CryptBlocks(b, cryptogram)
	for end := len(b) - 1; end >= len(b)-size; end-- {
		switch b[end] {
		case 0x00:
		case 0x80:
			return b[:end:end], true
		default:
			return nil, false
		}
	}
	return nil, false
}

// checksum covers the counter and each part that is not empty, padded by
// itself (ISO 7816-4 §10.2.3.1).
func (k *keys) checksum(number messages, parts ...[]byte) []byte {
	b := k.counter(number)
	for _, p := range parts {
		if len(p) > 0 {
			b = pad(b, p, k.suite.blockLen())
		}
	}
	return k.mac.sum(b)
}

// token is a checksum without a counter. The 3DES one is padded with zeros
// alone, although TR-03110 asks for 80 00…: so do the card and its clients
// (SM-3).
func (k *keys) token(data []byte) []byte {
	if k.suite == TripleDES {
		return k.mac.sum(slices.Concat(data, make([]byte, -len(data)&(des.BlockSize-1))))
	}
	return k.mac.sum(data)
}

// shortened is AES-CMAC cut to checksumLen bytes.
type shortened struct{ key []byte }

func (s *shortened) sum(data []byte) []byte {
	sum, err := cmac.Sum(s.key, data)
	if err != nil {
		panic("a derived key has the wrong size")
	}
	return sum[:checksumLen]
}

// retail is MAC algorithm 3 of ISO/IEC 9797-1: single DES in CBC mode with
// the first half of the key, and the last block once more through the other
// half and back. Data are one or more whole blocks.
type retail struct{ first, second cipher.Block }

func newRetail(key []byte) *retail {
	return &retail{ready(des.NewCipher(key[:des.BlockSize])), ready(des.NewCipher(key[des.BlockSize:]))}
}

func (r *retail) sum(data []byte) []byte {
	b := make([]byte, des.BlockSize)
	for block := range slices.Chunk(data, des.BlockSize) {
		subtle.XORBytes(b, b, block)
		r.first.Encrypt(b, b)
	}
	r.second.Decrypt(b, b)
	r.first.Encrypt(b, b)
	return b
}

// pad appends data and the padding 80 00… up to whole blocks, at least one
// byte of it (ISO/IEC 9797-1 padding method 2). What is in dst has whole
// blocks already.
func pad(dst, data []byte, size int) []byte {
	dst = append(dst, data...)
	dst = append(dst, 0x80)
	for len(dst)%size != 0 {
		dst = append(dst, 0x00)
	}
	return dst
}
