//go:build linux

package control_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/control"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/view"
)

func TestStatus_OfACard(t *testing.T) {
	t.Parallel()
	d := newFolder(t)
	s, err := control.Status(soon(t), d, "alice")
	require.ErrorIs(t, err, control.ErrNobody)
	require.Equal(t, "alice", *s.Cards[0].Card)
	require.False(t, s.Cards[0].Answers)

	_, end := run(t, d)
	defer end()
	s, err = control.Status(soon(t), d, "alice")
	require.NoError(t, err)
	require.True(t, s.Cards[0].Answers)
	require.NotNil(t, s.Cards[0].Serial)
	require.Equal(t, "Shelf 3", *s.Cards[0].Reader)
	require.Equal(t, "on the shelf", *s.Place)

	require.NoError(t, control.Ask(soon(t), d, "eject", "alice", func(c *control.Client) error { return c.Eject(soon(t), false) }))
	s, err = control.Status(soon(t), d, "alice")
	require.ErrorIs(t, err, control.ErrEjected)
	require.EqualError(t, err, `show card "alice": the card is out of its reader`)
	require.False(t, s.Cards[0].Answers)
	require.Equal(t, "on the shelf", *s.Place, "whoever runs it is told all the same")

	_, err = control.Status(soon(t), d, "bob")
	require.ErrorIs(t, err, statedir.ErrNoCard)
}

func TestStatusAt_WantsACardInEveryReader(t *testing.T) {
	t.Parallel()
	_, socket := newPrivate(t, "alice", "bob")
	s, err := control.StatusAt(soon(t), socket)
	require.NoError(t, err)
	require.Len(t, s.Cards, 2)
	require.True(t, s.Cards[0].Answers && s.Cards[1].Answers)

	c, err := control.Dial(soon(t), filepath.Join(filepath.Dir(socket), "bob.sock"))
	require.NoError(t, err)
	require.NoError(t, c.Eject(soon(t), false))
	require.NoError(t, c.Close())
	s, err = control.StatusAt(soon(t), socket)
	require.ErrorIs(t, err, control.ErrUnserved)
	require.EqualError(t, err, socket+": no card answers in reader "+*s.Cards[1].Reader)
	require.True(t, s.Cards[0].Answers)
	require.False(t, s.Cards[1].Answers)

	_, none := newPrivate(t)
	_, err = control.StatusAt(soon(t), none)
	require.EqualError(t, err, none+": no card answers: there is no reader")
}

func TestAnswering_LooksUntilItDoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, looksUntilItAnswers)
}

func looksUntilItAnswers(t *testing.T) {
	errNotYet := errors.New("not yet")
	looks := 0
	after := func(n int) func(context.Context) (view.Status, error) {
		looks = 0
		return func(ctx context.Context) (view.Status, error) {
			_, limited := ctx.Deadline()
			require.True(t, limited)
			if looks++; looks <= n {
				return view.Status{}, errNotYet
			}
			return view.Status{}, nil
		}
	}
	_, err := control.Answering(t.Context(), 0, after(1))
	require.ErrorIs(t, err, errNotYet)
	require.Equal(t, 1, looks, "without a wait it looks once")
	for range 8 {
		slow := after(1)
		_, err := control.Answering(t.Context(), 0, func(ctx context.Context) (view.Status, error) {
			<-time.After(60 * time.Millisecond) // longer than the pause
			return slow(ctx)
		})
		require.ErrorIs(t, err, errNotYet, "also where a look takes long")
	}
	s, err := control.Answering(t.Context(), patience, after(2))
	require.NoError(t, err)
	require.True(t, s.Answers)
	require.Equal(t, 3, looks)
	_, err = control.Answering(t.Context(), 150*time.Millisecond, after(1<<30))
	require.ErrorIs(t, err, errNotYet, "the last error is the answer, not that of the context")
	require.Greater(t, looks, 1)
}
