package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"hsmemu/emulator/control"
	"hsmemu/emulator/statedir"
	"hsmemu/vsmartcard/pcscd"
)

func newExecCommand(a *app) *cobra.Command {
	var cards, readerNames []string
	cmd := &cobra.Command{
		Use:   "exec [--card NAME]... [flags] -- PROGRAM [ARG]...",
		Short: "run a program with cards of its own",
		Long: "Starts a private PC/SC daemon on a private socket, puts the cards into its readers, in the order given,\n" +
			"runs the program where it finds them, and hands over its exit code: 127 if it could not be started, 128+n if\n" +
			"signal n ended it. Needs no root, no pcscd and no free port; any number run side by side.",
		Args: atLeast(1),

		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if twice := repeated(cards); twice != "" {
				return usageError{fmt.Errorf("card %q is named twice", twice)}
			}
			return a.exec(context.WithoutCancel(cmd.Context()), fill(cards, readerNames), args)
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringArrayVar(&cards, "card", []string{defaultCard}, "name of a card; may be repeated")
	cmd.Flags().StringArrayVar(&readerNames, "reader-name", nil, "`NAME` of the first reader, instead of what hardware with this card is called; repeated, of the next")
	return cmd
}

// filling is a card for a reader, and the reader's name if the user has chosen
// one.
type filling struct{ card, reader string }

// fill pairs cards with the names of their readers.
func fill(cards, readerNames []string) []filling {
	all := make([]filling, len(cards))
	for i, card := range cards {
		all[i].card = card
		if i < len(readerNames) {
			all[i].reader = readerNames[i]
		}
	}
	return all
}

// exec runs a program with a private daemon. Signals go to the program, so the
// context does not end with them.
func (a *app) exec(ctx context.Context, cards []filling, args []string) (err error) {
	if err := needPCSCLite("exec", runtime.GOOS); err != nil {
		return err
	}
	p := program{args: args, signals: passSignals()}
	defer p.signals.stop()
	l, socket, remove, err := a.privateSocket()
	if err != nil {
		return err
	}
	defer func() { err = a.also(err, remove()) }()
	_, closeAll, err := a.private(ctx, l, socket, cards)
	if err != nil {
		return err
	}
	p.env = with(os.Environ(), pcscd.EnvSocket, socket)
	return a.also(p.run(a), closeAll())
}

// also joins a failure of our own to how a program ended. Its exit code is
// handed over all the same.
func (a *app) also(ended, failed error) error {
	var code exitError
	if failed != nil && errors.As(ended, &code) {
		fmt.Fprintf(a.err, "hsmemu: %v\n", failed)
		return ended
	}
	return errors.Join(ended, failed)
}

// needPCSCLite says why a command cannot serve programs through a private daemon
// on a system whose own PC/SC service they use, which nothing can stand in for.
func needPCSCLite(command, system string) error {
	service, own := map[string]string{"darwin": "macOS", "windows": "Windows"}[system]
	if !own {
		return nil
	}
	return hinted{
		fmt.Errorf("%s needs programs that use pcsc-lite, as on Linux and FreeBSD: those of %s speak to its own smart-card service", command, service),
		"`hsmemu run --vpcd HOST:PORT` reaches a virtual reader of that service; `hsmemu apdu` needs none",
	}
}

// privateSocket makes a socket in a folder of its own: where the system keeps
// such things for the user, or else, since that may be missing, unusable or
// too deep, among the temporary files. What remove removes is the folder.
func (a *app) privateSocket() (l net.Listener, path string, remove func() error, err error) {
	for _, base := range []string{a.env("XDG_RUNTIME_DIR"), os.TempDir()} {
		if base == "" {
			continue
		}
		var dir string
		if dir, err = os.MkdirTemp(base, "hsmemu-"); err != nil {
			continue
		}
		path = filepath.Join(dir, socketName)
		if l, err = pcscd.Listen(path); err == nil {
			return l, path, func() error { return os.RemoveAll(dir) }, nil
		}
		if failed := os.Remove(dir); failed != nil {
			return nil, "", nil, errors.Join(err, failed)
		}
	}
	return nil, "", nil, explainSocket(err, "set TMPDIR to a folder with a shorter name")
}

// explainSocket says why there is no socket; the advice is for a path that is
// too long.
func explainSocket(err error, advice string) error {
	err = fmt.Errorf("make the private socket: %w", err)
	if errors.Is(err, pcscd.ErrPath) {
		return hinted{err, advice}
	}
	return err
}

// private starts a private daemon on a listener, which it owns, with cards in its
// readers, in the order given. What close ends gives the cards back, too.
func (a *app) private(ctx context.Context, l net.Listener, socket string, cards []filling) (d *control.Private, closeAll func() error, err error) {
	var places []control.Placement
	var held []*statedir.Card
	closeAll = func() error {
		var err error
		if d != nil {
			err = d.Close()
		}
		for _, h := range held {
			err = errors.Join(err, h.Close())
		}
		return err
	}
	for _, c := range cards {
		h, err := a.hold(c.card, makeDefault)
		if err != nil {
			return nil, nil, errors.Join(err, l.Close(), closeAll())
		}
		held = append(held, h)
		place, err := a.placement(h, c.reader)
		places = append(places, place)
		if err != nil {
			return nil, nil, errors.Join(err, l.Close(), closeAll())
		}
	}
	if d, err = control.Start(ctx, l, socket, places); err != nil {
		return nil, nil, errors.Join(err, closeAll())
	}
	a.forget()
	return d, closeAll, nil
}

// serveSocket keeps a private daemon running until the context ends.
func (a *app) serveSocket(ctx context.Context, socket string, cards []string) (err error) {
	if err := needPCSCLite("run", runtime.GOOS); err != nil {
		return err
	}
	if socket == "" {
		socket, err = a.defaultSocket()
	} else {
		socket, err = filepath.Abs(socket)
	}
	if err != nil {
		return err
	}
	l, err := takeSocket(socket)
	if err != nil {
		return explainSocket(err, "--socket takes a shorter path")
	}
	d, closeAll, err := a.private(ctx, l, socket, fill(cards, nil))
	if err != nil {
		return err
	}
	for i, c := range d.Cards {
		a.announceCard(c, d.Names[i])
	}
	fmt.Fprintf(a.out, "clients find them with %s=%s\nready\n", pcscd.EnvSocket, socket)
	<-ctx.Done()
	return closeAll()
}

// takeSocket makes a socket at a path, also where a process that did not end
// cleanly has left one.
func takeSocket(path string) (net.Listener, error) {
	l, err := pcscd.Listen(path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	if info, failed := os.Lstat(path); failed != nil || info.Mode().Type() != fs.ModeSocket {
		return nil, err
	}
	conn, failed := net.Dial("unix", path)
	if failed == nil {
		return nil, errors.Join(fmt.Errorf("another process serves %s", path), conn.Close())
	}
	if !errors.Is(failed, syscall.ECONNREFUSED) {
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return pcscd.Listen(path)
}

// socketName is how sockets are called, as the system's is.
const socketName = "pcscd.comm"

// defaultSocket is where `run` serves when it is not told: where the system
// keeps such things for the user, or else in the state folder.
func (a *app) defaultSocket() (string, error) {
	if base := a.env("XDG_RUNTIME_DIR"); base != "" {
		dir := filepath.Join(base, "hsmemu")
		if err := os.Mkdir(dir, 0o700); err == nil || errors.Is(err, fs.ErrExist) {
			return filepath.Join(dir, socketName), nil
		}
	}
	d, err := a.cards()
	if err != nil {
		return "", err
	}
	return filepath.Join(d.Path(), socketName), nil
}
