package keystore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore"
)

func TestParseKeyFile_Parts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]keystore.KeyFile{
		"3004 0402AABB":                    {Blob: []byte{0xAA, 0xBB}},
		"3007 0402AABB A00100":             {Blob: []byte{0xAA, 0xBB}, Description: []byte{0xA0, 1, 0}},
		"300A 0402AABB 300100 670105":      {Blob: []byte{0xAA, 0xBB}, Description: []byte{0x30, 1, 0}, Certificate: []byte{0x67, 1, 5}},
		"300B 0402AABB 300100 7F210105":    {Blob: []byte{0xAA, 0xBB}, Description: []byte{0x30, 1, 0}, Certificate: []byte{0x7F, 0x21, 1, 5}},
		"30810B 0402AABB 300100 7F210105":  {},
		"300400":                           {},
		"300B 0402AABB 300100 670105 00":   {},
		"300C 0402AABB 300100 670105 0500": {},
		"3004 0402AABB 00":                 {},
		"3104 0402AABB":                    {},
		"3004 0302AABB":                    {},
		"3004 2402AABB":                    {},
		"3000":                             {},
		"3003 040400":                      {},
		"3006 0402AABB 3001":               {},
		"":                                 {},
		"3080 0402AABB 0000":               {},
		"300482 AABB":                      {},
	} {
		f, err := keystore.ParseKeyFile(unhex(t, text))
		if want.Blob == nil {
			require.ErrorIs(t, err, keystore.ErrKeyFile, text)
			continue
		}
		require.NoError(t, err, text)
		require.Equal(t, want, f)
	}
}
