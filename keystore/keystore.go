// Package keystore holds the key material of a card as values: it makes RSA,
// EC and AES keys, uses them, and carries them from card to card under a key
// encryption key (key domains, DKEK and XKEK).
//
// It knows no files, no status words and no users. Whether somebody may use a
// key, which key it is and where it is kept is decided elsewhere; in
// particular Sign, Decipher and Cipher do not look at the algorithm list of
// the key. A caller that serves others asks Allows first, calls Spend, makes
// the result durable, and uses the key only then.
//
//	key, err := keystore.GenerateRSA(keystore.SystemGenerator{Rand: r}, 2048, []byte{1, 0, 1})
//	if key.Allows(keystore.RSASignSHA256) {
//		signature, err = key.Sign(r, keystore.RSASignSHA256, message)
//	}
//
// Keys and domains never show their secrets through package fmt or log/slog;
// their JSON form does hold them and belongs into a sealed file only.
package keystore

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"hsmemu/keystore/curve"
)

// Errors of this package. They are returned wrapped; compare with errors.Is.
var (
	// ErrAlgorithm means that the key cannot do, or may not do, what was asked.
	ErrAlgorithm = errors.New("algorithm not possible with this key")
	// ErrLength means that the input has a length the algorithm does not take.
	ErrLength = errors.New("input has the wrong length")
	// ErrData means that the input has the right length but no valid value: a
	// number not below the modulus, a point not on the curve, broken padding.
	ErrData = errors.New("input is not valid")
	// ErrParameters means that no key of the wanted kind can be made: a size
	// or public exponent that is not supported.
	ErrParameters = errors.New("key parameters not supported")
	// ErrRandom means that randomness is needed and the source failed or is nil.
	ErrRandom = errors.New("no randomness")
	// ErrExhausted means that the use counter of the key has reached zero.
	ErrExhausted = errors.New("key is used up")
	// ErrKey means that the parts of a key contradict each other.
	ErrKey = errors.New("key material is not consistent")
	// ErrCurve means that domain parameters belong to none of the known curves.
	ErrCurve = errors.New("curve is not known")
	// ErrBlob means that a key blob is not laid out as it must be.
	ErrBlob = errors.New("key blob is malformed")
	// ErrKCV means that a key blob was made with another key encryption key, or
	// that the keys of a domain belong to another one.
	ErrKCV = errors.New("key check value does not match")
	// ErrMAC means that a key blob was altered.
	ErrMAC = errors.New("message authentication code does not match")
	// ErrNotReady means that the key domain has no complete key encryption key.
	ErrNotReady = errors.New("key domain is not ready")
	// ErrComplete means that no further share is awaited.
	ErrComplete = errors.New("all shares are present")
	// ErrDomain means that the key domain is of a kind that cannot do this.
	ErrDomain = errors.New("wrong kind of key domain")
	// ErrFormat means that the stored form of a key or domain makes no sense.
	ErrFormat = errors.New("stored form is not valid")
	// ErrShare means that a share file is malformed or the password is wrong.
	ErrShare = errors.New("share file does not open")
)

// Kind is the kind of a key. The zero Kind is that of the zero Key.
type Kind byte

// The kinds of keys.
const (
	RSA Kind = iota + 1
	EC
	AES
)

// String returns "RSA", "EC", "AES" or, for the zero Kind, "none".
func (k Kind) String() string {
	switch k {
	case RSA:
		return "RSA"
	case EC:
		return "EC"
	case AES:
		return "AES"
	}
	return "none"
}

// Uses counts how often a key may still be used. The zero value does not
// limit.
type Uses struct {
	Limited bool
	Left    uint32 // meaningful only if Limited
}

