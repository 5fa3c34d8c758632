package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// layer says what the product code of a package may import besides the standard
// library. Nothing else is allowed, so that an arrow that points outwards fails
// here and not in a review.
type layer struct {
	imports []string // packages of this module, without its name
	modules []string // other modules, or folders in them
	pure    bool     // bound by the bans of the pure core
}

// layers is complete: a package that is not in it has to be put there first.
var layers = map[string]layer{
	"applet/apdu":    {pure: true},
	"applet/command": {pure: true, imports: []string{"applet/apdu"}},
	"applet/tlv":     {pure: true},
	"applet/pkcs15":  {pure: true, imports: []string{"applet/tlv"}},
	"applet/cvc":     {pure: true, imports: []string{"applet/tlv", "keystore/curve"}},
	"applet/sm":      {pure: true, imports: []string{"applet/apdu", "applet/tlv", "keystore/curve", "keystore/cmac"}},
	"pinstate":       {pure: true},
	"keystore":       {pure: true, imports: []string{"keystore/curve", "keystore/cmac"}, modules: []string{"filippo.io/bigmod"}},
	"keystore/curve": {pure: true, modules: []string{"filippo.io/bigmod"}},
	"keystore/cmac":  {pure: true},
	"applet": {
		pure: true, imports: []string{"pinstate", "keystore", "keystore/curve", "applet/apdu", "applet/command", "applet/tlv", "applet/cvc", "applet/pkcs15", "applet/sm"},
		modules: []string{"golang.org/x/crypto/cryptobyte"},
	},
	"applet/client": {pure: true, imports: []string{
		"applet/apdu", "applet/tlv", "applet/cvc", "applet/sm", "applet/pkcs15", "keystore", "keystore/curve", "pinstate",
	}},
	"emulator/scp03": {pure: true, imports: []string{"applet/apdu", "keystore/cmac"}},
	"emulator/chip": { // makes the device key and its certificate, hence cvc and the key packages
		pure: true, imports: []string{"applet", "applet/apdu", "applet/command", "applet/tlv", "applet/cvc", "applet/pkcs15", "emulator/scp03", "keystore", "keystore/curve", "pinstate"},
	},

	"emulator/broken": {pure: true, imports: []string{"emulator/chip", "applet", "applet/apdu", "applet/pkcs15", "keystore", "keystore/curve", "pinstate"}},

	"emulator": {imports: []string{"emulator/broken", "emulator/chip", "applet", "applet/apdu", "keystore", "vsmartcard"}}, // keystore: a seeded card's generator
	"emulator/control": {imports: []string{
		"applet", "applet/apdu", "emulator", "emulator/chip", "emulator/statedir", "emulator/store", "emulator/view", "keystore/seal", "vsmartcard", "vsmartcard/descriptors", "vsmartcard/pcscd",
	}},
	"emulator/lesson":   {imports: []string{"applet/apdu", "emulator", "emulator/conform", "emulator/control", "emulator/program", "emulator/statedir", "emulator/store", "emulator/view", "keystore/seal", "vsmartcard/pcscd"}},
	"emulator/statedir": {imports: []string{"emulator", "emulator/chip", "emulator/store", "keystore/seal"}},
	"emulator/store":    {imports: []string{"keystore/seal"}, modules: []string{"golang.org/x/crypto", "golang.org/x/sys/windows"}},
	"keystore/keyfile":  {imports: []string{"keystore", "keystore/curve"}, modules: []string{"software.sslmate.com/src/go-pkcs12"}},
	"keystore/seal":     {modules: []string{"github.com/google/go-tpm-tools/client", "github.com/google/go-tpm", "golang.org/x/crypto"}},
	"vsmartcard":        {},
	"vsmartcard/pcscd":  {imports: []string{"vsmartcard", "vsmartcard/descriptors"}},

	"vsmartcard/descriptors": {},

	"emulator/ram": {imports: []string{"applet/tlv", "vsmartcard"}},
	"emulator/portal": {imports: []string{
		"emulator/ram", "emulator/scp03", "applet/client", "applet/cvc", "applet/sm", "applet/apdu", "applet/tlv", "applet/pkcs15", "keystore/curve",
	}},
	"emulator/portal/records": {
		imports: []string{"emulator/portal", "emulator/store", "applet/cvc"},
		modules: []string{"modernc.org/sqlite", "golang.org/x/crypto"},
	},
	"emulator/portal/account": {imports: []string{
		"emulator/portal", "emulator/portal/records", "emulator/ram", "applet/apdu", "applet/client", "applet/cvc", "applet/tlv",
	}},
	"emulator/portal/service": {imports: []string{
		"emulator/portal", "emulator/portal/account", "emulator/portal/pki", "emulator/portal/records", "emulator/ram", "applet/cvc",
	}},

	"emulator/portal/site": {imports: []string{
		"emulator/portal", "emulator/portal/account", "emulator/portal/pki", "emulator/portal/records", "emulator/portal/service", "emulator/ram",
		"emulator/portal/cloudhsm", "emulator/portal/soap", "emulator/web", "applet/cvc",
	}},

	"emulator/portal/pki":  {imports: []string{"emulator/portal", "applet/cvc"}}, // portal: the type of a private key that is stored
	"emulator/portal/soap": {imports: []string{"emulator/portal/pki", "applet/cvc"}},
	"emulator/portal/cloudhsm": {imports: []string{
		"emulator/portal", "emulator/ram", "applet/client", "applet/cvc", "applet/apdu", "applet/tlv", "applet/pkcs15", "keystore",
	}},

	"emulator/view":        {pure: true, imports: []string{"applet", "applet/apdu", "applet/tlv", "applet/cvc", "applet/pkcs15", "emulator/broken", "emulator/chip", "keystore", "pinstate"}},
	"emulator/console":     {imports: []string{"docs/protocol", "emulator", "emulator/control", "emulator/lesson", "emulator/view", "emulator/web"}},
	"docs/protocol":        {},
	"emulator/web":         {imports: []string{"vsmartcard/descriptors"}},
	"emulator/browsertest": {modules: []string{"github.com/chromedp"}},                                     // for tests alone
	"emulator/chiptest":    {imports: []string{"applet", "emulator/chip", "emulator/conform", "keystore"}}, // for tests alone
	"emulator/conform":     {imports: []string{"applet/apdu", "applet/client", "applet/tlv", "applet/cvc", "applet/pkcs15", "applet/sm", "keystore/curve", "pinstate", "vsmartcard"}},

	"emulator/conform/trial": {imports: []string{
		"applet", "emulator", "emulator/chip", "emulator/conform", "emulator/control", "emulator/program", "emulator/statedir", "emulator/view", "keystore", "pinstate", "vsmartcard", "vsmartcard/pcscd",
	}},
	"emulator/program": {modules: []string{"golang.org/x/sys/unix"}},

	"emulator/start": {imports: []string{
		"applet", "applet/apdu", "emulator", "emulator/broken", "emulator/chip", "emulator/conform", "emulator/control", "emulator/statedir", "emulator/store", "emulator/view", "pinstate", "vsmartcard",
	}},
	"emulator/capability": {imports: []string{
		"applet", "emulator", "emulator/broken", "emulator/conform", "emulator/view", "keystore", "keystore/curve", "keystore/seal",
	}},

	"docs":                   {imports: []string{"..."}}, // tests alone
	"cmd/hsmemu/commandline": {modules: []string{"github.com/spf13/cobra", "github.com/spf13/pflag"}},
	"cmd/hsmemu":             {imports: []string{"..."}, modules: []string{"github.com/coreos/go-systemd/v22/daemon", "github.com/spf13/cobra", "golang.org/x/sys/unix", "golang.org/x/term"}},
}

