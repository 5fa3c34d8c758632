//go:build linux

package main

import (
	"cmp"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/stretchr/testify/require"

	"hsmemu/emulator/view"
)

// sequence is a ceremony that is played and drawn as a sequence picture: who had which
// card do what.
type sequence struct {
	file, title, desc string
	people, cards     []string
	column            int    // how wide a column is; 0 for 215
	before            string // a script that makes the cards
	acts              []act
}

// act is what a person does: a note for what happens outside of the cards, and a script.
type act struct{ who, note, script string }

const (
	initTool = "sc-hsm-tool --initialize --so-pin 3537363231383830 --pin 648219"
	genTool  = "pkcs11-tool --login --pin 648219 --keypairgen --key-type EC:secp256r1 --id 01 --label "
)

// sequences are the pictures of docs/ceremonies.md but shareSequence. Shares of the first come as the
// commands that sc-hsm-tool sends, since it takes ten seconds to open each.
var sequences = []sequence{
	{
		file: "sequence-dkek.svg", title: "A key goes from one card to another under a DKEK of two shares",
		desc:   "Both custodians bring their shares into Alice's card, which wraps a key. Bob's card refuses the wrapped key while a share is missing, and takes it when both are there.",
		people: []string{"custodian 1", "custodian 2", "owner"}, cards: []string{"alice", "bob"},
		before: "hsmemu card new alice --serial DENK0404171; hsmemu card new bob --serial DENK0404172",
		acts: []act{
			{"owner", "", initTool + " --reader 0 --dkek-shares 2"},
			{"custodian 1", "opens share 1", "hsmemu apdu --select --card alice 8052000020" + strings.Repeat("11", 32)},
			{"custodian 2", "opens share 2", "hsmemu apdu --select --card alice 8052000020" + strings.Repeat("22", 32)},
			{"owner", "", genTool + "signing --slot-index 0"},
			{"owner", "keeps the wrapped key in a file", "sc-hsm-tool --reader 0 --wrap-key key.wrap --key-reference 1 --pin 648219"},
			{"owner", "", initTool + " --reader 1 --dkek-shares 2"},
			{"custodian 1", "", "hsmemu apdu --select --card bob 8052000020" + strings.Repeat("11", 32)},
			{"owner", "a share is missing", "sc-hsm-tool --reader 1 --unwrap-key key.wrap --key-reference 1 --pin 648219 --force"},
			{"custodian 2", "", "hsmemu apdu --select --card bob 8052000020" + strings.Repeat("22", 32)},
			{"owner", "", "sc-hsm-tool --reader 1 --unwrap-key key.wrap --key-reference 1 --pin 648219 --force"},
		},
	},
	{
		file: "sequence-public-keys.svg", title: "Two of three custodians open a card with cards of their own",
		desc:   "The vault is told of three public keys. Two custodians sign challenges with their cards, and the vault lets them in; then it takes commands that need a login.",
		people: []string{"owner", "custodians"}, cards: []string{"vault", "carla", "emil"},
		before: "hsmemu card new vault --serial DENK0404180; n=1; for c in carla dora emil; do hsmemu card new $c --serial DENK040418$n; n=$((n + 1)); " +
			`hsmemu exec --card $c -- sh -c "` + initTool + "; " + genTool + `custodian; sc-hsm-tool --export-for-pub-key-auth $c.pka --key-reference 1"; done`,
		acts: []act{
			{"owner", "", initTool + " --reader 0 --public-key-auth 3 --required-pub-keys 2"},
			{"custodians", "bring attested public keys", "for c in carla dora emil; do sc-hsm-tool --reader 0 --register-public-key $c.pka; done"},
			{"custodians", "Carla and Emil have come", "HSMEMU_PIN=648219 hsmemu card authenticate --card vault --with carla --with emil"},
		},
	},
}

// shareSequence is the picture that TestManual draws while it plays docs/ceremonies.md,
// since each share takes long: a script in it is a part of a command that the page shows.
var shareSequence = sequence{
	file: "sequence-n-of-m.svg", title: "The password of a DKEK share is split among three keepers",
	desc:   "The card gives random bytes for a share, whose password is split in three. Keepers 1 and 3 type their parts, and the share goes into the card.",
	people: []string{"keeper 1", "keeper 2", "keeper 3", "owner"}, cards: []string{"alice"},
	acts: []act{
		{"owner", "", "--initialize --so-pin $SOPIN --pin $PIN --dkek-shares 1"},
		{"owner", "makes a share and a password in three parts", "--create-dkek-share dkek.pbe"},
		{"keeper 1", "writes part 1 down", ""},
		{"keeper 2", "writes part 2 down", ""},
		{"keeper 3", "writes part 3 down", ""},
		{"keeper 1", "types part 1", ""},
		{"keeper 3", "types part 3", ""},
		{"owner", "two of three parts make the password", "--import-dkek-share dkek.pbe"},
	},
}