// Key is private or secret key material with its attributes. It is a value:
// copies may be used independently and from several goroutines, and no method
// changes it. The zero Key holds nothing and can do nothing.
//
// An RSA key read from JSON is not prepared: each of its operations first
// computes what it needs, which costs about a quarter of a millisecond for
// 2048 bits, unless the result of Prepared is kept. All other keys are
// always prepared.
type Key struct {
	// Uses is the use counter; see Spend.
	Uses Uses
	// Algorithms lists what the key may be used for. Nil means no list: all
	// that DefaultAlgorithms names. A list that is empty but not nil allows
	// nothing. The slice is shared between copies: replace it, do not edit it.
	Algorithms []Algorithm
	// Domain is the slot number of the key domain the key belongs to.
	Domain byte

	// At most one of these holds something.
	rsa veil[rsaKey]
	ec  veil[curve.Private]
	aes veil[aesKey]
}

// IsZero reports whether k holds no key material.
func (k Key) IsZero() bool { return k.Kind() == 0 }

// Kind returns the kind of the key, zero for the zero Key.
func (k Key) Kind() Kind {
	switch {
	case k.rsa.p != nil:
		return RSA
	case k.ec.p != nil:
		return EC
	case k.aes.p != nil:
		return AES
	}
	return 0
}

// Bits returns the size of the key in bits: of the modulus for RSA, of the
// field for EC, of the key for AES.
func (k Key) Bits() int {
	switch k.Kind() {
	case RSA:
		return bitLen(k.rsa.lift().n)
	case EC:
		return k.EC().Curve().Bits()
	case AES:
		return 8 * len(k.aes.lift().key)
	}
	return 0
}

// Curve returns the curve of an EC key, nil for any other.
func (k Key) Curve() *curve.Curve {
	if k.Kind() != EC {
		return nil
	}
	return k.EC().Curve()
}

// RSAPublic returns modulus and public exponent of an RSA key, big-endian
// without leading zeros; both are nil for any other key.
func (k Key) RSAPublic() (n, e []byte) {
	r := k.rsa.lift()
	if r == nil {
		return nil, nil
	}
	return slices.Clone(r.n), r.exponent()
}

// EC returns the private part of an EC key, nil for any other.
func (k Key) EC() *curve.Private { return k.ec.lift() }

// ECPublic returns the public point of an EC key, nil for any other.
func (k Key) ECPublic() *curve.Public {
	if k.Kind() != EC {
		return nil
	}
	return k.EC().Public()
}

// SamePublic reports whether both keys have the same public part. It is false
// for AES keys and the zero Key, which have none.
func (k Key) SamePublic(o Key) bool {
	switch kind := k.Kind(); {
	case kind != o.Kind():
		return false
	case kind == RSA:
		a, b := k.rsa.lift(), o.rsa.lift()
		return slices.Equal(a.n, b.n) && a.e == b.e
	case kind == EC:
		return k.Curve() == o.Curve() && slices.Equal(k.ECPublic().Bytes(), o.ECPublic().Bytes())
	}
	return false
}

// Prepared returns the same key with everything computed that its operations
// need. It is worth keeping while the key is in use and costs nothing when
// called again. A key whose stored parts contradict each other comes back as
// it was; its operations return ErrKey.
func (k Key) Prepared() Key {
	if r := k.rsa.lift(); r != nil && r.machine == nil {
		k.rsa = veiled(r.prepared())
	}
	return k
}

// Spend returns the key with one use less. It returns ErrExhausted, and the
// key unchanged, if no use is left. Make the result durable before the key is
// used (KEY-10).
func (k Key) Spend() (Key, error) {
	if !k.Uses.Limited {
		return k, nil
	}
	if k.Uses.Left == 0 {
		return k, ErrExhausted
	}
	k.Uses.Left--
	return k, nil
}

// Derive makes a new EC key on the same curve with the private scalar
// d + int(param) mod n, param being big-endian and not empty (KEY-53,
// inferred). The new key has no use counter, belongs to the same domain, and
// its algorithm list is that of k without DeriveEC. Derive returns
// ErrAlgorithm if k is no EC key, ErrLength for an empty param, and ErrData if
// the sum is zero or k itself, which would be k without its counter.
func (k Key) Derive(param []byte) (Key, error) {
	if k.Kind() != EC {
		return Key{}, ErrAlgorithm
	}
	if len(param) == 0 {
		return Key{}, ErrLength
	}
	d, err := k.EC().Add(param)
	if err != nil {
		return Key{}, fmt.Errorf("%w: the derived scalar is zero", ErrData)
	}
	child := NewEC(d)
	if child.SamePublic(k) {
		return Key{}, fmt.Errorf("%w: the parameter changes nothing", ErrData)
	}
	child.Domain = k.Domain
	if k.Algorithms != nil {
		// Made, not nil: what is left of {DeriveEC} allows nothing, and must
		// not turn into "no list".
		child.Algorithms = make([]Algorithm, 0, len(k.Algorithms))
		for _, a := range k.Algorithms {
			if a != DeriveEC {
				child.Algorithms = append(child.Algorithms, a)
			}
		}
	}
	return child, nil
}