// forTests are the modules that tests may import in addition.
var forTests = []string{
	"github.com/stretchr/testify/require", "pgregory.net/rapid", "github.com/rogpeppe/go-internal/testscript", "github.com/rogpeppe/go-internal/diff",
	"github.com/google/go-tpm-tools/simulator", "github.com/chromedp/chromedp", "golang.org/x/tools/txtar",
	"github.com/santhosh-tekuri/jsonschema/v6",
	"github.com/getkin/kin-openapi",
}

// The card does no I/O, has no clock and no randomness of its own, and is a
// value that nobody has to lock.
var bannedInPure = []string{"os", "net", "log", "sync", "crypto/rand", "math/rand"}

// exceptions to bannedInPure, each with its reason.
var exceptions = map[string]string{
	"emulator/scp03: log/slog": "the type of LogValue, by which a secret hides itself",
	"keystore: log/slog":       "the type of LogValue, by which a secret hides itself",
}

// module returns the path of the module, which go.mod alone knows.
var module = sync.OnceValue(func() string {
	out, err := exec.Command("go", "list", "-m").Output()
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(out))
})

// pkg is a package of the module with all its files, whatever their build tags.
type pkg struct {
	path  string // without the module's name
	dir   string
	files map[string]*ast.File
	fset  *token.FileSet
}

