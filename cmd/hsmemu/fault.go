package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator"
	"hsmemu/emulator/control"
	"hsmemu/emulator/view"
)

func newCardFaultCommand(a *app) *cobra.Command {
	var list, clearAll, asJSON bool
	cmd := &cobra.Command{
		Use:   "fault NAME FAULT [k=v]... | NAME --list [--json] | NAME --clear",
		Short: "let the reader or the contacts of a running card fail on demand",
		Long:  "Sets a fault on a card that a process runs. The faults are:\n\n" + faultTable(),
		Args:  commandline.OneOrMore,
		RunE: func(cmd *cobra.Command, args []string) error {
			if list && clearAll || (list || clearAll) && len(args) > 1 || !list && !clearAll && len(args) == 1 {
				return commandline.Usage(errors.New("name one fault, or say --list or --clear"))
			}
			if asJSON && !list {
				return commandline.Usage(errors.New("--json is for --list"))
			}
			ctx, name := cmd.Context(), args[0]
			switch {
			case list:
				return a.ask(ctx, "list the faults of", name, func(c *control.Client) error {
					faults, err := c.Faults(ctx)
					if err != nil {
						return err
					}
					if asJSON {
						views := []view.Fault{}
						for _, one := range faults {
							views = append(views, view.FaultOf(one))
						}
						return a.printJSON(views)
					}
					for _, one := range faults {
						if _, err := fmt.Fprintln(a.out, view.Printable(one)); err != nil {
							return err
						}
					}
					return nil
				})
			case clearAll:
				return a.ask(ctx, "clear the faults of", name, func(c *control.Client) error { return c.ClearFaults(ctx) })
			}
			return a.ask(ctx, "set a fault on", name, func(c *control.Client) error {
				return c.SetFault(ctx, control.FaultSetting{Name: args[1], Settings: args[2:]})
			})
		},
	}
	cmd.Flags().BoolVar(&list, "list", false, "list the faults that are set")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with --list")
	cmd.Flags().BoolVar(&clearAll, "clear", false, "remove all faults")
	return cmd
}

// faultList names the faults in one line.
func faultList() string {
	var names []string
	for _, k := range emulator.FaultKinds() {
		names = append(names, k.Name)
	}
	return strings.Join(names, ", ")
}

// faultTable lists the faults for the help text.
func faultTable() string {
	var b strings.Builder
	for _, k := range emulator.FaultKinds() {
		fmt.Fprintf(&b, "  %s\n      %s\n", k, k.Help)
	}
	return b.String()
}
