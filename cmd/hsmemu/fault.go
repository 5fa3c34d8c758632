package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"hsmemu/emulator"
)

func newCardFaultCommand(a *app) *cobra.Command {
	var list, clearAll bool
	cmd := &cobra.Command{
		Use:   "fault NAME FAULT [k=v]... | NAME --list | NAME --clear",
		Short: "let the reader or the contacts of a running card fail on demand",
		Long:  "Sets a fault on a card that a process runs. The faults are:\n\n" + faultTable(),
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := request{Do: doFault, Words: args[1:]}
			switch {
			case list && clearAll, (list || clearAll) && len(args) > 1, !list && !clearAll && len(args) == 1:
				return usageError{errors.New("name one fault, or say --list or --clear")}
			case list:
				q.Do = doFaults
			case clearAll:
				q.Do = doClear
			}
			r, err := a.ask(cmd.Context(), args[0], q)
			if errors.Is(err, errNobody) {
				if _, _, err := a.read(args[0]); err != nil {
					return err
				}
				return hinted{fmt.Errorf("set a fault on card %q: %w", args[0], errNobody), "start it with `hsmemu run` or `hsmemu exec`"}
			}
			if err != nil {
				return fmt.Errorf("set a fault on card %q: %w", args[0], err)
			}
			for _, line := range r.Lines {
				fmt.Fprintln(a.out, line)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&list, "list", false, "list the faults that are set")
	cmd.Flags().BoolVar(&clearAll, "clear", false, "remove all faults")
	return cmd
}

// faultTable lists the faults for the help text.
func faultTable() string {
	var b strings.Builder
	for _, line := range emulator.FaultHelp() {
		fmt.Fprintf(&b, "  %s\n      %s\n", line[0], line[1])
	}
	return b.String()
}

// fault carries out the requests about faults.
func (s *control) fault(q request) reply {
	switch q.Do {
	case doFaults:
		return reply{Lines: s.held.faults.List()}
	case doClear:
		s.held.faults.Clear()
		return reply{}
	}
	if len(q.Words) == 0 {
		return reply{Error: "no fault named"}
	}
	if err := s.held.faults.Set(q.Words[0], q.Words[1:]); err != nil {
		return reply{Error: err.Error()}
	}
	return reply{}
}
