// Package docs_test holds the documentation to what is so: it has tests alone.
package docs_test

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/emulator"
	"hsmemu/keystore/curve"
)

var update = flag.Bool("update", false, "rewrite the generated parts of the documentation")

// generated replaces what stands between two marks of a document, or compares
// it.
func generated(t *testing.T, document, mark, want string) {
	t.Helper()
	path := filepath.Join(document)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	begin, end := fmt.Sprintf("<!-- %s: begin -->\n", mark), fmt.Sprintf("<!-- %s: end -->", mark)
	before, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok, "%s has no mark %s", document, mark)
	have, after, ok := strings.Cut(rest, end)
	require.True(t, ok, "%s has no end of mark %s", document, mark)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(before+begin+want+end+after), 0o644))
		return
	}
	if d := diff.Diff("docs/"+document, []byte(have), "generated", []byte(want)); d != nil {
		t.Errorf("docs/%s is out of date: go test ./docs -update\n%s", document, d)
	}
}

func TestDocs_FidelityListsEveryCommand(t *testing.T) {
	var b strings.Builder
	b.WriteString("\n| Command | INS P1 P2 | Asks for, and refuses otherwise | Class of latency | How it is known |\n|---|---|---|---|---|\n")
	for _, c := range applet.Commands() {
		var needs []string
		for _, n := range c.Needs {
			refusal := n.Refusal.String()
			if _, tries := n.Refusal.Tries(); tries {
				refusal = "63Cx"
			}
			needs = append(needs, fmt.Sprintf("%s (`%s`)", n.Words, refusal))
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s |\n", c.Name, c.Header, cmp.Or(strings.Join(needs, ", "), "nothing"), c.Class, c.Evidence)
	}
	b.WriteString("\n")
	generated(t, "fidelity.md", "commands", b.String())
}

func TestDocs_FidelityListsEveryAnswerToChoose(t *testing.T) {
	var b strings.Builder
	b.WriteString("\n| Answer to | `--answer` | Without it |\n|---|---|---|\n")
	for _, a := range applet.AnswerChoices() {
		var forms, defaults []string
		for _, sw := range a.Words {
			forms = append(forms, fmt.Sprintf("`%s=%s`", a.Name, sw.String()))
			chosen, err := applet.Answers{}.With(a.Name, sw.String())
			require.NoError(t, err)
			var same []string
			for _, p := range applet.Profiles() {
				if told := (applet.Durable{Firmware: p.Name, Answers: chosen}).Profile(); reflect.DeepEqual(told, p) {
					same = append(same, p.Name)
				}
			}
			if len(same) > 0 {
				defaults = append(defaults, fmt.Sprintf("`%s` in %s", sw.String(), strings.Join(same, ", ")))
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", a.To, strings.Join(forms, " or "), strings.Join(defaults, "; "))
	}
	b.WriteString("\n")
	generated(t, "fidelity.md", "answers", b.String())
}

func TestDocs_EmulatedListsEveryCommandAndProfile(t *testing.T) {
	profiles := applet.Profiles()
	var b strings.Builder
	b.WriteString("\n| Command | INS P1 P2 |")
	for _, p := range profiles {
		fmt.Fprintf(&b, " %s |", p.Name)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(profiles)) + "\n")
	for _, c := range applet.Commands() {
		fmt.Fprintf(&b, "| %s | `%s` |", c.Name, c.Header)
		for _, p := range profiles {
			word := "–"
			if slices.Contains(c.Firmware, p.Name) {
				word = "yes"
			}
			fmt.Fprintf(&b, " %s |", word)
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	generated(t, "emulated.md", "commands", b.String())
}

func TestDocs_EmulatedListsEveryProfile(t *testing.T) {
	var b strings.Builder
	b.WriteString("\n| Firmware | RSA bits | Largest curve | r and s on P-521 | Memory | Longest command | Before selection | Lacks | Known defects |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, p := range applet.Profiles() {
		var sizes []string
		for _, n := range p.RSA {
			sizes = append(sizes, fmt.Sprint(n))
		}
		numbers := "–"
		if p.MaxCurve >= 521 {
			numbers = "minimal"
		}
		if p.PaddedP521 {
			numbers = "66 bytes"
		}
		var lacks []string
		for _, a := range p.Lacks {
			lacks = append(lacks, fmt.Sprintf("%v of a hash value made outside (%02X)", a, byte(a)))
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %s | %d KiB | %d | %s | %s | %s |\n", p.Name, strings.Join(sizes, ", "), p.MaxCurve, numbers, p.Memory>>10, p.MaxAPDU,
			p.NotSelected.String(), cmp.Or(strings.Join(lacks, "; "), "–"), cmp.Or(strings.Join(p.Defects(), "; "), "–"))
	}
	b.WriteString("\n")
	generated(t, "emulated.md", "profiles", b.String())
}

func TestDocs_EmulatedListsEveryCurve(t *testing.T) {
	profiles := applet.Profiles() // oldest first, and none has lost a curve
	names, sizes := map[int][]string{}, []int{}
	for _, c := range curve.All() {
		if names[c.Bits()] == nil {
			sizes = append(sizes, c.Bits())
		}
		names[c.Bits()] = append(names[c.Bits()], c.Name())
	}
	slices.Sort(sizes)
	var b strings.Builder
	b.WriteString("\n| Bits | Curves | From firmware |\n|---|---|---|\n")
	for _, bits := range sizes {
		since := slices.IndexFunc(profiles, func(p applet.Profile) bool { return p.MaxCurve >= bits })
		require.GreaterOrEqual(t, since, 0, "no firmware has %v", names[bits])
		fmt.Fprintf(&b, "| %d | %s | %s |\n", bits, strings.Join(names[bits], ", "), profiles[since].Name)
	}
	b.WriteString("\n")
	generated(t, "emulated.md", "curves", b.String())
}

func TestDocs_FaultsListsEveryFault(t *testing.T) {
	var b strings.Builder
	b.WriteString("\n| Fault | What happens |\n|---|---|\n")
	for _, k := range emulator.FaultKinds() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", k, k.Help)
	}
	b.WriteString("\n")
	generated(t, "faults.md", "faults", b.String())

	b.Reset()
	b.WriteString("\n| Class | Time |\n|---|---|\n")
	for _, line := range emulator.Latencies() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", line[0], line[1])
	}
	b.WriteString("\n")
	generated(t, "faults.md", "latency", b.String())
}

// What becomes of a card with a blocked SO-PIN is told in one way wherever it is
// told, as users of the hardware have told it: Nitrokey forum 1895.
func TestDocs_TellOneStoryOfABlockedSOPIN(t *testing.T) {
	const story = "no command unblocks it, the user PIN goes on working, and only the vendor's firmware update makes a new card of it: keys gone, new identity"
	for _, path := range []string{"../README.md", "lockouts.md", "fidelity.md", "protocol/pins.md", "../emulator/view/words.go"} {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, strings.Contains(strings.Join(strings.Fields(string(text)), " "), story), "%s does not tell it", path)
		for _, other := range []string{"blocked for good", "SO-PIN for good", "never be initialised", "nothing unblocks", "ever unblocks"} {
			require.False(t, strings.Contains(string(text), other), "%s says %q", path, other)
		}
	}
}
