package docs_test

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/cvc"
	"hsmemu/keystore"
)

// root is the folder of the module.
var root = ".."

// A statement is a row of docs/protocol: what the card does, and how that is
// known.
type statement struct {
	id, text, evidence string
}

var (
	statementRow = regexp.MustCompile(`(?m)^\| ([A-Z]+-\d+) \| (.+) \| (.+) \|$`)
	evidenceForm = regexp.MustCompile(`^\*(seen on hardware|required by a client|inferred|ours)\*(, not emulated)?(: \[.+|; .+)?$`)
	linkForm     = regexp.MustCompile(`\[([^\]]+)\]\((https?://[^)]+)\)`)
	citation     = regexp.MustCompile(`\b(APDU|FILE|PIN|KEY|DOM|CVC|SM|PKA|XKEK|PCSC|PORTAL|UPDATE)-\d+\b`)
	unpublished  = regexp.MustCompile(`"0[1-8] §|(?i)\bspec 0[1-8]\b`)
	testPlace    = regexp.MustCompile(`^\w+\.(Test|Fuzz|Example)`)
	testFunction = regexp.MustCompile(`^func (\(.*\) )?(\w+)`)
)

// chapters are the files of docs/protocol in the order of its index, and
// statements what stands in each.
func chapters(t *testing.T) (names []string, statements map[string][]statement) {
	t.Helper()
	index, err := os.ReadFile(filepath.Join(root, "docs", "protocol", "README.md"))
	require.NoError(t, err)
	statements = map[string][]statement{}
	for _, m := range regexp.MustCompile(`(?m)^\| \[(\S+\.md)\]\(\S+\) \| [A-Z]+ \|`).FindAllStringSubmatch(string(index), -1) {
		text, err := os.ReadFile(filepath.Join(root, "docs", "protocol", m[1]))
		require.NoError(t, err)
		names = append(names, m[1])
		for _, row := range statementRow.FindAllStringSubmatch(string(text), -1) {
			statements[m[1]] = append(statements[m[1]], statement{row[1], row[2], row[3]})
		}
	}
	files, err := filepath.Glob(filepath.Join(root, "docs", "protocol", "*.md"))
	require.NoError(t, err)
	require.Len(t, names, len(files)-1, "the index lists every chapter")
	return names, statements
}

// citations returns, by identifier, the places that cite it: "package.TestName"
// for a test or the comment above it, otherwise the file.
func citations(t *testing.T) map[string][]string {
	t.Helper()
	cited := map[string][]string{}
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(root, path)
		switch {
		case err != nil || d.IsDir() && name != "." && strings.HasPrefix(d.Name(), "."):
			return cmp.Or(err, fs.SkipDir)
		case d.IsDir() || name == filepath.Join("docs", "fidelity.md") || filepath.Base(name) == "protocol_test.go",
			!strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, ".md") && !strings.Contains(name, "testdata"):
			return nil
		}
		text, err := os.ReadFile(path)
		require.Empty(t, unpublished.FindString(string(text)), "%s cites what the reader has not", name)
		place := name
		var comment []string // cited above what comes next
		for line := range strings.Lines(string(text)) {
			ids := citation.FindAllString(line, -1)
			if !strings.HasSuffix(name, "_test.go") {
				ids, comment = nil, ids
			} else if strings.HasPrefix(line, "//") {
				comment = append(comment, ids...)
				continue
			} else if m := testFunction.FindStringSubmatch(line); m != nil {
				if place = filepath.Base(filepath.Dir(name)) + "." + m[2]; !testPlace.MatchString(place) {
					place = name
				}
			}
			for _, id := range append(comment, ids...) {
				cited[id] = append(cited[id], place)
			}
			comment = nil
		}
		return err
	}))
	return cited
}

// shownBy are the tests among the places, those first that cite most often.
func shownBy(places []string) (tests []string) {
	count := map[string]int{}
	for _, p := range places {
		if strings.Contains(p, "testdata") || testPlace.MatchString(p) {
			count[p]++
		}
	}
	for p := range count {
		tests = append(tests, p)
	}
	slices.SortFunc(tests, func(a, b string) int { return cmp.Or(count[b]-count[a], strings.Compare(a, b)) })
	return tests
}

func TestProtocol_StatementsAreWellFormed(t *testing.T) {
	names, statements := chapters(t)
	seen := map[string]bool{}
	for _, name := range names {
		require.NotEmpty(t, statements[name], name)
		prefix, _, _ := strings.Cut(statements[name][0].id, "-")
		for _, s := range statements[name] {
			require.False(t, seen[s.id], "%s stands twice", s.id)
			seen[s.id] = true
			require.True(t, strings.HasPrefix(s.id, prefix+"-"), "%s in %s", s.id, name)
			require.Regexp(t, evidenceForm, s.evidence, s.id)
			links := linkForm.FindAllStringSubmatch(s.evidence, -1)
			require.False(t, strings.HasPrefix(s.evidence, "*seen") && len(links) == 0, "%s was seen, but not where", s.id)
			for _, l := range links {
				for prefix, format := range map[string]string{
					"Nitrokey forum": "https://support.nitrokey.com/t/%s", "OpenSC issue": "https://github.com/OpenSC/OpenSC/issues/%s",
					"OpenSC pull request": "https://github.com/OpenSC/OpenSC/pull/%s",
				} {
					if number, ok := strings.CutPrefix(l[1], prefix+" "); ok {
						require.Equal(t, fmt.Sprintf(format, number), l[2], s.id)
					}
				}
			}
		}
	}
}

