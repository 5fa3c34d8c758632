package conform_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/conform"
)

func library(t testing.TB) conform.Library {
	t.Helper()
	l, err := conform.Rules()
	require.NoError(t, err)
	require.NotEmpty(t, l.Rules)
	return l
}

var statement = regexp.MustCompile(`(?m)^\| ([A-Z]+-\d+) \|.*\|([^|]*)\|$`)

// A statement that a rule cites is in docs/protocol, and none of them is known worse
// than the rule says.
func TestRules_CiteStatements(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("..", "..", "docs", "protocol", "*.md"))
	require.NoError(t, err)
	grades := []conform.Grade{conform.Hardware, conform.Client, conform.Inferred, conform.Ours}
	known := map[string]int{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, row := range statement.FindAllStringSubmatch(string(text), -1) {
			known[row[1]] = slices.IndexFunc(grades, func(g conform.Grade) bool { return strings.Contains(row[2], "*"+string(g)) })
		}
	}
	for _, r := range library(t).Rules {
		for _, clause := range r.Clauses {
			require.Contains(t, known, clause, "%s:%d: rule %s", r.File, r.Line, r.ID)
			if r.Withdrawn == "" {
				require.LessOrEqual(t, known[clause], slices.Index(grades, r.Grade()), "%s:%d: rule %s is %s, and %s is not", r.File, r.Line, r.ID, r.Grade(), clause)
			}
		}
	}
}

const heading = "rule X-R1 v1\n says s\n clause PIN-1\n evidence ours\n"

