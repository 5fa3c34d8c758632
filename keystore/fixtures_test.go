package keystore_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore"
	"hsmemu/keystore/cmac"
	"hsmemu/keystore/curve"
)

// seeded returns randomness that is the same in every run.
func seeded(seed byte) io.Reader {
	return rand.NewChaCha8([32]byte{seed})
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	require.NoError(t, err)
	return b
}

// vector reads a file of the folder of vectors from real cards.
func vector(t testing.TB, name string) []byte {
	t.Helper()
	dir := filepath.Join("..", "..", "shared", "vectors")
	if _, err := os.Stat(dir); os.IsNotExist(err) {
		t.Skip("vectors of real cards are not here")
	}
	b, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return b
}

var f4 = []byte{1, 0, 1}

func rsaKey(t testing.TB, bits int) keystore.Key {
	t.Helper()
	k, err := keystore.GenerateRSA(keystore.PoolGenerator{Rand: seeded(byte(bits >> 8))}, bits, f4)
	require.NoError(t, err)
	return k
}

func curveNamed(t testing.TB, name string) *curve.Curve {
	t.Helper()
	c, ok := curve.ByName(name)
	require.True(t, ok, name)
	return c
}

func ecKey(t testing.TB, name string) keystore.Key {
	t.Helper()
	k, err := keystore.GenerateEC(seeded(1), curveNamed(t, name))
	require.NoError(t, err)
	return k
}

func aesKey(t testing.TB, bits int) keystore.Key {
	t.Helper()
	k, err := keystore.GenerateAES(seeded(2), bits)
	require.NoError(t, err)
	return k
}

// allKinds returns a key of every kind, size and curve.
func allKinds(t testing.TB) []keystore.Key {
	t.Helper()
	var keys []keystore.Key
	for _, bits := range []int{1024, 1536, 2048, 3072, 4096} {
		keys = append(keys, rsaKey(t, bits))
	}
	for _, c := range curve.All() {
		keys = append(keys, ecKey(t, c.Name()))
	}
	for _, bits := range []int{128, 192, 256} {
		keys = append(keys, aesKey(t, bits))
	}
	return keys
}

// stored is the JSON form of a key, which tells two keys apart.
func stored(t testing.TB, k json.Marshaler) string {
	t.Helper()
	b, err := k.MarshalJSON()
	require.NoError(t, err)
	return string(b)
}

// domainOf returns a complete DKEK domain with a single share.
func domainOf(t testing.TB, kek []byte) keystore.Domain {
	t.Helper()
	d, err := keystore.NewDKEK(1).Import(kek)
	require.NoError(t, err)
	return d
}

// A plain second implementation of the blob format (DOM-10), from the
// side of a host that knows the KEK.

func blobKey(kek []byte, which byte) []byte {
	sum := sha256.Sum256(append(bytes.Clone(kek), 0, 0, 0, which))
	return sum[:]
}

func blobBlock(t testing.TB, kek []byte) cipher.Block {
	t.Helper()
	block, err := aes.NewCipher(blobKey(kek, 1))
	require.NoError(t, err)
	return block
}

func field(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

// sealBlob makes a blob of a plaintext that has whole blocks.
func sealBlob(t testing.TB, kek []byte, kind byte, list, plain []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(kek)
	ciphertext := bytes.Clone(plain)
	cipher.NewCBCEncrypter(blobBlock(t, kek), make([]byte, 16)).CryptBlocks(ciphertext, ciphertext)
	blob := bytes.Join([][]byte{
		sum[:8], {kind}, field([]byte("any OID")), field(list), field(nil), field(nil), ciphertext,
	}, nil)
	tag, err := cmac.Sum(blobKey(kek, 2), blob)
	require.NoError(t, err)
	return append(blob, tag...)
}

// plainOf makes the plaintext of a blob: size, parts, padding.
func plainOf(size int, parts ...[]byte) []byte {
	plain := append(make([]byte, 8), byte(size>>8), byte(size))
	for _, part := range parts {
		plain = append(plain, field(part)...)
	}
	return pad(plain)
}

func pad(plain []byte) []byte {
	plain = append(plain, 0x80)
	return append(plain, make([]byte, -len(plain)&15)...)
}

type openedBlob struct {
	kcv, kind, oid, list, access, keyOID, random []byte
	size                                         int
	rest                                         []byte // key parts and padding
	parts                                        [][]byte
	padding                                      []byte
}

// openBlob takes a blob apart; count is the number of key parts.
func openBlob(t testing.TB, kek, blob []byte, count int) openedBlob {
	t.Helper()
	tag, err := cmac.Sum(blobKey(kek, 2), blob[:len(blob)-16])
	require.NoError(t, err)
	require.Equal(t, tag, blob[len(blob)-16:], "MAC")
	cut := func(b []byte) (f, rest []byte) {
		n := int(binary.BigEndian.Uint16(b))
		return b[2 : 2+n], b[2+n:]
	}
	o := openedBlob{kcv: blob[:8], kind: blob[8:9]}
	rest := blob[9 : len(blob)-16]
	o.oid, rest = cut(rest)
	o.list, rest = cut(rest)
	o.access, rest = cut(rest)
	o.keyOID, rest = cut(rest)
	plain := bytes.Clone(rest)
	cipher.NewCBCDecrypter(blobBlock(t, kek), make([]byte, 16)).CryptBlocks(plain, plain)
	o.random, o.size, o.rest = plain[:8], int(binary.BigEndian.Uint16(plain[8:])), plain[10:]
	o.padding = o.rest
	for range count {
		var part []byte
		part, o.padding = cut(o.padding)
		o.parts = append(o.parts, part)
	}
	return o
}
