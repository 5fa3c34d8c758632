// Package commandline is what a tree of commands has, whatever the commands do:
// environment variables that stand for flags, completion, manual pages, help for
// what was mistyped, and errors that are mistakes in the command line. What is true
// of a program is handed in as [Tables].
package commandline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"
)

// Tables are what a program says about its commands. A command is named by what is
// typed behind the program's name, as "card new"; the program itself by its own.
type Tables struct {
	Env       func(string) string // the environment
	Variables Variables
	Complete  Completion
	Manual    Manual
	Subject   Subject
	Examples  map[string]string // what to type, by command, a line each
}

// Line is a tree of commands that has been completed by [New].
type Line struct {
	root   *cobra.Command
	tables Tables
	help   *printed

	mistyped error    // help was asked for on what is no command
	from     []string // the flags that variables have set
}

// New gives a command and all below it what the tables say, the commands `completion`,
// `man` and `help`, and errors that [Usage] marks. Help and what those commands print
// goes to out. It is called once, when the tree is complete.
func New(root *cobra.Command, out io.Writer, t Tables) *Line {
	l := &Line{root: root, tables: t, help: &printed{Writer: out}}
	root.SetOut(l.help)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions = cobra.CompletionOptions{DisableDefaultCmd: true}
	root.Args, root.RunE = cobra.ArbitraryArgs, HelpOrUnknown
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := l.fromEnvironment(cmd); err != nil {
			return err
		}
		return t.Variables.alone(cmd)
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return Usage(flagError(err)) })
	root.AddCommand(completionCommand(out), l.manCommand(out))
	t.Subject.alsoByFlag(root)
	t.Subject.hintFlag(root)
	t.Complete.register(root)
	l.helpOnCommands()
	exemplify(root, t.Examples)
	return l
}

// Execute does what the arguments say. The command is that which they name, as far as
// they name one.
func (l *Line) Execute(ctx context.Context, args []string) (*cobra.Command, error) {
	l.root.SetArgs(args)
	cmd, err := l.root.ExecuteContextC(ctx)
	return cmd, cmp.Or(l.help.failed, err, l.mistyped)
}

// printed is where the library prints help, which does not tell what became of it.
type printed struct {
	io.Writer
	failed error
}

func (p *printed) Write(b []byte) (int, error) {
	n, err := p.Writer.Write(b)
	if err != nil && p.failed == nil {
		p.failed = unprinted{err}
	}
	return n, err
}

// unprinted is the error of a writer that help could not be printed to. Its text is the reason
// alone; it wraps the error, so that a caller who has it from the writer, too, tells it once.
type unprinted struct{ error }

func (e unprinted) Error() string { return "print: " + reason(e.error).Error() }
func (e unprinted) Unwrap() error { return e.error }

// Name is what to type for a command after the name of the program.
func Name(cmd *cobra.Command) string {
	return strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
}

// exemplify gives a command and those below it their examples.
func exemplify(cmd *cobra.Command, examples map[string]string) {
	if text := examples[Name(cmd)]; text != "" {
		cmd.Example = "  " + strings.ReplaceAll(text, "\n", "\n  ")
	}
	for _, sub := range cmd.Commands() {
		exemplify(sub, examples)
	}
}

// HelpOrUnknown is for commands that only hold others.
func HelpOrUnknown(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	asked := strings.TrimPrefix(Name(cmd)+" "+args[0], cmd.Root().Name()+" ")
	err := fmt.Errorf("unknown command %q", asked)
	cmd.SuggestionsMinimumDistance = 2
	near := cmd.SuggestionsFor(args[0])
	for _, group := range cmd.Commands() { // as "card show" for "show"
		for _, inside := range group.Commands() {
			if inside.Name() == args[0] {
				near = append(near, group.Name()+" "+args[0])
			}
		}
	}
	if len(near) > 0 {
		err = Hint(err, "did you mean "+strings.Join(near, " or ")+"?")
	}
	return Usage(err)
}

// helpOnCommands refuses help on what is no command: the library shows that of the
// group in which it looked for it, as if nothing were wrong.
func (l *Line) helpOnCommands() {
	help := l.root.HelpFunc()
	l.root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if typed := cmd.Flags().Args(); cmd.HasSubCommands() && len(typed) > 0 {
			l.mistyped = HelpOrUnknown(cmd, typed)
			return
		}
		help(cmd, args)
	})
	l.root.SetHelpCommand(&cobra.Command{
		Use:   "help [COMMAND]...",
		Short: "show the help of a command",
		RunE: func(_ *cobra.Command, args []string) error {
			of, rest, err := l.root.Find(args)
			switch {
			case err != nil:
				return Usage(err)
			case len(rest) > 0 && of.HasSubCommands():
				return HelpOrUnknown(of, rest)
			}
			return of.Help()
		},
	})
}

// UsageError is a mistake in the command line.
type UsageError struct{ err error }

func (e UsageError) Error() string { return e.err.Error() }
func (e UsageError) Unwrap() error { return e.err }

// Usage makes a mistake in the command line of an error.
func Usage(err error) error { return UsageError{err} }

// Hinted is an error with one piece of advice for the user.
type Hinted struct {
	err    error
	Advice string
}

func (e Hinted) Error() string { return e.err.Error() }
func (e Hinted) Unwrap() error { return e.err }

// Hint gives an error one piece of advice for the user.
func Hint(err error, advice string) error { return Hinted{err, advice} }

// Exactly wants n arguments; anything else is a mistake in the command line.
func Exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return Usage(fmt.Errorf("%s takes %s, not %d", Name(cmd), arguments(n), len(args)))
		}
		return nil
	}
}

// AtMost wants n arguments or less.
func AtMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return Usage(fmt.Errorf("%s takes %s or less, not %d", Name(cmd), arguments(n), len(args)))
		}
		return nil
	}
}

// OneOrMore wants an argument or more.
func OneOrMore(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return Usage(fmt.Errorf("%s takes %s or more, not 0", Name(cmd), arguments(1)))
	}
	return nil
}

func arguments(n int) string {
	switch n {
	case 0:
		return "no arguments"
	case 1:
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", n)
}

// asUsage makes a mistake in the command line of what a check of the library finds.
func asUsage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return Usage(err)
		}
		return nil
	}
}

// reason is that of an error about a file, without the operation and the path.
func reason(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
