//go:build tpmsim

package seal_test

import (
	"io"
	"testing"

	"github.com/google/go-tpm-tools/client"
	"github.com/google/go-tpm-tools/simulator"
	legacy "github.com/google/go-tpm/legacy/tpm2"
	"github.com/stretchr/testify/require"

	"hsmemu/keystore/seal"
)

// The tests here share one simulator at a time, as there is only one in a
// process; they are not parallel.

// simulated reaches a simulator, which stays when one is done with it.
func simulated(s *simulator.Simulator) seal.TPM {
	return seal.TPM{Open: func() (io.ReadWriteCloser, error) {
		return struct {
			io.ReadWriter
			io.Closer
		}{s, io.NopCloser(nil)}, nil
	}}
}

func TestSimulator_GivesTheKeyBack(t *testing.T) {
	sim, err := simulator.GetWithFixedSeedInsecure(1)
	require.NoError(t, err)
	s := simulated(sim)
	p, err := s.Seal(root, 7)
	require.NoError(t, err)
	got, err := s.Unseal(p)
	require.NoError(t, err)
	require.Equal(t, root, got)
	c, err := s.Counter(p, root)
	require.NoError(t, err)
	stands(t, c, 7)
	require.NoError(t, c.Increment())
	require.NoError(t, sim.Reset())
	stands(t, c, 8)
	require.NoError(t, s.Release(p))
	_, err = c.Count()
	require.ErrorIs(t, err, seal.ErrNoCounter)
	client.CheckedClose(t, sim)

	// The same seed makes the same storage root key, without the old memory.
	sim, err = simulator.GetWithFixedSeedInsecure(1)
	require.NoError(t, err)
	got, err = simulated(sim).Unseal(p)
	require.NoError(t, err)
	require.Equal(t, root, got)
	client.CheckedClose(t, sim)

	sim, err = simulator.GetWithFixedSeedInsecure(2)
	require.NoError(t, err)
	_, err = simulated(sim).Unseal(p)
	require.ErrorIs(t, err, seal.ErrOtherTPM)
	client.CheckedClose(t, sim)
}

func TestSimulator_BoundToPCRs(t *testing.T) {
	sim, err := simulator.Get()
	require.NoError(t, err)
	s := simulated(sim)
	s.PCRs = []int{23}
	p, err := s.Seal(root, 0)
	require.NoError(t, err)
	got, err := s.Unseal(p)
	require.NoError(t, err)
	require.Equal(t, root, got)
	require.NoError(t, legacy.PCRExtend(sim, 23, legacy.AlgSHA256, make([]byte, 32), ""))
	_, err = s.Unseal(p)
	require.ErrorIs(t, err, seal.ErrPCR)
	client.CheckedClose(t, sim)
}

// A cleared TPM has another storage root key.
func TestSimulator_Cleared(t *testing.T) {
	sim, err := simulator.Get()
	require.NoError(t, err)
	s := simulated(sim)
	p, err := s.Seal(root, 0)
	require.NoError(t, err)
	require.NoError(t, legacy.Clear(sim, legacy.HandleLockout, legacy.AuthCommand{Session: legacy.HandlePasswordSession, Attributes: legacy.AttrContinueSession}))
	_, err = s.Unseal(p)
	require.ErrorIs(t, err, seal.ErrOtherTPM)
	client.CheckedClose(t, sim)
}
