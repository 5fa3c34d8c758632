// Package lesson is lessons with cards: folders with a text and a script that
// verifies each step, and a session in which somebody works through one.
//
// A lesson is a folder as Killercoda and localcoda take it: index.json names a
// text and a verify script for each step. What is ours stands beside that, in
// lesson.json: the cards that are in readers, hints, a solution and what the step
// would have cost on hardware. Whether a step is solved is judged by the state of
// the cards and by what happened to them, see Expect, and never by what was typed.
//
//	l, err := lesson.Load(os.DirFS("blocked-pin"))
//	s, err := lesson.Begin(ctx, l, o)
//	verdict, err := s.Check(ctx)
//
// Scripts of lessons are programs. They get a time limit, few variables, and a folder of
// their own, which is all that they can write to where program.Confines says so. They are
// not locked in: they read what their user can, and talk with whom he can.
package lesson

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"hsmemu/emulator/statedir"
	"hsmemu/emulator/view"
)

// Names of the two files that describe a lesson.
const (
	indexFile = "index.json"
	ownFile   = "lesson.json"
)

// Limits of a lesson's folder.
const (
	maxFile  = 1 << 20
	maxSteps = 50
	maxCards = 8
	hintsOf  = 3
)

// A Problem is what is wrong with a lesson, and where.
type Problem struct {
	File string // in the lesson's folder
	Line int    // from 1; 0 if it is about the whole file
	What string
}

// Error is the file, the line, and what is wrong.
func (p *Problem) Error() string {
	if p.Line == 0 {
		return p.File + ": " + p.What
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.What)
}

// A Lesson is what its folder says.
type Lesson struct {
	Title, Description string
	Intro, Finish      string // texts
	// Setup is a script that makes the lesson's cards; empty for none.
	Setup string
	// Serve is a script that starts what runs beside the lesson; empty for none. Undo ends
	// that, and starts it again with the files of then.
	Serve string
	// Cards are the names of those that are in readers, in their order.
	Cards []string
	// Minutes is how long it takes, about.
	Minutes int
	Steps   []Step

	files fs.FS
}

// A Step is one task. Scripts are paths in the lesson's folder.
type Step struct {
	Title, Text string
	Verify      string
	// Hints are three texts, each of which tells more; nil where a lesson has none.
	Hints []string
	// Solution is a script; empty where a lesson has none.
	Solution string
	// Cost is what it would have cost on hardware, in a sentence; it may be empty.
	Cost string

	textFile, hintsFile string
}

//go:embed all:ours
var ours embed.FS

// Ours are the names of the lessons that come with the program, in the order in
// which to take them.
func Ours() []string {
	text, err := ours.ReadFile("ours/order")
	if err != nil {
		panic(err) // it is embedded
	}
	return strings.Fields(string(text))
}

// ErrNoLesson says that there is no lesson of a name.
var ErrNoLesson = errors.New("there is no such lesson")

// Own loads one of Ours. Error: ErrNoLesson.
func Own(name string) (*Lesson, error) {
	if !slices.Contains(Ours(), name) {
		return nil, fmt.Errorf("lesson %q: %w", name, ErrNoLesson)
	}
	sub, err := fs.Sub(ours, path.Join("ours", name))
	if err != nil {
		return nil, err
	}
	return Load(sub)
}

// Named loads one of Ours, or else the lesson in the folder of that name. Errors:
// ErrNoLesson, which says the nearest name, where there is neither and one is near, and
// those of Open.
func Named(name string) (*Lesson, error) {
	l, err := Own(name)
	if !errors.Is(err, ErrNoLesson) {
		return l, err
	}
	l, absent := Open(name)
	if near := view.Nearest(name, Ours()); near != "" && errors.Is(absent, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w, and no such folder; did you mean %q?", err, near)
	}
	return l, absent
}

// Load reads a lesson. Everything that is wrong with it is a *Problem, all of them
// joined.
func Load(files fs.FS) (*Lesson, error) {
	r := reader{files: files}
	var index struct {
		Title, Description string
		Details            struct {
			Intro struct{ Text, Background, Foreground string }
			Steps []struct{ Title, Text, Verify, Background, Foreground string }

			Finish struct{ Text, Background string }
		}
		Backend json.RawMessage
	}
	if !r.json(indexFile, &index, false) {
		return nil, r.err()
	}
	l := &Lesson{Title: index.Title, Description: index.Description, files: files}
	d := index.Details
	if l.Title == "" {
		r.fault(indexFile, 0, "it has no title")
	}
	r.plain(indexFile, "title", l.Title)
	r.plain(indexFile, "description", l.Description)
	l.Intro, l.Finish = r.text(indexFile, d.Intro.Text), r.text(indexFile, d.Finish.Text)
	if d.Intro.Background != "" {
		l.Setup = r.script(indexFile, d.Intro.Background)
	}
	if n := len(d.Steps); n == 0 || n > maxSteps {
		r.fault(indexFile, 0, fmt.Sprintf("it has %d steps, and may have 1 to %d", n, maxSteps))
	}
	for i, s := range d.Steps {
		r.plain(indexFile, fmt.Sprintf("title of step %d", i+1), s.Title)
		step := Step{Title: s.Title, Text: r.text(indexFile, s.Text), textFile: s.Text}
		switch {
		case s.Title == "":
			r.fault(indexFile, r.line(indexFile, s.Text), "a step without a title")
		case s.Verify == "":
			r.fault(indexFile, r.line(indexFile, s.Title), fmt.Sprintf("step %q has no verify script", s.Title))
		default:
			step.Verify = r.script(indexFile, s.Verify)
		}
		l.Steps = append(l.Steps, step)
	}
	r.own(l)
	r.links()
	return l, r.err()
}

