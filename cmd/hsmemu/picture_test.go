//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/stretchr/testify/require"

	"hsmemu/emulator/view"
)

// pictureFile is the picture of the README: a card with seven tries of its SO-PIN
// left, what programs are told of it, and beside that what hsmemu trace draws.
const pictureFile = "../../docs/picture.svg"

// pictured are the commands of the picture, typed in a shell that hsmemu exec has
// started.
var pictured = []string{
	"sc-hsm-tool",
	"sc-hsm-tool --initialize --so-pin 0000000000000000 --pin 648219",
	"sc-hsm-tool --initialize --so-pin 3537363231383830 --pin 648219",
}

// TestPicture plays the commands and compares what the picture says with what they
// print and with the tries that the trace draws. What else OpenSC asks differs between
// its versions.
func TestPicture(t *testing.T) {
	t.Parallel()
	have := drawPicture(playPicture(t))
	if *update {
		require.NoError(t, os.WriteFile(pictureFile, []byte(have), 0o644))
	}
	text, err := os.ReadFile(pictureFile)
	require.NoError(t, err)
	shown, today := readPicture(t, string(text)), readPicture(t, have)
	require.Empty(t, string(diff.Diff("docs/picture.svg", []byte(shown), "a run of today", []byte(today))), "go test ./cmd/hsmemu -run Picture -update")
	for _, number := range []string{"SO-PIN tries left    : 7\n", "wrong, 6 tries left (63C6)\nSO-PIN\n6/15\n", "done\nSO-PIN\n15/15\nuser PIN\n3/3\n"} {
		require.Contains(t, shown, number)
	}
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	require.Contains(t, string(readme), "](docs/picture.svg)")
	require.Contains(t, string(readme), "SO-PIN tries left    : 7\n")
}

// readPicture is what a picture says: its left side, and the tries of PINs on the
// right. It has to name itself for those who cannot see it, and to need nothing
// from outside.
func readPicture(t *testing.T, svg string) string {
	t.Helper()
	var p struct {
		Role  string `xml:"role,attr"`
		By    string `xml:"aria-labelledby,attr"`
		Title string `xml:"title"`
		Desc  string `xml:"desc"`
		Text  []struct {
			X     float64 `xml:"x,attr"`
			Class string  `xml:"class,attr"`
			Says  string  `xml:",chardata"`
		} `xml:"text"`
	}
	require.NoError(t, xml.Unmarshal([]byte(svg), &p))
	require.Equal(t, []string{"img", "title desc"}, []string{p.Role, p.By})
	require.NotEmpty(t, p.Title)
	require.NotEmpty(t, p.Desc)
	require.NotRegexp(t, `href|url\(|@import|@font-face|<script|<image`, svg)
	var b strings.Builder
	for _, text := range p.Text {
		if text.X < rightAt || text.Class == "c131" || text.Class == "c132" {
			fmt.Fprintln(&b, text.Says)
		}
	}
	return b.String()
}

// moment is a command of the picture, the lines it prints, and those that the trace
// draws, with its colours.
type moment struct {
	command       string
	prints, draws []string
}

func playPicture(t *testing.T) []moment {
	t.Helper()
	h := newHome(t)
	h.run("card", "new", "lab", "--like", "so=7,firmware=3.2", "--serial", "DENK0404144")
	shell := h.command("exec", "--card", "lab", "--", "bash", "-c", `while read -r line; do eval "$line" 2>&1; echo ended; done`)
	keys, err := shell.StdinPipe()
	require.NoError(t, err)
	screen, err := shell.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, shell.Start())
	late := time.AfterFunc(shellPatience, func() { _ = shell.Process.Kill() })
	defer late.Stop()
	lines := bufio.NewScanner(screen)
	enter := func(command string) (prints []string) {
		_, err := fmt.Fprintln(keys, command)
		require.NoError(t, err)
		for lines.Scan() && lines.Text() != "ended" {
			prints = append(prints, strings.TrimRight(lines.Text(), " "))
		}
		require.NoError(t, lines.Err())
		return prints
	}
	enter("true") // the card is there
	trace := h.command("trace", "--card", "lab", "--json")
	out, err := trace.StdoutPipe()
	require.NoError(t, err)
	listening, err := trace.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, trace.Start())
	_, err = bufio.NewReader(listening).ReadString('\n')
	require.NoError(t, err)
	var all []moment
	for _, command := range pictured {
		all = append(all, moment{command: command, prints: enter(command)})
	}
	require.NoError(t, keys.Close())
	require.NoError(t, shell.Wait())

	d, at, begun := &view.Drawing{Colour: true, Whole: true}, 0, 0
	draw := func(s string) { all[at].draws = append(all[at].draws, strings.SplitAfter(s, "\n")...) }
	for events := json.NewDecoder(out); ; {
		var e view.Event
		err := events.Decode(&e)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if e.Client == nil { // what happens as the shell ends
			continue
		}
		if begun == 0 {
			begun = e.Client.Connection
		}
		if next := e.Client.Connection - begun; next != at {
			draw(d.Rest())
			at = next
			require.Less(t, at, len(all), "a program connects twice")
		}
		e.Client.Process = 0
		draw(d.Next(e))
	}
	draw(d.Rest())
	require.NoError(t, trace.Wait())
	return all
}

// The picture's measures, in units of its own. A character is as wide as textLength
// says, whatever the font.
const (
	wide     = 7.8
	high     = 19
	margin   = 18
	leftCols = 56
	rightAt  = 2*margin + leftCols*wide + margin
	rightCol = 60
	width    = rightAt + rightCol*wide + margin
)

