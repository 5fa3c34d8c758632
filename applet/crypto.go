package applet

import (
	"fmt"
	"io"
	"slices"

	"hsmemu/applet/apdu"
	"hsmemu/applet/tlv"
	"hsmemu/keystore"
)

// keyInfo is the proprietary object in the answer to SELECT of a key. A key
// without attributes has none.
func keyInfo(k keystore.Key) []byte {
	if !k.Uses.Limited && k.Algorithms == nil && k.Domain == 0 {
		return nil
	}
	var out []byte
	if k.Uses.Limited {
		n := k.Uses.Left
		out = tlv.Append(out, apdu.KeyUses, []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	}
	if k.Algorithms != nil {
		out = tlv.Append(out, apdu.KeyAlgorithms, algorithmBytes(k.Algorithms))
	}
	out = tlv.Append(out, apdu.KeyDomain, []byte{k.Domain})
	return tlv.Append(nil, tagKeyInfo, out)
}

func algorithmBytes(list []keystore.Algorithm) []byte {
	out := make([]byte, len(list))
	for i, a := range list {
		out[i] = byte(a)
	}
	return out
}

func algorithmList(b []byte) []keystore.Algorithm {
	out := make([]keystore.Algorithm, len(b))
	for i, a := range b {
		out[i] = keystore.Algorithm(a)
	}
	return out
}

// aboutKey names a key as the subject of the event.
func (t *tx) aboutKey(id byte) {
	if !t.env.Observed {
		return
	}
	t.subject = fmt.Sprintf("key %d", id)
	if k, exists := t.d.Keys[id]; exists {
		t.subject += ", " + describeKey(k)
	}
}

// describeKey says what a key is: "RSA-2048", "secp256r1", "AES-128".
func describeKey(k keystore.Key) string {
	if k.Kind() == keystore.EC {
		return k.Curve().Name()
	}
	return fmt.Sprintf("%s-%d", k.Kind(), k.Bits())
}

// use finds a key for an operation, checks that its algorithm list and the
// firmware allow it, and counts the use durably before the key is touched.
func (t *tx) use(id byte, a keystore.Algorithm) (keystore.Key, error) {
	if t.env.Observed {
		t.aboutKey(id)
		t.subject += ", " + a.String()
	}
	if id == 0 {
		return keystore.Key{}, apdu.FunctionNotSupported
	}
	k, err := t.key(id)
	if err != nil {
		return keystore.Key{}, err
	}
	if !k.Allows(a) || slices.Contains(t.profile.Lacks, a) || t.revealing(k, a) {
		return keystore.Key{}, apdu.FunctionNotSupported
	}
	return k, t.spend(id, k)
}

// revealing reports whether a use would give away what a key encryption key is
// made of: an exchange key of a group agrees on those, and on nothing that the
// card answers, whatever else its list names.
func (t *tx) revealing(k keystore.Key, a keystore.Algorithm) bool {
	return (a == keystore.ECDH || a == keystore.ECDHAuthenticated) &&
		k.Allows(keystore.ECDHExchange) && t.domain(k.Domain).XKEK()
}

// sign is SIGN: key id in P1, algorithm in P2.
func sign(t *tx, c apdu.Command) ([]byte, error) {
	a := keystore.Algorithm(c.P2)
	k, err := t.use(c.P1, a)
	if err != nil {
		return nil, err
	}
	signature, err := k.Sign(t.nonceFor(k), a, c.Data)
	if err != nil || !t.profile.PaddedP521 || k.Kind() != keystore.EC || k.Bits() != 521 {
		return signature, err
	}
	s, err := k.Curve().ParseDER(signature)
	return s.PaddedDER(), err
}

// nonceFor is the randomness for a signature with a key: RSA salts are always
// ours, ECDSA nonces only where signatures are not to be reproducible.
func (t *tx) nonceFor(k keystore.Key) io.Reader {
	if k.Kind() == keystore.EC {
		return t.env.nonce()
	}
	return t.env.Rand
}

// decipher is DECIPHER: RSA decryption and the agreement of keys.
func decipher(t *tx, c apdu.Command) ([]byte, error) {
	a := keystore.Algorithm(c.P2)
	if a == keystore.ECDHExchange {
		return agreeDomainKey(t, c)
	}
	if a == keystore.ECDHAuthenticated {
		return agreeAuthenticated(t, c)
	}
	k, err := t.use(c.P1, a)
	if err != nil {
		return nil, err
	}
	return k.Decipher(a, c.Data)
}

// agreeAuthenticated is DECIPHER that agrees with a key only if the device that
// holds it vouches for it. The answer is that of the plain agreement.
func agreeAuthenticated(t *tx, c apdu.Command) ([]byte, error) {
	point, err := t.authenticatedPoint(c.Data)
	if err != nil {
		return nil, err
	}
	k, err := t.use(c.P1, keystore.ECDHAuthenticated)
	if err != nil {
		return nil, err
	}
	return k.Decipher(keystore.ECDH, point)
}

// symmetricCipher is SYMMETRIC CIPHER: AES in CBC mode, CMAC and derivation.
func symmetricCipher(t *tx, c apdu.Command) ([]byte, error) {
	a := keystore.Algorithm(c.P2)
	k, err := t.use(c.P1, a)
	if err != nil {
		return nil, err
	}
	return k.Cipher(a, c.Data)
}

// deriveKey is DERIVE EC KEY: a new key from an old one and a parameter. Only
// the key comes into being; its description is the client's business.
func deriveKey(t *tx, c apdu.Command) ([]byte, error) {
	if keystore.Algorithm(c.Data[0]) != keystore.DeriveEC {
		return nil, apdu.FunctionNotSupported
	}
	if c.P2 == 0 {
		return nil, apdu.IncorrectP1P2
	}
	if _, exists := t.d.Keys[c.P2]; exists {
		t.aboutKey(c.P2)
		return nil, apdu.AlreadyExists
	}
	k, err := t.use(c.P1, keystore.DeriveEC)
	if err != nil {
		return nil, err
	}
	child, err := k.Derive(c.Data[1:])
	if err != nil {
		return nil, err
	}
	return nil, t.putKey(c.P2, child)
}
