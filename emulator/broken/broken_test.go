package broken_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"

	"hsmemu/applet"
	"hsmemu/emulator"
	"hsmemu/emulator/broken"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/conform"
	"hsmemu/keystore"
	"hsmemu/vsmartcard"
)

var update = flag.Bool("update", false, "write the table of docs/conformance.md anew")

// card is a card in memory that keeps what it saves.
type card struct {
	*emulator.Card
	saves  []chip.Durable
	begins bool // the power that a script cuts is that of the whole card
	world  emulator.World
}

// Save keeps a state. No card may ever save one that none can be in.
func (c *card) Save(d chip.Durable) error {
	c.saves = append(c.saves, d)
	return d.Check()
}

func (*card) Counts() bool { return false }

func (c *card) Reset() error {
	if !c.begins {
		return c.Card.Reset()
	}
	next, err := emulator.New(c.saves[len(c.saves)-1], c, c.world)
	c.Card = next
	return err
}

// newCard is a card as shipped with a defect, or a healthy one without a name. The
// same commands get the same answers from it again.
func newCard(t testing.TB, defect, firmware string) *card {
	t.Helper()
	env := chiptest.World("card")
	w := emulator.World{Rand: env.Rand, Deterministic: true, RSA: keystore.PoolGenerator{Rand: env.Rand}, Clock: clock}
	d, err := w.Manufacture(chip.Order{Firmware: firmware, Serial: "DENK9900001", Broken: defect})
	require.NoError(t, err)
	c := &card{world: w}
	c.saves = []chip.Durable{d}
	c.Card, err = emulator.New(d, c, w)
	require.NoError(t, err)
	return c
}

func clock() time.Time { return chiptest.World("clock").Now }

// play plays a script on a card.
func play(ctx context.Context, c vsmartcard.Card, script string) error {
	s, err := conform.Parse("card A\n" + script)
	if err != nil {
		return err
	}
	p := conform.NewPlayer(func(string, string) (vsmartcard.Card, error) { return c, nil })
	p.Rand = chiptest.Seeded("host")
	return p.Play(ctx, s)
}

// scripts are those of the file, by defect, with their setups in them.
func scripts(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("testdata/defects.txtar")
	require.NoError(t, err)
	all, setups := map[string]string{}, map[string]string{}
	use := regexp.MustCompile(`(?m)^use (.*)\n`)
	for _, f := range txtar.Parse(text).Files {
		script := use.ReplaceAllStringFunc(string(f.Data), func(line string) string {
			name := use.FindStringSubmatch(line)[1]
			require.Contains(t, setups, name)
			return setups[name]
		})
		if name, isSetup := strings.CutPrefix(f.Name, "setup "); isSetup {
			setups[name] = script
			continue
		}
		require.NotContains(t, all, f.Name)
		all[f.Name] = script
	}
	return all
}

// Every defect is there, and the healthy card does not have it: what the healthy
// card plays to its end, the broken one does up to the last command.
func TestDefects_ShowInTheLastCommand(t *testing.T) {
	t.Parallel()
	all := scripts(t)
	for _, d := range broken.Defects() {
		if d.Name == comparesFirst {
			continue // see below
		}
		script := all[d.Name]
		require.NotEmpty(t, script, d.Name)
		delete(all, d.Name)
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			healthy, bad := newCard(t, "", ""), newCard(t, d.Name, "")
			healthy.begins = strings.HasSuffix(d.Name, "-on-power-on")
			bad.begins = healthy.begins
			require.NoError(t, play(t.Context(), healthy, script))
			err := play(t.Context(), bad, script)
			var m *conform.Mismatch
			require.True(t, errors.As(err, &m), "the broken card does what the healthy one does, or neither: %v", err)
			lines := strings.Split(strings.TrimSpace("card A\n"+script), "\n")
			require.Equal(t, len(lines), m.Line, "%v", err)
		})
	}
	require.Empty(t, all, "scripts for defects that there are not")
}

const comparesFirst = "compares-before-it-charges"

// Where the power goes at the first save, a healthy card has lost the try already,
// whatever was presented. The broken one has not.
func TestDefects_ComparesBeforeItCharges(t *testing.T) {
	t.Parallel()
	for defect, left := range map[string]string{"": "63C2", comparesFirst: "63C3"} {
		c := newCard(t, defect, "")
		require.NoError(t, play(t.Context(), c, setup))
		before := len(c.saves)
		require.NoError(t, play(t.Context(), c, `00 20 00 81 Lc("648219")`))
		torn, err := emulator.New(c.saves[before], c, c.world)
		require.NoError(t, err)
		require.NoError(t, play(t.Context(), torn, "select\n00 20 00 81 => "+left), defect)
	}
}

const setup = "select\n80 50 00 00 Lc(80(0001) 81(\"648219\") 82(3537363231383830) 91(03))"

