package applet_test

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/cvc"
	"hsmemu/applet/tlv"
)

// openssl asks the program of that name whether a signature holds.
func openssl(t *testing.T, key cvc.PublicKey, message, signature []byte) bool {
	t.Helper()
	_, err := exec.LookPath("openssl")
	require.NoError(t, err, "the tests need the Debian package openssl")
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, b, 0o600))
		return path
	}
	hash := "-" + strings.ToLower(strings.ReplaceAll(key.Scheme.Hash().String(), "-", ""))
	args := []string{"dgst", hash, "-verify", write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki(t, key)}))}
	if key.Scheme.EC() {
		s, err := key.Curve.ParsePlain(signature)
		require.NoError(t, err)
		signature = s.DER()
	}
	if key.Scheme.PSS() {
		args = append(args, "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest")
	}
	out, err := exec.Command("openssl", append(args, "-signature", write("signature", signature), write("message", message))...).CombinedOutput()
	require.Equal(t, err == nil, strings.Contains(string(out), "Verified OK"), "%s", out)
	if err != nil {
		require.Contains(t, string(out), "Verification failure", "it was something else")
	}
	return err == nil
}

// spki is the public key as a SubjectPublicKeyInfo (RFC 5280; RFC 5480 with a
// named curve).
func spki(t *testing.T, key cvc.PublicKey) []byte {
	t.Helper()
	if key.Scheme.RSA() {
		der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{
			N: new(big.Int).SetBytes(key.Modulus), E: int(new(big.Int).SetBytes(key.Exponent).Int64()),
		})
		require.NoError(t, err)
		return der
	}
	ecPublicKey := []byte{0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01}
	return tlv.Append(nil, 0x30,
		tlv.Append(nil, 0x30, tlv.Append(nil, 0x06, ecPublicKey), tlv.Append(nil, 0x06, key.Curve.OID())),
		tlv.Append(nil, 0x03, []byte{0}, key.Point))
}
