// Package start makes new cards in a start state that a folder describes, before
// anybody can use them: a card.json that says what the card is, and scenarios, in
// the language of package conform, that are played on it.
//
//	state, err := start.Read("init", "lab")
//	err = state.Make(ctx, dir, "lab", store.Options{}, emulator.System())
//
// The folder init/lab, where there is one, is for the card lab alone. A card is
// kept when all of it has succeeded, or else not at all.
package start

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/emulator"
	"hsmemu/emulator/broken"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/conform"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
	"hsmemu/vsmartcard"
)

const (
	// orderFile says what the card is.
	orderFile = "card.json"
	// scenarioSuffix is that of files with commands.
	scenarioSuffix = ".txt"
	// largest is how long a file may be, in bytes.
	largest = 1 << 20
)

// The errors of this package. They come with the file, and where that has lines
// with the line.
var (
	// ErrNothing says that a folder describes no card.
	ErrNothing = errors.New("there is neither card.json nor a scenario, NAME.txt")
	// ErrCards says that a scenario speaks of cards. A start state is that of one.
	ErrCards = errors.New("a start state is that of one card, which is there already: no line card")
	// ErrFile says that something is no file, or longer than 1 MiB.
	ErrFile = errors.New("a file of 1 MiB at most is needed")
)

// State is a start state that has been read.
type State struct {
	// Files are what it consists of, in the order in which they count: names
	// without their folder.
	Files []string

	folder  string
	order   statedir.Order
	scripts []conform.Script // of the files that are scenarios, in their order
}

// Read reads the start state of a card. Errors: ErrNothing, ErrFile, and what is
// wrong in a file, with its line.
func Read(folder, card string) (*State, error) {
	if own := filepath.Join(folder, card); card != "" && filepath.IsLocal(card) {
		if info, err := os.Stat(own); err == nil && info.IsDir() {
			folder = own
		}
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("read the start state: %w", err)
	}
	s := &State{folder: folder}
	var scenarios []string
	for _, e := range entries { // in the order of their names
		switch name := e.Name(); {
		case name == orderFile:
			s.Files = []string{name}
		case strings.HasSuffix(name, scenarioSuffix):
			scenarios = append(scenarios, name)
		}
	}
	for _, name := range s.Files {
		text, err := s.read(name)
		if err == nil {
			s.order, err = parseOrder(text)
		}
		if err != nil {
			return nil, s.about(name, err)
		}
	}
	for _, name := range scenarios {
		text, err := s.read(name)
		var script conform.Script
		if err == nil {
			script, err = conform.Parse(capitals(string(text)))
		}
		if err != nil {
			return nil, s.about(name, err)
		}
		s.scripts = append(s.scripts, script)
	}
	if s.Files = slices.Concat(s.Files, scenarios); len(s.Files) == 0 {
		return nil, fmt.Errorf("%s: %w", folder, ErrNothing)
	}
	return s, nil
}

// about says which file an error is about.
func (s *State) about(name string, err error) error {
	return fmt.Errorf("%s: %w", filepath.Join(s.folder, name), err)
}

func (s *State) read(name string) ([]byte, error) {
	path := filepath.Join(s.folder, name)
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() { // whose end may never come
		return nil, ErrFile
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, largest+1))
	if err == nil && len(text) > largest {
		err = ErrFile
	}
	return bytes.TrimPrefix(text, []byte(byteOrderMark)), err
}

// byteOrderMark is what Windows' editors begin files with.
const byteOrderMark = "\ufeff"

// capitals writes lines that are commands as `hsmemu apdu` takes them, in
// hexadecimal of any case, as scenarios have them.
func capitals(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		command, answer, is := strings.Cut(l, "=>")
		b, err := apdu.ParseHex(command)
		if err != nil || len(b) == 0 {
			continue
		}
		lines[i] = fmt.Sprintf("%X", b)
		if is { // in the column where it was, which errors tell
			lines[i] = fmt.Sprintf("%-*s=>%s", utf8.RuneCountInString(command), lines[i], answer)
		}
	}
	return strings.Join(lines, "\n")
}

// lineError is an error about a line of a file, from 1.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }

func (e *lineError) Unwrap() error { return e.err }

