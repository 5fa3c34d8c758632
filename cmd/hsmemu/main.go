// Command hsmemu is a software SmartCard-HSM: it makes cards, keeps them, and
// puts them into readers where OpenSC and other PKCS#11 and PC/SC programs find
// them. It wires the other packages together and holds no behaviour of the
// card.
//
//	hsmemu card new alice
//	hsmemu run --card alice --vpcd localhost:35963
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"hsmemu/emulator"
	"hsmemu/emulator/program"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/view"
	"hsmemu/keystore/seal"
)

// Exit codes of the command line.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	// exitInterrupted is that of a command that a signal ended before it was done.
	exitInterrupted = 130
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), ending()...)
	defer stop()
	a := &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, terminal: "/dev/tty",
		env: os.Getenv, outside: emulator.System(),
	}
	os.Exit(a.run(ctx, os.Args[1:]))
}

// app is what every command is given: the outside world and the global flags.
type app struct {
	in       io.Reader
	out, err io.Writer
	terminal string // where people are asked
	env      func(string) string
	outside  emulator.World // what every card has around it

	interrupted <-chan struct{} // closed when the command is to end

	mistyped error // help was asked for on what is no command

	fromVariables []string // the flags that variables have set

	state string // --state

	tpm, phraseFile string // --tpm, --passphrase-file
	phrase          []byte // the passphrase once it was given
}

// run executes one command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	a.interrupted = ctx.Done()
	root := newRootCommand(a)
	root.SetArgs(args)
	root.SetIn(a.in)
	help := &printed{Writer: a.out}
	root.SetOut(help)
	root.SetErr(a.err)
	cmd, err := root.ExecuteContextC(ctx)
	err = cmp.Or(help.failed, err, a.mistyped)
	if err == nil {
		return exitDone
	}
	var code program.Exit // which says nothing more
	if errors.As(err, &code) {
		return int(code)
	}
	message, hint := explained(err)
	if names := cardNames(a, nil); errors.Is(err, statedir.ErrNoCard) && len(names) > 0 {
		there := "there are " + strings.Join(names, ", ") + ";"
		var absent *statedir.Error
		if errors.As(err, &absent) {
			if near := view.Nearest(absent.Card, names); near != "" {
				there = fmt.Sprintf("did you mean %q?", near)
			}
		}
		hint = there + " " + hint + " makes another"
	}
	fmt.Fprintf(a.err, "hsmemu: %s\n", message)
	if errors.As(err, new(usageError)) || errors.Is(err, statedir.ErrName) {
		fmt.Fprintf(a.err, "usage: %s\n", cmd.UseLine())
		hint = cmp.Or(a.ofVariables(message), hint)
		if hint != "" {
			fmt.Fprintf(a.err, "hint: %s\n", hint)
		}
		return exitUsage
	}
	if errors.Is(err, errInterrupted) {
		return exitInterrupted
	}
	if hint != "" {
		fmt.Fprintf(a.err, "hint: %s\n", hint)
	}
	if errors.As(err, new(execError)) {
		return exitExec
	}
	return exitFailed
}

// printed is where the library prints help, which does not tell what became of it.
type printed struct {
	io.Writer
	failed error
}

func (p *printed) Write(b []byte) (int, error) {
	n, err := p.Writer.Write(b)
	if err != nil && p.failed == nil {
		p.failed = fmt.Errorf("print: %w", plain(err))
	}
	return n, err
}

// usageError is a mistake in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// hinted carries one piece of advice for the user.
type hinted struct {
	error
	hint string
}

func (e hinted) Unwrap() error { return e.error }

func newRootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "hsmemu",
		Short: "a software SmartCard-HSM",
		Long: "hsmemu is a software SmartCard-HSM, the card inside the Nitrokey HSM 2.\n" +
			"Its certificates say that it is an emulator; it protects nothing.",
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Version:           version(),
		Args:              cobra.ArbitraryArgs,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.fromEnvironment(cmd) },
		RunE:              helpOrUnknown,
	}
	root.PersistentFlags().StringVar(&a.state, "state", "", "folder of the cards (default $HSMEMU_STATE, $XDG_STATE_HOME/hsmemu or ~/.local/state/hsmemu)")
	root.PersistentFlags().StringVar(&a.tpm, "tpm", "", "`ADDRESS` of the TPM: device, Unix socket or HOST:PORT (default $HSMEMU_TPM, else "+seal.DefaultTPM+")")
	root.PersistentFlags().StringVar(&a.phraseFile, "passphrase-file", "", "file with the card's passphrase in its first line (default $HSMEMU_PASSPHRASE, else asked for)")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{flagError(err)} })
	root.AddCommand(
		newCardCommand(a), newExecCommand(a), newRunCommand(a), newAPDUCommand(a), newTraceCommand(a), newRAMCommand(a), newConformCommand(a), newStatusCommand(a),
		newAttestCommand(a), newPortalCommand(a), newLessonCommand(a), newVersionCommand(a), newCapabilitiesCommand(a), newCompletionCommand(a), newManCommand(a),
	)
	root.SetVersionTemplate("hsmemu {{.Version}}\n")
	alsoByFlag(root)
	hintFlag(a, root)
	complete(a, root)
	helpOnCommands(a, root)
	exemplify(root)
	return root
}

// helpOrUnknown is for commands that only hold others.
func helpOrUnknown(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	asked := strings.TrimPrefix(nameOf(cmd)+" "+args[0], cmd.Root().Name()+" ")
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
		err = hinted{err, "did you mean " + strings.Join(near, " or ") + "?"}
	}
	return usageError{err}
}

// helpOnCommands refuses help on what is no command: the library shows that of the
// group in which it looked for it, as if nothing were wrong.
func helpOnCommands(a *app, root *cobra.Command) {
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if typed := cmd.Flags().Args(); cmd.HasSubCommands() && len(typed) > 0 {
			a.mistyped = helpOrUnknown(cmd, typed)
			return
		}
		help(cmd, args)
	})
	root.SetHelpCommand(&cobra.Command{
		Use:   "help [COMMAND]...",
		Short: "show the help of a command",
		RunE: func(_ *cobra.Command, args []string) error {
			of, rest, err := root.Find(args)
			switch {
			case err != nil:
				return usageError{err}
			case len(rest) > 0 && of.HasSubCommands():
				return helpOrUnknown(of, rest)
			}
			return of.Help()
		},
	})
}

// exactly wants n arguments; anything else is a mistake in the command line.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("%s takes %s, not %d", nameOf(cmd), arguments(n), len(args))}
		}
		return nil
	}
}

// oneOrMore wants an argument or more.
func oneOrMore(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usageError{fmt.Errorf("%s takes %s or more, not 0", nameOf(cmd), arguments(1))}
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

// nameOf is what to type for a command after "hsmemu".
func nameOf(cmd *cobra.Command) string {
	return strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
}

func asUsage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

func newVersionCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "print the version",
		Args:  exactly(0),
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return a.printJSON(thisProgram())
			}
			_, err := fmt.Fprintf(a.out, "hsmemu %s\n", version())
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// thisProgram is this program as it was built.
func thisProgram() view.Program {
	return view.Program{Schema: view.Schema, Version: version(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
}

// version is what the Go tool recorded about this build.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
