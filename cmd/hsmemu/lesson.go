package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/capability"
	"hsmemu/emulator/lesson"
	"hsmemu/emulator/program"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/view"
	"hsmemu/emulator/web"
	"hsmemu/vsmartcard/pcscd"
)

func newLessonCommand(a *app) *cobra.Command {
	var dir, student, report string
	var page consoleFlags
	cmd := &cobra.Command{
		Use:   "lesson [NAME]",
		Short: "work through a lesson, judged by what the cards say",
		Long: "Starts a lesson: a shell with cards of its own in the readers of a private PC/SC daemon, in an empty folder.\n" +
			"In it, and in other terminals after `hsmemu lesson join`, `lesson check` judges the present step by the state of\n" +
			"the cards and by what happened to them, `lesson hint` tells more, up to three times, `lesson undo` puts the\n" +
			"cards and files back to how they were when the step began, `lesson next` goes on, and `lesson reset` begins\n" +
			"again. Without NAME the present step is shown, or where there is none, the lessons. Everything is gone when\n" +
			"the shell ends; cards of your own are not touched.\n\n" +
			"--dir has a lesson of your own, in the form of Killercoda and localcoda, with hints and solutions beside it.\n" +
			"Its scripts are programs that run as you, with a time limit. Where Linux is 5.19 or later they write into the lesson's\n" +
			"folders alone; they are not locked in.\n" +
			"--report posts how it stands with each step to a trainer, and nothing else.\n\n" +
			"With --console the cards and the lesson are on a page for a browser, as docs/console.md shows: the text, hints, check,\n" +
			"undo and next, judged as here.",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return commandline.Usage(errors.New("lesson takes one name"))
			case len(args) == 1 && dir != "":
				return commandline.Usage(errors.New("name a lesson or --dir: one of them"))
			case len(args) == 0 && dir == "":
				if s, err := a.lessonHere(); err == nil {
					return a.tellStep(s)
				} else if !errors.Is(err, lesson.ErrNoSession) {
					return err
				}
				return a.listLessons()
			}
			o := lesson.Options{Student: cmp.Or(student, a.env("USER"), "student"), Report: report}
			if err := o.Check(); err != nil {
				return commandline.Usage(fmt.Errorf("--%w", err))
			}
			var l *lesson.Lesson
			var err error
			if dir != "" {
				a.tellUnconfined(program.Confines())
				l, err = lesson.Open(dir)
			} else if l, err = lesson.Own(args[0]); errors.Is(err, lesson.ErrNoLesson) {
				if near := view.Nearest(args[0], lesson.Ours()); near != "" {
					err = commandline.Hint(err, fmt.Sprintf("did you mean %q?", near))
				}
				return commandline.Usage(err)
			}
			if err != nil {
				return err
			}
			return a.teach(context.WithoutCancel(cmd.Context()), l, o, page)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder of a lesson of your own")
	cmd.Flags().StringVar(&student, "student", "", "with --report: your `NAME` in the trainer's table (default $USER)")
	cmd.Flags().StringVar(&report, "report", "", "post results to this `URL` of a trainer's console")
	page.flags(cmd)
	act := func(use, short string, do func(*cobra.Command, *lesson.Session) error) *cobra.Command {
		return &cobra.Command{Use: use, Short: short, Args: commandline.Exactly(0), RunE: func(cmd *cobra.Command, _ []string) error {
			here := lesson.HereAlone
			if use == "join" { // which changes nothing
				here = lesson.Here
			}
			s, err := here(a.env, a.cards)
			if use == "reset" && errors.Is(err, lesson.ErrProgress) {
				err = nil // that is what it mends
			}
			if err != nil {
				return err
			}
			return do(cmd, s)
		}}
	}
	cmd.AddCommand(
		&cobra.Command{Use: "list", Short: "list the lessons", Args: commandline.Exactly(0), RunE: func(*cobra.Command, []string) error { return a.listLessons() }},
		newLessonCheckCommand(a), newLessonExpectCommand(a), newLessonClassCommand(a),
		act("hint", "show the next hint of the present step", func(cmd *cobra.Command, s *lesson.Session) error {
			err := a.tellHint(cmd.Context(), s)
			a.untold(s.Tell(cmd.Context()))
			return err
		}),
		act("next", "go on to the next step, if this one is solved", func(cmd *cobra.Command, s *lesson.Session) error { return a.nextStep(cmd.Context(), s) }),
		act("undo", "put cards and files back to how they were when the step began", func(cmd *cobra.Command, s *lesson.Session) error {
			if err := s.Undo(cmd.Context()); err != nil {
				return fmt.Errorf("undo: %w", err)
			}
			fmt.Fprintf(a.out, "step %d begins again, which no real card allows\n", min(s.Number(), len(s.Lesson.Steps)))
			return a.tellUnkept(s)
		}),
		act("reset", "begin the lesson again", func(cmd *cobra.Command, s *lesson.Session) error {
			if err := s.Reset(cmd.Context()); err != nil {
				return fmt.Errorf("reset: %w", err)
			}
			return errors.Join(a.tellUnkept(s), a.tellStep(s))
		}),
		act("join", "open a shell in the lesson of another terminal", func(_ *cobra.Command, s *lesson.Session) error { return a.lessonShell(s) }),
	)
	return cmd
}