// traced returns the steps with a trace of each that an act names, in the file act.N, and
// reports whether there are steps for all acts.
func (s sequence) traced(steps []instruction) ([]instruction, bool) {
	steps = slices.Clone(steps)
	for n, a := range s.acts {
		i := slices.IndexFunc(steps, func(i instruction) bool { return a.script != "" && strings.Contains(i.command, a.script) })
		if i < 0 && a.script != "" {
			return nil, false
		}
		if i >= 0 {
			steps[i].command = strings.Replace(steps[i].command, "hsmemu exec ", fmt.Sprintf("HSMEMU_TRACE=act.%d hsmemu exec ", n), 1)
		}
	}
	return steps, true
}

// lined is a line of a trace: a command with what it is about, and what the answer means.
var lined = regexp.MustCompile(`  [0-9A-F]{8}  (.*) → [0-9A-F]{4}, (.*)`)

// told is what the traces in a folder tell of the one card of a sequence.
func (s sequence) told(t *testing.T, dir string) (all []message) {
	t.Helper()
	for n, a := range s.acts {
		if a.note != "" {
			all = append(all, message{who: a.who, says: a.note})
		}
		if a.script == "" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("act.%d", n)))
		require.NoError(t, err)
		for _, line := range lined.FindAllStringSubmatch(string(text), -1) {
			m := message{a.who, s.cards[0], line[1], lengths.ReplaceAllString(line[2], "")}
			if toldCommands.MatchString(m.says) && !slices.Contains(all[max(0, len(all)-1):], m) {
				all = append(all, m)
			}
		}
	}
	return all
}

// toldCommands are those that a picture has; others are reads, and what the tools ask
// for themselves.
var toldCommands = regexp.MustCompile(`^(INITIALIZE|GET CHALLENGE|MANAGE KEY DOMAIN \(import|GENERATE|WRAP|UNWRAP|MANAGE PUBLIC KEY AUTHENTICATION \((register|challenge)|EXTERNAL AUTHENTICATE|SIGN)`)

// lengths are those of answers, which differ from run to run.
var lengths = regexp.MustCompile(`, \d+ bytes$`)

// fine are answers that are no refusals.
var fine = regexp.MustCompile(`^(done|verified|not verified|referenced data not found|$)`)

// message is an arrow of a picture, from a person to a card or to another person, with
// its answer, if there is one; or a person's note.
type message struct{ who, card, says, answer string }

// TestSequences plays ceremonies with real tools and compares what they had the cards
// do with the pictures.
func TestSequences(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/ceremonies.md")
	require.NoError(t, err)
	for _, s := range sequences {
		t.Run(s.file, func(t *testing.T) {
			t.Parallel()
			s.compare(t, string(page), s.play(t))
		})
	}
}

// compare compares messages with the picture, which the page has to show.
func (s sequence) compare(t *testing.T, page string, all []message) {
	t.Helper()
	require.Contains(t, page, "]("+s.file+")")
	have := s.draw(all)
	file := filepath.Join("../../docs", s.file)
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(have), 0o644))
	}
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Empty(t, string(diff.Diff(s.file, text, "a run of today", []byte(have))), "go test ./cmd/hsmemu -run Sequences -update")
	require.NoError(t, xml.Unmarshal(text, new(struct{})))
}

