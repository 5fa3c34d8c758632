package cmac_test

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore/cmac"
)

// BenchmarkSum has the bare encryption of as many bytes beside it, which CMAC
// cannot undercut.
func BenchmarkSum(b *testing.B) {
	key := make([]byte, 16)
	for _, size := range []int{16, 240, 1024, 65536} {
		msg := make([]byte, size)
		b.Run(fmt.Sprintf("%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := cmac.Sum(key, msg); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("%d-bare-CBC", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			out := make([]byte, size)
			for b.Loop() {
				block, err := aes.NewCipher(key)
				require.NoError(b, err)
				cipher.NewCBCEncrypter(block, key).CryptBlocks(out, msg)
			}
		})
	}
}