// lessonHere is the lesson that this shell is in, or else the one that was started
// last in another terminal and goes on.
func (a *app) lessonHere() (*lesson.Session, error) { return lesson.Here(a.env, a.cards) }

func (a *app) listLessons() error {
	for i, name := range lesson.Ours() {
		l, err := lesson.Own(name)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(a.out, "%2d  %-18s %2d min  %s\n", i+1, name, l.Minutes, l.Title); err != nil {
			return err
		}
	}
	return nil
}

// prepared completes what a session needs of this process.
func (a *app) prepared(o lesson.Options) (lesson.Options, error) {
	if err := capability.Check("lesson", runtime.GOOS); err != nil {
		return o, err
	}
	program, err := os.Executable()
	if err != nil {
		return o, fmt.Errorf("find this program: %w", err)
	}
	o.Program, o.World = program, a.world("lesson")
	return o, nil
}

// tellUnconfined says that scripts of others can write wherever we can, where that is so.
func (a *app) tellUnconfined(confined bool) {
	if !confined {
		fmt.Fprintln(a.err, "hsmemu: nothing confines the lesson's scripts to its folder on this system, as Linux from 5.19 on does")
	}
}

// notBegun says that a lesson did not begin, and what helps where its socket had no place.
func notBegun(err error) error {
	err = fmt.Errorf("begin the lesson: %w", err)
	if errors.Is(err, pcscd.ErrPath) {
		return commandline.Hint(err, shorterTMPDIR)
	}
	return err
}

// teach runs a shell in a session of its own.
func (a *app) teach(ctx context.Context, l *lesson.Lesson, o lesson.Options, page consoleFlags) error {
	o, err := a.prepared(o)
	if err != nil {
		return err
	}
	d, err := a.cards()
	if err != nil {
		return err
	}
	shown, err := a.openConsole(ctx, page, a.out)
	if err != nil {
		return err
	}
	o.Announced = d.Path()
	p, err := lesson.Begin(ctx, l, o)
	if err != nil {
		return errors.Join(notBegun(err), shown.Close())
	}
	closeAll := func() error { return errors.Join(shown.Close(), p.Close()) }
	if err := shown.beside(p.Dir()).show(ctx, p.Cards()); err != nil {
		return errors.Join(err, closeAll())
	}
	fmt.Fprintf(a.out, "%s\n\n%s\n\n", l.Title, lesson.Plain(l.Intro))
	if err := a.tellStep(p.Session); err != nil {
		return errors.Join(err, closeAll())
	}
	a.untold(p.Tell(ctx))
	fmt.Fprintln(a.out, "\n`lesson check` judges, `lesson hint` helps, `lesson undo` takes back, `lesson next` goes on; `exit` ends it all.")
	if err := a.unwritten(); err != nil {
		return errors.Join(err, closeAll())
	}
	ended := a.lessonShell(p.Session)
	if err := closeAll(); err != nil {
		return fmt.Errorf("end the lesson: %w", err)
	}
	return ended
}

