package docs_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/conform"
)

// anchor is where docs/conformance.md has a rule.
func anchor(id string) string { return strings.ToLower(id) }

func TestDocs_ConformanceListsEveryRule(t *testing.T) {
	library, err := conform.Rules()
	require.NoError(t, err)
	var b strings.Builder
	file := ""
	for _, r := range library.Rules {
		if r.File != file {
			file = r.File
			fmt.Fprintf(&b, "\n### %s\n\n| Rule | What it says | If it is broken | Statements | How it is known | Costs |\n|---|---|---|---|---|---|\n", file)
		}
		says := r.Says
		if r.Withdrawn != "" {
			says = "withdrawn: " + r.Withdrawn
		}
		fmt.Fprintf(&b, "| <a id=\"%s\"></a>%s | %s | %s | %s | %s | %s |\n", anchor(r.ID), r.ID, says, r.Breaks, strings.Join(r.Clauses, ", "), r.Grade(), r.Costs)
	}
	b.WriteString("\n")
	generated(t, "conformance.md", "rules", b.String())
}

// rulesOf are links to the rules that follow from each statement.
func rulesOf(t *testing.T) map[string][]string {
	t.Helper()
	library, err := conform.Rules()
	require.NoError(t, err)
	links := map[string][]string{}
	for _, r := range library.Rules {
		for _, clause := range r.Clauses {
			if r.Withdrawn == "" {
				links[clause] = append(links[clause], fmt.Sprintf("[%s](conformance.md#%s)", r.ID, anchor(r.ID)))
			}
		}
	}
	return links
}

// The table of situations is made from them, and what they follow from is stated.
func TestDocs_ConformanceListsEverySituation(t *testing.T) {
	_, chapters := chapters(t)
	known := map[string]bool{}
	for _, statements := range chapters {
		for _, s := range statements {
			known[s.id] = true
		}
	}
	var b strings.Builder
	b.WriteString("\n| Situation | What it says | Card | Given | Statements |\n|---|---|---|---|---|\n")
	for _, s := range conform.Situations() {
		for _, clause := range s.Clauses {
			require.True(t, known[clause], "%s: %s", s.ID, clause)
		}
		card := "`" + s.Card + "`"
		switch {
		case s.Stranger != "" && s.StrangerLast:
			card += ", and that of somebody else, `" + s.Stranger + "`"
		case s.Stranger != "":
			card = "that of somebody else, `" + s.Stranger + "`, and " + card
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", s.ID, s.Says, card, s.Given(), strings.Join(s.Clauses, ", "))
	}
	b.WriteString("\nWhat stands under Card are words of `hsmemu card new --like`.\n\n")
	generated(t, "conformance.md", "situations", b.String())
}
