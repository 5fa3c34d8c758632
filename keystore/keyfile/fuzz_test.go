package keyfile_test

import (
	"bytes"
	"encoding/pem"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore"
	"hsmemu/keystore/keyfile"
)

// What a user hands over as a key may be anything. Whatever is taken for a key
// can be wrapped, which is what happens to it next.
func FuzzReadPEM(f *testing.F) {
	_, err := exec.LookPath("openssl")
	require.NoError(f, err, "the tests need the Debian package openssl")
	dir := f.TempDir()
	for _, line := range [][]string{
		{"genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"},
		{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:brainpoolP256r1"},
		{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:brainpoolP256t1", "-pkeyopt", "ec_param_enc:explicit"},
		{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp192k1", "-pkeyopt", "ec_param_enc:explicit"},
		{"ecparam", "-genkey", "-name", "secp521r1"},
		{"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x", "-keyout", "-"},
	} {
		cmd := exec.Command("openssl", line...)
		cmd.Dir = dir
		text, err := cmd.Output()
		require.NoError(f, err, "%v", line)
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			f.Add(block.Type, block.Bytes)
		}
	}
	domain, err := keystore.NewDKEK(1).Import(make([]byte, keystore.ShareLen))
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, kind string, der []byte) {
		m, err := keyfile.Read(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), nil)
		if err != nil {
			return
		}
		_, err = domain.Wrap(bytes.NewReader(make([]byte, 64)), m.Key)
		require.NoError(t, err)
	})
}

// Parts of a split password come from people who copied them from a screen.
func FuzzPasswordParts(f *testing.F) {
	f.Add([]byte("Prime       : ff:ff\nShare ID    : 1\nShare value : 0a:0b\n\nPrime : ffff\nShare ID : 2\nShare value : 0c0d\n"))
	f.Add([]byte("correct horse\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		parts, err := keyfile.PasswordParts(text)
		if err != nil || len(parts) == 0 {
			return
		}
		password, err := keystore.JoinPassword(parts)
		if err == nil {
			require.Len(t, password, 8, "as long as sc-hsm-tool makes them")
		}
	})
}
