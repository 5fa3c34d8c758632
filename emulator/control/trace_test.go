//go:build linux

package control_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/control"
	"hsmemu/emulator/view"
)

// full is a disk without room.
type full struct{ err error }

func (f full) Write([]byte) (int, error) { return 0, f.err }

// A trace has everything that had happened at its end, and a card that is traced to a
// full disk goes on.
func TestTrace(t *testing.T) {
	t.Parallel()
	p, path := newPrivate(t, "alice", "bob")
	var out bytes.Buffer
	end := control.Trace(&out, view.Lines, p.Cards...)
	noRoom := errors.New("no room")
	endFull := control.Trace(full{noRoom}, view.Lines, p.Cards[0])
	query(t, takeUp(t, path, "alice"))
	query(t, takeUp(t, path, "bob"))
	require.NoError(t, end())
	require.Equal(t, 2, strings.Count(out.String(), "00200081"), out.String())
	require.Contains(t, out.String(), "alice  ")
	require.Contains(t, out.String(), "bob  ")
	query(t, takeUp(t, path, "alice"))
	require.ErrorIs(t, endFull(), noRoom)
}

// calls counts the calls of a writer.
type calls struct {
	n int
	bytes.Buffer
}

func (c *calls) Write(p []byte) (int, error) { c.n++; return c.Buffer.Write(p) }

// What comes at once is written at once, and a failed write is told by a later one.
func TestGather(t *testing.T) {
	t.Parallel()
	out := &calls{}
	g := control.Gather(out)
	for range 100 {
		_, err := io.WriteString(g, "event\n")
		require.NoError(t, err)
	}
	require.NoError(t, g.Flush())
	require.Equal(t, strings.Repeat("event\n", 100), out.String())
	require.Less(t, out.n, 50)

	noRoom := errors.New("no room")
	g = control.Gather(full{noRoom})
	require.Eventually(t, func() bool {
		_, err := io.WriteString(g, "event\n")
		return errors.Is(err, noRoom)
	}, patience, 10*time.Millisecond)
}
