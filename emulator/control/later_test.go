//go:build linux

package control_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/control"
	"hsmemu/emulator/statedir"
)

// What is asked later is asked when there is somebody to answer, and waited for only
// where somebody may come.
func TestLater_AsksWhoeverComes(t *testing.T) {
	t.Parallel()
	d := newFolder(t)
	waited := 0
	later := control.Later{Waiting: func() { waited++ }}
	ask := func(card string) func() error {
		return func() error {
			_, err := control.ShowRunning(soon(t), d, card)
			return err
		}
	}
	require.ErrorIs(t, later.Do(soon(t), d, "bob", ask("bob")), statedir.ErrNoCard)
	require.Zero(t, waited)

	ended, end := context.WithCancel(t.Context())
	unmade := control.Later{Unmade: true, Waiting: end}
	require.NoError(t, unmade.Do(ended, d, "bob", ask("bob")))
	require.Error(t, ended.Err(), "it waits for a card that does not exist yet")

	var gone func()
	later.Waiting = func() {
		waited++
		_, gone = run(t, d)
	}
	require.NoError(t, later.Do(soon(t), d, "alice", ask("alice")))
	require.Equal(t, 1, waited)
	require.NoError(t, later.Do(soon(t), d, "alice", ask("alice")))
	require.Equal(t, 1, waited, "nobody waits for what is there")

	// A process that goes away under a question is not the answer.
	asked := 0
	require.NoError(t, later.Do(soon(t), d, "alice", func() error {
		if asked++; asked == 1 {
			gone()
			return control.ErrEnded
		}
		return ask("alice")()
	}))
	require.Equal(t, 2, waited)
	gone()
}
