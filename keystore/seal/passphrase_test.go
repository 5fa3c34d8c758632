package seal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hsmemu/keystore/seal"
)

// cheap are costs that make no one wait and protect nothing.
func cheap(word string) seal.Passphrase {
	return seal.Passphrase{
		Ask:  func() ([]byte, error) { return []byte(word), nil },
		Time: 1, Memory: 64, Threads: 1,
	}
}

var root = []byte("0123456789abcdef0123456789ABCDEF")

func TestInsecure_KeepsNothing(t *testing.T) {
	t.Parallel()
	var s seal.Sealer = seal.Insecure{}
	p, err := s.Seal(root, 7)
	require.NoError(t, err)
	require.Empty(t, p)
	got, err := s.Unseal(p)
	require.NoError(t, err)
	require.Nil(t, got)
	require.Equal(t, "none", s.Kind())
}

func TestPassphrase_GivesTheKeyBack(t *testing.T) {
	t.Parallel()
	s := cheap("correct horse")
	require.Equal(t, "passphrase", s.Kind())
	p, err := s.Seal(root, 7)
	require.NoError(t, err)
	require.NotContains(t, string(p), "horse")
	require.True(t, json.Valid(p))
	got, err := s.Unseal(p)
	require.NoError(t, err)
	require.Equal(t, root, got)

	again, err := s.Seal(root, 7)
	require.NoError(t, err)
	require.NotEqual(t, p, again, "the salt is new each time")

	for _, word := range []string{"correct hors", "Correct horse", "correct horse ", ""} {
		_, err = cheap(word).Unseal(p)
		require.ErrorIs(t, err, seal.ErrPassphrase, word)
	}
}

func TestPassphrase_CostsComeFromTheParameters(t *testing.T) {
	t.Parallel()
	p, err := cheap("x").Seal(root, 0)
	require.NoError(t, err)
	other := cheap("x")
	other.Time, other.Memory = 2, 128
	got, err := other.Unseal(p)
	require.NoError(t, err)
	require.Equal(t, root, got)

	p, err = seal.Passphrase{Ask: other.Ask}.Seal(root, 0)
	require.NoError(t, err)
	var says struct {
		KDF                   string
		Time, Memory, Threads int
	}
	require.NoError(t, json.Unmarshal(p, &says))
	require.Equal(t, "argon2id", says.KDF)
	require.Equal(t, 3, says.Time)
	require.Equal(t, 65536, says.Memory, "64 MiB")
	require.Equal(t, 4, says.Threads)
	got, err = cheap("x").Unseal(p)
	require.NoError(t, err)
	require.Equal(t, root, got)
}

func TestPassphrase_WipesWhatItWasGiven(t *testing.T) {
	t.Parallel()
	var given [][]byte
	s := cheap("")
	s.Ask = func() ([]byte, error) {
		given = append(given, []byte("secret"))
		return given[len(given)-1], nil
	}
	p, err := s.Seal(root, 0)
	require.NoError(t, err)
	_, err = s.Unseal(p)
	require.NoError(t, err)
	failed := errors.New("no terminal")
	s.Ask = func() ([]byte, error) {
		given = append(given, []byte("secret"))
		return given[len(given)-1], failed
	}
	_, err = s.Unseal(p)
	require.ErrorIs(t, err, failed)
	require.NotContains(t, err.Error(), "secret")
	require.Len(t, given, 3)
	for _, g := range given {
		require.Equal(t, make([]byte, len("secret")), g)
	}
	require.Equal(t, []byte("0123456789abcdef0123456789ABCDEF"), root, "the root key is the caller's to wipe")
}

func TestPassphrase_Refuses(t *testing.T) {
	t.Parallel()
	_, err := cheap("").Seal(root, 0)
	require.ErrorIs(t, err, seal.ErrEmpty)
	_, err = cheap("x").Seal(root[1:], 0)
	require.ErrorIs(t, err, seal.ErrRoot)
	_, err = seal.Passphrase{}.Seal(root, 0)
	require.Error(t, err, "nobody to ask")
	s := cheap("x")
	s.Rand = bytes.NewReader(make([]byte, 15))
	_, err = s.Seal(root, 0)
	require.Error(t, err, "no salt")
	s = cheap("x")
	s.Memory = 1 << 21
	_, err = s.Seal(root, 0)
	require.ErrorIs(t, err, seal.ErrParameters, "what could not be opened is not made")
}

// A file may come from anyone; its parameters are read before anything vouches
// for them.
func TestPassphrase_HostileParameters(t *testing.T) {
	t.Parallel()
	p, err := cheap("x").Seal(root, 0)
	require.NoError(t, err)
	good := string(p)
	for name, bad := range map[string]string{
		"empty":        "",
		"null":         "null",
		"no JSON":      "{",
		"extra field":  strings.Replace(good, `{`, `{"more":1,`, 1),
		"much memory":  strings.Replace(good, `"memory":64`, `"memory":4294967295`, 1),
		"little":       strings.Replace(good, `"memory":64`, `"memory":7`, 1),
		"much time":    strings.Replace(good, `"time":1`, `"time":4294967295`, 1),
		"no time":      strings.Replace(good, `"time":1`, `"time":0`, 1),
		"no threads":   strings.Replace(good, `"threads":1`, `"threads":0`, 1),
		"many threads": strings.Replace(good, `"threads":1`, `"threads":256`, 1),
		"other KDF":    strings.Replace(good, `argon2id`, `argon2d`, 1),
		"no salt":      `{"kdf":"argon2id","time":1,"memory":64,"threads":1,"salt":"","key":""}`,
	} {
		require.NotEqual(t, good, bad, name)
		s := cheap("x")
		s.Ask = func() ([]byte, error) { t.Errorf("%s: asked", name); return nil, nil }
		_, err := s.Unseal([]byte(bad))
		require.ErrorIs(t, err, seal.ErrParameters, name)
	}
}

func TestPassphrase_NoChangeOfParametersPasses(t *testing.T) {
	t.Parallel()
	p, err := cheap("x").Seal(root, 0)
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		q := bytes.Clone(p)
		at := rapid.IntRange(0, len(q)-1).Draw(t, "at")
		q[at] ^= rapid.ByteRange(1, 255).Draw(t, "bits")
		got, err := cheap("x").Unseal(q)
		if err == nil {
			// The same parameters written differently: the letter case of a name,
			// the spare bits of Base64.
			require.Equal(t, root, got)
			return
		}
		require.True(t, errors.Is(err, seal.ErrPassphrase) || errors.Is(err, seal.ErrParameters), "%v", err)
	})
}

func BenchmarkPassphrase_Unseal(b *testing.B) {
	s := seal.Passphrase{Ask: func() ([]byte, error) { return []byte("correct horse"), nil }}
	p, err := s.Seal(root, 0)
	require.NoError(b, err)
	for b.Loop() {
		_, err = s.Unseal(p)
		require.NoError(b, err)
	}
}

func TestFirst(t *testing.T) {
	all := []seal.Sealer{seal.Insecure{}, seal.Passphrase{}, seal.TPM{}}
	kinds := func() (list []string) {
		for _, one := range all {
			list = append(list, one.Kind())
		}
		return list
	}
	require.True(t, seal.First(seal.KindTPM, all))
	require.Equal(t, []string{seal.KindTPM, seal.KindPassphrase, seal.KindNone}, kinds())
	require.False(t, seal.First("wax", all))
	require.Len(t, kinds(), 3)
}
