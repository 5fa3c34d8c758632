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
	"time"

	"github.com/spf13/cobra"

	"hsmemu/cmd/hsmemu/commandline"
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

	patience time.Duration // until it is said that a reader does not take its card; 0 is the usual time

	state string // --state

	tpm, phraseFile string // --tpm, --passphrase-file
	phrase          []byte // the passphrase once it was given
}

// run executes one command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	a.interrupted = ctx.Done()
	stdout := a.out
	a.out = &output{to: stdout}
	defer func() { a.out = stdout }()
	_, line := newRootCommand(a)
	cmd, err := line.Execute(ctx, args)
	var code program.Exit // which says nothing more
	silent := errors.As(err, &code)
	if unwritten := a.unwritten(); silent && unwritten != nil {
		err, silent = unwritten, false
	} else if !errors.Is(err, unwritten) {
		err = errors.Join(err, unwritten)
	}
	switch {
	case err == nil:
		return exitDone
	case silent:
		return int(code)
	}
	message, hint := a.explained(err, cmd)
	fmt.Fprintf(a.err, "hsmemu: %s\n", message)
	if errors.As(err, new(commandline.UsageError)) || errors.Is(err, statedir.ErrName) {
		fmt.Fprintf(a.err, "usage: %s\n", cmd.UseLine())
		hint = cmp.Or(line.FromVariables(message), hint)
		if hint != "" {
			fmt.Fprintf(a.err, "hint: %s\n", hint)
		}
		return exitUsage
	}
	if errors.Is(err, errInterrupted) || errors.Is(err, context.Canceled) {
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

func newRootCommand(a *app) (*cobra.Command, *commandline.Line) {
	root := &cobra.Command{
		Use:   "hsmemu",
		Short: "a software SmartCard-HSM",
		Long: "hsmemu is a software SmartCard-HSM, the card inside the Nitrokey HSM 2.\n" +
			"Its certificates say that it is an emulator; it protects nothing.",
		Version: version(),
	}
	root.SetIn(a.in)
	root.SetErr(a.err)
	root.PersistentFlags().StringVar(&a.state, "state", "", "folder of the cards (default $HSMEMU_STATE, $XDG_STATE_HOME/hsmemu or ~/.local/state/hsmemu)")
	root.PersistentFlags().StringVar(&a.tpm, "tpm", "", "`ADDRESS` of the TPM: device, Unix socket or HOST:PORT (default $HSMEMU_TPM, else "+seal.DefaultTPM+")")
	root.PersistentFlags().StringVar(&a.phraseFile, "passphrase-file", "", "file with the passphrase of the card, or of the portal's records, in its first line (default $HSMEMU_PASSPHRASE, else asked for)")
	root.AddCommand(
		newCardCommand(a), newExecCommand(a), newRunCommand(a), newAPDUCommand(a), newTraceCommand(a), newRAMCommand(a), newConformCommand(a), newStatusCommand(a),
		newAttestCommand(a), newPortalCommand(a), newLessonCommand(a), newVersionCommand(a), newCapabilitiesCommand(a),
	)
	root.SetVersionTemplate("hsmemu {{.Version}}\n")
	return root, commandline.New(root, a.out, commandline.Tables{
		Env: a.env, Variables: variables, Complete: completion(a), Manual: manual, Subject: a.subject(), Examples: examples,
	})
}

func newVersionCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "print the version",
		Args:  commandline.Exactly(0),
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