// lessonShell runs the user's shell in the folder of a session.
func (a *app) lessonShell(s *lesson.Session) error {
	variables, err := s.Shell()
	if err != nil {
		return err
	}
	env := os.Environ()
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		env = program.With(env, name, value)
	}
	signals := program.Collect()
	defer signals.Stop()
	cmd := exec.Command(cmp.Or(a.env("SHELL"), "sh"))
	cmd.Dir, cmd.Env = s.Work(), env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.in, a.stdout(), a.err
	return a.notStarted(signals.Run(cmd, isTerminal(a.in)), "")
}

// tellUnkept prints what undo has left as it is.
func (a *app) tellUnkept(s *lesson.Session) error {
	unkept, err := s.Unkept()
	for _, name := range unkept {
		fmt.Fprintf(a.out, "left as it is, since only a program can make it: %s\n", view.Printable(name))
	}
	return err
}

// tellStep prints what is to be done, or that all is done.
func (a *app) tellStep(s *lesson.Session) error {
	if _, err := s.Look(); err != nil {
		return err
	}
	step := s.Step()
	if step != nil {
		_, err := fmt.Fprintf(a.out, "Step %d of %d: %s\n\n%s\n", s.Number(), len(s.Lesson.Steps), step.Title, lesson.Plain(step.Text))
		return err
	}
	fmt.Fprintf(a.out, "All steps are done.\n\n%s\n\nWhat this would have cost on hardware:\n", lesson.Plain(s.Lesson.Finish))
	for i, step := range s.Lesson.Steps {
		fmt.Fprintf(a.out, "%2d. %s: %s\n", i+1, step.Title, cmp.Or(step.Cost, "nothing"))
	}
	return nil
}

func (a *app) tellHint(ctx context.Context, s *lesson.Session) error {
	hint, more, err := s.Hint(ctx)
	switch {
	case err != nil:
		return err
	case hint == "":
		_, err = fmt.Fprintln(a.out, "there are no hints")
	default:
		_, err = fmt.Fprintf(a.out, "%s\n\n(%d more)\n", lesson.Plain(hint), more)
	}
	return err
}

// verdict says what was found of the present step.
func (a *app) verdict(v lesson.Verdict) {
	if said := strings.TrimSpace(v.Says); said != "" && !v.Solved {
		for line := range strings.SplitSeq(said, "\n") {
			fmt.Fprintln(a.out, view.Printable(line))
		}
	}
	a.untold(v.Untold)
}

// untold says why a trainer was not told; nothing if why is nil.
func (a *app) untold(why error) {
	if why != nil {
		fmt.Fprintf(a.err, "hsmemu: the trainer was not told: %s\n", oneLine(why.Error()))
	}
}

// which names a step: others may have gone on in the same lesson.
func which(l *lesson.Lesson, number int) string {
	if number > len(l.Steps) {
		return "all steps"
	}
	return fmt.Sprintf("step %d of %d, %s", number, len(l.Steps), l.Steps[number-1].Title)
}

// judged prints a verdict about a step. It is an error if it is not solved.
func (a *app) judged(v lesson.Verdict, l *lesson.Lesson, number int) error {
	a.verdict(v)
	if !v.Solved {
		return commandline.Hint(fmt.Errorf("%s: it is not solved yet", which(l, number)), "lesson hint; lesson undo takes back what went wrong")
	}
	return nil
}