// parseOrder reads card.json. Errors have the line.
func parseOrder(text []byte) (statedir.Order, error) {
	var said Words
	var like string
	forms := map[string]struct {
		to   any
		form string
	}{
		"firmware": {&said.Firmware, "text in quotation marks"},
		"serial":   {&said.Serial, "text in quotation marks"},
		"broken":   {&said.Broken, "text in quotation marks"},
		"like":     {&like, "text in quotation marks"},
		"answers":  {&said.Answers, "a list of texts, as in [\"bad-blob=6400\"]"},
		"seed":     {&said.Seed, "a whole number from 0 to 18446744073709551615"},
		"key_pool": {&said.KeyPool, "true or false"},
	}
	d := json.NewDecoder(bytes.NewReader(text))
	line := func(offset int) int { return 1 + bytes.Count(text[:min(offset, len(text))], []byte("\n")) }
	at := func(err error) error {
		offset := int(d.InputOffset())
		if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
			offset = max(offset, int(syntax.Offset))
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			offset, err = len(text), errors.New("the object has no end")
		}
		return &lineError{line(offset), err}
	}
	if first, err := d.Token(); errors.Is(err, io.EOF) || err == nil && first != json.Delim('{') {
		return statedir.Order{}, at(errors.New("an object is needed, {} for a card as shipped"))
	} else if err != nil {
		return statedir.Order{}, at(err)
	}
	lines := map[string]int{} // where members stand
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return statedir.Order{}, at(err)
		}
		member := name.(string) //nolint:forcetypeassert // the decoder lets nothing else be there
		m, known := forms[member]
		if !known {
			return statedir.Order{}, at(unknownMember(member, slices.Sorted(maps.Keys(forms))))
		}
		if lines[member] > 0 {
			return statedir.Order{}, at(fmt.Errorf("%s is there twice", member))
		}
		lines[member] = line(int(d.InputOffset()))
		err = d.Decode(m.to)
		if errors.As(err, new(*json.UnmarshalTypeError)) { // which may repeat the value
			err = fmt.Errorf("%s has to be %s", member, m.form)
		}
		if err != nil {
			return statedir.Order{}, at(err)
		}
	}
	if _, err := d.Token(); err != nil {
		return statedir.Order{}, at(err)
	}
	if rest := bytes.TrimSpace(text[d.InputOffset():]); len(rest) > 0 {
		return statedir.Order{}, at(errors.New("something follows the object"))
	}
	if like != "" {
		said.Like = strings.Split(like, ",")
	}
	o, err := said.Order()
	if its := (*WordError)(nil); errors.As(err, &its) {
		member := its.Word
		if lines[member] == 0 {
			member = "like" // which may give the firmware
		}
		err = &lineError{lines[member], &WordError{member, unquoted(its.Err)}}
	}
	return o, err
}

var memberName = regexp.MustCompile(`^[A-Za-z_]+$`)

// unknownMember is the error for a member that card.json does not have. One that looks
// like none may be a value in the wrong place. Those that it has are known.
func unknownMember(name string, known []string) error {
	called := "of this name"
	if memberName.MatchString(name) {
		called = strconv.Quote(name)
	}
	return fmt.Errorf("there is no member %s, there are %s", called, strings.Join(known, ", "))
}

// unquoted is what is wrong with a word, without its value: a file may have a PIN where
// none belongs, and what is said of it goes into logs.
func unquoted(err error) error {
	var firmware *FirmwareError
	switch {
	case errors.As(err, &firmware):
		return fmt.Errorf("there is none called so, the nearest is %s", firmware.Nearest)
	case errors.As(err, new(*ContradictionError)):
		return errors.New("its firmware contradicts the member firmware")
	case errors.Is(err, applet.ErrAnswer):
		return fmt.Errorf("each is one of %s", strings.Join(applet.AnswerWords(), ", "))
	}
	for _, plain := range []error{chip.ErrSerial, broken.ErrUnknown} {
		if errors.Is(err, plain) {
			return plain
		}
	}
	return err // of a situation, which quotes names alone
}

// Make makes the card in a folder, and keeps it as the first of the sealers says
// when the scenarios have been played on it. Errors: those of statedir.Dir.Make;
// with the file and the line what a scenario wants that the card does not do.
func (s *State) Make(ctx context.Context, d *statedir.Dir, card string, opt store.Options, w emulator.World) error {
	return d.MakeBy(card, s.order, opt, w, func(c *emulator.Card) error { return s.play(ctx, c) })
}

// play plays the scenarios, each from power on.
func (s *State) play(ctx context.Context, c *emulator.Card) error {
	names := s.Files[len(s.Files)-len(s.scripts):]
	for i, script := range s.scripts {
		if err := c.Reset(); err != nil {
			return s.about(names[i], err)
		}
		player := conform.NewPlayer(func(string, string) (vsmartcard.Card, error) { return nil, ErrCards })
		player.Current = &conform.Host{Card: c}
		err := player.Play(ctx, script)
		if m := (*conform.Mismatch)(nil); errors.As(err, &m) {
			err = &lineError{m.Line, fmt.Errorf("%s: the card answers %s, and not %s", m.Text, strings.TrimLeft(m.Got, "< "), strings.TrimLeft(m.Want, "< "))}
		}
		if err != nil {
			return s.about(names[i], err)
		}
	}
	return nil
}
