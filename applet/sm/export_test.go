package sm

// What the published vectors name and no caller needs.

// Derive is the key with the given number.
func Derive(s Suite, secret []byte, nonce Nonce, number byte) []byte {
	return s.derive(secret, nonce, number)
}

// PublicKey is the object that the token is made over.
var PublicKey = Suite.publicKey

// Token is made over data with the keys of the channel.
func Token(c Channel, data []byte) []byte { return c.s.keys.token(data) }
