package lesson

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"hsmemu/emulator"
	"hsmemu/emulator/control"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
)

// Undo puts cards and files back to how they were when the present step began, and cards in
// or out of their readers. Faults are those of then, set anew, and no others. What Unkept says
// is as it is now. At the end the last step is the present one again, with its hints and tries.
// Errors: ErrGoneOn, ErrLost.
func (s *Session) Undo(ctx context.Context) error {
	return s.inTurn(ctx, func() error {
		step := min(s.progress.Step, len(s.Lesson.Steps)-1)
		if err := s.restore(ctx, step); err != nil {
			return err
		}
		if step != s.progress.Step {
			s.progress.Step, s.progress.By = step, s.shell
		}
		s.progress.Solved = false
		return s.keep()
	})
}

// Reset goes back to the first step, with cards and files as they were then. How it began is
// left as it is kept: if this is killed, Undo and Reset can still be done. Error: ErrLost.
func (s *Session) Reset(ctx context.Context) (err error) {
	for _, folder := range writable { // whoever works there may have removed one
		if err := os.MkdirAll(s.path(folder), 0o700); err != nil {
			return err
		}
	}
	over, err := s.turn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, over()) }()
	s.progress = progress{By: s.shell}
	if err := s.restore(ctx, 0); err != nil {
		return err
	}
	return s.keep()
}

