package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hsmemu/emulator/statedir"
	"hsmemu/emulator/view"
	"hsmemu/vsmartcard/pcscd"
)

const (
	// statusPatience is how long a served card has for an answer.
	statusPatience = 5 * time.Second
	// statusPause lies between two looks of Answering.
	statusPause = 50 * time.Millisecond
)

// ErrUnserved says that there is a daemon, and a reader without a card, or none.
var ErrUnserved = errors.New("no card answers")

// Answering looks until there is no error, or the wait is over: then the last error
// is the answer. It looks once at least, and no look takes longer than 5 s.
func Answering(ctx context.Context, wait time.Duration, look func(context.Context) (view.Status, error)) (view.Status, error) {
	over, stop := context.WithTimeout(ctx, wait)
	defer stop()
	pause := time.NewTicker(statusPause)
	defer pause.Stop()
	for {
		one, stop := context.WithTimeout(ctx, statusPatience)
		s, err := look(one)
		stop()
		s.Schema, s.Answers = view.Schema, err == nil
		if err == nil || over.Err() != nil {
			return s, err
		}
		select {
		case <-pause.C:
		case <-over.Done():
			return s, err
		}
	}
}

// Status is whether the process that runs a card of a folder answers, and whether the
// card is in its reader. Also with an error it says which card was asked for. Errors:
// those of Reach, ErrEjected.
func Status(ctx context.Context, d *statedir.Dir, card string) (s view.Status, err error) {
	s.Cards = []view.Served{{Card: &card, Start: []string{}}}
	v, err := ShowRunning(ctx, d, card)
	if err != nil {
		return s, err
	}
	if v.Running != nil {
		s.Process, s.Place, s.Cards[0].Start = &v.Running.Process, &v.Running.Place, v.Running.Start
		if v.Running.Ejected {
			return s, &statedir.Error{Op: "show", Card: card, Err: ErrEjected}
		}
	}
	s.Cards[0].Serial, s.Cards[0].Reader, s.Cards[0].Answers = v.Serial, v.Reader, true
	return s, nil
}

// StatusAt asks the daemon at a socket for its readers, as a program does. Also with
// an error it says what is in which reader. Error: ErrUnserved if there is none, or
// one without a card, which is named.
func StatusAt(ctx context.Context, socket string) (s view.Status, err error) {
	s.Socket, s.Cards = &socket, []view.Served{}
	c, err := pcscd.Dial(ctx, socket)
	if err != nil {
		return s, fmt.Errorf("%s: %w", socket, err)
	}
	readers, err := c.Readers(ctx)
	if err = errors.Join(err, c.Close()); err != nil {
		return s, fmt.Errorf("%s: %w", socket, err)
	}
	if len(readers) == 0 {
		return s, fmt.Errorf("%s: %w: there is no reader", socket, ErrUnserved)
	}
	for _, r := range readers {
		there := len(r.ATR) > 0
		s.Cards = append(s.Cards, view.Served{Reader: &r.Name, Answers: there, Start: []string{}})
		if !there && err == nil {
			err = fmt.Errorf("%s: %w in reader %s", socket, ErrUnserved, r.Name)
		}
	}
	return s, err
}
