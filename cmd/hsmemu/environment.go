package main

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

// variablePrefix begins the name of every variable.
const variablePrefix = "HSMEMU_"

// variable is the environment variable that stands for a flag.
func variable(flag string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// withoutVariable are the flags that have no variable: what asks for help; what destroys
// or makes another command of one, and is for somebody who has looked at the line, as
// --force and --rm; and what means one thing here and another there, as --wait.
var withoutVariable = []string{
	"help", "version",
	"force", "destructive", "yes-destroy", "rm", "clear", "list", "unprotected",
	"expect", "wait",
}

func variableless(flag string) bool { return slices.Contains(withoutVariable, flag) }

// rivals are flags that exclude each other in some command. One that was typed goes
// before the variables of the others.
var rivals = [][]string{
	{"card", "socket"},
	{"card", "reader", "fresh"},
	{"card", "root"},
	{"socket", "vpcd", "vpcd-listen"},
	{"from", "socket"},
	{"from", "init"},
	{"json", "verbose"},
	{"from", "like"},
	{"from", "firmware"},
	{"from", "serial"},
	{"from", "seed"},
	{"from", "key-pool"},
	{"from", "answer"},
	{"from", "broken"},
	{"from", "blank"},
	{"blank", "like"},
	{"card", "firmware"},
	{"reader", "firmware"},
	{"card", "seed"},
	{"reader", "seed"},
}

// needing are flags that some command refuses without another one. Their variables say
// nothing where none of these is given.
var needing = map[string]struct{ in, needs string }{
	"socket-mode": {"", "socket"}, "socket-group": {"", "socket"},
	"keep-so-tries": {"conform", "reader"},
	"json":          {"card fault", "list"},
	"pin-file":      {"card new", "like"}, "so-pin-file": {"card new", "like"},
	"snapshot-passphrase-file": {"card new", "from"}, "file-passphrase-file": {"card new", "from"},
}

// alone refuses a flag of needing that was given without the other one.
func alone(cmd *cobra.Command) error {
	for _, flag := range slices.Sorted(maps.Keys(needing)) {
		if n := needing[flag]; n.in == nameOf(cmd) && cmd.Flags().Changed(flag) && !cmd.Flags().Changed(n.needs) {
			return usageError{fmt.Errorf("--%s goes with --%s", flag, n.needs)}
		}
	}
	return nil
}

// secretVariables are those that hold what no flag takes, because arguments can
// be seen by everybody.
var secretVariables = map[string]string{
	"HSMEMU_PASSPHRASE":          "passphrase of the card",
	"HSMEMU_NEW_PASSPHRASE":      "new passphrase of the card, for `card reseal`",
	"HSMEMU_FILE_PASSPHRASE":     "passphrase of an exported file",
	"HSMEMU_SNAPSHOT_PASSPHRASE": "passphrase that the card had when the snapshot was taken",
	"HSMEMU_PIN":                 "user PIN, for `conform` with --reader alone; of `conform client`, what the program is given",
	"HSMEMU_SO_PIN":              "SO-PIN in hexadecimal: of a new card for `card new --like`, of the card to be judged for `conform --reader`, and what `conform client` gives its program",
	"HSMEMU_PASSWORD":            "password of a PKCS #12 file",
	"HSMEMU_SHARE_PASSWORD":      "password of a DKEK share",
	"HSMEMU_MAIL_PASSWORD":       "password of the mail server, for `portal serve`",
}

// fromEnvironment sets the flags that the command line leaves out from the
// environment. A variable that holds several values has one a line. The card of
// the environment is a default: it does not exclude what --card would.
func (a *app) fromEnvironment(cmd *cobra.Command) (err error) {
	typed := map[string]bool{}
	cmd.Flags().Visit(func(f *pflag.Flag) { typed[f.Name] = true })
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		value := a.env(variable(f.Name))
		if value == "" || f.Changed || err != nil || variableless(f.Name) || a.unusable(cmd, f.Name, typed) {
			return
		}
		if f.NoOptDefVal != "" && (value == "1" || value == "true") { // as the flag alone
			value = f.NoOptDefVal
		}
		a.fromVariables = append(a.fromVariables, f.Name)
		values := []string{value}
		if f.Value.Type() == "stringArray" {
			values = strings.Split(value, "\n")
		}
		for _, v := range values {
			if failed := cmd.Flags().Set(f.Name, v); failed != nil {
				err = usageError{fmt.Errorf("$%s: %w", variable(f.Name), flagError(failed))}
				return
			}
		}
		f.Changed = f.Name != "card"
	})
	return err
}

// unusable reports whether a command cannot use the variable of a flag beside what was
// typed.
func (a *app) unusable(cmd *cobra.Command, flag string, typed map[string]bool) bool {
	for _, group := range rivals {
		if slices.Contains(group, flag) && slices.ContainsFunc(group, func(other string) bool { return typed[other] }) {
			return true
		}
	}
	n, some := needing[flag]
	return some && (n.in == "" || n.in == nameOf(cmd)) && !typed[n.needs] && (variableless(n.needs) || a.env(variable(n.needs)) == "")
}

// ofVariables says which of the flags that a message names come from variables; empty
// if none does.
func (a *app) ofVariables(message string) string {
	var from []string
	for _, flag := range a.fromVariables {
		if slices.ContainsFunc(strings.Fields(message), func(word string) bool { return strings.TrimRight(word, ",:") == "--"+flag }) {
			from = append(from, "--"+flag+" comes from $"+variable(flag))
		}
	}
	return strings.Join(from, ", ")
}

// setting is an environment variable and what it is for.
type setting struct{ name, flag, commands, usage string }

// settings are all variables of a command and of those below it, in their order.
func settings(cmd *cobra.Command) []setting {
	type text struct{ name, usage string } // commands with one text share a line
	all := map[text]setting{}
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		add := func(f *pflag.Flag) {
			if f.Hidden || variableless(f.Name) {
				return
			}
			_, usage := pflag.UnquoteUsage(f)
			one := text{variable(f.Name), usage}
			s, known := all[one]
			if !known {
				s = setting{variable(f.Name), "--" + f.Name, "", usage}
			}
			if name := nameOf(c); c != c.Root() {
				s.commands = strings.TrimPrefix(s.commands+", "+name, ", ")
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
		for name, usage := range secretVariables {
			all[text{name, usage}] = setting{name: name, usage: usage}
		}
	}
	var list []setting
	for _, s := range all {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b setting) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.commands, b.commands), strings.Compare(a.usage, b.usage))
	})
	return list
}

// flagError says in plain words that a flag does not take a value.
func flagError(err error) error {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return err
	}
	wanted, known := map[string]string{"int": "a number", "intSlice": "numbers", "bool": "true or false", "duration": "a time as in 2s"}[bad.GetFlag().Value.Type()]
	if !known {
		return err
	}
	return fmt.Errorf("--%s takes %s, not %q", bad.GetFlag().Name, wanted, bad.GetValue())
}
