package cmac_test

import (
	"bytes"
	"crypto/aes"
	"crypto/rand"
	"encoding/hex"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore/cmac"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

const message = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51" +
	"30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"

func TestSum_Vectors(t *testing.T) {
	t.Parallel()
	const (
		k128 = "2b7e151628aed2a6abf7158809cf4f3c"
		k192 = "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b"
		k256 = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"
	)
	for _, v := range []struct {
		name, key string
		length    int
		tag       string
	}{
		{"RFC 4493 example 1", k128, 0, "bb1d6929e95937287fa37d129b756746"},
		{"RFC 4493 example 2", k128, 16, "070a16b46b4d4144f79bdd9dd04a287c"},
		{"RFC 4493 example 3", k128, 40, "dfa66747de9ae63030ca32611497c827"},
		{"RFC 4493 example 4", k128, 64, "51f0bebf7e3b9d92fc49741779363cfe"},
		{"SP 800-38B D.2 example 5", k192, 0, "d17ddf46adaacde531cac483de7a9367"},
		{"SP 800-38B D.2 example 6", k192, 16, "9e99a7bf31e710900662f65e617c5184"},
		{"SP 800-38B D.2 example 7", k192, 40, "8a1de5be2eb31aad089a82e6ee908b0e"},
		{"SP 800-38B D.2 example 8", k192, 64, "a1d5df0eed790f794d77589659f39a11"},
		{"SP 800-38B D.3 example 9", k256, 0, "028962f61b7bf89efc6b551f4667d983"},
		{"SP 800-38B D.3 example 10", k256, 16, "28a7023f452e8f82bd4bf28d8c37c35c"},
		{"SP 800-38B D.3 example 11", k256, 40, "aaf3d8f1de5640c232f5b169b9c911e6"},
		{"SP 800-38B D.3 example 12", k256, 64, "e1992190549f6ed5696a2c056c315410"},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			tag, err := cmac.Sum(unhex(t, v.key), unhex(t, message)[:v.length])
			require.NoError(t, err)
			require.Equal(t, v.tag, hex.EncodeToString(tag))
		})
	}
}

func TestSum_RefusesOtherKeyLengths(t *testing.T) {
	t.Parallel()
	for n := range 40 {
		_, err := cmac.Sum(make([]byte, n), nil)
		if n == 16 || n == 24 || n == 32 {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, cmac.ErrKey, "%d bytes", n)
	}
}

// slow is RFC 4493 §2.3 and §2.4 block by block, as a second implementation.
func slow(t *testing.T, key, msg []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	require.NoError(t, err)
	shifted := func(b []byte) []byte {
		out := make([]byte, 16)
		for i := range out {
			out[i] = b[i] << 1
			if i < 15 {
				out[i] |= b[i+1] >> 7
			}
		}
		if b[0]&0x80 != 0 {
			out[15] ^= 0x87
		}
		return out
	}
	l := make([]byte, 16)
	block.Encrypt(l, l)
	mask := shifted(l)
	if len(msg) == 0 || len(msg)%16 != 0 {
		mask = shifted(mask)
		msg = append(bytes.Clone(msg), 0x80)
		msg = append(msg, make([]byte, (16-len(msg)%16)%16)...)
	}
	x := make([]byte, 16)
	for at := 0; at < len(msg); at += 16 {
		for i := range x {
			x[i] ^= msg[at+i]
			if at+16 == len(msg) {
				x[i] ^= mask[i]
			}
		}
		block.Encrypt(x, x)
	}
	return x
}

func TestSum_IsRightForEveryLength(t *testing.T) {
	t.Parallel()
	msg := make([]byte, 1100)
	_, err := rand.Read(msg)
	require.NoError(t, err)
	for n := range msg {
		key := make([]byte, []int{16, 24, 32}[n%3])
		_, err := rand.Read(key) // every second subkey needs the reduction
		require.NoError(t, err)
		before := bytes.Clone(msg)
		tag, err := cmac.Sum(key, msg[:n:n])
		require.NoError(t, err)
		require.Equal(t, slow(t, key, msg[:n]), tag, "%d bytes", n)
		require.Equal(t, before, msg, "the message stays as it is")
		require.Len(t, tag, cmac.Size)
	}
}

func TestSum_AgreesWithOpenSSL(t *testing.T) {
	t.Parallel()
	_, err := exec.LookPath("openssl")
	require.NoError(t, err, "the tests need the Debian package openssl")
	for keyLength, name := range map[int]string{16: "AES-128-CBC", 24: "AES-192-CBC", 32: "AES-256-CBC"} {
		for _, n := range []int{0, 1, 16, 100, 1024} {
			key, msg := make([]byte, keyLength), make([]byte, n)
			_, err := rand.Read(key)
			require.NoError(t, err)
			_, err = rand.Read(msg)
			require.NoError(t, err)
			tool := exec.Command("openssl", "mac", "-macopt", "cipher:"+name, "-macopt", "hexkey:"+hex.EncodeToString(key), "-in", "-", "CMAC")
			tool.Stdin = bytes.NewReader(msg)
			out, err := tool.Output()
			require.NoError(t, err)
			tag, err := cmac.Sum(key, msg)
			require.NoError(t, err)
			require.Equal(t, strings.ToLower(strings.TrimSpace(string(out))), hex.EncodeToString(tag), "%s, %d bytes", name, n)
		}
	}
}
