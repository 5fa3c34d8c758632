// Command module gives the module another path: in go.mod, in the imports of
// all Go files, in the linter's settings, and where the documentation tells Go
// programs what to import. What else bears the same name, the binary and its
// messages for example, keeps it.
//
//	go run -modfile=.ci/tools/go.mod .ci/module.go example.org/you/hsmemu
package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: make module MODULE=example.org/you/hsmemu")
		os.Exit(2)
	}
	if err := rename(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "module: %v\n", err)
		os.Exit(1)
	}
}

func rename(to string) error {
	text, err := os.ReadFile("go.mod")
	if err != nil {
		return err
	}
	mod, err := modfile.Parse("go.mod", text, nil)
	if err != nil {
		return err
	}
	if err := refuse(to, mod); err != nil {
		return err
	}
	from := mod.Module.Mod.Path // mod is edited below
	r, err := newRenamer(from, to)
	if err != nil {
		return err
	}
	// Everything is read and changed before the first file is written, so that a
	// file that cannot be parsed leaves the tree as it was.
	changed := map[string][]byte{}
	for _, name := range r.files {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		renamed, err := r.file(name, text)
		if err != nil {
			return err
		}
		if !bytes.Equal(renamed, text) {
			changed[name] = renamed
		}
	}
	if err := mod.AddModuleStmt(to); err != nil {
		return err
	}
	if changed["go.mod"], err = mod.Format(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		if err := os.WriteFile(name, changed[name], 0o644); err != nil {
			return err
		}
	}
	fmt.Printf("%s is now %s, in go.mod and %d other files\n", from, to, len(changed)-1)
	return nil
}

// refuse returns why the module cannot have a path.
func refuse(to string, mod *modfile.File) error {
	if to == "" {
		return errors.New("no path given: make module MODULE=example.org/you/hsmemu")
	}
	if to == mod.Module.Mod.Path {
		return fmt.Errorf("%s is the path already", to)
	}
	if err := module.CheckPath(to); err != nil {
		return err
	}
	if _, major, _ := module.SplitPathVersion(to); major != "" {
		return fmt.Errorf("%s: the ending %s belongs to a later major version", to, major)
	}
	for _, r := range mod.Require {
		if under(to, r.Mod.Path) || under(r.Mod.Path, to) {
			return fmt.Errorf("%s: the required module %s has this place", to, r.Mod.Path)
		}
	}
	return nil
}

func under(p, folder string) bool { return p == folder || strings.HasPrefix(p, folder+"/") }

type renamer struct {
	from, to string
	files    []string
	folders  map[string]bool // those with Go files, "" for the top
	linter   *regexp.Regexp
	told     *regexp.Regexp
}

func newRenamer(from, to string) (*renamer, error) {
	r := &renamer{from: from, to: to, folders: map[string]bool{"": true}}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (name == ".git" || name == "bin" || name == "build"):
			return filepath.SkipDir
		case d.Type().IsRegular():
			r.files = append(r.files, name)
			if filepath.Ext(name) == ".go" {
				r.folders[strings.TrimPrefix(filepath.ToSlash(filepath.Dir(name)), ".")] = true
			}
		}
		return nil
	})
	old := regexp.QuoteMeta(from)
	r.linter = regexp.MustCompile(`(module-path: |local-prefixes: \[)` + old + `([\]}])`)
	// An import, a requirement, a replacement, or an argument of the go command.
	r.told = regexp.MustCompile(`(^|[^\w./-])` + old + `(/[\w./-]+|@|=| =>)`)
	return r, err
}

func (r *renamer) file(name string, text []byte) ([]byte, error) {
	switch {
	case filepath.Ext(name) == ".go":
		return r.imports(name, text)
	case filepath.Ext(name) == ".md":
		return r.told.ReplaceAllFunc(text, func(found []byte) []byte {
			m := r.told.FindSubmatch(found)
			folder, isPackage := strings.CutPrefix(string(m[2]), "/")
			if isPackage && !r.folders[strings.TrimRight(folder, "./")] {
				return found
			}
			return slices.Concat(m[1], []byte(r.to), m[2])
		}), nil
	case name == ".golangci.yml":
		return r.linter.ReplaceAll(text, []byte("${1}"+r.to+"${2}")), nil
	}
	return text, nil
}

// imports changes the paths of a Go file's imports.
func (r *renamer) imports(name string, text []byte) ([]byte, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, text, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	renamed := text
	for _, i := range slices.Backward(f.Imports) {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return nil, err
		}
		folder, isOwn := strings.CutPrefix(p+"/", r.from+"/")
		if folder = strings.TrimSuffix(folder, "/"); !isOwn || !r.folders[folder] {
			continue
		}
		at, end := fset.Position(i.Path.Pos()).Offset, fset.Position(i.Path.End()).Offset
		renamed = slices.Concat(renamed[:at], []byte(strconv.Quote(path.Join(r.to, folder))), renamed[end:])
	}
	if bytes.Equal(renamed, text) {
		return text, nil
	}
	return format.Source(renamed)
}
