package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"hsmemu/applet/client"
	"hsmemu/emulator"
	"hsmemu/emulator/control"
	"hsmemu/emulator/start"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
	"hsmemu/vsmartcard/pcscd"
)

// defaultCard is the card of a command that names none.
const defaultCard = "default"

// cards is the state folder, made on first use.
func (a *app) cards() (*statedir.Dir, error) {
	dir := a.state
	if dir == "" {
		var err error
		if dir, err = statedir.Usual(a.env); err != nil {
			return nil, err
		}
	}
	return statedir.Open(dir, a.options())
}

// inFolder opens the state folder for a command, and has do carry it out.
func (a *app) inFolder(do func(ctx context.Context, d *statedir.Dir, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		d, err := a.cards()
		if err != nil {
			return err
		}
		return do(cmd.Context(), d, args)
	}
}

// absent is what a command does about a card that does not exist.
type absent int

const (
	refuseAbsent absent = iota
	// makeDefault makes the default card on its first use, and says so.
	makeDefault
)

// world is what a card of this process gets from outside.
func (a *app) world(card string) emulator.World {
	w := a.outside
	w.Log = slog.New(voice{out: a.err, about: fmt.Sprintf("card %q: ", card)})
	return w
}

// hold opens a card for running it.
func (a *app) hold(name string, missing absent) (*statedir.Card, error) {
	return opened(a, name, missing, func(d *statedir.Dir) (*statedir.Card, error) { return d.Run(name, a.world(name)) })
}

// opened opens a card in some way, and makes it before that where it may.
func opened[T any](a *app, name string, missing absent, open func(*statedir.Dir) (T, error)) (card T, err error) {
	o, err := a.opener()
	if err != nil {
		return card, err
	}
	if missing != makeDefault {
		o.Default = ""
	}
	return start.FirstUse(o, name, func() (T, error) { return open(o.Dir) })
}

// opener opens cards of the state folder, and says which it has made.
func (a *app) opener() (start.Opener, error) {
	d, err := a.cards()
	return start.Opener{
		Dir: d, World: a.world, Default: defaultCard,
		New: func() (store.Options, error) { return a.newSealers(sealing{}) },
		In:  statedir.Sealers{Snapshot: a.options(), File: transfer{}.in(a)},
		Made: func(card string, files []string) {
			how := "in " + d.Path()
			if files != nil {
				how = "with " + strings.Join(files, ", ")
			}
			fmt.Fprintf(a.err, "hsmemu: made card %q %s\n", card, how)
		},
		Left: func(card string) {
			fmt.Fprintf(a.err, "hsmemu: card %q is there, and left as it is: --init is for new ones\n", card)
		},
	}, err
}

// ask asks something of the process that runs a card.
func (a *app) ask(ctx context.Context, op, name string, do func(*control.Client) error) error {
	d, err := a.cards()
	if err != nil {
		return err
	}
	return control.Ask(ctx, d, op, name, do)
}

// session is a client of a card.
type session struct {
	*client.Client
	// what is the card for people: card "alice", reader "…".
	what string
	// shared reports whether the card goes on when the session ends.
	shared bool
	close  func() error
}

// open opens a card for commands.
func (a *app) open(ctx context.Context, name string, missing absent) (*control.Session, error) {
	return opened(a, name, missing, func(d *statedir.Dir) (*control.Session, error) {
		return control.Open(ctx, d, name, a.world(name))
	})
}

// session opens a card for a client.
func (a *app) session(ctx context.Context, name string) (*session, error) {
	s, err := a.open(ctx, name, refuseAbsent)
	if err != nil {
		return nil, err
	}
	return &session{Client: client.New(s), what: fmt.Sprintf("card %q", name), shared: s.Shared, close: s.Close}, nil
}

// inReader takes up the card in the reader of PC/SC whose name contains some text.
func (a *app) inReader(ctx context.Context, name string) (*session, error) {
	c, err := pcscd.ConnectTo(ctx, "", name)
	if err != nil {
		return nil, err
	}
	return &session{
		Client: client.New(c), what: fmt.Sprintf("reader %q", c.Reader), shared: true,
		close: func() error { return c.Close(ctx, pcscd.Leave) },
	}, nil
}

// leave logs out where this session has logged in, and closes it.
func (s *session) leave(ctx context.Context) error {
	return withEnd(s.about(s.Leave(ctx)), s.close())
}

// withEnd joins an error with that of an end which comes after it: where the daemon of a reader
// is gone, every end fails for that reason, and it has been told.
func withEnd(err, end error) error {
	if errors.Is(err, pcscd.ErrComm) && errors.Is(end, pcscd.ErrComm) {
		return err
	}
	return errors.Join(err, end)
}

// about says which card an error is about.
func (s *session) about(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", s.what, err)
}
