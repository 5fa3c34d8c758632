//go:build !(linux || darwin || windows)

package seal

// Seal returns ErrTPMNotBuilt: a module that go-tpm-tools needs does not build
// for this system.
func (TPM) Seal([]byte, uint64) ([]byte, error) { return nil, ErrTPMNotBuilt }

// Unseal returns ErrTPMNotBuilt.
func (TPM) Unseal([]byte) ([]byte, error) { return nil, ErrTPMNotBuilt }
