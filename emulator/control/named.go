package control

import (
	"context"
	"errors"
	"strings"

	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
	"hsmemu/emulator/view"
	"hsmemu/keystore/seal"
)

// Reach reaches the process that runs a card of a folder. Errors: ErrNobody if no
// process does and the card exists, statedir.ErrName, statedir.ErrNoCard.
func Reach(ctx context.Context, d *statedir.Dir, card string) (*Client, error) {
	socket, err := d.Socket(card)
	if err != nil {
		return nil, err
	}
	c, err := Dial(ctx, socket)
	if errors.Is(err, ErrNobody) {
		if _, err := d.Inspect(card); err != nil {
			return nil, err
		}
	}
	return c, err
}

// Ask asks something of the process that runs a card of a folder. op is what fails
// if that does, as in "eject": every error is in a *statedir.Error. Errors: those of
// Reach and of what is asked.
func Ask(ctx context.Context, d *statedir.Dir, op, card string, do func(*Client) error) error {
	c, err := Reach(ctx, d, card)
	if err == nil {
		err = errors.Join(do(c), c.Close())
	}
	if err == nil || errors.As(err, new(*statedir.Error)) {
		return err
	}
	return &statedir.Error{Op: op, Card: card, Err: err}
}

// ShowRunning describes a card of a folder as the process that runs it does. Errors:
// those of Reach.
func ShowRunning(ctx context.Context, d *statedir.Dir, card string) (v view.Card, err error) {
	err = Ask(ctx, d, "show", card, func(c *Client) (err error) {
		v, err = c.Show(ctx)
		return err
	})
	return v, err
}

// Show describes a card of a folder as the process that runs it does, or as its
// file says, and why that file would not be run. Errors: those of Reach but ErrNobody,
// and of statedir.Dir.Read.
func Show(ctx context.Context, d *statedir.Dir, card string) (view.Card, error) {
	v, err := ShowRunning(ctx, d, card)
	if !errors.Is(err, ErrNobody) {
		return v, err
	}
	return showFile(d, card)
}

func showFile(d *statedir.Dir, card string) (view.Card, error) {
	state, info, err := d.Read(card)
	if err != nil {
		return view.Card{}, err
	}
	v := view.Of(card, state, info.Seal, info.Generation)
	if info.Refusal != nil {
		v.Refused = new(RefusalOf(info.Refusal))
	}
	return v, nil
}

// refusals are why a file does not fit its counter.
var refusals = []struct {
	is error
	view.Refusal
}{
	{store.ErrRolledBack, view.Refusal{Reason: view.OlderThanCounter, Text: "this file is older than the card's counter"}},
	{store.ErrAhead, view.Refusal{Reason: view.NewerThanCounter, Text: "this file is newer than the card's counter, which was turned back"}},
	{seal.ErrNoCounter, view.Refusal{Reason: view.CounterGone, Text: "the card's counter is gone from the TPM"}},
}

// RefusalOf says why a file that can be read is refused. An error that does not say how
// the file and its counter differ is of the counter itself: view.CounterFailed.
func RefusalOf(err error) view.Refusal {
	for _, r := range refusals {
		if errors.Is(err, r.is) {
			return r.Refusal
		}
	}
	return view.Refusal{Reason: view.CounterFailed, Text: view.Printable(strings.ReplaceAll(err.Error(), "\n", "; "))}
}

// Summary is Show for lists: it asks for no passphrase and no TPM, so that of a card
// that nobody runs and that is sealed there is only what anybody can see. Errors: those
// of statedir.Dir.Inspect and Show.
func Summary(ctx context.Context, d *statedir.Dir, card string) (view.Card, error) {
	info, err := d.Inspect(card)
	if err == nil || errors.Is(err, statedir.ErrUnkept) {
		v, failed := ShowRunning(ctx, d, card)
		switch {
		case failed == nil:
			return v, nil
		case err == nil && info.Seal == seal.KindNone && errors.Is(failed, ErrNobody):
			return showFile(d, card)
		case err == nil && info.Seal == seal.KindNone:
			return v, failed
		}
	}
	return view.Closed(card, info.Seal, info.Generation), err
}

