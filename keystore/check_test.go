package keystore_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore"
)

func rsaPublic(k keystore.Key) *rsa.PublicKey {
	n, e := k.RSAPublic()
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
}

// signAndVerify makes one signature and verifies it with the public part.
func signAndVerify(t testing.TB, k keystore.Key) {
	t.Helper()
	message := []byte("the quick brown fox")
	sum := sha256.Sum256(message)
	switch k.Kind() {
	case keystore.RSA:
		s, err := k.Sign(nil, keystore.RSASignSHA256, message)
		require.NoError(t, err)
		require.NoError(t, rsa.VerifyPKCS1v15(rsaPublic(k), crypto.SHA256, sum[:], s))
	case keystore.EC:
		der, err := k.Sign(seeded(3), keystore.ECDSASHA256, message)
		require.NoError(t, err)
		s, err := k.Curve().ParseDER(der)
		require.NoError(t, err)
		require.True(t, k.ECPublic().Verify(sum[:], s))
	default:
		t.Fatalf("%v cannot sign", k)
	}
}

func requireRSA(t testing.TB, key any) *rsa.PrivateKey {
	t.Helper()
	k, ok := key.(*rsa.PrivateKey)
	require.True(t, ok, "%T", key)
	return k
}