func (p pkg) product() []*ast.File {
	var files []*ast.File
	for name, f := range p.files {
		if !strings.HasSuffix(name, "_test.go") {
			files = append(files, f)
		}
	}
	return files
}

func (p pkg) at(n ast.Node) string { return p.fset.Position(n.Pos()).String() }

// packages lists the module's packages with their parsed files.
func packages(t *testing.T) []pkg {
	t.Helper()
	pkgs, err := allPackages()
	require.NoError(t, err)
	require.NotEmpty(t, pkgs)
	return pkgs
}

// allPackages lists and parses them, once for all tests.
var allPackages = sync.OnceValues(func() (pkgs []pkg, err error) {
	top, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return nil, err
	}
	list := exec.Command("go", "list", "-e", "-find", "-json=ImportPath,Dir", "./...")
	list.Dir = strings.TrimSpace(string(top))
	out, err := list.Output()
	if err != nil {
		return nil, err
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var l struct{ ImportPath, Dir string }
		if err := d.Decode(&l); errors.Is(err, io.EOF) {
			return pkgs, nil
		} else if err != nil {
			return nil, err
		}
		p := pkg{path: strings.TrimPrefix(l.ImportPath, module()+"/"), dir: l.Dir, files: map[string]*ast.File{}, fset: token.NewFileSet()}
		names, err := filepath.Glob(filepath.Join(l.Dir, "*.go"))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			f, err := parser.ParseFile(p.fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			p.files[filepath.Base(name)] = f
		}
		pkgs = append(pkgs, p)
	}
})

// under reports whether an import path is one of these folders or in one of them.
func under(path string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return path == f || strings.HasPrefix(path, f+"/") })
}

func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

func TestLayers_ImportsPointInwards(t *testing.T) {
	for _, p := range packages(t) {
		l, known := layers[p.path]
		if !known {
			t.Errorf("%s: a package that the table of layers does not have", p.path)
			continue
		}
		for name, f := range p.files {
			for _, i := range f.Imports {
				path, err := strconv.Unquote(i.Path.Value)
				require.NoError(t, err)
				if why := l.forbids(p.path, path, strings.HasSuffix(name, "_test.go")); why != "" {
					t.Errorf("%s: %s imports %s: %s", p.at(i), p.path, path, why)
				}
			}
		}
	}
}

// The search for skipped tests is itself tested.
func TestLayers_SkippingIsFound(t *testing.T) {
	const code = `package p

func TestA(t *testing.T) {
	t.Skip("no time")
	t.Skip("the vectors are absent")
	t.Run("", func(t *testing.T) { t.SkipNow() })
	rapid.Check(t, func(t *rapid.T) { t.Skip("does not apply") })
	lines.Skip(3)
}
`
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "p_test.go", code, parser.SkipObjectResolution)
	require.NoError(t, err)
	var lines []int
	for _, call := range skipping(f) {
		lines = append(lines, fset.Position(call.Pos()).Line)
	}
	require.Equal(t, []int{4, 6}, lines)
}

