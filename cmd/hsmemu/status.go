package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"hsmemu/emulator/control"
	"hsmemu/emulator/view"
	"hsmemu/vsmartcard/pcscd"
)

const (
	// statusPatience is how long a served card has for an answer, and waitPatience
	// how long --wait waits where it is not told.
	statusPatience = 5 * time.Second
	waitPatience   = 30 * time.Second
	// statusPause lies between two looks of --wait.
	statusPause = 50 * time.Millisecond
)

// errUnserved says that there is a daemon, and a reader without a card.
var errUnserved = errors.New("no card answers")

func newStatusCommand(a *app) *cobra.Command {
	var card, socket string
	var wait time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [--card NAME | --socket PATH] [--wait[=DURATION]]",
		Short: "tell whether a served card answers",
		Long: "Tells in one line whether a card that `hsmemu run` or `hsmemu exec` serves answers: exit code 0 if it does, 1 if it\n" +
			"does not. With --socket it asks as a program does, at the socket of a private daemon, and every reader there has\n" +
			"to have a card; that needs no state folder. --wait waits until then, for 30s or as long as it is told.",
		DisableFlagsInUseLine: true,
		Args:                  upTo(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			flags := cmd.Flags()
			if flags.Changed("card") && flags.Changed("socket") {
				return usageError{errors.New("--card and --socket exclude each other")}
			}
			if len(args) == 1 { // --wait 10s: the value of a flag that needs none stands alone
				d, err := time.ParseDuration(args[0])
				if err != nil || !flags.Changed("wait") {
					return usageError{fmt.Errorf("status takes no argument %q", args[0])}
				}
				wait = d
			}
			if flags.Changed("card") {
				socket = "" // of the environment
			}
			return a.status(cmd.Context(), card, socket, wait, asJSON)
		},
	}
	cmd.Flags().StringVar(&card, "card", defaultCard, "name of the card")
	cmd.Flags().StringVar(&socket, "socket", "", "ask at this socket of a private daemon, `PATH`")
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait until it answers, `DURATION` at most")
	cmd.Flags().Lookup("wait").NoOptDefVal = waitPatience.String()
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// upTo wants n arguments at most.
func upTo(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return usageError{fmt.Errorf("%s takes %s or less, not %d", nameOf(cmd), arguments(n), len(args))}
		}
		return nil
	}
}

// status says whether a card answers, once or until it does.
func (a *app) status(ctx context.Context, card, socket string, wait time.Duration, asJSON bool) error {
	look := func(ctx context.Context) (view.Status, error) { return a.cardStatus(ctx, card) }
	if socket != "" {
		look = func(ctx context.Context) (view.Status, error) { return socketStatus(ctx, socket) }
	}
	s, err := answering(ctx, wait, look)
	if ctx.Err() != nil {
		return errInterrupted
	}
	s.Schema, s.Answers = view.Schema, err == nil
	if asJSON {
		if err != nil {
			why, _ := explained(err)
			s.Why = &why
		}
		if failed := a.printJSON(s); failed != nil || err == nil {
			return failed
		}
		return exitError(exitFailed)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.out, s.Words())
	return err
}

// answering looks until there is no error, or the wait is over: then the last
// error is the answer.
func answering(ctx context.Context, wait time.Duration, look func(context.Context) (view.Status, error)) (view.Status, error) {
	over, stop := context.WithTimeout(ctx, wait)
	defer stop()
	pause := time.NewTicker(statusPause)
	defer pause.Stop()
	for {
		patience := statusPatience
		if wait > 0 {
			patience = min(patience, wait)
		}
		one, stop := context.WithTimeout(ctx, patience)
		s, err := look(one)
		stop()
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

// cardStatus asks the process that runs a card.
func (a *app) cardStatus(ctx context.Context, name string) (s view.Status, err error) {
	s.Cards = []view.Served{{Card: &name}}
	d, err := a.cards()
	if err != nil {
		return s, err
	}
	v, err := control.ShowRunning(ctx, d, name)
	if err != nil {
		return s, err
	}
	if v.Running != nil {
		s.Process, s.Place = &v.Running.Process, &v.Running.Place
		if v.Running.Ejected {
			return s, fmt.Errorf("card %q: %w", name, control.ErrEjected)
		}
	}
	s.Cards[0].Serial, s.Cards[0].Reader, s.Cards[0].Answers = v.Serial, v.Reader, true
	return s, nil
}

// socketStatus asks the daemon at a socket for its readers.
func socketStatus(ctx context.Context, socket string) (s view.Status, err error) {
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
		return s, fmt.Errorf("%s: %w: there is no reader", socket, errUnserved)
	}
	for _, r := range readers {
		there := len(r.ATR) > 0
		s.Cards = append(s.Cards, view.Served{Reader: &r.Name, Answers: there})
		if !there && err == nil {
			err = fmt.Errorf("%s: %w in reader %s", socket, errUnserved, r.Name)
		}
	}
	return s, err
}
