package applet_test

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/stretchr/testify/require"

	"hsmemu/applet"
)

var update = flag.Bool("update", false, "write what the scenarios do into their files")

// A scenario is a file of commands and of everything that can be seen of them:
//
//	# comment
//	card A 4.1                     a directive, see table.run
//	> 00 20 00 81 Lc("000000")     a command
//	< 63C2                         its answer, possibly with * and variables
//	= VERIFY user PIN → 63C2, …    the event that an observer gets
//	! user PIN 3 → 2               a state that was saved: what changed in it
//	~ nobody                       who is logged in, when that changes
//
// With -update the lines that begin with < = ! ~ are written anew; an answer
// that still fits its pattern keeps it.
type scenario struct {
	*table
	witness *witness
	out     []string
}

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
			s := &scenario{table: newTable(), witness: newWitness()}
			s.play(t, string(text))
			s.witness.again(t)
			played := strings.Join(s.out, "\n")
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(played), 0o644))
			} else if d := diff.Diff(file, text, "played", []byte(played)); d != nil {
				t.Fatalf("the scenario went another way; if that is right, write it with go test ./applet -run TestScenarios -update\n%s", d)
			}
			s.seed(t, file)
		})
	}
}

// observed are the first characters of the lines that a run writes.
const observed = "<=!~"

func (s *scenario) play(t *testing.T, text string) {
	t.Helper()
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		switch {
		case l == "" || l[0] == '#':
			s.out = append(s.out, l)
		case strings.ContainsRune(observed, rune(l[0])):
		case l[0] == '>':
			s.out = append(s.out, l)
			pattern := ""
			if i+1 < len(lines) {
				pattern, _ = strings.CutPrefix(lines[i+1], "< ")
			}
			command, err := compile(l[1:], s.vars)
			require.NoError(t, err, "line %d", i+1)
			s.take(t, command, pattern)
		case strings.HasPrefix(l, "sm on "):
			s.out = append(s.out, l)
			suite := suites[strings.TrimPrefix(l, "sm on ")]
			require.NotZero(t, suite, l)
			s.current.host = chipAuthentication(t, s.current, suite, func(command []byte) []byte { return s.take(t, command, "*") })
		default:
			s.out = append(s.out, l)
			require.True(t, s.directive(t, l), "line %d: %s", i+1, l)
		}
	}
}

// take gives a command to the current card and writes down what can be seen.
func (s *scenario) take(t *testing.T, command []byte, pattern string) []byte {
	t.Helper()
	c := s.current
	before := c.state
	answer := s.witness.take(t, c, command)
	fits, err := match(pattern, answer, s.vars)
	if err != nil || !fits || pattern == "" {
		pattern = show(answer)
	}
	s.out = append(s.out, "< "+pattern, "= "+c.result.Event.String())
	known := facts(before.Applet.Durable)
	for _, d := range c.result.Commits {
		next := facts(d.Applet)
		s.out = append(s.out, "! "+difference(known, next))
		known = next
	}
	if was, is := loggedIn(before.Applet), loggedIn(c.state.Applet); was != is {
		s.out = append(s.out, "~ "+is)
	}
	return answer
}

// show is an answer as scenarios have it: short data whole, of long data the
// beginning.
func show(answer []byte) string {
	data, sw := answer[:len(answer)-2], answer[len(answer)-2:]
	switch {
	case len(data) == 0:
		return fmt.Sprintf("%X", sw)
	case len(data) <= 80:
		return fmt.Sprintf("%X %X", data, sw)
	}
	return fmt.Sprintf("%X * %X", data[:16], sw)
}

func loggedIn(s applet.State) string {
	l := s.Login
	words := []string{}
	for _, w := range []struct {
		is   bool
		name string
	}{{l.User, "user"}, {l.PIN && !l.User, "user PIN without the keys"}, {l.SO, "SO"}, {l.Keys > 0, fmt.Sprintf("%d keys", l.Keys)}, {l.Session != nil, "session PIN"}} {
		if w.is {
			words = append(words, w.name)
		}
	}
	if len(words) == 0 {
		return "nobody"
	}
	return strings.Join(words, ", ")
}

// fact is one thing that a card keeps.
type fact struct{ name, value string }

// facts are the things that a card keeps, in words and numbers.
func facts(d applet.Durable) []fact {
	p := d.PINs
	list := []fact{
		{"user PIN", fmt.Sprint(p.User.Left)},
		{"user PIN tries", fmt.Sprint(p.User.Max)},
		{"user PIN itself", fmt.Sprintf("%X", []byte(p.User.Value))},
		{"SO-PIN", fmt.Sprint(p.SO.Left)},
		{"SO-PIN itself", fmt.Sprintf("%X", []byte(p.SO.Value))},
		{"options", p.Options.String()},
		{"transport PIN", fmt.Sprint(p.Transport)},
		{"public keys", fmt.Sprintf("%d of %d", p.Keys.Required, p.Keys.Total)},
		{"slots for key domains", fmt.Sprint(len(d.Domains))},
	}
	for _, f := range d.Files {
		list = append(list, fact{fmt.Sprintf("EF %04X", f.ID), fmt.Sprintf("%d bytes", len(f.Data))})
	}
	for id := range 256 {
		k, exists := d.Keys[byte(id)]
		if !exists {
			continue
		}
		value := k.String()
		if k.Uses.Limited {
			value += fmt.Sprintf(", %d uses", k.Uses.Left)
		}
		if k.Algorithms != nil {
			value += fmt.Sprintf(", only %X", k.Algorithms)
		}
		if k.Domain != 0 {
			value += fmt.Sprintf(", domain %d", k.Domain)
		}
		list = append(list, fact{fmt.Sprintf("key %d", id), value})
	}
	for i, domain := range d.Domains {
		if !domain.IsZero() {
			list = append(list, fact{fmt.Sprintf("key domain %d", i), fmt.Sprintf("%s, %d of %d shares missing", domain, domain.Outstanding(), domain.Total())})
		}
	}
	for i, c := range d.Custodians {
		if c.Name != "" {
			list = append(list, fact{fmt.Sprintf("public key %d", i), c.Name})
		}
	}
	return list
}

// difference says what changed from one state to the next.
func difference(from, to []fact) string {
	find := func(list []fact, name string) int {
		return slices.IndexFunc(list, func(f fact) bool { return f.name == name })
	}
	var changes []string
	for _, f := range to {
		switch i := find(from, f.name); {
		case i < 0:
			changes = append(changes, "+ "+f.name+" ("+f.value+")")
		case from[i].value != f.value && strings.HasSuffix(f.name, "itself"):
			changes = append(changes, strings.TrimSuffix(f.name, " itself")+" replaced")
		case from[i].value != f.value:
			changes = append(changes, f.name+" "+from[i].value+" → "+f.value)
		}
	}
	for _, f := range from {
		if find(to, f.name) < 0 {
			changes = append(changes, "- "+f.name)
		}
	}
	if changes == nil {
		return "nothing new"
	}
	return strings.Join(changes, ", ")
}

// seed keeps the commands that the card A got as a seed for the fuzzing of
// whole sessions. Seeds are the firmware's number among the profiles, then
// each command behind its length in two bytes; FFFF is a loss of power.
func (s *scenario) seed(t *testing.T, file string) {
	t.Helper()
	a := s.cards["A"]
	firmware := slices.IndexFunc(applet.Profiles(), func(p applet.Profile) bool { return p.Name == a.durable().Firmware })
	session := []byte{byte(firmware)}
	for _, step := range s.witness.steps {
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