// forbids says why a package may not import a path, or nothing.
func (l layer) forbids(from, path string, test bool) string {
	if own, ok := strings.CutPrefix(path, module()+"/"); ok {
		if test || own == from || slices.Contains(l.imports, own) || slices.Contains(l.imports, "...") {
			return ""
		}
		return "this arrow is not in the table of layers"
	}
	if standard(path) {
		if _, excused := exceptions[from+": "+path]; l.pure && !test && under(path, bannedInPure) && !excused {
			return "the pure core may not"
		}
		return ""
	}
	if under(path, l.modules) || test && under(path, forTests) {
		return ""
	}
	return "this module is not for this package"
}

// The rules find what they are there to find.
func TestLayers_RulesCatch(t *testing.T) {
	for _, c := range []struct {
		from, path string
		test       bool
		forbidden  bool
	}{
		{from: "applet", path: module() + "/keystore"},
		{from: "applet", path: module() + "/emulator", forbidden: true},
		{from: "applet", path: "net/http", forbidden: true},
		{from: "applet", path: "net/http", test: true},
		{from: "applet", path: "log/slog", forbidden: true},
		{from: "keystore", path: "log/slog"},
		{from: "keystore", path: "log", forbidden: true},
		{from: "keystore/curve", path: "filippo.io/bigmod"},
		{from: "applet", path: "filippo.io/bigmod", forbidden: true},
		{from: "vsmartcard", path: module() + "/applet", forbidden: true},
		{from: "vsmartcard", path: module() + "/vsmartcard", test: true},
		{from: "cmd/hsmemu", path: module() + "/applet"},
		{from: "cmd/hsmemu", path: "github.com/stretchr/testify/assert", test: true, forbidden: true},
		{from: "cmd/hsmemu", path: "github.com/stretchr/testify/require", test: true},
		{from: "cmd/hsmemu", path: "github.com/stretchr/testify/require", forbidden: true},
	} {
		require.Equal(t, c.forbidden, layers[c.from].forbids(c.from, c.path, c.test) != "", "%+v", c)
	}
}

func TestLayers_EveryPackageHasAComment(t *testing.T) {
	for _, p := range packages(t) {
		files := p.product()
		if len(files) > 0 && !slices.ContainsFunc(files, func(f *ast.File) bool { return f.Doc != nil }) {
			t.Errorf("%s has no package comment", p.path)
		}
	}
}

func TestLayers_NothingHappensBeforeMain(t *testing.T) {
	for _, p := range packages(t) {
		for _, f := range p.files {
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s: init function", p.at(fn))
				}
			}
		}
	}
}

func TestLayers_ThePureCoreIsPure(t *testing.T) {
	for _, p := range packages(t) {
		if !layers[p.path].pure {
			continue
		}
		for _, found := range impurities(p.fset, p.product()) {
			t.Error(found)
		}
	}
}

// The search for impurities is itself tested.
func TestLayers_ImpuritiesAreFound(t *testing.T) {
	const code = `package p

import "time"

var table = []int{1}
var count int

type s struct{ table []int }

func f(x s) {
	go f(x)
	_ = time.Now()
	table[0] = 2
	count++
	table, y := []int{3}, 4
	table[0], x.table[0] = y, y
	_ = time.Second
}
`
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "p.go", code, parser.SkipObjectResolution)
	require.NoError(t, err)
	require.Equal(t, []string{
		"p.go:11:2: goroutine", "p.go:12:6: time.Now", "p.go:13:2: package variable table changes", "p.go:14:2: package variable count changes",
	}, impurities(fset, []*ast.File{f}))
}

