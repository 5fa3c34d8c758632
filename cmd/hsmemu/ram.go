package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"hsmemu/applet/client"
	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/control"
	"hsmemu/emulator/ram"
	"hsmemu/emulator/view"
	"hsmemu/vsmartcard"
	"hsmemu/vsmartcard/pcscd"
)

func newRAMCommand(a *app) *cobra.Command {
	var card, reader, pinFile string
	cmd := &cobra.Command{
		Use:   "ram [--card NAME | --reader NAME] URL",
		Short: "let a server command a card, by RAM over HTTP",
		Long: "Connects a card to a portal or another server of RAM over HTTP, as ram-client does, and does what the server\n" +
			"asks for until it says that this was all. What the server has to say is printed, with its number before it.\n" +
			"The card is one of this program, with a power-on of its own, or the one in a PC/SC reader, a real device too.\n" +
			"With --pin-file or $HSMEMU_PIN the user PIN is presented first; the server never sees it.\n" +
			"A server can send any command: connect cards only to one that you trust.",
		Args: commandline.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("card") && reader != "" {
				card = "" // that of the environment, or the default
			}
			if card != "" && reader != "" {
				return commandline.Usage(errors.New("name a card or a reader: one of them"))
			}
			host, err := ram.Host(args[0])
			if err != nil {
				return commandline.Usage(err)
			}
			return a.connectRAM(cmd.Context(), card, reader, pinFile, args[0], host)
		},
	}
	cmd.Flags().StringVar(&card, "card", defaultCard, "name of the card")
	cmd.Flags().StringVar(&reader, "reader", "", "connect the card in the PC/SC reader whose `NAME` contains this")
	cmd.Flags().StringVar(&pinFile, "pin-file", "", "file with the user PIN (default $HSMEMU_PIN, else none is presented)")
	return cmd
}

// powered is a card with power, for as long as a command has it.
type powered struct {
	vsmartcard.Card
	what string // for people
	off  func() error
}

// connectRAM runs one connection of a card, or of the card in a reader.
func (a *app) connectRAM(ctx context.Context, card, reader, pinFile, at, host string) (err error) {
	p, err := a.power(ctx, card, reader)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.off()) }()
	if pinFile != "" || a.env("HSMEMU_PIN") != "" {
		if err := a.presentPIN(ctx, p, pinFile); err != nil {
			return fmt.Errorf("%s: %w", p.what, err)
		}
	}
	agent := &ram.Agent{Card: p, Notice: func(n ram.Notice) { tell(a.out, "", n) }}
	err = agent.Run(ctx, at)
	if ctx.Err() != nil {
		return errInterrupted
	}
	if err != nil {
		return fmt.Errorf("connect %s to %s: %w", p.what, host, err)
	}
	return nil
}

// power is a card that has just been powered on, or the one in a reader of PC/SC.
func (a *app) power(ctx context.Context, card, reader string) (powered, error) {
	if reader == "" {
		h, err := a.hold(card, makeDefault)
		if err != nil {
			return powered{}, err
		}
		a.forget()
		return powered{h.Card, fmt.Sprintf("card %q", card), h.Close}, nil
	}
	c, err := pcscd.ConnectTo(ctx, "", reader)
	if err != nil {
		return powered{}, err
	}
	return powered{c, fmt.Sprintf("reader %q", c.Reader), func() error { return c.Close(ctx, pcscd.Unpower) }}, nil
}

// presentPIN presents the user PIN. A card that is no SmartCard-HSM gets none: that is
// printed, and is no error.
func (a *app) presentPIN(ctx context.Context, p powered, file string) error {
	pin, err := a.pin("user PIN", file, "HSMEMU_PIN")
	if err != nil {
		return err
	}
	defer clear(pin)
	err = client.New(p).Unlock(ctx, pin)
	if errors.Is(err, client.ErrNoApplication) {
		fmt.Fprintf(a.err, "hsmemu: %s: %v, no PIN presented\n", p.what, client.ErrNoApplication)
		return nil
	}
	return err
}

// tell prints what a server has to say, as ram-client does; every line begins with
// its number.
func tell(out io.Writer, prefix string, n ram.Notice) {
	for line := range strings.Lines(n.Text + "\n") {
		fmt.Fprintf(out, "%s(%d) %s\n", prefix, n.Number, view.Printable(strings.TrimRight(line, "\r\n")))
	}
}

// serveRAM keeps cards connected to a server until the context ends.
func (a *app) serveRAM(ctx context.Context, names []string, at, init string, shown *live) error {
	host, err := ram.Host(at)
	if err != nil {
		return commandline.Usage(err)
	}
	var printing sync.Mutex
	return a.serveEach(ctx, names, init, shown, control.Keeping{Start: func(ctx context.Context, _ int, place control.Placement) (control.Running, error) {
		connect := func(ctx context.Context, card vsmartcard.Card, connected func()) error {
			agent := &ram.Agent{Card: card, Connected: connected, Notice: func(n ram.Notice) {
				printing.Lock()
				defer printing.Unlock()
				tell(a.out, "card "+place.Name+": ", n)
			}}
			if err := agent.Run(ctx, at); err != nil {
				return fmt.Errorf("connect to %s: %w", host, err)
			}
			return nil
		}
		ended := func(err error) {
			if err != nil {
				printing.Lock()
				defer printing.Unlock()
				fmt.Fprintf(a.err, "hsmemu: card %q: %s\n", place.Name, oneLine(err.Error()))
			}
		}
		return control.StartRemote(ctx, connect, view.Printable(host), ended, place)
	}})
}
