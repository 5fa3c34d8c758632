package conform

import (
	_ "embed" // the page
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"
	"unicode"
)

// Formats are the names of the forms of a report.
func Formats() []string { return []string{"text", "json", "junit", "tap", "html"} }

// Write writes a report in one of the [Formats]. Errors: an unknown format, and those
// of w.
func (r Report) Write(w io.Writer, format string) error {
	switch format {
	case "text":
		_, err := io.WriteString(w, r.text())
		return err
	case "json":
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(r)
	case "junit":
		return r.junit(w)
	case "tap":
		_, err := io.WriteString(w, r.tap())
		return err
	case "html":
		return page().Execute(w, r)
	}
	return fmt.Errorf("no format %q: it is one of %s", format, strings.Join(Formats(), ", "))
}

// Verdicts are all verdicts in the order of reports.
func (Report) Verdicts() []Verdict { return []Verdict{Held, Broken, Differs, Review, NotJudged} }

// About is the card of a report in one line, or the program.
func (r Report) About() string {
	s := r.Statement
	if r.Situations {
		return fmt.Sprintf("%s: on cards of firmware %s", r.Target, s.Firmware)
	}
	return fmt.Sprintf("%s: serial %s, firmware %s, %s, options %04X, ATR %s", r.Target, s.Serial, s.Firmware, s.State, s.Options, s.ATR)
}

// Played names one of what was played: a rule or a situation.
func (r Report) Played() string {
	if r.Situations {
		return "situation"
	}
	return "rule"
}

// Summary is the outcome in one line.
func (r Report) Summary() string {
	var parts []string
	for _, v := range r.Verdicts() {
		if n := r.Counts[v]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, v))
		}
	}
	text := fmt.Sprintf("no %ss", r.Played())
	if len(r.Results) > 0 {
		text = fmt.Sprintf("%s: %s", plural(len(r.Results), r.Played()), strings.Join(parts, ", "))
	}
	if known := r.Counts[Broken] - r.Unexpected(); known > 0 {
		text += fmt.Sprintf(" (%d known)", known)
	}
	return text
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Remarks are what is to be said of the whole run: what was not as it should be.
func (r Report) Remarks() (remarks []string) {
	for _, c := range r.Conflicts {
		remarks = append(remarks, "conflict: "+c)
	}
	for _, s := range r.Stale {
		remarks = append(remarks, "stale expectation: "+s)
	}
	remarks = append(remarks, r.left()...)
	if r.Stopped != "" {
		remarks = append(remarks, "stopped: "+r.Stopped)
	}
	if r.Judged() == 0 {
		remarks = append(remarks, fmt.Sprintf("no %s was judged", r.Played()))
	}
	if r.Interrupted {
		remarks = append(remarks, "interrupted: this is what was judged so far")
	}
	return remarks
}

// Cuts are the results of which power was cut.
func (r Report) Cuts() (all []Result) {
	for _, one := range r.Results {
		if len(one.Cuts) > 0 {
			all = append(all, one)
		}
	}
	return all
}

func (r Report) text() string {
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(printable(fmt.Sprintf(format, args...)) + "\n") }
	line("%s", r.About())
	for _, one := range r.Results {
		switch {
		case one.Why == unasked:
			continue
		case one.Verdict == NotJudged:
			line("%-10s %s: %s", one.Verdict, one.ID, one.Why)
			continue
		case one.Expected != "":
			line("%-10s %s: %s (known: %s)", one.Verdict, one.ID, one.Says, one.Expected)
		default:
			line("%-10s %s: %s", one.Verdict, one.ID, one.Says)
		}
		for _, f := range one.Failures {
			line("%10s %s", "", f.At())
			line("%10s want %s", "", strings.TrimPrefix(f.Want, "< "))
			line("%10s got  %s", "", strings.TrimPrefix(f.Got, "< "))
			if f.Seen != "" {
				line("%10s seen %s", "", f.Seen)
			}
		}
		if one.Verdict == Broken && one.Breaks != "" {
			line("%10s so   %s", "", one.Breaks)
		}
	}
	if cuts := r.Cuts(); len(cuts) > 0 {
		line("\npower cuts, counters before and after: user PIN/SO-PIN\n")
		line("%-10s %-34s %-6s %-8s %-6s %-6s", "rule", "command", "answer", "cut", "before", "after")
		for _, one := range cuts {
			for _, c := range one.Cuts {
				line("%-10s %-34s %-6s %-8s %-6s %-6s%s", one.ID, c.Command, c.Answer, fmt.Sprintf("%d of %d", c.After, c.Saves), c.Before, c.Found, wrongly(c.Wrong))
			}
		}
		line("")
	}
	if !r.Statement.Fresh {
		line("tries left: user PIN %v, SO-PIN %v; before %v, %v", r.After.UserPIN, r.After.SOPIN, r.Before.UserPIN, r.Before.SOPIN)
	}
	for _, remark := range r.Remarks() {
		line("%s", remark)
	}
	if r.Counts[Review] > 0 {
		line("review is for people to look at: it does not fail the run")
	}
	line("%s", r.Summary())
	return b.String()
}

// At is where the rule says it, and what stands there.
func (f Failure) At() string {
	if f.File == "" {
		return f.Text
	}
	return f.place() + ": " + f.Text
}

// place is where the rule says it; of a program it is what is wanted of all of them.
func (f Failure) place() string {
	if f.File == "" {
		return f.Text
	}
	return fmt.Sprintf("%s:%d", f.File, f.Line)
}

func wrongly(why string) string {
	if why == "" {
		return ""
	}
	return "  wrong: " + why
}

