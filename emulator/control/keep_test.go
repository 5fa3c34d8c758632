//go:build linux

package control_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/control"
	"hsmemu/vsmartcard"
)

// Cards are kept until the end or the first failure of one of them, are all told of
// before anything is ready, and are given back once each, whatever happened.
func TestKeeping_Keep(t *testing.T) {
	t.Parallel()
	folder, err := os.MkdirTemp("", "k") //nolint:usetesting // a short path: the name of a socket has 107 characters at most
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(folder)) })
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		start, run error // of bob
		want       error
		started    int
		ready      bool
		late       []string
	}{
		"to the end":      {started: 2, ready: true},
		"one never began": {start: broken, want: broken},
		"one is late":     {started: 2, ready: true, late: []string{"bob"}},
		"one fails":       {run: broken, want: broken, started: 2},
	} {
		t.Run(name, func(t *testing.T) {
			var released atomic.Int32
			var places control.Places
			for _, card := range []string{"alice", "bob"} {
				places = append(places, control.Placement{
					Name: card, Card: newCard(t), Kept: kept{}, Socket: filepath.Join(folder, card+".sock"),
					Release: func() error { released.Add(1); return nil },
				})
			}
			ctx, cancel := context.WithCancel(soon(t))
			defer cancel()
			var started, late []string
			ready := false
			noticed := make(chan struct{})
			if c.late == nil {
				close(noticed)
			}
			k := control.Keeping{
				Start: func(ctx context.Context, i int, place control.Placement) (control.Running, error) {
					if i == 1 && c.start != nil {
						return nil, c.start
					}
					return control.StartRemote(ctx, func(ctx context.Context, _ vsmartcard.Card, connected func()) error {
						if i == 1 && c.run != nil {
							return c.run
						}
						if i == 1 {
							<-noticed
						}
						connected()
						<-ctx.Done()
						return ctx.Err()
					}, "nowhere", func(error) {}, place)
				},
				Started: func(c *control.Card) { started = append(started, c.Name) },
				Ready:   func() { ready = true; cancel() },
			}
			if c.late != nil {
				k.Patience = time.Millisecond
				k.Late = func(c *control.Card) {
					if c.Name == "bob" { // alice may need longer, too
						late = append(late, c.Name)
						close(noticed)
					}
				}
			}
			require.ErrorIs(t, k.Keep(ctx, places), c.want)
			require.Equal(t, []string{"alice", "bob"}[:c.started], append([]string{}, started...))
			require.Equal(t, c.ready, ready)
			require.Equal(t, c.late, late)
			require.EqualValues(t, 2, released.Load())
			_, err := control.Dial(soon(t), filepath.Join(folder, "alice.sock"))
			require.ErrorIs(t, err, control.ErrNobody)
		})
	}
}

// The first card is at the given address, the next one at the next port.
func TestSlots(t *testing.T) {
	list, err := control.Slots("localhost:35963", 2)
	require.NoError(t, err)
	require.Equal(t, []string{"localhost:35963", "localhost:35964"}, list)
	_, err = control.Slots("localhost:65535", 2)
	require.Error(t, err)
}