// reader reads a lesson's folder and collects what is wrong with it.
type reader struct {
	files    fs.FS
	problems []error
}

func (r *reader) err() error { return errors.Join(r.problems...) }

func (r *reader) fault(file string, line int, what string) {
	r.problems = append(r.problems, &Problem{file, line, what})
}

// plain refuses what a terminal may take for a command in a member that is one line.
func (r *reader) plain(file, member, text string) {
	if strings.ContainsFunc(text, unicode.IsControl) {
		r.fault(file, 0, "a control character in the "+member+", which a terminal may take for a command")
	}
}

// own reads what stands beside the index.
func (r *reader) own(l *Lesson) {
	var own struct {
		Schema  int
		Minutes int
		Cards   []string
		Serve   string
		Steps   []struct{ Hints, Solution, Cost string }
	}
	if _, err := fs.Stat(r.files, ownFile); errors.Is(err, fs.ErrNotExist) {
		return // a lesson of another player
	}
	if !r.json(ownFile, &own, true) {
		return
	}
	if own.Schema != 1 {
		r.fault(ownFile, 0, fmt.Sprintf("schema %d, and not 1", own.Schema))
	}
	if len(own.Cards) > maxCards {
		r.fault(ownFile, 0, fmt.Sprintf("%d cards, and at most %d", len(own.Cards), maxCards))
	}
	for i, name := range own.Cards {
		if err := statedir.CheckName(name); err != nil {
			r.fault(ownFile, r.line(ownFile, name), err.Error())
		} else if slices.Contains(own.Cards[:i], name) {
			r.fault(ownFile, r.line(ownFile, name), fmt.Sprintf("card %q is there twice", name))
		}
	}
	if own.Minutes < 0 {
		r.fault(ownFile, r.line(ownFile, "minutes"), fmt.Sprintf("%d minutes", own.Minutes))
	}
	l.Cards, l.Minutes = own.Cards, own.Minutes
	if own.Serve != "" {
		l.Serve = r.script(ownFile, own.Serve)
	}
	if len(own.Steps) != len(l.Steps) {
		r.fault(ownFile, 0, fmt.Sprintf("it is about %d steps, and %s has %d", len(own.Steps), indexFile, len(l.Steps)))
		return
	}
	for i, s := range own.Steps {
		step := &l.Steps[i]
		step.Cost, step.hintsFile = s.Cost, s.Hints
		r.plain(ownFile, fmt.Sprintf("cost of step %d", i+1), s.Cost)
		if s.Solution != "" {
			step.Solution = r.script(ownFile, s.Solution)
		}
		if s.Hints == "" {
			continue
		}
		step.Hints = hints(r.text(ownFile, s.Hints))
		if n := len(step.Hints); n != hintsOf {
			r.fault(s.Hints, 0, fmt.Sprintf("%d hints, and not %d: each begins with a line \"## \"", n, hintsOf))
		}
	}
}

// json reads one of the two files. strict refuses members that are not known: other
// players have more in theirs.
func (r *reader) json(file string, into any, strict bool) bool {
	text, ok := r.read(file, 0, file)
	if !ok {
		return false
	}
	text = strings.TrimPrefix(text, byteOrderMark)
	d := json.NewDecoder(strings.NewReader(text))
	if strict {
		d.DisallowUnknownFields()
	}
	err := d.Decode(into)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something stands behind its end")
		}
	}
	if err == nil {
		return true
	}
	at, what := d.InputOffset(), strings.TrimPrefix(err.Error(), "json: ")
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		at = syntax.Offset
	case errors.As(err, &kind):
		at, what = kind.Offset, unfit(kind)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		at, what = int64(len(text)), "unexpected end"
	default: // an unknown member is named and not located
		if name := unknownMember.FindString(err.Error()); name != "" {
			at = int64(max(0, strings.Index(text, name)))
		}
	}
	r.fault(file, 1+strings.Count(text[:min(int(at), len(text))], "\n"), what)
	return false
}

