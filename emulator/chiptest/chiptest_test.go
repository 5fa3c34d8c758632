package chiptest_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/conform"
	"hsmemu/vsmartcard"
)

const session = `card A 4.1
00 A4 04 0C Lc(E82B0601040181C31F0201)
> 80 50 00 00 Lc(80(0001) 81("648219") 82(3537363231383830) 91(03) 92(01))
< 9000
= INITIALIZE DEVICE SO-PIN → 9000, done
! user PIN 0 → 3, user PIN tries 0 → 3, user PIN replaced, SO-PIN 0 → 15, SO-PIN replaced, options none → reset with SO-PIN, slots for key domains 0 → 1, + key domain 0 (DKEK not ready, 1 of 1 shares missing)
~ user
80 52 00 00 Lc(0102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F20) => * !1
00 46 01 00 Lcx(42("UTCA00001") {secp256r1} 5F20("UTKEY00001")) => 9000 !1
> 00 46 02 00 Lcx(42("UTCA00001") {rsa1024} 5F20("UTKEY00001"))
< 9000
= GENERATE ASYMMETRIC KEY PAIR key 2, RSA-1024 → 9000, done
! + EF CE02 (410 bytes), + key 2 (RSA 1024)
00 48 03 B0
holds U=3/3 S=15 user`

func play(t *testing.T) *chiptest.Card {
	t.Helper()
	script, err := conform.Parse(session)
	require.NoError(t, err)
	p := conform.NewPlayer(func(name, firmware string) (vsmartcard.Card, error) { return chiptest.Manufacture(firmware, name) })
	require.NoError(t, p.Play(t.Context(), script))
	return p.Current.Card.(*chiptest.Card)
}

// What a card keeps to itself, by the names of its parts: no kind may be missing,
// or the tests that look for secrets look for nothing.
func TestSecrets(t *testing.T) {
	t.Parallel()
	c := play(t)
	parts := map[string]int{}
	whole := map[string]bool{}
	require.NoError(t, chiptest.Secrets(c.State.Durable(), func(part string, secret []byte) {
		parts[part]++
		whole[string(secret)] = true
	}))
	require.Equal(t, []string{"d", "kek", "key", "p", "q", "qInverse", "value"}, slices.Sorted(maps.Keys(parts)))
	require.Equal(t, 2, parts["value"], "PIN and SO-PIN")
	require.True(t, whole["648219"])
	require.True(t, whole["\x57\x62\x18\x80"] || whole["57621880"])
	d := c.Durable()
	require.True(t, whole[string(d.Device.Key.EC().Bytes())])
	require.True(t, whole[string(d.Keys[1].EC().Bytes())])
}

// The same commands make the same card again, and another name another one.
func TestCard_IsTheSameEveryTime(t *testing.T) {
	t.Parallel()
	one, err := chiptest.Stored(play(t).State.Durable())
	require.NoError(t, err)
	same, err := chiptest.Stored(play(t).State.Durable())
	require.NoError(t, err)
	require.Equal(t, one, same)
	a, err := chiptest.Manufacture("4.1", "A")
	require.NoError(t, err)
	b, err := chiptest.Manufacture("4.1", "B")
	require.NoError(t, err)
	require.NotEqual(t, a.Durable().Device.Name, b.Durable().Device.Name)
	require.NotEqual(t, a.File(0x2F02), b.File(0x2F02))
}
