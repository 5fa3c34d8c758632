//go:build linux

package control_test

import (
	"errors"
	"iter"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator"
	"hsmemu/emulator/control"
	"hsmemu/emulator/view"
)

// talk begins a dialogue with a card as shipped; what it is told is in the list.
func talk(t *testing.T, expect ...string) (*control.Dialogue, *[]view.Exchange) {
	t.Helper()
	s, err := control.Open(soon(t), newFolder(t), "alice", emulator.System())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	expected, err := view.ParseExpectations(expect)
	require.NoError(t, err)
	told := &[]view.Exchange{}
	return &control.Dialogue{Session: s, Expect: expected, Tell: func(e view.Exchange) error {
		*told = append(*told, e)
		return nil
	}}, told
}

// The patterns are for the commands in their order, and the last one for those that
// follow. The first answer that is another is told, and ends it.
func TestDialogue_IsJudged(t *testing.T) {
	t.Parallel()
	const status, challenge = "00 20 00 81", "00:84:00:00:08"
	d, told := talk(t, "6A88", "9000")
	require.NoError(t, d.Select(soon(t)))
	require.NoError(t, d.Say(soon(t), status))
	require.EqualError(t, d.End(), "2 answers expected, and only 1 command")
	for range 2 {
		require.NoError(t, d.Say(soon(t), challenge))
	}
	require.NoError(t, d.End())
	err := d.Say(soon(t), status)
	var other *control.UnexpectedError
	require.ErrorAs(t, err, &other)
	require.Equal(t, control.UnexpectedError{Command: 4, Answer: []byte{0x6A, 0x88}, Want: "9000"}, *other)
	require.EqualError(t, err, "command 4: 6A88, not 9000 as expected")
	require.Len(t, *told, 5)
	require.Equal(t, "9000", *(*told)[0].Expected, "the selection")
	require.Equal(t, "6A88", *(*told)[4].SW)
	require.NotNil(t, (*told)[4].Event)
}

// The application has to be there, whatever is expected of commands.
func TestDialogue_Select(t *testing.T) {
	t.Parallel()
	d, told := talk(t, "6XXX")
	require.NoError(t, d.Say(soon(t), "00A4000C023F01"), "there is no such file")
	*told = nil
	require.NoError(t, d.Select(soon(t)))
	require.Equal(t, "9000", *(*told)[0].Expected)
	require.EqualError(t, &control.UnexpectedError{Answer: []byte{0x6A, 0x82}, Want: "9000"}, "select the application: 6A82")
}

// lines are those of a text, and then an error.
func lines(text string, failed error) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for l := range strings.Lines(text) {
			if !yield(strings.TrimSuffix(l, "\n"), nil) {
				return
			}
		}
		if failed != nil {
			yield("", failed)
		}
	}
}

// Each line is a command but for blank ones and remarks, which count as lines.
func TestDialogue_SayAll(t *testing.T) {
	t.Parallel()
	d, told := talk(t)
	require.NoError(t, d.SayAll(soon(t), lines("# a remark\n\n  00200081 \n\t# another\n0084000008\n", nil)))
	require.Len(t, *told, 2)
	require.Equal(t, "00200081", (*told)[0].Command)
	require.EqualError(t, d.SayAll(soon(t), lines("00200081\n\nplease\n00200081", nil)), "line 3: not a command: 'p' is no hexadecimal digit")
	require.Len(t, *told, 3)
	require.EqualError(t, d.SayAll(soon(t), lines("", errors.New("a torn line"))), "read commands: a torn line")
	d.Expect = view.Expectations{"9000"}
	err := d.SayAll(soon(t), lines("\n00200081", nil))
	require.EqualError(t, err, "line 2: command 4: 6D00, not 9000 as expected")
	require.ErrorAs(t, err, new(*control.UnexpectedError))
}
