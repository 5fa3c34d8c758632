package keystore_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore"
)

// The algorithms of KEY-1 and KEY-2, one by one.
func TestAlgorithm_IDsAndNames(t *testing.T) {
	t.Parallel()
	names := map[keystore.Algorithm]string{
		0x10: "AES-CBC encryption",
		0x11: "AES-CBC decryption",
		0x18: "AES-CMAC",
		0x20: "RSA raw signature",
		0x21: "RSA raw decryption",
		0x22: "RSA PKCS#1 v1.5 decryption",
		0x23: "RSA OAEP decryption",
		0x30: "RSA PKCS#1 v1.5",
		0x31: "RSA PKCS#1 v1.5 SHA-1",
		0x32: "RSA PKCS#1 v1.5 SHA-224",
		0x33: "RSA PKCS#1 v1.5 SHA-256",
		0x34: "RSA PKCS#1 v1.5 SHA-384",
		0x35: "RSA PKCS#1 v1.5 SHA-512",
		0x40: "RSA PSS",
		0x41: "RSA PSS SHA-1",
		0x42: "RSA PSS SHA-224",
		0x43: "RSA PSS SHA-256",
		0x44: "RSA PSS SHA-384",
		0x45: "RSA PSS SHA-512",
		0x51: "extended encryption",
		0x52: "extended decryption",
		0x70: "ECDSA",
		0x71: "ECDSA SHA-1",
		0x72: "ECDSA SHA-224",
		0x73: "ECDSA SHA-256",
		0x74: "ECDSA SHA-384",
		0x75: "ECDSA SHA-512",
		0x80: "ECDH",
		0x83: "ECDH with authenticated public key",
		0x84: "ECDH XKEK",
		0x92: "wrap",
		0x93: "unwrap",
		0x94: "replace",
		0x98: "EC key derivation",
		0x99: "AES key derivation SP 800-56C",
		0xA0: "hierarchical key",
		0x00: "algorithm 00",
		0x36: "algorithm 36",
		0x5F: "algorithm 5F",
		0x76: "algorithm 76",
	}
	for a, name := range names {
		require.Equal(t, name, a.String())
	}
	require.Equal(t, []keystore.Algorithm{
		0x10, 0x11, 0x18, 0x20, 0x21, 0x22, 0x23, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35,
		0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x51, 0x52, 0x70, 0x71, 0x72, 0x73, 0x74, 0x75,
		0x80, 0x83, 0x84, 0x92, 0x93, 0x94, 0x98, 0x99, 0xA0,
	}, []keystore.Algorithm{
		keystore.AESCBCEncrypt, keystore.AESCBCDecrypt, keystore.AESCMAC,
		keystore.RSASignRaw, keystore.RSADecryptRaw, keystore.RSADecryptPKCS1, keystore.RSADecryptOAEP,
		keystore.RSASignPKCS1, keystore.RSASignSHA1, keystore.RSASignSHA224,
		keystore.RSASignSHA256, keystore.RSASignSHA384, keystore.RSASignSHA512,
		keystore.RSAPSS, keystore.RSAPSSSHA1, keystore.RSAPSSSHA224,
		keystore.RSAPSSSHA256, keystore.RSAPSSSHA384, keystore.RSAPSSSHA512,
		keystore.ExtendedEncrypt, keystore.ExtendedDecrypt,
		keystore.ECDSA, keystore.ECDSASHA1, keystore.ECDSASHA224,
		keystore.ECDSASHA256, keystore.ECDSASHA384, keystore.ECDSASHA512,
		keystore.ECDH, keystore.ECDHAuthenticated, keystore.ECDHExchange,
		keystore.Wrap, keystore.Unwrap, keystore.Replace,
		keystore.DeriveEC, keystore.DeriveAES, keystore.HDKey,
	})
}

// KEY-6 to KEY-9.
func TestAllows_DefaultsByKind(t *testing.T) {
	t.Parallel()
	defaults := map[keystore.Kind][]keystore.Algorithm{
		keystore.RSA: {
			0x20, 0x21, 0x22, 0x23, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35,
			0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x92,
		},
		keystore.EC:  {0x70, 0x71, 0x72, 0x73, 0x74, 0x75, 0x80, 0x92},
		keystore.AES: {0x10, 0x11, 0x18, 0x92, 0x99},
	}
	for _, k := range []keystore.Key{rsaKey(t, 1024), ecKey(t, "secp256r1"), aesKey(t, 128)} {
		for a := range 256 {
			want := slices.Contains(defaults[k.Kind()], keystore.Algorithm(a))
			require.Equal(t, want, k.Allows(keystore.Algorithm(a)), "%v %02X", k, a)
		}
	}
	for a := range 256 {
		require.False(t, keystore.Key{}.Allows(keystore.Algorithm(a)))
	}
}

func TestAllows_OnlyWhatTheListNames(t *testing.T) {
	t.Parallel()
	for _, list := range [][]keystore.Algorithm{
		{keystore.DeriveEC, keystore.ECDSASHA256},
		{keystore.Wrap},
		{}, // a list that names nothing is not the absence of a list
	} {
		k := ecKey(t, "secp256r1")
		k.Algorithms = list
		for a := range 256 {
			require.Equal(t, slices.Contains(list, keystore.Algorithm(a)), k.Allows(keystore.Algorithm(a)))
		}
	}
}
