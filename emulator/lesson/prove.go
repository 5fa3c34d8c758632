package lesson

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"hsmemu/emulator/view"
)

// Prove plays a lesson to show that it works: each step is unsolved at first, every
// command of its text and of its hints does its work there, and the solution solves
// it. Commands of the solution are proven by it. It returns everything that is wrong,
// each a *Problem, joined.
func Prove(ctx context.Context, l *Lesson, o Options) (err error) {
	o.proof = true
	p, err := Begin(ctx, l, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	var wrong []error
	fault := func(file, format string, args ...any) {
		wrong = append(wrong, &Problem{File: file, What: fmt.Sprintf(format, args...)})
	}
	for p.Step() != nil {
		step := p.Step()
		v, err := p.Check(ctx)
		if err != nil {
			fault(step.Verify, "%v", errors.Unwrap(err))
			break // it would say the same of the solution
		}
		if v.Solved {
			fault(step.Verify, "step %d is solved before anything was done", p.Number())
		}
		if step.Solution == "" {
			fault(ownFile, "step %d has no solution, so nothing can be proven", p.Number())
			break
		}
		solution, err := os.ReadFile(p.path("lesson", filepath.FromSlash(step.Solution)))
		if err != nil {
			return err
		}
		if len(step.Hints) == 0 {
			fault(ownFile, "step %d has no hints", p.Number())
		}
		texts := append([]string{step.Text}, step.Hints...)
		for i, text := range texts {
			what, file := "hint "+fmt.Sprint(i), step.hintsFile
			if i == 0 {
				what, file = "text", step.textFile
			}
			if commands, err := p.try(ctx, text, string(solution)); err != nil {
				wrong = append(wrong, &Problem{File: file, Line: p.line(file, commands), What: fmt.Sprintf("step %d, %s: %v", p.Number(), what, err)})
			}
		}
		out, code, err := p.run(ctx, step.Solution, "", 10*p.facts.Limit, true)
		switch {
		case err != nil:
			fault(step.Solution, "%v", err)
		case code != 0:
			fault(step.Solution, "exit code %d: %s", code, strings.TrimSpace(out))
		default:
			if v, err := p.Check(ctx); err != nil {
				fault(step.Verify, "after the solution: %v", errors.Unwrap(err))
			} else if !v.Solved {
				fault(step.Verify, "the solution does not solve step %d: %s", p.Number(), strings.TrimSpace(v.Says))
			}
		}
		if len(wrong) > 0 || ctx.Err() != nil {
			break // later steps build on this one
		}
		if err := p.Next(ctx); err != nil {
			return err
		}
	}
	return errors.Join(append(wrong, ctx.Err())...)
}

// Wrong is each thing that an error of Prove, Load or Open says to be wrong.
func Wrong(err error) []error {
	var of *FolderError
	if errors.As(err, &of) {
		err = of.Err
	}
	joined, is := err.(interface{ Unwrap() []error }) // it is what errors.Join returned itself
	if !is {
		return []error{err}
	}
	var all []error
	for _, one := range joined.Unwrap() {
		all = append(all, Wrong(one)...)
	}
	return all
}

// Findings are what people are told of a lesson that was proven, or that could not be
// loaded, by the name that they gave it: that it holds, or else a line for each thing that
// is wrong. Those after the first about one thing are set in.
func Findings(name string, l *Lesson, err error) (lines []string) {
	if view.Printable(name) != name {
		name = strconv.Quote(name)
	}
	switch {
	case err == nil && len(l.Steps) == 1:
		return []string{name + ": 1 step holds"}
	case err == nil:
		return []string{fmt.Sprintf("%s: %d steps hold", name, len(l.Steps))}
	}
	for _, one := range Wrong(err) {
		where := name + ": "
		if errors.As(one, new(*Problem)) {
			where = strings.TrimRight(name, "/") + "/"
		}
		for line := range strings.SplitSeq(strings.TrimSpace(one.Error()), "\n") {
			lines = append(lines, where+view.Printable(line))
			where = "  " // what a script said besides
		}
	}
	return lines
}

// line is where commands begin in a file of the lesson, from 1; 0 if that is not known.
func (p *Player) line(file, commands string) int {
	text, err := fs.ReadFile(p.Lesson.files, file)
	first, _, _ := strings.Cut(commands, "\n")
	before, _, found := strings.Cut(string(text), first)
	if err != nil || first == "" || !found {
		return 0
	}
	return 1 + strings.Count(before, "\n")
}

// try runs the commands of a text which are not in the solution, and takes back what
// they did. Those that failed are returned with the error.
func (p *Player) try(ctx context.Context, text, solution string) (failed string, err error) {
	lines := strings.Split(solution, "\n")
	done := false
	for _, commands := range Commands(text) {
		if !slices.ContainsFunc(strings.Split(commands, "\n"), func(l string) bool { return !slices.Contains(lines, l) }) {
			continue
		}
		done = true
		out, code, err := p.run(ctx, "", commands, 10*p.facts.Limit, true)
		if err == nil && code != 0 {
			err = fmt.Errorf("exit code %d: %s", code, strings.TrimSpace(out))
		}
		if err != nil {
			return commands, fmt.Errorf("%s: %w", commands, err)
		}
	}
	if !done {
		return "", nil
	}
	return "", p.Undo(ctx)
}
