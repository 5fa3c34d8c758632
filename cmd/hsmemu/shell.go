package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newCompletionCommand prints the completion script of a shell.
func newCompletionCommand(a *app) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:       "completion bash|zsh|fish|powershell",
		Short:     "print a completion script for a shell",
		Args:      cobra.MatchAll(exactly(1), asUsage(cobra.OnlyValidArgs)),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.out, true)
			case "zsh":
				return root.GenZshCompletion(a.out)
			case "fish":
				return root.GenFishCompletion(a.out, true)
			}
			return root.GenPowerShellCompletionWithDesc(a.out)
		},
	}
}

// newManCommand prints the manual page of the program or of one of its
// commands, or writes all of them into a folder.
func newManCommand(a *app) *cobra.Command {
	var folder string
	cmd := &cobra.Command{
		Use:   "man [COMMAND]...",
		Short: "print a manual page",
		RunE: func(cmd *cobra.Command, args []string) error {
			header := &doc.GenManHeader{Title: "HSMEMU", Section: "1", Source: "hsmemu"}
			if folder != "" {
				if err := os.MkdirAll(folder, 0o755); err != nil {
					return fmt.Errorf("write manual pages: %w", err)
				}
				return writePages(cmd.Root(), header, folder)
			}
			target, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usageError{fmt.Errorf("no command %q", strings.Join(args, " "))}
			}
			return page(target, header, a.out)
		},
	}
	cmd.Flags().StringVar(&folder, "folder", "", "write the pages of all commands into this folder")
	return cmd
}

// writePages writes the pages of a command and of those below it.
func writePages(cmd *cobra.Command, header *doc.GenManHeader, folder string) error {
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			if err := writePages(sub, header, folder); err != nil {
				return err
			}
		}
	}
	var b bytes.Buffer
	if err := page(cmd, header, &b); err != nil {
		return err
	}
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
	if err := os.WriteFile(filepath.Join(folder, name), b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write manual pages: %w", err)
	}
	return nil
}

const exitStatus = `0 when it is done, 1 when it failed, with a line about why, 2 for a mistake in the command line, 130 when it was
interrupted before it was done.
hsmemu exec hands over the exit status of its program. Its own are
`

// execStatus are the statuses of exec itself.
var execStatus = [][2]string{
	{"2", "a mistake in exec's own command line; the program was not run"},
	{"125", "exec itself failed, as for a card that is in use, or with --keep-going a card was missing from a program that ended with 0"},
	{"126", "the program cannot be run"},
	{"127", "there is no such program"},
	{"128+n", "signal n ended the program"},
}

const manFiles = `$HSMEMU_STATE, $XDG_STATE_HOME/hsmemu or ~/.local/state/hsmemu: the cards, each in NAME.card, with their
snapshots in snapshots/NAME. A process that runs a card listens at NAME.sock.
`

// page writes a manual page: that of the library with the sections that it does
// not know before the last one.
func page(cmd *cobra.Command, header *doc.GenManHeader, out io.Writer) error {
	var b bytes.Buffer
	cmd.DisableAutoGenTag = true // a page says nothing of what made it
	h := *header                 // it gets the title of the command
	h.Title = strings.ToUpper(strings.ReplaceAll(cmd.CommandPath(), " ", "-"))
	if err := doc.GenMan(cmd, &h, &b); err != nil {
		return err
	}
	text := strings.Replace(b.String(), ".SH EXAMPLE\n", ".SH EXAMPLES\n", 1)
	var more strings.Builder
	if cmd.HasAvailableSubCommands() {
		more.WriteString(".SH COMMANDS\n")
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			fmt.Fprintf(&more, ".TP\n\\fB%s\\fP\n%s\n", roff(sub.CommandPath()), roff(sub.Short))
		}
	}
	more.WriteString(".SH ENVIRONMENT\n")
	for _, s := range settings(cmd) {
		about := s.usage
		if s.flag != "" {
			about = s.flag + ": " + about
			if s.commands != "" && cmd.HasSubCommands() {
				about = s.flag + " of " + s.commands + ": " + s.usage
			}
		}
		fmt.Fprintf(&more, ".TP\n\\fB%s\\fP\n%s\n", s.name, roff(about))
	}
	more.WriteString(".SH EXIT STATUS\n" + roff(exitStatus))
	for _, s := range execStatus {
		fmt.Fprintf(&more, ".TP\n\\fB%s\\fP\n%s\n", s[0], roff(s[1]))
	}
	more.WriteString(".SH FILES\n" + roff(manFiles))
	before, after, also := strings.Cut(text, ".SH SEE ALSO")
	if also {
		after = ".SH SEE ALSO" + after
	}
	_, err := io.WriteString(out, before+more.String()+after)
	return err
}

// roff is text that means itself in a manual page.
func roff(text string) string {
	lines := strings.Split(strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

// indented is text as help shows it.
func indented(text string) string {
	if text == "" {
		return ""
	}
	return "  " + strings.ReplaceAll(text, "\n", "\n  ")
}
