package console

import (
	"fmt"
	"net/http/httptest"
	"slices"
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
				e := view.Coming(command, false)
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

// What is said of a failure is about that failure: what the rules (docs/protocol) have as the
// cause of its status word.
func TestExplain_IsAboutTheFailure(t *testing.T) {
	for _, c := range []struct{ command, sw, title, rule string }{
		{"0020008106303030303030", "63C2", "Wrong user PIN", "PIN-39"},
		{"002400810C303030303030313131313131", "63C1", "Wrong present PIN in a change", "PIN-50"},
		{"002400810C303030303030313131313131", "6983", "PIN blocked", "PIN-64"},
		{"002400810C303030303030313131313131", "6A80", "The card does not take this new PIN", "PIN-52"},
		{"00240088103030303030303030303132333435363738", "63CE", "Wrong present SO-PIN in a change", "PIN-59"},
		{"00200088083030303030303030", "6983", "SO-PIN blocked", "PIN-64"},
		{"0020008106303030303030", "6A88", "There is no PIN to compare", "PIN-35"},
		{"002C00810E3030303030303030303030303030", "6A88", "There is no PIN to unblock", "PIN-60"},
		{"8074019300", "6A88", "No key domain for this key blob", "DOM-24"},
		{"8074019300", "6400", "The key blob is damaged", "DOM-25"},
		{"8072019200", "6A88", "No such key on the card", "KEY-12"},
		{"8072019200", "6D00", "The card has no DKEK", "DOM-4"},
		{"8052000004AABBCCDD", "6D00", "The card has no DKEK", "DOM-4"},
		{"8072019200", "6A81", "This key may not leave the card", "DOM-18"},
		{"806801730401020304", "6984", "The use counter is at zero", "KEY-10"},
		{"8046000000", "6A88", "No such key domain", "KEY-29"},
		{"008200000401020304", "6300", "The signature of a public key does not fit", "PKA-16"},
		{"00E4000002CC01", "6A86", "The card refused the command", "APDU-39"},
	} {
		e := view.Coming(unhex(t, c.command), false)
		e.SW = &c.sw
		got := explain(e)
		require.NotNil(t, got, "%s %s", c.command, c.sw)
		require.Equal(t, []string{c.title, c.rule}, []string{got.Title, got.Rule}, "%s %s", c.command, c.sw)
	}
	// The card manager shares two instructions with the application.
	for _, c := range []struct{ command, sw string }{{"8050000008AABBCCDDEEFF0011", "6700"}, {"8482030010AABBCCDDEEFF0011AABBCCDDEEFF0011", "6300"}} {
		e := view.Coming(unhex(t, c.command), true)
		e.SW = &c.sw
		require.Equal(t, refused.Title, explain(e).Title, c.command)
	}
	// sc-hsm-tool asks every card for its key domain, after a wrong PIN, too.
	asked := view.Coming(unhex(t, "8052000000"), false)
	none, name := "6D00", "MANAGE KEY DOMAIN (status)" // as the table of commands calls it
	asked.SW, asked.Command = &none, &name
	require.Nil(t, explain(asked))
	for _, sw := range []string{"9000", "6A82"} { // clients look for files that are not there
		e := view.Coming(unhex(t, "00B12F0204540200000400"), false)
		e.SW = &sw
		require.Nil(t, explain(e), sw)
	}
}

// The last wrong PIN is compared as all those before it: what is said of a blocked one holds
// for it, too (PIN-40, PIN-47).
func TestExplain_TheLastTryWasCompared(t *testing.T) {
	for _, x := range explanations {
		if x.sw == "6983" && !strings.HasPrefix(x.header, "XX2C") {
			require.Contains(t, x.Why, "the last one perhaps just now", x.Title)
		}
	}
}

func TestQuestion_HasOneForEverything(t *testing.T) {
	require.Contains(t, question(view.Coming([]byte{0, 0x20, 0, 0x81, 1, 1}, false)), "user PIN")
	require.NotEmpty(t, question(view.Coming([]byte{1}, false)))
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

// Arrows are lit for what may come next, with the cost that the list beside the drawing has.
func TestCycle_ArrowsAreThoseOfTheList(t *testing.T) {
	for _, a := range arrows {
		i := slices.IndexFunc(nexts[a.From], func(n nextEvent) bool { return n.Event == a.Event })
		require.GreaterOrEqual(t, i, 0, "%s: %s", a.From, a.Event)
		costs := nexts[a.From][i].Costs
		switch a.Costs {
		case "costs nothing":
			require.True(t, strings.HasPrefix(costs, "nothing"), costs)
		case "a try each":
			require.True(t, strings.HasPrefix(costs, "a try of"), costs)
		case "costs all keys":
			require.True(t, strings.HasPrefix(costs, "all keys"), costs)
		default:
			t.Fatal(a.Costs)
		}
	}
	lit := func(c view.Card) (all []string) {
		for _, a := range cycleOf(c).Arrows {
			if a.Lit {
				all = append(all, a.Words)
			}
		}
		return all
	}
	operational, blocked := view.Operational, view.UserPINBlocked
	require.Equal(t, []string{"wrong ones", "INITIALIZE"}, lit(view.Card{State: &operational}))
	require.Equal(t, []string{"SO-PIN", "INITIALIZE"}, lit(view.Card{State: &blocked}))
	require.Empty(t, lit(view.Card{State: &blocked, SOPIN: &view.PIN{State: view.PINBlocked}}))
	require.Empty(t, lit(view.Card{}))
	require.False(t, slices.ContainsFunc(arrows, func(a arrow) bool { return a.Lit }), "the table is as it was")
}
