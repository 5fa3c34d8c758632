package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/control"
	"hsmemu/emulator/view"
)

func newTraceCommand(a *app) *cobra.Command {
	var card string
	var asJSON, verbose, wait bool
	var only []string
	var capture string
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "follow the commands of a running card in words",
		Long: "Follows a running card. At a terminal reads are counted, PINs stand out and counters are drawn, in colour\n" +
			"unless $NO_COLOR is set or $TERM is dumb, under the program that sends the commands, as far as that is known;\n" +
			"otherwise, and with --verbose, there is a line for each event. It ends with the process that runs the card.\n\n" +
			"With --wait the process may begin later. `hsmemu exec --trace` shows a program's commands from the first on.",
		Args: commandline.Exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, one := range only {
				if !slices.Contains(view.Classes(), one) {
					return commandline.Usage(fmt.Errorf("--only %s: one of %s", one, strings.Join(view.Classes(), ", ")))
				}
			}
			write := view.Lines
			switch {
			case asJSON && verbose:
				return commandline.Usage(errors.New("--json and --verbose exclude each other"))
			case asJSON:
				write = view.Objects
			case !verbose && isTerminal(a.stdout()):
				write = a.drawn(false)
			}
			follow := a.follow
			if wait {
				follow = a.followLater
			}
			return follow(cmd.Context(), card, func(w io.Writer) (view.Writer, error) {
				shown := write(w)
				if capture != "" { // made when the card is known
					file, err := a.writeFile(capture)
					if err != nil {
						return nil, err
					}
					shown = view.Captured(file, shown)
				}
				return view.Chosen(only, shown), nil
			})
		},
	}
	cmd.Flags().StringVar(&card, "card", defaultCard, "name of the card")
	cmd.Flags().StringSliceVar(&only, "only", nil, "show only `CLASSES` of events: "+strings.Join(view.Classes(), ", "))
	cmd.Flags().StringVar(&capture, "pcap", "", "write a capture for Wireshark into this `FILE`, too")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait for a process that runs the card")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "print a line for each event at a terminal, too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, a line for each event")
	return cmd
}

// isTerminal reports whether a file, or what else is read or written, is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// follow writes every event until the card's process ends or the user interrupts.
// It shows headers and lengths; the data stay with the card, whether secret or not.
func (a *app) follow(ctx context.Context, card string, form func(io.Writer) (view.Writer, error)) error {
	return a.ask(ctx, "trace", card, func(c *control.Client) error {
		v, err := c.Show(ctx) // before the watch, which takes the connection
		if err != nil {
			return err
		}
		wrong := "" // on purpose
		if v.Broken != nil {
			wrong = ", broken " + v.Broken.Words()
		}
		return c.Trace(ctx, a.out, func(w io.Writer) (view.Writer, error) {
			fmt.Fprintf(a.err, "following card %q%s\n", card, wrong)
			return form(w)
		})
	})
}

// followLater is follow that waits for the process that runs the card, and for the
// card itself where exec or run would make it.
func (a *app) followLater(ctx context.Context, card string, form func(io.Writer) (view.Writer, error)) error {
	d, err := a.cards()
	if err != nil {
		return err
	}
	later := control.Later{Unmade: card == defaultCard, Waiting: func() { fmt.Fprintf(a.err, "waiting for card %q\n", card) }}
	return later.Do(ctx, d, card, func() error { return a.follow(ctx, card, form) })
}

// onStderr stands for standard error as the place of a trace.
const onStderr = "-"

// trace writes what happens to cards from here on, drawn where that is standard
// error and a terminal, else in lines, until end is called.
func (a *app) trace(cards []*control.Card, place string) (end func() error, err error) {
	out, lines, closeFile := a.err, view.Lines, func() error { return nil }
	switch {
	case place != onStderr:
		file, err := a.writeFile(place)
		if err != nil {
			return nil, err
		}
		out, closeFile = file, file.Close
	case isTerminal(a.err):
		lines = a.drawn(true)
	}
	write := control.Trace(out, lines, cards...)
	return func() error {
		if err := errors.Join(write(), closeFile()); err != nil {
			return fmt.Errorf("write the trace: %w", plain(err))
		}
		return nil
	}, nil
}

// drawn draws on a terminal: a dumb one obeys neither colours nor a return to the
// beginning of the line, and on one that a program has, too, that would be in its way.
func (a *app) drawn(shared bool) func(io.Writer) view.Writer {
	dumb := a.env("TERM") == "dumb"
	d := view.Drawing{Colour: a.env("NO_COLOR") == "" && !dumb, Whole: dumb || shared}
	return func(w io.Writer) view.Writer { return view.Drawn(w, d) }
}
