package keystore

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	_ "crypto/sha1"   // registers SHA-1
	"crypto/sha256"   // registers SHA-224 and SHA-256
	_ "crypto/sha512" // registers SHA-384 and SHA-512
	"fmt"
	"io"
)

// messageHash returns the hash function of the algorithms that take a
// message: the low half of the identifier counts SHA-1, 224, 256, 384, 512.
func (a Algorithm) messageHash() (crypto.Hash, bool) {
	switch a & 0xF0 {
	case RSASignPKCS1, RSAPSS, ECDSA:
	default:
		return 0, false
	}
	switch a & 0x0F {
	case 1:
		return crypto.SHA1, true
	case 2:
		return crypto.SHA224, true
	case 3:
		return crypto.SHA256, true
	case 4:
		return crypto.SHA384, true
	case 5:
		return crypto.SHA512, true
	}
	return 0, false
}

// hashOfLength tells the hash function from the length of its value.
func hashOfLength(n int) (crypto.Hash, bool) {
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		if h.Size() == n {
			return h, true
		}
	}
	return 0, false
}

func digest(h crypto.Hash, message []byte) []byte {
	state := h.New()
	state.Write(message)
	return state.Sum(nil)
}

func (k *rsaKey) sign(rand io.Reader, a Algorithm, data []byte) ([]byte, error) {
	switch a {
	case RSASignRaw:
		return k.raw(data)
	case RSASignPKCS1:
		return k.signPKCS1(0, data)
	case RSAPSS:
		h, ok := hashOfLength(len(data))
		if !ok {
			return nil, ErrLength
		}
		return k.signPSS(rand, h, data)
	}
	h, ok := a.messageHash()
	switch {
	case ok && a&0xF0 == RSASignPKCS1:
		return k.signPKCS1(h, digest(h, data))
	case ok && a&0xF0 == RSAPSS:
		return k.signPSS(rand, h, digest(h, data))
	}
	return nil, ErrAlgorithm
}

// raw is the bare private operation on a block the caller has padded or will
// unpad. It goes through bigmod, the arithmetic of crypto/rsa, and therefore
// costs what the padded operations of crypto/rsa cost.
func (k *rsaKey) raw(block []byte) ([]byte, error) {
	if len(block) != len(k.n) {
		return nil, ErrLength
	}
	m, err := k.prepare()
	if err != nil {
		return nil, err
	}
	return m.raw(block)
}

// signPKCS1 pads and signs a DigestInfo (h = 0) or the value of h.
func (k *rsaKey) signPKCS1(h crypto.Hash, value []byte) ([]byte, error) {
	if h == 0 && len(value) > len(k.n)-11 {
		return nil, ErrLength
	}
	m, err := k.prepare()
	if err != nil {
		return nil, err
	}
	s, err := rsa.SignPKCS1v15(nil, m.std, h, value)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return s, nil
}

func (k *rsaKey) signPSS(rand io.Reader, h crypto.Hash, value []byte) ([]byte, error) {
	// RFC 8017 §9.1.1 step 3, with a salt as long as the hash.
	if need := 2*h.Size() + 2; (bitLen(k.n)-1+7)/8 < need {
		return nil, fmt.Errorf("%w: modulus too short for PSS with %v", ErrAlgorithm, h)
	}
	salt := make([]byte, h.Size())
	if err := fill(rand, salt); err != nil {
		return nil, err
	}
	m, err := k.prepare()
	if err != nil {
		return nil, err
	}
	s, err := rsa.SignPSS(bytes.NewReader(salt), m.std, h, value, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return s, nil
}

func (k *rsaKey) decipher(a Algorithm, data []byte) ([]byte, error) {
	switch a {
	case RSADecryptRaw, RSADecryptPKCS1, RSADecryptOAEP:
	default:
		return nil, ErrAlgorithm
	}
	if len(data) != len(k.n) {
		return nil, ErrLength
	}
	if a == RSADecryptRaw {
		return k.raw(data)
	}
	m, err := k.prepare()
	if err != nil {
		return nil, err
	}
	var plain []byte
	if a == RSADecryptPKCS1 {
		//lint:ignore SA1019 the card offers it, and RSADecryptRaw shows as much
		plain, err = rsa.DecryptPKCS1v15(nil, m.std, data)
	} else {
		plain, err = rsa.DecryptOAEP(sha256.New(), nil, m.std, data, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: decryption failed", ErrData)
	}
	return plain, nil
}
