package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"hsmemu/emulator/control"
	"hsmemu/emulator/view"
)

func newTraceCommand(a *app) *cobra.Command {
	var card string
	var asJSON, verbose bool
	var only []string
	var capture string
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "follow the commands of a running card in words",
		Long: "Follows a running card. At a terminal reads are counted, PINs stand out and counters are drawn, in colour\n" +
			"unless $NO_COLOR is set; otherwise, and with --verbose, there is a line for each event.",
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
				form = drawn(a.env("NO_COLOR") == "")
			}
			if capture != "" {
				f, err := os.OpenFile(capture, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
				if err != nil {
					return fmt.Errorf("write %s: %w", capture, plain(err))
				}
				form = captured(f, form)
			}
			return a.follow(cmd.Context(), card, chosen(only, form))
		},
	}
	cmd.Flags().StringVar(&card, "card", defaultCard, "name of the card")
	cmd.Flags().StringSliceVar(&only, "only", nil, "show only `CLASSES` of events: "+strings.Join(view.Classes(), ", "))
	cmd.Flags().StringVar(&capture, "pcap", "", "write a capture for Wireshark into this `FILE`, too")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "print a line for each event at a terminal, too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, a line for each event")
	return cmd
}

// form is how events are written.
type form func(w io.Writer) (next func(view.Event) error, end func() error)

func eachJSON(w io.Writer) (next func(view.Event) error, end func() error) {
	return func(e view.Event) error { return json.NewEncoder(w).Encode(e) }, nothingLeft
}

func eachLine(w io.Writer) (next func(view.Event) error, end func() error) {
	return func(e view.Event) error {
		_, err := fmt.Fprintln(w, e.Line())
		return err
	}, nothingLeft
}

func nothingLeft() error { return nil }

func drawn(colour bool) form {
	return func(w io.Writer) (next func(view.Event) error, end func() error) {
		d := &view.Drawing{Colour: colour}
		write := func(s string) error {
			_, err := io.WriteString(w, s)
			return err
		}
		return func(e view.Event) error { return write(d.Next(e)) }, func() error { return write(d.Rest()) }
	}
}

// chosen writes only the events of some classes; none is all.
func chosen(classes []string, f form) form {
	if len(classes) == 0 {
		return f
	}
	return func(w io.Writer) (func(view.Event) error, func() error) {
		next, end := f(w)
		return func(e view.Event) error {
			if !slices.Contains(classes, e.Class()) {
				return nil
			}
			return next(e)
		}, end
	}
}

// captured writes a capture, too, and closes it at the end.
func captured(file io.WriteCloser, f form) form {
	return func(w io.Writer) (func(view.Event) error, func() error) {
		next, end := f(w)
		_, failed := file.Write(view.CaptureStart())
		return func(e view.Event) error {
			if failed == nil {
				_, failed = file.Write(e.Packet())
			}
			return errors.Join(failed, next(e))
		}, func() error { return errors.Join(end(), file.Close()) }
	}
}

// atTerminal reports whether what is printed goes to a terminal.
func (a *app) atTerminal() bool {
	out, ok := a.out.(*os.File)
	return ok && term.IsTerminal(int(out.Fd()))
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
		next, end := f(a.out)
		for e, err := range events {
			if err == nil {
				err = next(e)
			}
			if err != nil {
				return err
			}
		}
		return end()
	})
}
