package conform

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"hsmemu/applet/sm"
)

// Script is a scenario that has been read. It can be played any number of times.
type Script struct {
	steps []step
}

// SyntaxError says in which line of a script something is not understood, and where
// that is known in which column, in characters from 1. It quotes nothing of the line
// but keywords.
type SyntaxError struct {
	Line int // from 1
	Err  error
}

// Error is the line and what is wrong with it.
func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap is what is wrong with the line.
func (e *SyntaxError) Unwrap() error { return e.Err }

// step is a line of a script, with the lines behind it that say what can be seen.
type step struct {
	file string // that the line is of, if it is not the script's own
	line int
	text string // as it was written

	verb    string // a directive, "send", or empty for a comment
	args    []string
	suite   sm.Suite      // of sm on
	command expression    // of send and let
	want    []alternative // of send
	wanted  string        // its text
	oneLine bool          // the command is written without > before it
	saves   string        // by a command of one line, empty if that is not said
	seen    []string      // the lines behind it
}

// observed are the first characters of the lines that say what can be seen.
const observed = "<=!~"

// arrow is a command with its answer in one line.
var arrow = regexp.MustCompile(`^(.*?)\s*=>\s*(.*?)(?:\s*!(\d{1,3}))?$`)

var suites = map[string]sm.Suite{"3des": sm.TripleDES, "aes128": sm.AES128, "aes192": sm.AES192, "aes256": sm.AES256}

// selectWord is the line that stands for the command selection.
const selectWord = "select"

const selection = "00 A4 04 0C Lc(E82B0601040181C31F0201)"

// success is the answer that a command has if none is written.
const success = "9000"

// Parse reads a script, whose language the package comment describes. Error:
// *SyntaxError.
func Parse(text string) (Script, error) {
	var s Script
	open := false // the last line may have a line behind it that says what can be seen
	for i, l := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(l)
		var err error
		if trimmed != "" && strings.ContainsRune(observed, rune(trimmed[0])) && !strings.HasPrefix(trimmed, "=>") {
			if open {
				err = s.steps[len(s.steps)-1].see(trimmed)
			} else {
				err = errors.New("there is no command that this could be seen of")
			}
		} else {
			var one step
			one, err = parseStep(trimmed)
			one.line, one.text = i+1, l
			s.steps = append(s.steps, one)
			open = trimmed != "" && (trimmed[0] == '>' || one.suite != 0)
		}
		if err != nil {
			return Script{}, &SyntaxError{i + 1, inColumn(l, within(strings.Index(l, trimmed), err))}
		}
	}
	return s, nil
}

// see adds a line that says what can be seen of a step.
func (s *step) see(line string) (err error) {
	if answer, ok := strings.CutPrefix(line, "<"); ok && s.verb == "send" {
		if len(s.seen) > 0 {
			return errors.New("the answer comes first, and once")
		}
		s.wanted = strings.TrimSpace(answer)
		s.want, err = parseAnswers(s.wanted)
		err = within(len(line)-len(s.wanted), err)
		line = "< " + s.wanted
	}
	s.seen = append(s.seen, line)
	return err
}

func parseStep(text string) (step, error) {
	words := strings.Fields(text)
	if len(words) == 0 || words[0][0] == '#' {
		return step{}, nil
	}
	s := step{verb: words[0], args: words[1:]}
	count := func(least, most int) error {
		if n := len(s.args); n < least || n > most {
			return fmt.Errorf("%s takes other words behind it", s.verb)
		}
		return nil
	}
	var err error
	switch s.verb {
	case "card":
		return s, count(1, 2)
	case "cut":
		return s, count(0, 0)
	case "differ":
		return s, count(2, 2)
	case selectWord:
		if err = count(0, 0); err != nil {
			return step{}, err
		}
		return parseCommand(selection)
	case "holds":
		s.args = []string{strings.Join(s.args, " ")}
		return s, nil
	case "sm":
		var known bool
		if s.suite, known = suites[strings.Join(s.args[min(1, len(s.args)):], " ")]; known && s.args[0] == "on" || slices.Equal(s.args, []string{"off"}) {
			return s, nil
		}
		return step{}, errors.New("neither sm off nor sm on with a suite: 3des, aes128, aes192 or aes256")
	case "let":
		name, value, found := strings.Cut(strings.TrimPrefix(text, "let"), "=")
		name = strings.TrimSpace(name)
		if !found || !variableName.MatchString(name) {
			return step{}, errors.New("let NAME = BYTES")
		}
		s.args = []string{name}
		s.command, err = parseExpression(value)
		return s, within(len(text)-len(value), err)
	}
	return parseCommand(text)
}

// parseCommand reads a command, with the answer if it is written in one line.
func parseCommand(text string) (s step, err error) {
	s = step{verb: "send", wanted: success}
	command, longer := strings.CutPrefix(text, ">")
	first, answer := len(text)-len(command), 0 // where they begin
	s.oneLine = !longer
	if m := arrow.FindStringSubmatchIndex(text); m != nil && s.oneLine {
		command, answer, s.wanted = text[m[2]:m[3]], m[4], text[m[4]:m[5]]
		if m[6] >= 0 {
			s.saves = text[m[6]:m[7]]
		}
	}
	if s.want, err = parseAnswers(s.wanted); err != nil {
		return step{}, within(answer, err)
	}
	s.command, err = parseExpression(command)
	return s, within(first, err)
}

// String is the text that the script was read from, up to spaces around the lines
// that say what can be seen.
func (s Script) String() string {
	var lines []string
	for _, one := range s.steps {
		lines = append(lines, one.text)
		lines = append(lines, one.seen...)
	}
	return strings.Join(lines, "\n")
}

// variableName is what a variable may be called: what answers and expressions can
// name.
var variableName = regexp.MustCompile(`^[A-Za-z0-9]+$`)
