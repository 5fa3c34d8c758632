package commandline

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

// Manual is what the manual page of every command says.
type Manual struct {
	Status   string      // of the exit status, in whole lines
	Statuses [][2]string // a list behind it: the status, and what it means
	Files    string      // of files, in whole lines
}

// completionCommand prints the completion script of a shell.
func completionCommand(out io.Writer) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:       "completion bash|zsh|fish|powershell",
		Short:     "print a completion script for a shell",
		Args:      cobra.MatchAll(Exactly(1), asUsage(cobra.OnlyValidArgs)),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			}
			return root.GenPowerShellCompletionWithDesc(out)
		},
	}
}

// manCommand prints the manual page of the program or of one of its
// commands, or writes all of them into a folder.
func (l *Line) manCommand(out io.Writer) *cobra.Command {
	var folder string
	cmd := &cobra.Command{
		Use:   "man [COMMAND]...",
		Short: "print a manual page",
		RunE: func(cmd *cobra.Command, args []string) error {
			if folder != "" {
				if err := os.MkdirAll(folder, 0o755); err != nil {
					return fmt.Errorf("write manual pages: %w", err)
				}
				return l.writePages(cmd.Root(), folder)
			}
			target, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return Usage(fmt.Errorf("no command %q", strings.Join(args, " ")))
			}
			return l.page(target, out)
		},
	}
	cmd.Flags().StringVar(&folder, "folder", "", "write the pages of all commands into this folder")
	return cmd
}

// writePages writes the pages of a command and of those below it.
func (l *Line) writePages(cmd *cobra.Command, folder string) error {
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			if err := l.writePages(sub, folder); err != nil {
				return err
			}
		}
	}
	var b bytes.Buffer
	if err := l.page(cmd, &b); err != nil {
		return err
	}
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
	if err := os.WriteFile(filepath.Join(folder, name), b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write manual pages: %w", err)
	}
	return nil
}

// page writes a manual page: that of the library with the sections that it does
// not know before the last one.
func (l *Line) page(cmd *cobra.Command, out io.Writer) error {
	var b bytes.Buffer
	cmd.DisableAutoGenTag = true // a page says nothing of what made it
	title := strings.ToUpper(strings.ReplaceAll(cmd.CommandPath(), " ", "-"))
	if err := doc.GenMan(cmd, &doc.GenManHeader{Title: title, Section: "1", Source: l.root.Name()}, &b); err != nil {
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
	for _, s := range l.tables.Variables.settings(cmd) {
		about := s.Usage
		if s.Flag != "" {
			about = s.Flag + ": " + about
			if s.Commands != "" && cmd.HasSubCommands() {
				about = s.Flag + " of " + s.Commands + ": " + s.Usage
			}
		}
		fmt.Fprintf(&more, ".TP\n\\fB%s\\fP\n%s\n", s.Name, roff(about))
	}
	more.WriteString(".SH EXIT STATUS\n" + roff(l.tables.Manual.Status))
	for _, s := range l.tables.Manual.Statuses {
		fmt.Fprintf(&more, ".TP\n\\fB%s\\fP\n%s\n", s[0], roff(s[1]))
	}
	more.WriteString(".SH FILES\n" + roff(l.tables.Manual.Files))
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
