package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	"hsmemu/vsmartcard"
)

func newRunCommand(a *app) *cobra.Command {
	var cards []string
	var socket, dial, listen string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "keep cards running in the foreground",
		Long: "Keeps cards in readers until it is interrupted: of a private PC/SC daemon on a socket, or, with vpcd, of\n" +
			"the system's daemon. There the first card is in the reader at the given address, the next one at the next port.\n" +
			"A vpcd that connects to cards ends its daemon, in the version of Debian, when one of them goes away or is ejected.",
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch twice := repeated(cards); {
			case twice != "":
				return usageError{fmt.Errorf("card %q is named twice", twice)}
			case dial != "" && listen != "", socket != "" && dial+listen != "":
				return usageError{errors.New("--socket, --vpcd and --vpcd-listen exclude each other")}
			case dial+listen != "":
				return a.serveVPCD(cmd.Context(), cards, dial, listen)
			}
			return a.serveSocket(cmd.Context(), socket, cards)
		},
	}
	cmd.Flags().StringArrayVar(&cards, "card", []string{defaultCard}, "name of a card; may be repeated")
	cmd.Flags().StringVar(&socket, "socket", "", "serve a private PC/SC daemon at `PATH` (default: in $XDG_RUNTIME_DIR/hsmemu or the state folder)")
	cmd.Flags().StringVar(&dial, "vpcd", "", "connect to vpcd at `HOST:PORT`, usually localhost:35963")
	cmd.Flags().StringVar(&listen, "vpcd-listen", "", "wait for vpcd at `HOST:PORT`")
	return cmd
}

// repeated is a name that occurs more than once, empty if there is none.
func repeated(names []string) string {
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return name
		}
	}
	return ""
}

// slot is one card in one virtual reader.
type slot struct {
	*held
	bridge *vsmartcard.Bridge
	place  string
}

// Close gives the card and its place back.
func (s *slot) Close() error {
	if s.bridge == nil {
		return s.held.Close()
	}
	return errors.Join(s.bridge.Close(), s.held.Close())
}

// Eject takes the card out.
func (s *slot) Eject(ctx context.Context) error { return s.bridge.Eject(ctx) }

// Insert puts the card in.
func (s *slot) Insert(ctx context.Context) error { return s.bridge.Insert(ctx) }

// Reset resets the card; clients notice at their next command.
func (s *slot) Reset() error { return s.card.Reset() }

// Turn waits for nobody: whose turn it is, the system's daemon knows and does not
// tell.
func (s *slot) Turn(context.Context) (turn, error) { return nobodys{}, nil }

// nobodys is a turn that keeps nobody from the card.
type nobodys struct{}

func (nobodys) Tell() {}
func (nobodys) End()  {}

// Place says where the card is.
func (s *slot) Place() string { return s.place }

// serveVPCD runs cards in the readers of a vpcd until the context ends.
func (a *app) serveVPCD(ctx context.Context, names []string, dial, listen string) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	places, err := addresses(dial+listen, len(names))
	if err != nil {
		return usageError{err}
	}
	open := vsmartcard.Dial
	if listen != "" {
		open = vsmartcard.Listen
	}
	var slots []*slot
	var waits []func()
	defer func() {
		cancel()
		for _, wait := range waits {
			wait()
		}
		for _, s := range slots {
			err = errors.Join(err, s.Close())
		}
	}()
	for i, name := range names {
		h, err := a.hold(name, makeDefault)
		if err != nil {
			return err
		}
		s := &slot{held: h}
		slots = append(slots, s)
		if err := s.connect(ctx, places[i], open); err != nil {
			return fmt.Errorf("run card %q: %w", name, err)
		}
		wait, err := (&control{app: a, held: h, reader: s}).serve(ctx)
		if err != nil {
			return fmt.Errorf("run card %q: %w", name, err)
		}
		waits = append(waits, wait)
	}
	a.forget()
	return a.keep(ctx, cancel, slots)
}

// addresses are those of the first n slots of the reader.
func addresses(base string, n int) ([]string, error) {
	var list []string
	for i := range n {
		address, err := vsmartcard.Slot(base, i)
		if err != nil {
			return nil, err
		}
		list = append(list, address)
	}
	return list, nil
}

// connect makes the bridge of a card to a slot of the reader.
func (s *slot) connect(ctx context.Context, address string, open func(context.Context, string, vsmartcard.Card) (*vsmartcard.Bridge, error)) (err error) {
	s.place = "vpcd " + address
	s.bridge, err = open(ctx, address, s.faults)
	s.faults.Remove = func() { _ = s.bridge.Eject(ctx) } // a bridge that has ended holds no card
	if errors.Is(err, vsmartcard.ErrNoReader) {
		return hinted{err, "is pcscd running, with the vpcd driver configured for this port?"}
	}
	return err
}

// keep runs the bridges until the end. It says what it runs, and that it is
// ready once clients can see all of it.
func (a *app) keep(ctx context.Context, cancel context.CancelFunc, slots []*slot) error {
	for _, s := range slots {
		a.announceCard(s.held, s.place)
	}
	var running sync.WaitGroup
	failed := make([]error, len(slots))
	for i, s := range slots {
		running.Go(func() {
			if err := s.bridge.Run(ctx); err != nil && ctx.Err() == nil {
				failed[i] = fmt.Errorf("run card %q: %w", s.name, err)
				cancel()
			}
		})
	}
	if allReady(ctx, slots) {
		fmt.Fprintln(a.out, "ready")
	}
	running.Wait()
	return errors.Join(failed...)
}

// allReady waits until every card is in its reader; false if the end comes
// first, which has its own reason.
func allReady(ctx context.Context, slots []*slot) bool {
	for _, s := range slots {
		if s.bridge.Ready(ctx) != nil {
			return false
		}
	}
	return true
}

// announceCard says what is served, and how well the card is kept.
func (a *app) announceCard(h *held, place string) {
	d := h.card.Snapshot().Durable()
	fmt.Fprintf(a.out, "card %s, serial %s, firmware %s: %s, seal %s\n",
		h.name, d.Applet.Serial(), d.Applet.Firmware, place, h.file.Seal())
}
