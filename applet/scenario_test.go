package applet_test

import (
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/emulator/conform"
)

var update = flag.Bool("update", false, "write what the scenarios do into their files")

// Scenarios are sessions in files, in the language of package conform: commands,
// and all that can be seen of them. With -update, what can be seen is written anew.
// Every step of a session is inspected, and each session is a seed for the fuzzing
// of the chip.
func TestScenarios(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("testdata", "scenario", "*.txt"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			script, err := conform.Parse(string(text))
			require.NoError(t, err)
			tb, i := newTable(), newInspection(t)
			tb.inspect(i)
			played, err := tb.Record(t.Context(), script)
			require.NoError(t, err)
			i.again(t)
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(played), 0o644))
			} else if d := diff.Diff(file, text, "played", []byte(played)); d != nil {
				t.Fatalf("the scenario went another way; if that is right, write it with go test ./applet -run TestScenarios -update\n%s", d)
			}
			i.seed(t, file, tb.card("A").Durable().Firmware)

			script, err = conform.Parse(played)
			require.NoError(t, err)
			again := newTable()
			again.inspect(newInspection(t))
			require.NoError(t, again.Play(t.Context(), script), "what was recorded is what is judged")
		})
	}
}

// seed keeps the commands that the card A got as a seed for the fuzzing of
// whole sessions. Seeds are the firmware's number among the profiles, then
// each command behind its length in two bytes; FFFF is a loss of power.
func (i *inspection) seed(t *testing.T, file, firmware string) {
	t.Helper()
	number := slices.IndexFunc(applet.Profiles(), func(p applet.Profile) bool { return p.Name == firmware })
	session := []byte{byte(number)}
	for _, step := range i.steps {
		if step.card != "A" {
			continue
		}
		if !step.before.Selected && len(session) > 1 {
			session = append(session, 0xFF, 0xFF)
		}
		session = append(session, byte(len(step.command)>>8), byte(len(step.command)))
		session = append(session, step.command...)
	}
	name := filepath.Join("..", "emulator", "chip", "testdata", "fuzz", "FuzzChip", "scenario-"+strings.TrimSuffix(filepath.Base(file), ".txt"))
	text := "go test fuzz v1\n[]byte(\"" + escaped(session) + "\")\n"
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
		return
	}
	kept, err := os.ReadFile(name)
	require.NoError(t, err)
	require.True(t, string(kept) == text, "the seed %s is not up to date: run with -update", name)
}

// escaped writes every byte as \x and two digits.
func escaped(b []byte) string {
	digits := hex.EncodeToString(b)
	var out strings.Builder
	for i := 0; i < len(digits); i += 2 {
		out.WriteString(`\x` + digits[i:i+2])
	}
	return out.String()
}
