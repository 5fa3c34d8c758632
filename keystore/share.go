package keystore

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/md5"
	"fmt"
	"slices"
)

const (
	shareMagic      = "Salted__"
	shareSaltLen    = 8
	shareFileLen    = len(shareMagic) + shareSaltLen + ShareLen + aes.BlockSize
	shareIterations = 10_000_000
)

// OpenShare decrypts a DKEK share file as sc-hsm-tool writes it and returns
// the share of 32 bytes:
//
//	"Salted__" | salt(8) | AES-256-CBC of the share and sixteen bytes 10
//
// Key and initial vector come from password and salt by EVP_BytesToKey of
// OpenSSL with MD5 and 10 000 000 iterations, three digests in all. That
// takes seconds; run it where waiting is allowed. OpenShare returns ErrShare
// if the file is malformed or the password is wrong.
func OpenShare(file, password []byte) ([]byte, error) {
	if len(file) != shareFileLen || !bytes.HasPrefix(file, []byte(shareMagic)) {
		return nil, fmt.Errorf("%w: not a share file", ErrShare)
	}
	salt := file[len(shareMagic) : len(shareMagic)+shareSaltLen]
	key, iv := stretch(password, salt, shareIterations)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrShare, err)
	}
	plain := make([]byte, ShareLen+aes.BlockSize)
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, file[len(shareMagic)+shareSaltLen:])
	if !bytes.Equal(plain[ShareLen:], bytes.Repeat([]byte{aes.BlockSize}, aes.BlockSize)) {
		return nil, fmt.Errorf("%w: wrong password", ErrShare)
	}
	return plain[:ShareLen], nil
}

// stretch is EVP_BytesToKey for AES-256-CBC with MD5: each digest is hashed
// again until the number of iterations is reached, and starts from the one
// before it, the password and the salt.
func stretch(password, salt []byte, iterations int) (key, iv []byte) {
	var all []byte
	var d [md5.Size]byte
	for i := range 3 {
		start := slices.Concat(d[:], password, salt)
		if i == 0 {
			start = start[md5.Size:]
		}
		d = md5.Sum(start)
		for range iterations - 1 {
			d = md5.Sum(d[:])
		}
		all = append(all, d[:]...)
	}
	return all[:32], all[32:]
}
