package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// A card is named in one way. Where a command acts on a card, which is what the
// commands below `card` are for, its name is the argument NAME. Where a card is
// one thing among others that a command takes, it is --card. What belongs to
// neither is none of a card: `card list` for one.

// cardArgument is where in its arguments a command has the name of its card, -1
// for nowhere.
func cardArgument(cmd *cobra.Command) int {
	if cmd.Flags().Lookup("card") != nil {
		return -1
	}
	return slices.Index(strings.Fields(cmd.Use)[1:], "NAME")
}

// alsoByFlag lets --card stand for the argument of a command and of those below it,
// for whoever has just typed it with another command. It is not shown.
func alsoByFlag(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		alsoByFlag(sub)
	}
	at := cardArgument(cmd)
	if at < 0 || cmd.RunE == nil {
		return
	}
	name := cmd.Flags().String("card", "", "name of the card")
	cmd.Flags().Lookup("card").Hidden = true
	whole := func(args []string) []string {
		if !cmd.Flags().Changed("card") || len(args) < at {
			return args
		}
		return slices.Insert(slices.Clone(args), at, *name)
	}
	check, run := cmd.Args, cmd.RunE
	cmd.Args = func(cmd *cobra.Command, args []string) error { return check(cmd, whole(args)) }
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return run(cmd, whole(args)) }
}

// byFlag adds to an error about arguments that the card is named by a flag, where
// it is and one of them is a card's name.
func byFlag(a *app, cmd *cobra.Command, args []string, err error) error {
	flag := cmd.Flags().Lookup("card")
	i := slices.IndexFunc(args, func(arg string) bool { return slices.Contains(cardNames(a, nil), arg) })
	if err == nil || i < 0 || flag == nil || flag.Hidden {
		return err
	}
	return hinted{err, fmt.Sprintf("--card %s names the card", args[i])}
}

// hintFlag makes a command and those below it say so.
func hintFlag(a *app, cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		hintFlag(a, sub)
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error { return byFlag(a, cmd, args, check(cmd, args)) }
	}
}
