package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What the pages for contributors and reporters name is there: files, make
// targets, and tests by the expressions that run them.
func TestContributing_NamesWhatIsThere(t *testing.T) {
	t.Parallel()
	top := ".."
	targets, err := os.ReadFile(filepath.Join(top, "Makefile"))
	require.NoError(t, err)
	for _, page := range []string{"CONTRIBUTING.md", "SECURITY.md", "README.md", "docs/api/README.md"} {
		text, err := os.ReadFile(filepath.Join(top, page))
		require.NoError(t, err)
		for _, missing := range absent(t, top, filepath.Dir(page), string(text), string(targets)) {
			t.Errorf("%s: %s", page, missing)
		}
	}
}

var (
	links   = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	paths   = regexp.MustCompile("`((?:\\.ci|\\.github|applet|cmd|docs|emulator|keystore|pinstate|vsmartcard)/[\\w./-]+|\\.ci/\\w+)`")
	makes   = regexp.MustCompile("`make (\\w+)")
	running = regexp.MustCompile("`go test \\./([\\w/]+) -run (Test\\w+)")
)

// absent lists what a page names and is not there.
func absent(t *testing.T, top, folder, text, makefile string) []string {
	t.Helper()
	var missing []string
	there := func(name string) {
		if _, err := os.Stat(filepath.Join(top, name)); err != nil {
			missing = append(missing, "no "+name)
		}
	}
	for _, m := range links.FindAllStringSubmatch(text, -1) {
		there(filepath.Join(folder, m[1]))
	}
	for _, m := range paths.FindAllStringSubmatch(text, -1) {
		there(m[1])
	}
	for _, m := range makes.FindAllStringSubmatch(text, -1) {
		if !strings.Contains(makefile, "\n"+m[1]+":") {
			missing = append(missing, "no target "+m[1])
		}
	}
	for _, m := range running.FindAllStringSubmatch(text, -1) {
		names, err := filepath.Glob(filepath.Join(top, m[1], "*_test.go"))
		require.NoError(t, err)
		found := false
		for _, name := range names {
			code, err := os.ReadFile(name)
			require.NoError(t, err)
			found = found || strings.Contains(string(code), "\nfunc "+m[2])
		}
		if !found {
			missing = append(missing, "no test "+m[2]+" in "+m[1])
		}
	}
	return missing
}

// The search finds what is not there.
func TestContributing_SearchIsTested(t *testing.T) {
	t.Parallel()
	const page = "[a](b.md#c) [w](https://example.org) `cmd/none` `make none` `make it` `go test ./applet/tlv -run TestNone` `go test ./applet -run TestScenarios/x`"
	require.Equal(t, []string{"no docs/b.md", "no cmd/none", "no target none", "no test TestNone in applet/tlv"},
		absent(t, "..", "docs", page, "\nit:\n"))
}
