package conform

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// ruleBook is what has been read of rule files.
type ruleBook struct {
	rules  []Rule
	at     map[string]int // where a rule of a name is in rules
	setups map[string]setup
	steps  int  // of all rules
	given  Vars // from the start
	errs   []error
}

// section is lines of a file that follow each other.
type section struct {
	first int // line of the first, from 1
	lines []string
}

// grow puts a line into a section, at its number.
func (s *section) grow(line int, l string) {
	if len(s.lines) == 0 {
		s.first = line
	}
	for len(s.lines) < line-s.first {
		s.lines = append(s.lines, "")
	}
	s.lines = append(s.lines, l)
}

// setup is lines that rules may begin with.
type setup struct {
	file string
	line int
	text section
	read *Script // nil before
}

// ruleID is what rules may be called.
var ruleID = regexp.MustCompile(`^[A-Z]+(-[A-Z0-9]+)+$`)

// errNoHeading is the error for lines before the first heading.
var errNoHeading = errors.New("indented lines belong to a rule or a setup, and there is none yet")

var errUnreadable = errors.New("there is a character that cannot be seen, as a terminal obeys")

// unreadable reports whether a character is none that people see: of control, or of
// the direction of a text.
func unreadable(r rune) bool { return unicode.IsControl(r) && r != '\t' || unicode.Is(unicode.Cf, r) }

// read reads a file.
func (b *ruleBook) read(file, text string) {
	if len(text) > mostBytes {
		b.wrong(file, 1, fmt.Errorf("a file of rules has at most %d bytes", mostBytes))
		return
	}
	part, name, line := "", "", 0
	for l := range strings.SplitSeq(text, "\n") {
		line++
		l = strings.TrimRight(l, " \t\r")
		if strings.TrimSpace(l) == "" || strings.TrimSpace(l)[0] == '#' {
			continue
		}
		if len(l) > mostLine {
			b.wrong(file, line, fmt.Errorf("a line has at most %d bytes", mostLine))
			return
		}
		if len(b.errs) >= mostErrors {
			return
		}
		if i := strings.IndexFunc(l, unreadable); i >= 0 {
			b.wrong(file, line, errUnreadable)
			continue
		}
		var err error
		words := strings.Fields(l)
		indented := l[0] == ' ' || l[0] == '\t'
		switch {
		case indented && part == "":
			err = errNoHeading
		case indented && part == "rule":
			err = b.rules[len(b.rules)-1].header(words[0], strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(l), words[0])))
		case indented && part == "setup":
			s := b.setups[name]
			s.text.grow(line, l)
			b.setups[name] = s
		case indented:
			r := &b.rules[len(b.rules)-1]
			r.texts[part].grow(line, l)
		case words[0] == "rule":
			part = "rule"
			if len(b.rules) == mostRules {
				b.wrong(file, line, fmt.Errorf("a library has at most %d rules", mostRules))
				return
			}
			err = b.begin(file, line, words[1:])
		case words[0] == "setup" && len(words) == 2:
			part, name = "setup", words[1]
			if had, twice := b.setups[name]; twice {
				err = fmt.Errorf("a setup of this name stands at %s:%d already", had.file, had.line)
			}
			if b.setups == nil {
				b.setups = map[string]setup{}
			}
			b.setups[name] = setup{file: file, line: line}
		case slices.Contains([]string{"before", "steps", "after"}, l) && part != "" && part != "setup":
			part = l
			if r := &b.rules[len(b.rules)-1]; r.texts[part] != nil {
				err = fmt.Errorf("%s stands there already", part)
			} else {
				r.texts[part] = &section{}
			}
		default:
			err = errors.New("neither rule, setup, before, steps nor after; what belongs to one of them is indented")
		}
		if err != nil {
			b.wrong(file, line, err)
		}
	}
	if part == "" && len(b.errs) == 0 {
		b.wrong(file, 1, errors.New("there is no rule and no setup"))
	}
}

// begin begins a rule.
func (b *ruleBook) begin(file string, line int, words []string) error {
	r := Rule{File: file, Line: line, texts: map[string]*section{}}
	b.rules = append(b.rules, r)
	own := &b.rules[len(b.rules)-1]
	if len(words) != 2 || !ruleID.MatchString(words[0]) {
		return errors.New("rule ID vN, the ID in capitals as PIN-R1")
	}
	version, found := strings.CutPrefix(words[1], "v")
	n, err := strconv.ParseUint(version, 10, 16)
	if !found || err != nil || n == 0 {
		return errors.New("a version is v1, v2, …")
	}
	own.ID, own.Version = words[0], int(n)
	if i, twice := b.at[own.ID]; twice {
		return fmt.Errorf("rule %s stands at %s:%d already; names are never given again", own.ID, b.rules[i].File, b.rules[i].Line)
	}
	if b.at == nil {
		b.at = map[string]int{}
	}
	b.at[own.ID] = len(b.rules) - 1
	return nil
}

