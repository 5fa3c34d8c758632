package cloudhsm_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/portal/cloudhsm"
)

// A file of authorities without any is refused: with an empty pool, no program comes in.
func TestReadAuthorities(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	pool, err := cloudhsm.ReadAuthorities(file)
	require.NoError(t, err)
	authority, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	want := x509.NewCertPool()
	want.AddCert(authority)
	require.True(t, want.Equal(pool))

	require.NoError(t, os.WriteFile(file, der, 0o600))
	_, err = cloudhsm.ReadAuthorities(file)
	require.EqualError(t, err, "read the authorities of programs: "+file+" has no certificate in PEM")
	_, err = cloudhsm.ReadAuthorities(file + "none")
	require.ErrorIs(t, err, os.ErrNotExist)
}
