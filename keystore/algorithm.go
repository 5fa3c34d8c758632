package keystore

import (
	"fmt"
	"slices"
)

// Algorithm is the one-byte identifier of an operation, as it stands in P2
// of a command and in algorithm lists.
type Algorithm byte

// The algorithm identifiers.
const (
	AESCBCEncrypt     Algorithm = 0x10 // AES-CBC encryption, zero initial vector
	AESCBCDecrypt     Algorithm = 0x11 // AES-CBC decryption, zero initial vector
	AESCMAC           Algorithm = 0x18 // AES-CMAC
	RSASignRaw        Algorithm = 0x20 // RSA signature of a block padded by the caller
	RSADecryptRaw     Algorithm = 0x21 // RSA decryption, padding left in
	RSADecryptPKCS1   Algorithm = 0x22 // RSA PKCS #1 v1.5 decryption
	RSADecryptOAEP    Algorithm = 0x23 // RSA OAEP decryption with SHA-256
	RSASignPKCS1      Algorithm = 0x30 // RSA PKCS #1 v1.5 signature of a DigestInfo
	RSASignSHA1       Algorithm = 0x31 // RSA PKCS #1 v1.5 signature of a message, SHA-1
	RSASignSHA224     Algorithm = 0x32 // the same, SHA-224
	RSASignSHA256     Algorithm = 0x33 // the same, SHA-256
	RSASignSHA384     Algorithm = 0x34 // the same, SHA-384
	RSASignSHA512     Algorithm = 0x35 // the same, SHA-512
	RSAPSS            Algorithm = 0x40 // RSA PSS signature of a hash value
	RSAPSSSHA1        Algorithm = 0x41 // RSA PSS signature of a message, SHA-1
	RSAPSSSHA224      Algorithm = 0x42 // the same, SHA-224
	RSAPSSSHA256      Algorithm = 0x43 // the same, SHA-256
	RSAPSSSHA384      Algorithm = 0x44 // the same, SHA-384
	RSAPSSSHA512      Algorithm = 0x45 // the same, SHA-512
	ExtendedEncrypt   Algorithm = 0x51 // "extended cipher" of other firmware; not implemented
	ExtendedDecrypt   Algorithm = 0x52 // its counterpart; not implemented
	ECDSA             Algorithm = 0x70 // ECDSA signature of a hash value
	ECDSASHA1         Algorithm = 0x71 // ECDSA signature of a message, SHA-1
	ECDSASHA224       Algorithm = 0x72 // the same, SHA-224
	ECDSASHA256       Algorithm = 0x73 // the same, SHA-256
	ECDSASHA384       Algorithm = 0x74 // the same, SHA-384
	ECDSASHA512       Algorithm = 0x75 // the same, SHA-512
	ECDH              Algorithm = 0x80 // ECDH with the peer's point
	ECDHAuthenticated Algorithm = 0x83 // ECDH with an authenticated public key
	ECDHExchange      Algorithm = 0x84 // ECDH that yields the key of a key domain (XKEK)
	Wrap              Algorithm = 0x92 // the key may be wrapped
	Unwrap            Algorithm = 0x93 // a key may be unwrapped
	Replace           Algorithm = 0x94 // the key may be replaced by unwrapping the same key
	DeriveEC          Algorithm = 0x98 // derive an EC key from an EC key
	DeriveAES         Algorithm = 0x99 // derive a secret from an AES key, SP 800-56C
	HDKey             Algorithm = 0xA0 // hierarchical key of other firmware; not implemented
)

// String returns the usual name of the algorithm, "algorithm 5F" for an
// identifier without one.
func (a Algorithm) String() string {
	switch a {
	case AESCBCEncrypt:
		return "AES-CBC encryption"
	case AESCBCDecrypt:
		return "AES-CBC decryption"
	case AESCMAC:
		return "AES-CMAC"
	case RSASignRaw:
		return "RSA raw signature"
	case RSADecryptRaw:
		return "RSA raw decryption"
	case RSADecryptPKCS1:
		return "RSA PKCS#1 v1.5 decryption"
	case RSADecryptOAEP:
		return "RSA OAEP decryption"
	case RSASignPKCS1:
		return "RSA PKCS#1 v1.5"
	case RSAPSS:
		return "RSA PSS"
	case ExtendedEncrypt:
		return "extended encryption"
	case ExtendedDecrypt:
		return "extended decryption"
	case ECDSA:
		return "ECDSA"
	case ECDH:
		return "ECDH"
	case ECDHAuthenticated:
		return "ECDH with authenticated public key"
	case ECDHExchange:
		return "ECDH XKEK"
	case Wrap:
		return "wrap"
	case Unwrap:
		return "unwrap"
	case Replace:
		return "replace"
	case DeriveEC:
		return "EC key derivation"
	case DeriveAES:
		return "AES key derivation SP 800-56C"
	case HDKey:
		return "hierarchical key"
	}
	if h, ok := a.messageHash(); ok {
		switch a & 0xF0 {
		case RSASignPKCS1:
			return "RSA PKCS#1 v1.5 " + h.String()
		case RSAPSS:
			return "RSA PSS " + h.String()
		default:
			return "ECDSA " + h.String()
		}
	}
	return fmt.Sprintf("algorithm %02X", byte(a))
}

// DefaultAlgorithms returns what a key without an algorithm list may be used
// for: the operations every client of the card counts on, and Wrap. Not
// among them are what clients ask for explicitly (ECDHAuthenticated,
// ECDHExchange, DeriveEC) and, on RSA and EC keys, all of AES (KEY-6 to KEY-9).
func DefaultAlgorithms(k Kind) []Algorithm {
	switch k {
	case RSA:
		return []Algorithm{
			RSASignRaw, RSADecryptRaw, RSADecryptPKCS1, RSADecryptOAEP,
			RSASignPKCS1, RSASignSHA1, RSASignSHA224, RSASignSHA256, RSASignSHA384, RSASignSHA512,
			RSAPSS, RSAPSSSHA1, RSAPSSSHA224, RSAPSSSHA256, RSAPSSSHA384, RSAPSSSHA512,
			Wrap,
		}
	case EC:
		return []Algorithm{
			ECDSA, ECDSASHA1, ECDSASHA224, ECDSASHA256, ECDSASHA384, ECDSASHA512,
			ECDH, Wrap,
		}
	case AES:
		return []Algorithm{AESCBCEncrypt, AESCBCDecrypt, AESCMAC, DeriveAES, Wrap}
	}
	return nil
}

// Allows reports whether the key may be used for a: whether its list names
// it, or, if it has no list, DefaultAlgorithms does. It does not say whether
// the kind of the key can do a at all; the operation itself does.
func (k Key) Allows(a Algorithm) bool {
	if k.Algorithms == nil {
		return slices.Contains(DefaultAlgorithms(k.Kind()), a)
	}
	return slices.Contains(k.Algorithms, a)
}
