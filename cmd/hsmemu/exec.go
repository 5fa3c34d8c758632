package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/capability"
	"hsmemu/emulator/control"
	"hsmemu/emulator/program"
	"hsmemu/emulator/start"
	"hsmemu/vsmartcard/pcscd"
)

func newExecCommand(a *app) *cobra.Command {
	var cards, readerNames, faults []string
	var from, trace, init string
	var keepGoing bool
	var at socketFlags
	var page consoleFlags
	cmd := &cobra.Command{
		Use:   "exec [--card NAME]... [flags] -- PROGRAM [ARG]...",
		Short: "run a program with cards of its own",
		Long: "Starts a private PC/SC daemon on a private socket, puts the cards into its readers, in the order given,\n" +
			"runs the program where it finds them, and hands over its exit code: 128+n if signal n ended it, 127 if there\n" +
			"is no such program, 126 if it cannot be run, 125 if exec itself failed, as for a card that is in use, and 2\n" +
			"for a mistake in exec's own command line. Needs no root, no pcscd and no free port; any number run side by\n" +
			"side.\n\n" +
			"A program that runs is let run to its end, whatever fails meanwhile. With --keep-going it runs also if some of\n" +
			"the cards cannot be had, with the others; what failed is reported after it, and the exit code is 125 if its\n" +
			"own was 0.\n\n" +
			"With --trace every command of the program is shown, from the first to the last: on standard error, drawn as\n" +
			"`hsmemu trace` draws if that is a terminal, or in a file, a line for each. The program's output stays as it is.\n\n" +
			"With --console the cards are on a page for a browser while the program runs, as docs/console.md shows; its address\n" +
			"is printed on standard error.\n\n" +
			"With --from the card is a throw-away copy of a snapshot of it, or of a file that `hsmemu card export` wrote:\n" +
			"it is in memory alone and ends with the program. The program finds it under its name in a state folder of\n" +
			"its own. With --init a card that is not there yet is made in a start state, as `hsmemu run --help` tells.\n" +
			"With --fault the readers fail from the beginning; `hsmemu card fault --help` tells how.",
		Args: commandline.OneOrMore,

		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if twice := repeated(cards); twice != "" {
				return commandline.Usage(fmt.Errorf("card %q is named twice", twice))
			}
			if trace == "" && cmd.Flags().Changed("trace") {
				return commandline.Usage(errors.New("--trace= takes a file, and --trace alone none"))
			}
			if len(readerNames) > len(cards) {
				return commandline.Usage(errors.New("--reader-name is given more often than there are cards"))
			}
			if from != "" && len(cards) > 1 {
				return commandline.Usage(errors.New("--from goes with one card"))
			}
			if from != "" && init != "" {
				return commandline.Usage(errors.New("--from and --init exclude each other: the copy has what the card has"))
			}
			if from != "" && at.path != "" {
				return commandline.Usage(errors.New("--from and --socket exclude each other: a throw-away card is for the program alone"))
			}
			wanted, err := start.Want(cards, readerNames, init)
			if err != nil {
				return execError{err}
			}
			wanted[0].From = from
			return a.exec(cmd.Context(), execution{at, wanted, faults, keepGoing, trace, page, args})
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringArrayVar(&cards, "card", []string{defaultCard}, "name of a card; may be repeated")
	cmd.Flags().StringArrayVar(&readerNames, "reader-name", nil, "`NAME` of the first reader, instead of what hardware with this card is called; repeated, of the next")
	at.flags(cmd)
	page.flags(cmd)
	cmd.Flags().StringVar(&from, "from", "", "run a throw-away copy of this `SNAPSHOT|FILE`, of which nothing is kept: the snapshot TAG of the card, or CARD:TAG")
	initFlag(cmd, &init)
	cmd.Flags().StringVar(&trace, "trace", "", "show the program's commands on standard error, or with =`FILE` write them there")
	cmd.Flags().Lookup("trace").NoOptDefVal = onStderr
	cmd.Flags().BoolVar(&keepGoing, "keep-going", false, "run the program also without cards that cannot be had, and report them after it")
	cmd.Flags().StringArrayVar(&faults, "fault", nil, "`FAULT` with its settings, as in 'remove after=3', in every reader; may be repeated")
	return cmd
}

// execution is what the command line of exec asks for.
type execution struct {
	at        socketFlags
	cards     []start.Wanted
	faults    []string
	keepGoing bool
	trace     string // a file or onStderr; empty for none
	page      consoleFlags
	args      []string
}

// exec runs a program with a private daemon. Signals go to the program, so the
// context, which ends with them, is that of making cards alone.
func (a *app) exec(making context.Context, x execution) (err error) {
	defer func() {
		if err != nil && !errors.As(err, new(program.Exit)) {
			err = execError{err}
		}
	}()
	if err := capability.Check("exec", runtime.GOOS); err != nil {
		return err
	}
	ctx := context.WithoutCancel(making)
	signals := program.Collect()
	defer signals.Stop()
	var begun closing
	fail := func(err error) error { return errors.Join(err, begun.all()) }
	shown, err := a.openConsole(ctx, x.page, a.err)
	if err != nil {
		return err
	}
	begun = append(begun, shown.Close)
	l, socket, remove, err := a.socketFor(x.at)
	if err != nil {
		return fail(err)
	}
	begun = append(begun, remove)
	var missing []error
	without := &missing
	if !x.keepGoing {
		without = nil
	}
	d, err := a.private(making, l, socket, x.cards, without)
	if err != nil {
		return fail(whereUsed(err, "`hsmemu status --card %s` tells where it is: in that reader, or with that socket in PCSCLITE_CSOCK_NAME, programs reach it without exec"))
	}
	begun = append(begun, d.Close)
	if err := shown.files().show(ctx, d.Cards); err != nil {
		return fail(err)
	}
	if x.trace != "" {
		end, err := a.trace(d.Cards, x.trace)
		if err != nil {
			return fail(err)
		}
		begun = append(begun, end)
	}
	if err := control.SetFaults(d.Cards, x.faults); err != nil {
		return fail(commandline.Usage(err))
	}
	cmd := exec.Command(x.args[0], x.args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.in, a.stdout(), a.err
	cmd.Env = program.With(os.Environ(), pcscd.EnvSocket, socket)
	if x.cards[0].From != "" {
		cmd.Env = program.With(cmd.Env, "HSMEMU_STATE", filepath.Dir(socket))
	}
	ended := x.explain(a, signals.Run(cmd, isTerminal(a.in)))
	for _, failed := range append(missing, begun.all()) {
		if failed != nil {
			message, _ := explained(failed)
			fmt.Fprintf(a.err, "hsmemu: %s\n", message)
			ended = cmp.Or(ended, error(program.Exit(exitExec)))
		}
	}
	return ended
}

// explain says why the program was not started, if it was not. A name that is not there
// may be a card's, as other programs of this kind have it for an argument, or a trace's.
func (x execution) explain(a *app, err error) error {
	name := x.args[0]
	more := len(x.args) > 1 && x.args[1] == "--"
	if x.trace == onStderr && more && errors.As(err, new(*program.StartError)) {
		err = a.notStarted(err, "")
		fmt.Fprintf(a.err, "hint: a file for the trace stands behind an equals sign: --trace=%s\n", oneLine(name))
		return err
	}
	advice := ""
	if more || slices.Contains(cardNames(a), name) {
		advice = fmt.Sprintf("a card is named by a flag: hsmemu exec --card %s -- PROGRAM", oneLine(name))
	}
	return a.notStarted(err, advice)
}

// closing ends what was begun.
type closing []func() error

// all ends what was begun last first.
func (c closing) all() (err error) {
	for _, end := range slices.Backward(c) {
		err = errors.Join(err, end())
	}
	return err
}

// socketFor makes the socket for a program: where others find it, too, or in a
// folder of its own, which remove removes.
func (a *app) socketFor(at socketFlags) (l net.Listener, path string, remove func() error, err error) {
	if at == (socketFlags{}) {
		l, path, remove, err = pcscd.ListenIn(a.env("XDG_RUNTIME_DIR"), os.TempDir())
		if err != nil {
			err = explainSocket(err, shorterTMPDIR)
		}
		return l, path, remove, err
	}
	if l, path, err = a.listen(at); errors.As(err, new(*pcscd.ServedError)) {
		err = commandline.Hint(err, "--socket PATH serves at another place")
	}
	return l, path, func() error { return nil }, err
}

// shorterTMPDIR is what helps where the path of a private socket is too long.
const shorterTMPDIR = "set TMPDIR to a folder with a shorter name"

// explainSocket says why there is no socket; the advice is for a path that is
// too long.
func explainSocket(err error, advice string) error {
	err = fmt.Errorf("make the private socket: %w", err)
	if errors.Is(err, pcscd.ErrPath) {
		return commandline.Hint(err, advice)
	}
	return err
}

// places are cards on their way into readers, as [start.Opener.Places] has them; the
// passphrase that they had in common is forgotten.
func (a *app) places(ctx context.Context, cards []start.Wanted, socket string, missing *[]error) (control.Places, error) {
	o, err := a.opener()
	if err != nil {
		return nil, err
	}
	defer a.forget()
	return o.Places(ctx, cards, socket, missing)
}

// private starts a private daemon on a listener, which it owns, with cards in its
// readers, as places has them. The context is that of making them: the daemon goes
// on until it is closed.
func (a *app) private(ctx context.Context, l net.Listener, socket string, cards []start.Wanted, missing *[]error) (*control.Private, error) {
	places, err := a.places(ctx, cards, socket, missing)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return control.Start(context.WithoutCancel(ctx), l, socket, places)
}

// serveSocket keeps a private daemon running until the context ends.
func (a *app) serveSocket(ctx context.Context, at socketFlags, cards []string, init string, shown *live) (err error) {
	if err := capability.Check("run", runtime.GOOS); err != nil {
		return err
	}
	wanted, err := start.Want(cards, nil, init)
	if err != nil {
		return err
	}
	l, socket, err := a.listen(at)
	if err != nil {
		return a.busy(err, cards)
	}
	d, err := a.private(ctx, l, socket, wanted, nil)
	if err != nil {
		return a.busy(err, nil)
	}
	for i, c := range d.Cards {
		a.announceCard(c, d.Names[i])
	}
	fmt.Fprintf(a.out, "export %s=%s\n", pcscd.EnvSocket, quoted(socket))
	if err := shown.files().show(ctx, d.Cards); err != nil {
		return errors.Join(err, d.Close())
	}
	if err := a.ready(); err != nil {
		return errors.Join(err, d.Close())
	}
	<-ctx.Done()
	shown.letGo(ctx)
	return d.Close()
}

// quoted is a word as a shell reads it, whatever is in it.
func quoted(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// defaultSocket is where `run` serves when it is not told: where the system
// keeps such things for the user, or else in the state folder.
func (a *app) defaultSocket() (string, error) {
	if path, ok := pcscd.SharedPath(a.env("XDG_RUNTIME_DIR")); ok {
		return path, nil
	}
	d, err := a.cards()
	if err != nil {
		return "", err
	}
	return filepath.Join(d.Path(), pcscd.SocketName), nil
}