// headerWords begin the lines of a rule's header.
var headerWords = []string{"says", "clause", "evidence", "applies", "costs", "breaks", "link", "withdrawn", "power", "setup"}

// header reads a line of a rule's header.
func (r *Rule) header(word, text string) error {
	if !slices.Contains(headerWords, word) { // it may be a command that stands too high, with a PIN in it
		return fmt.Errorf("no word of a rule: there are %s", strings.Join(headerWords, ", "))
	}
	if text == "" {
		return fmt.Errorf("%s takes words behind it", word)
	}
	further := func(had string) string { return strings.TrimSpace(had + " " + text) }
	switch word {
	case "says":
		r.Says = further(r.Says)
	case "breaks":
		r.Breaks = further(r.Breaks)
	case "withdrawn":
		r.Withdrawn = further(r.Withdrawn)
	case "link":
		r.Links = append(r.Links, text)
	case "setup":
		r.Setup = text
	case "power":
		if text != "at every save" {
			return errors.New("power at every save")
		}
		r.Cuts = true
	case "clause":
		for one := range strings.SplitSeq(text, ",") {
			if one = strings.TrimSpace(one); !clauseID.MatchString(one) {
				return errors.New("a statement of docs/protocol is called as PIN-12")
			}
			r.Clauses = append(r.Clauses, one)
		}
	case "evidence":
		grade, source, _ := strings.Cut(text, ":")
		if !slices.Contains(grades, Grade(grade)) {
			return fmt.Errorf("evidence is one of %q", grades)
		}
		if Grade(grade) == Hardware && !strings.Contains(source, "://") && r.Withdrawn == "" {
			return fmt.Errorf("what was %s has an address behind a colon", Hardware)
		}
		r.Evidence = append(r.Evidence, Evidence{Grade(grade), strings.TrimSpace(source)})
	case "applies":
		for one := range strings.SplitSeq(text, ",") {
			c, err := parseCondition(strings.TrimSpace(one))
			if err != nil {
				return err
			}
			r.Applies = append(r.Applies, c)
		}
	case "costs":
		for one := range strings.SplitSeq(text, ",") {
			if err := r.Costs.add(strings.TrimSpace(one)); err != nil {
				return err
			}
		}
		if r.Costs != (Costs{}) && slices.Contains(strings.Fields(strings.ReplaceAll(text, ",", " ")), "nothing") {
			return errors.New("a rule that costs something does not cost nothing")
		}
		r.texts["costs"] = &section{}
	}
	return nil
}

var (
	clauseID = regexp.MustCompile(`^[A-Z]+-\d+$`)
	tryCount = regexp.MustCompile(`^(\d+) (user|SO) (try|tries)$`)
)

func (c *Costs) add(text string) error {
	switch m := tryCount.FindStringSubmatch(text); {
	case m != nil:
		n, err := strconv.ParseUint(m[1], 10, 8)
		if err != nil || n == 0 || n > 15 {
			return errors.New("tries are 1 to 15")
		}
		if m[2] == "user" {
			c.UserTries = int(n)
		} else {
			c.SOTries = int(n)
		}
	case text == "nothing":
	case text == "a user lockout":
		c.UserLockout = true
	case text == "an SO lockout":
		c.SOLockout = true
	case text == "own objects":
		c.Objects = true
	case text == "all data":
		c.AllData = true
	default:
		return errors.New("a rule costs nothing, N user tries, N SO tries, a user lockout, an SO lockout, own objects, all data")
	}
	return nil
}

// library parses the scenarios of all rules, now that all setups are known.
func (b *ruleBook) library() (Library, error) {
	for i := range b.rules {
		if b.finish(&b.rules[i]); len(b.errs) >= mostErrors || b.steps > mostSteps {
			break
		}
	}
	if b.steps > mostSteps {
		b.wrong(b.rules[0].File, 1, fmt.Errorf("the rules have more than %d lines to be played, with those of setups", mostSteps))
	}
	ready := b.script(usual)
	if len(b.errs) > 0 {
		return Library{}, errors.Join(b.errs...)
	}
	return Library{Rules: b.rules, usual: ready}, nil
}

func (b *ruleBook) finish(r *Rule) {
	for _, want := range []struct {
		word string
		had  bool
	}{{"says", r.Says != ""}, {"clause", len(r.Clauses) > 0}, {"evidence", len(r.Evidence) > 0}, {"costs", r.texts["costs"] != nil}, {"steps", r.texts["steps"] != nil}} {
		if !want.had && r.Withdrawn == "" {
			b.wrong(r.File, r.Line, fmt.Errorf("rule %s has no %s", r.ID, want.word))
		}
	}
	if _, known := b.setups[r.Setup]; r.Setup != "" && !known {
		b.wrong(r.File, r.Line, errors.New("there is no setup of the name that it gives"))
	}
	before := b.script(r.Setup).steps
	r.Before.steps = append(before[:len(before):len(before)], b.parse(r.File, r.texts["before"]).steps...)
	r.Steps, r.After = b.parse(r.File, r.texts["steps"]), b.parse(r.File, r.texts["after"])
	if r.Withdrawn == "" && r.texts["steps"] != nil && !r.judges() {
		b.wrong(r.File, r.Line, fmt.Errorf("the steps of rule %s judge nothing: no answer is asked for", r.ID))
	}
	b.variables(r)
	b.steps += len(r.Before.steps) + len(r.Steps.steps) + len(r.After.steps)
	r.texts = nil
}

