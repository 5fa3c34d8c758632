package seal_test

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore/seal"
)

// FuzzUnseal takes any text for the parameters of a seal, which stand in a file
// in the open: they are refused before anyone is asked for a passphrase and
// before a TPM is looked for, or they are such that asking makes sense.
func FuzzUnseal(f *testing.F) {
	asked := errors.New("asked")
	sealed, err := seal.Passphrase{
		Ask:  func() ([]byte, error) { return []byte("phrase"), nil },
		Time: 1, Memory: 8, Threads: 1,
	}.Seal(make([]byte, seal.RootLen), 1)
	require.NoError(f, err)
	f.Add(sealed)
	f.Add([]byte(`{"parent":"AAs=","public":"AA==","private":"AA==","pcrs":[0,23],"index":25165824,"count":1,"generation":1}`))
	f.Add([]byte(`{"parent":"AAs=","public":"AA==","private":"AA==","pcrs":[24],"index":25165824}`))
	f.Add([]byte(`{"kdf":"argon2id","time":4294967295,"memory":4294967295,"threads":255}`))
	f.Add([]byte("null"))
	passphrase := seal.Passphrase{Ask: func() ([]byte, error) { return nil, asked }}
	tpm := seal.TPM{Open: func() (io.ReadWriteCloser, error) { return nil, asked }}
	f.Fuzz(func(t *testing.T, parameters []byte) {
		for _, s := range []seal.Sealer{passphrase, tpm} {
			root, err := s.Unseal(parameters)
			require.True(t, errors.Is(err, seal.ErrParameters) || errors.Is(err, asked), "%s: %v", s.Kind(), err)
			require.Empty(t, root)
		}
	})
}
