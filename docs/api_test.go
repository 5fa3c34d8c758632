package docs_test

import (
	"bytes"
	"go/ast"
	"go/build"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/stretchr/testify/require"
)

// promised are the packages that programs of others may import, and of some of
// them only the types named. What they export is kept in docs/api. A package may
// stand here before it exists.
var promised = map[string][]string{
	"emulator":         nil,
	"emulator/chip":    {"Order"},
	"emulator/conform": nil,
	"vsmartcard":       nil,
	"vsmartcard/pcscd": nil,
	"applet/client":    nil,
}

// What others build on changes only where a reviewer sees it.
func TestAPI_IsWhatIsPromised(t *testing.T) {
	t.Parallel()
	list, err := os.ReadFile(filepath.Join("api", "README.md"))
	require.NoError(t, err)
	for path, only := range promised {
		have, err := exported(filepath.Join("..", path), only)
		require.NoError(t, err)
		golden := filepath.Join("api", path+".txt")
		if *update && len(have) > 0 {
			require.NoError(t, os.MkdirAll(filepath.Dir(golden), 0o755))
			require.NoError(t, os.WriteFile(golden, have, 0o644))
		}
		want, err := os.ReadFile(golden)
		if !os.IsNotExist(err) || len(have) > 0 {
			require.Contains(t, string(list), "| [`"+path+"`]("+path+".txt) |")
			require.NoError(t, err, "to keep what it exports: go test ./docs -run TestAPI -update")
		}
		if d := diff.Diff("docs/api/"+path+".txt", want, path, have); d != nil {
			t.Errorf("what %s exports has changed; if that is meant: go test ./docs -run TestAPI -update\n%s", path, d)
		}
	}
}

// exported returns a package's exported declarations without their comments, in
// the order of go doc, or nothing for a folder without a package.
func exported(dir string, only []string) ([]byte, error) {
	if names, err := filepath.Glob(filepath.Join(dir, "*.go")); names == nil {
		return nil, err
	}
	linux := build.Default // what a package exports shall not depend on where this runs
	linux.GOOS, linux.GOARCH, linux.CgoEnabled = "linux", "amd64", false
	p, err := linux.ImportDir(dir, 0)
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	d, err := doc.NewFromFiles(fset, files, dir)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	say := func(decl ast.Decl) {
		var text bytes.Buffer
		if err == nil {
			err = (&printer.Config{Mode: printer.UseSpaces | printer.TabIndent, Tabwidth: 8}).Fprint(&text, fset, decl)
		}
		b.Write(bytes.ReplaceAll(text.Bytes(), []byte("\n\n"), []byte("\n"))) // where comments were
		b.WriteString("\n")
	}
	values := func(list []*doc.Value) {
		for _, v := range list {
			say(v.Decl)
		}
	}
	functions := func(list []*doc.Func) {
		for _, f := range list {
			say(f.Decl)
		}
	}
	if only == nil {
		values(d.Consts)
		for _, v := range d.Vars {
			withoutWords(v.Decl)
		}
		values(d.Vars)
		functions(d.Funcs)
	}
	for _, t := range d.Types {
		if only != nil && !slices.Contains(only, t.Name) {
			continue
		}
		b.WriteString("\n")
		say(t.Decl)
		values(t.Consts)
		values(t.Vars)
		functions(t.Funcs)
		functions(t.Methods)
	}
	return b.Bytes(), err
}

// withoutWords takes the arguments out of the calls that give variables their
// values: what errors say is not promised.
func withoutWords(d *ast.GenDecl) {
	for _, s := range d.Specs {
		for _, value := range s.(*ast.ValueSpec).Values {
			if call, ok := value.(*ast.CallExpr); ok {
				call.Args = nil
			}
		}
	}
}