// Whatever is wrong with a rule file is told with its place, all of it at once.
func TestParseRules_Errors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"  says x":                             "f.txt:1: indented lines belong to a rule or a setup, and there is none yet",
		"steps":                                "f.txt:1: neither rule, setup, before, steps nor after",
		"rule x v1":                            "f.txt:1: rule ID vN, the ID in capitals as PIN-R1",
		"rule X-R1":                            "f.txt:1: rule ID vN, the ID in capitals as PIN-R1",
		"rule X-R1 2":                          "f.txt:1: a version is v1, v2, …",
		"rule X-R1 v0":                         "f.txt:1: a version is v1, v2, …",
		heading + "steps\n cut":                "f.txt:1: rule X-R1 has no costs",
		heading + " costs nothing":             "f.txt:1: rule X-R1 has no steps",
		heading + " costs 0 user tries\nsteps": "f.txt:5: tries are 1 to 15",
		heading + " costs 16 SO tries\nsteps":  "f.txt:5: tries are 1 to 15",
		heading + " costs a lot\nsteps":        "f.txt:5: a rule costs nothing, N user tries",
		heading + " costs nothing\n evidence rumour\nsteps":           "f.txt:6: evidence is one of",
		heading + " costs nothing\n clause 12\nsteps":                 "f.txt:6: a statement of docs/protocol is called as PIN-12",
		heading + " costs nothing\n applies moon\nsteps":              "f.txt:6: no condition: there are",
		heading + " costs nothing\n applies firmware 3\nsteps":        "f.txt:6: no condition: there are",
		heading + " costs nothing\n applies option best\nsteps":       "f.txt:6: no condition: there are",
		heading + " costs nothing\n applies state new\nsteps":         "f.txt:6: no condition: there are",
		heading + " costs nothing\n applies curve p\nsteps":           "f.txt:6: no condition: there are",
		heading + " costs nothing\n color red\nsteps":                 "f.txt:6: no word of a rule: there are says",
		heading + " costs nothing\n link\nsteps":                      "f.txt:6: link takes words behind it",
		heading + " costs nothing\n setup gone\nsteps":                "f.txt:1: there is no setup of the name",
		heading + " costs nothing\nsteps\n cut\nsteps":                "f.txt:8: steps stands there already",
		heading + " costs nothing\nsteps\n 00 => 9Z":                  "f.txt:7: column 8: not understood: an answer has",
		heading + " costs nothing\nsteps\n card A":                    "f.txt:7: a rule does not say on which card it is played",
		heading + " costs nothing\nsteps\n 00 => 90 | 91 (differs: )": "f.txt:7: column 13: (differs: WHERE IT WAS SEEN)",
		heading + " costs nothing\nsteps\n 00 => 90 | 91 (differs: x": "f.txt:7: column 13: (differs: WHERE IT WAS SEEN)",
		heading + " costs nothing\nsteps\n 00 => 90 |":                "f.txt:7: column 12: an empty answer beside |",
		heading + " costs nothing\nsteps\n {gone}":                    "f.txt:7: rule X-R1: no variable gone",
		heading + " costs nothing\nsteps\n 00 => {gone} 9000":         "f.txt:7: rule X-R1: no variable gone",
		heading + " costs nothing\nsteps\n 00\n differ a pin":         "f.txt:8: rule X-R1: no variable a",
		heading + " costs nothing\nsteps\n 00\n let pin = 31":         "f.txt:8: rule X-R1: the variable pin is the owner's",
		heading + " costs nothing\nsteps\n 00 => {pin:*} 9000":        "f.txt:7: rule X-R1: the variable pin is the owner's",
		heading + " costs nothing, all data\nsteps\n 00":              "f.txt:5: a rule that costs something does not cost nothing",
		heading + " evidence seen on hardware\nsteps\n 00":            "f.txt:5: what was seen on hardware has an address behind a colon",
		heading + " breaks \x1b[2J\n costs nothing\nsteps\n 00":       "f.txt:5: there is a character that cannot be seen",
		heading + " breaks \u202e\n costs nothing\nsteps\n 00":        "f.txt:5: there is a character that cannot be seen",
		"# nothing\n":                                                    "f.txt:1: there is no rule and no setup",
		heading + " costs nothing\nsteps":                                "f.txt:1: the steps of rule X-R1 judge nothing",
		heading + " costs nothing\nsteps\n # none\n cut":                 "f.txt:1: the steps of rule X-R1 judge nothing",
		heading + " costs nothing\nsteps\n 00 => *":                      "f.txt:1: the steps of rule X-R1 judge nothing",
		heading + " costs nothing\nsteps\n 00 => {a:*}":                  "f.txt:1: the steps of rule X-R1 judge nothing",
		heading + " costs nothing\nsteps\n 00\n holds U=2/3":             "f.txt:8: a rule is judged by answers",
		heading + " costs nothing\nsteps\n > 00\n < 9000\n ! rubbish":    "f.txt:7: a rule is judged by answers",
		heading + " costs nothing\nsteps\n > 00\n < 9000\n = anything":   "f.txt:7: a rule is judged by answers",
		heading + " costs nothing\nsteps\n cut\n" + heading:              "f.txt:8: rule X-R1 stands at f.txt:1 already",
		"setup a\n cut\nsetup a\n":                                       "f.txt:3: a setup of this name stands at f.txt:1 already",
		"setup a\n frob\n" + heading + " costs nothing\n setup a\nsteps": "f.txt:2: column 2: not understood: a command has",
	} {
		_, err := conform.ParseRules("f.txt", text)
		require.ErrorContains(t, err, want, text)
	}
	_, err := conform.ParseRules("f.txt", "rule x v1\nrule y v1\n")
	require.ErrorContains(t, err, "f.txt:1:")
	require.ErrorContains(t, err, "f.txt:2:", "all of it at once")
	_, err = conform.LoadRules(fstest.MapFS{"b.txt": {Data: []byte("what")}}, fstest.MapFS{"a.txt": {Data: []byte("what")}, "c.md": {Data: []byte("what")}})
	require.Equal(t, 2, strings.Count(err.Error(), "neither rule"), "files of all folders")
}

// Folders of one's own have rules in them, which come behind those of the library.
func TestRulesIn(t *testing.T) {
	t.Parallel()
	mine := t.TempDir()
	_, err := conform.RulesIn(mine)
	require.EqualError(t, err, "no files *.txt in "+mine)
	_, err = conform.RulesIn(filepath.Join(mine, "absent"))
	require.EqualError(t, err, "no files *.txt in "+filepath.Join(mine, "absent"))
	require.NoError(t, os.WriteFile(filepath.Join(mine, "own.txt"), []byte(heading+" costs all data\n setup operational\nsteps\n 00 => 6700\n"), 0o600))
	l, err := conform.RulesIn(mine)
	require.NoError(t, err)
	require.Len(t, l.Rules, len(library(t).Rules)+1)
	require.Equal(t, "X-R1", l.Rules[len(l.Rules)-1].ID)
}

