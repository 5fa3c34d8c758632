package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"hsmemu/emulator/control"
)

func newTraceCommand(a *app) *cobra.Command {
	var card string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "follow the commands of a running card in words",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.follow(cmd.Context(), card, asJSON)
		},
	}
	cmd.Flags().StringVar(&card, "card", defaultCard, "name of the card")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, a line for each event")
	return cmd
}

// follow prints a line for every event until the card's process ends or the
// user interrupts. It shows headers and lengths; the data stay with the card,
// whether secret or not.
func (a *app) follow(ctx context.Context, card string, asJSON bool) error {
	return a.ask(ctx, "trace", card, func(c *control.Client) error {
		events, err := c.Watch(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.err, "following card %q\n", card)
		for e, err := range events {
			switch {
			case err != nil:
				return err
			case asJSON:
				err = json.NewEncoder(a.out).Encode(e)
			default:
				_, err = fmt.Fprintln(a.out, e.Line())
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}