// Sign makes a signature with an RSA or EC key.
//
// RSA answers one block of modulus length. RSASignRaw takes a block of
// exactly modulus length, padded by the caller and below the modulus;
// RSASignPKCS1 takes a DigestInfo of at most modulus length minus 11 bytes;
// RSAPSS takes a hash value of 20, 28, 32, 48 or 64 bytes; the others take
// the message. PSS uses MGF1 with the same hash and a salt as long as the
// hash, read from rand (RFC 8017).
//
// EC answers a DER encoded SEQUENCE of r and s (SEC 1 C.5). ECDSA takes a
// hash value of any length, the others take the message. A nil rand makes
// EC signatures deterministic (RFC 6979).
//
// Sign returns ErrAlgorithm, ErrLength (empty input included), ErrData,
// ErrRandom, or ErrKey. It does not look at the algorithm list.
func (k Key) Sign(rand io.Reader, a Algorithm, data []byte) ([]byte, error) {
	switch kind := k.Kind(); {
	case len(data) == 0:
		return nil, ErrLength
	case kind == RSA:
		return k.rsa.lift().sign(rand, a, data)
	case kind == EC:
		return signEC(rand, k.EC(), a, data)
	}
	return nil, ErrAlgorithm
}

// Decipher decrypts with an RSA key or agrees on a secret with an EC key.
//
// RSA takes one block of modulus length. RSADecryptRaw answers a block of
// modulus length with the padding in it, RSADecryptPKCS1 and RSADecryptOAEP
// (SHA-256, no label) the plaintext (RFC 8017). ECDH takes the peer's point
// and answers the shared point, both as 04||x||y.
//
// Decipher returns ErrAlgorithm, ErrLength, ErrData, or ErrKey. It does not
// look at the algorithm list.
func (k Key) Decipher(a Algorithm, data []byte) ([]byte, error) {
	switch kind := k.Kind(); {
	case kind == RSA:
		return k.rsa.lift().decipher(a, data)
	case kind == EC && a == ECDH:
		peer, err := peerOf(k.EC(), data)
		if err != nil {
			return nil, err
		}
		return k.Agree(peer)
	}
	return nil, ErrAlgorithm
}

// Agree returns the point d·Q as 04||x||y, Q being the peer's public key
// (ECDH without any key derivation; the algorithms ECDH, ECDHAuthenticated
// and ECDHExchange build on it). It returns ErrAlgorithm if k is no EC key
// and ErrData if the peer's key is on another curve.
func (k Key) Agree(peer *curve.Public) ([]byte, error) {
	if k.Kind() != EC {
		return nil, ErrAlgorithm
	}
	shared, err := k.EC().Shared(peer)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrData, err)
	}
	return shared, nil
}

// Cipher uses an AES key. AESCBCEncrypt and AESCBCDecrypt take whole blocks
// of 16 bytes, at least one, use an initial vector of zeros and add no
// padding. AESCMAC takes at least one byte and answers 16. DeriveAES takes
// at least one byte and answers 32: SHA-256(00000001 || key || data), the
// one-step function of NIST SP 800-56C (inferred).
//
// Cipher returns ErrAlgorithm or ErrLength. It does not look at the
// algorithm list.
func (k Key) Cipher(a Algorithm, data []byte) ([]byte, error) {
	if k.Kind() != AES {
		return nil, ErrAlgorithm
	}
	return k.aes.lift().cipher(a, data)
}
