package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"hsmemu/applet/client"
	"hsmemu/emulator/control"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/view"
	"hsmemu/vsmartcard/pcscd"
)

// defaultCard is the card of a command that names none.
const defaultCard = "default"

// cards is the state folder, made on first use.
func (a *app) cards() (*statedir.Dir, error) {
	dir := a.state
	if dir == "" {
		dir = a.env("HSMEMU_STATE")
	}
	if base := a.env("XDG_STATE_HOME"); dir == "" && base != "" {
		dir = filepath.Join(base, "hsmemu")
	}
	if dir == "" {
		home := cmp.Or(a.env("HOME"), a.env("USERPROFILE")) // Windows has the second
		if home == "" {
			return nil, hinted{errors.New("find the state folder: no home folder"), "name one with --state or $HSMEMU_STATE"}
		}
		dir = filepath.Join(home, ".local", "state", "hsmemu")
	}
	return statedir.Open(dir, a.options())
}

// absent is what a command does about a card that does not exist.
type absent int

const (
	refuseAbsent absent = iota
	// makeDefault makes the default card on its first use, and says so.
	makeDefault
)

// hold opens a card for running it.
func (a *app) hold(name string, missing absent) (*statedir.Card, error) {
	d, err := a.cards()
	if err != nil {
		return nil, err
	}
	w := a.outside
	w.Log = slog.New(voice{out: a.err, about: fmt.Sprintf("card %q: ", name)})
	card, err := d.Run(name, w)
	if !errors.Is(err, statedir.ErrNoCard) || missing != makeDefault || name != defaultCard {
		return card, err
	}
	sealers, err := a.newSealers(sealing{})
	if err != nil {
		return nil, err
	}
	if err := d.Make(name, statedir.Order{}, sealers, a.outside); err != nil {
		return nil, err
	}
	fmt.Fprintf(a.err, "hsmemu: made card %q in %s\n", name, d.Path())
	return d.Run(name, w)
}

// running reaches the process that runs a card. Error: control.ErrNobody if no
// process does, and the card exists.
func (a *app) running(ctx context.Context, name string) (*control.Client, error) {
	d, err := a.cards()
	if err != nil {
		return nil, err
	}
	socket, err := d.Socket(name)
	if err != nil {
		return nil, err
	}
	c, err := control.Dial(ctx, socket)
	if errors.Is(err, control.ErrNobody) {
		if _, err := d.Inspect(name); err != nil {
			return nil, err
		}
	}
	return c, err
}

// ask asks something of the process that runs a card.
func (a *app) ask(ctx context.Context, op, name string, do func(*control.Client) error) error {
	c, err := a.running(ctx, name)
	if err == nil {
		err = errors.Join(do(c), c.Close())
	}
	var named *statedir.Error
	if err == nil || errors.As(err, &named) {
		return err
	}
	return &statedir.Error{Op: op, Card: name, Err: err}
}

// showRunning asks the process that runs a card about it.
func (a *app) showRunning(ctx context.Context, name string) (v view.Card, err error) {
	err = a.ask(ctx, "show", name, func(c *control.Client) (err error) {
		v, err = c.Show(ctx)
		return err
	})
	return v, err
}

// show is what can be told of a card, asked from the process that runs it or
// read from its file.
func (a *app) show(ctx context.Context, name string) (view.Card, error) {
	v, err := a.showRunning(ctx, name)
	if !errors.Is(err, control.ErrNobody) {
		return v, err
	}
	d, err := a.cards()
	if err != nil {
		return view.Card{}, err
	}
	state, info, err := d.Read(name)
	if err != nil {
		return view.Card{}, err
	}
	v = view.Of(name, state, info.Seal, info.Generation)
	if info.Refusal != nil {
		v.Refused = new(refusal(info.Refusal))
	}
	return v, nil
}

// session is a client of a card: through the process that runs it, in the
// session that its clients share, in a reader of PC/SC, or else of a card of our
// own power-on.
type session struct {
	*client.Client
	// what is the card for people: card "alice", reader "…".
	what string
	// shared reports whether the card goes on when the session ends.
	shared bool
	close  func() error
}

// session opens a card for commands.
func (a *app) session(ctx context.Context, name string) (*session, error) {
	c, err := a.running(ctx, name)
	switch {
	case err == nil:
		return &session{Client: client.New(c), what: fmt.Sprintf("card %q", name), shared: true, close: c.Close}, nil
	case !errors.Is(err, control.ErrNobody):
		return nil, err
	}
	h, err := a.hold(name, refuseAbsent)
	if err != nil {
		return nil, err
	}
	return &session{Client: client.New(h.Card), what: fmt.Sprintf("card %q", name), close: h.Close}, nil
}

// inReader takes up the card in the reader of PC/SC whose name contains some text.
func (a *app) inReader(ctx context.Context, name string) (*session, error) {
	pc, h, name, err := a.connect(ctx, name)
	if err != nil {
		return nil, err
	}
	return &session{
		Client: client.New(h), what: fmt.Sprintf("reader %q", name), shared: true,
		close: func() error {
			return errors.Join(h.Disconnect(context.WithoutCancel(ctx), pcscd.Leave), pc.Close())
		},
	}, nil
}

// connect takes up the card in a reader of PC/SC whose name contains some text, and
// returns the whole name.
func (a *app) connect(ctx context.Context, name string) (*pcscd.Client, *pcscd.Handle, string, error) {
	fail := func(err error) (*pcscd.Client, *pcscd.Handle, string, error) {
		return nil, nil, "", fmt.Errorf("reader %q: %w", name, err)
	}
	pc, err := pcscd.Dial(ctx, "")
	if err != nil {
		return fail(err)
	}
	full, err := pc.Find(ctx, name)
	if err != nil {
		return fail(errors.Join(err, pc.Close()))
	}
	name = full
	h, err := pc.Connect(ctx, name, pcscd.Shared, pcscd.T0|pcscd.T1)
	if err != nil {
		return fail(errors.Join(err, pc.Close()))
	}
	return pc, h, name, nil
}

// leave logs out where this session has logged in, and closes it.
func (s *session) leave(ctx context.Context) error {
	return errors.Join(s.about(s.Leave(ctx)), s.close())
}

// about says which card an error is about.
func (s *session) about(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", s.what, err)
}

// placement is a card on its way into a reader of this process.
func (a *app) placement(card *statedir.Card, reader string) (control.Placement, error) {
	d, err := a.cards()
	if err != nil {
		return control.Placement{}, err
	}
	socket, err := d.Socket(card.Name)
	return control.Placement{Name: card.Name, Card: card.Card, Kept: card, Reader: reader, Socket: socket}, err
}
