package commandline

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Completion is what shells complete with. What is in none of its tables is completed
// with the names of files.
type Completion struct {
	// Arguments are the commands whose arguments are no files, with what completes
	// them: the first argument, the second, and the last for all that follow.
	Arguments map[string][]Choices

	// Flags are the flags whose values are no files. One that means something else
	// in some command stands there as "COMMAND --FLAG", too, which is taken there.
	Flags map[string]Choices

	// Parts are the flags whose value has several words.
	Parts map[string]Parts

	// Other are flags that are completed in ways of their own, as "COMMAND --FLAG".
	Other map[string]cobra.CompletionFunc
}

// Choices are words that may follow arguments; nil are none. A tab parts a word from
// what is said about it.
type Choices func(args []string) []string

// Parts complete the last word of a value, after the words before it.
type Parts struct {
	Between string // what parts the words, one byte
	By      Choices
}

// register gives a command and those below it what shells complete with.
func (c Completion) register(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		c.register(sub)
	}
	if by, ours := c.Arguments[Name(cmd)]; ours {
		cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			return Begun(by[min(len(args), len(by)-1)], args, word)
		}
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if by := c.of(Name(cmd), f.Name); by != nil {
			_ = cmd.RegisterFlagCompletionFunc(f.Name, by) // fails for one that has it from the command above
		}
	})
}

// of completes the value of a flag; nil does so with files.
func (c Completion) of(command, flag string) cobra.CompletionFunc {
	if by, ours := c.Other[command+" --"+flag]; ours {
		return by
	}
	if p, ours := c.Parts[flag]; ours {
		return func(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
			return lastPart(p, word)
		}
	}
	by, ours := c.Flags[command+" --"+flag]
	if !ours {
		if by, ours = c.Flags[flag]; !ours {
			return nil
		}
	}
	return func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		return Begun(by, args, word)
	}
}

// lastPart completes the last part of a word.
func lastPart(p Parts, word string) (list []string, directive cobra.ShellCompDirective) {
	at := strings.LastIndex(word, p.Between) + 1
	before := strings.FieldsFunc(word[:at], func(r rune) bool { return string(r) == p.Between })
	list, directive = Begun(p.By, before, word[at:])
	for i, one := range list {
		list[i] = word[:at] + one
	}
	return list, directive
}

// Begun are the choices that begin with a word. One that ends in "=" waits for
// its value, without a blank.
func Begun(by Choices, args []string, word string) (list []string, directive cobra.ShellCompDirective) {
	directive = cobra.ShellCompDirectiveNoFileComp
	if by == nil {
		return nil, directive
	}
	for _, one := range by(args) {
		if !strings.HasPrefix(one, word) {
			continue
		}
		if strings.HasSuffix(one, "=") {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		list = append(list, one)
	}
	return list, directive
}
