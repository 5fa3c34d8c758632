package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"hsmemu/vsmartcard/pcscd"
)

func newExecCommand(a *app) *cobra.Command {
	var cards []string
	var readerName string
	cmd := &cobra.Command{
		Use:   "exec [--card NAME]... -- PROGRAM [ARG]...",
		Short: "run a program with cards of its own",
		Long: "Starts a private PC/SC daemon on a private socket, puts the cards into its readers, runs the program\n" +
			"where it finds them, and hands over its exit code. Needs no root, no pcscd and no free port.",
		Args: atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.exec(context.WithoutCancel(cmd.Context()), cards, readerName, args)
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringArrayVar(&cards, "card", []string{defaultCard}, "name of a card; may be repeated")
	cmd.Flags().StringVar(&readerName, "reader-name", "", "name of the first reader instead of the hardware's")
	return cmd
}

// exec runs a program with a private daemon. Signals go to the program, so the
// context does not end with them.
func (a *app) exec(ctx context.Context, cards []string, readerName string, args []string) (err error) {
	dir, err := os.MkdirTemp(a.env("XDG_RUNTIME_DIR"), "hsmemu-")
	if err != nil {
		return fmt.Errorf("make the folder of the private socket: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	socket := filepath.Join(dir, "pcscd.comm")
	d, err := a.private(ctx, socket, cards, readerName)
	if err != nil {
		return err
	}
	p := program{args: args, env: with(os.Environ(), pcscd.EnvSocket, socket)}
	return errors.Join(p.run(a), d.close())
}

// daemon is a private PC/SC daemon with cards in its readers.
type daemon struct {
	server  *pcscd.Server
	readers []*place
	serving chan error
	waits   []func()
	cancel  context.CancelFunc
}

// place is a card in a reader of a private daemon.
type place struct {
	*held
	reader *pcscd.Reader
	socket string
}

// Eject takes the card out.
func (p *place) Eject(context.Context) error { return p.reader.Eject() }

// Insert puts the card in.
func (p *place) Insert(context.Context) error { return p.reader.Insert(p.faults) }

// Reset resets the card, as its clients are told.
func (p *place) Reset() error { return p.reader.Reset() }

// Place says where the card is.
func (p *place) Place() string { return "private daemon " + p.socket }

// private starts a daemon on a socket with cards in its readers, in the order
// given.
func (a *app) private(ctx context.Context, socket string, cards []string, readerName string) (*daemon, error) {
	ctx, cancel := context.WithCancel(ctx)
	d := &daemon{server: &pcscd.Server{}, serving: make(chan error, 1), cancel: cancel}
	listener, err := pcscd.Listen(socket)
	if errors.Is(err, pcscd.ErrPath) {
		err = hinted{err, "set XDG_RUNTIME_DIR to a folder with a shorter name"}
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("make the private socket: %w", err)
	}
	go func() { d.serving <- d.server.Serve(listener) }()
	for i, name := range cards {
		if err := a.insert(ctx, d, socket, i, name, readerName); err != nil {
			return nil, errors.Join(fmt.Errorf("run card %q: %w", name, err), d.close())
		}
	}
	return d, nil
}

// insert holds a card and puts it into a new reader.
func (a *app) insert(ctx context.Context, d *daemon, socket string, i int, name, readerName string) error {
	h, err := a.hold(name, makeDefault)
	if err != nil {
		return err
	}
	p := &place{held: h, socket: socket}
	d.readers = append(d.readers, p)
	about := pcscd.NitrokeyHSM(h.card.TokenSerial(), i)
	if readerName != "" && i == 0 {
		about.Name = readerName
	}
	if p.reader, err = d.server.Add(about); err != nil {
		return err
	}
	h.faults.Remove = func() { _ = p.reader.Eject() } // an empty reader is what is wanted
	if err := p.reader.Insert(h.faults); err != nil {
		return err
	}
	wait, err := (&control{app: a, held: h, reader: p}).serve(ctx)
	if err != nil {
		return err
	}
	d.waits = append(d.waits, wait)
	return nil
}

// close ends the daemon, which takes the cards out, and gives them back.
func (d *daemon) close() error {
	d.cancel()
	err := d.server.Close()
	if served := <-d.serving; !errors.Is(served, pcscd.ErrClosed) && !errors.Is(served, net.ErrClosed) {
		err = errors.Join(err, served)
	}
	for _, wait := range d.waits {
		wait()
	}
	for _, p := range d.readers {
		err = errors.Join(err, p.Close())
	}
	return err
}

// serveSocket keeps a private daemon running until the context ends.
func (a *app) serveSocket(ctx context.Context, socket string, cards []string) (err error) {
	if socket == "" {
		if socket, err = a.defaultSocket(); err != nil {
			return err
		}
	}
	d, err := a.private(ctx, socket, cards, "")
	if err != nil {
		return err
	}
	for _, p := range d.readers {
		a.announceCard(p.held, p.reader.Name())
	}
	fmt.Fprintf(a.out, "clients find them with %s=%s\nready\n", pcscd.EnvSocket, socket)
	<-ctx.Done()
	return d.close()
}

// defaultSocket is where `run` serves when it is not told.
func (a *app) defaultSocket() (string, error) {
	base := a.env("XDG_RUNTIME_DIR")
	if base == "" {
		folder, err := a.folder()
		if err != nil {
			return "", err
		}
		return filepath.Join(folder, "pcscd.comm"), nil
	}
	dir := filepath.Join(base, "hsmemu")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the folder of the private socket: %w", err)
	}
	return filepath.Join(dir, "pcscd.comm"), nil
}
