//go:build linux

package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// hintFlags are the flags that hints name without their command, by the file that the hint
// is in, with the commands that print it; "" is every command.
var hintFlags = map[string][]string{
	"errors.go --state":         {""},
	"errors.go --tpm":           {""},
	"errors.go --force":         {"card restore"},
	"exec.go --socket":          {"exec", "run"}, // both serve at a socket
	"socket.go --socket":        {"run"},
	"socket.go --card":          {"run"},
	"conform.go --yes-destroy":  {"conform run"},
	"cardnew.go --blank":        {"card new"},
	"console.go --console-open": {"run", "exec", "lesson"},
	"lesson.go --open":          {"lesson class"},
}

// Whatever flag a hint names is one of the command that prints it, or of the command that
// the hint names.
func TestHints_NameFlagsThatAreThere(t *testing.T) {
	t.Parallel()
	root, _ := newRootCommand(newApp(t, t.TempDir()))
	find := func(words ...string) *cobra.Command {
		cmd, _, err := root.Find(words)
		require.NoError(t, err)
		return cmd
	}
	named := regexp.MustCompile(`--[a-z][a-z-]+`)
	unused := map[string]bool{}
	for key := range hintFlags {
		unused[key] = true
	}
	for file, hints := range hintsOf(t) {
		for _, hint := range hints {
			for _, at := range named.FindAllStringIndex(hint, -1) {
				flag, key := hint[at[0]+2:at[1]], file+" "+hint[at[0]:at[1]]
				if program := commandBefore(hint[:at[0]]); program != nil {
					if program[0] == "hsmemu" && flag != "help" { // cobra adds that later
						require.NotNil(t, find(program[1:]...).Flag(flag), "%s: %s", file, hint)
					}
					continue
				}
				require.Contains(t, hintFlags, key, "say which commands print %q", hint)
				delete(unused, key)
				for _, command := range hintFlags[key] {
					require.NotNil(t, find(strings.Fields(command)...).Flag(flag), "hsmemu %s: %s", command, hint)
				}
			}
		}
	}
	require.Empty(t, unused, "no hint names them")
}

// commandBefore is the program with its command that a flag behind the text is one of; nil
// for none.
func commandBefore(text string) []string {
	if i := strings.LastIndex(text, "`"); strings.Count(text, "`")%2 == 1 {
		text = text[i+1:]
	} else if i >= 0 {
		return nil // the command has ended
	}
	for _, program := range []string{"hsmemu", "sc-hsm-tool", "openssl"} {
		if i := strings.LastIndex(text, program+" "); i >= 0 {
			words := strings.Fields(text[i:])
			for j, w := range words {
				if strings.HasPrefix(w, "-") {
					return words[:j]
				}
			}
			return words
		}
	}
	return nil
}

// hintsOf are the texts in hints, by the file that they are in.
func hintsOf(t *testing.T) map[string][]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	all := map[string][]string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		add := func(e ast.Expr) {
			text := ""
			ast.Inspect(e, func(n ast.Node) bool {
				if l, is := n.(*ast.BasicLit); is && l.Kind == token.STRING {
					s, err := strconv.Unquote(l.Value)
					require.NoError(t, err)
					text += s
				}
				return true
			})
			all[name] = append(all[name], text)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if s, is := n.Fun.(*ast.SelectorExpr); is && s.Sel.Name == "Hint" && len(n.Args) == 2 {
					add(n.Args[1])
				}
				if f, is := n.Fun.(*ast.Ident); is && (f.Name == "explainSocket" || f.Name == "whereUsed") {
					add(n.Args[1])
				}
				if f, is := n.Fun.(*ast.Ident); is && f.Name == "listenForBrowsers" {
					all[name] = append(all[name], "--"+strings.Trim(n.Args[3].(*ast.BasicLit).Value, `"`))
				}
			case *ast.KeyValueExpr:
				if k, is := n.Key.(*ast.Ident); is && k.Name == "hint" {
					add(n.Value)
				}
			case *ast.AssignStmt:
				if k, is := n.Lhs[0].(*ast.Ident); is && len(n.Rhs) == 1 && (k.Name == "hint" || k.Name == "advice") {
					add(n.Rhs[0])
				}
			}
			return true
		})
	}
	return all
}