// A card whose defect nobody knows is refused in words, and so is a state with one
// that is to replace another.
func TestNew_RefusesUnknownDefects(t *testing.T) {
	t.Parallel()
	healthy := newCard(t, "", "")
	d := healthy.Snapshot().Durable()
	d.Broken = "melts"
	_, err := emulator.New(d, healthy, healthy.world)
	require.ErrorIs(t, err, broken.ErrUnknown)
	require.EqualError(t, err, `card is broken on purpose: no such defect: "melts"`)
	_, err = healthy.Replace(d, true)
	require.ErrorIs(t, err, broken.ErrUnknown)
	require.NoError(t, play(t.Context(), healthy, "select"))
}

// A card takes its defect from the state that it is given: a healthy one replaces a
// broken one, and the other way round.
func TestReplace_BringsItsDefect(t *testing.T) {
	t.Parallel()
	c := newCard(t, "", "")
	healthy := c.Snapshot().Durable()
	bad := healthy
	bad.Broken = "shows-one-try-too-many"
	for _, d := range []chip.Durable{bad, healthy, bad} {
		_, err := c.Replace(d, false)
		require.NoError(t, err)
		want := map[string]string{"": "63C3", bad.Broken: "63C4"}[d.Broken]
		require.NoError(t, play(t.Context(), c, setup+"\ncut\nselect\n00 20 00 81 => "+want))
		require.Equal(t, d.Broken, c.Snapshot().Durable().Broken)
	}
}

// The table is complete: each name is a word for the command line, each sentence is
// one, and each defect is something else than another.
func TestDefects_AreDescribed(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, d := range broken.Defects() {
		require.Regexp(t, `^[a-z]+(-[a-z]+)*$`, d.Name)
		require.Regexp(t, `^[A-Z][^.]*\.$`, d.Does)
		require.Regexp(t, `^[A-Z][^.]*\.$`, d.Gain)
		require.Regexp(t, `^[A-Z]+-\d+$`, d.Breaks)
		require.False(t, seen[d.Name] || seen[d.Does], d.Name)
		seen[d.Name], seen[d.Does] = true, true
		found, err := broken.Find(d.Name)
		require.NoError(t, err)
		require.Equal(t, d.Does, found.Does)
	}
	require.GreaterOrEqual(t, len(broken.Defects()), 30)
}

// session is the commands of a scenario, as package chip keeps them for fuzzing: the
// firmware's number, then each command behind its length; FFFF is a loss of power.
func session(t *testing.T, file string) (firmware string, commands [][]byte) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	_, quoted, found := strings.Cut(strings.TrimSpace(string(text)), `[]byte(`)
	require.True(t, found)
	raw, err := strconv.Unquote(strings.TrimSuffix(quoted, ")"))
	require.NoError(t, err)
	firmware = applet.Profiles()[raw[0]].Name
	for rest := []byte(raw[1:]); len(rest) > 0; {
		n := int(binary.BigEndian.Uint16(rest))
		if rest = rest[2:]; n == 0xFFFF {
			commands = append(commands, nil)
			continue
		}
		commands = append(commands, rest[:n])
		rest = rest[n:]
	}
	return firmware, commands
}

// No defect makes more of a card than it says: whatever a client does, a broken card
// answers, never fails inside, and saves what a healthy card can have saved.
func TestDefects_LeaveTheCardWhole(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../chip/testdata/fuzz/FuzzChip/scenario-*")
	require.NoError(t, err)
	require.Greater(t, len(files), 10)
	for _, d := range broken.Defects() {
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			for _, file := range files {
				firmware, commands := session(t, file)
				var log bytes.Buffer
				c := newCard(t, d.Name, firmware)
				w := c.world
				w.Log = slog.New(slog.NewTextHandler(&log, nil))
				fresh, err := emulator.New(c.Snapshot().Durable(), c, w)
				require.NoError(t, err)
				c.Card = fresh
				for _, command := range commands {
					if command == nil {
						require.NoError(t, c.Reset())
						continue
					}
					answer, err := c.Transmit(t.Context(), command)
					require.NoError(t, err, "%s: %X", file, command)
					require.GreaterOrEqual(t, len(answer), 2)
				}
				require.Empty(t, log.String(), file)
			}
		})
	}
}

// The table in the documentation is the one of this package.
func TestDefects_AreDocumented(t *testing.T) {
	t.Parallel()
	const path, begin, end = "../../docs/conformance.md", "<!-- broken cards: begin -->\n", "<!-- broken cards: end -->\n"
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	before, rest, found := bytes.Cut(text, []byte(begin))
	require.True(t, found, "no place for the table in %s", path)
	have, after, found := bytes.Cut(rest, []byte(end))
	require.True(t, found)
	var b strings.Builder
	b.WriteString("\n| `--broken` | What the card does | Who gains | Breaks | Noticed by |\n|---|---|---|---|---|\n")
	for _, d := range broken.Defects() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", d.Name, strings.TrimSuffix(d.Does, "."), strings.TrimSuffix(d.Gain, "."), d.Breaks, d.Rule)
	}
	b.WriteString("\n")
	if *update {
		have = []byte(b.String())
		require.NoError(t, os.WriteFile(path, slices.Concat(before, []byte(begin), have, []byte(end), after), 0o644))
	}
	require.Equal(t, b.String(), string(have), "write it anew: go test ./emulator/broken -run Documented -update")
}