// List is Summary of every card of a folder, in the order of their names. One that cannot
// be read hides no other; inWords is why.
func List(ctx context.Context, d *statedir.Dir, inWords func(error) string) ([]view.Card, error) {
	names, err := d.Names()
	if err != nil {
		return nil, err
	}
	list := make([]view.Card, len(names))
	for i, name := range names {
		if list[i], err = Summary(ctx, d, name); err != nil {
			list[i] = view.Broken(name, inWords(err))
		}
	}
	return list, nil
}

// Snapshots describes what is kept of a card of a folder, as List does.
func Snapshots(d *statedir.Dir, card string, inWords func(error) string) ([]view.Snapshot, error) {
	kept, err := d.Snapshots(card)
	if err != nil {
		return nil, err
	}
	list := make([]view.Snapshot, len(kept))
	for i, one := range kept {
		list[i] = view.Snapshot{Schema: view.Schema, Tag: one.Tag, Generation: &one.Generation, Seal: &one.Seal}
		if one.Err != nil {
			list[i] = view.Snapshot{Schema: view.Schema, Tag: one.Tag, Refused: &view.Refusal{Reason: view.Unreadable, Text: inWords(one.Err)}}
		}
	}
	return list, nil
}

// Restore puts a card of a folder into another state, in the reader of the process
// that runs it, or else in its file, opened with what w gives. It returns what that
// took back which no card ever takes back, in words. Errors: those of Client.Restore,
// and of statedir.Dir.Run.
func Restore(ctx context.Context, d *statedir.Dir, card string, state chip.Durable, force bool, w emulator.World) (undone []string, err error) {
	err = Ask(ctx, d, "restore", card, func(c *Client) (err error) {
		undone, err = c.Restore(ctx, state, force)
		return err
	})
	if !errors.Is(err, ErrNobody) {
		return undone, err
	}
	held, err := d.Run(card, w)
	if err != nil {
		return nil, err
	}
	undone, err = held.Replace(state, force)
	if err = errors.Join(err, held.Close()); err != nil {
		return nil, &statedir.Error{Op: "restore", Card: card, Err: err}
	}
	return undone, nil
}

// Session is a card that takes commands: through the process that runs it, in the
// session that the clients of its reader share, or else of a power-on of its own.
type Session struct {
	// Shared reports whether the card goes on when the session ends.
	Shared bool

	exchange func(context.Context, []byte) ([]byte, *view.Event, error)
	end      func() error
}

// Open begins a session with a card of a folder. Where no process runs the card,
// this one does until Close, with what w gives. Errors: those of Reach but
// ErrNobody, and of statedir.Dir.Run.
func Open(ctx context.Context, d *statedir.Dir, card string, w emulator.World) (*Session, error) {
	c, err := Reach(ctx, d, card)
	switch {
	case err == nil:
		return &Session{Shared: true, exchange: c.Exchange, end: c.Close}, nil
	case !errors.Is(err, ErrNobody):
		return nil, err
	}
	held, err := d.Run(card, w)
	if err != nil {
		return nil, err
	}
	events, stop := held.Watch(1)
	return &Session{
		exchange: func(ctx context.Context, command []byte) ([]byte, *view.Event, error) {
			answer, err := held.Transmit(ctx, command)
			select {
			case e := <-events:
				return answer, new(EventOf(e)), err
			default:
				return answer, nil, err
			}
		},
		end: func() error {
			stop()
			return held.Close()
		},
	}, nil
}

// Transmit has the card execute a command APDU. Errors: those of Client.Transmit.
func (s *Session) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	answer, _, err := s.exchange(ctx, command)
	return answer, err
}

// Exchange is Transmit that also tells what observers of the card are told; nil
// where the card did not see the command or failed in it.
func (s *Session) Exchange(ctx context.Context, command []byte) ([]byte, *view.Event, error) {
	return s.exchange(ctx, command)
}

// Close ends the session. Everything that a card of its own did has been saved
// before, command by command.
func (s *Session) Close() error { return s.end() }
