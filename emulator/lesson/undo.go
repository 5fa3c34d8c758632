package lesson

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"hsmemu/emulator"
	"hsmemu/emulator/control"
	"hsmemu/emulator/statedir"
)

// Undo puts cards and files back to how they were when the present step began.
func (s *Session) Undo(ctx context.Context) error {
	if err := s.restore(ctx, min(s.progress.Step, len(s.Lesson.Steps)-1)); err != nil {
		return err
	}
	s.progress.Solved = false
	return s.keep()
}

// Reset goes back to the first step, with cards and files as they were then.
func (s *Session) Reset(ctx context.Context) error {
	s.progress.Step = 0
	if err := s.restore(ctx, 0); err != nil {
		return err
	}
	return s.begin()
}

// begin keeps how everything is when a step begins, so that Undo comes back to it.
func (s *Session) begin() error {
	s.progress.Hints, s.progress.Tries, s.progress.Solved = 0, 0, false
	if s.Step() == nil {
		return s.keep()
	}
	kept := s.undo(s.progress.Step)
	if err := os.RemoveAll(kept); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(kept, "cards"), 0o700); err != nil {
		return err
	}
	names, err := s.cards.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		err := s.cards.Export(name, filepath.Join(kept, "cards", name), unsealed())
		if err != nil && !errors.Is(err, statedir.ErrUnkept) {
			return err
		}
	}
	if err := copyFiles(os.DirFS(s.Work()), filepath.Join(kept, "work")); err != nil {
		return err
	}
	return errors.Join(s.forget(), s.keep())
}

func (s *Session) undo(step int) string { return s.path("undo", fmt.Sprint(step)) }

// forget empties the files of events, since they are those of one step, and writes down
// when that was: what happened earlier may be recorded only afterwards.
func (s *Session) forget() error {
	now, err := s.clock().MarshalText()
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.path("events", begunFile), now, 0o600); err != nil {
		return err
	}
	files, err := filepath.Glob(s.path("events", "*.jsonl"))
	for _, f := range files {
		err = errors.Join(err, os.Truncate(f, 0))
	}
	return err
}

func (s *Session) restore(ctx context.Context, step int) error {
	kept := s.undo(step)
	entries, err := os.ReadDir(filepath.Join(kept, "cards"))
	if err != nil {
		return err
	}
	then := make(map[string]bool)
	for _, e := range entries {
		name := e.Name()
		then[name] = true
		if err := s.restoreCard(ctx, name, filepath.Join(kept, "cards", name)); err != nil {
			return fmt.Errorf("card %q: %w", name, err)
		}
	}
	names, err := s.cards.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !then[name] {
			if err := s.cards.Remove(name); err != nil {
				return err
			}
		}
	}
	err = s.serve(ctx, func() error {
		work, err := os.ReadDir(s.Work())
		for _, e := range work {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.Work(), e.Name())))
		}
		return errors.Join(err, copyFiles(os.DirFS(filepath.Join(kept, "work")), s.Work()))
	})
	return errors.Join(err, s.forget())
}

// restoreCard puts a card back, in its reader and without faults.
func (s *Session) restoreCard(ctx context.Context, name, file string) error {
	origin := statedir.Origin{File: file}
	in := statedir.Sealers{Snapshot: unsealed(), File: unsealed()}
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
	return errors.Join(c.Insert(ctx), c.Close())
}

// keep writes the progress down.
func (s *Session) keep() error {
	text, err := json.Marshal(s.progress)
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
		err = os.Rename(fresh.Name(), s.path(progressFile))
	}
	s.kept = s.written()
	return err
}

// maxCopied is more than all files of a lesson, or of somebody's work, may have.
const maxCopied = 64 << 20

// copyFiles copies files and folders, and nothing else, for their owner alone.
func copyFiles(from fs.FS, to string) error {
	left := int64(maxCopied)
	return fs.WalkDir(from, ".", func(name string, e fs.DirEntry, err error) error {
		at := filepath.Join(to, filepath.FromSlash(name))
		switch {
		case err != nil:
			return err
		case e.IsDir():
			return os.MkdirAll(at, 0o700)
		case !e.Type().IsRegular():
			return nil // a socket or a pipe of a running program
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if left -= info.Size(); left < 0 {
			return fmt.Errorf("%s: more than %d MB to keep", name, maxCopied>>20)
		}
		text, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o600)
		if info.Mode()&0o100 != 0 {
			mode = 0o700
		}
		return os.WriteFile(at, text, mode)
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