// What a rule file says arrives, and its scenarios know in which line they stand.
func TestParseRules(t *testing.T) {
	t.Parallel()
	l, err := conform.LoadRules(
		fstest.MapFS{"one.txt": {Data: []byte("# a setup\nsetup first\n  select\n")}},
		fstest.MapFS{"two.txt": {Data: []byte(`
rule AREA-R2 v3
  says      One
  says      sentence.
  clause    PIN-1, PIN-2
  evidence  inferred
  evidence  seen on hardware: https://example.org/a:b
  applies   firmware >= 2.0, option not reset
  costs     2 user tries, an SO lockout
  breaks    b
  link      l
  setup     first
before
  cut
steps
  # comment
  cut
  select
after
  select
rule AREA-R1 v1
  withdrawn never was so
`)}})
	require.NoError(t, err)
	require.Len(t, l.Rules, 2)
	r := l.Rules[0]
	require.Equal(t, "AREA-R2", r.ID)
	require.Equal(t, 3, r.Version)
	require.Equal(t, "One sentence.", r.Says)
	require.Equal(t, []string{"PIN-1", "PIN-2"}, r.Clauses)
	require.Equal(t, []conform.Evidence{{Grade: conform.Inferred}, {Grade: conform.Hardware, Source: "https://example.org/a:b"}}, r.Evidence)
	require.Equal(t, conform.Hardware, r.Grade(), "the best of them")
	require.False(t, r.Guess())
	require.Equal(t, conform.Costs{UserTries: 2, SOLockout: true}, r.Costs)
	require.Equal(t, "2 user tries, an SO lockout", r.Costs.String())
	require.Equal(t, "never was so", l.Rules[1].Withdrawn)
	require.Len(t, r.Applies, 2)
	for _, c := range []struct {
		s   conform.Statement
		met []bool
	}{
		{conform.Statement{Firmware: "1.2", State: conform.Operational}, []bool{false, true}},
		{conform.Statement{Firmware: "2.0", State: conform.Operational, Options: 1}, []bool{true, false}},
		{conform.Statement{Firmware: "4.1", State: conform.Shipped}, []bool{true, false}},
		{conform.Statement{Firmware: "10.0", State: conform.Operational}, []bool{true, true}},
	} {
		for i, met := range c.met {
			require.Equal(t, met, r.Applies[i].Met(c.s), "%s of %+v", r.Applies[i], c.s)
		}
	}
}

// Reading rules takes time and memory in proportion to their text, which is bounded:
// a folder is somebody's.
func TestLoadRules_Bounds(t *testing.T) {
	t.Parallel()
	line := func(n int) string { return strings.Repeat("x", n) }
	var many, rules strings.Builder
	for i := range 10_001 {
		fmt.Fprintf(&many, "rule X-R%d v1\n", i)
	}
	for i := range 2_000 {
		fmt.Fprintf(&rules, "rule X-R%d v1\n says s\n clause PIN-1\n evidence ours\n costs nothing\n setup s\nsteps\n 00\n", i)
	}
	for want, text := range map[string]string{
		"f.txt:1: a file of rules has at most 1048576 bytes":          line(1<<20) + "\n",
		"f.txt:2: a line has at most 8192 bytes":                      "setup a\n " + line(1<<13),
		"f.txt:10001: a library has at most 10000 rules":              many.String(),
		"f.txt:1: the rules have more than 200000 lines to be played": rules.String() + "setup s\n" + strings.Repeat(" cut\n", 1000),
	} {
		_, err := conform.LoadRules(fstest.MapFS{"f.txt": {Data: []byte(text)}})
		require.ErrorContains(t, err, want)
	}
	_, err := conform.LoadRules(fstest.MapFS{"f.txt": {Data: []byte(strings.Repeat("x\n", 300_000))}})
	require.Len(t, strings.Split(err.Error(), "\n"), 100)

	l, err := conform.LoadRules(fstest.MapFS{"f.txt": {Data: []byte(strings.ReplaceAll(rules.String(), " setup s\n", ""))}})
	require.NoError(t, err)
	require.Equal(t, " 00", l.Rules[1999].Steps.String(), "the lines before a section are not kept with it")
	_, err = conform.ParseExpectations("known", many.String())
	require.ErrorContains(t, err, "known:10001: at most 10000 lines")
}