func TestProtocol_CitationsLeadSomewhere(t *testing.T) {
	_, statements := chapters(t)
	known := map[string]bool{}
	for _, chapter := range statements {
		for _, s := range chapter {
			known[s.id] = true
		}
	}
	for id, places := range citations(t) {
		require.True(t, known[id], "%s is cited by %v and stands nowhere", id, places)
	}
}

func TestProtocol_EmulatedStatementsAreShown(t *testing.T) {
	names, statements := chapters(t)
	cited := citations(t)
	var wrong []string
	for _, name := range names {
		for _, s := range statements[name] {
			if said := !strings.Contains(s.evidence, "not emulated"); said != (len(shownBy(cited[s.id])) > 0) {
				wrong = append(wrong, s.id+": "+s.text)
			}
		}
	}
	require.Empty(t, wrong, "emulated and cited by no test, or the other way round")
}

// example returns the bytes that a chapter shows from one word to the next
// empty line; what is not hexadecimal beside them is explanation.
func example(t *testing.T, chapter, from string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", "protocol", chapter))
	require.NoError(t, err)
	_, after, ok := strings.Cut(string(text), from)
	require.True(t, ok, from)
	block, _, _ := strings.Cut(from+after, "\n\n")
	block, _, _ = strings.Cut(block, "```")
	var shown []byte
	for word := range strings.FieldsSeq(block) {
		if b, err := hex.DecodeString(word); err == nil {
			shown = append(shown, b...)
		}
	}
	return shown
}

func TestProtocol_ExamplesHold(t *testing.T) {
	t.Parallel()
	chain, err := cvc.ParseChain(example(t, "certificates.md", "7F2181E4 "))
	require.NoError(t, err)
	v, err := chain.Verify(cvc.VendorRoots())
	require.NoError(t, err)
	require.Equal(t, "/DESRCACC1/DEDINK04/DENK0404144", v.Path())

	d, err := keystore.NewDKEK(1).Import(example(t, "domains.md", "2848CB6E")[:32])
	require.NoError(t, err)
	k, err := d.Unwrap(example(t, "domains.md", "97E303855DC1C54D 0C "))
	require.NoError(t, err)
	require.Equal(t, "EC secp256k1", k.String())
	share, err := keystore.OpenShare(example(t, "domains.md", "53616C7465645F5F ")[:64], []byte("passwordpassword"))
	require.NoError(t, err)
	require.Equal(t, example(t, "domains.md", "2848CB6E")[:32], share)
}

// The messages of the chapter on secure messaging are those that the package
// for it is tested with.
func TestProtocol_MessagesHold(t *testing.T) {
	t.Parallel()
	vectors, err := os.ReadFile(filepath.Join(root, "applet", "sm", "testdata", "messages.txt"))
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(root, "docs", "protocol", "secure-messaging.md"))
	require.NoError(t, err)
	lines := regexp.MustCompile(`(?m)^[CR]\d .+$`).FindAllString(string(text), -1)
	require.Len(t, lines, 14)
	for _, line := range lines {
		shown := strings.ReplaceAll(line, " ", "")
		require.True(t, slices.ContainsFunc(strings.Split(string(vectors), "\n"), func(vector string) bool {
			fields := strings.Fields(vector)
			return len(fields) == 4 && strings.HasSuffix(shown, fields[3])
		}), line)
	}
}

func TestDocs_FidelityListsEveryStatement(t *testing.T) {
	names, statements := chapters(t)
	cited, rules := citations(t), rulesOf(t)
	var b strings.Builder
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(root, "docs", "protocol", name))
		require.NoError(t, err)
		title, _, _ := strings.Cut(strings.TrimPrefix(string(text), "# "), "\n")
		var rows strings.Builder
		for _, s := range statements[name] {
			if strings.Contains(s.evidence, "not emulated") {
				continue
			}
			tests := shownBy(cited[s.id])
			shown := append([]string{"`" + strings.Join(tests[:min(2, len(tests))], "`, `") + "`"}, rules[s.id]...)
			fmt.Fprintf(&rows, "| %s | %s | %s | %s |\n", s.id, s.text, s.evidence, strings.Join(shown, ", "))
		}
		if rows.Len() > 0 {
			fmt.Fprintf(&b, "\n## [%s](protocol/%s)\n\n| Statement | Behaviour | How it is known | Shown by |\n|---|---|---|---|\n%s", title, name, rows.String())
		}
	}
	b.WriteString("\n")
	generated(t, "fidelity.md", "statements", b.String())
}

// Where sources disagree is told by hand; each choice names what it decides.
func TestDocs_FidelityChoicesNameStatements(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "fidelity.md"))
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(text), "| Question | Choice | Statement |\n|---|---|---|\n")
	require.True(t, ok)
	table, _, _ := strings.Cut(rest, "\n\n")
	known := map[string]bool{}
	_, statements := chapters(t)
	for _, chapter := range statements {
		for _, s := range chapter {
			known[s.id] = true
		}
	}
	for row := range strings.Lines(table) {
		ids := citation.FindAllString(row[strings.LastIndex(strings.TrimRight(row, "| \n"), "|"):], -1)
		require.NotEmpty(t, ids, row)
		for _, id := range ids {
			require.True(t, known[id], row)
		}
	}
}
