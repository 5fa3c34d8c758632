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
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/emulator"
	"hsmemu/emulator/conform"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
	"hsmemu/emulator/view"
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

// ordered is card.json. Every member may be left out.
type ordered struct {
	Firmware string   `json:"firmware"`
	Serial   string   `json:"serial"`
	Like     string   `json:"like"`     // as `card new --like`
	Answers  []string `json:"answers"`  // as `card new --answer`
	Broken   string   `json:"broken"`   // as `card new --broken`
	Seed     *uint64  `json:"seed"`     // as `card new --seed`
	KeyPool  bool     `json:"key_pool"` // as `card new --key-pool`
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
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > largest {
		return nil, ErrFile
	}
	return os.ReadFile(path)
}

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
		if is {
			lines[i] += " =>" + answer
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
func parseOrder(text []byte) (o statedir.Order, err error) {
	var said ordered
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	at := func(offset int64, err error) error {
		return &lineError{1 + bytes.Count(text[:min(int(offset), len(text))], []byte("\n")), err}
	}
	if err := d.Decode(&said); err != nil {
		offset := d.InputOffset()
		var syntax *json.SyntaxError
		var kind *json.UnmarshalTypeError
		switch name, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); {
		case errors.As(err, &syntax):
			offset = syntax.Offset
		case errors.As(err, &kind):
			offset, err = kind.Offset, fmt.Errorf("%s is no %s", kind.Field, kind.Value)
		case unknown:
			offset, err = int64(max(0, bytes.Index(text, []byte(name)))), fmt.Errorf("there is no member %s", name)
		}
		return o, at(offset, err)
	}
	if d.More() {
		return o, at(d.InputOffset(), errors.New("something follows the object"))
	}
	// What a member says that is wrong is told of its line.
	of := func(member string, err error) error {
		return at(int64(max(0, bytes.Index(text, []byte(`"`+member+`"`)))), fmt.Errorf("%s: %w", member, err))
	}
	o.Firmware, o.Serial, o.Broken, o.Seed, o.KeyPool = said.Firmware, said.Serial, said.Broken, said.Seed, said.KeyPool
	if said.Like != "" {
		like, firmware, err := view.ParseSituation(strings.Split(said.Like, ","))
		if err != nil {
			return o, of("like", err)
		}
		if o.Like = &like; firmware != "" {
			o.Firmware = firmware
		}
	}
	if o.Firmware == "" {
		o.Firmware = applet.DefaultFirmware
	}
	if _, known := applet.ProfileOf(o.Firmware); !known {
		return o, of("firmware", fmt.Errorf("there is none called %q, the nearest is %s", o.Firmware, applet.NearestFirmware(o.Firmware)))
	}
	if err := o.CheckSerial(); err != nil {
		return o, of("serial", err)
	}
	if o.Answers, err = applet.ParseAnswers(said.Answers); err != nil {
		return o, of("answers", err)
	}
	return o, nil
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
			err = &lineError{m.Line, fmt.Errorf("%s: the card answers %s, and not %s", strings.TrimSpace(m.Text), strings.TrimLeft(m.Got, "< "), strings.TrimLeft(m.Want, "< "))}
		}
		if err != nil {
			return s.about(names[i], err)
		}
	}
	return nil
}