func (a *app) nextStep(ctx context.Context, s *lesson.Session) error {
	number := s.Number()
	before, err := s.Look()
	if err != nil {
		return err
	}
	if before != number {
		fmt.Fprintf(a.out, "Somebody else has left step %d meanwhile, so nothing was judged.\n\n", before)
		return a.tellStep(s)
	}
	v, err := s.Advance(ctx)
	if err != nil {
		return err
	}
	if err := a.judged(v, s.Lesson, number); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s: solved\n\n", which(s.Lesson, number))
	err = a.tellStep(s)
	if v.Untold == nil { // otherwise the trainer cannot be told, and that has been said
		a.untold(s.Tell(ctx))
	}
	return err
}

func newLessonCheckCommand(a *app) *cobra.Command {
	var watch bool
	var limit time.Duration
	cmd := &cobra.Command{
		Use:   "check [DIR|NAME]...",
		Short: "judge the present step, or prove lessons",
		Long: "Judges the present step; with --watch again whenever something happens to a card, until it is solved.\n" +
			"With folders, or names of lessons that come with the program, it proves those: every step is unsolved at\n" +
			"first, every command of its text and its hints works, and its solution solves it.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				if watch {
					return commandline.Usage(errors.New("--watch is about the present step"))
				}
				return a.prove(cmd.Context(), args, limit)
			}
			s, err := a.lessonHere()
			if err != nil {
				return err
			}
			ctx, number := cmd.Context(), s.Number()
			if watch {
				err = s.Watch(ctx, a.verdict)
				if ctx.Err() != nil {
					return errInterrupted
				}
			} else {
				var v lesson.Verdict
				if v, err = s.Judge(ctx); err == nil {
					err = a.judged(v, s.Lesson, number)
				}
			}
			if err == nil {
				_, err = fmt.Fprintf(a.out, "%s: solved; `lesson next` goes on\n", which(s.Lesson, number))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "judge again whenever something happens to a card")
	cmd.Flags().DurationVar(&limit, "limit", lesson.DefaultLimit, "how long a verify script may take, for DIR")
	return cmd
}

// prove proves lessons and prints what is wrong, a line for each thing.
func (a *app) prove(ctx context.Context, lessons []string, limit time.Duration) error {
	o, err := a.prepared(lesson.Options{Limit: limit})
	if err != nil {
		return err
	}
	if d, err := a.cards(); err == nil { // without a folder for cards a lesson is proven all the same
		o.Announced = d.Path()
	}
	failed := false
	if slices.ContainsFunc(lessons, func(name string) bool { return !slices.Contains(lesson.Ours(), name) }) {
		a.tellUnconfined(program.Confines())
	}
	for _, name := range lessons {
		l, err := lesson.Named(name)
		if err == nil {
			err = lesson.Prove(ctx, l, o)
		}
		if ctx.Err() != nil {
			return errInterrupted
		}
		if errors.Is(err, pcscd.ErrPath) { // so it would be with each of them
			return notBegun(err)
		}
		failed = failed || err != nil
		for _, line := range lesson.Findings(name, l, err) {
			if _, err := fmt.Fprintln(a.out, line); err != nil {
				return err
			}
		}
	}
	if failed {
		return errors.New("not every lesson holds")
	}
	return nil
}

