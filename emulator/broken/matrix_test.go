package broken_test

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/emulator"
	"hsmemu/emulator/broken"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/conform"
	"hsmemu/keystore"
	"hsmemu/vsmartcard"
)

var every = flag.Bool("every", false, "judge each broken card by every rule, and not by those of its statement alone")

// library is every rule.
func library(t testing.TB) conform.Library {
	t.Helper()
	l, err := conform.Rules()
	require.NoError(t, err)
	return l
}

// rule is a rule of a library.
func rule(t testing.TB, l conform.Library, id string) conform.Rule {
	t.Helper()
	i := slices.IndexFunc(l.Rules, func(r conform.Rule) bool { return r.ID == id })
	require.GreaterOrEqual(t, i, 0, "no rule %s", id)
	return l.Rules[i]
}

// judge plays rules on cards of a firmware with a defect, a new one for each: as
// shipped, and what cannot be played there on cards that are in use.
func judge(t testing.TB, l conform.Library, defect, firmware string) []conform.Result {
	t.Helper()
	w := emulator.System()
	w.RSA, w.Clock = keystore.PoolGenerator{Rand: w.Rand}, clock
	var judged []conform.Result
	for _, like := range []*chip.Situation{nil, new(chip.Usual())} {
		d, err := w.Manufacture(chip.Order{Firmware: firmware, Serial: "DENK9900001", Broken: defect, Like: like})
		require.NoError(t, err)
		report, err := conform.Judge(t.Context(), l, conform.Target{Name: "a new card", Make: func() (vsmartcard.Card, error) {
			c, err := emulator.NewTorn(d, w)
			return c, err
		}}, conform.Options{
			Program: "test", Clock: clock, KeepSOTries: 5, Vars: conform.Vars{"pin": []byte("648219"), "so-pin": []byte("57621880")},
		})
		require.NoError(t, err)
		rest := conform.Library{}
		for i, one := range report.Results {
			if one.Verdict == conform.NotJudged && like == nil {
				rest.Rules = append(rest.Rules, l.Rules[i])
			} else {
				judged = append(judged, one)
			}
		}
		l = rest
	}
	return judged
}

// A card that is not broken on purpose keeps every rule that is for its firmware.
func TestMatrix_HealthyCardKeepsEveryRule(t *testing.T) {
	t.Parallel()
	l := library(t)
	for _, p := range applet.Profiles() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			held := 0
			for _, one := range judge(t, l, "", p.Name) {
				switch {
				case one.Verdict == conform.Held:
					held++
				case one.Verdict != conform.NotJudged || !strings.HasPrefix(one.Why, "does not apply: ") && !strings.HasPrefix(one.Why, "withdrawn: "):
					t.Errorf("%s is %s: %s", one.ID, one.Verdict, one.Why)
				}
			}
			require.Greater(t, held, len(l.Rules)/2)
		})
	}
}

// row is a broken card in the matrix.
type row struct {
	defect broken.Defect
	others []string // the rules beside its own that it breaks
}

// Each broken card breaks the rule that its defect names, in its steps and not in
// what prepares them. Others may notice too: one defect has many consequences.
func TestMatrix_EachDefectBreaksItsRule(t *testing.T) {
	t.Parallel()
	l := library(t)
	defects := broken.Defects()
	matrix := make([]row, len(defects))
	t.Run("cards", func(t *testing.T) {
		for i, d := range defects {
			t.Run(d.Name, func(t *testing.T) {
				t.Parallel()
				matrix[i].defect = d
				caught := false
				for _, one := range judge(t, concerned(t, l, d), d.Name, "") {
					switch {
					case one.Verdict != conform.Broken || one.Failures[0].File != one.File:
					case one.ID == d.Rule:
						caught = true
					default:
						matrix[i].others = append(matrix[i].others, one.ID)
					}
				}
				require.True(t, caught, "not noticed by %s; by others: %v", d.Rule, matrix[i].others)
			})
		}
	})
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "card\trule\tothers")
	for _, one := range matrix {
		fmt.Fprintf(table, "%s\t%s\t%s\n", one.defect.Name, one.defect.Rule, strings.Join(one.others, " "))
	}
	require.NoError(t, table.Flush())
	t.Logf("\n%s", &b)
}

// concerned is the rules that a defect is judged by: its own, which has to be about
// the statement that the defect breaks, and the others about that statement.
func concerned(t *testing.T, l conform.Library, d broken.Defect) conform.Library {
	t.Helper()
	require.Contains(t, rule(t, l, d.Rule).Clauses, d.Breaks, "rule %s is about another statement", d.Rule)
	var some conform.Library
	for _, r := range l.Rules {
		if *every || r.ID == d.Rule || slices.Contains(r.Clauses, d.Breaks) {
			some.Rules = append(some.Rules, r)
		}
	}
	return some
}
