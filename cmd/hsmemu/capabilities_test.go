//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/stretchr/testify/require"

	"hsmemu/emulator/capability"
	"hsmemu/emulator/view"
)

// What is told of a command is told of one that exists, and of flags that it has.
func TestCapabilities_LacksAreOfCommands(t *testing.T) {
	t.Parallel()
	root := rootCommand(newApp(t, t.TempDir()))
	names := commandNames(root)
	require.Contains(t, names, "card new")
	require.NotContains(t, names, "card")
	for _, l := range capability.Lacks() {
		require.Contains(t, names, l.Command)
		cmd, rest, err := root.Find(strings.Fields(l.Command))
		require.NoError(t, err)
		require.Empty(t, rest)
		for _, word := range strings.Fields(strings.ReplaceAll(l.Part, ",", "")) {
			if flag, is := strings.CutPrefix(word, "--"); is {
				require.NotNil(t, cmd.Flags().Lookup(flag), "%s has no --%s", l.Command, flag)
			}
		}
	}
}

// Flags by which a command needs pcsc-lite or a TPM, wherever it is new: the table
// tells of all of them.
func TestCapabilities_LacksAreComplete(t *testing.T) {
	t.Parallel()
	root := rootCommand(newApp(t, t.TempDir()))
	told := map[string]bool{}
	for _, l := range capability.Lacks() {
		told[l.Command+" "+l.Part] = true
	}
	for _, name := range commandNames(root) {
		cmd, _, err := root.Find(strings.Fields(name))
		require.NoError(t, err)
		if cmd.Flags().Lookup("reader") != nil && !cmd.Flags().Lookup("reader").Hidden {
			require.True(t, told[name+" --reader"], "%s has --reader", name)
		}
		if cmd.Flags().Lookup("seal") != nil {
			require.True(t, told[name+" --seal tpm"], "%s has --seal", name)
		}
	}
}

func TestCapabilities_AreOfTheSystem(t *testing.T) {
	t.Parallel()
	names := commandNames(rootCommand(newApp(t, t.TempDir())))
	of := func(system string) (c view.Capabilities, commands map[string]view.CommandCapability) {
		c = capability.Of(view.Program{}, system, names)
		commands = map[string]view.CommandCapability{}
		for _, one := range c.Commands {
			commands[one.Name] = one
		}
		return c, commands
	}
	linux, commands := of("linux")
	require.Equal(t, []string{"none", "passphrase", "tpm"}, linux.Seals)
	for name, one := range commands {
		require.True(t, one.Works && len(one.Without) == 0, name)
	}
	mac, commands := of("darwin")
	require.Contains(t, mac.Seals, "tpm")
	require.False(t, commands["exec"].Works)
	require.Equal(t, []string{"without --vpcd, --vpcd-listen or --ram"}, commands["run"].Without)
	bsd, commands := of("freebsd")
	require.Equal(t, []string{"none", "passphrase"}, bsd.Seals)
	require.True(t, commands["exec"].Works)
	require.Equal(t, []string{"--seal tpm"}, commands["card new"].Without)
}

// What a firmware is said to have, cards of it have; and the other way round for one
// that does not have it.
func TestCapabilities_AreThoseOfCards(t *testing.T) {
	t.Parallel()
	out, said, code := called(t, nil, "capabilities")
	require.Zero(t, code, said)
	var c view.Capabilities
	require.NoError(t, json.Unmarshal([]byte(out), &c))
	state := map[string]string{"HSMEMU_STATE": t.TempDir()}
	for i, f := range c.Firmware {
		_, said, code := called(t, state, "card", "new", fmt.Sprintf("f%d", i), "--firmware", f.Version)
		require.Zero(t, code, said)
	}
	for i, defect := range c.Defects {
		_, said, code := called(t, state, "card", "new", fmt.Sprintf("d%d", i), "--broken", defect)
		require.Zero(t, code, "%s: %s", defect, said)
	}
	old, latest := c.Firmware[0], c.Firmware[len(c.Firmware)-1]
	require.Equal(t, c.DefaultFirmware, latest.Version)
	require.NotContains(t, old.Curves, "secp521r1")
	require.Contains(t, latest.Curves, "secp521r1")
	require.NotContains(t, old.Algorithms, "RSA PSS")
	require.NotContains(t, old.Algorithms, "AES-CMAC")
	require.Contains(t, latest.Algorithms, "AES-CMAC")
}

// docs/install.md tells what works on other systems, by the same table.
func TestCapabilities_AreDocumented(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("\n| Command | Linux | FreeBSD | macOS | Windows |\n|---|---|---|---|---|\n")
	for _, name := range commandNames(rootCommand(newApp(t, t.TempDir()))) {
		fmt.Fprintf(&b, "| `%s` |", name)
		for _, system := range []string{"linux", "freebsd", "darwin", "windows"} {
			text := "yes"
			c := capability.Of(view.Program{}, system, []string{name}).Commands[0]
			switch {
			case !c.Works:
				text = "no"
			case len(c.Without) > 0:
				text = "not " + strings.Join(c.Without, ", ")
			}
			fmt.Fprintf(&b, " %s |", text)
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	const path, begin, end = "../../docs/install.md", "<!-- systems: begin -->\n", "<!-- systems: end -->"
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok)
	have, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(before+begin+b.String()+end+after), 0o644))
		return
	}
	require.Empty(t, string(diff.Diff("docs/install.md", []byte(have), "commands", []byte(b.String()))), "go test ./cmd/hsmemu -run AreDocumented -update")
}
