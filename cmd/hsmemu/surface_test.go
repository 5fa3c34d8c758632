//go:build linux

package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"hsmemu/cmd/hsmemu/commandline"
)

var update = flag.Bool("update", false, "rewrite the generated parts of the documentation")

// called is what a command line prints, and its exit code.
func called(t *testing.T, env map[string]string, args ...string) (out, said string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	a := newApp(t, env["HSMEMU_STATE"])
	a.out, a.err = &o, &e
	a.env = func(name string) string { return env[name] }
	code = a.run(t.Context(), args)
	return o.String(), e.String(), code
}

// rootCommand is the tree of commands.
func rootCommand(a *app) *cobra.Command {
	root, _ := newRootCommand(a)
	return root
}

// everyCommand calls do for all commands.
func everyCommand(cmd *cobra.Command, do func(*cobra.Command)) {
	do(cmd)
	for _, sub := range cmd.Commands() {
		everyCommand(sub, do)
	}
}

func TestSurface_EveryCommandHasExamples(t *testing.T) {
	t.Parallel()
	there := map[string]bool{}
	everyCommand(rootCommand(newApp(t, t.TempDir())), func(c *cobra.Command) {
		there[commandline.Name(c)] = true
		if c.IsAvailableCommand() || !c.HasParent() {
			require.NotEmpty(t, c.Example, c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			require.Contains(t, line, "hsmemu ", c.CommandPath())
		}
	})
	for name := range examples {
		require.True(t, there[name], "examples for a command that is not there: %s", name)
	}
	tables := completion(newApp(t, t.TempDir()))
	for name := range tables.Arguments {
		require.True(t, there[name], "completion for a command that is not there: %s", name)
	}
	for name := range tables.Other {
		command, _, _ := strings.Cut(name, " --")
		require.True(t, there[command], "completion for a flag that is not there: %s", name)
	}
	for name := range tables.Flags {
		command, _, of := strings.Cut(name, " --")
		require.True(t, !of || there[command], "completion for a flag that is not there: %s", name)
	}
}

func TestSurface_Completes(t *testing.T) {
	t.Parallel()
	env := map[string]string{"HSMEMU_STATE": t.TempDir()}
	for _, card := range []string{"alice", "alan", "bob"} {
		_, said, code := called(t, env, "card", "new", card)
		require.Zero(t, code, said)
	}
	_, said, code := called(t, env, "card", "snapshot", "alice", "before")
	require.Zero(t, code, said)
	for line, want := range map[string]string{
		"card show al":               "alan alice :4",
		"card show alice ":           ":4",
		"card restore alice ":        "before :4",
		"card fault alice re":        "remove :4",
		"card fault alice remove ":   "after= at= :6",
		"card new --firmware 2":      "2.5 2.6 :4",
		"card new --seal p":          "passphrase :4",
		"card new --answer too-long": "too-long=6700 :4",
		"exec --card b":              "bob :4",
		"card authenticate --with b": "bob :4",
		"trace --card=b":             "bob :4",
		"trace --only l":             "life :4",
		"trace --only pin,k":         "pin,key :4",
		"exec --fault re":            "remove :4",
		"exec --fault remove_a":      "remove after= remove at= :6",
		"exec --fault slow_real":     "slow realistic :4",
		"exec --card alice --from ":  "before :0",
		"exec --from be":             ":0", // the default card has no snapshots
		"lesson --report h":          ":4", // the URL of a trainer
		"conform --report h":         "html :4",
	} {
		words := strings.Split(line, " ")
		for i := range words {
			words[i] = strings.ReplaceAll(words[i], "_", " ") // within one word
		}
		out, _, code := called(t, env, append([]string{cobra.ShellCompNoDescRequestCmd}, words...)...)
		require.Zero(t, code, line)
		got := strings.Join(strings.Fields(out), " ")
		if strings.Contains(line, "--answer") { // its words are a table's
			require.Contains(t, got, "too-long=", line)
			continue
		}
		require.Equal(t, want, got, line)
	}
}

// The card of the environment is a default, and a variable that cannot be is named.
func TestSurface_FlagsComeFromTheEnvironment(t *testing.T) {
	t.Parallel()
	env := map[string]string{"HSMEMU_STATE": t.TempDir(), "HSMEMU_CARD": "bob", "HSMEMU_JSON": "perhaps"}
	_, said, code := called(t, env, "card", "show", "bob")
	require.Equal(t, exitUsage, code)
	require.Contains(t, said, "hsmemu: $HSMEMU_JSON: --json takes true or false, not \"perhaps\"\n")
	require.Contains(t, said, "hint: ")
	delete(env, "HSMEMU_JSON")
	_, said, code = called(t, env, "attest", "/nowhere")
	require.Equal(t, exitFailed, code)
	require.NotContains(t, said, "one of them", "the card of the environment excludes no files")
}

func TestSurface_SaysWhatWasMeant(t *testing.T) {
	t.Parallel()
	env := map[string]string{"HSMEMU_STATE": t.TempDir()}
	_, said, code := called(t, env, "card", "new", "alice")
	require.Zero(t, code, said)
	_, said, code = called(t, env, "exce")
	require.Equal(t, exitUsage, code)
	require.Contains(t, said, "hint: did you mean exec?\n")
	_, said, _ = called(t, env, "card", "show", "alcie")
	require.Contains(t, said, "hint: did you mean \"alice\"? hsmemu card new alcie makes another\n")
	_, said, code = called(t, env, "card", "authenticate", "--reader", "", "--with", "alice")
	require.Equal(t, exitUsage, code, "no other card in place of one in a reader without a name")
	require.Contains(t, said, "hsmemu: --reader names a reader\n")
	out, _, code := called(t, env, "--version")
	require.Zero(t, code)
	require.Equal(t, "hsmemu "+version()+"\n", out)
}

// The list of all variables is made from the flags.
func TestSurface_EveryVariableIsDocumented(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("\n| Variable | Flag | Commands | What it says |\n|---|---|---|---|\n")
	_, line := newRootCommand(newApp(t, t.TempDir()))
	for _, s := range line.Settings() {
		flag, commands := "none: a secret", s.Commands
		if s.Flag != "" {
			flag = "`" + s.Flag + "`"
			if commands == "" {
				commands = "all"
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.Name, flag, commands, strings.ReplaceAll(s.Usage, "|", "\\|"))
	}
	b.WriteString("\n")
	const path = "../../docs/environment.md"
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(text), "<!-- variables: begin -->\n")
	require.True(t, ok)
	have, after, ok := strings.Cut(rest, "<!-- variables: end -->")
	require.True(t, ok)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(before+"<!-- variables: begin -->\n"+b.String()+"<!-- variables: end -->"+after), 0o644))
		return
	}
	require.Empty(t, string(diff.Diff("docs/environment.md", []byte(have), "flags", []byte(b.String()))), "go test ./cmd/hsmemu -run Documented -update")
}

// Bash itself completes with the script, where the program is called hsmemu.
func TestSurface_BashCompletes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	env := map[string]string{"HSMEMU_STATE": state}
	for _, card := range []string{"alice", "bob"} {
		_, said, code := called(t, env, "card", "new", card)
		require.Zero(t, code, said)
	}
	script, _, code := called(t, env, "completion", "bash")
	require.Zero(t, code)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "script"), []byte(script), 0o600))
	cmd := exec.Command("bash", "--norc", "-c", `source "$0"
compopt() { :; }
_get_comp_words_by_ref() { cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=("${COMP_WORDS[@]}") cword=$COMP_CWORD; }
COMP_WORDS=(hsmemu card show a) COMP_CWORD=3 COMP_LINE="hsmemu card show a" COMP_POINT=18 COMP_TYPE=9
__start_hsmemu
echo "${COMPREPLY[@]}"`, filepath.Join(dir, "script"))
	cmd.Env = append(os.Environ(), "HSMEMU_STATE="+state)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, "alice", strings.TrimSpace(string(out)))
}