// impurities finds goroutines, the clock, and package variables that change.
func impurities(fset *token.FileSet, files []*ast.File) []string {
	// What other packages declare does not matter here, so they are not read.
	info := types.Info{Uses: map[*ast.Ident]types.Object{}}
	conf := types.Config{Error: func(error) {}, Importer: noImports{}}
	own, _ := conf.Check("p", fset, files, &info)
	var found []string
	say := func(n ast.Node, format string, args ...any) {
		found = append(found, fmt.Sprintf("%s: %s", fset.Position(n.Pos()), fmt.Sprintf(format, args...)))
	}
	changes := func(e ast.Expr) {
		id := root(e)
		if v, ok := info.Uses[id].(*types.Var); ok && v.Parent() == own.Scope() {
			say(id, "package variable %s changes", id.Name)
		}
	}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				say(n, "goroutine")
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				if ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick"}, n.Sel.Name) {
					say(n, "time.%s", n.Sel.Name)
				}
			case *ast.AssignStmt:
				for _, e := range n.Lhs {
					changes(e)
				}
			case *ast.IncDecStmt:
				changes(n.X)
			}
			return true
		})
	}
	return found
}

// root is the variable that an assignable expression begins with, nil if it
// begins with something else.
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		default:
			return nil
		}
	}
}

type noImports struct{}

func (noImports) Import(path string) (*types.Package, error) {
	return nil, fmt.Errorf("import %s: not needed", path)
}

// A test that does not run proves nothing. Only the vectors of real cards, which
// not every copy of the project has beside it, may be absent.
func TestLayers_TestsDoNotSkip(t *testing.T) {
	for _, p := range packages(t) {
		for name, f := range p.files {
			if strings.HasSuffix(name, "_test.go") {
				for _, call := range skipping(f) {
					t.Errorf("%s: a test that skips", p.at(call))
				}
			}
		}
		scripts := filepath.Join(p.dir, "testdata", "script")
		err := filepath.WalkDir(scripts, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			for i, line := range strings.Split(string(text), "\n") {
				if strings.HasPrefix(line, "skip") || strings.HasPrefix(line, "[!exec:") || strings.HasPrefix(line, "[exec:") {
					t.Errorf("%s:%d: a script that skips", path, i+1)
				}
			}
			return err
		})
		if !errors.Is(err, fs.ErrNotExist) {
			require.NoError(t, err)
		}
	}
}

// skipping finds the calls that skip a test for another reason than absent
// vectors. In rapid, to skip means that an action does not apply to a state.
func skipping(f *ast.File) []*ast.CallExpr {
	var found []*ast.CallExpr
	drawing := 0 // functions around us that have a *rapid.T
	var visit func(n ast.Node) bool
	within := func(params *ast.FuncType, body *ast.BlockStmt) bool {
		draws := slices.ContainsFunc(params.Params.List, func(p *ast.Field) bool { return types.ExprString(p.Type) == "*rapid.T" })
		if draws {
			drawing++
			defer func() { drawing-- }()
		}
		if body != nil {
			ast.Inspect(body, visit)
		}
		return false
	}
	visit = func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			return within(n.Type, n.Body)
		case *ast.FuncLit:
			return within(n.Type, n.Body)
		case *ast.CallExpr:
			if drawing == 0 && skips(n) {
				found = append(found, n)
			}
		}
		return true
	}
	ast.Inspect(f, visit)
	return found
}

// skips reports whether a call is one that skips, for another reason than absent vectors.
func skips(call *ast.CallExpr) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
		return false
	}
	if receiver, named := sel.X.(*ast.Ident); !named || !slices.Contains([]string{"t", "b", "f", "tb"}, receiver.Name) {
		return false // a method of something else
	}
	if len(call.Args) == 0 {
		return true
	}
	why, ok := call.Args[0].(*ast.BasicLit)
	return !ok || !strings.Contains(why.Value, "vectors")
}