// play plays a ceremony and returns what was told of it, in order.
func (s sequence) play(t *testing.T) []message {
	t.Helper()
	h := newHome(t)
	work := t.TempDir()
	var script strings.Builder
	for _, c := range s.cards {
		fmt.Fprintf(&script, "hsmemu trace --card %s --json > %[1]s.events 2> %[1]s.following & traces=\"$traces $!\"\nuntil grep -qs following %[1]s.following; do sleep 0.05; done\n", c)
	}
	for i, a := range s.acts {
		fmt.Fprintf(&script, "date +%%s%%N > began.%d\n%s\nsleep 0.05\n", i, a.script)
	}
	for _, c := range s.cards { // what was written down up to the last command
		fmt.Fprintf(&script, "hsmemu apdu --card %s 00FF0000\nuntil grep -qs 00FF0000 %[1]s.events; do sleep 0.05; done\n", c)
	}
	script.WriteString("kill $traces; wait $traces; true\n")
	first := h.command("exec", "--card", "nobody", "--", "true")
	first.Path, first.Args = "/bin/sh", []string{"sh", "-c", s.before}
	first.Dir = work
	out, err := first.CombinedOutput()
	require.NoError(t, err, "%s", out)
	args := []string{"exec"}
	for _, c := range s.cards {
		args = append(args, "--card", c)
	}
	cmd := h.command(append(args, "--", "sh", "-c", script.String())...)
	cmd.Dir = work
	out, err = cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)

	var began []time.Time
	for i := range s.acts {
		text, err := os.ReadFile(filepath.Join(work, fmt.Sprintf("began.%d", i)))
		require.NoError(t, err)
		var ns int64
		_, err = fmt.Sscan(string(text), &ns)
		require.NoError(t, err)
		began = append(began, time.Unix(0, ns))
	}
	type told struct {
		card string
		view.Event
	}
	var events []told
	for _, c := range s.cards {
		text, err := os.ReadFile(filepath.Join(work, c+".events"))
		require.NoError(t, err)
		for line := range strings.Lines(string(text)) {
			var e view.Event
			require.NoError(t, json.Unmarshal([]byte(line), &e))
			if e.Command != nil && !e.Query && toldCommands.MatchString(*e.Command) {
				events = append(events, told{c, e})
			}
		}
	}
	slices.SortStableFunc(events, func(a, b told) int { return a.At.Compare(b.At) })
	var all []message
	for i, a := range s.acts {
		if a.note != "" {
			all = append(all, message{who: a.who, says: a.note})
		}
		for _, e := range events {
			if e.At.Before(began[i]) || i+1 < len(began) && !e.At.Before(began[i+1]) {
				continue
			}
			m := message{a.who, e.card, *e.Command, lengths.ReplaceAllString(e.Meaning, "")}
			if e.Subject != nil {
				m.says += " " + *e.Subject
			}
			if !slices.Contains(all[max(0, len(all)-1):], m) {
				all = append(all, m)
			}
		}
	}
	return all
}

// draw draws people and cards as columns, and messages as arrows between them.
func (s sequence) draw(all []message) string {
	const top = 70
	column := cmp.Or(s.column, 215)
	x := func(name string) int {
		return column/2 + column*slices.Index(append(slices.Clone(s.people), s.cards...), name)
	}
	var p picture
	y := top + high
	for _, m := range all {
		from, to := x(m.who), x(cmp.Or(m.card, m.who))
		if m.card == "" {
			p.middle(from, y+4, "c2", m.says)
			y += 2 * high
			continue
		}
		class := "c36"
		if slices.Contains(s.cards, m.card) && !fine.MatchString(m.answer) {
			class = "c131"
		}
		tip := 2
		if to < from {
			tip = -2
		}
		lines := strings.Split(m.says, "\n")
		for i, line := range lines {
			p.middle((from+to)/2, y-4+high*i, class, line)
		}
		y += high * (len(lines) - 1)
		fmt.Fprintf(&p, `  <path d="M%d %dH%d" class="arrow" marker-end="url(#head)"/>`+"\n", from, y, to-tip)
		if m.answer != "" {
			y += high + 4
			p.middle((from+to)/2, y-4, "c2", m.answer)
			fmt.Fprintf(&p, `  <path d="M%d %dH%d" class="arrow back" marker-end="url(#head)"/>`+"\n", to, y, from+tip)
		}
		y += 2 * high
	}
	var lines picture
	for i, name := range append(slices.Clone(s.people), s.cards...) {
		if i >= len(s.people) {
			fmt.Fprintf(&lines, `  <rect x="%d" y="24" width="110" height="28" rx="4" class="paper"/>`+"\n", x(name)-55)
			name = "card " + name
		}
		lines.middle(column/2+column*i, 43, "typed", name)
		fmt.Fprintf(&lines, `  <path d="M%d 56V%d" class="line"/>`+"\n", column/2+column*i, y)
	}
	wide, tall := column*(len(s.people)+len(s.cards)), y+high
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" role="img" aria-labelledby="title desc">
  <title id="title">%s</title>
  <desc id="desc">%s</desc>
  <style>%s    .arrow { stroke: #59636e; fill: none } .back { stroke-dasharray: 4 4 } .head { fill: #59636e }
    @media (prefers-color-scheme: dark) { .arrow { stroke: #9198a1 } .head { fill: #9198a1 } }
  </style>
  <defs><marker id="head" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto"><path d="M0 0L9 4L0 8Z" class="head"/></marker></defs>
  <rect x="0.5" y="0.5" width="%d" height="%d" rx="8" class="paper"/>
%s%s</svg>
`, wide, tall, s.title, s.desc, pictureStyle, wide-1, tall-1, lines.String(), p.String())
}

// middle writes a text around a place.
func (p *picture) middle(x, y int, class, s string) {
	p.text(float64(x)-wide*float64(len([]rune(s)))/2, y, class, s)
}
