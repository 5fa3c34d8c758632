package keystore

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"

	"hsmemu/keystore/cmac"
)

// aesKey is an AES key with its expanded round keys.
type aesKey struct {
	key   []byte
	block cipher.Block
}

// NewAES makes a Key of 16, 24 or 32 bytes: without list, without counter,
// in domain 0. It returns ErrParameters for any other length.
func NewAES(key []byte) (Key, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return Key{}, fmt.Errorf("%w: an AES key of %d bytes", ErrParameters, len(key))
	}
	return Key{aes: veiled(&aesKey{key: slices.Clone(key), block: block})}, nil
}

// GenerateAES makes a new AES key of 128, 192 or 256 bits from the
// randomness of rand. It returns ErrParameters for any other size and
// ErrRandom if rand is nil or fails.
func GenerateAES(rand io.Reader, bits int) (Key, error) {
	if bits != 128 && bits != 192 && bits != 256 {
		return Key{}, fmt.Errorf("%w: an AES key of %d bits", ErrParameters, bits)
	}
	key := make([]byte, bits/8)
	if err := fill(rand, key); err != nil {
		return Key{}, err
	}
	return NewAES(key)
}

func (k *aesKey) cipher(a Algorithm, data []byte) ([]byte, error) {
	switch a {
	case AESCBCEncrypt, AESCBCDecrypt:
		if len(data) == 0 || len(data)%aes.BlockSize != 0 {
			return nil, ErrLength
		}
		var iv [aes.BlockSize]byte
		out := make([]byte, len(data))
		if a == AESCBCEncrypt {
			cipher.NewCBCEncrypter(k.block, iv[:]).CryptBlocks(out, data)
		} else {
			cipher.NewCBCDecrypter(k.block, iv[:]).CryptBlocks(out, data)
		}
		return out, nil
	case AESCMAC:
		if len(data) == 0 {
			return nil, ErrLength
		}
		return cmac.Sum(k.key, data)
	case DeriveAES:
		if len(data) == 0 {
			return nil, ErrLength
		}
		h := sha256.New()
		h.Write([]byte{0, 0, 0, 1})
		h.Write(k.key)
		h.Write(data)
		return h.Sum(nil), nil
	}
	return nil, ErrAlgorithm
}

// fill fills b from rand, or says ErrRandom.
func fill(rand io.Reader, b []byte) error {
	if rand == nil {
		return ErrRandom
	}
	if _, err := io.ReadFull(rand, b); err != nil {
		return fmt.Errorf("%w: %w", ErrRandom, err)
	}
	return nil
}
