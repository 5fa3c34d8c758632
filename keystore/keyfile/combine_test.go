package keyfile_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore"
	"hsmemu/keystore/keyfile"
)

// Share files here hold the share as it is, under the password "right".
func openAtOnce(file, password []byte) ([]byte, error) {
	if string(password) != "right" {
		return nil, keystore.ErrShare
	}
	return bytes.Clone(file), nil
}

func TestCombine(t *testing.T) {
	t.Parallel()
	one, two, right := bytes.Repeat([]byte{1}, keystore.ShareLen), bytes.Repeat([]byte{2}, keystore.ShareLen), []byte("right")
	domain, err := keyfile.Combine(t.Context(), openAtOnce, [][]byte{one, two}, [][]byte{right, right})
	require.NoError(t, err)
	want, err := keystore.NewDKEK(2).Import(one)
	require.NoError(t, err)
	want, err = want.Import(two)
	require.NoError(t, err)
	require.Equal(t, want.KCV(), domain.KCV())
	require.Equal(t, "right", string(right), "the caller's passwords stay")

	_, err = keyfile.Combine(t.Context(), openAtOnce, [][]byte{one, two}, [][]byte{right, []byte("wrong")})
	var its *keyfile.ShareError
	require.ErrorAs(t, err, &its)
	require.Equal(t, 1, its.Place)
	require.ErrorIs(t, err, keystore.ErrShare)
	_, err = keyfile.Combine(t.Context(), openAtOnce, [][]byte{one[1:]}, [][]byte{right})
	require.ErrorIs(t, err, keystore.ErrLength)

	ctx, cancel := context.WithCancelCause(t.Context())
	never, why := make(chan struct{}), errors.New("enough")
	defer close(never)
	_, err = keyfile.Combine(ctx, func([]byte, []byte) ([]byte, error) { cancel(why); <-never; return nil, nil }, [][]byte{one}, [][]byte{right})
	require.ErrorIs(t, err, why)
}

// A share that nobody waits for any more is wiped like those that were combined.
func TestCombine_WipesEachShare(t *testing.T) {
	t.Parallel()
	shares := make(chan []byte, 2)
	failed, late := errors.New("no"), make(chan struct{})
	_, err := keyfile.Combine(t.Context(), func(file, _ []byte) ([]byte, error) {
		if file[0] == 0 {
			return nil, failed
		}
		<-late
		share := bytes.Repeat([]byte{7}, keystore.ShareLen)
		shares <- share
		return share, nil
	}, [][]byte{{1}, {0}, {1}}, [][]byte{nil, nil, nil})
	require.ErrorIs(t, err, failed)
	close(late)
	for range 2 {
		share := <-shares
		require.Eventually(t, func() bool { return bytes.Equal(share, make([]byte, keystore.ShareLen)) }, time.Minute, time.Millisecond)
	}
}

func TestSharePassword(t *testing.T) {
	t.Parallel()
	password, err := keyfile.SharePassword([]byte("Prime : d5:9f:8c:f7:ca:f1:96:33\nShare ID : 3\nShare value : 1d:de:f9:29:62:b5:e0:70\n" +
		"Prime : d5:9f:8c:f7:ca:f1:96:33\nShare ID : 1\nShare value : 99:fe:9c:7f:db:c2:6c:23\n"))
	require.NoError(t, err)
	require.Len(t, password, 8)
	password, err = keyfile.SharePassword([]byte("correct horse\n"))
	require.NoError(t, err)
	require.Nil(t, password)
	_, err = keyfile.SharePassword([]byte("Prime : 04\nShare ID : 3\nShare value : 01\n"))
	require.ErrorIs(t, err, keystore.ErrShare)
}

func TestMaterial_Label(t *testing.T) {
	t.Parallel()
	require.Equal(t, "server.key", keyfile.Material{}.Label("/a/b/server.key.pem"))
	require.Equal(t, "www.example", keyfile.Material{Own: &keyfile.Certificate{Name: "www.example"}}.Label("/a/b/server.pem"))
	require.Equal(t, "server", keyfile.Material{Own: &keyfile.Certificate{}}.Label("/a/b/server.pem"))
}
