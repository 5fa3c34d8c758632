package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"hsmemu/emulator/control"
)

func newTraceCommand(a *app) *cobra.Command {
	var card string
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "follow the commands of a running card in words",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.follow(cmd.Context(), card)
		},
	}
	cmd.Flags().StringVar(&card, "card", defaultCard, "name of the card")
	return cmd
}

// follow prints a line for every command until the card's process ends or the
// user interrupts.
func (a *app) follow(ctx context.Context, card string) error {
	return a.ask(ctx, "trace", card, func(c *control.Client) error {
		events, err := c.Watch(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.err, "following card %q\n", card)
		for e, err := range events {
			if err == nil {
				_, err = fmt.Fprintln(a.out, traceLine(e))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// traceLine is a command and its answer in words. It shows the header and the
// lengths of the command; the data stay with the card, whether secret or not.
func traceLine(e control.Event) string {
	missed := ""
	if e.Missed > 0 {
		missed = fmt.Sprintf("(%d commands left out) ", e.Missed)
	}
	return fmt.Sprintf("%s %s%6.1f ms  %s  %s", e.At.Format("15:04:05.000"), missed,
		float64(e.Took)/float64(time.Millisecond), e.Header, e)
}
