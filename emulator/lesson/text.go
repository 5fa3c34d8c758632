package lesson

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// hints are the parts of a text that begin with a heading.
func hints(text string) (all []string) {
	for _, part := range strings.Split("\n"+text, "\n## ")[1:] {
		_, body, _ := strings.Cut(part, "\n")
		all = append(all, strings.TrimSpace(body))
	}
	return all
}

// fence begins and ends a block of code, and runs are single lines to click on, which
// other players mark with {{exec}}.
var (
	fence  = regexp.MustCompile("^[ \t]*(```+)")
	runs   = regexp.MustCompile("`([^`\n]+)`\\{\\{exec\\}\\}")
	clicks = regexp.MustCompile(`\{\{(?:exec|copy|execute)[^}]*\}\}`)
)

// block is lines of a text that belong together: code, without its fences, or not.
type block struct {
	code  bool
	lines []string
}

// blocks takes a text apart. open is the line, from 1, of a fence that is not closed, and
// 0 if there is none.
func blocks(text string) (all []block, open int) {
	now, ticks, indent := block{}, "", ""
	for i, line := range strings.Split(text, "\n") {
		mark := fence.FindStringSubmatch(line)
		switch {
		case mark != nil && !now.code:
			all = append(all, now)
			now, ticks, open = block{code: true}, mark[1], i+1
			indent = strings.TrimSuffix(mark[0], ticks)
		case mark != nil && len(mark[1]) >= len(ticks) && strings.TrimSpace(clicks.ReplaceAllString(line, "")) == mark[1]:
			all = append(all, now)
			now, open = block{}, 0
		default:
			if now.code {
				line = strings.TrimPrefix(line, indent)
			}
			now.lines = append(now.lines, line)
		}
	}
	return append(all, now), open
}

// Commands are what a text tells somebody to type, each a line of a shell or more.
func Commands(text string) (all []string) {
	var clicked []string
	parts, _ := blocks(text)
	for _, p := range parts {
		whole := strings.TrimSpace(strings.Join(p.lines, "\n"))
		if p.code {
			all = append(all, whole)
			continue
		}
		for _, m := range runs.FindAllStringSubmatch(whole, -1) {
			clicked = append(clicked, m[1])
		}
	}
	return append(all, clicked...)
}

// Markdown is a text without marks that are for other players.
func Markdown(text string) string { return clicks.ReplaceAllString(text, "") }

// widest is how many characters a line of prose has in a terminal.
const widest = 80

// starts is how a line begins that does not go on with the one before it.
var starts = regexp.MustCompile(`^\s*(?:$|[*+-] |\d+[.)] |#+ |[|>])`)

// Plain is a text for a terminal: without marks that are for other players, code set in,
// and the rest in lines that a terminal does not break.
func Plain(text string) string {
	var out []string
	parts, _ := blocks(strings.TrimRight(text, "\n"))
	for _, p := range parts {
		if p.code {
			for _, line := range p.lines {
				out = append(out, "    "+line)
			}
			continue
		}
		first := len(out) // nothing goes on with what stands above a block of code
		for _, line := range p.lines {
			line = Markdown(line)
			if len(out) == first || starts.MatchString(line) || strings.TrimSpace(out[len(out)-1]) == "" {
				out = append(out, line)
			} else {
				out[len(out)-1] += " " + strings.TrimSpace(line)
			}
		}
		for i := first; i < len(out); i++ {
			lines := fill(out[i])
			out = slices.Replace(out, i, i+1, lines...)
			i += len(lines) - 1
		}
	}
	return strings.Join(out, "\n")
}

// fill breaks a line between words; a word that is too long stands alone.
func fill(line string) (lines []string) {
	for utf8.RuneCountInString(line) > widest {
		at, room := -1, widest+1
		for i, c := range line {
			if room--; c == ' ' && i > 0 && (room >= 0 || at < 0) {
				at = i
			}
			if room < 0 && at >= 0 {
				break
			}
		}
		if at < 0 {
			break
		}
		lines, line = append(lines, line[:at]), strings.TrimLeft(line[at:], " ")
	}
	return append(lines, line)
}
