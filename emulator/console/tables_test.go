package console

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/view"
)

// Whatever a byte, an explanation or a chapter refers to is there.
func TestRules_EveryReferenceLeadsSomewhere(t *testing.T) {
	r, err := readRules()
	require.NoError(t, err)
	require.Greater(t, len(r.of), 400)
	for _, x := range explanations {
		require.NotEmpty(t, r.link(x.Rule), "%s: %s", x.Title, x.Rule)
	}
	for ins := range 256 {
		for _, rest := range []string{"0000", "008104AABBCCDD", "0081047F000100", "04000411223344", "0000048002000100"} {
			for _, sw := range []string{"9000", "63C2", "6983", "6A80", "6A88", "6985", "FFFF"} {
				command := unhex(t, fmt.Sprintf("00%02X%s", ins, rest))
				e := view.Coming(command)
				e.SW = &sw
				for _, p := range append(view.Parts(command, e, false), view.AnswerParts(unhex(t, "01020304"+sw), e, false)...) {
					require.True(t, p.Rule == "" || r.link(p.Rule) != "", "%X: %+v", command, p)
				}
			}
		}
	}
	for page, text := range r.pages {
		for _, part := range strings.Split(string(text), `href="/rules/`)[1:] {
			to, _, _ := strings.Cut(part, `"`)
			name, place, _ := strings.Cut(to, "#")
			of, is := r.pages[name]
			require.True(t, is, "%s leads to %s", page, to)
			if statement.MatchString(place) {
				require.Contains(t, string(of), `id="`+place+`"`)
			}
		}
		require.NotContains(t, string(text), "<script")
	}
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	var b []byte
	_, err := fmt.Sscanf(text, "%X", &b)
	require.NoError(t, err)
	return b
}

// The first explanation that fits is taken, so each has to be the first for something.
func TestExplain_EachIsTheFirstForSomething(t *testing.T) {
	for i, x := range explanations {
		var e view.Event
		e.Kind = view.Command
		header, sw := strings.ReplaceAll(x.header, "X", "1"), strings.ReplaceAll(x.sw, "X", "1")
		e.Header, e.SW = &header, &sw
		if got := explain(e); i < len(explanations)-5 {
			require.Equal(t, x.Title, got.Title, "%s %s", header, sw)
		} else {
			require.NotNil(t, got)
		}
		e.Query = true
		require.Nil(t, explain(e), "a question is no failure")
	}
	require.Nil(t, explain(view.Event{Kind: view.Reset}))
}

func TestQuestion_HasOneForEverything(t *testing.T) {
	require.Contains(t, question(view.Coming([]byte{0, 0x20, 0, 0x81, 1, 1})), "user PIN")
	require.NotEmpty(t, question(view.Coming([]byte{1})))
}

// Every state that a card can be in is drawn, and something can happen in it.
func TestCycle_EveryState(t *testing.T) {
	for _, s := range []view.State{view.Uninitialised, view.Operational, view.TransportPIN, view.TransportPINBlocked, view.UserPINBlocked, view.PublicKeysOnly} {
		c := cycleOf(view.Card{State: &s})
		lit := 0
		for _, n := range c.Nodes {
			if n.Lit {
				lit++
			}
		}
		require.Equal(t, 1, lit, s)
		require.NotEmpty(t, c.Next, s)
		blocked := cycleOf(view.Card{State: &s, SOPIN: &view.PIN{State: view.PINBlocked}})
		for _, n := range blocked.Next {
			require.False(t, needsSOPIN(n.Event), n.Event)
		}
	}
	require.Empty(t, cycleOf(view.Card{}).Next)
}

// The cookie of one console is not that of another on the same machine.
func TestCookie_HasThePort(t *testing.T) {
	r := httptest.NewRequest("GET", "http://127.0.0.1:4711/", nil)
	require.Equal(t, "hsmemu-console-4711", cookie(r))
}
