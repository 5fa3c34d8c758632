package console

import (
	"fmt"
	"html"
	"html/template"
	"io/fs"
	"regexp"
	"strings"

	"hsmemu/docs/protocol"
)

// rules are the chapters about the card's interface as pages, and where each of their statements
// stands.
type rules struct {
	pages map[string]template.HTML // by name without .md
	of    map[string]string        // page by statement
	links *regexp.Regexp
}

var statement = regexp.MustCompile(`^[A-Z]+-\d+$`)

func readRules() (*rules, error) {
	names, err := fs.Glob(protocol.Chapters, "*.md")
	if err != nil {
		return nil, err
	}
	r := &rules{pages: map[string]template.HTML{}, of: map[string]string{}}
	r.links = regexp.MustCompile(`\b(?:APDU|FILE|PIN|KEY|DOM|CVC|SM|PKA|XKEK|PCSC|PORTAL|UPDATE)-\d+\b`)
	texts := map[string]string{}
	for _, name := range names {
		b, err := protocol.Chapters.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read the chapters: %w", err)
		}
		page := strings.TrimSuffix(name, ".md")
		texts[page] = string(b)
		for line := range strings.Lines(string(b)) {
			if id, _, is := strings.Cut(strings.TrimPrefix(line, "| "), " |"); is && statement.MatchString(id) {
				r.of[id] = page
			}
		}
	}
	for page, text := range texts {
		r.pages[page] = template.HTML(r.page(text)) //nolint:gosec // everything in it is escaped
	}
	return r, nil
}

// link is where a statement stands, empty for none.
func (r *rules) link(id string) string {
	if page, is := r.of[id]; is {
		return "/rules/" + page + "#" + id
	}
	return ""
}

// page makes HTML of the Markdown that the chapters are written in: headings, paragraphs,
// lists, tables, and blocks of code.
func (r *rules) page(text string) string {
	var b strings.Builder
	open := "" // the element that lines belong to
	end := func() {
		if open != "" {
			b.WriteString("</" + open + ">\n")
			if open == "table" {
				b.WriteString("</div>\n")
			}
		}
		open = ""
	}
	begin := func(element, before string) {
		if open != element {
			end()
			b.WriteString(before)
			open = element
		}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case open == "pre" && strings.HasPrefix(line, "```"):
			end()
		case open == "pre":
			b.WriteString(html.EscapeString(line) + "\n")
		case strings.HasPrefix(line, "```"):
			begin("pre", `<pre tabindex="0">`)
		case line == "":
			end()
		case strings.HasPrefix(line, "#"):
			end()
			n := len(line) - len(strings.TrimLeft(line, "#"))
			fmt.Fprintf(&b, "<h%d>%s</h%d>\n", n, r.inline(strings.TrimSpace(line[n:])), n)
		case strings.HasPrefix(line, "|"):
			r.row(&b, line, open != "table", func() { begin("table", `<div class="scroll-x" tabindex="0"><table>`) })
		case strings.HasPrefix(line, "* "):
			begin("ul", "<ul>")
			b.WriteString("<li>" + r.inline(line[2:]) + "</li>\n")
		default:
			begin("p", "<p>")
			b.WriteString(r.inline(line) + "\n")
		}
	}
	end()
	return b.String()
}

// row is a line of a table.
func (r *rules) row(b *strings.Builder, line string, first bool, begin func()) {
	cells := strings.Split(strings.Trim(strings.ReplaceAll(line, `\|`, "\x00"), "| "), " | ")
	if strings.Trim(line, "|-: ") == "" && strings.Contains(line, "-") {
		return
	}
	begin()
	cell, id := "td", ""
	if first {
		cell = "th"
	}
	if statement.MatchString(cells[0]) {
		id = ` id="` + cells[0] + `"`
	}
	b.WriteString("<tr" + id + ">")
	for _, c := range cells {
		b.WriteString("<" + cell + ">" + r.inline(strings.ReplaceAll(c, "\x00", "|")) + "</" + cell + ">")
	}
	b.WriteString("</tr>\n")
}

var (
	codeForm = regexp.MustCompile("`([^`]+)`")
	linkForm = regexp.MustCompile(`\[([^\]]+)\]\(([^)\s]+)\)`)
	emphasis = regexp.MustCompile(`\*([^*]+)\*`)
)

// inline is a text in a line: code, links, emphasis, and statements that are named.
func (r *rules) inline(text string) string {
	s := html.EscapeString(text)
	s = codeForm.ReplaceAllString(s, "<code>$1</code>")
	s = linkForm.ReplaceAllStringFunc(s, func(m string) string {
		part := linkForm.FindStringSubmatch(m)
		to := part[2]
		page, place, _ := strings.Cut(to, "#")
		switch name := strings.TrimSuffix(page, ".md"); {
		case strings.HasPrefix(to, "https://"):
			return `<a href="` + to + `" rel="noopener noreferrer">` + part[1] + "</a>"
		case !strings.Contains(page, "/") && name != page:
			if place != "" {
				place = "#" + place
			}
			return `<a href="/rules/` + name + place + `">` + part[1] + "</a>"
		}
		return part[1]
	})
	s = emphasis.ReplaceAllString(s, "<em>$1</em>")
	if statement.MatchString(text) {
		return s
	}
	return r.links.ReplaceAllStringFunc(s, func(id string) string {
		if to := r.link(id); to != "" && !strings.Contains(s, `#`+id) {
			return `<a href="` + to + `">` + id + "</a>"
		}
		return id
	})
}
