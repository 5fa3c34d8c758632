package view_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/view"
)

// capture is a file that fails where it is told.
type capture struct {
	bytes.Buffer
	failed error
	closed int
}

func (c *capture) Write(b []byte) (int, error) {
	if c.failed != nil {
		return 0, c.failed
	}
	return c.Buffer.Write(b)
}

func (c *capture) Close() error { c.closed++; return nil }

// What is written in each form, with the names of cards where there are several.
func TestWriter(t *testing.T) {
	t.Parallel()
	pin := did("00200081", "VERIFY", "user PIN", "63C2", "wrong")
	read := did("00B1CE01", "READ BINARY", "EF CE01", "9000", "done")
	var out bytes.Buffer
	for _, c := range []struct {
		writer view.Writer
		want   []string
	}{
		{view.Lines(&out), []string{"alice  " + pin.Line() + "\n", read.Line() + "\n"}},
		{view.Objects(&out), []string{`{`, `"VERIFY"`, "}\n{", `"READ BINARY"`}},
		{view.Drawn(&out, view.Drawing{}), []string{"── alice\n", "VERIFY", "1 read\n"}},
		{view.Chosen(nil, view.Lines(&out)), []string{"VERIFY", "READ BINARY"}},
	} {
		out.Reset()
		require.NoError(t, c.writer.Event("alice", pin))
		require.NoError(t, c.writer.Event("", read))
		require.NoError(t, c.writer.End())
		rest := out.String()
		for _, part := range c.want {
			_, after, found := strings.Cut(rest, part)
			require.True(t, found, "%q in %q", part, rest)
			rest = after
		}
	}
	out.Reset()
	only := view.Chosen([]string{"file"}, view.Lines(&out))
	require.NoError(t, only.Event("", pin))
	require.NoError(t, only.Event("", read))
	require.Equal(t, read.Line()+"\n", out.String())
}

// A capture has every packet behind its start; where it cannot be written, that is
// said, and events are shown all the same.
func TestCaptured(t *testing.T) {
	t.Parallel()
	e := did("00200081", "VERIFY", "user PIN", "63C2", "wrong")
	var out bytes.Buffer
	file := &capture{}
	w := view.Captured(file, view.Lines(&out))
	require.NoError(t, w.Event("", e))
	require.NoError(t, w.End())
	require.Equal(t, append(view.CaptureStart(), e.Packet()...), file.Bytes())
	require.Equal(t, 1, file.closed)
	require.Equal(t, e.Line()+"\n", out.String())

	full := errors.New("full")
	out.Reset()
	file = &capture{failed: full}
	w = view.Captured(file, view.Lines(&out))
	require.ErrorIs(t, w.Event("", e), full)
	require.NoError(t, w.Event("", e), "it is told once")
	require.NoError(t, w.End())
	require.Equal(t, 1, file.closed)
	require.Equal(t, e.Line()+"\n"+e.Line()+"\n", out.String())

	file = &capture{failed: full}
	require.ErrorIs(t, view.Captured(file, view.Lines(&out)).End(), full, "without an event, too")
	require.Equal(t, 1, file.closed)
}
