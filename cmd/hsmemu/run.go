package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/control"
	"hsmemu/emulator/start"
	"hsmemu/vsmartcard"
)

func newRunCommand(a *app) *cobra.Command {
	var cards []string
	var dial, listen, server, init string
	var at socketFlags
	var page consoleFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "keep cards running in the foreground",
		Long: "Keeps cards in readers until it is interrupted: of a private PC/SC daemon on a socket, or, with vpcd, of\n" +
			"the system's daemon. There the first card is in the reader at the given address, the next one at the next port.\n" +
			"A vpcd that connects to cards ends its daemon, in the version of Debian, when one of them goes away or is ejected.\n" +
			"With --ram the cards are in no reader: a portal commands them, as often as it wants. When a connection ends\n" +
			"the next one is made after a second, and later after up to a minute.\n\n" +
			"With --init a card that is not there yet is made as the file card.json in the folder says, the scenarios\n" +
			"*.txt in it are played in the order of their names, and only then it is in its reader; docs/start.md has\n" +
			"the form of both. A folder in it with the name of a card is for that card alone. A card that is there is left\n" +
			"as it is.\n\n" +
			"With --console the cards are on a page for a browser, as docs/console.md shows. Two addresses are printed: one for\n" +
			"whoever may do everything, and one for a class, to look and not touch. With --console-results a third one is printed\n" +
			"that students give to `hsmemu lesson NAME --report`, and the page has a table of how they are doing.",
		Args: commandline.Exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			switch twice := repeated(cards); {
			case twice != "":
				return commandline.Usage(fmt.Errorf("card %q is named twice", twice))
			case dial != "" && listen != "", at.path != "" && dial+listen != "":
				return commandline.Usage(errors.New("--socket, --vpcd and --vpcd-listen exclude each other"))
			case server != "" && at.path+dial+listen != "":
				return commandline.Usage(errors.New("--ram excludes --socket, --vpcd and --vpcd-listen"))
			}
			shown, err := a.openConsole(cmd.Context(), page, a.out)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, shown.Close()) }()
			switch {
			case server != "":
				return a.serveRAM(cmd.Context(), cards, server, init, shown)
			case dial+listen != "":
				return a.serveVPCD(cmd.Context(), cards, dial, listen, init, shown)
			}
			return a.serveSocket(cmd.Context(), at, cards, init, shown)
		},
	}
	cmd.Flags().StringArrayVar(&cards, "card", []string{defaultCard}, "name of a card; may be repeated")
	initFlag(cmd, &init)
	at.flags(cmd)
	page.flags(cmd)
	cmd.Flags().BoolVar(&page.results, "console-results", false, "take results of students' lessons, for a table on the page; the URL for them is printed")
	cmd.Flags().StringVar(&dial, "vpcd", "", "connect to vpcd at `HOST:PORT`, usually localhost:35963")
	cmd.Flags().StringVar(&listen, "vpcd-listen", "", "wait for vpcd at `HOST:PORT`")
	cmd.Flags().StringVar(&server, "ram", "", "connect to the RAM over HTTP server at `URL`, again and again, instead of a reader")
	return cmd
}

func initFlag(cmd *cobra.Command, folder *string) {
	cmd.Flags().StringVar(folder, "init", "", "make cards that are not there yet in the start state of the folder `DIR`")
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
func (a *app) serveVPCD(ctx context.Context, names []string, dial, listen, init string, shown *live) error {
	at, err := control.Slots(dial+listen, len(names))
	if err != nil {
		return commandline.Usage(err)
	}
	connect := control.Connect(vsmartcard.Dial)
	if listen != "" {
		connect = vsmartcard.Listen
	}
	return a.serveEach(ctx, names, init, shown, control.Keeping{
		Start: func(ctx context.Context, i int, place control.Placement) (control.Running, error) {
			return control.StartBridged(ctx, connect, at[i], place)
		},
		// A reader with another card in it takes the connection, and nothing comes of it.
		Patience: cmp.Or(a.patience, 10*time.Second),
		Late: func(c *control.Card) {
			why := "it has not asked for the card, and may have another one in it"
			if listen != "" {
				why = "none has connected"
			}
			fmt.Fprintf(a.err, "hsmemu: card %q waits for its reader, %s: %s\n", c.Name, c.Reader.Place(), why)
		},
	})
}

// serveEach keeps cards running until the context ends, as k starts them and says what is late.
func (a *app) serveEach(ctx context.Context, names []string, init string, shown *live, k control.Keeping) error {
	wanted, err := start.Want(names, nil, init)
	if err != nil {
		return err
	}
	places, err := a.places(ctx, wanted, "", nil)
	if err != nil {
		return err
	}
	var cards []*control.Card
	var failed error
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k.Ready = func() {
		if failed = shown.files().show(ctx, cards); failed == nil {
			failed = a.ready()
		}
		if failed != nil {
			cancel()
		}
	}
	k.Started = func(c *control.Card) {
		cards = append(cards, c)
		a.announceCard(c, c.Reader.Place())
	}
	return errors.Join(k.Keep(ctx, places), failed)
}

// ready says that everything can be used, also to systemd where that has started
// us with Type=notify. It is an error if that, or what was printed before, could not be written:
// nobody would learn where what is served can be reached.
func (a *app) ready() error {
	fmt.Fprintln(a.out, "ready")
	if err := a.unwritten(); err != nil {
		return err
	}
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		fmt.Fprintf(a.err, "hsmemu: tell systemd: %v\n", err)
	}
	return nil
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
