package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"hsmemu/emulator/statedir"
)

func initFlag(cmd *cobra.Command, folder *string) {
	cmd.Flags().StringVar(folder, "init", "", "make cards that are not there yet in the start state of the folder `DIR`")
}

// begin opens the card of a reader for running it. One that is not there yet is made
// in its start state where it has one. Errors: errInterrupted when the context ends
// before it is made.
func (a *app) begin(ctx context.Context, f filling) (*statedir.Card, error) {
	if f.start == nil {
		return a.hold(f.card, makeDefault)
	}
	d, sealers, err := a.making(sealing{})
	if err != nil {
		return nil, err
	}
	err = f.start.Make(ctx, d, f.card, sealers, a.outside)
	made := err == nil
	if errors.Is(err, statedir.ErrCardExists) {
		fmt.Fprintf(a.err, "hsmemu: card %q is there, and left as it is: --init is for new ones\n", f.card)
		err = nil
	}
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("make card %q: %w", f.card, errInterrupted)
	}
	if err != nil {
		return nil, err
	}
	card, err := a.hold(f.card, refuseAbsent)
	if err == nil && made {
		card.Start = f.start.Files
		fmt.Fprintf(a.err, "hsmemu: made card %q with %s\n", f.card, strings.Join(f.start.Files, ", "))
	}
	return card, err
}
