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

// page is a chapter as HTML.
func (r *rules) page(text string) string {
	return markdown{top: 1, href: r.href, word: r.words, row: func(cells []string) string {
		if statement.MatchString(cells[0]) {
			return cells[0]
		}
		return ""
	}}.page(text)
}

// href is where a link of a chapter leads; empty if it leads out of the chapters.
func (r *rules) href(to string) string {
	page, place, _ := strings.Cut(to, "#")
	name := strings.TrimSuffix(page, ".md")
	if strings.Contains(page, "/") || name == page {
		return elsewhere(to)
	}
	if place != "" {
		place = "#" + place
	}
	return "/rules/" + name + place
}

// words links statements that a text names.
func (r *rules) words(text string) string {
	escaped := html.EscapeString(text)
	if statement.MatchString(text) {
		return escaped
	}
	return r.links.ReplaceAllStringFunc(escaped, func(id string) string {
		if to := r.link(id); to != "" {
			return `<a href="` + to + `">` + id + "</a>"
		}
		return id
	})
}
