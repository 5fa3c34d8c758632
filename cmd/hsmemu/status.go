package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/control"
	"hsmemu/emulator/program"
	"hsmemu/emulator/view"
)

// waitPatience is how long --wait waits where it is not told.
const waitPatience = 30 * time.Second

func newStatusCommand(a *app) *cobra.Command {
	var card, socket string
	var wait time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [--card NAME | --socket PATH] [--wait[=DURATION]]",
		Short: "tell whether a served card answers",
		Long: "Tells in one line whether a card that `hsmemu run` or `hsmemu exec` serves answers: exit code 0 if it does, 1 if it\n" +
			"does not. With --socket it asks as a program does, at the socket of a private daemon, and every reader there has\n" +
			"to have a card; that needs no state folder. --wait waits until then, for 30s or as long as it is told.",
		DisableFlagsInUseLine: true,
		Args:                  commandline.AtMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			flags := cmd.Flags()
			if flags.Changed("card") && flags.Changed("socket") {
				return commandline.Usage(errors.New("--card and --socket exclude each other"))
			}
			if len(args) == 1 { // --wait 10s: the value of a flag that needs none stands alone
				d, err := time.ParseDuration(args[0])
				if err != nil && flags.Changed("wait") {
					return commandline.Usage(fmt.Errorf("--wait takes a time as in 2s, not %q", args[0]))
				}
				if err != nil || !flags.Changed("wait") {
					return commandline.Usage(fmt.Errorf("status takes no argument %q", args[0]))
				}
				wait = d
			}
			if flags.Changed("card") {
				socket = "" // of the environment
			}
			return a.status(cmd.Context(), card, socket, wait, asJSON)
		},
	}
	cmd.Flags().StringVar(&card, "card", defaultCard, "name of the card")
	cmd.Flags().StringVar(&socket, "socket", "", "ask at this socket of a private daemon, `PATH`")
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait until it answers, `DURATION` at most")
	cmd.Flags().Lookup("wait").NoOptDefVal = waitPatience.String()
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// status says whether a card answers, once or until it does.
func (a *app) status(ctx context.Context, card, socket string, wait time.Duration, asJSON bool) error {
	look := func(ctx context.Context) (view.Status, error) {
		d, err := a.cards()
		if err != nil {
			return view.Status{Cards: []view.Served{{Card: &card, Start: []string{}}}}, err
		}
		return control.Status(ctx, d, card)
	}
	if socket != "" {
		look = func(ctx context.Context) (view.Status, error) { return control.StatusAt(ctx, socket) }
	}
	s, err := control.Answering(ctx, wait, look)
	if ctx.Err() != nil {
		return errInterrupted
	}
	if asJSON {
		if err != nil {
			s.Why = new(inWords(err))
		}
		if failed := a.printJSON(s); failed != nil || err == nil {
			return failed
		}
		return program.Exit(exitFailed)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.out, s.Words())
	return err
}
