package conform_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/emulator/conform"
)

// The emulated card keeps every rule that applies to its firmware, and every rule is
// judged on one.
func TestRules_HoldOnEveryFirmware(t *testing.T) {
	t.Parallel()
	l := library(t)
	judged := map[string]bool{}
	for _, p := range applet.Profiles() {
		r, err := conform.Judge(t.Context(), l, shipped(t, p.Name), options())
		require.NoError(t, err)
		for _, one := range r.Results {
			if one.Verdict == conform.NotJudged && (strings.HasPrefix(one.Why, "does not apply: ") || strings.HasPrefix(one.Why, "withdrawn: ")) {
				continue
			}
			judged[one.ID] = true
			if one.Verdict != conform.Held {
				t.Errorf("%s:%d: %s (%s) on %s: %s, %s", one.File, one.Line, one.ID, one.Says, p.Name, one.Verdict, one.Why)
			}
		}
	}
	for _, r := range l.Rules {
		require.True(t, judged[r.ID] || r.Withdrawn != "", "%s:%d: rule %s applies to no new card", r.File, r.Line, r.ID)
	}
}

// A rule that costs a try does not take the last one of somebody's card.
func TestRules_LeaveTheLastTry(t *testing.T) {
	t.Parallel()
	card, err := shipped(t, "4.1").Make()
	require.NoError(t, err)
	p := conform.NewPlayer(nil)
	p.Hosts["A"] = &conform.Host{Card: card}
	require.NoError(t, p.Play(t.Context(), parse(t, `card A
		select
		80 50 00 00 Lc(80(0001) 81("648219") 82(3537363231383830) 91(01))`)))
	o := options()
	o.Destructive, o.Confirm, o.Only = true, yes, regexp.MustCompile("^PIN-R7$")
	r, err := conform.Judge(t.Context(), library(t), conform.Target{Name: "a card", Card: card}, o)
	require.NoError(t, err)
	require.Equal(t, conform.Counter{Known: true, Left: 1}, r.After.UserPIN)
	require.Equal(t, 0, r.Counts[conform.Held])
}

var moveOfRule = regexp.MustCompile(`^docs/protocol/pins\.md: life cycle, move (\d+)$`)

// Each move of the life cycle (PIN-74) has a rule that names it.
func TestRules_CoverTheLifeCycle(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	for _, r := range library(t).Rules {
		for _, link := range r.Links {
			if m := moveOfRule.FindStringSubmatch(link); m != nil {
				n, err := strconv.Atoi(m[1])
				require.NoError(t, err)
				seen[n] = true
			}
		}
	}
	for n := 1; n <= 35; n++ {
		require.True(t, seen[n], "no rule names move %d", n)
	}
	require.Len(t, seen, 35)
}