func newLessonExpectCommand(a *app) *cobra.Command {
	var card string
	var wanted lesson.Wanted
	cmd := &cobra.Command{
		Use:   "expect [EXPECTATION]...",
		Short: "compare a card with what is expected, for scripts of lessons",
		Long: "Compares members of what `hsmemu card show --json` prints of a card with values: so_pin.tries_left=7,\n" +
			"keys.*.label=first (any of the keys), keys.*.label=first,id=10 (a key that is both), keys.count>=1. = and != take\n" +
			"patterns with * and ?; there are >= and <=.\n" +
			"--seen wants an event of the card in this step that is as its words say, as `hsmemu trace --json` prints them:\n" +
			"--seen 'subject=SO-PIN,sw=63C?'. --unseen wants that there was none, and --after, with --seen, that one was before that.\n" +
			"--kept is an expectation of what cannot be mended by going on: if it does not hold, lesson undo is named.\n" +
			"--takes user-pin wants the card to take the user PIN in $HSMEMU_PIN, and --takes so-pin the SO-PIN in $HSMEMU_SO_PIN; a\n" +
			"copy of the card is asked, so no try is spent and nobody is logged in.\n" +
			"Exit code 0 if all holds, 1 if not, and 2 for what cannot be understood.",
		Args: cobra.ArbitraryArgs,
		RunE: a.inFolder(func(ctx context.Context, d *statedir.Dir, args []string) error {
			wanted.Expectations, wanted.Env = args, a.env
			if len(args)+len(wanted.Kept)+len(wanted.Seen)+len(wanted.Unseen) == 0 && wanted.Takes == "" {
				return commandline.Usage(errors.New("lesson expect takes an expectation, --kept, --seen, --unseen or --takes"))
			}
			why, err := lesson.ExpectAll(ctx, d, card, wanted)
			switch {
			case errors.Is(err, lesson.ErrExpectation):
				return commandline.Usage(err)
			case err != nil:
				return err
			case why != "":
				return fmt.Errorf("card %q: %s", card, why)
			}
			return nil
		}),
	}
	cmd.Flags().StringVar(&card, "card", defaultCard, "name of the card")
	cmd.Flags().StringSliceVar(&wanted.Seen, "seen", nil, "want an event with this `MEMBER=PATTERN`; repeated or with commas, all in one event")
	cmd.Flags().StringSliceVar(&wanted.After, "after", nil, "want that of --seen after an event with this `MEMBER=PATTERN`; repeated or with commas, all in one event")
	cmd.Flags().StringArrayVar(&wanted.Kept, "kept", nil, "want this `EXPECTATION`, which going on cannot mend; repeated for several")
	cmd.Flags().StringSliceVar(&wanted.Unseen, "unseen", nil, "want no event with this `MEMBER=PATTERN`; repeated or with commas, all in one event")
	cmd.Flags().StringVar(&wanted.Takes, "takes", "", "want the card to take the `PIN`, user-pin or so-pin, in $HSMEMU_PIN or $HSMEMU_SO_PIN")
	return cmd
}

// classSize is how many students a class has at most.
const classSize = 200

func newLessonClassCommand(a *app) *cobra.Command {
	var listen string
	var open bool
	cmd := &cobra.Command{
		Use:   "class",
		Short: "show how a class is doing, for a trainer",
		Long: "Prints a URL that students give to `hsmemu lesson NAME --report`, and which shows a browser a table of them: the\n" +
			"lesson, and for each step whether it is solved, with how many hints. It is in memory alone, for 200 students.\n" +
			"Whoever has the URL can read the table and write into it. Without --open it is for this machine alone.",
		Args: commandline.Exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			exposure := web.ThisMachine
			if open {
				exposure = web.Anybody
			}
			l, err := listenForBrowsers(cmd.Context(), listen, exposure, "open")
			if err != nil {
				return err
			}
			path := "/class/" + rand.Text()
			pages := http.NewServeMux()
			pages.Handle(path, lesson.NewClass(classSize, a.outside.Clock))
			at, elsewhere := web.At(l)
			fmt.Fprintf(a.out, "http://%s%s\n", at, path)
			if elsewhere {
				a.elsewhere(byAddress)
			}
			if err := a.ready(); err != nil {
				return errors.Join(err, l.Close())
			}
			return web.Server{Handler: web.Guard{}.Around(pages), Log: slog.New(voice{out: a.err})}.Serve(cmd.Context(), l)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "localhost:0", "wait for results at `HOST:PORT`")
	cmd.Flags().BoolVar(&open, "open", false, "let other machines reach it, too")
	return cmd
}