// unfit says which member has a value of another kind than it may have.
func unfit(e *json.UnmarshalTypeError) string {
	article := "a"
	if strings.HasPrefix(e.Value, "array") || strings.HasPrefix(e.Value, "object") {
		article = "an"
	}
	member := strings.ToLower(strings.TrimPrefix(e.Field, "."))
	if member == "" {
		return fmt.Sprintf("%s %s, and not an object", article, e.Value)
	}
	return fmt.Sprintf("%s: %s %s does not fit", member, article, e.Value)
}

var unknownMember = regexp.MustCompile(`"[^"]*"$`)

// line is where a file names another one.
func (r *reader) line(file, word string) int {
	text, err := fs.ReadFile(r.files, file)
	quoted, _ := json.Marshal(word) // a string
	at := bytes.Index(text, quoted)
	if err != nil || word == "" || at < 0 {
		return 0
	}
	return 1 + bytes.Count(text[:at], []byte("\n"))
}

// byteOrderMark is what Windows' editors begin texts with.
const byteOrderMark = "\ufeff"

// read reads a file that a line of another one names.
func (r *reader) read(from string, line int, name string) (string, bool) {
	if !fs.ValidPath(name) || strings.Contains(name, `\`) {
		r.fault(from, line, fmt.Sprintf("%q leaves the lesson's folder", name))
		return "", false
	}
	info, err := fs.Stat(r.files, name)
	switch {
	case err != nil:
		r.fault(from, line, fmt.Sprintf("%s: there is no such file", name))
		return "", false
	case !info.Mode().IsRegular():
		r.fault(from, line, name+": it is no file")
		return "", false
	case info.Size() > maxFile:
		r.fault(from, line, fmt.Sprintf("%s: longer than %d bytes", name, maxFile))
		return "", false
	}
	text, err := fs.ReadFile(r.files, name)
	if err != nil {
		r.fault(from, line, err.Error())
		return "", false
	}
	return string(text), true
}

func (r *reader) text(from, name string) string {
	if name == "" {
		return ""
	}
	text, _ := r.read(from, r.line(from, name), name)
	text = strings.ReplaceAll(strings.TrimPrefix(text, byteOrderMark), "\r\n", "\n")
	for i, line := range strings.Split(text, "\n") {
		switch {
		case !utf8.ValidString(line):
			r.fault(name, i+1, "it is not UTF-8")
		case strings.ContainsFunc(line, func(c rune) bool { return c != '\t' && unicode.IsControl(c) }):
			r.fault(name, i+1, "a control character, which a terminal may take for a command")
		}
	}
	if _, open := blocks(text); open > 0 {
		r.fault(name, open, "this block of code does not end")
	}
	return text
}

// outside is a path in a script that leads out of the folder that it runs in, and inside
// one that does not where it goes up and down. Words of a shell begin behind a blank, a
// quote, an operator or an equals sign.
var (
	outside = regexp.MustCompile("(?:^|[\\s'\"=<>|&;(`])((?:~|\\.\\.)(?:/\\S*)?(?:[\\s'\")]|$)|\\S*/\\.\\.(?:/\\S*)?|/[A-Za-z]\\S*|cd\\s+/(?:[\\s&|;)]|$))")
	inside  = regexp.MustCompile(`^[\w.-]+(?:/[\w.-]+)*$`)
)

// script is the path of a script, which has to stay in its folder: one that names a
// path outside of it is refused, with its line. That is an early word to whoever writes it,
// for what a shell will do cannot be read off its text; Session.start confines it.
func (r *reader) script(from, name string) string {
	text, ok := r.read(from, r.line(from, name), name)
	if !ok {
		return ""
	}
	if strings.HasPrefix(text, byteOrderMark) {
		r.fault(name, 1, "a byte order mark, as Windows' editors begin files with, and which shells do not understand")
	}
	if of := interpreter(text); !slices.Contains(shells, of) {
		r.fault(name, 1, fmt.Sprintf("a script for %q, and scripts of lessons run in sh or bash", of))
		return name
	}
	for i, line := range strings.Split(text, "\n") {
		if strings.HasSuffix(line, "\r") {
			r.fault(name, i+1, "the line ends as in Windows, which shells do not understand")
			break
		}
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for _, m := range outside.FindAllStringSubmatch(line, -1) {
			word := strings.Trim(m[1], " '\")&|;")
			if within := inside.MatchString(word) && filepath.IsLocal(word); !within && !strings.HasPrefix(word, "/dev/null") {
				r.fault(name, i+1, fmt.Sprintf("%q leads out of the lesson's folder", word))
			}
		}
	}
	return name
}

// links refuses whatever in the folder is neither a file nor a folder.
func (r *reader) links() {
	err := fs.WalkDir(r.files, ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && !e.Type().IsRegular() {
			r.fault(name, 0, "a link, and no file: it may lead out of the lesson's folder")
		}
		return err
	})
	if err != nil {
		r.fault(".", 0, err.Error())
	}
}
