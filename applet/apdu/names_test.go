package apdu_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// bare lists the instruction bytes and file identifiers that a file has as
// numbers: as a field or in a comparison of that name, in a switch over one, or
// as an identifier of the card's files anywhere.
func bare(file *ast.File) (found []string) {
	number := func(e ast.Expr) (string, uint64) {
		if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.INT && strings.HasPrefix(l.Value, "0x") {
			n, _ := strconv.ParseUint(l.Value, 0, 64)
			return l.Value, n
		}
		return "", 0
	}
	isINS := func(e ast.Expr) bool {
		switch x := e.(type) {
		case *ast.Ident:
			return strings.EqualFold(x.Name, "ins")
		case *ast.SelectorExpr:
			return strings.EqualFold(x.Sel.Name, "ins")
		case *ast.IndexExpr:
			name, at := x.X, x.Index
			i, ok := name.(*ast.Ident)
			l, one := at.(*ast.BasicLit)
			return ok && i.Name == "command" && one && l.Value == "1"
		}
		return false
	}
	note := func(e ast.Expr) {
		if text, _ := number(e); text != "" {
			found = append(found, text)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.KeyValueExpr:
			if isINS(x.Key) {
				note(x.Value)
			}
		case *ast.BinaryExpr:
			if isINS(x.X) {
				note(x.Y)
			}
		case *ast.SwitchStmt:
			if x.Tag != nil && isINS(x.Tag) {
				for _, s := range x.Body.List {
					for _, e := range s.(*ast.CaseClause).List {
						note(e)
					}
				}
			}
		case *ast.BasicLit:
			if text, id := number(x); len(text) == len("0x2F02") && (id>>8 == 0x2F || id >= 0xC400 && id < 0xD000) {
				found = append(found, text)
			}
		}
		return true
	})
	return found
}

// Every instruction and every file of the card has one name, in the file that
// gives the names, and nobody else has its number.
func TestNames_AreUsedEverywhere(t *testing.T) {
	t.Parallel()
	const root = "../.."
	seen := 0
	require.NoError(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && strings.HasPrefix(e.Name(), ".") && path != root {
			return fs.SkipDir
		}
		if e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, "pkcs15/files.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		seen++
		require.Empty(t, bare(file), path)
		return nil
	}))
	require.Greater(t, seen, 100)

	// What it finds.
	file, err := parser.ParseFile(token.NewFileSet(), "", `package p
		var a = Command{INS: 0x20, P1: 0x04}
		var b = c.INS == 0x50 || command[1] == 0x74 || command[2] == 0x01
		func f() { switch command[1] { case 0xA4, 0xB1: }; g(0x2F02, 0xCE00, 0x6A82) }`, 0)
	require.NoError(t, err)
	require.Equal(t, []string{"0x20", "0x50", "0x74", "0xA4", "0xB1", "0x2F02", "0xCE00"}, bare(file))
}
