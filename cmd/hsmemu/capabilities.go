package main

import (
	"runtime"
	"slices"

	"github.com/spf13/cobra"

	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/capability"
)

func newCapabilitiesCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "capabilities",
		Short: "print what this build can do",
		Long: "Prints as JSON what this build can do on this system, for test suites that want to know before they rely on it:\n" +
			"firmware versions with their curves, key lengths and algorithms, faults, defects, seals, report formats, and\n" +
			"commands. docs/json.md describes it.",
		Args: commandline.Exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.printJSON(capability.Of(thisProgram(), runtime.GOOS, commandNames(cmd.Root())))
		},
	}
	cmd.Flags().Bool("json", true, "print JSON, as without it")
	return cmd
}

// both are the commands that hold others and do something by themselves.
var both = []string{"conform", "lesson"}

// commandNames are the names of the commands that do something, in their order.
func commandNames(cmd *cobra.Command) (names []string) {
	for _, c := range cmd.Commands() {
		if c.RunE != nil && c.Name() != "help" && !c.HasSubCommands() || slices.Contains(both, commandline.Name(c)) {
			names = append(names, commandline.Name(c))
		}
		names = append(names, commandNames(c)...)
	}
	return names
}
