package console

import (
	"fmt"
	"html"
	"net/url"
	"regexp"
	"strings"
)

// markdown makes HTML of a part of Markdown: headings, paragraphs, lists, tables, blocks
// of code, and in a line code, links, strong and emphasised words. Everything else
// is text, markup above all: who has written it need not be trusted.
type markdown struct {
	// top is the level that a first heading has, 1 to 6.
	top int
	// href is where a link leads, empty for nowhere: then its words are shown alone.
	href func(to string) string
	// word makes HTML of text outside of links.
	word func(text string) string
	// row is the id of a table's row, empty for none.
	row func(cells []string) string
}

// elsewhere is a link to a page of somebody else, empty if it may be anything else, such
// as a script.
func elsewhere(to string) string {
	if u, err := url.Parse(to); err == nil && u.Scheme == "https" && u.Host != "" {
		return u.String()
	}
	return ""
}

// lessons are texts that somebody has written for a class.
var lessons = markdown{top: 3, href: elsewhere, word: html.EscapeString, row: func([]string) string { return "" }}

// page is a text as HTML.
func (m markdown) page(text string) string {
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
		line = strings.TrimRight(line, "\r\n")
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
			words := strings.TrimLeft(line, "#")
			n := min(m.top+len(line)-len(words)-1, 6)
			fmt.Fprintf(&b, "<h%d>%s</h%d>\n", n, m.inline(strings.TrimSpace(words)), n)
		case strings.HasPrefix(line, "|"):
			m.tableRow(&b, line, open != "table", func() { begin("table", `<div class="scroll-x" tabindex="0"><table>`) })
		case strings.HasPrefix(line, "* "), strings.HasPrefix(line, "- "):
			begin("ul", "<ul>")
			b.WriteString("<li>" + m.inline(line[2:]) + "</li>\n")
		default:
			begin("p", "<p>")
			b.WriteString(m.inline(line) + "\n")
		}
	}
	end()
	return b.String()
}

// tableRow is a line of a table.
func (m markdown) tableRow(b *strings.Builder, line string, first bool, begin func()) {
	cells := strings.Split(strings.Trim(strings.ReplaceAll(line, `\|`, "\x00"), "| "), " | ")
	if strings.Trim(line, "|-: ") == "" && strings.Contains(line, "-") {
		return
	}
	begin()
	cell, id := "td", ""
	if first {
		cell = "th"
	}
	if name := m.row(cells); name != "" {
		id = ` id="` + html.EscapeString(name) + `"`
	}
	b.WriteString("<tr" + id + ">")
	for _, c := range cells {
		b.WriteString("<" + cell + ">" + m.inline(strings.ReplaceAll(c, "\x00", "|")) + "</" + cell + ">")
	}
	b.WriteString("</tr>\n")
}

// forms are what is more than text in a line: code, a link, strong and emphasised words.
var forms = regexp.MustCompile("`([^`]+)`|\\[((?:[^\\]`]|`[^`]*`)+)\\]\\(([^)\\s]+)\\)|\\*\\*([^*]+)\\*\\*|\\*([^*]+)\\*")

// inline is a text in a line.
func (m markdown) inline(text string) string {
	var b strings.Builder
	for {
		at := forms.FindStringSubmatchIndex(text)
		if at == nil {
			return b.String() + m.word(text)
		}
		b.WriteString(m.word(text[:at[0]]))
		part := func(i int) string { return text[at[2*i]:at[2*i+1]] }
		switch {
		case at[2] >= 0:
			b.WriteString("<code>" + m.word(part(1)) + "</code>")
		case at[4] >= 0:
			within := m
			within.word = html.EscapeString // no link in a link
			words := within.inline(part(2))
			if to := m.href(part(3)); to != "" {
				words = `<a href="` + html.EscapeString(to) + `" rel="noopener noreferrer">` + words + "</a>"
			}
			b.WriteString(words)
		case at[8] >= 0:
			b.WriteString("<strong>" + m.inline(part(4)) + "</strong>")
		default:
			b.WriteString("<em>" + m.inline(part(5)) + "</em>")
		}
		text = text[at[1]:]
	}
}