// String is user PIN/SO-PIN.
func (c Counters) String() string { return c.UserPIN.String() + "/" + c.SOPIN.String() }

// tap is version 14 of the Test Anything Protocol.
func (r Report) tap() string {
	var b strings.Builder
	fmt.Fprintf(&b, "TAP version 14\n# %s\n1..%d\n", oneLine(r.About()), len(r.Results)+len(r.Remarks()))
	for i, one := range r.Results {
		verdict, directive := "ok", ""
		switch {
		case one.Verdict == Broken:
			verdict = "not ok"
			if one.Expected != "" {
				directive = " # TODO " + escapeTAP(one.Expected)
			}
		case one.Verdict == NotJudged:
			directive = " # SKIP " + escapeTAP(one.Why)
		}
		fmt.Fprintf(&b, "%s %d - %s %s%s\n", verdict, i+1, one.ID, escapeTAP(one.Says), directive)
		if one.Verdict != Held && one.Verdict != NotJudged {
			fmt.Fprintf(&b, "  ---\n  verdict: %s\n  failures:\n", one.Verdict)
			for _, f := range one.Failures {
				fmt.Fprintf(&b, "    - at: %q\n      want: %q\n      got: %q\n", f.place(), f.Want, f.Got)
			}
			b.WriteString("  ...\n")
		}
	}
	for i, remark := range r.Remarks() {
		fmt.Fprintf(&b, "not ok %d - %s\n", len(r.Results)+i+1, escapeTAP(remark))
	}
	switch {
	case r.Stopped != "":
		fmt.Fprintf(&b, "Bail out! %s\n", oneLine(r.Stopped))
	case r.Interrupted:
		b.WriteString("Bail out! interrupted\n")
	}
	return b.String()
}

func oneLine(text string) string { return printable(strings.Join(strings.Fields(text), " ")) }

// printable is a text without what a terminal obeys, or what is not seen.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unreadable(r) && r != '\n' || r == '\t' {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

func escapeTAP(text string) string {
	return strings.NewReplacer(`\`, `\\`, "#", `\#`).Replace(oneLine(text))
}

// testSuites is a report as JUnit has it, in the form that CI systems read.
type testSuites struct {
	XMLName xml.Name    `xml:"testsuites"`
	Suites  []testSuite `xml:"testsuite"`
}

type testSuite struct {
	Name       string     `xml:"name,attr"`
	Tests      int        `xml:"tests,attr"`
	Failures   int        `xml:"failures,attr"`
	Errors     int        `xml:"errors,attr"`
	Skipped    int        `xml:"skipped,attr"`
	Timestamp  string     `xml:"timestamp,attr,omitempty"`
	Properties []property `xml:"properties>property"`
	Cases      []testCase `xml:"testcase"`
}

type property struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type testCase struct {
	Class   string  `xml:"classname,attr"`
	Name    string  `xml:"name,attr"`
	Failure *reason `xml:"failure,omitempty"`
	Error   *reason `xml:"error,omitempty"`
	Skipped *reason `xml:"skipped,omitempty"`
	Output  string  `xml:"system-out,omitempty"`
}

type reason struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

func (r Report) junit(w io.Writer) error {
	s := testSuite{Name: "hsmemu conform", Tests: len(r.Results), Properties: []property{
		{"program", r.Program},
		{"target", r.Target},
		{"serial", r.Statement.Serial},
		{"atr", r.Statement.ATR},
		{"firmware", r.Statement.Firmware},
		{"options", fmt.Sprintf("%04X", r.Statement.Options)},
		{"counters before", r.Before.String()},
		{"counters after", r.After.String()},
		{"statement sha256", r.StatementSHA256},
		{"plan sha256", r.PlanSHA256},
	}}
	if r.Started != nil {
		s.Timestamp = r.Started.Format(time.RFC3339)
	}
	for _, one := range r.Results {
		c := testCase{Class: strings.TrimSuffix(one.File, ".txt"), Name: one.ID + " " + one.Says}
		switch {
		case one.Verdict == Broken && one.Expected == "":
			s.Failures++
			c.Failure = &reason{one.Why, one.explained()}
		case one.Verdict == Broken:
			s.Skipped++
			c.Skipped = &reason{"known: " + one.Expected, ""}
		case one.Verdict == NotJudged:
			s.Skipped++
			c.Skipped = &reason{one.Why, ""}
		case one.Verdict != Held:
			c.Output = string(one.Verdict) + ": " + one.explained()
		}
		s.Cases = append(s.Cases, c)
	}
	for _, remark := range r.Remarks() {
		s.Tests++
		s.Errors++
		s.Cases = append(s.Cases, testCase{Class: "run", Name: remark, Error: &reason{Message: remark}})
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(testSuites{Suites: []testSuite{s}}); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// explained is what a result has to say.
func (r Result) explained() string {
	var b strings.Builder
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "%s\nwant %s\ngot  %s\n", f.At(), f.Want, f.Got)
	}
	if r.Breaks != "" {
		b.WriteString(r.Breaks + "\n")
	}
	return b.String()
}

//go:embed report.html
var reportPage string

// page is the report as a page of its own, which loads nothing and can be printed.
func page() *template.Template {
	return template.Must(template.New("report").Funcs(template.FuncMap{
		"hex":   func(options uint16) string { return fmt.Sprintf("%04X", options) },
		"when":  func(t *time.Time) string { return t.Format("2006-01-02 15:04:05 UTC") },
		"class": func(v Verdict) string { return strings.ReplaceAll(string(v), " ", "-") },
		"link":  func(l string) bool { return strings.HasPrefix(l, "https://") },
	}).Parse(reportPage))
}