// pictureStyle has the colours of the two schemes. The classes are those of
// view.Drawing's colours.
const pictureStyle = `
    text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1f2328; white-space: pre }
    .paper { fill: #f6f8fa; stroke: #d1d9e0 } .line { stroke: #d1d9e0 } .gone { fill: #d1d9e0 } .left { fill: #1f2328 }
    .typed, .c1 { font-weight: bold } .c2 { fill: #59636e } .c36 { fill: #0550ae } .c33 { fill: #7d4e00 } .c131 { fill: #b3122a; font-weight: bold } .c132 { fill: #116329; font-weight: bold }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 } .paper { fill: #0d1117; stroke: #3d444d } .line { stroke: #3d444d } .gone { fill: #3d444d } .left { fill: #e6edf3 }
      .c2 { fill: #9198a1 } .c36 { fill: #79c0ff } .c33 { fill: #e3b341 } .c131 { fill: #ff8a80 } .c132 { fill: #56d364 }
    }
`

var (
	painted = regexp.MustCompile("\x1b\\[([0-9;]*)m([^\x1b]*)\x1b\\[0m")
	counted = regexp.MustCompile(`(SO-PIN|user PIN) (█*)(·*) (\d+/\d+)`)
)

// picture collects what is drawn.
type picture struct{ strings.Builder }

func (p *picture) text(x float64, y int, class, s string) {
	if s == "" {
		return
	}
	if class != "" {
		class = fmt.Sprintf(` class="%s"`, class)
	}
	fmt.Fprintf(p, `  <text x="%.1f" y="%d" textLength="%.1f"%s xml:space="preserve">`, x, y, wide*float64(len([]rune(s))), class)
	_ = xml.EscapeText(p, []byte(s)) // a Builder takes all
	p.WriteString("</text>\n")
}

// typed writes what is typed or printed, in as many lines as it takes.
func (p *picture) typed(y int, class, s string) int {
	for _, line := range folded(s, leftCols) {
		p.text(margin, y, class, line)
		y += high
	}
	return y
}

// drew writes a line of the trace, with counters as rows of boxes.
func (p *picture) drew(y int, line string) int {
	line = strings.TrimSuffix(line, "\n")
	var class string
	if strings.HasPrefix(line, "\x1b[2m") { // the time
		if rest := painted.FindStringSubmatch(line); strings.TrimSpace(rest[2][min(10, len(rest[2])):]) == "" {
			line = strings.TrimPrefix(line, rest[0])
		}
	}
	if m := painted.FindStringSubmatch(line); m != nil {
		class, line = "c"+strings.ReplaceAll(m[1], ";", ""), m[2]
		if class == "c2" { // reads, after the time
			line = "  " + strings.TrimSpace(line[8:])
		}
	}
	counters := counted.FindAllStringSubmatch(line, -1)
	words := counted.ReplaceAllString(line, "")
	for _, l := range folded(strings.TrimRight(words, " "), rightCol) {
		if l == "" { // a counter beneath its words
			continue
		}
		p.text(rightAt, y, class, l)
		y += high
	}
	for _, c := range counters {
		x := rightAt + 2*wide
		p.text(x, y, class, c[1])
		x += float64(len(c[1])+1) * wide
		for i := range len([]rune(c[2] + c[3])) {
			part := "left"
			if i >= len([]rune(c[2])) {
				part = "gone"
			}
			fmt.Fprintf(p, `  <rect x="%.1f" y="%d" width="10" height="11" class="%s"/>`+"\n", x, y-10, part)
			x += 13
		}
		p.text(x+wide, y, class, c[4])
		y += high
	}
	return y
}

// folded is a line in lines of so many characters; the later ones are indented.
func folded(line string, cols int) (lines []string) {
	for r := []rune(line); ; {
		if len(r) <= cols {
			return append(lines, string(r))
		}
		cut := cols
		for i := cols; i > cols/2; i-- {
			if r[i] == ' ' {
				cut = i
				break
			}
		}
		lines = append(lines, string(r[:cut]))
		r = append([]rune("    "), []rune(strings.TrimLeft(string(r[cut:]), " "))...)
	}
}

func drawPicture(all []moment) string {
	var p picture
	y := margin + high
	p.typed(y, "typed", "$ hsmemu exec --card lab -- bash")
	p.text(rightAt, y, "typed", "$ hsmemu trace --card lab")
	y += high
	for _, m := range all {
		fmt.Fprintf(&p, `  <path d="M%d %dH%.0f" class="line"/>`+"\n", margin, y-4, width-margin)
		y += high - 2
		left, right := p.typed(y, "typed", "$ "+m.command), y
		for _, line := range m.prints {
			left = p.typed(left, "", line)
		}
		for _, line := range m.draws {
			if line != "" {
				right = p.drew(right, line)
			}
		}
		y = max(left, right)
	}
	height := y
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %d" width="%.0f" height="%d" role="img" aria-labelledby="title desc">
  <title id="title">A card with seven tries of its SO-PIN left, and what a wrong one does</title>
  <desc id="desc">Two terminals. On the left sc-hsm-tool reports that 7 tries of the SO-PIN are left; it fails to initialise the card with a wrong SO-PIN, and succeeds with the right one. On the right hsmemu trace shows what the card was asked, and what was left each time: 7, then 6, then all 15 tries of the SO-PIN.</desc>
  <style>%s  </style>
  <rect x="0.5" y="0.5" width="%.0f" height="%d" rx="8" class="paper"/>
  <path d="M%.0f %dV%d" class="line"/>
%s</svg>
`, width, height, width, height, pictureStyle, width-1, height-1, rightAt-margin, margin, height-margin, p.String())
}
