//go:build linux || darwin || windows

package seal_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/stretchr/testify/require"

	"hsmemu/keystore/seal"
)

func counter(t testing.TB, s seal.TPM, generation uint64) ([]byte, seal.Counter) {
	t.Helper()
	p, err := s.Seal(root, generation)
	require.NoError(t, err)
	c, err := s.Counter(p, root)
	require.NoError(t, err)
	return p, c
}

func stands(t testing.TB, c seal.Counter, want uint64) {
	t.Helper()
	n, err := c.Count()
	require.NoError(t, err)
	require.Equal(t, want, n)
}

func TestCounter_CountsAcrossRestarts(t *testing.T) {
	t.Parallel()
	tpm := newTPM(t)
	s := tpm.sealer()
	p, c := counter(t, s, 0)
	stands(t, c, 0)
	require.NoError(t, c.Increment())
	stands(t, c, 1)
	for n := uint64(2); n < 6; n++ {
		require.NoError(t, c.Increment())
		tpm.restart(t)
		again, err := s.Counter(p, root)
		require.NoError(t, err)
		stands(t, again, n)
	}
}

func TestCounter_EachFileHasItsOwn(t *testing.T) {
	t.Parallel()
	s := newTPM(t).sealer()
	_, a := counter(t, s, 0)
	require.NoError(t, a.Increment())
	_, b := counter(t, s, 41)
	stands(t, b, 41)
	require.NoError(t, b.Increment())
	stands(t, a, 1)
	stands(t, b, 42)
}

func TestCounter_Release(t *testing.T) {
	t.Parallel()
	s := newTPM(t).sealer()
	p, c := counter(t, s, 0)
	_, other := counter(t, s, 5)
	require.NoError(t, s.Release(p))
	_, err := c.Count()
	require.ErrorIs(t, err, seal.ErrNoCounter)
	require.ErrorIs(t, c.Increment(), seal.ErrNoCounter)
	require.NoError(t, s.Release(p), "what is gone need not be removed")
	stands(t, other, 5)
}

func TestCounter_MadeAnew(t *testing.T) {
	t.Parallel()
	tpm := newTPM(t)
	s := tpm.sealer()
	s.PCRs = []int{16}
	p, _ := counter(t, s, 0)
	require.NoError(t, s.Release(p))
	s.PCRs = nil
	q, err := s.Recount(p, root, 41)
	require.NoError(t, err)
	c, err := s.Counter(q, root)
	require.NoError(t, err)
	stands(t, c, 41)
	require.NoError(t, c.Increment())
	stands(t, c, 42)
	got, err := s.Unseal(q)
	require.NoError(t, err)
	require.Equal(t, root, got)
	require.Contains(t, string(q), `"pcrs":[16]`, "the registers are not forgotten")

	_, err = s.Recount(p, root[1:], 0)
	require.ErrorIs(t, err, seal.ErrRoot)
	_, err = s.Recount([]byte("{}"), root, 0)
	require.ErrorIs(t, err, seal.ErrParameters)
}

func TestCounter_NeedsTheRootKey(t *testing.T) {
	t.Parallel()
	s := newTPM(t).sealer()
	p, c := counter(t, s, 0)
	stranger, err := s.Counter(p, bytes.Repeat([]byte{1}, seal.RootLen))
	require.NoError(t, err)
	require.Error(t, stranger.Increment())
	_, err = stranger.Count()
	require.Error(t, err)
	stands(t, c, 0)
}

// Keys whose derived values hold any byte work; go-tpm mistreats values with
// zero bytes.
func TestCounter_AnyRootKey(t *testing.T) {
	t.Parallel()
	s := newTPM(t).sealer()
	for i := range 24 {
		key := bytes.Repeat([]byte{byte(i)}, seal.RootLen)
		p, err := s.Seal(key, 0)
		require.NoError(t, err)
		c, err := s.Counter(p, key)
		require.NoError(t, err)
		require.NoError(t, c.Increment())
		stands(t, c, 1)
		require.NoError(t, s.Release(p))
	}
}

// The owner of a TPM can remove a counter and put something else at its index.
// Neither another counter nor a plain number passes for it.
func TestCounter_CannotBeTurnedBack(t *testing.T) {
	t.Parallel()
	tpm := newTPM(t)
	s := tpm.sealer()
	p, c := counter(t, s, 0)
	for range 3 {
		require.NoError(t, c.Increment())
	}
	stands(t, c, 3)
	require.NoError(t, s.Release(p))
	place := func(attributes tpm2.TPMANV) {
		tpm.directly(t, func(direct transport.TPM, _ io.ReadWriter) {
			_, err := tpm2.NVDefineSpace{
				AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
				PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
					NVIndex: tpm2.TPMHandle(reveal(t, p).Index), NameAlg: tpm2.TPMAlgSHA256, Attributes: attributes, DataSize: 8,
				}),
			}.Execute(direct)
			require.NoError(t, err)
		})
	}
	for _, attributes := range []tpm2.TPMANV{
		{NT: tpm2.TPMNTOrdinary, AuthWrite: true, AuthRead: true, NoDA: true},
		{NT: tpm2.TPMNTCounter, AuthWrite: true, AuthRead: true, NoDA: true, OwnerWrite: true},
		{NT: tpm2.TPMNTCounter, AuthWrite: true, AuthRead: true, NoDA: true},
	} {
		place(attributes)
		_, err := c.Count()
		require.ErrorIs(t, err, seal.ErrNoCounter)
		require.ErrorIs(t, c.Increment(), seal.ErrNoCounter)
		require.NoError(t, s.Release(p), "what is not ours is left")
		tpm.directly(t, func(direct transport.TPM, _ io.ReadWriter) {
			index := tpm2.TPMHandle(reveal(t, p).Index)
			public, err := tpm2.NVReadPublic{NVIndex: index}.Execute(direct)
			require.NoError(t, err)
			_, err = tpm2.NVUndefineSpace{
				AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
				NVIndex:    tpm2.NamedHandle{Handle: index, Name: public.NVName},
			}.Execute(direct)
			require.NoError(t, err)
		})
	}
	// A counter made anew by who has the key starts above the old one.
	q, again := counter(t, s, 0)
	require.Greater(t, reveal(t, q).Count, reveal(t, p).Count+3)
	stands(t, again, 0)
}
