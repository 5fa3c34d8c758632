package commandline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// Subject is what most commands act on, which is named in one of two ways: by an
// argument where a command acts on it, by a flag where it is one thing among others.
type Subject struct {
	Flag     string          // without its dashes
	Argument string          // as a command's line of usage has it
	Usage    string          // of the flag
	Noun     string          // one word for it
	Names    func() []string // of those that are there
}

// argument is where in its arguments a command has the name, -1 for nowhere.
func (s Subject) argument(cmd *cobra.Command) int {
	if cmd.Flags().Lookup(s.Flag) != nil {
		return -1
	}
	return slices.Index(strings.Fields(cmd.Use)[1:], s.Argument)
}

// alsoByFlag lets the flag stand for the argument of a command and of those below it,
// for whoever has just typed it with another command. It is not shown.
func (s Subject) alsoByFlag(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		s.alsoByFlag(sub)
	}
	at := s.argument(cmd)
	if at < 0 || cmd.RunE == nil {
		return
	}
	name := cmd.Flags().String(s.Flag, "", s.Usage)
	cmd.Flags().Lookup(s.Flag).Hidden = true
	whole := func(args []string) []string {
		if !cmd.Flags().Changed(s.Flag) || len(args) < at {
			return args
		}
		return slices.Insert(slices.Clone(args), at, *name)
	}
	check, run := cmd.Args, cmd.RunE
	cmd.Args = func(cmd *cobra.Command, args []string) error { return check(cmd, whole(args)) }
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return run(cmd, whole(args)) }
}

// ByFlag adds to an error about arguments that a flag names the subject, where it does
// and one of the arguments is the name of one.
func (s Subject) ByFlag(cmd *cobra.Command, args []string, err error) error {
	flag := cmd.Flags().Lookup(s.Flag)
	i := slices.IndexFunc(args, func(arg string) bool { return slices.Contains(s.Names(), arg) })
	if err == nil || i < 0 || flag == nil || flag.Hidden {
		return err
	}
	return Hint(err, fmt.Sprintf("--%s %s names the %s", s.Flag, args[i], s.Noun))
}

// hintFlag makes a command and those below it say so.
func (s Subject) hintFlag(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		s.hintFlag(sub)
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error { return s.ByFlag(cmd, args, check(cmd, args)) }
	}
}
