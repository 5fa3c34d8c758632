package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"hsmemu/emulator"
)

func newTraceCommand(a *app) *cobra.Command {
	var card string
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "follow the commands of a running card in words",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := a.follow(cmd.Context(), card)
			if errors.Is(err, errNobody) {
				if _, _, err := a.read(card); err != nil {
					return err
				}
				return hinted{fmt.Errorf("trace card %q: %w", card, err), "start it with `hsmemu run` or `hsmemu exec`"}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&card, "card", defaultCard, "name of the card")
	return cmd
}

// follow prints a line for every command until the card's process ends or the
// user interrupts.
func (a *app) follow(ctx context.Context, card string) error {
	conn, err := a.dial(ctx, card)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := json.NewEncoder(conn).Encode(request{Do: doTrace}); err != nil {
		return fmt.Errorf("trace card %q: %w", card, err)
	}
	for lines, attached := json.NewDecoder(conn), false; ; attached = true {
		var r reply
		err := lines.Decode(&r)
		if err == nil && r.Error == "" && !attached {
			fmt.Fprintf(a.err, "following card %q\n", card)
		}
		switch {
		case errors.Is(err, io.EOF) || ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("trace card %q: %w", card, err)
		case r.Error != "":
			return fmt.Errorf("trace card %q: %s", card, r.Error)
		case r.Trace != "":
			if _, err := fmt.Fprintln(a.out, r.Trace); err != nil {
				return err
			}
		}
	}
}

// traceLine is a command and its answer in words. It shows the header and the
// lengths of the command; the data stay with the card, whether secret or not.
func traceLine(e emulator.Event) string {
	missed := ""
	if e.Missed > 0 {
		missed = fmt.Sprintf("(%d commands left out) ", e.Missed)
	}
	return fmt.Sprintf("%s %s%6.1f ms  %X  %s", e.At.Format("15:04:05.000"), missed,
		float64(e.Took)/float64(time.Millisecond), e.Header, e.Event)
}
