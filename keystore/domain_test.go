package keystore_test

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hsmemu/keystore"
)

func share(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func TestDKEK_SharesCombineInAnyOrder(t *testing.T) {
	t.Parallel()
	d := keystore.NewDKEK(3)
	require.Equal(t, []int{3, 3}, []int{d.Total(), d.Outstanding()})
	require.Equal(t, [8]byte{}, d.KCV())
	require.False(t, d.Ready())
	import3 := func(shares ...byte) keystore.Domain {
		x := d
		for i, s := range shares {
			var err error
			x, err = x.Import(share(s))
			require.NoError(t, err)
			require.Equal(t, 2-i, x.Outstanding())
			require.Equal(t, i == 2, x.Ready())
			require.Equal(t, x.Ready(), x.KCV() != [8]byte{})
		}
		return x
	}
	a, b := import3(0x11, 0x22, 0x77), import3(0x77, 0x11, 0x22)
	require.Equal(t, a, b)
	want := sha256.Sum256(share(0x44))
	kcv := a.KCV()
	require.Equal(t, want[:8], kcv[:])
	require.Equal(t, 3, d.Outstanding(), "the domain they started from")

	after, err := a.Import(share(1))
	require.ErrorIs(t, err, keystore.ErrComplete)
	require.Equal(t, a, after)
	require.Equal(t, d, a.Cleared(false), "clearing asks for all shares again")
	require.True(t, a.Ready())
}

// DOM-45: keys of a domain do not get another KEK.
func TestDKEK_ClearedInUseTakesItsOwnKeyOnly(t *testing.T) {
	t.Parallel()
	full := keystore.NewDKEK(2)
	for _, s := range [][]byte{share(1), share(2)} {
		var err error
		full, err = full.Import(s)
		require.NoError(t, err)
	}
	bound := full.Cleared(true)
	require.Equal(t, []int{2, 2}, []int{bound.Total(), bound.Outstanding()})
	require.NotEqual(t, keystore.NewDKEK(2), bound)
	require.Equal(t, keystore.NewDKEK(2), full.Cleared(false), "without keys it takes any")

	text, err := bound.MarshalJSON()
	require.NoError(t, err)
	var read keystore.Domain
	require.NoError(t, read.UnmarshalJSON(text))
	require.Equal(t, bound, read)

	half, err := read.Import(share(2))
	require.NoError(t, err)
	after, err := half.Import(share(3))
	require.ErrorIs(t, err, keystore.ErrKCV)
	require.Equal(t, half, after)
	again, err := half.Import(share(1))
	require.NoError(t, err, "the last share can be given once more")
	require.Equal(t, full, again)

	require.Equal(t, bound, half.Cleared(true), "clearing again does not free it")
	require.Equal(t, keystore.NewDKEK(2), half.Cleared(false), "when the keys are gone, it does")
	require.Equal(t, keystore.NewDKEK(2), keystore.NewDKEK(2).Cleared(true), "it had no key yet")
}

func TestDKEK_ImportLeavesEarlierValuesAlone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		d := keystore.NewDKEK(5)
		var history []keystore.Domain
		var texts []string
		for range 5 {
			history = append(history, d)
			b, err := d.MarshalJSON()
			require.NoError(t, err)
			texts = append(texts, string(b))
			d, err = d.Import(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(rt, "share"))
			require.NoError(t, err)
		}
		for i, h := range history {
			b, err := h.MarshalJSON()
			require.NoError(t, err)
			require.Equal(t, texts[i], string(b))
		}
	})
}

func TestDKEK_Refusals(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 31, 33} {
		d := keystore.NewDKEK(1)
		after, err := d.Import(make([]byte, n))
		require.ErrorIs(t, err, keystore.ErrLength)
		require.Equal(t, d, after)
	}
	for _, n := range []int{0, -1, 256} {
		d := keystore.NewDKEK(n)
		require.Equal(t, 0, d.Total())
		require.False(t, d.Ready())
		_, err := d.Import(share(1))
		require.ErrorIs(t, err, keystore.ErrComplete)
	}
	_, err := keystore.Domain{}.Import(share(1))
	require.ErrorIs(t, err, keystore.ErrDomain)
	_, err = keystore.NewXKEK([]byte{1}).Import(share(1))
	require.ErrorIs(t, err, keystore.ErrDomain)
	for _, d := range []keystore.Domain{{}, keystore.NewDKEK(1)} {
		_, err = d.Agree(share(1))
		require.ErrorIs(t, err, keystore.ErrDomain)
		require.Nil(t, d.UID())
		require.False(t, d.XKEK())
	}
}

// DOM-6: one share, none outstanding, a check value.
func TestDKEK_Random(t *testing.T) {
	t.Parallel()
	d, err := keystore.RandomDKEK(bytes.NewReader(share(9)))
	require.NoError(t, err)
	require.Equal(t, []int{1, 0}, []int{d.Total(), d.Outstanding()})
	require.True(t, d.Ready())
	require.Equal(t, domainOf(t, share(9)), d)
	require.Equal(t, 1, d.Cleared(false).Outstanding())
}

// XKEK-12: KEK = SHA-256(K || UID).
func TestXKEK_AgreedKey(t *testing.T) {
	t.Parallel()
	uid := bytes.Repeat([]byte{5}, 64)
	d := keystore.NewXKEK(uid)
	require.True(t, d.XKEK())
	require.Equal(t, uid, d.UID())
	require.Equal(t, []int{0, 0}, []int{d.Total(), d.Outstanding()})
	require.Equal(t, [8]byte{}, d.KCV())
	uid[0] = 0
	require.Equal(t, byte(5), d.UID()[0], "the domain has its own copy")
	d.UID()[0] = 0
	require.Equal(t, byte(5), d.UID()[0])

	agreed, err := d.Agree(share(7))
	require.NoError(t, err)
	require.True(t, agreed.Ready())
	require.False(t, d.Ready())
	key := sha256.Sum256(append(share(7), d.UID()...))
	kcv, want := agreed.KCV(), sha256.Sum256(key[:])
	require.Equal(t, want[:8], kcv[:])

	// Both sides of an agreement exchange keys; a domain of shares with the
	// same key is no different.
	k := ecKey(t, "brainpoolP256r1")
	blob, err := agreed.Wrap(seeded(1), k)
	require.NoError(t, err)
	back, err := domainOf(t, key[:]).Unwrap(blob)
	require.NoError(t, err)
	require.True(t, k.SamePublic(back))

	again, err := agreed.Agree(share(8))
	require.NoError(t, err)
	require.NotEqual(t, agreed.KCV(), again.KCV(), "the next agreement replaces the key")
	require.Equal(t, d, agreed.Cleared(true))
	_, err = d.Agree(nil)
	require.ErrorIs(t, err, keystore.ErrLength)
}

func TestDomain_Zero(t *testing.T) {
	t.Parallel()
	require.True(t, keystore.Domain{}.IsZero())
	require.False(t, keystore.NewDKEK(0).IsZero())
	require.False(t, keystore.NewXKEK(nil).IsZero())
	require.False(t, keystore.Domain{}.Ready())
	require.NotNil(t, keystore.NewXKEK(nil).UID())
}
