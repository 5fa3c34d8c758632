package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// clientsHead is a line at the head of a scenario of a client; cmd/hsmemu's TestClients plays these, and
// says what the lines mean that it reads. The others are for the table:
//
//	state     works, works with a note, or fails on hardware too
//	note      what users have to know, unless it works
//	source    where a fault of the client is known from
var clientsHead = regexp.MustCompile(`^# (client|releases|package|program|state|note|source): (.+)$`)

// The table of clients is made from their scenarios.
func TestDocs_ClientsAreThoseOfTheScenarios(t *testing.T) {
	files, err := filepath.Glob("../cmd/hsmemu/testdata/clients/*.txtar")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var rows []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		head := map[string][]string{}
		for line := range strings.Lines(string(text)) {
			if m := clientsHead.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil {
				head[m[1]] = append(head[m[1]], m[2])
			}
		}
		for _, once := range []string{"client", "releases", "state"} {
			require.Len(t, head[once], 1, "%s: %s", file, once)
		}
		state := head["state"][0]
		require.Contains(t, []string{"works", "works with a note", "fails on hardware too"}, state, file)
		require.Equal(t, state != "works", len(head["note"]) == 1, "%s: a note where one is needed", file)
		require.True(t, state != "fails on hardware too" || len(head["source"]) == 1, "%s: a source of the fault", file)
		require.NotEmpty(t, head["package"], file)
		var versions []string
		for _, p := range head["package"] {
			name, version, ok := strings.Cut(p, " ")
			require.True(t, ok, "%s: %s has no version", file, p)
			versions = append(versions, fmt.Sprintf("`%s` %s", name, strings.Join(strings.Fields(version), ", ")))
		}
		if len(head["note"]) == 1 {
			state += ": " + head["note"][0]
		}
		if len(head["source"]) == 1 {
			state += " (" + head["source"][0] + ")"
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s | [%s](%s) |\n", head["client"][0], strings.Join(strings.Fields(head["releases"][0]), ", "),
			strings.Join(versions, "; "), state, strings.TrimSuffix(filepath.Base(file), ".txtar"), file))
	}
	slices.SortFunc(rows, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	generated(t, "clients.md", "clients", "\n| Client | Debian | Packages | Does it work? | Commands |\n|---|---|---|---|---|\n"+strings.Join(rows, "")+"\n")
}
