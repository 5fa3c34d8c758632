package cvc

import (
	"crypto"
	_ "crypto/sha1" // the hashes of the schemes
	_ "crypto/sha256"
	_ "crypto/sha512"
)

// Scheme is a signature algorithm of TR-03110 part 3 §A.7: what a key's
// template (7F49) says the key signs with. The zero value is none.
type Scheme byte

// The eleven schemes, in the order of their object identifiers.
const (
	RSASHA1     Scheme = iota + 1 // id-TA-RSA-v1-5-SHA-1
	RSASHA256                     // id-TA-RSA-v1-5-SHA-256
	PSSSHA1                       // id-TA-RSA-PSS-SHA-1
	PSSSHA256                     // id-TA-RSA-PSS-SHA-256
	RSASHA512                     // id-TA-RSA-v1-5-SHA-512
	PSSSHA512                     // id-TA-RSA-PSS-SHA-512
	ECDSASHA1                     // id-TA-ECDSA-SHA-1
	ECDSASHA224                   // id-TA-ECDSA-SHA-224
	ECDSASHA256                   // id-TA-ECDSA-SHA-256
	ECDSASHA384                   // id-TA-ECDSA-SHA-384
	ECDSASHA512                   // id-TA-ECDSA-SHA-512
)

// idTA is the content of the object identifier 0.4.0.127.0.7.2.2.2; two more
// bytes, family and member, make a scheme.
const idTA = "\x04\x00\x7F\x00\x07\x02\x02\x02"

const (
	familyRSA   = 1
	familyECDSA = 2
)

var schemes = [...]struct {
	family, member byte
	name           string
	hash           crypto.Hash
}{
	{},
	{familyRSA, 1, "id-TA-RSA-v1-5-SHA-1", crypto.SHA1},
	{familyRSA, 2, "id-TA-RSA-v1-5-SHA-256", crypto.SHA256},
	{familyRSA, 3, "id-TA-RSA-PSS-SHA-1", crypto.SHA1},
	{familyRSA, 4, "id-TA-RSA-PSS-SHA-256", crypto.SHA256},
	{familyRSA, 5, "id-TA-RSA-v1-5-SHA-512", crypto.SHA512},
	{familyRSA, 6, "id-TA-RSA-PSS-SHA-512", crypto.SHA512},
	{familyECDSA, 1, "id-TA-ECDSA-SHA-1", crypto.SHA1},
	{familyECDSA, 2, "id-TA-ECDSA-SHA-224", crypto.SHA224},
	{familyECDSA, 3, "id-TA-ECDSA-SHA-256", crypto.SHA256},
	{familyECDSA, 4, "id-TA-ECDSA-SHA-384", crypto.SHA384},
	{familyECDSA, 5, "id-TA-ECDSA-SHA-512", crypto.SHA512},
}

// SchemeByOID finds a scheme by the content bytes of its object identifier,
// without tag and length.
func SchemeByOID(oid []byte) (Scheme, bool) {
	for s := RSASHA1; s <= ECDSASHA512; s++ {
		if string(oid) == string(s.OID()) {
			return s, true
		}
	}
	return 0, false
}

func (s Scheme) known() bool { return s >= RSASHA1 && s <= ECDSASHA512 }

// OID returns the content bytes of the object identifier, nil for no scheme.
func (s Scheme) OID() []byte {
	if !s.known() {
		return nil
	}
	return append([]byte(idTA), schemes[s].family, schemes[s].member)
}

// Hash is the hash function of the scheme, 0 for no scheme.
func (s Scheme) Hash() crypto.Hash {
	if !s.known() {
		return 0
	}
	return schemes[s].hash
}

// RSA reports whether keys of the scheme are RSA keys.
func (s Scheme) RSA() bool { return s.known() && schemes[s].family == familyRSA }

// PSS reports whether the scheme is RSA with PSS padding (RFC 8017 §8.1).
func (s Scheme) PSS() bool { return s == PSSSHA1 || s == PSSSHA256 || s == PSSSHA512 }

// EC reports whether keys of the scheme are points on a curve.
func (s Scheme) EC() bool { return s.known() && schemes[s].family == familyECDSA }

// Digest hashes a message with the hash function of the scheme; nil for no
// scheme.
func (s Scheme) Digest(message []byte) []byte {
	if !s.known() {
		return nil
	}
	h := s.Hash().New()
	h.Write(message)
	return h.Sum(nil)
}

// String returns the name that TR-03110 gives the scheme.
func (s Scheme) String() string {
	if !s.known() {
		return "no signature algorithm"
	}
	return schemes[s].name
}