// begin keeps how everything is when a step begins, so that Undo comes back to it.
func (s *Session) begin() error {
	s.progress.Solved, s.progress.By = false, s.shell
	if s.Step() == nil { // the last step's hints and tries are for Undo
		return s.keep()
	}
	s.progress.Hints, s.progress.Tries = 0, 0
	names, err := s.cards.Names()
	if err != nil {
		return err
	}
	err = s.within("undo", func(root *os.Root) error {
		fresh := fmt.Sprint(s.progress.Step)
		err := errors.Join(removeIn(root, fresh), root.MkdirAll(fresh+"/cards", 0o700), root.MkdirAll(fresh+"/work", 0o700))
		if err != nil {
			return err
		}
		for _, name := range names {
			err := s.cards.Export(name, path.Join(fresh, "cards", name), unsealedIn(root))
			if err != nil && !errors.Is(err, statedir.ErrUnkept) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	then := stepBegun{Unkept: []string{}, Ejected: []string{}, Faults: map[string][]string{}}
	for _, name := range s.Lesson.Cards {
		err := control.Ask(context.Background(), s.cards, "show", name, func(c *control.Client) error {
			v, err := c.Show(context.Background())
			if err != nil {
				return err
			}
			if v.Running != nil && v.Running.Ejected {
				then.Ejected = append(then.Ejected, name)
			}
			then.Faults[name], err = c.Faults(context.Background())
			return err
		})
		if err != nil {
			return err
		}
	}
	err = s.ofStep(s.progress.Step, func(kept, work *os.Root) error {
		then.Unkept, err = copyTree(work, kept)
		return err
	})
	if err != nil {
		return err
	}
	text, err := json.Marshal(then)
	if err != nil {
		return err
	}
	if err := s.write("undo", fmt.Sprint(s.progress.Step, "/", begunAs), string(text), os.O_TRUNC); err != nil {
		return err
	}
	return errors.Join(s.forget(), s.keep())
}

// stepBegun is how it was when a step began, beside cards and files.
type stepBegun struct {
	Ejected []string            // cards that were out of their readers
	Faults  map[string][]string // by card, as they were set
	Unkept  []string            // what Unkept says, with slashes
}

// begunAs is the file of a stepBegun, in the folder of a step.
const begunAs = "begun.json"

// ErrLost says that it is not kept any more how a step began: somebody has removed or changed
// what Undo and Reset need for that.
var ErrLost = errors.New("how it was then is not kept any more")

// as is how it was when a step began, of which cards and files are kept, too. Error: ErrLost.
func (s *Session) as(step int) (then stepBegun, err error) {
	text, err := s.read("undo", fmt.Sprint(step, "/", begunAs))
	if err == nil {
		err = json.Unmarshal(text, &then)
	}
	for _, kept := range []string{"cards", "work"} {
		if info, failed := os.Lstat(s.path("undo", fmt.Sprint(step), kept)); err == nil && (failed != nil || !info.IsDir()) {
			err = fs.ErrNotExist
		}
	}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	if errors.Is(err, fs.ErrNotExist) || errors.As(err, &syntax) || errors.As(err, &kind) {
		err = fmt.Errorf("the beginning of step %d: %w", step+1, ErrLost)
	}
	return then, err
}

// Unkept are the files of the present step's beginning that Undo leaves as they are, since
// only the programs that have made them can make them again: sockets, and devices. They are
// paths in the folder Work.
func (s *Session) Unkept() ([]string, error) {
	then, err := s.as(min(s.progress.Step, len(s.Lesson.Steps)-1))
	return then.Unkept, err
}

// forget empties the files of events, since they are those of one step, and writes down
// when that was: what happened earlier may be recorded only afterwards.
func (s *Session) forget() error {
	now, err := s.clock().MarshalText()
	if err != nil {
		return err
	}
	if err := s.write("events", begunFile, string(now), os.O_TRUNC); err != nil {
		return err
	}
	files, err := filepath.Glob(s.path("events", "*.jsonl"))
	for _, f := range files {
		err = errors.Join(err, s.write("events", filepath.Base(f), "", os.O_TRUNC))
	}
	return err
}

// restore puts everything back to how it was when a step began. What fails when cards have been put
// back already says which, and that it can be done again.
func (s *Session) restore(ctx context.Context, step int) error {
	begun, err := s.as(step)
	if err != nil {
		return err
	}
	if err := s.within("state", unlink); err != nil {
		return err
	}
	back, err := s.restoreCards(ctx, step, begun)
	further := func(err error) error {
		if err != nil && len(back) > 0 {
			err = fmt.Errorf("%w; put back so far: card %s; the same again puts back the rest", err, strings.Join(back, ", "))
		}
		return err
	}
	if err != nil {
		return further(err)
	}
	err = s.serve(ctx, func() error {
		return s.ofStep(step, func(kept, work *os.Root) error {
			if err := clearFolder(work, begun.Unkept); err != nil {
				return err
			}
			_, err := copyTree(kept, work)
			return err
		})
	})
	return errors.Join(further(err), s.forget())
}

// restoreCards puts back the cards that were there when a step began, and removes the others. back are
// the names, quoted, of those that are put back.
func (s *Session) restoreCards(ctx context.Context, step int, begun stepBegun) (back []string, err error) {
	then := make(map[string]bool)
	err = s.within("undo", func(root *os.Root) error {
		kept, err := namesIn(root, fmt.Sprint(step, "/cards"))
		for _, name := range kept {
			then[name] = true
			if err := s.restoreCard(ctx, name, keptCard{root, fmt.Sprint(step, "/cards/", name)}, begun); err != nil {
				return fmt.Errorf("card %q: %w", name, err)
			}
			back = append(back, fmt.Sprintf("%q", name))
		}
		return err
	})
	if err != nil {
		return back, err
	}
	names, err := s.cards.Names()
	if err != nil {
		return back, err
	}
	for _, name := range names {
		if !then[name] {
			if err := s.cards.Remove(name); err != nil {
				return back, err
			}
		}
	}
	return back, nil
}

// ofStep does something with the files of a step's beginning and those that people work with.
func (s *Session) ofStep(step int, do func(kept, work *os.Root) error) error {
	// People may have removed the folder that they work in, or shut it.
	if err := errors.Join(os.MkdirAll(s.Work(), 0o700), os.Chmod(s.Work(), 0o700)); err != nil { //nolint:gosec // it is a folder
		return err
	}
	return s.within("undo", func(root *os.Root) error {
		kept, err := root.OpenRoot(fmt.Sprint(step, "/work"))
		if err != nil {
			return err
		}
		return errors.Join(s.within("work", func(work *os.Root) error { return do(kept, work) }), kept.Close())
	})
}

// keptCard is where a card is kept as it was when a step began.
type keptCard struct {
	root *os.Root
	name string
}

// unsealedIn is unsealed for files in a folder, out of which no link leads.
func unsealedIn(root *os.Root) store.Options {
	opt := unsealed()
	opt.FS = store.Within(root)
	return opt
}

// restoreCard puts a card back, in its reader or out of it, with the faults of then.
func (s *Session) restoreCard(ctx context.Context, name string, kept keptCard, then stepBegun) error {
	origin := statedir.Origin{File: kept.name}
	in := statedir.Sealers{Snapshot: unsealed(), File: unsealedIn(kept.root)}
	state, err := s.cards.ReadOrigin(origin, in)
	if err != nil {
		return err
	}
	c, err := control.Reach(ctx, s.cards, name)
	switch {
	case errors.Is(err, statedir.ErrNoCard):
		return s.cards.MakeFrom(origin, in, name, unsealed())
	case errors.Is(err, control.ErrNobody):
	case err != nil:
		return err
	default:
		err := errors.Join(c.ClearFaults(ctx), c.Close())
		if err != nil {
			return err
		}
	}
	if _, err := control.Restore(ctx, s.cards, name, state, true, emulator.System()); err != nil {
		return err
	}
	if c == nil {
		return nil
	}
	if c, err = control.Reach(ctx, s.cards, name); err != nil {
		return err
	}
	if slices.Contains(then.Ejected, name) {
		err = c.Eject(ctx, true)
	} else {
		err = c.Insert(ctx)
	}
	for _, said := range then.Faults[name] {
		if words := strings.Fields(said); err == nil && len(words) > 0 {
			err = c.SetFault(ctx, control.FaultSetting{Name: words[0], Settings: words[1:]})
		}
	}
	return errors.Join(err, c.Close())
}

// keep writes the progress down.
func (s *Session) keep() error {
	text, err := json.Marshal(s.progress)
	if err != nil {
		return err
	}
	err = s.within(course, func(root *os.Root) error {
		if info, err := root.Lstat(progressFile); err == nil && !info.Mode().IsRegular() {
			return removeIn(root, progressFile)
		}
		return nil
	})
	if err != nil {
		return err
	}
	// Another process may be writing it, too.
	fresh, err := os.CreateTemp(s.path(course), "progress-")
	if err != nil {
		return err
	}
	_, err = fresh.Write(text)
	if err = errors.Join(err, fresh.Close()); err == nil {
		err = os.Rename(fresh.Name(), s.path(course, progressFile))
	}
	if err != nil {
		err = errors.Join(err, os.Remove(fresh.Name()))
	}
	s.kept = s.written()
	return err
}

// maxCopied is more than all files of a lesson, or of somebody's work, may have.
const maxCopied = 64 << 20

// copyFiles copies the files and folders of a lesson, for their owner alone.
func copyFiles(from fs.FS, to string) error {
	left := int64(maxCopied)
	return fs.WalkDir(from, ".", func(name string, e fs.DirEntry, err error) error {
		at := filepath.Join(to, filepath.FromSlash(name))
		switch {
		case err != nil:
			return err
		case e.IsDir():
			return os.MkdirAll(at, 0o700)
		}
		text, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		if left -= int64(len(text)); left < 0 {
			return fmt.Errorf("%s: more than %d MB to keep", name, maxCopied>>20)
		}
		return os.WriteFile(at, text, 0o600)
	})
}

// Changes is a mark that is another one after something happened to a card.
func (s *Session) Changes() string {
	var b strings.Builder
	for _, pattern := range []string{"events", "state"} {
		files, _ := filepath.Glob(s.path(pattern, "*")) // the pattern is well-formed
		for _, f := range files {
			if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() {
				fmt.Fprintf(&b, "%s %d %d\n", f, info.Size(), info.ModTime().UnixNano())
			}
		}
	}
	return b.String()
}
