package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"hsmemu/emulator/control"
	"hsmemu/vsmartcard"
)

func newRunCommand(a *app) *cobra.Command {
	var cards []string
	var dial, listen, server string
	var at socketFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "keep cards running in the foreground",
		Long: "Keeps cards in readers until it is interrupted: of a private PC/SC daemon on a socket, or, with vpcd, of\n" +
			"the system's daemon. There the first card is in the reader at the given address, the next one at the next port.\n" +
			"A vpcd that connects to cards ends its daemon, in the version of Debian, when one of them goes away or is ejected.\n" +
			"With --ram the cards are in no reader: a portal commands them, as often as it wants. When a connection ends\n" +
			"the next one is made after a second, and later after up to a minute.",
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch twice := repeated(cards); {
			case twice != "":
				return usageError{fmt.Errorf("card %q is named twice", twice)}
			case dial != "" && listen != "", at.path != "" && dial+listen != "":
				return usageError{errors.New("--socket, --vpcd and --vpcd-listen exclude each other")}
			case server != "" && at.path+dial+listen != "":
				return usageError{errors.New("--ram excludes --socket, --vpcd and --vpcd-listen")}
			case server != "":
				return a.serveRAM(cmd.Context(), cards, server)
			case dial+listen != "":
				return a.serveVPCD(cmd.Context(), cards, dial, listen)
			}
			return a.serveSocket(cmd.Context(), at, cards)
		},
	}
	cmd.Flags().StringArrayVar(&cards, "card", []string{defaultCard}, "name of a card; may be repeated")
	at.flags(cmd)
	cmd.Flags().StringVar(&dial, "vpcd", "", "connect to vpcd at `HOST:PORT`, usually localhost:35963")
	cmd.Flags().StringVar(&listen, "vpcd-listen", "", "wait for vpcd at `HOST:PORT`")
	cmd.Flags().StringVar(&server, "ram", "", "connect to the RAM over HTTP server at `URL`, again and again, instead of a reader")
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

// serveVPCD runs cards in the readers of a vpcd until the context ends.
func (a *app) serveVPCD(ctx context.Context, names []string, dial, listen string) error {
	places, err := addresses(dial+listen, len(names))
	if err != nil {
		return usageError{err}
	}
	connect := control.Connect(vsmartcard.Dial)
	if listen != "" {
		connect = vsmartcard.Listen
	}
	return a.serveEach(ctx, names, func(ctx context.Context, i int, place control.Placement) (kept, error) {
		b, err := control.StartBridged(ctx, connect, places[i], place)
		if err != nil {
			return kept{}, err
		}
		return kept{b, b.Card}, nil
	})
}

// kept is a card that is kept running.
type kept struct {
	keeper
	card *control.Card
}

// keeper keeps a card running.
type keeper interface {
	// Run does so until the context ends.
	Run(context.Context) error
	// Ready waits until the card can be used.
	Ready(context.Context) error
	// Close takes it out for good.
	Close() error
}

// serveEach keeps cards running until the context ends, each as start does it.
func (a *app) serveEach(ctx context.Context, names []string, start func(ctx context.Context, i int, place control.Placement) (kept, error)) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	var running []kept
	var closers []func() error
	defer func() {
		cancel()
		for _, end := range closers {
			err = errors.Join(err, end())
		}
	}()
	for i, name := range names {
		h, err := a.hold(name, makeDefault)
		if err != nil {
			return err
		}
		closers = append(closers, h.Close)
		place, err := a.placement(h, "")
		if err != nil {
			return err
		}
		k, err := start(ctx, i, place)
		if err != nil {
			return err
		}
		closers = slices.Insert(closers, len(closers)-1, k.Close)
		running = append(running, k)
	}
	a.forget()
	return a.keep(ctx, cancel, running)
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

// keep runs the cards until the end. It says what it runs, and that it is
// ready once clients can see all of it.
func (a *app) keep(ctx context.Context, cancel context.CancelFunc, cards []kept) error {
	for _, c := range cards {
		a.announceCard(c.card, c.card.Reader.Place())
	}
	var running sync.WaitGroup
	failed := make([]error, len(cards))
	for i, c := range cards {
		running.Go(func() {
			if err := c.Run(ctx); err != nil && ctx.Err() == nil {
				failed[i] = fmt.Errorf("run card %q: %w", c.card.Name, err)
				cancel()
			}
		})
	}
	if allReady(ctx, cards) {
		a.ready()
	}
	running.Wait()
	return errors.Join(failed...)
}

// ready says that everything can be used, also to systemd where that has started
// us with Type=notify.
func (a *app) ready() {
	fmt.Fprintln(a.out, "ready")
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		fmt.Fprintf(a.err, "hsmemu: tell systemd: %v\n", err)
	}
}

// allReady waits until every card can be used; false if the end comes
// first, which has its own reason.
func allReady(ctx context.Context, cards []kept) bool {
	for _, c := range cards {
		if c.Ready(ctx) != nil {
			return false
		}
	}
	return true
}

// announceCard says what is served, and how well the card is kept.
func (a *app) announceCard(c *control.Card, place string) {
	d := c.Card.Snapshot().Durable()
	broken := ""
	if d.Broken != "" {
		broken = ", broken on purpose: " + d.Broken
	}
	fmt.Fprintf(a.out, "card %s, serial %s, firmware %s: %s, seal %s%s\n",
		c.Name, d.Applet.Serial(), d.Applet.Firmware, place, c.Seal(), broken)
}
