package commandline

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Variables are the environment variables that stand for flags: every flag has one,
// but for some.
type Variables struct {
	Prefix string   // what their names begin with
	Not    []string // the flags that have none

	// Default is the flag whose variable is a default: it excludes nothing that the
	// flag would exclude.
	Default string

	// Rivals are flags that exclude each other in some command. One that was typed
	// goes before the variables of the others.
	Rivals [][]string

	// Needing are flags that some command refuses without another one. Their
	// variables say nothing where that is not given.
	Needing map[string]Need

	// Secrets are the variables that hold what no flag takes, because arguments can be
	// seen by everybody, with what they say.
	Secrets map[string]string
}

// Need is a flag without which another one means nothing.
type Need struct {
	In      string // the command; empty for all
	Flag    string
	Refused bool // whether a command line without it is refused
}

// Of is the variable of a flag.
func (v Variables) Of(flag string) string {
	return v.Prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func (v Variables) without(flag string) bool { return slices.Contains(v.Not, flag) }

// alone refuses a flag of Needing that was given without the other one.
func (v Variables) alone(cmd *cobra.Command) error {
	for _, flag := range slices.Sorted(maps.Keys(v.Needing)) {
		if n := v.Needing[flag]; n.Refused && n.In == Name(cmd) && cmd.Flags().Changed(flag) && !cmd.Flags().Changed(n.Flag) {
			return Usage(fmt.Errorf("--%s goes with --%s", flag, n.Flag))
		}
	}
	return nil
}

// fromEnvironment sets the flags that the command line leaves out from the
// environment. A variable that holds several values has one a line. That of
// the default flag does not exclude what the flag would.
func (l *Line) fromEnvironment(cmd *cobra.Command) (err error) {
	v := l.tables.Variables
	typed := map[string]bool{}
	cmd.Flags().Visit(func(f *pflag.Flag) { typed[f.Name] = true })
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		value := l.tables.Env(v.Of(f.Name))
		if value == "" || f.Changed || err != nil || v.without(f.Name) || l.unusable(cmd, f.Name, typed) {
			return
		}
		if f.NoOptDefVal != "" && (value == "1" || value == "true") { // as the flag alone
			value = f.NoOptDefVal
		}
		l.from = append(l.from, f.Name)
		values := []string{value}
		if f.Value.Type() == "stringArray" {
			values = strings.Split(value, "\n")
		}
		for _, one := range values {
			if failed := cmd.Flags().Set(f.Name, one); failed != nil {
				err = Usage(fmt.Errorf("$%s: %w", v.Of(f.Name), flagError(failed)))
				return
			}
		}
		f.Changed = f.Name != v.Default
	})
	return err
}

// unusable reports whether a command cannot use the variable of a flag beside what was
// typed.
func (l *Line) unusable(cmd *cobra.Command, flag string, typed map[string]bool) bool {
	for _, group := range l.tables.Variables.Rivals {
		if slices.Contains(group, flag) && slices.ContainsFunc(group, func(other string) bool { return typed[other] }) {
			return true
		}
	}
	v := l.tables.Variables
	n, some := v.Needing[flag]
	return some && (n.In == "" || n.In == Name(cmd)) && !typed[n.Flag] && (v.without(n.Flag) || l.tables.Env(v.Of(n.Flag)) == "")
}

// FromVariables says which of the flags that a message names come from variables; empty
// if none does.
func (l *Line) FromVariables(message string) string {
	var from []string
	for _, flag := range l.from {
		if slices.ContainsFunc(strings.Fields(message), func(word string) bool { return strings.TrimRight(word, ",:") == "--"+flag }) {
			from = append(from, "--"+flag+" comes from $"+l.tables.Variables.Of(flag))
		}
	}
	return strings.Join(from, ", ")
}

// Setting is an environment variable and what it is for.
type Setting struct {
	Name     string
	Flag     string // with its dashes; empty for a secret
	Commands string // that have it, with commas between them; empty for all
	Usage    string // what it says
}

// Settings are all variables, in their order.
func (l *Line) Settings() []Setting { return l.tables.Variables.settings(l.root) }

// settings are all variables of a command and of those below it, in their order.
func (v Variables) settings(cmd *cobra.Command) []Setting {
	type text struct{ name, usage string } // commands with one text share a line
	all := map[text]Setting{}
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		add := func(f *pflag.Flag) {
			if f.Hidden || v.without(f.Name) {
				return
			}
			_, usage := pflag.UnquoteUsage(f)
			one := text{v.Of(f.Name), usage}
			s, known := all[one]
			if !known {
				s = Setting{v.Of(f.Name), "--" + f.Name, "", usage}
			}
			if name := Name(c); c != c.Root() {
				s.Commands = strings.TrimPrefix(s.Commands+", "+name, ", ")
			}
			all[one] = s
		}
		if c == cmd {
			c.InheritedFlags().VisitAll(add)
		}
		c.LocalNonPersistentFlags().VisitAll(add)
		c.PersistentFlags().VisitAll(add)
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(cmd)
	if cmd == cmd.Root() {
		for name, usage := range v.Secrets {
			all[text{name, usage}] = Setting{Name: name, Usage: usage}
		}
	}
	var list []Setting
	for _, s := range all {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b Setting) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Commands, b.Commands), strings.Compare(a.Usage, b.Usage))
	})
	return list
}

// flagError says in plain words that a flag does not take a value.
func flagError(err error) error {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return err
	}
	wanted, known := map[string]string{"int": "a number", "uint16": "a number up to 65535", "uint64": "a number of 64 bits", "intSlice": "numbers", "bool": "true or false", "duration": "a time as in 2s"}[bad.GetFlag().Value.Type()]
	if !known {
		return err
	}
	return fmt.Errorf("--%s takes %s, not %q", bad.GetFlag().Name, wanted, bad.GetValue())
}