// secrets are the variables that a run gives to rules, and keeps.
var secrets = []string{"pin", "so-pin"}

// variables notes what a rule names that nothing has kept before, and what it keeps
// in place of a secret: neither is a fault of a card.
func (b *ruleBook) variables(r *Rule) {
	if b.given == nil {
		b.given = NewPlayer(nil).Vars
	}
	kept := map[string]bool{}
	for _, name := range secrets {
		kept[name] = true
	}
	for _, one := range slices.Concat(r.Before.steps, r.Steps.steps, r.After.steps) {
		file := cmp.Or(one.file, r.File)
		for name := range one.uses() {
			if _, given := b.given[name]; !given && !kept[name] {
				b.wrong(file, one.line, fmt.Errorf("rule %s: no variable %s", r.ID, named(name)))
			}
		}
		for name := range one.keeps() {
			if slices.Contains(secrets, name) {
				b.wrong(file, one.line, fmt.Errorf("rule %s: the variable %s is the owner's", r.ID, name))
			}
			kept[name] = true
		}
	}
}

// uses are the variables that a line takes.
func (s step) uses() iter.Seq[string] {
	return func(yield func(string) bool) {
		var within func(expression) bool
		within = func(e expression) bool {
			for _, i := range e {
				if i.variable != nil && !yield(i.variable.name) || !within(i.inner) {
					return false
				}
			}
			return true
		}
		if !within(s.command) {
			return
		}
		for _, answer := range s.want {
			for _, p := range answer.want {
				if p.variable != nil && !yield(p.variable.name) {
					return
				}
			}
		}
		if s.verb == "differ" {
			for _, name := range s.args {
				if !yield(name) {
					return
				}
			}
		}
	}
}

// keeps are the variables that a line gives a value.
func (s step) keeps() iter.Seq[string] {
	return func(yield func(string) bool) {
		if s.verb == "let" && !yield(s.args[0]) {
			return
		}
		for _, answer := range s.want {
			for _, p := range answer.want {
				if p.name != "" && !yield(p.name) {
					return
				}
			}
		}
	}
}

// judges reports whether something that a card does can break the rule's steps.
func (r *Rule) judges() bool {
	differ := slices.ContainsFunc(r.Steps.steps, func(one step) bool { return one.verb == "differ" })
	return slices.ContainsFunc(r.Steps.steps, func(one step) bool {
		return one.verb == "send" && (differ || r.Cuts || !one.takesAll())
	})
}

// takesAll reports whether any answer will do.
func (s step) takesAll() bool {
	for _, answer := range [][]byte{{0x90, 0x00}, {0x6F, 0x00}} {
		if _, fits, err := fit(s.want, answer, Vars{}); err != nil || !fits {
			return false
		}
	}
	return true
}

// script is the lines of a setup.
func (b *ruleBook) script(name string) Script {
	of, known := b.setups[name]
	if !known {
		return Script{}
	}
	if of.read == nil {
		s := b.parse(of.file, &of.text)
		for i := range s.steps {
			s.steps[i].file = of.file
		}
		of.read = &s
		b.setups[name] = of
	}
	return *of.read
}

// parse parses the lines of a section, each at its number.
func (b *ruleBook) parse(file string, text *section) Script {
	if text == nil {
		return Script{}
	}
	s, err := Parse(strings.Join(text.lines, "\n"))
	if syntax := (*SyntaxError)(nil); errors.As(err, &syntax) {
		b.wrong(file, text.first-1+syntax.Line, syntax.Err)
	}
	for i := range s.steps {
		s.steps[i].line += text.first - 1
	}
	for _, one := range s.steps {
		switch {
		case one.verb == "card":
			b.wrong(file, one.line, errors.New("a rule does not say on which card it is played"))
		case one.verb == "holds", slices.ContainsFunc(one.seen, func(l string) bool { return l[0] != '<' }):
			b.wrong(file, one.line, errors.New("a rule is judged by answers, and by !N behind one; what lines with = ! ~ and holds say is for scenarios"))
		}
	}
	return s
}

// wrong notes what is wrong with a file, once.
func (b *ruleBook) wrong(file string, line int, err error) {
	if len(b.errs) >= mostErrors {
		return
	}
	one := &RuleError{file, line, err}
	if !slices.ContainsFunc(b.errs, func(had error) bool { return had.Error() == one.Error() }) {
		b.errs = append(b.errs, one)
	}
}
