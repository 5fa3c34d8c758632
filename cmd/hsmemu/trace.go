package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

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
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			form := eachLine
			for _, one := range only {
				if !slices.Contains(view.Classes(), one) {
					return usageError{fmt.Errorf("--only %s: one of %s", one, strings.Join(view.Classes(), ", "))}
				}
			}
			switch {
			case asJSON && verbose:
				return usageError{errors.New("--json and --verbose exclude each other")}
			case asJSON:
				form = eachJSON
			case !verbose && a.atTerminal():
				form = drawn(a.drawing())
			}
			if capture != "" {
				form = a.captured(capture, form)
			}
			follow := a.follow
			if wait {
				follow = a.followLater
			}
			return follow(cmd.Context(), card, chosen(only, form))
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

// form is how events are written; card names that of an event where there are
// several.
// end is called in any case.
type form func(w io.Writer) (next func(card string, e view.Event) error, end func() error, err error)

func eachJSON(w io.Writer) (next func(string, view.Event) error, end func() error, err error) {
	lines := json.NewEncoder(w)
	return func(_ string, e view.Event) error { return lines.Encode(e) }, nothingLeft, nil
}

func eachLine(w io.Writer) (next func(string, view.Event) error, end func() error, err error) {
	return func(card string, e view.Event) error {
		if card != "" {
			card += "  "
		}
		_, err := fmt.Fprintln(w, card+e.Line())
		return err
	}, nothingLeft, nil
}

func nothingLeft() error { return nil }

func drawn(d view.Drawing) form {
	return func(w io.Writer) (next func(string, view.Event) error, end func() error, err error) {
		write := func(s string) error {
			_, err := io.WriteString(w, s)
			return err
		}
		return func(card string, e view.Event) error { return write(d.Of(card, e)) }, func() error { return write(d.Rest()) }, nil
	}
}

// chosen writes only the events of some classes; none is all.
func chosen(classes []string, f form) form {
	if len(classes) == 0 {
		return f
	}
	return func(w io.Writer) (func(string, view.Event) error, func() error, error) {
		next, end, err := f(w)
		only := view.Selection{Classes: classes}
		return func(card string, e view.Event) error {
			if !only.Takes(&e) {
				return nil
			}
			return next(card, e)
		}, end, err
	}
}

// captured writes a capture, too, from when the card is known, and closes it at the
// end.
func (a *app) captured(path string, f form) form {
	return func(w io.Writer) (func(string, view.Event) error, func() error, error) {
		next, end, err := f(w)
		if err != nil {
			return nil, nil, err
		}
		file, err := a.writeFile(path)
		if err != nil {
			return nil, nil, fmt.Errorf("write %s: %w", path, plain(err))
		}
		_, failed := file.Write(view.CaptureStart())
		return func(card string, e view.Event) error {
			if failed == nil {
				_, failed = file.Write(e.Packet())
			}
			return errors.Join(failed, next(card, e))
		}, func() error { return errors.Join(end(), file.Close()) }, nil
	}
}

// atTerminal reports whether what is printed goes to a terminal.
func (a *app) atTerminal() bool { return isTerminal(a.out) }

// isTerminal reports whether a file, or what else is read or written, is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// brokenWords says what a running card does wrong on purpose, if it does.
func brokenWords(ctx context.Context, c *control.Client) string {
	v, err := c.Show(ctx)
	if err != nil || v.Broken == nil {
		return ""
	}
	return ", broken " + v.Broken.Words()
}

// follow writes every event until the card's process ends or the user interrupts.
// It shows headers and lengths; the data stay with the card, whether secret or not.
func (a *app) follow(ctx context.Context, card string, f form) error {
	return a.ask(ctx, "trace", card, func(c *control.Client) error {
		wrong := brokenWords(ctx, c) // before the watch, which takes the connection
		events, err := c.Watch(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.err, "following card %q%s\n", card, wrong)
		out := &gathering{out: bufio.NewWriter(a.out)}
		next, end, err := f(out)
		if err != nil {
			return err
		}
		for e, failed := range events {
			if err = failed; err == nil {
				err = next("", e)
			}
			if err != nil {
				break
			}
		}
		return errors.Join(err, end(), out.flush())
	})
}

// gatherTime is how long a gathering waits for more.
const gatherTime = 5 * time.Millisecond

// gathering writes what comes within a moment at once: events come in batches, and
// one call of the system for each would take as much time as a command.
type gathering struct {
	mu    sync.Mutex
	out   *bufio.Writer
	armed bool // flush will be called
}

// Write takes a part. The error is that of an earlier one.
func (g *gathering) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.armed {
		g.armed = true
		time.AfterFunc(gatherTime, func() { _ = g.flush() }) // the next Write has its error
	}
	return g.out.Write(p)
}

func (g *gathering) flush() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.armed = false
	return g.out.Flush()
}

// followLater is follow that waits for the process that runs the card, and for the
// card itself where exec or run would make it.
func (a *app) followLater(ctx context.Context, card string, f form) error {
	d, err := a.cards()
	if err != nil {
		return err
	}
	later := control.Later{Unmade: card == defaultCard, Waiting: func() { fmt.Fprintf(a.err, "waiting for card %q\n", card) }}
	return later.Do(ctx, d, card, func() error { return a.follow(ctx, card, f) })
}

// onStderr stands for standard error as the place of a trace.
const onStderr = "-"

// trace writes what happens to cards from here on, drawn where that is standard
// error and a terminal, else in lines. end returns when everything is written that
// had happened by then. What could not be written is an error of end and does not
// disturb the cards.
func (a *app) trace(cards []*control.Card, place string) (end func() error, err error) {
	var out io.Writer = a.err
	form, closeFile := form(eachLine), nothingLeft
	switch {
	case place != onStderr:
		file, err := a.writeFile(place)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", place, plain(err))
		}
		out, closeFile = file, file.Close
	case isTerminal(a.err):
		whole := a.drawing()
		whole.Whole = true
		form = drawn(whole)
	}
	ctx, cancel := context.WithCancel(context.Background())
	batches := control.Follow(ctx, cards...)
	ended := make(chan error, 1)
	go func() { ended <- write(batches, len(cards) > 1, form, out) }()
	return func() error {
		cancel()
		if err := errors.Join(<-ended, closeFile()); err != nil {
			return fmt.Errorf("write the trace: %w", plain(err))
		}
		return nil
	}, nil
}

// write writes events in batches. It goes through all of them, whatever becomes of
// what it writes.
func write(batches iter.Seq[[]control.Told], named bool, f form, w io.Writer) error {
	out := bufio.NewWriter(w)
	next, end, failed := f(out)
	if failed != nil {
		next, end = func(string, view.Event) error { return nil }, nothingLeft
	}
	for batch := range batches {
		for _, e := range batch {
			if !named {
				e.Card = ""
			}
			failed = cmp.Or(failed, next(e.Card, e.Event))
		}
		failed = cmp.Or(failed, out.Flush())
	}
	return cmp.Or(failed, end(), out.Flush())
}

// drawing is how a terminal is drawn on: a dumb one obeys neither colours nor a return
// to the beginning of the line.
func (a *app) drawing() view.Drawing {
	dumb := a.env("TERM") == "dumb"
	return view.Drawing{Colour: a.env("NO_COLOR") == "" && !dumb, Whole: dumb}
}
