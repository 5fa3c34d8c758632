package conform

import (
	"errors"
	"strings"
)

// alternative is one of the answers that a command may have.
type alternative struct {
	want pattern
	// differs says where it was seen, if it is an answer that hardware is known to
	// give although the rule is another.
	differs string
}

// parseAnswers reads what stands behind < or =>: patterns, with | between them and
// (differs: WHY) behind those that are known and yet not what is asked for. Errors are
// misplaced.
func parseAnswers(text string) ([]alternative, error) {
	var all []alternative
	at := 0 // of the next one
	for _, one := range splitAnswers(text) {
		start := at
		at += len(one) + len("|")
		wrong := func(err error) error { return &misplaced{placeOf(text, text[start:]), err} }
		var a alternative
		if body, note, found := strings.Cut(one, "(differs:"); found {
			why, closed := strings.CutSuffix(strings.TrimSpace(note), ")")
			if a.differs = strings.TrimSpace(why); !closed || a.differs == "" {
				return nil, wrong(errors.New("(differs: WHERE IT WAS SEEN)"))
			}
			one = body
		}
		var err error
		if a.want, err = parsePattern(one); err != nil {
			return nil, within(start, err)
		}
		if len(a.want) == 0 && text != "" {
			return nil, wrong(errors.New("an empty answer beside |"))
		}
		all = append(all, a)
	}
	return all, nil
}

// splitAnswers splits at each | that is neither in text, in a variable nor in a note.
func splitAnswers(text string) []string {
	var parts []string
	start, quoted, depth := 0, false, 0
	for i, c := range text {
		switch {
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '(':
			depth++
		case c == '}' || c == ')':
			depth--
		case c == '|' && depth == 0:
			parts = append(parts, text[start:i])
			start = i + 1
		}
	}
	return append(parts, text[start:])
}

// fit is the first alternative that an answer fits, if there is one.
func fit(all []alternative, answer []byte, v Vars) (alternative, bool, error) {
	for _, one := range all {
		fits, err := one.want.match(answer, v)
		if fits || err != nil {
			return one, fits, err
		}
	}
	return alternative{}, false, nil
}
