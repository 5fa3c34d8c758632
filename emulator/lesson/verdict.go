package lesson

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Verdict is what a verify script found.
type Verdict struct {
	Solved bool
	// Says is what it printed.
	Says string
	// Untold is why a trainer was not told of it; nil if he was, or if there is none.
	Untold error
}

// Exit codes of a shell that say that a script could not do its work.
var broken = []int{2, 126, 127}

// ErrScript says that a script of a lesson does not work.
var ErrScript = errors.New("the script does not work")

// ErrGoneOn says that the step that was to be judged is not the present one any more: a
// second person in the session has gone on, or back.
var ErrGoneOn = errors.New("somebody else has gone on in this lesson")

// Check judges the present step. Errors: ErrGoneOn, ErrTooLong, ErrTooMuch,
// ErrKilled, ErrScript.
func (s *Session) Check(ctx context.Context) (Verdict, error) {
	v, err := s.verify(ctx)
	if err != nil || s.Step() == nil {
		return v, err
	}
	return v, s.count(ctx, v.Solved)
}

// verify runs the present step's verify script.
func (s *Session) verify(ctx context.Context) (Verdict, error) {
	step := s.Step()
	if step == nil {
		return Verdict{Solved: true}, nil
	}
	out, code, err := s.run(ctx, step.Verify, "", s.facts.Limit, false)
	if err == nil && slices.Contains(broken, code) {
		err = fmt.Errorf("%w: exit code %d: %s", ErrScript, code, strings.TrimSpace(out))
	}
	if err != nil {
		return Verdict{Says: out}, fmt.Errorf("%s: %w", step.Verify, err)
	}
	return Verdict{Solved: code == 0, Says: out}, nil
}

// count counts a verdict about the present step. Error: ErrGoneOn, if somebody went on meanwhile.
func (s *Session) count(ctx context.Context, solved bool) error {
	return s.inTurn(ctx, func() error {
		s.progress.Tries++
		s.progress.Solved = solved
		return s.keep()
	})
}

// Judge is Check, which tells the trainer, too, where there is one. Errors: those of Check, and
// ErrNoSession where the session has ended meanwhile.
func (s *Session) Judge(ctx context.Context) (Verdict, error) {
	v, err := s.Check(ctx)
	switch {
	case err == nil:
		v.Untold = s.Tell(ctx)
	case s.over(): // its files are gone, or about to go
		err = ErrNoSession
	}
	return v, err
}

// changePatience is how often Watch looks whether something happened.
const changePatience = 200 * time.Millisecond

// Watch judges the present step, as Judge does, and again whenever something happens to
// a card, until it is solved. told is called with every verdict. Errors: those of Judge,
// and that of ctx when it ends.
func (s *Session) Watch(ctx context.Context, told func(Verdict)) error {
	again := time.NewTicker(changePatience)
	defer again.Stop()
	for {
		v, err := s.Judge(ctx)
		if err != nil {
			return err
		}
		seen := s.Changes() // from here on: judging may touch a card, too
		told(v)
		if v.Solved {
			return nil
		}
		for seen == s.Changes() {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-again.C:
			}
			if s.over() {
				return ErrNoSession
			}
		}
	}
}

// Notice is Judge for somebody who looks again and again, and has not been asked to:
// what is not solved is neither counted nor told, and what was solved before is not told again.
func (s *Session) Notice(ctx context.Context) (Verdict, error) {
	if s.Step() == nil || s.progress.Solved {
		return Verdict{Solved: true}, nil
	}
	v, err := s.verify(ctx)
	if err != nil || !v.Solved {
		return v, err
	}
	switch err := s.count(ctx, true); {
	case errors.Is(err, ErrGoneOn):
		return v, nil
	case err != nil:
		return v, err
	}
	v.Untold = s.Tell(ctx)
	return v, nil
}

// Advance is Judge, and then Next if the step is solved.
func (s *Session) Advance(ctx context.Context) (Verdict, error) {
	v, err := s.Judge(ctx)
	if err == nil && v.Solved {
		if err = s.Next(ctx); err != nil && !errors.Is(err, ErrGoneOn) {
			err = fmt.Errorf("keep the cards for undo: %w", err)
		}
	}
	return v, err
}

// Tell posts how it stands with the present step to the trainer, where there is one: when the
// step begins, and with each hint. Judge and Notice do it themselves.
func (s *Session) Tell(ctx context.Context) error {
	if s.facts.Report == "" || s.Step() == nil {
		return nil
	}
	return Post(ctx, s.facts.Report, s.Result())
}
