package main

import (
	"fmt"
	"os"
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
		Args:      asUsage(cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)),
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
				return doc.GenManTree(cmd.Root(), header, folder)
			}
			target, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usageError{fmt.Errorf("no command %q", strings.Join(args, " "))}
			}
			return doc.GenMan(target, header, a.out)
		},
	}
	cmd.Flags().StringVar(&folder, "folder", "", "write the pages of all commands into this folder")
	return cmd
}
